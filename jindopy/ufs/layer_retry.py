"""Retrying: what may succeed is tried again, with jitter, within the deadline.

Repeated is what ``errors.retryable`` allows.  A refused key (403) is tried once more after the credentials were read
again; a 404 never.  A body that breaks is asked for again from the offset reached, with the token of its first answer:
bytes of two versions are never joined, the read ends with VersionChanged instead.

Bounds: ``RetryPolicy.attempts`` failures without progress, ``BODY_FAILURES_MAX`` in one body, the deadline in all.
Streams given to ``put`` can be read only once: such a put is not repeated.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from typing import TypeVar, final

from jindopy.base import metrics, retry
from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import BadCredentials, JindoError, ShortBody, VersionChanged
from jindopy.base.retry import RetryPolicy
from jindopy.ufs.base import Body, Driver, ObjectStat
from jindopy.ufs.layer_base import BodyLayer, Layer

_log = logging.getLogger(__name__)
T = TypeVar("T")

BODY_FAILURES_MAX = 60
"""A body that broke this often is not worth the traffic, even if every connection brought some bytes."""

_READ_STEP_BYTES = 1 << 20
"""What is read of a body at a time: at most so much is fetched twice after a break."""


@final
class Retrying(Layer):
    """Tries again what may succeed."""

    def __init__(
        self,
        inner: Driver,
        policy: RetryPolicy,
        clock: Clock = REAL_CLOCK,
        draw: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(inner)
        self._policy = policy
        self._clock = clock
        self._draw = draw

    def get(self, key: bytes, offset: int, size_bytes: int, *, token: bytes | None, deadline: Deadline) -> Body:
        body = super().get(key, offset, size_bytes, token=token, deadline=deadline)
        return _RetriedBody(self, body, key, offset, size_bytes, deadline)

    def put(self, key: bytes, data: bytes | Iterator[bytes], *, deadline: Deadline) -> ObjectStat:
        if isinstance(data, bytes):
            return super().put(key, data, deadline=deadline)
        return self._inner.put(key, data, deadline=deadline)

    def reopen(self, key: bytes, offset: int, size_bytes: int, token: bytes, deadline: Deadline) -> Body:
        """The rest of a body that broke, of the same version."""
        return self._inner.get(key, offset, size_bytes, token=token, deadline=deadline)

    def wait(self, error: JindoError, failures: int, deadline: Deadline) -> None:
        """Sleep before the next try of a body; raises ``error`` when there is none."""
        if not error.retryable or failures >= self._policy.attempts:
            raise error
        seconds = retry.backoff_seconds(self._policy, failures, self._draw())
        if seconds >= deadline.remaining():
            raise error
        self._note("get", error, seconds)
        self._clock.sleep(seconds)

    def _around(self, operation: str, deadline: Deadline, call: Callable[[], T]) -> T:
        refreshed = False

        def attempt() -> T:
            nonlocal refreshed
            try:
                return call()
            except BadCredentials as error:
                if refreshed:
                    raise
                refreshed = True
                self._note(operation, error, 0.0)
                self.refresh_credentials()
                return call()

        return retry.run(
            attempt,
            policy=self._policy,
            deadline=deadline,
            clock=self._clock,
            draw=self._draw,
            on_retry=lambda error, seconds: self._note(operation, error, seconds),
        )

    def _note(self, operation: str, error: JindoError, seconds: float) -> None:
        metrics.UFS_RETRIES.labels(self.scheme, operation, type(error).__name__).inc()
        _log.info("%s again in %.2f s: %s", operation, seconds, error)


@final
class _RetriedBody(BodyLayer):
    """A body that goes on where it broke."""

    def __init__(
        self, layer: Retrying, inner: Body, key: bytes, offset: int, size_bytes: int, deadline: Deadline
    ) -> None:
        super().__init__(inner)
        self._layer = layer
        self._key = key
        self._at = offset
        self._end = offset + size_bytes
        self._deadline = deadline
        self._token = inner.token
        self._failures = 0

    @property
    def token(self) -> bytes:
        return self._token

    def readinto(self, target: memoryview) -> int:
        wanted = min(len(target), self._end - self._at)
        done = 0
        while done < wanted:
            # Released here: the frames an error keeps alive must not keep the caller's buffer exported.
            with target[done : min(wanted, done + _READ_STEP_BYTES)] as part:
                count = self._read_some(part)
            done += count
            self._at += count
        return done

    def _read_some(self, target: memoryview) -> int:
        in_a_row = 0
        error: JindoError
        while True:
            try:
                if in_a_row:
                    self._reopen()
                count = self._inner.readinto(target)
                if count == len(target):
                    return count
                error = ShortBody(
                    f"ended {len(target) - count} bytes early", endpoint=self._layer.endpoint, key=self._key
                )
            except JindoError as raised:
                error = raised
            in_a_row += 1
            self._failures += 1
            if self._failures > BODY_FAILURES_MAX:
                raise error
            self._layer.wait(error, in_a_row, self._deadline)

    def _reopen(self) -> None:
        self._inner.close()
        self._inner = self._layer.reopen(self._key, self._at, self._end - self._at, self._token, self._deadline)
        if self._inner.token != self._token:
            raise VersionChanged("the object was overwritten", endpoint=self._layer.endpoint, key=self._key)
