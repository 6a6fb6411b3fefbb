"""Single flight at its edges: looks that race with landings, and readers beside background work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jindopy._ext.blockstore import TierSpec
from jindopy._ext.iobuf import BufferPool
from jindopy.base.clock import Deadline
from jindopy.base.ident import FileVersion, MountId
from jindopy.cache.fill import FillConfig, Filler, Priority
from jindopy.cache.store import Cache
from jindopy.ufs import memory
from jindopy.ufs.registry import open_driver

MOUNT = MountId(1)
THREADS = 6
READERS = 12


class HeldDriver:
    """A driver around the memory driver that counts GETs and holds back those of some keys."""

    def __init__(self, inner) -> None:
        self.inner = inner
        self.keys: list[bytes] = []
        self.held = b"held/"
        self.let_go = threading.Event()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def get(self, key, offset, size_bytes, *, token, deadline):
        self.keys.append(key)
        if key.startswith(self.held):
            assert self.let_go.wait(30)
        return self.inner.get(key, offset, size_bytes, token=token, deadline=deadline)


class Parts:
    """A fill with everything below it."""

    def __init__(self, root: Path, name: str, config: FillConfig | None = None) -> None:
        self.store = memory.store(name)
        driver, _ = open_driver(f"memory://{name}")
        self.held = HeldDriver(driver)
        self.cache = Cache([TierSpec("SSD", str(root), 256 << 20, 0.95, 0.8, 0)])
        self.filler = Filler(self.cache, self, BufferPool(64 << 20), config or FillConfig(threads=THREADS))

    def driver(self, mount):
        assert mount == MOUNT
        return self.held

    def put(self, key: bytes, data: bytes) -> FileVersion:
        stat = self.store.put(key, data)
        return FileVersion.of(MOUNT, self.held.ufs_id, key, stat.token, stat.size)

    def close(self) -> None:
        self.held.let_go.set()
        self.filler.close()
        self.cache.close()


@pytest.fixture
def parts(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Parts]:
    made = Parts(tmp_path / "cache", request.node.name)
    yield made
    made.close()
    memory.forget(request.node.name)


class LateLease:
    """A lease whose look at what is missing is old news by the time it is used: the block has landed meanwhile."""

    def __init__(self, parts: Parts, version: FileVersion) -> None:
        self.parts = parts
        self.version = version
        self.lease = parts.cache.open(version)

    def missing(self, first: int, count: int) -> list[int]:
        seen = self.lease.missing(first, count)
        for flight in self.parts.filler.request(self.version, self.lease, first, count, Priority.DEMAND):
            flight.wait(Deadline.after(20))
        return seen

    def read(self, offset: int, size_bytes: int) -> bytes | None:
        return self.lease.read(offset, size_bytes)


def test_a_block_that_lands_between_look_and_turn_is_not_fetched_twice(parts: Parts) -> None:
    data = bytes(range(256)) * 4
    version = parts.put(b"k", data)
    late = LateLease(parts, version)
    assert parts.filler.read(version, late, 0, len(data), Deadline.after(20)) == data  # type: ignore[arg-type]
    assert parts.held.keys == [b"k"]
    late.lease.close()


def test_readers_wait_for_nobodys_background_work_however_many_they_are(parts: Parts) -> None:
    background = [parts.put(b"held/%d" % number, b"x" * 1000) for number in range(4 * THREADS)]
    wanted = [parts.put(b"wanted/%d" % number, b"%04d" % number) for number in range(READERS)]
    leases = [parts.cache.open(version) for version in (*background, *wanted)]
    for version, lease in zip(background, leases, strict=False):
        parts.filler.request(version, lease, 0, 1, Priority.READAHEAD)
    answers: dict[int, bytes] = {}

    def read(number: int) -> None:
        lease = leases[len(background) + number]
        answers[number] = parts.filler.read(wanted[number], lease, 0, 4, Deadline.after(20))

    # Their own GETs are held back too until all of them have begun: none waits for another reader either.
    parts.held.held = b""
    readers = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
    for reader in readers:
        reader.start()
    for _ in range(500):
        if sum(key.startswith(b"wanted/") for key in parts.held.keys) == READERS:
            break
        threading.Event().wait(0.02)
    begun = list(parts.held.keys)
    parts.held.let_go.set()
    for reader in readers:
        reader.join(20)
    assert sorted(key for key in begun if key.startswith(b"wanted/")) == sorted(version.key for version in wanted)
    assert sum(key.startswith(b"held/") for key in begun) < THREADS, "background work leaves threads to readers"
    assert answers == {number: b"%04d" % number for number in range(READERS)}
    for lease in leases:
        lease.close()


def test_background_work_can_see_that_a_reader_waits(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "cache", "seen", FillConfig(threads=1, demand_threads=0))
    try:
        versions = [parts.put(b"held/%d" % number, b"x") for number in range(2)]
        leases = [parts.cache.open(version) for version in versions]
        flights = parts.filler.request(versions[0], leases[0], 0, 1, Priority.DEMAND)
        for _ in range(500):
            if parts.held.keys:
                break
            threading.Event().wait(0.02)
        assert not parts.filler.demand_waits, "it has begun"
        flights += parts.filler.request(versions[1], leases[1], 0, 1, Priority.DEMAND)
        assert parts.filler.demand_waits
        parts.held.let_go.set()
        for flight in flights:
            flight.wait(Deadline.after(20))
        assert not parts.filler.demand_waits
        for lease in leases:
            lease.close()
    finally:
        parts.close()
        memory.forget("seen")
