# C view of ext/nodetree.pyx: nodes, their names and numbers, as plain memory.  No locks and no Python objects: whoever
# owns a Tree guards it, and every function runs without the GIL.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef enum:
    NAME_BYTES_MAX = 255
    TOKEN_BYTES_MAX = 1024

cdef struct Dir:
    Node* first  # children in the order their names were first put
    Node* last
    Node* next_renumbered  # list of the directories whose number is not their inode
    Node* previous_renumbered
    Node* next_dir  # ring of all directories
    Node* previous_dir
    size_t child_count
    uint64_t generation
    int64_t expires_ns  # of the knowledge that there are no other children
    uint32_t stamp  # what begin_dir counts and children put since then carry
    bint complete
    bint used  # since nodetrim's hand last passed

cdef struct Node:
    Node* next_by_id  # chains of the two hash tables
    Node* next_by_name
    Node* parent  # the root's is itself; NULL: unlinked, alive only because somebody holds it
    Node* previous  # siblings
    Node* next
    Dir* dir  # NULL: not a directory
    uint64_t nodeid
    uint64_t inode
    uint64_t size
    int64_t mtime_ns
    int64_t expires_ns
    uint64_t lookups  # given to the kernel and not yet given back; 32 bits would last half a day at 100,000/s
    uint32_t holds
    uint32_t version
    uint32_t uid
    uint32_t gid
    uint32_t nlink
    uint32_t mount
    uint32_t name_hash
    uint32_t stamp
    uint16_t perm
    uint16_t token_size
    uint8_t kind  # base.ident.Kind
    uint8_t name_size
    uint8_t asked_back  # the kernel was asked to forget it, and has not looked it up since
    char text[1]  # the name, then the token: as many bytes as they need

# The version that a number named, kept after its node is gone.
cdef struct Grave:
    uint64_t inode  # 0: free slot
    uint64_t fingerprint

cdef struct Tree:
    Node* root
    Node** by_id
    Node** by_name
    size_t bucket_count  # of each table; what is between it and bucket_capacity was never written
    size_t bucket_mask  # the least power of 2 not below bucket_count, less 1
    size_t bucket_capacity
    size_t count
    size_t memory_bytes
    uint64_t seed
    uint64_t next_number
    Node* renumbered_dirs
    size_t renumbered_dir_count
    Node* hand  # where nodetrim goes on in the ring
    size_t dir_count
    Grave* graves
    size_t grave_slots  # a power of 2
    size_t grave_count
    uint64_t retired_inode  # inodes up to this one may no longer be their nodes' number
    uint64_t highest_inode  # of those that are or were

# A Tree of zero bytes becomes an empty tree without a root; -1 when memory is short.
cdef int tree_open(Tree* tree, uint64_t seed) noexcept nogil
cdef void tree_close(Tree* tree) noexcept nogil

cdef Node* tree_find(const Tree* tree, uint64_t nodeid) noexcept nogil
cdef Node* tree_child(const Tree* tree, const Node* parent, const char* name, size_t name_size) noexcept nogil
# Numbers of an inode's directories, at most renumbered_dir_count + 1; how many they are.
cdef size_t tree_directories_of(const Tree* tree, uint64_t inode, uint64_t* numbers) noexcept nogil
# Of the files with this token that the kernel has looked up, at most `count`; walks over every node.
cdef size_t tree_known_by_token(
    const Tree* tree, const char* token, size_t token_size, uint64_t* numbers
) noexcept nogil
cdef bint node_is(
    const Node* node, uint64_t inode, uint32_t version, uint8_t kind, const char* token, size_t token_size
) noexcept nogil

# A new node under its number, unlinked, without attributes; NULL when memory is short.
cdef Node* tree_make(
    Tree* tree, uint64_t inode, uint32_t version, uint8_t kind,
    const char* name, size_t name_size, const char* token, size_t token_size,
) noexcept nogil
# Make an unlinked node a child, in the place of `instead` (which is unlinked) or as the last one.
cdef void tree_link(Tree* tree, Node* parent, Node* node, Node* instead) noexcept nogil
# Take a node out of its directory, with all below it; what nobody holds is freed.
cdef void tree_unlink(Tree* tree, Node* node) noexcept nogil
# Free a node that is unlinked and no longer held.
cdef void tree_settle(Tree* tree, Node* node) noexcept nogil
# Forget what numbers named: every inode seen so far gets a new number from now on.
cdef void tree_retire(Tree* tree) noexcept nogil
