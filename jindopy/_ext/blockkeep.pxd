# C view of ext/blockkeep.pyx: start, upkeep and end of a store.
from jindopy._ext.blockstate cimport Store

cdef int store_recover(Store* store, int level) noexcept nogil
cdef int store_start(Store* store) noexcept nogil
cdef int store_close(Store* store) noexcept nogil
