"""Read history → blocks to fetch ahead.  P: told the reads, answers ranges, knows no cache and no clock.

Each open file has a ``ReadAhead``.  A read continues a *stream* when it starts near where that stream's last read
ended; up to STREAMS_MAX streams of one file are told apart by offset (shards read by several workers).  The kernel
sends the requests of one sequential reader slightly out of order and from several threads, hence "near".

A stream is *dense* when its reads cover at least half of what they span.  Only a dense one has blocks fetched ahead, so
strided and random reads, which often end up near one another by chance, cost the blocks they touch and no others.  Its
window starts small and doubles each time the reader has used up half of what lies ahead, until it covers
``window_bytes_max``: enough that the link never idles between a reader's requests.  The one read that is believed
without a second is that of offset 0, where most sequential reads start.

All files together may have ``total_bytes`` ahead: ``AheadShares`` says what that leaves for each, and the streams of a
file share it.  Where it is less than a block, nothing is read ahead.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple, final

from jindopy.base.ident import BLOCK_BYTES

STREAMS_MAX: Final = 8
"""Streams told apart per file: a DataLoader has 4 to 8 workers; each costs 5 numbers."""

KEPT_READS: Final = 64
"""A stream that was dense is kept so many reads longer than others: random reads between those of a sequential reader
do not push it out."""

NEAR_BYTES: Final = 4 * BLOCK_BYTES
"""How far from the expected offset a read still belongs to a stream: the kernel's own read-ahead (4 MiB) is in flight
at once, and its requests arrive in any order."""


RECENT_ASKS: Final = 256
"""Who asked last is who reads ahead; as many readers as this at a time are told apart."""


@dataclass(frozen=True)
class ReadAheadConfig:
    """Sizes of the window."""

    window_bytes_min: int = 4 * BLOCK_BYTES
    """First window at offset 0: one GET, what a wrong guess costs at most; elsewhere half of it."""
    window_bytes_max: int = 64 * BLOCK_BYTES
    """A 1 GB/s link with 20 ms to the first byte has 20 MB in flight; three times that rides out hiccups."""


class BlockRange(NamedTuple):
    """Blocks ``first`` to ``first + blocks - 1``."""

    first: int
    blocks: int


@dataclass
class Stream:
    """One sequential reader of a file; offsets are bytes within the object."""

    next_offset: int
    """Where the furthest read so far ended."""
    window_bytes: int
    ahead_block: int
    """First block that was not yet asked for."""
    trigger_offset: int
    """A read that gets here asks for more."""
    start: int
    """Where the reads begin by which density is judged ..."""
    read_bytes: int
    """... and how much of what follows they cover."""
    dense: bool = False
    """It was, when last judged so."""
    used: int = 0
    """Read counter of the last use, for replacing the oldest stream."""


@final
@dataclass
class ReadAhead:
    """History of one open file.  Not locked: the caller holds the file's lock."""

    object_bytes: int
    config: ReadAheadConfig = field(default_factory=ReadAheadConfig)
    streams: list[Stream] = field(default_factory=list)
    reads: int = 0

    share_bytes: int = 1 << 62
    """Most that all streams may have ahead now."""

    def on_read(self, offset: int, size_bytes: int) -> BlockRange | None:
        """Note a read; returns blocks worth fetching now, behind what the read itself needs."""
        self.reads += 1
        end = min(offset + size_bytes, self.object_bytes)
        nearest = None
        near = NEAR_BYTES + 1
        for stream in self.streams:
            distance = abs(offset - stream.next_offset)
            if distance < near:
                nearest, near = stream, distance
        if nearest is None:
            return self._start(offset, end)
        nearest.used = self.reads
        nearest.start = min(nearest.start, offset)
        nearest.next_offset = max(nearest.next_offset, end)
        nearest.read_bytes += max(0, end - offset)
        return self._advance(nearest) if end >= nearest.trigger_offset else None

    def _start(self, offset: int, end: int) -> BlockRange | None:
        stream = Stream(
            next_offset=end,
            window_bytes=self.config.window_bytes_min if offset == 0 else self.config.window_bytes_min // 4,
            ahead_block=-(-end // BLOCK_BYTES),
            trigger_offset=end + 1,
            start=offset,
            read_bytes=end - offset,
            used=self.reads,
        )
        if len(self.streams) >= STREAMS_MAX:
            self.streams.remove(min(self.streams, key=lambda known: known.used + KEPT_READS * known.dense))
        self.streams.append(stream)
        return self._extend(stream) if offset == 0 else None

    def _advance(self, stream: Stream) -> BlockRange | None:
        span = stream.next_offset - stream.start
        stream.dense = 2 * stream.read_bytes >= span
        if not stream.dense:
            if span > stream.window_bytes:
                # Not the requests of one reader out of order: judge it by its next reads.
                stream.window_bytes = max(stream.window_bytes // 2, BLOCK_BYTES)
                stream.start, stream.read_bytes = stream.next_offset, 0
            return None
        stream.start, stream.read_bytes = stream.next_offset, 0
        ahead_bytes = stream.ahead_block * BLOCK_BYTES - stream.next_offset
        if ahead_bytes < stream.window_bytes:
            stream.window_bytes *= 2
        return self._extend(stream)

    def _extend(self, stream: Stream) -> BlockRange | None:
        """Ask for blocks up to the window's end; the next trigger is half a window before that."""
        sharers = max(1, sum(other.dense for other in self.streams))
        window_bytes_max = min(self.config.window_bytes_max, self.share_bytes // sharers)
        stream.window_bytes = min(stream.window_bytes, window_bytes_max)
        if stream.window_bytes < BLOCK_BYTES:
            stream.window_bytes = BLOCK_BYTES  # what it begins with when there is room again
            return None
        blocks_in_all = -(-self.object_bytes // BLOCK_BYTES)
        first = max(stream.ahead_block, stream.next_offset // BLOCK_BYTES)
        stop = min(-(-(stream.next_offset + stream.window_bytes) // BLOCK_BYTES), blocks_in_all)
        if stop <= first:
            return None
        stream.ahead_block = stop
        stream.trigger_offset = stop * BLOCK_BYTES - stream.window_bytes // 2
        return BlockRange(first, stop - first)


@final
class AheadShares:
    """What each of those who read ahead may have of ``total_bytes``.  Not locked: the caller sees to that."""

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._asked: deque[int] = deque(maxlen=RECENT_ASKS)
        self.share_bytes = total_bytes

    def asked(self, reader: int) -> None:
        """A reader, told by any number of its own, has had something read ahead: once for half a window."""
        self._asked.append(reader)
        self.share_bytes = self._total_bytes // len(set(self._asked))
