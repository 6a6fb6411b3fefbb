# C view of ext/blocksync.pyx: durability.  The caller of the first two holds the store's maintenance lock.
from jindopy._ext.blockstate cimport Store

cdef int sync_all(Store* store) noexcept nogil
cdef int write_snapshot(Store* store, int level) noexcept nogil
cdef int store_sync(Store* store) noexcept nogil
