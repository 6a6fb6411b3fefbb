"""Faulty: fails a driver's requests and bodies on purpose, at named points, in an order that one seed decides."""

from __future__ import annotations

import enum
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, final

from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import ShortBody, Throttled, Unavailable
from jindopy.ufs.base import BlockGets, Body, Driver
from jindopy.ufs.layer_base import BodyLayer, Layer

T = TypeVar("T")


class Fault(enum.Enum):
    """Points at which Faulty can fail a request."""

    ERROR = "error"
    """A request ends with Unavailable."""
    THROTTLED = "throttled"
    """A request ends with Throttled."""
    SLOW = "slow"
    """A request takes ``slow_seconds`` longer."""
    RESET = "reset"
    """A body breaks within a read, after some of its bytes."""
    TRUNCATED = "truncated"
    """A body ends early, after some of its bytes."""


@dataclass(frozen=True)
class FaultPlan:
    """Which faults, how often, in which order: one seed, one sequence."""

    rates: Mapping[Fault, float] = field(default_factory=dict)
    """Share of requests (or reads of a body) that fail so, 0 to 1."""
    seed: int = 0
    limit: int | None = None
    """Faults in all; None: no end."""
    slow_seconds: float = 0.05


@final
class Faulty(Layer):
    """Fails requests and bodies on purpose; ``injected`` says how often."""

    def __init__(self, inner: Driver, plan: FaultPlan, clock: Clock = REAL_CLOCK) -> None:
        super().__init__(inner)
        self._plan = plan
        self._clock = clock
        self._lock = threading.Lock()
        self._random = random.Random(plan.seed)  # noqa: S311 - no secret depends on it
        self.injected: Counter[Fault] = Counter()

    def get(self, key: bytes, offset: int, size_bytes: int, *, token: bytes | None, deadline: Deadline) -> Body:
        return _FaultyBody(self, super().get(key, offset, size_bytes, token=token, deadline=deadline))

    def block_gets(self) -> BlockGets | None:
        """None: native GETs would pass by the faults."""
        return None

    def strikes(self, fault: Fault) -> bool:
        """Whether ``fault`` happens now."""
        with self._lock:
            rate = self._plan.rates.get(fault, 0.0)
            over = self._plan.limit is not None and self.injected.total() >= self._plan.limit
            if rate <= 0 or over or self._random.random() >= rate:
                return False
            self.injected[fault] += 1
            return True

    def share(self) -> float:
        """Which part of a read still arrives."""
        with self._lock:
            return self._random.random()

    def _around(self, operation: str, deadline: Deadline, call: Callable[[], T]) -> T:
        deadline.check(f"{self.endpoint}: {operation}")
        if self.strikes(Fault.SLOW):
            self._clock.sleep(deadline.bounded(self._plan.slow_seconds))
            deadline.check(f"{self.endpoint}: {operation}")
        if self.strikes(Fault.ERROR):
            raise Unavailable("injected: the server failed", endpoint=self.endpoint)
        if self.strikes(Fault.THROTTLED):
            raise Throttled("injected: the server asks for fewer requests", endpoint=self.endpoint)
        return call()


@final
class _FaultyBody(BodyLayer):
    def __init__(self, layer: Faulty, inner: Body) -> None:
        super().__init__(inner)
        self._layer = layer

    def readinto(self, target: memoryview) -> int:
        for fault, error in ((Fault.RESET, Unavailable), (Fault.TRUNCATED, ShortBody)):
            if len(target) and self._layer.strikes(fault):
                self._inner.readinto(target[: int(len(target) * self._layer.share())])
                raise error(f"injected: {fault.value}", endpoint=self._layer.endpoint)
        return self._inner.readinto(target)
