# C view of ext/inodes.pyx, for transports that answer without Python.  The nogil methods take the table's lock
# themselves and hold it for less than a microsecond.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from jindopy._ext.nodetree cimport Node, Tree
from jindopy._ext.pthreads cimport pthread_mutex_t


cdef enum Found:
    FOUND = 1
    NOT_KNOWN = 0  # MISS
    KNOWN_ABSENT = -1  # NEGATIVE

# NodeAttr as C
cdef struct NodeInfo:
    uint64_t nodeid
    uint64_t inode
    uint64_t parent
    uint64_t size
    int64_t mtime_ns
    int64_t expires_ns
    uint32_t version
    uint32_t uid
    uint32_t gid
    uint32_t nlink
    uint16_t perm
    uint8_t kind


cdef class NodeAttr:
    cdef readonly uint64_t nodeid
    cdef readonly uint64_t inode
    cdef readonly uint64_t parent
    cdef readonly uint64_t size
    cdef readonly int64_t mtime_ns
    cdef readonly int64_t expires_ns
    cdef readonly uint32_t version
    cdef readonly uint32_t uid
    cdef readonly uint32_t gid
    cdef readonly uint32_t nlink
    cdef readonly uint16_t perm
    cdef readonly uint8_t kind


cdef class InodeTable:
    cdef pthread_mutex_t _mutex
    cdef Tree _tree

    # Answer to lookup; `found` is filled when FOUND.  With `count` that also raises the lookup count.
    cdef Found find_child(
        self, uint64_t parent, const char* name, size_t name_size, int64_t now_ns, bint count, NodeInfo* found
    ) noexcept nogil
    # What is known of a node; False: no such node.
    cdef bint find_node(self, uint64_t nodeid, bint count, NodeInfo* found) noexcept nogil
    # Take lookups back; True when the kernel holds none any more.
    cdef bint give_back(self, uint64_t nodeid, uint64_t count) noexcept nogil

    cdef Found _find_child(
        self, uint64_t parent, const char* name, size_t name_size, int64_t now_ns, bint count, NodeInfo* found
    ) noexcept nogil
    cdef bint _give_back(self, uint64_t nodeid, uint64_t count) noexcept nogil
    cdef void _enter(self) noexcept
    cdef void _leave(self) noexcept nogil
    cdef Node* _directory(self, uint64_t nodeid) except NULL
    cdef Node* _node(self, uint64_t nodeid) except NULL
