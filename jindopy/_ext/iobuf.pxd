# C view of ext/iobuf.pyx: block memory, filling or sealed.
#
# `data` of a FillingBuffer may be written by the one thread that fills it, `data` of a SealedBuffer read by any thread,
# both without the GIL, as long as a reference is held and, where another thread could call release(), between borrow()
# and unborrow().  NULL: sealed, or released.
from libc.stdint cimport uint64_t

from jindopy._ext.pthreads cimport pthread_cond_t, pthread_mutex_t

# A block is checked by *pieces*, so that a read looks at no more than it hands out (and a bit), while the bytes are in
# the nearest caches.  128 KiB is what FUSE asks for at most without a larger max_read; 8 CRCs a block are 64 bytes.
cdef enum:
    PIECE_SHIFT = 17
    PIECE_BYTES = 131072
    BLOCK_PIECES = 8

# CRCs of the block at `data`, `crcs[i]` of all its bytes up to the end of piece i: the last one is the block's own, and
# piece i is checked by going on from `crcs[i - 1]`.  At most BLOCK_PIECES are written; returns the CRC of all bytes.
cdef uint64_t piece_crcs(const unsigned char* data, size_t size, uint64_t* crcs) noexcept nogil


cdef struct Waiter:
    size_t size
    bint granted
    pthread_cond_t wake
    Waiter* next


cdef class BufferPool:
    cdef pthread_mutex_t _lock
    cdef size_t _budget
    cdef size_t _used
    cdef size_t _peak
    cdef Waiter* _first_waiter
    cdef Waiter* _last_waiter
    cdef void* _spare
    cdef size_t _spare_bytes

    cdef bint _request(self, Waiter* waiter) noexcept nogil
    cdef bint _wait(self, Waiter* waiter, double seconds) noexcept nogil
    cdef void _withdraw(self, Waiter* waiter) noexcept nogil
    cdef void _credit(self, size_t size) noexcept nogil
    cdef void _grant(self) noexcept nogil
    cdef void* _take(self, size_t size) noexcept nogil
    cdef void _give_back(self, void* memory, size_t size) noexcept nogil


cdef class FillingBuffer:
    cdef BufferPool pool
    cdef unsigned char* data
    cdef size_t size
    cdef Py_ssize_t views

    cdef void own(self, BufferPool pool, unsigned char* memory, size_t size) noexcept
    cdef unsigned char* disown(self) noexcept
    cdef int check_unshared(self) except -1


cdef class SealedBuffer:
    cdef BufferPool pool
    cdef const unsigned char* data
    cdef size_t size
    cdef uint64_t crc
    cdef uint64_t crcs[8]    # as piece_crcs makes them
    cdef Py_ssize_t views
    cdef bint released

    # Takes memory whose checksums the caller has in `crcs` (BLOCK_PIECES of them) and `crc`.
    cdef void own(
        self, BufferPool pool, const unsigned char* memory, size_t size, const uint64_t* crcs, uint64_t crc
    ) noexcept
    cdef void give_back(self) noexcept
    cdef int check_unreleased(self) except -1

    # The bytes, which stay until unborrow() even if release() is called.  Both need the GIL.
    cdef const unsigned char* borrow(self) except NULL
    cdef void unborrow(self) noexcept
