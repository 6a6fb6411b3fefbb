from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jindopy.base.clock import Deadline, SimulatedClock
from jindopy.base.errors import JindoError, ObjectNotFound, Unavailable
from jindopy.base.retry import RetryPolicy, backoff_seconds, run


def failing(times: int, error: type[JindoError] = Unavailable) -> Callable[[], str]:
    left = iter(range(times))

    def attempt() -> str:
        if next(left, None) is not None:
            raise error("no luck")
        return "done"

    return attempt


@given(
    failures=st.integers(1, 10_000),
    draw=st.floats(0, 1, exclude_max=True),
    base=st.floats(0.001, 10),
    cap=st.floats(0.001, 60),
)
def test_waits_stay_below_cap_and_double_at_most(failures: int, draw: float, base: float, cap: float) -> None:
    policy = RetryPolicy(base_seconds=base, cap_seconds=cap)
    wait = backoff_seconds(policy, failures, draw)
    assert 0 <= wait <= cap
    assert wait <= base * 2.0 ** min(failures - 1, 30)


def test_a_try_that_fails_twice_succeeds_after_two_waits() -> None:
    clock = SimulatedClock()
    told: list[float] = []
    result = run(
        failing(2),
        policy=RetryPolicy(),
        deadline=Deadline.after(60, clock),
        clock=clock,
        draw=lambda: 0.5,
        on_retry=lambda _, seconds: told.append(seconds),
    )
    assert result == "done"
    assert clock.slept == told == pytest.approx([0.05, 0.1])


def test_the_last_error_comes_out_when_tries_run_out() -> None:
    clock = SimulatedClock()
    with pytest.raises(Unavailable):
        run(failing(99), policy=RetryPolicy(attempts=4), deadline=Deadline.after(600, clock), clock=clock)
    assert len(clock.slept) == 3


def test_what_never_passes_by_itself_is_not_repeated() -> None:
    clock = SimulatedClock()
    with pytest.raises(ObjectNotFound):
        run(failing(1, ObjectNotFound), policy=RetryPolicy(), deadline=Deadline.after(60, clock), clock=clock)
    assert clock.slept == []


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    clock = SimulatedClock()
    deadline = Deadline.after(1.0, clock)
    policy = RetryPolicy(attempts=99, base_seconds=0.4, cap_seconds=9)
    with pytest.raises(Unavailable):
        run(failing(99), policy=policy, deadline=deadline, clock=clock, draw=lambda: 0.999)
    assert deadline.remaining() > 0
    assert sum(clock.slept) < 1.0


def test_errors_that_are_not_ours_pass_at_once() -> None:
    def broken() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        run(broken, policy=RetryPolicy(), deadline=Deadline.never())
