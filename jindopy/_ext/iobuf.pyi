"""Block buffers: the only owners of block memory, *filling* or *sealed*, never both.

A ``FillingBuffer`` is writable and has no checksum; ``seal`` takes its memory away and returns a ``SealedBuffer`` that
carries the CRC-64/XZ of its bytes and can no longer change.  Only sealed buffers are accepted by what stores or
replies, so bytes that nobody checked cannot get there (the type checker refuses it too).

A ``BufferPool`` bounds the memory: ``acquire`` waits (GIL released) until the budget has room.  Memory goes back when
the buffer is released or garbage collected.  Safe for threads; a buffer itself belongs to one thread until sealed.
"""

from typing import final

@final
class BufferPool:
    """Hands out block memory within a budget."""

    def __init__(self, budget_bytes: int) -> None: ...
    def acquire(self, size_bytes: int, timeout_seconds: float = -1.0) -> FillingBuffer:
        """Wait for room and return an empty buffer.

        A negative timeout waits for ever, 0 never.  Raises TimeoutError; ValueError when ``size_bytes`` is above the
        budget, so that no wait can be endless.
        """
    @property
    def budget_bytes(self) -> int: ...
    @property
    def used_bytes(self) -> int: ...
    @property
    def peak_bytes(self) -> int: ...

@final
class FillingBuffer:
    """Writable memory of a fixed size, without a checksum yet.  Supports the writable buffer protocol."""

    def __len__(self) -> int:
        """Capacity in bytes."""
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def seal(self, expected_crc64: int | None = None) -> SealedBuffer:
        """Compute the CRC (GIL released) and give up the memory to a SealedBuffer.

        Raises CacheCorrupt when ``expected_crc64`` is given and differs (the buffer stays filling), BufferError while
        a memoryview of it is alive, ValueError when already sealed or released.
        """
    def release(self) -> None:
        """Give the memory back unsealed; harmless when repeated."""

@final
class SealedBuffer:
    """Immutable checked bytes.  Supports the read-only buffer protocol."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    @property
    def crc64(self) -> int: ...
    def slice(self, offset: int, size_bytes: int) -> bytes:
        """A copy of a part; clipped to the buffer's end."""
    def release(self) -> None:
        """Give the memory back as soon as no view is alive; harmless when repeated."""

def limit_heap(arenas: int) -> None:
    """Have the C library's allocator make no more arenas than this: what a thread frees is of use to others then.

    Of effect on threads started from now on.  Pieces of 128 KiB and more are mapped one by one from now on, and go
    back to the kernel when they are freed.
    """

def live_counts() -> dict[str, int]:
    """Buffers and bytes alive in this process, for leak checks: keys ``filling``, ``sealed``, ``bytes``."""
