# C view of ext/blockevict.pyx: making room.  All take the store's lock themselves.
from libc.stdint cimport uint64_t

from jindopy._ext.blockstate cimport Store
from jindopy._ext.blocktable cimport Entry

cdef uint64_t evict_disk(Store* store, int level, uint64_t disk_bytes) noexcept nogil
cdef uint64_t evict_entry(Store* store, Entry* entry, bint only_empty) noexcept nogil
cdef int room_reserve(Store* store, int level, uint64_t need_bytes) noexcept nogil
cdef bint over_high(Store* store, int level) noexcept nogil
cdef void lease_close(Store* store, Entry* entry) noexcept nogil
