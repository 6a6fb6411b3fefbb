"""The timed loop under every test: so many readers, so many bytes and seconds at most.

Readers are threads that take the next operation from one iterator.  They tell of each piece they got and are told
whether to go on, so a slow answer is left in its middle when the time is over: its bytes count, the operation does not.
What nobody got yet when the time is over is simply not asked for.

Bounds   the budget's bytes are passed by at most a piece a reader, its seconds by the deadline of one request.
Threads  the caller's thread only waits, shows progress and notices Ctrl-C; readers are daemon threads, so one that a
         dead server holds cannot keep the program alive.
Locks    one, around the iterator and the sums.
Failure  the first error ends the test and is raised to the caller.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar, final

from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.measure.meters import Counts, Meter
from jindopy.measure.verdict import Row

T = TypeVar("T")

PIECE_BYTES: Final = 256 << 10
"""What a reader takes at once: a link of 1 MB/s is asked whether to stop four times a second."""
TICK_SECONDS: Final = 0.1
END_SECONDS: Final = 1.0
"""How long an interrupted test waits for its readers."""


@dataclass(frozen=True)
class Budget:
    """What one test may take."""

    bytes: int
    seconds: float


class Watch(Protocol):
    """Is told how far a test is."""

    def __call__(self, test: str, done: float, /) -> None:
        """``done`` from 0 to 1."""
        ...


GoOn = Callable[[int], bool]
"""Told of so many more bytes; answers whether to go on."""


@final
class _Run(Generic[T]):
    """One test's shared state."""

    def __init__(self, work: Iterable[T], budget: Budget, clock: Clock, cost_bytes: int) -> None:
        self._work: Iterator[T] = iter(work)
        self._budget = budget
        self._cost_bytes = cost_bytes
        self._charged = 0
        self._lock = threading.Lock()
        self.clock = clock
        self.deadline = Deadline.after(budget.seconds, clock)
        self.stopped = False
        self.error: BaseException | None = None
        self.bytes = 0
        self.latencies: list[float] = []

    def next(self) -> T | None:
        """Another operation, or None: it is over."""
        with self._lock:
            if self._over():
                return None
            self._charged += self._cost_bytes
            return next(self._work, None)

    def took(self, count: int) -> bool:
        with self._lock:
            self.bytes += count
            if not self._cost_bytes:
                self._charged += count
            return not self._over()

    def finished(self, seconds: float) -> None:
        with self._lock:
            self.latencies.append(seconds)

    def fail(self, error: BaseException) -> None:
        with self._lock:
            self.error = self.error or error

    def _over(self) -> bool:
        return self.stopped or self.error is not None or self._charged >= self._budget.bytes or self.deadline.passed

    @property
    def done(self) -> float:
        used = 1.0 - self.deadline.remaining() / self._budget.seconds
        return min(1.0, max(self._charged / self._budget.bytes, used))


def run(
    test: str,
    work: Iterable[T],
    read: Callable[[T, memoryview, GoOn], bool],
    *,
    readers: int,
    budget: Budget,
    meter: Meter,
    watch: Watch,
    state: str = "first",
    cost_bytes: int = 0,
    clock: Clock = REAL_CLOCK,
) -> Row:
    """Have ``readers`` threads call ``read`` for each piece of work; it answers whether it came to the end.

    ``cost_bytes`` is what one operation takes from the budget where that is more than what it returns.
    """
    shared: _Run[T] = _Run(work, budget, clock, cost_bytes)
    threads = [threading.Thread(target=_reader, args=(shared, read), daemon=True) for _ in range(readers)]
    before, started = meter.counts(), clock.monotonic()
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(TICK_SECONDS)
                watch(test, shared.done)
    except BaseException:
        shared.stopped = True
        for thread in threads:
            if thread.ident is not None:
                thread.join(END_SECONDS)
        raise
    seconds = clock.monotonic() - started
    if shared.error is not None:
        raise shared.error
    return make_row(test, state, readers, shared.latencies, shared.bytes, seconds, before, meter.counts())


def _reader(shared: _Run[T], read: Callable[[T, memoryview, GoOn], bool]) -> None:
    buffer = memoryview(bytearray(PIECE_BYTES))
    try:
        while (item := shared.next()) is not None:
            started = shared.clock.monotonic()
            if read(item, buffer, shared.took):
                shared.finished(shared.clock.monotonic() - started)
    except BaseException as error:  # noqa: BLE001 - raised again where the caller waits
        shared.fail(error)


def make_row(
    test: str,
    state: str,
    readers: int,
    latencies: list[float],
    size_bytes: int,
    seconds: float,
    before: Counts,
    after: Counts,
) -> Row:
    """A row from what was counted."""
    ordered = sorted(latencies)
    return Row(
        test=test,
        state=state,
        readers=readers,
        operations=len(ordered),
        requests=len(ordered),
        bytes=size_bytes,
        seconds=seconds,
        median_seconds=statistics.median(ordered) if ordered else 0.0,
        p99_seconds=ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] if ordered else 0.0,
        cpu_seconds=after.cpu_seconds - before.cpu_seconds,
        daemon_cpu_seconds=after.daemon_cpu_seconds - before.daemon_cpu_seconds,
        disk_bytes=_less(after.disk_bytes, before.disk_bytes),
        store_bytes=_less(after.store_bytes, before.store_bytes),
        store_requests=after.store_requests - before.store_requests,
        served_bytes=_less(after.served_bytes, before.served_bytes),
    )


def _less(after: int | None, before: int | None) -> int | None:
    return None if after is None or before is None else after - before
