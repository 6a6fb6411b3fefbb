"""CRC-64/XZ (ECMA-182, reflected), the checksum OSS calls ``x-oss-hash-crc64ecma``.

The arithmetic is in crc64_kernels.c; this module chooses a kernel once, at import: the last usable one of a list
ordered by measured speed, or the one ``JINDOPY_CRC64`` demands.  ``vpclmul`` stands for the wider of the two kernels
with that instruction.  Native modules cimport ``crc64_update``; Python gets ``crc64``.  Nothing changes after the
import, so there is no lock.
"""

import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint64_t

from jindopy._ext.crc64_kernels cimport (
    jindo_crc64_combine,
    jindo_crc64_fn,
    jindo_crc64_init,
    jindo_crc64_kernel,
    jindo_crc64_kernels,
)

# From here on the GIL is released.  Just below, a call takes 3 us by the fastest kernel, 35 by table.  At it 2 us
# alone, but 5 beside a busy thread, which now and then keeps the GIL for a switch interval.
cdef enum:
    NOGIL_BYTES = 65536

cdef jindo_crc64_fn _update = NULL


cdef uint64_t crc64_update(uint64_t crc, const void* data, size_t size) noexcept nogil:
    return _update(crc, data, size)


cdef uint64_t crc64_combine(uint64_t first, uint64_t second, uint64_t second_bytes) noexcept nogil:
    return jindo_crc64_combine(first, second, second_bytes)


cdef const jindo_crc64_kernel* _find(str name) noexcept:
    """The usable kernel of this name (``vpclmul``: the wider of its two; empty: the fastest), else NULL."""
    cdef size_t count, i
    cdef const jindo_crc64_kernel* table = jindo_crc64_kernels(&count)
    cdef const jindo_crc64_kernel* found = NULL
    for i in range(count):
        known = table[i].name.decode()
        if table[i].usable and (known == name or name == "" or (name == "vpclmul" and known.startswith(name))):
            found = &table[i]
    return found


cdef uint64_t _run(jindo_crc64_fn update, object data, uint64_t crc) except? 0:
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if view.len < NOGIL_BYTES:
            crc = update(crc, view.buf, view.len)
        else:
            with nogil:
                crc = update(crc, view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
    return crc


def crc64(data, uint64_t crc=0):
    return _run(_update, data, crc)


def crc64_with(str name, data, uint64_t crc=0):
    cdef const jindo_crc64_kernel* chosen = _find(name)
    if chosen is NULL:
        raise ValueError(f"CRC-64 kernel {name!r} cannot run here; these can: {', '.join(kernels())}")
    return _run(chosen.update, data, crc)


def combine(uint64_t first, uint64_t second, uint64_t second_bytes):
    return jindo_crc64_combine(first, second, second_bytes)


def kernels():
    cdef size_t count, i
    cdef const jindo_crc64_kernel* table = jindo_crc64_kernels(&count)
    return [table[i].name.decode() for i in range(count) if table[i].usable]


def kernel():
    return _kernel_name


cdef str _choose():
    """Set the kernel of this process and return its name; ImportError when the environment demands the impossible."""
    global _update
    cdef const jindo_crc64_kernel* chosen
    jindo_crc64_init()
    demanded = os.environ.get("JINDOPY_CRC64", "")
    chosen = _find(demanded)
    if chosen is NULL:
        raise ImportError(
            f"JINDOPY_CRC64={demanded}: this CPU cannot run that kernel; unset it or name one of {', '.join(kernels())}"
        )
    _update = chosen.update
    return chosen.name.decode()


cdef str _kernel_name = _choose()
