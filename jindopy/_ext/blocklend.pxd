# C view of ext/blocklend.pyx: cache files whose bytes others read by themselves.  The caller holds a lease.
from libc.stdint cimport uint64_t

from jindopy._ext.blockstate cimport Store
from jindopy._ext.blocktable cimport Entry, Handle

# Lend an entry's file if it is complete, checked and within bounds; of files up to `check_bytes_max` what is not
# checked yet is checked now.  True: `lent` is the caller's until lend_handle_back, the loan until store_unlend.
cdef bint store_lend(Store* store, Entry* entry, uint64_t check_bytes_max, Handle** lent) noexcept nogil
cdef void lend_handle_back(Store* store, Handle* handle) noexcept nogil
# Nobody reads it by himself any more; once for each store_lend that said True.
cdef void store_unlend(Store* store, Entry* entry) noexcept nogil
