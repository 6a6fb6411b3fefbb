# ext/crc64_kernels.h
from libc.stdint cimport uint64_t


cdef extern from "crc64_kernels.h" nogil:
    ctypedef uint64_t (*jindo_crc64_fn)(uint64_t crc, const void* data, size_t size) noexcept nogil

    struct jindo_crc64_kernel:
        const char* name
        jindo_crc64_fn update
        bint usable

    void jindo_crc64_init() noexcept
    const jindo_crc64_kernel* jindo_crc64_kernels(size_t* count) noexcept
    uint64_t jindo_crc64_combine(uint64_t first, uint64_t second, uint64_t second_bytes) noexcept
