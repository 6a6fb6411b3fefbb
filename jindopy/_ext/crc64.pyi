"""CRC-64/XZ (ECMA-182, reflected), the checksum OSS calls ``x-oss-hash-crc64ecma``.

``crc64(b"123456789") == 0x995DC9BBDF1939FA``.  Large buffers are checked without the GIL.  The kernel is chosen once
at import: the fastest this CPU has, or the one named by ``JINDOPY_CRC64`` (``scalar``, ``pclmul``, ``vpclmul``; of the
last also ``vpclmul256``, ``vpclmul512``; on aarch64 ``pmull``), which is a demand: naming one that cannot run raises
ImportError.
"""

from typing_extensions import Buffer

def crc64(data: Buffer, crc: int = 0) -> int:
    """CRC of ``data`` appended to bytes whose CRC is ``crc`` (0: nothing before)."""

def combine(first: int, second: int, second_bytes: int) -> int:
    """CRC of the concatenation, from both parts' CRCs and the length of the second part in bytes."""

def kernel() -> str:
    """Name of the kernel in use."""

def kernels() -> list[str]:
    """Names of the kernels this CPU can run, slowest first."""

def crc64_with(name: str, data: Buffer, crc: int = 0) -> int:
    """As ``crc64``, by the named kernel; ValueError when it cannot run here."""
