# C view of ext/crc64.pyx.  Both functions are pure and run without the GIL.
from libc.stdint cimport uint64_t


# CRC of the bytes whose CRC is `crc` (0: none) followed by `size` bytes at `data`.
cdef uint64_t crc64_update(uint64_t crc, const void* data, size_t size) noexcept nogil

# CRC of two pieces joined, from the CRC of each and the size of the second.
cdef uint64_t crc64_combine(uint64_t first, uint64_t second, uint64_t second_bytes) noexcept nogil
