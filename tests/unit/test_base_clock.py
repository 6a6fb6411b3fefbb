from __future__ import annotations

import time

import pytest

from jindopy.base.clock import REAL_CLOCK, Deadline, SimulatedClock
from jindopy.base.errors import DeadlineExceeded


def test_the_real_clock_is_the_machines() -> None:
    before = time.monotonic()
    REAL_CLOCK.sleep(0.01)
    assert REAL_CLOCK.monotonic() - before >= 0.01
    assert abs(REAL_CLOCK.wall_ns() - time.time_ns()) < 10**9


def test_a_simulated_clock_moves_only_when_told() -> None:
    clock = SimulatedClock(start_seconds=5, wall_ns=10)
    assert (clock.monotonic(), clock.wall_ns()) == (5, 10)
    clock.sleep(1.5)
    assert (clock.monotonic(), clock.wall_ns()) == (6.5, 1_500_000_010)
    assert clock.slept == [1.5]


def test_a_deadline_counts_down_and_passes() -> None:
    clock = SimulatedClock()
    deadline = Deadline.after(2, clock)
    assert deadline.remaining() == pytest.approx(2)
    assert deadline.bounded(0.5) == 0.5
    clock.advance(1.75)
    assert deadline.bounded(0.5) == pytest.approx(0.25)
    deadline.check("GET")
    clock.advance(0.25)
    assert deadline.passed
    assert deadline.remaining() == 0
    clock.advance(10)
    assert deadline.remaining() == 0
    with pytest.raises(DeadlineExceeded, match="GET: no answer in time"):
        deadline.check("GET")


def test_never_is_never() -> None:
    deadline = Deadline.never()
    assert not deadline.passed
    assert deadline.bounded(7) == 7
