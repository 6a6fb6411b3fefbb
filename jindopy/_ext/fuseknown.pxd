# C view of ext/fuseknown.pyx: from a node to what is cached of it, without Python.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from jindopy._ext.blocktable cimport Entry
from jindopy._ext.blockstore cimport BlockStore
from jindopy._ext.inodes cimport InodeTable


# One mount of the tree, as MountInfo tells.
cdef struct Mounted:
    uint32_t id
    uint64_t owner          # tag under which the block store sums what belongs to the UFS
    size_t path_size        # of its place in the tree, with the slash that follows; 0: the root
    size_t prefix_size
    size_t ufs_id_size
    char* text              # prefix, then ufs_id


cdef class KnownFiles:
    cdef InodeTable table
    cdef BlockStore blocks
    cdef Mounted* mounts
    cdef size_t mount_count

    # A lease on the entry of a node's version, made if there is none.  NULL: Python has to look; with `absent_only`
    # also when every byte of it is cached.
    cdef Entry* lease(self, uint64_t nodeid, bint absent_only) noexcept nogil
    cdef void give_back(self, Entry* entry) noexcept nogil

    cdef Mounted* _mount(self, uint32_t number) noexcept nogil
    cdef bint _cid(self, uint64_t nodeid, uint8_t* cid, uint64_t* size, uint64_t* owner) noexcept nogil
