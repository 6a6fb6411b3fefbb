"""GETs whose bodies become blocks, checked and stored, before Python hears of them.

A ``BlockGet`` is one ranged GET for consecutive blocks of a version.  A native thread takes memory from the pool block
by block, computes the checksums, compares a whole object with the store's own CRC, stores each block under the lease,
and leaves word in a ``LandingQueue``; one Python thread takes what has gathered there with one turn of the GIL.

Only the exact answer is accepted (status, ETag, Content-Range, length); anything else ends the transfer as
``unwanted``, for a caller that asks again in the way that tells errors apart.
"""

from typing import NamedTuple, final

from jindopy._ext.blockstore import CacheFile
from jindopy._ext.httpcrew import Ending
from jindopy._ext.iobuf import BufferPool, SealedBuffer

class Landed(NamedTuple):
    """One block."""

    block: int
    sealed: SealedBuffer
    put_error: int
    """0: stored; an errno: the block store refused it; -1: it was not to be stored."""

class Word(NamedTuple):
    """What happened to one BlockGet since the last word of it."""

    get: BlockGet
    blocks: list[Landed]
    ending: Ending | None
    """Not None: nothing more comes."""

@final
class LandingQueue:
    """Where BlockGets leave word."""

    def __init__(self) -> None: ...
    def take(self, timeout_seconds: float) -> list[Word]:
        """Wait, without the GIL, for word or ``wake``; at most so long."""
    @property
    def hungry(self) -> bool:
        """Whether a transfer has waited for memory for a second; asking forgets it."""
    def wake(self) -> None:
        """Make ``take`` return."""

@final
class BlockGet:
    """One GET for blocks."""

    def __init__(
        self,
        queue: LandingQueue,
        pool: BufferPool,
        lease: CacheFile,
        first_block: int,
        block_count: int,
        token: bytes,
        may_store: bool,
        cookie: object,
    ) -> None: ...
    @property
    def cookie(self) -> object: ...
    @property
    def offset(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def object_crc64(self) -> int | None:
        """The whole object's, as the answer told it."""
    @property
    def damaged(self) -> bool:
        """The bytes that came have another CRC than the store says."""
    def cancel(self) -> None:
        """End it soon; its last word still comes."""
