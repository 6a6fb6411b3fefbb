# The bounds-checked reader of foreign bytes: little endian, sticky failure.
#
# A read past the end returns 0 and sets `failed`; callers check once after the last field.  Inline, so that a parser
# that cimports it needs no module at run time.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset


cdef struct Cursor:
    const uint8_t* at
    size_t left
    bint failed


cdef inline void cursor_take(Cursor* cursor, void* into, size_t size) noexcept nogil:
    if cursor.failed or cursor.left < size:
        cursor.failed = True
        memset(into, 0, size)
        return
    memcpy(into, cursor.at, size)
    cursor.at += size
    cursor.left -= size


cdef inline uint64_t cursor_uint(Cursor* cursor, size_t size) noexcept nogil:
    cdef uint8_t raw[8]
    cdef uint64_t value = 0
    cdef size_t i
    cursor_take(cursor, raw, size)
    for i in range(size):
        value |= <uint64_t>raw[i] << (8 * i)
    return value


cdef inline uint8_t cursor_u8(Cursor* cursor) noexcept nogil:
    return <uint8_t>cursor_uint(cursor, 1)


cdef inline uint16_t cursor_u16(Cursor* cursor) noexcept nogil:
    return <uint16_t>cursor_uint(cursor, 2)


cdef inline uint32_t cursor_u32(Cursor* cursor) noexcept nogil:
    return <uint32_t>cursor_uint(cursor, 4)


cdef inline uint64_t cursor_u64(Cursor* cursor) noexcept nogil:
    return cursor_uint(cursor, 8)
