# C view of ext/blockstore.pyx: a native reader takes `owner.store` and `entry` of an open CacheFile, keeps a reference
# to the CacheFile, counts itself in `users` meanwhile (GIL), and calls jindopy._ext.blockio without the GIL.
from libc.stdint cimport uint64_t

from jindopy._ext.blockstate cimport Store
from jindopy._ext.blocktable cimport Entry


cdef class BlockStore:
    cdef Store* store
    cdef list names
    cdef list paths

    cdef void take_tier(self, int level, object spec) except *
    cdef str file_name(self, const Entry* entry)
    cdef int fail(self, int rc, str where) except -1
    cdef Entry* lease_existing(self, bytes cid) except? NULL


cdef class CacheFile:
    cdef BlockStore owner
    cdef Entry* entry       # NULL: closed
    cdef bint blocked
    cdef bint closing       # closed as soon as no method is inside
    cdef int users

    cdef Entry* leased(self) except NULL
    cdef Entry* begin(self) except NULL
    cdef void end(self)
    cdef uint64_t block_number(self, object block_index) except? 0
