"""Limited: bounds concurrency, requests a second and bytes a second of a driver.

A slot is held for as long as a request runs or its body is open, so a thread must close a body before it asks for the
next one.  Rates are token buckets: a caller sleeps until its share is free, and never beyond its deadline.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar, final

from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import DeadlineExceeded
from jindopy.ufs.base import BlockGets, Body, Driver, Rate
from jindopy.ufs.layer_base import BodyLayer, Layer

T = TypeVar("T")

_BURST_SECONDS = 0.1
"""How much of a rate may be saved up: below it, sleeps get shorter than timers are exact."""


class Bucket:
    """See ``base.Rate``."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._per_second = per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock.monotonic()

    def reserve(self, amount: float) -> float:
        """Take ``amount`` and return the seconds until it is there."""
        with self._lock:
            now = self._clock.monotonic()
            self._free_at = max(self._free_at, now - _BURST_SECONDS) + amount / self._per_second
            return max(0.0, self._free_at - now)


@final
class Limited(Layer):
    """Bounds concurrency, requests a second, bytes a second."""

    def __init__(
        self,
        inner: Driver,
        *,
        concurrency: int,
        requests_per_second: float | None = None,
        bytes_per_second: float | None = None,
        bytes_rate: Rate | None = None,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        super().__init__(inner)
        self._slots = threading.BoundedSemaphore(concurrency)
        self._clock = clock
        self._requests = Bucket(requests_per_second, clock) if requests_per_second else None
        self._bytes = Bucket(bytes_per_second, clock) if bytes_per_second else bytes_rate

    def get(self, key: bytes, offset: int, size_bytes: int, *, token: bytes | None, deadline: Deadline) -> Body:
        self._enter("get", deadline)
        try:
            body = self._inner.get(key, offset, size_bytes, token=token, deadline=deadline)
        except BaseException:
            self._slots.release()
            raise
        return _LimitedBody(self, body, deadline)

    def block_gets(self) -> BlockGets | None:
        """Whoever starts native GETs bounds their number; a rate that is counted here is not counted there."""
        return super().block_gets() if self._requests is None and self._bytes is None else None

    def leave(self) -> None:
        """A body was closed."""
        self._slots.release()

    def pay(self, count: int, deadline: Deadline) -> None:
        """Wait for the link's share of ``count`` bytes."""
        if self._bytes is not None:
            self._pause(self._bytes.reserve(count), "get", deadline)

    def _around(self, operation: str, deadline: Deadline, call: Callable[[], T]) -> T:
        self._enter(operation, deadline)
        try:
            return call()
        finally:
            self._slots.release()

    def _enter(self, operation: str, deadline: Deadline) -> None:
        if self._requests is not None:
            self._pause(self._requests.reserve(1), operation, deadline)
        # The longest wait a lock takes (centuries) stands for no limit.
        if not self._slots.acquire(timeout=min(deadline.remaining(), threading.TIMEOUT_MAX)):
            raise DeadlineExceeded(f"{self.endpoint}: {operation}: no free request slot in time")

    def _pause(self, seconds: float, operation: str, deadline: Deadline) -> None:
        if seconds <= 0:
            return
        if seconds >= deadline.remaining():
            raise DeadlineExceeded(f"{self.endpoint}: {operation}: the rate limit leaves no room in time")
        self._clock.sleep(seconds)


@final
class _LimitedBody(BodyLayer):
    def __init__(self, layer: Limited, inner: Body, deadline: Deadline) -> None:
        super().__init__(inner)
        self._layer = layer
        self._deadline = deadline
        self._open = True

    def readinto(self, target: memoryview) -> int:
        count = self._inner.readinto(target)
        self._layer.pay(count, self._deadline)
        return count

    def close(self) -> None:
        if self._open:
            self._open = False
            try:
                self._inner.close()
            finally:
                self._layer.leave()
