# C view of ext/blockio.pyx: reading, checking and writing blocks.  The caller holds a lease on the entry.
from libc.stdint cimport uint64_t

from jindopy._ext.blockstate cimport Store
from jindopy._ext.blocktable cimport Entry

# Results of store_read besides negative errno.
cdef enum ReadResult:
    READ_DONE = 0
    READ_MISS = 1           # a block of the range is not here, or turned out damaged and was dropped
    READ_WOULD_BLOCK = 2    # here, but the disk or a check would have to be waited for

# Results of store_check besides negative errno.
cdef enum CheckResult:
    CHECK_GOOD = 0
    CHECK_BAD = 1           # and dropped
    CHECK_ABSENT = 2

cdef int store_read(
    Store* store, Entry* entry, uint64_t offset, uint64_t size, char* into, bint nowait
) noexcept nogil
# Whether all of a range is here, be it good or not; not counted as a read.
cdef bint store_covers(Store* store, Entry* entry, uint64_t offset, uint64_t size) noexcept nogil
# Check what of a block was not checked yet in this process, or all of it `again`.
cdef int store_check(Store* store, Entry* entry, uint64_t block, bint again) noexcept nogil
cdef int store_put(
    Store* store, Entry* entry, uint64_t block, const char* data, uint64_t size, const uint64_t* crcs
) noexcept nogil
cdef int store_drop(Store* store, Entry* entry, uint64_t block) noexcept nogil
cdef void store_warm(Store* store, Entry* entry, uint64_t offset, uint64_t size) noexcept nogil
