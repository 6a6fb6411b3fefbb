"""Nodes, names and numbers of the inode table as plain memory; ``inodes`` adds lock, rules and the Python side.

Each node is one allocation that ends in its name and token.  Two chained hash tables of one size find it: by number,
and by (parent, name).  A directory has a second allocation with the list of its children, and stands in a ring of all
directories.  Per inode with a name of 20 bytes and an etag of 32: 208 bytes of node, 16 of buckets.

The tables grow and shrink a bucket at a time (linear hashing): doubling them at once would stop every answer for 0.8 s
at a million nodes.  Buckets up to ``bucket_count`` are in use, by hashes cut to ``bucket_mask``; where that names one
that is not there yet, its entries are still in the bucket it will be split from, without the highest bit.

Numbers.  A node's number is its inode if that number never named anything else, else the next one from 2**63 up.  What
a number named must be known after the node is gone, so a *grave* keeps a fingerprint of it.  Graves are bounded: when
``GRAVES_MAX`` are full they are cleared and every inode up to the highest seen is *retired*: from then on its nodes get
numbers from 2**63 up.

Bounds: the caller's (see ``nodetrim``).  Threads: none of its own; the caller's lock guards a tree.  On failure: a
function that needs memory and gets none changes nothing and says so.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset


cdef extern from "<malloc.h>" nogil:
    size_t malloc_usable_size(void* memory)

cdef extern from *:
    """
    static inline uint64_t jindo_mix(uint64_t a, uint64_t b) {
        unsigned __int128 product = (unsigned __int128)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    """
    uint64_t jindo_mix(uint64_t a, uint64_t b) noexcept nogil

cdef enum:
    DIRECTORY = 1  # base.ident.Kind
    BUCKETS_MIN = 64
    GRAVES_MIN = 64
    GRAVES_MAX = 1 << 18  # 8 MiB at their load of one half
    MALLOC_HEADER_BYTES = 8  # glibc's, before each allocation

cdef uint64_t FIRST_RENUMBERED = <uint64_t> 1 << 63
cdef uint64_t ODD = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio: no pattern in its bits


# ---- hashing.  The seed is random, so that names cannot be chosen to fall into one bucket.

cdef uint64_t _hash(const Tree* tree, uint64_t state, const char* data, size_t size) noexcept nogil:
    cdef uint64_t multiplier = tree.seed | 1
    cdef uint64_t word
    state ^= tree.seed
    while size >= 8:
        memcpy(&word, data, 8)
        state = jindo_mix(state ^ word, multiplier)
        data += 8
        size -= 8
    word = size
    memcpy(&word, data, size)
    return jindo_mix(jindo_mix(state ^ word, multiplier) ^ size, ODD)


cdef uint32_t _name_hash(const Tree* tree, const Node* parent, const char* name, size_t size) noexcept nogil:
    return <uint32_t> _hash(tree, jindo_mix(parent.nodeid, ODD), name, size)


cdef size_t _bucket(const Tree* tree, uint64_t hash) noexcept nogil:
    cdef size_t bucket = hash & tree.bucket_mask
    return bucket if bucket < tree.bucket_count else bucket & (tree.bucket_mask >> 1)


cdef size_t _id_bucket(const Tree* tree, uint64_t nodeid) noexcept nogil:
    return _bucket(tree, jindo_mix(nodeid ^ tree.seed, ODD))


cdef size_t _name_bucket(const Tree* tree, uint32_t name_hash) noexcept nogil:
    return _bucket(tree, name_hash)


# What tells two versions of one inode apart.  A directory has only one: its bytes are its children.
cdef uint64_t _fingerprint(
    const Tree* tree, uint32_t version, uint8_t kind, const char* token, size_t token_size
) noexcept nogil:
    if kind == DIRECTORY:
        return DIRECTORY
    return _hash(tree, <uint64_t> version << 8 | kind, token, token_size)


# ---- memory

cdef void* _allocate(Tree* tree, size_t size) noexcept nogil:
    cdef void* memory = malloc(size)
    if memory != NULL:
        tree.memory_bytes += malloc_usable_size(memory) + MALLOC_HEADER_BYTES
    return memory


cdef void* _allocate_zeros(Tree* tree, size_t count, size_t size) noexcept nogil:
    cdef void* memory = calloc(count, size)
    if memory != NULL:
        tree.memory_bytes += malloc_usable_size(memory) + MALLOC_HEADER_BYTES
    return memory


cdef void _free(Tree* tree, void* memory) noexcept nogil:
    if memory != NULL:
        tree.memory_bytes -= malloc_usable_size(memory) + MALLOC_HEADER_BYTES
        free(memory)


# ---- buckets

# Room for another number of buckets in both tables.  What was never used of it takes no memory and is not counted.
cdef int _reserve(Tree* tree, size_t capacity) noexcept nogil:
    cdef Node** by_id = <Node**> realloc(tree.by_id, capacity * sizeof(Node*))
    cdef Node** by_name
    if by_id != NULL:
        tree.by_id = by_id
    by_name = <Node**> realloc(tree.by_name, capacity * sizeof(Node*))
    if by_name != NULL:
        tree.by_name = by_name
    if by_id == NULL or by_name == NULL:
        return -1
    tree.bucket_capacity = capacity
    return 0


# One bucket more: the new one takes its entries from the one they have been in so far.  Without memory there is none,
# and chains get longer.
cdef void _split_bucket(Tree* tree) noexcept nogil:
    cdef size_t new = tree.bucket_count
    cdef size_t old
    cdef Node* node
    cdef Node** link
    if new == tree.bucket_capacity and _reserve(tree, new * 2) < 0:
        return
    if new > tree.bucket_mask:
        tree.bucket_mask = tree.bucket_mask * 2 + 1
    tree.bucket_count += 1
    tree.memory_bytes += 2 * sizeof(Node*)
    tree.by_id[new] = tree.by_name[new] = NULL
    old = new & (tree.bucket_mask >> 1)
    link = &tree.by_id[old]
    while link[0] != NULL:
        node = link[0]
        if _id_bucket(tree, node.nodeid) == new:
            link[0] = node.next_by_id
            node.next_by_id = tree.by_id[new]
            tree.by_id[new] = node
        else:
            link = &node.next_by_id
    link = &tree.by_name[old]
    while link[0] != NULL:
        node = link[0]
        if _name_bucket(tree, node.name_hash) == new:
            link[0] = node.next_by_name
            node.next_by_name = tree.by_name[new]
            tree.by_name[new] = node
        else:
            link = &node.next_by_name


# One bucket less: the last one's entries go back to where they were split from.
cdef void _merge_bucket(Tree* tree) noexcept nogil:
    cdef size_t last = tree.bucket_count - 1
    cdef size_t into = last & (tree.bucket_mask >> 1)
    cdef Node** link = &tree.by_id[into]
    while link[0] != NULL:
        link = &link[0].next_by_id
    link[0] = tree.by_id[last]
    link = &tree.by_name[into]
    while link[0] != NULL:
        link = &link[0].next_by_name
    link[0] = tree.by_name[last]
    tree.bucket_count = last
    tree.memory_bytes -= 2 * sizeof(Node*)
    if last == (tree.bucket_mask >> 1) + 1:
        tree.bucket_mask >>= 1
    if tree.bucket_count * 4 <= tree.bucket_capacity:
        _reserve(tree, tree.bucket_capacity // 2)


cdef int tree_open(Tree* tree, uint64_t seed) noexcept nogil:
    tree.seed = seed
    tree.next_number = FIRST_RENUMBERED
    if _reserve(tree, BUCKETS_MIN) < 0:
        return -1
    memset(tree.by_id, 0, BUCKETS_MIN * sizeof(Node*))
    memset(tree.by_name, 0, BUCKETS_MIN * sizeof(Node*))
    tree.bucket_count = BUCKETS_MIN
    tree.bucket_mask = BUCKETS_MIN - 1
    tree.memory_bytes = BUCKETS_MIN * 2 * sizeof(Node*)
    return 0


cdef void tree_close(Tree* tree) noexcept nogil:
    cdef size_t i
    cdef Node* node
    cdef Node* next_node
    for i in range(tree.bucket_count):
        node = tree.by_id[i]
        while node != NULL:
            next_node = node.next_by_id
            _free(tree, node.dir)
            _free(tree, node)
            node = next_node
    free(tree.by_id)
    free(tree.by_name)
    _free(tree, tree.graves)
    memset(tree, 0, sizeof(Tree))


# ---- graves

cdef Grave* _grave(const Tree* tree, uint64_t inode) noexcept nogil:
    """The slot of this inode, or the free one where it would go."""
    cdef size_t i = jindo_mix(inode ^ tree.seed, ODD) & (tree.grave_slots - 1)
    while tree.graves[i].inode != 0 and tree.graves[i].inode != inode:
        i = (i + 1) & (tree.grave_slots - 1)
    return &tree.graves[i]


cdef void tree_retire(Tree* tree) noexcept nogil:
    tree.retired_inode = tree.highest_inode
    _free(tree, tree.graves)
    tree.graves = NULL
    tree.grave_slots = tree.grave_count = 0


cdef int _grow_graves(Tree* tree) noexcept nogil:
    cdef Grave* old = tree.graves
    cdef size_t old_slots = tree.grave_slots
    cdef size_t i
    cdef size_t slots = max(<size_t> GRAVES_MIN, old_slots * 2)
    cdef Grave* graves = <Grave*> _allocate_zeros(tree, slots, sizeof(Grave))
    if graves == NULL:
        return -1
    tree.graves = graves
    tree.grave_slots = slots
    for i in range(old_slots):
        if old[i].inode != 0:
            _grave(tree, old[i].inode)[0] = old[i]
    _free(tree, old)
    return 0


cdef void _bury(Tree* tree, const Node* node) noexcept nogil:
    cdef Grave* grave
    if node.nodeid != node.inode or node.inode <= tree.retired_inode:
        return
    if tree.grave_count * 2 >= tree.grave_slots:
        if tree.grave_count >= GRAVES_MAX or _grow_graves(tree) < 0:
            tree_retire(tree)
            return
    grave = _grave(tree, node.inode)
    if grave.inode == 0:
        tree.grave_count += 1
    grave.inode = node.inode
    grave.fingerprint = _fingerprint(tree, node.version, node.kind, node.text + node.name_size, node.token_size)


cdef uint64_t _number_for(Tree* tree, uint64_t inode, uint64_t fingerprint) noexcept nogil:
    cdef Grave* grave
    if inode > tree.retired_inode and tree_find(tree, inode) == NULL:
        grave = _grave(tree, inode) if tree.graves != NULL else NULL
        if grave == NULL or grave.inode == 0 or grave.fingerprint == fingerprint:
            tree.highest_inode = max(tree.highest_inode, inode)
            return inode
    tree.next_number += 1
    return tree.next_number - 1


# ---- nodes

cdef Node* tree_find(const Tree* tree, uint64_t nodeid) noexcept nogil:
    cdef Node* node = tree.by_id[_id_bucket(tree, nodeid)]
    while node != NULL and node.nodeid != nodeid:
        node = node.next_by_id
    return node


cdef Node* tree_child(const Tree* tree, const Node* parent, const char* name, size_t name_size) noexcept nogil:
    cdef uint32_t name_hash = _name_hash(tree, parent, name, name_size)
    cdef Node* node = tree.by_name[_name_bucket(tree, name_hash)]
    while node != NULL:
        if (
            node.name_hash == name_hash
            and node.parent == parent
            and node.name_size == name_size
            and memcmp(node.text, name, name_size) == 0
        ):
            return node
        node = node.next_by_name
    return NULL


cdef size_t tree_directories_of(const Tree* tree, uint64_t inode, uint64_t* numbers) noexcept nogil:
    cdef const Node* node = tree_find(tree, inode)
    cdef size_t count = 0
    if node != NULL and node.dir != NULL and node.inode == inode:
        numbers[0] = inode
        count = 1
    node = tree.renumbered_dirs
    while node != NULL:
        if node.inode == inode:
            numbers[count] = node.nodeid
            count += 1
        node = node.dir.next_renumbered
    return count


cdef size_t tree_known_by_token(
    const Tree* tree, const char* token, size_t token_size, uint64_t* numbers
) noexcept nogil:
    cdef const Node* node
    cdef size_t bucket, count = 0
    for bucket in range(tree.bucket_count):
        node = tree.by_id[bucket]
        while node != NULL:
            if node.lookups != 0 and node.dir == NULL and node.token_size == token_size:
                if memcmp(node.text + node.name_size, token, token_size) == 0:
                    numbers[count] = node.nodeid
                    count += 1
            node = node.next_by_id
    return count


cdef bint node_is(
    const Node* node, uint64_t inode, uint32_t version, uint8_t kind, const char* token, size_t token_size
) noexcept nogil:
    if node.inode != inode or node.kind != kind:
        return False
    if kind == DIRECTORY:
        return True
    return (
        node.version == version
        and node.token_size == token_size
        and memcmp(node.text + node.name_size, token, token_size) == 0
    )


cdef Node* tree_make(
    Tree* tree, uint64_t inode, uint32_t version, uint8_t kind,
    const char* name, size_t name_size, const char* token, size_t token_size,
) noexcept nogil:
    cdef size_t bucket
    cdef Node* node
    if kind == DIRECTORY:
        token_size = 0
    if tree.count >= tree.bucket_count:
        _split_bucket(tree)
    node = <Node*> _allocate(tree, sizeof(Node) + name_size + token_size)
    if node == NULL:
        return NULL
    memset(node, 0, sizeof(Node))
    if kind == DIRECTORY:
        node.dir = <Dir*> _allocate_zeros(tree, 1, sizeof(Dir))
        if node.dir == NULL:
            _free(tree, node)
            return NULL
    node.inode = inode
    node.version = version
    node.kind = kind
    node.name_size = <uint8_t> name_size
    node.token_size = <uint16_t> token_size
    memcpy(node.text, name, name_size)
    memcpy(node.text + name_size, token, token_size)
    node.nodeid = _number_for(tree, inode, _fingerprint(tree, version, kind, token, token_size))
    bucket = _id_bucket(tree, node.nodeid)
    node.next_by_id = tree.by_id[bucket]
    tree.by_id[bucket] = node
    tree.count += 1
    if node.dir != NULL:
        _enter_ring(tree, node)
    if node.dir != NULL and node.nodeid != inode:
        node.dir.next_renumbered = tree.renumbered_dirs
        if tree.renumbered_dirs != NULL:
            tree.renumbered_dirs.dir.previous_renumbered = node
        tree.renumbered_dirs = node
        tree.renumbered_dir_count += 1
    return node


# The ring of all directories: a new one is the last that the hand comes to.
cdef void _enter_ring(Tree* tree, Node* node) noexcept nogil:
    cdef Node* after = tree.hand if tree.hand != NULL else node
    cdef Node* before = after.dir.previous_dir if tree.hand != NULL else node
    tree.hand = after
    node.dir.next_dir = after
    node.dir.previous_dir = before
    before.dir.next_dir = node
    after.dir.previous_dir = node
    tree.dir_count += 1


cdef void _leave_ring(Tree* tree, Node* node) noexcept nogil:
    if tree.hand == node:
        tree.hand = node.dir.next_dir if node.dir.next_dir != node else NULL
    node.dir.previous_dir.dir.next_dir = node.dir.next_dir
    node.dir.next_dir.dir.previous_dir = node.dir.previous_dir
    tree.dir_count -= 1


cdef void _destroy(Tree* tree, Node* node) noexcept nogil:
    cdef Node** link = &tree.by_id[_id_bucket(tree, node.nodeid)]
    while link[0] != node:
        link = &link[0].next_by_id
    link[0] = node.next_by_id
    tree.count -= 1
    _bury(tree, node)
    if node.dir != NULL:
        _leave_ring(tree, node)
    if node.dir != NULL and node.nodeid != node.inode:
        if node.dir.next_renumbered != NULL:
            node.dir.next_renumbered.dir.previous_renumbered = node.dir.previous_renumbered
        if node.dir.previous_renumbered != NULL:
            node.dir.previous_renumbered.dir.next_renumbered = node.dir.next_renumbered
        else:
            tree.renumbered_dirs = node.dir.next_renumbered
        tree.renumbered_dir_count -= 1
    _free(tree, node.dir)
    _free(tree, node)
    while tree.count * 4 < tree.bucket_count and tree.bucket_count > BUCKETS_MIN:
        _merge_bucket(tree)


# ---- the tree

cdef void tree_link(Tree* tree, Node* parent, Node* node, Node* instead) noexcept nogil:
    cdef Dir* dir = parent.dir
    cdef size_t bucket
    cdef Node* before = instead if instead != NULL else dir.last
    node.parent = parent
    node.name_hash = _name_hash(tree, parent, node.text, node.name_size)
    bucket = _name_bucket(tree, node.name_hash)
    node.next_by_name = tree.by_name[bucket]
    tree.by_name[bucket] = node
    node.previous = before
    if before == NULL:
        node.next = NULL
        dir.first = node
    else:
        node.next = before.next
        before.next = node
    if node.next != NULL:
        node.next.previous = node
    else:
        dir.last = node
    dir.child_count += 1
    if instead != NULL:
        tree_unlink(tree, instead)


cdef void _detach(Tree* tree, Node* node) noexcept nogil:
    cdef Dir* dir = node.parent.dir
    cdef Node** link = &tree.by_name[_name_bucket(tree, node.name_hash)]
    while link[0] != node:
        link = &link[0].next_by_name
    link[0] = node.next_by_name
    if node.previous != NULL:
        node.previous.next = node.next
    else:
        dir.first = node.next
    if node.next != NULL:
        node.next.previous = node.previous
    else:
        dir.last = node.previous
    dir.child_count -= 1
    node.parent = node.previous = node.next = NULL


cdef void tree_unlink(Tree* tree, Node* node) noexcept nogil:
    _detach(tree, node)
    tree_settle(tree, node)


cdef void tree_settle(Tree* tree, Node* node) noexcept nogil:
    cdef Node* todo = node  # a list by `next`, which unlinked nodes do not use: no recursion on deep trees
    cdef Node* child
    while todo != NULL:
        node = todo
        todo = node.next
        node.next = NULL
        if node.dir != NULL:
            while node.dir.first != NULL:
                child = node.dir.first
                _detach(tree, child)
                child.next = todo
                todo = child
            node.dir.generation = 0
            node.dir.expires_ns = 0
            node.dir.complete = False
        if node.lookups == 0 and node.holds == 0:
            _destroy(tree, node)
