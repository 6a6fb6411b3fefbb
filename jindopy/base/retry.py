"""Backoff with jitter: the schedule is a pure function, ``run`` is the one place that sleeps and tries again.

Full jitter: the n-th wait is uniform in [0, min(cap, base * 2**n)].  Many clients that failed together come back
spread out, at the price of some quick second tries.  A try is repeated only for errors whose ``retryable`` is set, and
never beyond the deadline: a wait that would pass it raises the last error at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import JindoError

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long to wait."""

    attempts: int = 6
    """Tries in all, the first included."""
    base_seconds: float = 0.1
    cap_seconds: float = 5.0


def backoff_seconds(policy: RetryPolicy, failures: int, draw: float) -> float:
    """Wait after ``failures`` (≥ 1) failed tries; ``draw`` is uniform in [0, 1)."""
    return draw * min(policy.cap_seconds, policy.base_seconds * 2.0 ** min(failures - 1, 30))


def run(
    attempt: Callable[[], T],
    *,
    policy: RetryPolicy,
    deadline: Deadline,
    clock: Clock = REAL_CLOCK,
    draw: Callable[[], float] = random.random,
    on_retry: Callable[[JindoError, float], None] | None = None,
) -> T:
    """Call ``attempt`` until it succeeds, fails for good, or tries or time run out; raises its last error."""
    failures = 0
    while True:
        try:
            return attempt()
        except JindoError as error:
            failures += 1
            if not error.retryable or failures >= policy.attempts:
                raise
            wait_seconds = backoff_seconds(policy, failures, draw())
            if wait_seconds >= deadline.remaining():
                raise
            if on_retry is not None:
                on_retry(error, wait_seconds)
            clock.sleep(wait_seconds)
