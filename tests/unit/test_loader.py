"""The loader over a real block store and fill, and a driver that waits and fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from load_fixture import Gate, until

from jindopy._ext.blockstore import TierSpec
from jindopy._ext.iobuf import BufferPool
from jindopy.base.clock import Deadline
from jindopy.base.errors import JindoError, ObjectNotFound, Unavailable
from jindopy.base.ident import FileVersion, MountId
from jindopy.cache.fill import FillConfig, Filler, Priority
from jindopy.cache.store import Cache
from jindopy.ufs import memory
from jindopy.worker.loader import Loader, LoaderConfig

MIB = 1 << 20


class Ear:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.stopped = False
        self.resident = self.fetched = 0
        self.over: dict[bytes, JindoError | None] = {}
        self.on_end: Callable[[], None] = lambda: None

    def moved(self, resident_bytes: int, fetched_bytes: int) -> None:
        self.resident += resident_bytes
        self.fetched += fetched_bytes

    def ended(self, path: bytes, version: FileVersion, error: JindoError | None) -> None:
        assert path not in self.over
        self.over[path] = error
        self.on_end()


class Place:
    def __init__(self, root: Path, name: str, config: LoaderConfig | None = None, **fill: int) -> None:
        memory.forget(name)
        self.store = memory.store(name)
        self.gate = Gate(name)
        self.cache = Cache([TierSpec("SSD", str(root), 256 * MIB, 0.95, 0.8, 0)])
        self.pool = BufferPool(32 * MIB)
        self.filler = Filler(self.cache, self, self.pool, FillConfig(**fill))
        self.loader = Loader(self.cache, self.filler, config)
        self.ear = Ear()

    def driver(self, mount: MountId) -> Gate:
        return self.gate

    def file(self, key: bytes, size: int) -> tuple[bytes, FileVersion]:
        stat = self.store.put(key, key[:1] * size)
        return key, FileVersion.of(MountId(1), self.gate.ufs_id, key, stat.token, size)

    def close(self) -> None:
        self.gate.open.set()
        self.filler.close()
        self.cache.close()


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Place]]:
    made: list[Place] = []

    def place(config: LoaderConfig | None = None, **fill: int) -> Place:
        made.append(Place(tmp_path, request.node.name, config, **fill))
        return made[-1]

    yield place
    while made:
        made.pop().close()


def test_files_of_all_sizes_are_loaded(make: Callable[..., Place]) -> None:
    place = make()
    sizes = [0, 1, MIB - 1, MIB, MIB + 1, 4 * MIB, 17 * MIB + 3, 33 * MIB]
    files = [place.file(b"%d" % size, size) for size in sizes]
    place.loader.load(files, place.ear)
    assert place.ear.over == {b"%d" % size: None for size in sizes}
    assert place.ear.resident == place.ear.fetched == sum(sizes)
    assert all(place.loader.cached_bytes(version) == version.size for _, version in files)


def test_what_is_cached_is_verified_and_not_fetched(make: Callable[..., Place]) -> None:
    place = make()
    files = [place.file(b"a", 5 * MIB), place.file(b"b", 100)]
    place.loader.load(files, place.ear)
    gets = len(place.gate.gets)
    second = Ear()
    place.loader.load(files, second)
    assert (second.resident, second.fetched) == (5 * MIB + 100, 0)
    assert len(place.gate.gets) == gets


def test_many_small_files_are_on_the_way_at_once_but_not_all(make: Callable[..., Place]) -> None:
    place = make(LoaderConfig(files_max=10))
    place.gate.open.clear()
    taken: list[bytes] = []

    def source() -> Iterator[tuple[bytes, FileVersion]]:
        for number in range(50):
            taken.append(b"%d" % number)
            yield place.file(b"%d" % number, 1000)

    thread = threading.Thread(target=place.loader.load, args=(source(), place.ear))
    thread.start()
    until(lambda: len(place.gate.gets) >= 10)
    assert len(taken) == len(place.gate.gets) == 10
    place.gate.open.set()
    thread.join(20)
    assert len(place.ear.over) == 50


def test_a_large_file_is_asked_for_in_windows(make: Callable[..., Place]) -> None:
    place = make(LoaderConfig(window_blocks=8, stride_blocks=4))
    place.gate.open.clear()
    thread = threading.Thread(target=place.loader.load, args=([place.file(b"big", 100 * MIB)], place.ear))
    thread.start()
    until(lambda: len(place.gate.gets) >= 2)
    assert len(place.gate.gets) == 2
    place.gate.open.set()
    thread.join(20)
    assert place.ear.resident == 100 * MIB
    assert len(place.gate.gets) == 25


def test_a_failed_block_ends_its_file_alone(make: Callable[..., Place]) -> None:
    place = make()
    files = [place.file(b"good", 9 * MIB), place.file(b"bad", 9 * MIB), place.file(b"fine", 10)]
    place.gate.fail = lambda key: Unavailable("503") if key == b"bad" else None
    place.loader.load(files, place.ear)
    assert isinstance(place.ear.over.pop(b"bad"), Unavailable)
    assert place.ear.over == {b"good": None, b"fine": None}
    assert place.ear.resident == 9 * MIB + 10


def test_what_landed_of_a_failed_file_is_not_counted(make: Callable[..., Place]) -> None:
    place = make()
    fails = iter([None, None, ObjectNotFound("gone")])
    place.gate.fail = lambda key: next(fails, None)
    place.loader.load([place.file(b"a", 20 * MIB)], place.ear)
    assert isinstance(place.ear.over[b"a"], ObjectNotFound)
    assert place.ear.resident == 0
    assert place.ear.fetched >= 8 * MIB


def test_stopping_takes_queued_fetches_back(make: Callable[..., Place]) -> None:
    place = make(threads=3)
    place.gate.open.clear()
    files = [place.file(b"%d" % number, 1000) for number in range(30)]
    thread = threading.Thread(target=place.loader.load, args=(files, place.ear))
    thread.start()
    assert place.gate.waiting.wait(10)
    place.ear.stopped = True
    thread.join(20)
    assert not thread.is_alive()
    place.gate.open.set()
    assert len(place.gate.gets) == 1
    assert not place.ear.over


def test_a_reader_keeps_what_a_stopped_load_had_asked_for(make: Callable[..., Place]) -> None:
    place = make(threads=1)  # busy with the first file: the reader's block stays queued
    place.gate.open.clear()
    files = [place.file(b"%d" % number, 1000) for number in range(30)]
    thread = threading.Thread(target=place.loader.load, args=(files, place.ear))
    thread.start()
    assert place.gate.waiting.wait(10)
    _, version = files[20]
    lease = place.cache.open(version)
    flights = place.filler.request(version, lease, 0, 1, Priority.DEMAND)
    place.ear.stopped = True
    thread.join(20)
    place.gate.open.set()
    (flight,) = flights
    assert flight.wait(Deadline.after(10)).slice(0, 1) == b"2"
    lease.close()


def test_a_file_the_cache_does_not_keep_is_an_error(make: Callable[..., Place]) -> None:
    place = make()
    pinned = [place.file(b"%d" % number, 24 * MIB) for number in range(10)]
    place.loader.load(pinned, place.ear)
    for _, version in pinned:
        place.cache.pin(version.cid, True)
    ear = Ear()
    place.loader.load([place.file(b"more", 40 * MIB)], ear)
    assert "did not keep" in str(ear.over[b"more"])
    assert ear.resident == 0


def test_an_error_of_the_source_ends_the_load_and_leaves_nothing_open(make: Callable[..., Place]) -> None:
    place = make()

    def source() -> Iterator[tuple[bytes, FileVersion]]:
        yield place.file(b"a", 10)
        raise Unavailable("the namespace is gone")

    with pytest.raises(Unavailable):
        place.loader.load(source(), place.ear)
