"""The block store as two dictionaries: what it means, without disks, quotas, locks or crashes.

The real one may forget unpinned blocks at any time (eviction), so a comparison first tells the twin what is gone.
"""

from __future__ import annotations

import dataclasses
import hashlib

from jindopy._ext.iobuf import BufferPool, SealedBuffer

MIB = 1 << 20
POOL = BufferPool(64 * MIB)


def cid_of(number: int) -> bytes:
    return hashlib.blake2b(b"version %d" % number, digest_size=16).digest()


def known_block(cid: bytes, size: int, block: int) -> bytes:
    """Bytes that say whose they are: a block read from a wrong place, or a hole, is never equal to it."""
    length = min(MIB, size - block * MIB)
    line = hashlib.blake2b(cid + b"%d" % block).digest()
    return (line * (length // len(line) + 1))[:length]


def sealed(data: bytes) -> SealedBuffer:
    buffer = POOL.acquire(len(data))
    with memoryview(buffer) as view:
        view[:] = data
    return buffer.seal()


@dataclasses.dataclass
class TwinEntry:
    size: int
    owner: int
    pinned: bool = False
    leases: int = 0
    blocks: dict[int, bytes] = dataclasses.field(default_factory=dict)

    @property
    def cached_bytes(self) -> int:
        return sum(map(len, self.blocks.values()))

    @property
    def block_count(self) -> int:
        return -(-self.size // MIB)


class BlockStoreTwin:
    def __init__(self) -> None:
        self.entries: dict[bytes, TwinEntry] = {}

    def open(self, cid: bytes, size: int, owner: int) -> None:
        entry = self.entries.setdefault(cid, TwinEntry(size, owner))
        if entry.size != size:
            raise ValueError
        entry.leases += 1

    def close(self, cid: bytes) -> None:
        self.entries[cid].leases -= 1
        self._tidy(cid)

    def put(self, cid: bytes, block: int, data: bytes) -> None:
        self.entries[cid].blocks.setdefault(block, data)

    def read(self, cid: bytes, offset: int, size_bytes: int) -> bytes | None:
        entry = self.entries[cid]
        end = min(offset + size_bytes, entry.size)
        if offset >= end:
            return b""
        wanted = range(offset // MIB, (end - 1) // MIB + 1)
        if any(block not in entry.blocks for block in wanted):
            return None
        whole = b"".join(entry.blocks[block] for block in wanted)
        start = offset - wanted[0] * MIB
        return whole[start : start + end - offset]

    def missing(self, cid: bytes, first: int, count: int) -> list[int]:
        entry = self.entries[cid]
        return [block for block in range(first, min(first + count, entry.block_count)) if block not in entry.blocks]

    def drop(self, cid: bytes, block: int) -> None:
        self.entries[cid].blocks.pop(block, None)

    def evict(self, cid: bytes) -> int:
        if cid not in self.entries:
            return 0
        freed = self.entries[cid].cached_bytes
        self.entries[cid].blocks.clear()
        self._tidy(cid)
        return freed

    def pin(self, cid: bytes, pinned: bool) -> bool:
        if cid not in self.entries:
            return False
        self.entries[cid].pinned = pinned
        self._tidy(cid)
        return True

    def restart(self) -> None:
        """Leases end with the process; what holds nothing and is not pinned is no entry."""
        for cid in list(self.entries):
            self.entries[cid].leases = 0
            self._tidy(cid)

    def owner_bytes(self, owner: int) -> tuple[int, int]:
        mine = [entry.cached_bytes for entry in self.entries.values() if entry.owner == owner]
        return sum(mine), sum(1 for cached_bytes in mine if cached_bytes)

    def _tidy(self, cid: bytes) -> None:
        entry = self.entries[cid]
        if not entry.leases and not entry.pinned and not entry.blocks:
            del self.entries[cid]
