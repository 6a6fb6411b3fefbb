# cython: auto_pickle=False
"""The inode table: which node a name leads to, for how long, and when a node may go.

``nodetree`` holds the memory; this module is the rules and the Python side.  A put that finds the same version as the
name's child refreshes it, any other makes a new node in its place.  A node lives while it is its directory's child,
while the kernel has lookups of it, or while ``hold`` keeps it; a directory that loses its name loses its children at
once.  A listing is mark and sweep: ``begin_dir`` counts a stamp up, ``put`` gives children the stamp, ``set_dir`` with
``complete`` removes those of an older one; a listing that never gets there has only refreshed what it saw.

Bounds: at most 250 bytes an inode with names up to 40 bytes; ``trim`` (see ``nodetrim``) gives memory back.

Threads: one mutex.  It is held without touching Python objects, since making one can run the collector and with it
foreign code: answers are copied out first.  A call takes it while holding the GIL if it is free, else it lets the GIL
go to wait.  What is long (sweeps, trims, copies of whole directories) runs without the GIL.  Nobody who has the lock
ever waits for the GIL.
"""

import os

cimport cython
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from jindopy._ext.nodetree cimport (
    NAME_BYTES_MAX,
    TOKEN_BYTES_MAX,
    Node,
    node_is,
    tree_child,
    tree_close,
    tree_directories_of,
    tree_find,
    tree_known_by_token,
    tree_link,
    tree_make,
    tree_open,
    tree_settle,
    tree_unlink,
)
from jindopy._ext.nodetrim cimport tree_trim
from jindopy._ext.pthreads cimport pthread_mutex_destroy, pthread_mutex_init
from jindopy._ext.pthreads cimport pthread_mutex_lock, pthread_mutex_trylock, pthread_mutex_unlock

from jindopy.base import ident

MISS = NOT_KNOWN
NEGATIVE = KNOWN_ABSENT

cdef uint8_t DIRECTORY = ident.Kind.DIRECTORY
cdef uint8_t LAST_KIND = max(ident.Kind)
cdef uint64_t ROOT = ident.ROOT_INODE


@cython.final
@cython.freelist(64)
cdef class NodeAttr:

    def __init__(self):
        raise TypeError("attributes come from an InodeTable")

    def __repr__(self):
        return f"NodeAttr(nodeid={self.nodeid}, inode={self.inode}, version={self.version}, size={self.size})"


cdef NodeAttr _attr_of(const NodeInfo* info):
    cdef NodeAttr attr = NodeAttr.__new__(NodeAttr)
    attr.nodeid = info.nodeid
    attr.inode = info.inode
    attr.parent = info.parent
    attr.size = info.size
    attr.mtime_ns = info.mtime_ns
    attr.expires_ns = info.expires_ns
    attr.version = info.version
    attr.uid = info.uid
    attr.gid = info.gid
    attr.nlink = info.nlink
    attr.perm = info.perm
    attr.kind = info.kind
    return attr


cdef void _copy_out(const Node* node, NodeInfo* info) noexcept nogil:
    info.nodeid = node.nodeid
    info.inode = node.inode
    info.parent = node.parent.nodeid if node.parent != NULL else 0
    info.size = node.size
    info.mtime_ns = node.mtime_ns
    info.expires_ns = node.expires_ns
    info.version = node.version
    info.uid = node.uid
    info.gid = node.gid
    info.nlink = node.nlink
    info.perm = node.perm
    info.kind = node.kind


# A list of numbers, which are freed.
cdef list _take_numbers(uint64_t* numbers, size_t count):
    cdef size_t i
    try:
        return [numbers[i] for i in range(count)]
    finally:
        free(numbers)


@cython.final
cdef class InodeTable:

    def __cinit__(self, uint32_t root_uid, uint32_t root_gid, uint16_t root_perm, int64_t root_mtime_ns):
        cdef Node* root
        pthread_mutex_init(&self._mutex, NULL)
        if tree_open(&self._tree, int.from_bytes(os.urandom(8), "little")) < 0:
            raise MemoryError
        root = tree_make(&self._tree, ROOT, 1, DIRECTORY, "", 0, "", 0)
        if root == NULL:
            raise MemoryError
        root.parent = root
        root.holds = 1
        root.uid = root_uid
        root.gid = root_gid
        root.perm = root_perm
        root.mtime_ns = root_mtime_ns
        root.nlink = 1
        root.expires_ns = INT64_MAX
        self._tree.root = root

    def __init__(self, root_uid, root_gid, root_perm, root_mtime_ns):
        pass

    def __dealloc__(self):
        tree_close(&self._tree)
        pthread_mutex_destroy(&self._mutex)

    cdef void _enter(self) noexcept:
        # Never keep the lock while waiting for the GIL: a native caller may wait for the lock and have the GIL.
        while pthread_mutex_trylock(&self._mutex) != 0:
            with nogil:
                pthread_mutex_lock(&self._mutex)
                pthread_mutex_unlock(&self._mutex)

    cdef void _leave(self) noexcept nogil:
        pthread_mutex_unlock(&self._mutex)

    # Both return with the lock held, or raise KeyError without it.
    cdef Node* _node(self, uint64_t nodeid) except NULL:
        cdef Node* node
        self._enter()
        node = tree_find(&self._tree, nodeid)
        if node == NULL:
            self._leave()
            raise KeyError(f"no node {nodeid}")
        return node

    cdef Node* _directory(self, uint64_t nodeid) except NULL:
        cdef Node* node = self._node(nodeid)
        if node.dir == NULL:
            self._leave()
            raise KeyError(f"node {nodeid} is no directory")
        return node

    # ---- the hot answers, with the lock held

    cdef Found _find_child(
        self, uint64_t parent, const char* name, size_t name_size, int64_t now_ns, bint count, NodeInfo* found
    ) noexcept nogil:
        cdef Node* directory = tree_find(&self._tree, parent)
        cdef Node* node
        if directory == NULL or directory.dir == NULL:
            return NOT_KNOWN
        directory.dir.used = True
        node = tree_child(&self._tree, directory, name, name_size)
        if node == NULL:
            return KNOWN_ABSENT if directory.dir.complete and directory.dir.expires_ns > now_ns else NOT_KNOWN
        if node.expires_ns <= now_ns:
            return NOT_KNOWN
        node.lookups += count
        node.asked_back = False
        _copy_out(node, found)
        return FOUND

    cdef bint _give_back(self, uint64_t nodeid, uint64_t count) noexcept nogil:
        cdef Node* node = tree_find(&self._tree, nodeid)
        if node == NULL:
            return True
        node.lookups -= min(count, node.lookups)
        if node.lookups:
            return False
        if node.parent == NULL and node.holds == 0:
            tree_settle(&self._tree, node)
        return True

    # ---- the same for native callers

    cdef Found find_child(
        self, uint64_t parent, const char* name, size_t name_size, int64_t now_ns, bint count, NodeInfo* found
    ) noexcept nogil:
        cdef Found answer
        pthread_mutex_lock(&self._mutex)
        answer = self._find_child(parent, name, name_size, now_ns, count, found)
        self._leave()
        return answer

    cdef bint find_node(self, uint64_t nodeid, bint count, NodeInfo* found) noexcept nogil:
        cdef Node* node
        pthread_mutex_lock(&self._mutex)
        node = tree_find(&self._tree, nodeid)
        if node != NULL:
            node.lookups += count
            node.asked_back = node.asked_back and not count
            _copy_out(node, found)
        self._leave()
        return node != NULL

    cdef bint give_back(self, uint64_t nodeid, uint64_t count) noexcept nogil:
        cdef bint forgotten
        pthread_mutex_lock(&self._mutex)
        forgotten = self._give_back(nodeid, count)
        self._leave()
        return forgotten

    # ---- names

    def put(
        self, uint64_t parent, bytes name not None, uint64_t inode, uint32_t version, uint8_t kind, uint16_t perm,
        uint32_t uid, uint32_t gid, uint32_t nlink, uint64_t size, int64_t mtime_ns, uint32_t mount,
        bytes token not None, int64_t expires_ns,
    ):
        cdef Node* directory
        cdef Node* known
        cdef Node* node
        cdef uint64_t nodeid = 0
        if not 1 <= len(name) <= NAME_BYTES_MAX:
            raise ValueError(f"a name has 1 to {NAME_BYTES_MAX} bytes, not {len(name)}")
        if len(token) > TOKEN_BYTES_MAX:
            raise ValueError(f"a token has at most {TOKEN_BYTES_MAX} bytes, not {len(token)}")
        if kind > LAST_KIND:
            raise ValueError(f"no kind {kind}")
        if not 1 <= inode <= <uint64_t> INT64_MAX:
            raise ValueError(f"inodes are 1 to {INT64_MAX}, not {inode}")
        directory = self._directory(parent)
        known = tree_child(&self._tree, directory, name, len(name))
        if known != NULL and node_is(known, inode, version, kind, token, len(token)):
            node = known
        else:
            node = tree_make(&self._tree, inode, version, kind, name, len(name), token, len(token))
            if node != NULL:
                tree_link(&self._tree, directory, node, known)
        if node != NULL:
            node.version = version
            node.perm = perm
            node.uid = uid
            node.gid = gid
            node.nlink = nlink
            node.size = size
            node.mtime_ns = mtime_ns
            node.mount = mount
            node.expires_ns = expires_ns
            node.stamp = directory.dir.stamp
            directory.dir.used = True
            nodeid = node.nodeid
        self._leave()
        if nodeid == 0:
            raise MemoryError
        return nodeid

    def remove(self, uint64_t parent, bytes name not None):
        cdef Node* directory
        cdef Node* node = NULL
        cdef uint64_t nodeid = 0
        self._enter()
        directory = tree_find(&self._tree, parent)
        if directory != NULL and directory.dir != NULL:
            node = tree_child(&self._tree, directory, name, len(name))
        if node != NULL:
            nodeid = node.nodeid
            tree_unlink(&self._tree, node)
        self._leave()
        return nodeid

    def lookup(self, uint64_t parent, bytes name not None, int64_t now_ns, bint count):
        cdef NodeInfo info
        cdef Found answer
        self._enter()
        answer = self._find_child(parent, name, len(name), now_ns, count, &info)
        self._leave()
        if answer == FOUND:
            return _attr_of(&info)
        return NEGATIVE if answer == KNOWN_ABSENT else MISS

    # ---- nodes

    def attr(self, uint64_t nodeid, bint count=False):
        cdef NodeInfo info
        cdef Node* node = self._node(nodeid)
        node.lookups += count
        node.asked_back = node.asked_back and not count
        _copy_out(node, &info)
        self._leave()
        return _attr_of(&info)

    def name(self, uint64_t nodeid):
        cdef char text[NAME_BYTES_MAX]
        cdef Node* node = self._node(nodeid)
        cdef Py_ssize_t size = node.name_size
        memcpy(text, node.text, size)
        self._leave()
        return text[:size]

    def source(self, uint64_t nodeid):
        cdef char text[TOKEN_BYTES_MAX]
        cdef Node* node = self._node(nodeid)
        cdef uint32_t mount = node.mount
        cdef Py_ssize_t size = node.token_size
        memcpy(text, node.text + node.name_size, size)
        self._leave()
        return mount, text[:size]

    def path(self, uint64_t nodeid):
        cdef Node* node = self._node(nodeid)
        cdef Node* at = node
        cdef size_t size = 0
        cdef char* text = NULL
        cdef char* end
        cdef bint linked
        # The names backwards from the node, each as its length and its bytes.
        while at != NULL and at.parent != at:
            size += 1 + at.name_size
            at = at.parent
        linked = at != NULL
        if linked:
            text = <char*> malloc(size + 1)
        if text != NULL:
            end = text
            while node.parent != node:
                end[0] = <char> node.name_size
                memcpy(end + 1, node.text, node.name_size)
                end += 1 + node.name_size
                node = node.parent
        self._leave()
        if not linked:
            raise KeyError(f"node {nodeid} has no name any more")
        if text == NULL:
            raise MemoryError
        names = []
        try:
            end = text
            while end < text + size:
                names.append(end[1:1 + <uint8_t> end[0]])
                end += 1 + <uint8_t> end[0]
        finally:
            free(text)
        names.reverse()
        return names

    def hold(self, uint64_t nodeid):
        cdef Node* node = self._node(nodeid)
        node.holds += 1
        self._leave()

    def unhold(self, uint64_t nodeid):
        cdef Node* node = self._node(nodeid)
        # The root's own hold is nobody's to give back.
        cdef bint held = node.holds > (1 if node.parent == node else 0)
        if held:
            node.holds -= 1
            if node.parent == NULL and node.holds == 0 and node.lookups == 0:
                tree_settle(&self._tree, node)
        self._leave()
        if not held:
            raise ValueError(f"node {nodeid} is not held")

    def forget(self, uint64_t nodeid, uint64_t count):
        cdef bint forgotten
        self._enter()
        forgotten = self._give_back(nodeid, count)
        self._leave()
        return forgotten

    # ---- directories

    def touch_root(self, int64_t mtime_ns, int64_t expires_ns):
        self._enter()
        self._tree.root.mtime_ns = mtime_ns
        self._tree.root.expires_ns = expires_ns
        self._leave()

    def begin_dir(self, uint64_t nodeid):
        cdef Node* node = self._directory(nodeid)
        node.dir.stamp += 1
        self._leave()

    def set_dir(self, uint64_t nodeid, uint64_t generation, int64_t expires_ns, bint complete):
        cdef Node* directory = self._directory(nodeid)
        cdef Node* child
        cdef Node* next_child
        cdef uint64_t* removed = NULL
        cdef size_t count = 0
        cdef bint ready = True
        with nogil:
            if complete and directory.dir.child_count:
                removed = <uint64_t*> malloc(directory.dir.child_count * sizeof(uint64_t))
                ready = removed != NULL
            if ready:
                child = directory.dir.first if complete else NULL
                while child != NULL:
                    next_child = child.next
                    if child.stamp != directory.dir.stamp:
                        removed[count] = child.nodeid
                        count += 1
                        tree_unlink(&self._tree, child)
                    child = next_child
                directory.dir.generation = generation
                directory.dir.expires_ns = expires_ns
                directory.dir.complete = complete
            self._leave()
        if not ready:
            raise MemoryError
        return _take_numbers(removed, count)

    def dir_state(self, uint64_t nodeid):
        cdef Node* node = self._directory(nodeid)
        cdef uint64_t generation = node.dir.generation
        cdef int64_t expires_ns = node.dir.expires_ns
        cdef bint complete = node.dir.complete
        self._leave()
        return generation, expires_ns, complete

    def expire_dir(self, uint64_t nodeid):
        cdef Node* node = self._directory(nodeid)
        cdef Node* child
        with nogil:
            node.dir.expires_ns = 0
            child = node.dir.first
            while child != NULL:
                child.expires_ns = 0
                child = child.next
            self._leave()

    def children(self, uint64_t nodeid):
        cdef Node* node = self._directory(nodeid)
        cdef Node* child
        cdef size_t count = 0
        cdef uint64_t* numbers = NULL
        with nogil:
            numbers = <uint64_t*> malloc((node.dir.child_count + 1) * sizeof(uint64_t))
            if numbers != NULL:
                child = node.dir.first
                while child != NULL:
                    numbers[count] = child.nodeid
                    count += 1
                    child = child.next
            self._leave()
        if numbers == NULL:
            raise MemoryError
        return _take_numbers(numbers, count)

    def directories_of(self, uint64_t inode):
        cdef size_t count
        cdef uint64_t* numbers
        self._enter()
        numbers = <uint64_t*> malloc((self._tree.renumbered_dir_count + 1) * sizeof(uint64_t))
        count = tree_directories_of(&self._tree, inode, numbers) if numbers != NULL else 0
        self._leave()
        if numbers == NULL:
            raise MemoryError
        return _take_numbers(numbers, count)

    def known_by_token(self, bytes token not None):
        cdef const char* text = token
        cdef size_t count, size = len(token)
        cdef uint64_t* numbers
        with nogil:
            pthread_mutex_lock(&self._mutex)
            numbers = <uint64_t*> malloc(self._tree.count * sizeof(uint64_t))
            count = tree_known_by_token(&self._tree, text, size, numbers) if numbers != NULL else 0
            self._leave()
        if numbers == NULL:
            raise MemoryError
        return _take_numbers(numbers, count)

    def trim(self, size_t target_bytes, size_t ask_max=0):
        cdef size_t count = 0
        cdef uint64_t* asked = <uint64_t*> malloc((ask_max + 1) * sizeof(uint64_t))
        if asked == NULL:
            raise MemoryError
        with nogil:
            pthread_mutex_lock(&self._mutex)
            count = tree_trim(&self._tree, target_bytes, asked, ask_max)
            self._leave()
        return _take_numbers(asked, count)

    @property
    def count(self):
        return self._tree.count

    @property
    def memory_bytes(self):
        return self._tree.memory_bytes
