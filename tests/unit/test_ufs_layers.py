"""Retry, limits, metrics and injected faults around a driver in memory, under a clock that moves only when told."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import pytest

from jindopy.base import metrics
from jindopy.base.clock import Deadline, SimulatedClock
from jindopy.base.errors import (
    BadCredentials,
    ConfigError,
    DeadlineExceeded,
    JindoError,
    ObjectNotFound,
    ShortBody,
    Throttled,
    Unavailable,
    VersionChanged,
)
from jindopy.base.retry import RetryPolicy
from jindopy.ufs.base import Body, ObjectStat
from jindopy.ufs.layer_base import BodyLayer, Layer
from jindopy.ufs.layer_faults import Fault, FaultPlan, Faulty
from jindopy.ufs.layer_limit import Limited
from jindopy.ufs.layer_meter import Metered
from jindopy.ufs.layer_retry import BODY_FAILURES_MAX, Retrying
from jindopy.ufs.layers import LayerConfig, download_rate, wrap
from jindopy.ufs.memory import MemoryDriver, MemoryStore

POLICY = RetryPolicy(attempts=4, base_seconds=1.0, cap_seconds=8.0)


class Scripted(Layer):
    """Raises what it is told to, then does what it should; breaks bodies as told."""

    def __init__(self, errors: list[JindoError] | None = None, breaks: list[int] | None = None) -> None:
        super().__init__(MemoryDriver("scripted", MemoryStore()))
        self.errors = errors or []
        self.breaks = breaks or []
        """After how many bytes the next bodies break."""
        self.calls: list[str] = []
        self.gets: list[tuple[int, int, bytes | None]] = []
        self.refreshes = 0

    def get(self, key: bytes, offset: int, size_bytes: int, *, token: bytes | None, deadline: Deadline) -> Body:
        self.gets.append((offset, size_bytes, token))
        body = super().get(key, offset, size_bytes, token=token, deadline=deadline)
        return Breaking(body, self.breaks.pop(0)) if self.breaks else body

    def refresh_credentials(self) -> None:
        self.refreshes += 1

    def _around(self, operation, deadline, call):  # type: ignore[no-untyped-def]
        self.calls.append(operation)
        if self.errors:
            raise self.errors.pop(0)
        return call()


class Breaking(BodyLayer):
    """Breaks after some bytes, having written rubbish behind them."""

    def __init__(self, inner: Body, after: int) -> None:
        super().__init__(inner)
        self.left = after

    def readinto(self, target: memoryview) -> int:
        if len(target) <= self.left:
            self.left -= len(target)
            return self._inner.readinto(target)
        self._inner.readinto(target[: self.left])
        target[self.left :] = b"?" * (len(target) - self.left)
        raise ShortBody("broke")


def put(driver: Scripted, data: bytes = b"data") -> ObjectStat:
    errors, driver.errors = driver.errors, []
    stat = driver.put(b"k", data, deadline=Deadline.never())
    driver.calls.clear()
    driver.errors = errors
    return stat


def read(driver: Layer, size: int, deadline: Deadline, step: int = 1 << 30) -> bytes:
    buffer = bytearray(size)
    with driver.get(b"k", 0, size, token=None, deadline=deadline) as body:
        at = 0
        while at < size:
            at += body.readinto(memoryview(buffer)[at : at + step])
    return bytes(buffer)


# --- Retrying ---------------------------------------------------------------------------------------------------------


def test_retries_with_jitter_until_it_works() -> None:
    clock = SimulatedClock()
    inner = Scripted([Unavailable("1"), Throttled("2"), Unavailable("3")])
    put(inner)
    driver = Retrying(inner, POLICY, clock, draw=lambda: 0.5)
    before = metrics.value(metrics.UFS_RETRIES, scheme="memory", operation="head")
    assert driver.stat(b"k", deadline=Deadline.after(100, clock)).size == 4
    assert clock.slept == [0.5, 1.0, 2.0]
    assert metrics.value(metrics.UFS_RETRIES, scheme="memory", operation="head") == before + 3


def test_gives_up_after_its_attempts_with_the_last_error() -> None:
    clock = SimulatedClock()
    inner = Scripted([Unavailable(str(number)) for number in range(10)])
    with pytest.raises(Unavailable, match="3"):
        Retrying(inner, POLICY, clock).stat(b"k", deadline=Deadline.after(1000, clock))
    assert len(inner.calls) == POLICY.attempts


def test_never_repeats_what_cannot_change() -> None:
    clock = SimulatedClock()
    for error in (ObjectNotFound("gone"), VersionChanged("other")):
        inner = Scripted([error])
        with pytest.raises(type(error)):
            Retrying(inner, POLICY, clock).stat(b"k", deadline=Deadline.after(1000, clock))
        assert len(inner.calls) == 1
    assert clock.slept == []


def test_a_throttling_storm_is_bounded_by_the_deadline() -> None:
    clock = SimulatedClock()
    inner = Scripted([Throttled("slow down") for _ in range(10_000)])
    driver = Retrying(inner, RetryPolicy(attempts=10_000), clock, draw=random.Random(1).random)
    started = clock.monotonic()
    with pytest.raises(Throttled):
        driver.stat(b"k", deadline=Deadline.after(30, clock))
    assert 20 < clock.monotonic() - started <= 30
    assert len(inner.calls) < 40


def test_refused_key_is_tried_once_with_fresh_credentials() -> None:
    clock = SimulatedClock()
    inner = Scripted([BadCredentials("old key")])
    put(inner)
    assert Retrying(inner, POLICY, clock).stat(b"k", deadline=Deadline.never()).size == 4
    assert (inner.refreshes, len(inner.calls), clock.slept) == (1, 2, [])

    inner = Scripted([BadCredentials("old key"), BadCredentials("new key too")])
    with pytest.raises(BadCredentials, match="new key too"):
        Retrying(inner, POLICY, clock).stat(b"k", deadline=Deadline.never())
    assert (inner.refreshes, len(inner.calls)) == (1, 2)


def test_a_broken_body_goes_on_where_it_was_with_its_token() -> None:
    data = random.Random(5).randbytes(5_000_000)
    inner = Scripted(breaks=[0, 1_500_000, 2_300_000])
    token = put(inner, data).token
    clock = SimulatedClock()
    assert read(Retrying(inner, POLICY, clock), len(data), Deadline.after(100, clock)) == data
    assert [(offset, asked) for offset, _, asked in inner.gets] == [
        (0, None),
        (0, token),
        (1 << 20, token),
        (3 << 20, token),
    ]
    assert all(offset + size == len(data) for offset, size, _ in inner.gets)


def test_a_body_never_joins_two_versions() -> None:
    inner = Scripted(breaks=[100_000])
    put(inner, b"A" * 200_000)
    clock = SimulatedClock()
    with Retrying(inner, POLICY, clock).get(b"k", 0, 200_000, token=None, deadline=Deadline.after(9, clock)) as body:
        assert body.readinto(memoryview(bytearray(50_000))) == 50_000
        put(inner, b"B" * 200_000)
        with pytest.raises(VersionChanged):
            body.readinto(memoryview(bytearray(150_000)))


def test_a_body_that_breaks_for_ever_is_given_up() -> None:
    clock = SimulatedClock()
    inner = Scripted(breaks=[0] * 1000)
    put(inner)
    with pytest.raises(ShortBody):
        read(Retrying(inner, POLICY, clock), 4, Deadline.after(1e9, clock))
    assert len(inner.gets) == POLICY.attempts

    inner = Scripted(breaks=[1] * 1000)
    put(inner, b"x" * 1000)
    with pytest.raises(ShortBody):
        read(Retrying(inner, POLICY, clock), 1000, Deadline.after(1e9, clock), step=1)
    assert len(inner.gets) == BODY_FAILURES_MAX + 1


def test_a_kept_error_does_not_keep_the_buffer() -> None:
    inner = Scripted(breaks=[1])
    put(inner, b"0123456789")
    driver = Retrying(inner, RetryPolicy(attempts=1), SimulatedClock())
    buffer = bytearray(10)
    with driver.get(b"k", 0, 10, token=None, deadline=Deadline.never()) as body:
        with memoryview(buffer) as whole, pytest.raises(ShortBody) as kept:
            body.readinto(whole)
        buffer.clear()  # BufferError while a view is alive
    assert kept.value.message == "broke"


def test_a_stream_is_put_only_once() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"once"

    inner = Scripted([Unavailable("no")])
    with pytest.raises(Unavailable):
        Retrying(inner, POLICY, SimulatedClock()).put(b"k", chunks(), deadline=Deadline.never())
    assert inner.calls == ["put"]


# --- Limited ----------------------------------------------------------------------------------------------------------


def test_open_bodies_hold_slots() -> None:
    inner = Scripted()
    put(inner)
    driver = Limited(inner, concurrency=2)
    first = driver.get(b"k", 0, 4, token=None, deadline=Deadline.never())
    second = driver.get(b"k", 0, 4, token=None, deadline=Deadline.never())
    with pytest.raises(DeadlineExceeded, match="no free request slot"):
        driver.stat(b"k", deadline=Deadline.after(0.05))
    waiting = threading.Thread(target=lambda: driver.stat(b"k", deadline=Deadline.after(10)))
    waiting.start()
    first.close()
    first.close()
    waiting.join(10)
    assert inner.calls[-1] == "head"
    second.close()


def test_failed_requests_give_their_slots_back() -> None:
    inner = Scripted([Unavailable("x") for _ in range(5)])
    driver = Limited(inner, concurrency=1)
    for _ in range(5):
        with pytest.raises(Unavailable):
            driver.get(b"k", 0, 1, token=None, deadline=Deadline.after(0.1))
    with pytest.raises(ObjectNotFound):
        driver.stat(b"k", deadline=Deadline.after(0.1))


def test_rates_are_kept() -> None:
    clock = SimulatedClock()
    inner = Scripted()
    put(inner, b"x" * 1000)
    driver = Limited(inner, concurrency=1, requests_per_second=10, clock=clock)
    started = clock.monotonic()
    for _ in range(101):
        driver.stat(b"k", deadline=Deadline.after(1000, clock))
    assert clock.monotonic() - started == pytest.approx(10, abs=0.3)

    driver = Limited(inner, concurrency=1, bytes_per_second=1000, clock=clock)
    started = clock.monotonic()
    for _ in range(20):
        assert read(driver, 1000, Deadline.after(1000, clock), step=300) == b"x" * 1000
    assert clock.monotonic() - started == pytest.approx(20, abs=0.3)


def test_a_rate_that_leaves_no_room_ends_at_once() -> None:
    clock = SimulatedClock()
    driver = Limited(Scripted(), concurrency=1, requests_per_second=0.1, clock=clock)
    with pytest.raises(DeadlineExceeded, match="rate limit"):
        driver.check(deadline=Deadline.after(5, clock))
    assert clock.slept == []


# --- Metered and Faulty -----------------------------------------------------------------------------------------------


def counted(operation: str, outcome: str) -> float:
    return metrics.value(metrics.UFS_REQUESTS, scheme="memory", operation=operation, outcome=outcome)


def test_metrics_count_tries_and_bytes() -> None:
    inner = Scripted([Unavailable("x")], breaks=[2])
    put(inner)
    before = [counted("get", "ok"), counted("get", "Unavailable"), counted("body", "ShortBody")]
    bytes_before = metrics.value(metrics.UFS_BYTES, scheme="memory")
    clock = SimulatedClock()
    assert read(Retrying(Metered(inner), POLICY, clock), 4, Deadline.after(100, clock)) == b"data"
    after = [counted("get", "ok"), counted("get", "Unavailable"), counted("body", "ShortBody")]
    assert [new - old for new, old in zip(after, before, strict=True)] == [2, 1, 1]
    assert metrics.value(metrics.UFS_BYTES, scheme="memory") == bytes_before + 4


def faults_of(seed: int) -> list[str]:
    inner = Scripted()
    put(inner, b"x" * 100)
    rates = {Fault.ERROR: 0.3, Fault.THROTTLED: 0.2, Fault.RESET: 0.2, Fault.TRUNCATED: 0.2}
    driver = Faulty(inner, FaultPlan(rates, seed))
    seen = []
    for _ in range(60):
        try:
            read(driver, 100, Deadline.never())
            seen.append("ok")
        except JindoError as error:
            seen.append(str(error))
    return seen


def test_one_seed_one_sequence_of_faults() -> None:
    assert faults_of(1) == faults_of(1)
    assert faults_of(1) != faults_of(2)
    assert len(set(faults_of(1))) == 5


def test_fault_limit_and_slowness() -> None:
    clock = SimulatedClock()
    driver = Faulty(Scripted(), FaultPlan({Fault.ERROR: 1.0}, limit=2), clock)
    for _ in range(2):
        with pytest.raises(Unavailable):
            driver.check(deadline=Deadline.never())
    driver.check(deadline=Deadline.never())
    assert driver.injected == {Fault.ERROR: 2}

    driver = Faulty(Scripted(), FaultPlan({Fault.SLOW: 1.0}, slow_seconds=3), clock)
    driver.check(deadline=Deadline.after(10, clock))
    assert clock.slept == [3]
    with pytest.raises(DeadlineExceeded):
        driver.check(deadline=Deadline.after(2, clock))


# --- the stack --------------------------------------------------------------------------------------------------------


def test_the_usual_stack_reads_through_every_fault() -> None:
    data = random.Random(6).randbytes(300_000)
    inner = Scripted()
    put(inner, data)
    clock = SimulatedClock()
    plan = FaultPlan(dict.fromkeys(Fault, 0.2), seed=3)
    driver = wrap(inner, LayerConfig(retry=RetryPolicy(attempts=30), concurrency=1, faults=plan), clock)
    for _ in range(30):
        buffer = bytearray(len(data))
        with driver.get(b"k", 0, len(data), token=None, deadline=Deadline.after(1e6, clock)) as body:
            for at in range(0, len(data), 10_000):
                body.readinto(memoryview(buffer)[at : at + 10_000])
        assert buffer == data


class Counted:
    """A rate that is never a reason to wait."""

    def __init__(self) -> None:
        self.amounts: list[int] = []

    def reserve(self, amount: int, /) -> float:
        self.amounts.append(amount)
        return 0.0


@pytest.mark.parametrize("own", [True, False])
def test_a_rate_is_kept_by_the_driver_or_by_a_layer(own: bool) -> None:
    rate = Counted()
    store = MemoryStore()
    token = store.put(b"k", b"x" * 1000).token
    taken: list[object] = []

    class Driver(MemoryDriver):
        def limit_downloads(self, given: object) -> bool:
            taken.append(given)
            return own

    driver = wrap(Driver("m", store), LayerConfig(download_rate=rate))
    with driver.get(b"k", 0, 1000, token=token, deadline=Deadline.after(5)) as body:
        body.readinto(memoryview(bytearray(1000)))
    assert taken == [rate]
    assert sum(rate.amounts) == (0 if own else 1000), "counted once"


def test_a_shared_rate_says_how_long_to_wait() -> None:
    rate = download_rate(1_000_000)
    waits = [rate.reserve(500_000) for _ in range(4)]
    assert waits == sorted(waits)
    assert 1.5 < waits[-1] <= 2.0


def test_options_of_the_stack() -> None:
    config = LayerConfig.from_options({"fs.oss.retry.count": "2", "fs.oss.retry.interval.millisecond": "500"})
    assert (config.retry.attempts, config.retry.base_seconds, config.concurrency) == (3, 0.5, 100)
    assert LayerConfig.from_options({"fs.oss.max.connections.per.host": "7"}).concurrency == 7
    with pytest.raises(ConfigError, match=r"fs\.oss\.retry\.count"):
        LayerConfig.from_options({"fs.oss.retry.count": "many"})
