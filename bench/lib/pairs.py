"""Interleaved pairs: reference and measured side take turns, so that a slow minute of the machine hits both."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

PAIRS = 5

Record = Callable[..., None]
"""``record(name, value, **facts)``, the fixture."""

Pairs = Callable[[Callable[[], float], Callable[[], float]], tuple[list[float], list[float]]]
"""``pairs(reference, measured)``, the fixture: the seconds of both sides, in order."""


def median_ratio(above: list[float], below: list[float]) -> float:
    """Median of the ratios of pairs that were measured together."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def traffic_facts(told: list[dict[str, Any]]) -> dict[str, Any]:
    """What is recorded beside a figure: medians over the runs of what the daemon counted, each run a new mount."""
    counters = {"daemon_requests": "fuse_requests", "server_gets": "ufs_gets", "server_bytes": "ufs_bytes"}
    return {
        fact: statistics.median(traffic[counter] for traffic in told)
        for fact, counter in counters.items()
        if all(counter in traffic for traffic in told)
    }
