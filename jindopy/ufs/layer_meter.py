"""Metered: counts a driver's requests by outcome, and the body bytes it received."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, final

from jindopy.base import metrics
from jindopy.base.clock import Deadline
from jindopy.base.errors import JindoError
from jindopy.ufs.base import BlockGets, Body, Driver
from jindopy.ufs.layer_base import BodyLayer, Layer

if TYPE_CHECKING:
    from jindopy._ext.httpblocks import BlockGet

T = TypeVar("T")


@final
class Metered(Layer):
    """Counts requests by outcome, and body bytes."""

    def __init__(self, inner: Driver) -> None:
        super().__init__(inner)
        # A look-up by labels costs more than the rest of this layer.
        self._ok: dict[str, Callable[[], None]] = {}
        self._bytes = metrics.UFS_BYTES.labels(inner.scheme)

    def get(self, key: bytes, offset: int, size_bytes: int, *, token: bytes | None, deadline: Deadline) -> Body:
        return _MeteredBody(self, super().get(key, offset, size_bytes, token=token, deadline=deadline))

    def block_gets(self) -> BlockGets | None:
        """Counted like the others."""
        inner = super().block_gets()
        return _MeteredGets(self, inner) if inner is not None else None

    def count_get(self, outcome: str) -> None:
        """A GET that was not made by a call has ended."""
        metrics.UFS_REQUESTS.labels(self.scheme, "get", outcome).inc()

    def count_bytes(self, count: int) -> None:
        """Body bytes arrived."""
        self._bytes.inc(count)

    def count_failure(self, operation: str, error: JindoError) -> None:
        """A request, or the body of a get, failed."""
        metrics.UFS_REQUESTS.labels(self.scheme, operation, type(error).__name__).inc()

    def _around(self, operation: str, deadline: Deadline, call: Callable[[], T]) -> T:
        try:
            result = call()
        except JindoError as error:
            self.count_failure(operation, error)
            raise
        count = self._ok.get(operation)
        if count is None:
            count = self._ok[operation] = metrics.UFS_REQUESTS.labels(self.scheme, operation, "ok").inc
        count()
        return result


@final
class _MeteredGets:
    def __init__(self, layer: Metered, inner: BlockGets) -> None:
        self._layer = layer
        self._inner = inner
        self._ok = metrics.UFS_REQUESTS.labels(layer.scheme, "get", "ok").inc

    def start_get(self, key: bytes, get: BlockGet, *, token: bytes, deadline: Deadline) -> None:
        self._inner.start_get(key, get, token=token, deadline=deadline)

    def ended(self, byte_count: int, outcome: str) -> None:
        self._inner.ended(byte_count, outcome)
        if outcome == "ok":
            self._ok()
            self._layer.count_bytes(byte_count)
        else:
            self._layer.count_get(outcome)


@final
class _MeteredBody(BodyLayer):
    def __init__(self, layer: Metered, inner: Body) -> None:
        super().__init__(inner)
        self._layer = layer

    def readinto(self, target: memoryview) -> int:
        try:
            count = self._inner.readinto(target)
        except JindoError as error:
            self._layer.count_failure("body", error)
            raise
        self._layer.count_bytes(count)
        return count
