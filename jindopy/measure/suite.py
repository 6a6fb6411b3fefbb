"""The tests in their order, the same for storage and directories.

    list ─ find ─ probe the latency ─ sequential by 1, n/4 and n readers ─ random 1 MiB, 4 KiB ─ small by 1 and n ─ stat

Listing comes first because it finds what the others read; the ramp of sequential readers tells the link.  On a mount,
tests that the storage had to answer run once more over the very same pieces, now cached.

Bounds   each test ends at its budget of bytes or seconds.  Before each the page cache is told to forget the files.
Failure  what cannot be measured (no large file) is skipped with the reason; an error of the target ends the suite.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.ident import BLOCK_BYTES
from jindopy.measure.loop import Budget, Watch, make_row, run
from jindopy.measure.meters import Meter
from jindopy.measure.sample import Entry, Piece, Sample, at_random, in_order, whole
from jindopy.measure.targets import Target
from jindopy.measure.verdict import Row

RANGE_BYTES: Final = 8 << 20
"""What a sequential reader asks for at once: a load's GETs."""
RANDOM: Final = (("random 1 MiB", 1 << 20), ("random 4 KiB", 4 << 10))
PROBES: Final = 30
PROBE_SECONDS: Final = 2.0
STATS_MAX: Final = 1000
COLD_MIN: Final = 0.1
"""Of the bytes of a test, from the storage: then it is worth seeing how fast they come from the cache."""

TESTS: Final = ("list", "sequential", "random", "small", "stat")


@dataclass(frozen=True)
class Plan:
    """What to do and how much of it."""

    budget: Budget
    readers: int
    entries_max: int = 10_000
    tests: Sequence[str] = TESTS
    file: str | None = None
    """The one to read instead of the largest found."""
    forget: bool = True
    """Drop files from the page cache before they are measured."""
    fills_cache: bool = False
    """A mount: a read of 4 KiB fetches a block, and reading again finds it cached."""


@dataclass
class Findings:
    """What the suite measured."""

    rows: list[Row] = field(default_factory=list)
    probes: Row | None = None
    skipped: list[str] = field(default_factory=list)
    entries: int = 0
    bytes: int = 0
    """Of the entries looked at."""
    complete: bool = True
    """Whether those were all."""

    @property
    def ramp(self) -> list[Row]:
        """Sequential reads, by number of readers."""
        return [row for row in self.rows if row.test == "sequential" and row.state == "first"]


@final
class Suite:
    """Runs once over a target."""

    def __init__(self, target: Target, plan: Plan, meter: Meter, watch: Watch, clock: Clock = REAL_CLOCK) -> None:
        self._target = target
        self._plan = plan
        self._meter = meter
        self._watch = watch
        self._clock = clock
        self.found = Findings()

    def run(self, *, probe: bool) -> Findings:
        """All tests of the plan; ``probe``: find out how long a request for one byte takes."""
        sample = self._list()
        large, small = sample.large, sample.small
        if self._plan.file is not None:
            large = [self._target.find(self._plan.file)]
        some = [*small, *large]
        if not some:
            self.found.skipped.append("everything but the listing: no file with content among those looked at")
            return self.found
        if probe:
            self._probe(some)
        if self._wanted("sequential", large, "no file of 8 MiB or more among those looked at; name one with --file"):
            self._sequential(large)
        if self._wanted("random", large, "no file of 8 MiB or more"):
            for name, size in RANDOM:
                self._random(large, name, size)
        if self._wanted("small", small, "no file of at most 1 MiB"):
            self._small(small)
        if self._wanted("stat", some, ""):
            self._stat(some)
        return self.found

    def _wanted(self, test: str, files: Sequence[Entry], why_not: str) -> bool:
        if test not in self._plan.tests:
            return False
        if not files:
            self.found.skipped.append(f"{test}: {why_not}")
        return bool(files)

    def _list(self) -> Sample:
        """Fill the sample; a row if it is wanted."""
        sample = Sample()
        found, times = self.found, []
        budget = self._plan.budget
        deadline = Deadline.after(budget.seconds, self._clock)
        before = self._meter.counts()
        started = last = self._clock.monotonic()
        for page in self._target.pages():
            now = self._clock.monotonic()
            times.append(now - last)
            last = now
            sample.add(page)
            found.entries += len(page)
            found.bytes += sum(entry.size for entry in page)
            self._watch("list", min(1.0, found.entries / self._plan.entries_max))
            if found.entries >= self._plan.entries_max or deadline.passed:
                found.complete = False
                break
        if "list" in self._plan.tests:
            row = make_row("list", "first", 1, times, 0, last - started, before, self._meter.counts())
            found.rows.append(Row(**{**vars(row), "operations": found.entries}))
        return sample

    def _probe(self, entries: Sequence[Entry]) -> None:
        """Requests for the first byte, one at a time; the first of them pays for the connection and is left out."""
        pieces = [Piece(entry, 0, 1) for entry in itertools.islice(itertools.cycle(entries), PROBES)]
        budget = Budget(self._plan.budget.bytes, PROBE_SECONDS)
        self._run("latency", pieces[:1], 1, budget)
        self.found.probes = self._run("latency", pieces[1:], 1, budget)

    def _sequential(self, large: Sequence[Entry]) -> None:
        """Each step of the ramp begins where the one before would have ended, so that no cache helps it."""
        budget_bytes = self._plan.budget.bytes
        there = min(budget_bytes, sum(entry.size for entry in large))
        # With fewer ranges than readers a small file would seem to be read by all of them.
        size = max(BLOCK_BYTES, min(RANGE_BYTES, there // (2 * self._plan.readers)))
        most = self._most(there // size)
        for step, readers in enumerate(sorted({1, max(1, most // 4), most})):
            pieces = functools.partial(in_order, large, size, budget_bytes, step * budget_bytes)
            self._measure("sequential", large, pieces, readers)

    def _random(self, large: Sequence[Entry], name: str, size: int) -> None:
        count = sum(entry.size // size for entry in large)
        if not count:
            self.found.skipped.append(f"{name}: the file is smaller")
            return
        cost = max(size, BLOCK_BYTES) if self._plan.fills_cache else 0
        pieces = functools.partial(at_random, large, size, seed=size)
        self._measure(name, large, pieces, self._most(count), cost)

    def _small(self, small: Sequence[Entry]) -> None:
        """By one reader and by many, each a half: what one brought into a cache must not help the other."""
        halves = (small[: len(small) // 2], small[len(small) // 2 :]) if len(small) > 1 else (small, small)
        for half, readers in zip(halves, (1, self._most(len(halves[1]))), strict=True):
            self._measure("small files", half, functools.partial(whole, half), readers)

    def _most(self, operations: int) -> int:
        """Readers that have something to do."""
        return max(1, min(self._plan.readers, operations))

    def _stat(self, entries: Sequence[Entry]) -> None:
        some = entries[:STATS_MAX]
        for readers in sorted({1, self._most(len(some))}):
            row = run(
                "stat",
                some,
                lambda entry, _buffer, _go_on: self._target.stat(entry),
                readers=readers,
                budget=self._plan.budget,
                meter=self._meter,
                watch=self._watch,
                clock=self._clock,
            )
            self.found.rows.append(row)

    def _measure(
        self,
        test: str,
        files: Sequence[Entry],
        pieces: Callable[[], Iterable[Piece]],
        readers: int,
        cost_bytes: int = 0,
    ) -> None:
        """One row, and one more over the same pieces where the storage had to answer."""
        self._forget(files)
        row = self._run(test, pieces(), readers, self._plan.budget, cost_bytes)
        self.found.rows.append(row)
        if self._plan.fills_cache and (row.store_bytes or 0) > COLD_MIN * row.bytes:
            self._forget(files)
            same = itertools.islice(pieces(), row.operations)
            self.found.rows.append(self._run(test, same, readers, self._plan.budget, cost_bytes, "again"))

    def _forget(self, files: Sequence[Entry]) -> None:
        if self._plan.forget:
            self._target.forget(files)

    def _run(
        self,
        test: str,
        pieces: Iterable[Piece],
        readers: int,
        budget: Budget,
        cost_bytes: int = 0,
        state: str = "first",
    ) -> Row:
        try:
            return run(
                test,
                pieces,
                self._target.read,
                readers=readers,
                budget=budget,
                meter=self._meter,
                watch=self._watch,
                state=state,
                cost_bytes=cost_bytes,
                clock=self._clock,
            )
        finally:
            self._target.let_go()
