# C view of ext/blocksend.pyx: blocks of a store for somebody who sends them from their file.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from jindopy._ext.blockstate cimport Store
from jindopy._ext.blocktable cimport Entry, Handle

cdef enum SendResult:
    SEND_READY = 0
    SEND_ABSENT = 1
    SEND_FORBIDDEN = 2      # of an owner that is not among those given
    SEND_BEYOND = 3         # the object has no such block


cdef struct Sending:
    Entry* entry
    Handle* handle          # sendfile from handle.fd
    uint32_t generation
    uint64_t offset
    uint64_t size
    uint64_t crc

# A lease on what is there of a version; ends with blockevict.lease_close.  -EBADF: the store is closed.
cdef int send_lease(
    Store* store, const uint8_t* cid, const uint64_t* owners, size_t count, Entry** leased
) noexcept nogil
# Where a block lies; SEND_READY asks for send_end.
cdef int send_begin(Store* store, Entry* entry, uint64_t block, Sending* sending) noexcept nogil
# Whether all that was read of the file since send_begin was the block's.
cdef bint send_end(Store* store, Sending* sending) noexcept nogil
