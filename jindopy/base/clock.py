"""Time as a value: a ``Clock`` that tests can steer, and ``Deadline``, made once at the edge and passed down.

No other file of the package reads a clock (a test checks that): what is told the time can be tested without waiting.
"""

from __future__ import annotations

import time
from typing import Protocol, final

from jindopy.base.errors import DeadlineExceeded


class Clock(Protocol):
    """What the program knows of time."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since 1970, UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


@final
class RealClock:
    """The machine's clock."""

    def monotonic(self) -> float:
        """Seconds since some moment, never going back."""
        return time.monotonic()

    def wall_ns(self) -> int:
        """Nanoseconds since 1970, UTC."""
        return time.time_ns()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


@final
class SimulatedClock:
    """A clock that stands still until told otherwise; ``sleep`` moves it."""

    def __init__(self, start_seconds: float = 1_000.0, wall_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now = start_seconds
        self._wall_ns = wall_ns
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """The simulated seconds."""
        return self._now

    def wall_ns(self) -> int:
        """The simulated wall clock."""
        return self._wall_ns

    def sleep(self, seconds: float) -> None:
        """Advance at once, and remember how long was asked for."""
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self._now += seconds
        self._wall_ns += round(seconds * 1e9)


REAL_CLOCK = RealClock()


@final
class Deadline:
    """The moment by which an answer is due.

    Immutable.  ``Deadline.never()`` exists for background work that is bounded by other means.
    """

    __slots__ = ("_at", "_clock")

    def __init__(self, at: float, clock: Clock = REAL_CLOCK) -> None:
        self._at = at
        self._clock = clock

    @classmethod
    def after(cls, seconds: float, clock: Clock = REAL_CLOCK) -> Deadline:
        """``seconds`` from now."""
        return cls(clock.monotonic() + seconds, clock)

    @classmethod
    def never(cls) -> Deadline:
        """No limit."""
        return cls(float("inf"))

    def remaining(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._at - self._clock.monotonic())

    def bounded(self, seconds: float) -> float:
        """Seconds left but at most ``seconds``: for one attempt's socket timeout."""
        return min(seconds, self.remaining())

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self._clock.monotonic() >= self._at

    def check(self, what: str) -> None:
        """Raise DeadlineExceeded naming ``what`` if the time is over."""
        if self.passed:
            raise DeadlineExceeded(f"{what}: no answer in time")
