"""Opens of a directory's small files → the files to fetch next.  P: told the opens and the time, asks nobody.

Files of one directory and one suffix are a *group*: a reader of pictures is not followed by the labels beside them.
A group recognises

    streams     one name after another, forwards or backwards, or every k-th of them (one of k workers), in key order
                and in the order of the listing; up to STREAMS_MAX at a time, each with a window of its own
    scatter     a share of the group opened within ``recent_seconds`` in no order: an epoch that was shuffled

and one open is never a pattern.  A stream asks for the files in front of it; its window starts small and grows as
often as half of it was used.  Scatter asks for files nobody opened yet, in key order, which is as good as any; what it
may have ahead grows by ``scatter_step`` with each open that goes on confirming it.

Windows shrink when files that were fetched ahead are not the ones being opened: a stream's when its reader passes over
half of them, or one was evicted before it came; the first window of later streams when one ended early; scatter's when
fewer opens than a fair share (``SCATTER_JUDGED``) meet what was fetched.  When files are opened again a new epoch has
begun and the history starts anew.  The bytes asked for and not opened are bounded by the room the caller gives.

Not locked: the caller holds the lock of whatever it keeps beside this.
"""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, final

STREAMS_MAX: Final = 16
"""Streams told apart per group and order: the workers of a DataLoader or of ``xargs -P``."""
NEAR_FILES: Final = 8
"""How far from the expected place an open still continues a stream (2 until it has a third): several readers share one
list, and their opens arrive in any order."""
SEEDS: Final = 8
"""Opens remembered that continued no stream."""
WINDOW_GROWTH: Final = 4
"""2, 8, 32 files: three round trips until 16 GETs of a store are kept busy."""
DISORDER_MASK: Final = 0xFFFF
DISORDER_MIN: Final = 12
"""Of the last 16 opens: where so many continue no stream, two names in a row are chance and it takes a third."""
STRIDE_MAX: Final = 1024
"""Longest step between the files of one worker that is recognised."""
SCATTER_FILES_MIN: Final = 4
"""Fewest opens in no order that mean anything, however small the group."""
SCATTER_JUDGED: Final = 8
"""Opens that should have met files fetched ahead, were the order random, before too few of them count."""
GROUPS_MAX: Final = 32
SORTED_MAX: Final = 100_000
"""Files of one directory whose names are compared; beyond it the listing's order, which is key order in object stores,
is the only one."""
SUFFIX_BYTES_MAX: Final = 8
"""What is longer behind the last dot is part of the name."""

_UNREAD, _ASKED, _ARRIVED, _READ = range(4)
_READ_TO_UNREAD: Final = bytes(_UNREAD if state == _READ else state for state in range(256))


@dataclass(frozen=True)
class NeighbourConfig:
    """Sizes of windows, in files."""

    file_bytes_max: int = 4 << 20
    """Larger files are not small: reading ahead within them hides the store's latency."""
    window_first: int = 2
    """Two names in a row may be chance: in a shuffled directory of 500 files 3 % of the opens are."""
    window_max: int = 512
    """Files in front of one stream: 100 kB each, a 1 GB/s link at 50 ms."""
    window_bytes_max: int = 64 << 20
    """The same for larger files, as in ``read.readahead``."""
    scatter_share: float = 1 / 128
    """Part of the group opened in no order that makes an epoch, if it was opened within ``recent_seconds``: 4 of 500
    files, 78 of 10,000.  A person who looks into files takes longer."""
    recent_seconds: float = 30.0
    scatter_step: int = 32
    """As many as GETs are in flight: one or two opens fill the link."""
    scatter_step_bytes: int = 16 << 20
    reach_bytes: int = 1 << 30
    """Most that can be ahead of all readers.  Shuffled groups that together are over REACH_SHARE times as large are
    left alone: hardly an open would meet what was fetched, and a small cache would lose it before."""


REACH_SHARE: Final = 2
"""With a reach of a quarter of the cache, what is still to be read fits into half of it: a file fetched ahead is opened
before it is evicted."""


class Sibling(NamedTuple):
    """A file of the directory."""

    nodeid: int
    name: bytes
    size: int


@dataclass(slots=True)
class _Stream:
    """One reader going through an order; places are ranks within it."""

    last: int
    step: int
    ahead: int
    """First rank not looked at yet."""
    window: int
    seen: int
    """Count of the group's opens at the last one that continued it."""
    opens: int = 2
    asked: int = 0
    used: int = 0
    used_before: int = 0
    passed_before: int = 0
    """``used``, and how many asked for lay behind the reader, when the window was last moved."""


@final
class _Order:
    """One order in which a group may be read, and who reads in it."""

    def __init__(self, index_at: Sequence[int], rank_of: Sequence[int]) -> None:
        self.index_at = index_at
        self.rank_of = rank_of
        self.streams: list[_Stream] = []
        self.seeds: deque[int] = deque(maxlen=SEEDS)

    def follow(self, rank: int, opens: int) -> _Stream | None:
        """The stream that an open, the group's ``opens``-th, continues."""
        for stream in self.streams:
            if stream.opens == 2 and opens - stream.seen > STREAMS_MAX:
                continue  # a chance pair: a reader would have come back by now
            step = stream.step
            moved, rest = divmod(rank - stream.last, step)
            near = NEAR_FILES if stream.opens > 2 else 2
            if rest == 0 and -near <= moved <= max(near, (stream.ahead - stream.last) // step):
                if moved > 0:
                    stream.last = rank
                stream.opens += 1
                return stream
        return None

    def begins(self, rank: int) -> int:
        """The step of the stream that begins with this open and an earlier one, or 0."""
        for seed in self.seeds:
            if abs(rank - seed) == 1:
                return rank - seed
        if len(self.seeds) >= 2:
            step = rank - self.seeds[-1]
            if 1 < abs(step) <= STRIDE_MAX and self.seeds[-1] - self.seeds[-2] == step:
                return step
        self.seeds.append(rank)
        return 0


@final
class _Group:
    """Files of one suffix, indexed in key order."""

    def __init__(self, nodeids: array[int], sizes: array[int], listed: Sequence[int], config: NeighbourConfig) -> None:
        count = len(nodeids)
        self.nodeids = nodeids
        self._sizes = sizes
        self._config = config
        self._state = bytearray(count)
        self._orders = [_Order(range(count), range(count))]
        if listed != range(count):
            ranks = array("I", bytes(4 * count))
            for rank, index in enumerate(listed):
                ranks[index] = rank
            self._orders.append(_Order(listed, ranks))
        self._opens = 0
        self._unread = count
        self._bytes = self.unread_bytes = sum(sizes)
        self.ahead_files = 0
        self.ahead_bytes = 0
        """Asked for and not opened yet."""
        self._window_first = config.window_first
        self._window_max = max(
            config.window_first, min(config.window_max, config.window_bytes_max * count // max(self._bytes, 1))
        )
        self._confirmed_by = max(SCATTER_FILES_MIN, round(count * config.scatter_share))
        """So many opens make a pattern of no order, or a new epoch."""
        self._evidence: deque[float] = deque(maxlen=self._confirmed_by)
        self._again: set[int] = set()
        self._disorder = 0
        """A bit for each of the last opens, set where it continued no stream."""
        self._scatter_window = 0
        self._scatter_step = config.scatter_step
        self._cursor = 0
        self._hits_expected = 0.0
        self._hits = 0

    def opened(self, index: int, now: float, cached: bool, room_bytes: int, others_bytes: int) -> list[int]:
        """Note an open; returns indexes worth fetching."""
        was = self._state[index]
        if was == _READ:
            self._again.add(index)
            if len(self._again) < self._confirmed_by:
                return []
            self._again.discard(index)
            self._begin_epoch()
            was = self._state[index]
        ahead_before, unread_before = self.ahead_files, self._unread
        self._opens += 1
        self._set_read(index, was)
        used = was != _UNREAD
        lost = was == _ARRIVED and not cached
        wanted: list[int] = []
        explained = False
        for order in self._orders:
            stream = self._stream_of(order, order.rank_of[index])
            if stream is None:
                continue
            explained = True
            stream.seen = self._opens
            stream.used += used
            if lost:
                stream.window = max(1, stream.window // 2)
            wanted += self._extend(order, stream, room_bytes - sum(self._sizes[one] for one in wanted))
        self._disorder = (self._disorder << 1 | (not explained)) & DISORDER_MASK
        if not explained:
            self._evidence.append(now)
            self._judge(ahead_before / max(unread_before, 1), used, lost)
        if len(self._evidence) == self._confirmed_by and now - self._evidence[0] <= self._config.recent_seconds:
            if not explained:
                self._scatter_window += self._scatter_step
            wanted += self._sweep(room_bytes - sum(self._sizes[one] for one in wanted), others_bytes)
        return wanted

    def _set_read(self, index: int, was: int) -> None:
        self._state[index] = _READ
        self._unread -= 1
        self.unread_bytes -= self._sizes[index]
        if was != _UNREAD:
            self.ahead_files -= 1
            self.ahead_bytes -= self._sizes[index]

    def _begin_epoch(self) -> None:
        """Files are opened again: what was opened before may be again, but for those that were."""
        # In one go: a group may have a million files, and whoever opens one of them waits for this.
        self._state = self._state.translate(_READ_TO_UNREAD)
        for index in self._again:
            self._state[index] = _READ
        self._unread = len(self._state) - len(self._again)
        self.unread_bytes = self._bytes - sum(self._sizes[index] for index in self._again)
        self._again.clear()
        self._cursor = 0
        self._evidence.clear()
        for order in self._orders:
            order.streams.clear()
            order.seeds.clear()

    def _stream_of(self, order: _Order, rank: int) -> _Stream | None:
        stream = order.follow(rank, self._opens)
        if stream is not None:
            return stream
        step = order.begins(rank)
        if step == 0:
            return None
        if len(order.streams) >= STREAMS_MAX:
            ended = min(order.streams, key=lambda known: known.seen)
            order.streams.remove(ended)
            # Readers that stop soon are not worth a long first window.
            wasted = ended.asked - ended.used > ended.asked // 2
            self._window_first = (
                max(1, self._window_first // 2) if wasted else min(self._config.window_first, self._window_first * 2)
            )
        stream = _Stream(rank, step, rank + step, self._window_first, self._opens)
        order.streams.append(stream)
        return stream

    def _extend(self, order: _Order, stream: _Stream, room_bytes: int) -> list[int]:
        """Files in front of a stream, once half of its window has been used up."""
        if stream.opens == 2 and self._disorder.bit_count() >= DISORDER_MIN:
            return []
        in_front = max(0, (stream.ahead - stream.last) // stream.step - 1)
        if in_front > stream.window // 2:
            return []
        passed = stream.asked - in_front
        if 2 * (stream.used - stream.used_before) < passed - stream.passed_before:
            stream.window = max(1, stream.window // WINDOW_GROWTH)  # it reads here and there
        elif stream.used > stream.used_before:
            stream.window = min(stream.window * WINDOW_GROWTH, self._window_max)
        stream.used_before, stream.passed_before = stream.used, passed
        if in_front == 0:
            stream.ahead = stream.last + stream.step
        wanted: list[int] = []
        # Files that others have read are passed over, but not without end: that is work for each open.
        for _ in range(4 * stream.window):
            if in_front + len(wanted) >= stream.window or not 0 <= stream.ahead < len(self._state):
                break
            index = order.index_at[stream.ahead]
            if self._state[index] == _UNREAD:
                room_bytes -= self._sizes[index]
                if room_bytes < 0:
                    break
                self._ask(index)
                wanted.append(index)
            stream.ahead += stream.step
        stream.asked += len(wanted)
        return wanted

    def _sweep(self, room_bytes: int, others_bytes: int) -> list[int]:
        """Any files nobody has opened, as many as scatter may have ahead."""
        wanted: list[int] = []
        room_bytes = min(room_bytes, self._config.scatter_step_bytes)
        if self.unread_bytes + others_bytes > REACH_SHARE * self._config.reach_bytes:
            return wanted
        while self.ahead_files < self._scatter_window and self._cursor < len(self._state):
            if self._state[self._cursor] == _UNREAD:
                room_bytes -= self._sizes[self._cursor]
                if room_bytes < 0:
                    break
                self._ask(self._cursor)
                wanted.append(self._cursor)
            self._cursor += 1
        return wanted

    def _judge(self, chance: float, used: bool, lost: bool) -> None:
        """Compare how many opens met what was fetched with how many would have by chance."""
        if lost:
            self._slow_down()
            return
        self._hits_expected += chance
        self._hits += used
        if self._hits_expected < SCATTER_JUDGED:
            return
        if self._hits < self._hits_expected / 4:
            self._slow_down()
        elif self._hits > self._hits_expected / 2:
            self._scatter_step = min(self._config.scatter_step, max(1, self._scatter_step * 2))
        self._hits_expected, self._hits = 0.0, 0

    def _slow_down(self) -> None:
        self._scatter_step //= 2
        self._scatter_window = self.ahead_files // 2

    def _ask(self, index: int) -> None:
        self._state[index] = _ASKED
        self.ahead_files += 1
        self.ahead_bytes += self._sizes[index]

    def arrived(self, index: int) -> None:
        """A file that was asked for is cached."""
        if self._state[index] == _ASKED:
            self._state[index] = _ARRIVED

    def gave_up(self, index: int) -> None:
        """A file that was asked for will not be fetched; it counts as read, so that nobody asks again this epoch."""
        if self._state[index] in (_ASKED, _ARRIVED):
            self._set_read(index, _ASKED)

    def is_waiting(self, index: int) -> bool:
        """Asked for, and neither opened nor arrived."""
        return self._state[index] == _ASKED


class _Members:
    """Files of one suffix while a listing is read."""

    def __init__(self) -> None:
        self._nodeids = array("Q")
        self._sizes = array("I")
        self._names: list[bytes] = []

    def add(self, sibling: Sibling, with_name: bool) -> None:
        """The next file of the listing."""
        self._nodeids.append(sibling.nodeid)
        self._sizes.append(sibling.size)
        if with_name:
            self._names.append(sibling.name)

    def group(self, config: NeighbourConfig) -> _Group:
        """All of them in key order, as far as names were kept."""
        count = len(self._nodeids)
        if len(self._names) < count or all(one < two for one, two in itertools.pairwise(self._names)):
            return _Group(self._nodeids, self._sizes, range(count), config)
        by_name = sorted(range(count), key=self._names.__getitem__)
        listed = array("I", bytes(4 * count))
        for index, place in enumerate(by_name):
            listed[place] = index
        return _Group(
            array("Q", (self._nodeids[place] for place in by_name)),
            array("I", (self._sizes[place] for place in by_name)),
            listed,
            config,
        )


@final
class Neighbours:
    """History of one directory."""

    def __init__(self, siblings: Iterable[Sibling], config: NeighbourConfig | None = None) -> None:
        """``siblings`` are all files of the directory, in the order of its listing."""
        config = config or NeighbourConfig()
        members: dict[bytes, _Members] = {}
        count = 0
        for sibling in siblings:
            if 0 < sibling.size <= config.file_bytes_max:
                suffix = _suffix(sibling.name)
                known = suffix in members or len(members) < GROUPS_MAX - 1
                members.setdefault(suffix if known else b"", _Members()).add(sibling, count < SORTED_MAX)
                count += 1
        self._groups = [files.group(config) for files in members.values()]
        # A directory may hold a million names: compact arrays, and no objects.
        nodeids = array("Q")
        group_of = bytearray()
        for number, group in enumerate(self._groups):
            nodeids += group.nodeids
            group_of += bytes([number]) * len(group.nodeids)
        starts = [0, *itertools.accumulate(len(group.nodeids) for group in self._groups)]
        by_nodeid = sorted(range(len(nodeids)), key=nodeids.__getitem__)
        self._nodeids = array("Q", (nodeids[place] for place in by_nodeid))
        self._group_of = bytes(group_of[place] for place in by_nodeid)
        self._index_of = array("I", (place - starts[group_of[place]] for place in by_nodeid))

    def knows(self, nodeid: int) -> bool:
        """Whether it is one of the small files of the listing."""
        return self._find(nodeid) is not None

    def opened(
        self, nodeid: int, now_seconds: float, cached: bool, room_bytes: int, others_bytes: int = 0
    ) -> list[int]:
        """Note that a file is opened, wholly ``cached`` or not.

        Returns nodes worth fetching now, in this order, at most ``room_bytes`` of them.  ``others_bytes`` is what
        nobody has opened yet in other directories that are being read.
        """
        found = self._find(nodeid)
        if found is None:
            return []
        group, index = found
        wanted = group.opened(index, now_seconds, cached, room_bytes, others_bytes)
        return [group.nodeids[one] for one in wanted]

    def arrived(self, nodeid: int) -> None:
        """A node that was asked for is cached."""
        found = self._find(nodeid)
        if found is not None:
            found[0].arrived(found[1])

    def gave_up(self, nodeid: int) -> None:
        """A node that was asked for cannot be fetched."""
        found = self._find(nodeid)
        if found is not None:
            found[0].gave_up(found[1])

    def is_waiting(self, nodeid: int) -> bool:
        """Whether a node was asked for and nobody opened it meanwhile."""
        found = self._find(nodeid)
        return found is not None and found[0].is_waiting(found[1])

    @property
    def ahead_bytes(self) -> int:
        """Asked for and not opened."""
        return sum(group.ahead_bytes for group in self._groups)

    @property
    def unread_bytes(self) -> int:
        """Opened by nobody this epoch."""
        return sum(group.unread_bytes for group in self._groups)

    def _find(self, nodeid: int) -> tuple[_Group, int] | None:
        place = bisect_left(self._nodeids, nodeid)
        if place == len(self._nodeids) or self._nodeids[place] != nodeid:
            return None
        return self._groups[self._group_of[place]], self._index_of[place]


def _suffix(name: bytes) -> bytes:
    """``.jpg`` of a name; numbers and what is too long belong to the name itself."""
    stem, dot, suffix = name.rpartition(b".")
    if not dot or not stem or len(suffix) > SUFFIX_BYTES_MAX or suffix.isdigit():
        return b""
    return suffix.lower()
