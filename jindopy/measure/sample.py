"""Which of the files that a listing shows are measured: a few large ones, many small ones.  P: kept as pages go by.

Never more than ``SMALL_MAX`` entries are remembered, however many there are.  The small ones are shuffled, so that two
halves of them are alike, in an order that is the same every time.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, final

SMALL_BYTES_MAX: Final = 1 << 20
"""One block: a file that a single request brings."""
LARGE_BYTES_MIN: Final = 8 << 20
"""Below it a sequential reader is still getting up to speed when the file ends."""
LARGE_MAX: Final = 8
SMALL_MAX: Final = 4000
SHUFFLED_MAX: Final = 1 << 17
"""Pieces: half a GiB in 4 KiB; of more, few are met twice by chance."""
SEED: Final = 1


class Entry(NamedTuple):
    """One file."""

    name: bytes
    """Key or path."""
    size: int


class Piece(NamedTuple):
    """A range of a file to read as one operation."""

    entry: Entry
    offset: int
    size: int


@final
class Sample:
    """Filled by ``add`` while a listing goes on."""

    def __init__(self) -> None:
        self._large: list[tuple[int, bytes]] = []
        self._small: list[Entry] = []

    def add(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.size >= LARGE_BYTES_MIN:
                heapq.heappush(self._large, (entry.size, entry.name))
                if len(self._large) > LARGE_MAX:
                    heapq.heappop(self._large)
            elif 0 < entry.size <= SMALL_BYTES_MAX and len(self._small) < SMALL_MAX:
                self._small.append(entry)

    @property
    def large(self) -> list[Entry]:
        """The largest first."""
        return [Entry(name, size) for size, name in sorted(self._large, reverse=True)]

    @property
    def small(self) -> list[Entry]:
        shuffled = list(self._small)
        random.Random(SEED).shuffle(shuffled)  # noqa: S311 - an order, not a secret
        return shuffled


def in_order(entries: Sequence[Entry], size_bytes: int, budget_bytes: int, skip_bytes: int = 0) -> Iterator[Piece]:
    """One after the other in pieces, until the budget is used or each was read once.

    It begins ``skip_bytes`` behind the start, so that tests of one file need not all read the same of it; behind the
    end comes the start.
    """
    start = skip_bytes % max(1, sum(entry.size for entry in entries))
    left = budget_bytes
    for piece in itertools.chain(_pieces(entries, size_bytes, start, None), _pieces(entries, size_bytes, 0, start)):
        if left <= 0:
            return
        left -= piece.size
        yield piece


def _pieces(entries: Sequence[Entry], size_bytes: int, start: int, end: int | None) -> Iterator[Piece]:
    """Pieces that begin from ``start`` on and before ``end``, both counted over all entries."""
    base = 0
    for entry in entries:
        first = max(0, -(-(start - base) // size_bytes) * size_bytes)
        for offset in range(first, entry.size, size_bytes):
            if end is not None and base + offset >= end:
                return
            yield Piece(entry, offset, min(size_bytes, entry.size - offset))
        base += entry.size


def at_random(entries: Sequence[Entry], size_bytes: int, seed: int) -> Iterator[Piece]:
    """Aligned pieces anywhere in the files, none twice as long as a list of them is not too long to shuffle."""
    source = random.Random(seed)  # noqa: S311 - places, not secrets
    ends = list(itertools.accumulate(entry.size // size_bytes for entry in entries))
    count = ends[-1] if ends else 0
    numbers: Iterable[int] = (
        source.sample(range(count), count)
        if count <= SHUFFLED_MAX
        else (source.randrange(count) for _ in itertools.repeat(None))
    )
    for number in numbers:
        index = bisect.bisect_right(ends, number)
        before = ends[index - 1] if index else 0
        yield Piece(entries[index], (number - before) * size_bytes, size_bytes)


def whole(entries: Sequence[Entry]) -> Iterator[Piece]:
    """Each file at once."""
    return (Piece(entry, 0, entry.size) for entry in entries)
