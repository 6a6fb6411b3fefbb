"""The single-flight fill over a real block store and a driver that counts, waits, lies and fails on demand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jindopy._ext.blockstore import TierSpec
from jindopy._ext.iobuf import BufferPool
from jindopy.base.clock import Deadline
from jindopy.base.errors import DeadlineExceeded, ObjectNotFound, ShortBody, Unavailable, VersionChanged
from jindopy.base.ident import BLOCK_BYTES, FileVersion, MountId
from jindopy.cache.fill import FillConfig, Filler, Priority
from jindopy.cache.store import Cache
from jindopy.ufs import memory
from jindopy.ufs.registry import open_driver

MOUNT = MountId(1)
KIB128 = 128 * 1024


def pattern(size: int, seed: int = 1) -> bytes:
    """Bytes whose every 8-byte word tells its offset and the seed."""
    return b"".join((seed << 40 | word).to_bytes(8, "little") for word in range(-(-size // 8)))[:size]


class Gate:
    """A driver around the memory driver: counts GETs, can hold them back, fail them, cut bodies."""

    def __init__(self, inner):
        self.inner = inner
        self.gets: list[tuple[bytes, int, int]] = []
        self.open = threading.Event()
        self.open.set()
        self.errors: list[Exception] = []
        self.cut_after: int | None = None
        self.lock = threading.Lock()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def get(self, key, offset, size_bytes, *, token, deadline):
        with self.lock:
            self.gets.append((key, offset, size_bytes))
            error = self.errors.pop(0) if self.errors else None
        assert self.open.wait(20)
        if error is not None:
            raise error
        body = self.inner.get(key, offset, size_bytes, token=token, deadline=deadline)
        return body if self.cut_after is None else CutBody(body, self.cut_after)


class CutBody:
    """A body that ends early."""

    def __init__(self, inner, left):
        self.inner, self.left = inner, left

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def readinto(self, target):
        if self.left <= 0:
            return 0
        count = self.inner.readinto(target[: min(len(target), self.left)])
        self.left -= count
        return count

    def __enter__(self):
        self.inner.__enter__()
        return self

    def __exit__(self, *args):
        self.inner.__exit__(*args)


class Bench:
    """Everything a fill needs."""

    def __init__(self, root: Path, name: str, min_free_bytes: int = 0, **config: int) -> None:
        self.store = memory.store(name)
        driver, _ = open_driver(f"memory://{name}")
        self.gate = Gate(driver)
        self.cache = Cache([TierSpec("SSD", str(root), 256 << 20, 0.95, 0.8, min_free_bytes)])
        self.pool = BufferPool(64 << 20)
        self.filler = Filler(self.cache, self, self.pool, FillConfig(**config))

    def driver(self, mount):
        assert mount == MOUNT
        return self.gate

    def put(self, key: bytes, data: bytes) -> FileVersion:
        stat = self.store.put(key, data)
        return FileVersion.of(MOUNT, self.gate.ufs_id, key, stat.token, stat.size)

    def close(self) -> None:
        self.gate.open.set()
        self.filler.close()
        self.cache.close()


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(tmp_path / "cache", request.node.name, threads=6)
    yield made
    made.close()
    memory.forget(request.node.name)


def soon() -> Deadline:
    return Deadline.after(20)


def test_bytes_come_once_from_the_store_and_then_from_the_cache(bench: Bench):
    data = pattern(3 * BLOCK_BYTES + 777)
    version = bench.put(b"a/b", data)
    lease = bench.cache.open(version)
    assert bench.filler.read(version, lease, 0, len(data) + 50, soon()) == data
    gets = len(bench.gate.gets)
    assert lease.complete
    assert bench.filler.read(version, lease, 5, 100, soon()) == data[5:105]
    assert bench.filler.read(version, lease, len(data) - 3, 100, soon()) == data[-3:]
    assert bench.filler.read(version, lease, len(data), 100, soon()) == b""
    assert len(bench.gate.gets) == gets
    lease.close()


def test_consecutive_blocks_are_one_get_bounded_in_size(bench: Bench):
    version = bench.put(b"k", pattern(10 * BLOCK_BYTES))
    lease = bench.cache.open(version)
    bench.filler.read(version, lease, 0, 10 * BLOCK_BYTES, soon())
    assert sorted(bench.gate.gets) == [
        (b"k", 0, 4 * BLOCK_BYTES),
        (b"k", 4 * BLOCK_BYTES, 4 * BLOCK_BYTES),
        (b"k", 8 * BLOCK_BYTES, 2 * BLOCK_BYTES),
    ]
    lease.close()


def test_any_number_of_readers_cause_one_get(bench: Bench):
    data = pattern(BLOCK_BYTES)
    version = bench.put(b"k", data)
    bench.gate.open.clear()
    answers: list[bytes] = []

    def read(offset: int) -> None:
        lease = bench.cache.open(version)
        answers.append(bench.filler.read(version, lease, offset, KIB128, soon()))
        lease.close()

    readers = [threading.Thread(target=read, args=(index * 1000,)) for index in range(20)]
    for reader in readers:
        reader.start()
    bench.gate.open.set()
    for reader in readers:
        reader.join(20)
    assert sorted(answers) == sorted(data[index * 1000 : index * 1000 + KIB128] for index in range(20))
    assert len(bench.gate.gets) == 1


def test_a_demand_overtakes_what_was_queued_for_later(bench: Bench):
    big = bench.put(b"big", pattern(64 * BLOCK_BYTES))
    small = bench.put(b"small", pattern(100))
    lease, other = bench.cache.open(big), bench.cache.open(small)
    bench.gate.open.clear()
    bench.filler.request(big, lease, 0, 64, Priority.LOAD)
    reader = threading.Thread(target=bench.filler.read, args=(small, other, 0, 100, soon()))
    reader.start()
    # Four of six threads hold LOAD GETs; the demand is taken by one that background work never takes.
    for _ in range(200):
        if any(key == b"small" for key, _, _ in bench.gate.gets):
            break
        threading.Event().wait(0.02)
    assert [key for key, _, _ in bench.gate.gets].count(b"big") <= 4
    assert (b"small", 0, 100) in bench.gate.gets
    bench.gate.open.set()
    reader.join(20)
    lease.close()
    other.close()


def test_waiters_get_their_block_before_the_rest_of_the_get_has_come(bench: Bench):
    version = bench.put(b"k", pattern(4 * BLOCK_BYTES))
    lease = bench.cache.open(version)
    bench.gate.cut_after = 2 * BLOCK_BYTES
    flights = bench.filler.request(version, lease, 0, 4, Priority.DEMAND)
    assert flights[1].wait(soon()).slice(0, 8) == pattern(4 * BLOCK_BYTES)[BLOCK_BYTES : BLOCK_BYTES + 8]
    with pytest.raises(ShortBody, match="early"):
        flights[2].wait(soon())
    assert lease.missing(0, 4) == [2, 3]
    lease.close()


def test_an_error_reaches_every_waiter_and_the_next_request_starts_anew(bench: Bench):
    data = pattern(1000)
    version = bench.put(b"k", data)
    lease = bench.cache.open(version)
    bench.gate.errors = [Unavailable("reset", endpoint="memory", key=b"k")]
    with pytest.raises(Unavailable, match="reset"):
        bench.filler.read(version, lease, 0, 1000, soon())
    assert bench.filler.read(version, lease, 0, 1000, soon()) == data
    lease.close()


@pytest.mark.parametrize("how", ["overwritten", "resized", "deleted"])
def test_another_version_is_an_error_never_a_mix(bench: Bench, how: str):
    old = pattern(2 * BLOCK_BYTES, seed=1)
    version = bench.put(b"k", old)
    lease = bench.cache.open(version)
    assert bench.filler.read(version, lease, 0, 100, soon()) == old[:100]
    if how == "deleted":
        bench.store.delete(b"k")
    else:
        bench.put(b"k", pattern((2 if how == "overwritten" else 3) * BLOCK_BYTES, seed=2))
    with pytest.raises((VersionChanged, ObjectNotFound)):
        bench.filler.read(version, lease, BLOCK_BYTES, 100, soon())
    assert bench.filler.read(version, lease, 0, 100, soon()) == old[:100], "what is cached of the old version stays"
    lease.close()


def test_what_the_cache_refuses_is_still_answered_with_one_get_a_block(tmp_path: Path):
    bench = Bench(tmp_path, "refusing", min_free_bytes=1 << 60, threads=2)
    try:
        data = pattern(3 * BLOCK_BYTES)
        version = bench.put(b"k", data)
        lease = bench.cache.open(version)
        read = b"".join(
            bench.filler.read(version, lease, offset, KIB128, soon()) for offset in range(0, len(data), KIB128)
        )
        assert read == data
        assert len(bench.gate.gets) == 3
        lease.close()
    finally:
        bench.close()
        memory.forget("refusing")


def test_a_deadline_ends_the_wait(bench: Bench):
    version = bench.put(b"k", pattern(10))
    lease = bench.cache.open(version)
    bench.gate.open.clear()
    with pytest.raises(DeadlineExceeded):
        bench.filler.read(version, lease, 0, 10, Deadline.after(0.05))
    bench.gate.open.set()
    lease.close()


def test_closing_fails_what_waits_and_leaks_nothing(tmp_path: Path):
    bench = Bench(tmp_path, "closing", threads=2)
    version = bench.put(b"k", pattern(40 * BLOCK_BYTES))
    lease = bench.cache.open(version)
    bench.gate.open.clear()
    flights = bench.filler.request(version, lease, 0, 40, Priority.LOAD)
    threading.Timer(0.2, bench.gate.open.set).start()
    bench.filler.close()
    outcomes = []
    for flight in flights:
        try:
            flight.wait(soon())
            outcomes.append("landed")
        except DeadlineExceeded:
            outcomes.append("refused")
    assert "refused" in outcomes
    lease.close()
    bench.cache.close()
    del flights, flight
    assert bench.pool.used_bytes == 0
    memory.forget("closing")
