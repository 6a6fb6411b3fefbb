"""The block store: one sparse file per object version, with checksums of its 1 MiB blocks and a crash-safe index.

On disk, below each tier's directory: ``v1/<tier>/<cid[:2]>/<cid>`` (hex) holds object bytes at object
offsets, holes where nothing is cached; ``v1/index.log`` and ``v1/index.snap`` say which blocks are there and their
CRCs (docs/FORMATS.md).  Reads, writes, CRC and waits run without the GIL.

``CacheFile`` is a lease: while one is open the file is neither unlinked from the index nor punched under its reader.
A block is checked in pieces of 128 KiB, each on its first read in this process; from then on it is trusted.
"""

from typing import NamedTuple, final

from jindopy._ext.iobuf import SealedBuffer

class TierSpec(NamedTuple):
    """One tier; the order given to BlockStore is the order of preference for new data."""

    name: str
    """MEM, SSD or HDD."""
    path: str
    quota_bytes: int
    high: float
    """Evict when disk use passes ``high * quota_bytes`` ..."""
    low: float
    """... until it is below ``low * quota_bytes``."""
    min_free_bytes: int
    """Never let the file system's free space fall below this."""

class TierStat(NamedTuple):
    """A tier's figures; ``used_bytes`` counts what the disk gives (st_blocks), ``cached_bytes`` object bytes."""

    name: str
    path: str
    quota_bytes: int
    used_bytes: int
    cached_bytes: int
    pinned_bytes: int
    files: int
    blocks: int
    evicted_bytes: int
    """Object bytes evicted since this process started."""

class FileStat(NamedTuple):
    """What is cached of one version."""

    cid: bytes
    owner: int
    size: int
    cached_bytes: int
    pinned: bool
    tier: str

class ScrubResult(NamedTuple):
    """Result of checking one file's blocks."""

    cid: bytes
    checked_blocks: int
    bad_blocks: list[int]

@final
class BlockStore:
    """Tiers, index, LRU, leases and eviction.  All methods are safe for threads."""

    def __init__(self, tiers: list[TierSpec], *, sync_seconds: float = 5.0) -> None:
        """Take the directories (flock), recover the index, remove strays.

        Raises CacheBusy (owner's pid in the message), FormatTooNew, CacheError.  A damaged index costs cached data,
        never wrong bytes: what cannot be trusted is dropped.
        """
    def open(self, cid: bytes, size: int, owner: int) -> CacheFile:
        """Lease on the version ``cid`` of ``size`` bytes, an entry is made when missing.

        ``owner`` is a 64-bit tag that sums are kept for (see ``owner_bytes``).  Raises ValueError when an entry of
        another size exists under the cid.
        """
    def peek(self, cid: bytes) -> FileStat | None:
        """What is cached of a version, without a lease or touching the LRU."""
    def files(self) -> list[FileStat]:
        """All entries, least recently used first: half a second of GIL and 170 MB for a million."""
    def cids(self, pinned: bool = False) -> bytes:
        """Cids of all entries, or of those that are pinned: 16 bytes each, one behind the other, in no order."""
    def pin(self, cid: bytes, pinned: bool) -> bool:
        """Set or clear the pin; False when there is no such entry."""
    def evict(self, cid: bytes) -> int:
        """Drop a version's blocks; returns object bytes freed.  An open lease keeps reading until its next miss."""
    def owner_bytes(self, owner: int) -> tuple[int, int]:
        """(object bytes cached, files with any block) under an owner tag."""
    def stats(self) -> list[TierStat]: ...
    def counters(self) -> dict[str, int]:
        """Since start: hit_reads, hit_bytes, miss_reads, crc_failures, put_blocks, put_bytes, evicted_bytes,
        put_refused, io_errors (of disks, whatever came of them), strays_removed (files without an entry), lent (files
        given to the kernel to read), lent_object_bytes (their sizes).
        """
    def scrub(self, cid: bytes) -> ScrubResult:
        """Read and check all cached blocks of a version; bad ones are dropped and counted."""
    def sync(self) -> None:
        """Make everything acknowledged so far survive a power cut (fdatasync of data, then of the index)."""
    def close(self) -> None:
        """Sync, write a snapshot, release the directories.  Harmless when repeated."""

@final
class CacheFile:
    """Lease on one version.  Close it; a forgotten one is closed when collected."""

    @property
    def cid(self) -> bytes: ...
    @property
    def size(self) -> int: ...
    def read(self, offset: int, size_bytes: int, nowait: bool = False) -> bytes | None:
        """Bytes [offset, offset+size_bytes) clipped to the object's end, or None when a block of them is missing.

        A block with a piece that fails its CRC is dropped, counted and reported as missing.  With ``nowait`` also None,
        and ``would_block`` is True, when bytes are cached but not in memory (RWF_NOWAIT).
        """
    @property
    def would_block(self) -> bool: ...
    def missing(self, first_block: int, block_count: int) -> list[int]:
        """Indexes of the blocks in this range that are not cached."""
    @property
    def complete(self) -> bool:
        """Whether every block is cached."""
    def warm(self, offset: int, size_bytes: int) -> None:
        """Read a cached range from disk into the page cache, without copying or checking it; returns when it is there.

        A hint: what is not cached, or cannot be read, is passed over.
        """
    def verify(self, first_block: int, block_count: int) -> None:
        """Check what of the cached blocks of this range was not checked yet, so that later reads need not.

        Returns when done; what fails is dropped and counted.
        """
    def put(self, block_index: int, block: SealedBuffer) -> None:
        """Store a block.  Already there: nothing happens.

        Raises CacheFull when nothing can be evicted or the disk has no room, ValueError when the block's length is
        not the one its index asks for, CacheError when the disk fails.
        """
    def drop(self, block_index: int) -> None:
        """Forget one block (its bytes turned out wrong)."""
    def crc64(self) -> int | None:
        """CRC of the whole object combined from its blocks', None until complete."""
    def close(self) -> None: ...

def live_counts() -> dict[str, int]:
    """``leases``, ``descriptors``, ``stores`` alive in this process."""
