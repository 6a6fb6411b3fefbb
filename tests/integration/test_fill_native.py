"""Blocks that native threads get, check and store: the fill over the OSS driver and the emulator."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from emulator_fixture import Emulator, running_emulator

from jindopy._ext import httpblocks, httpget
from jindopy._ext.blockstore import CacheFile, TierSpec
from jindopy._ext.iobuf import BufferPool, SealedBuffer
from jindopy.base.clock import Deadline
from jindopy.base.errors import (
    AccessDenied,
    CacheCorrupt,
    DeadlineExceeded,
    JindoError,
    ObjectCorrupt,
    VersionChanged,
)
from jindopy.base.ident import BLOCK_BYTES, FileVersion, MountId
from jindopy.base.retry import RetryPolicy
from jindopy.cache.fill import FillConfig, Filler, Flight, Priority
from jindopy.cache.flights import Task
from jindopy.cache.store import Cache
from jindopy.ufs.base import HasBlockGets, Rate
from jindopy.ufs.credentials import Credentials, Static
from jindopy.ufs.layers import LayerConfig, download_rate, wrap
from jindopy.ufs.registry import open_driver

MOUNT = MountId(1)
BUCKET = "blocks"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with running_emulator(tmp_path_factory.mktemp("oss"), buckets=[BUCKET]) as running:
        yield running


class Bench:
    """A fill over OSS."""

    def __init__(
        self,
        emulator: Emulator,
        root: Path,
        secret: str = "",
        memory_bytes: int = 64 << 20,
        rate: Rate | None = None,
    ) -> None:
        self.emulator = emulator
        options = {"fs.oss.endpoint": emulator.endpoint, "fs.oss.region": "cn-hangzhou"}
        key_id, key = emulator.keys
        bare, _ = open_driver(f"oss://{BUCKET}", options, Static(Credentials(key_id, secret or key)))
        policy = RetryPolicy(attempts=4, base_seconds=0.001, cap_seconds=0.01)
        self.layers = wrap(bare, LayerConfig(retry=policy, download_rate=rate))
        self.cache = Cache([TierSpec("SSD", str(root), 256 << 20, 0.95, 0.8, 0)])
        self.pool = BufferPool(memory_bytes)
        self.checksums: dict[bytes, int] = {}
        self.bad: list[bytes] = []
        self.filler = Filler(
            self.cache,
            self,
            self.pool,
            FillConfig(threads=8),
            on_object_crc64=lambda version, crc: self.checksums.update({version.key: crc}),
        )
        self.filler.tell_of_bad_objects(lambda version: self.bad.append(version.key))

    def driver(self, mount: MountId):
        assert mount == MOUNT
        return self.layers

    def put(self, key: bytes, data: bytes) -> FileVersion:
        stat = self.layers.put(key, data, deadline=soon())
        self.emulator.reset_stats()
        return FileVersion.of(MOUNT, self.layers.ufs_id, key, stat.token, stat.size)

    def open(self, version: FileVersion) -> CacheFile:
        return self.cache.open(version)

    def gets(self) -> int:
        return self.emulator.stats().get("GetObject", 0)

    def close(self) -> None:
        self.filler.close()
        self.cache.close()
        self.layers.close()


@pytest.fixture
def bench(emulator: Emulator, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(emulator, tmp_path / "cache")
    yield made
    made.close()
    emulator.set_faults()


def soon() -> Deadline:
    return Deadline.after(20)


def test_the_driver_has_native_gets(bench: Bench) -> None:
    assert isinstance(bench.layers, HasBlockGets)
    assert bench.layers.block_gets() is not None


@pytest.mark.parametrize("size", [1, 100_000, BLOCK_BYTES, BLOCK_BYTES + 1, 9 * BLOCK_BYTES + 12_345])
def test_bytes_come_once_and_are_cached(bench: Bench, size: int) -> None:
    data = os.urandom(size)
    version = bench.put(b"file", data)
    lease = bench.open(version)
    assert bench.filler.read(version, lease, 0, size, soon()) == data
    assert lease.complete
    assert lease.read(0, size) == data
    expected = -(-size // (4 * BLOCK_BYTES))
    assert bench.gets() == expected, "a GET has up to four blocks"
    assert bench.filler.read(version, lease, size // 2, 10, soon()) == data[size // 2 : size // 2 + 10]
    assert bench.gets() == expected
    assert not [name for name in threads() if name.startswith("fill-")], "no thread of Python had to wait"
    lease.close()
    assert bench.checksums[b"file"] == bench.layers.stat(b"file", deadline=soon()).crc64


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_many_readers_of_many_files(bench: Bench) -> None:
    files = {b"many/%03d" % number: os.urandom(50_000 + number) for number in range(60)}
    versions = [bench.put(key, data) for key, data in files.items()]
    wrong: list[bytes] = []

    def read_all(order: list[FileVersion]) -> None:
        for version in order:
            lease = bench.open(version)
            if bench.filler.read(version, lease, 0, version.size, soon()) != files[version.key]:
                wrong.append(version.key)
            lease.close()

    readers = [threading.Thread(target=read_all, args=(versions[n:] + versions[:n],)) for n in range(0, 60, 10)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert not wrong
    assert bench.gets() == len(files)
    assert bench.pool.used_bytes == 0


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "error", "status": 500, "code": "InternalError"},
        {"kind": "error", "status": 503, "code": "SlowDown"},
        {"kind": "reset"},
        {"kind": "truncate", "after_bytes": 1_200_000},
    ],
    ids=lambda fault: f"{fault['kind']}{fault.get('status', '')}",
)
def test_what_fails_once_goes_on_where_it_stood(bench: Bench, fault: dict[str, object]) -> None:
    data = os.urandom(3 * BLOCK_BYTES + 5)
    version = bench.put(b"faulty", data)
    bench.emulator.set_faults(fault | {"operations": ["GetObject"], "limit": 2})
    lease = bench.open(version)
    assert bench.filler.read(version, lease, 0, len(data), soon()) == data
    assert lease.complete
    lease.close()
    assert bench.pool.used_bytes == 0


def test_bytes_changed_on_the_way_are_never_kept(bench: Bench) -> None:
    data = os.urandom(100_000)
    version = bench.put(b"corrupt", data)
    bench.emulator.set_faults({"kind": "corrupt", "operations": ["GetObject"]})
    lease = bench.open(version)
    with pytest.raises(CacheCorrupt, match="another CRC-64"):
        bench.filler.read(version, lease, 0, len(data), soon())
    assert lease.missing(0, 1) == [0]
    bench.emulator.set_faults()
    assert bench.filler.read(version, lease, 0, len(data), soon()) == data
    lease.close()


@pytest.mark.expect_log("failed its CRC")
def test_a_large_object_changed_on_the_way_loses_all_its_blocks(bench: Bench) -> None:
    data = os.urandom(3 * BLOCK_BYTES)
    version = bench.put(b"large", data)
    bench.emulator.set_faults({"kind": "corrupt", "operations": ["GetObject"], "limit": 1})
    lease = bench.open(version)
    with pytest.raises(ObjectCorrupt):
        bench.filler.read(version, lease, 0, len(data), soon())
    assert lease.missing(0, 3) == [0, 1, 2]
    assert bench.bad == [b"large"]
    assert bench.filler.read(version, lease, 0, len(data), soon()) == data
    lease.close()


@pytest.mark.expect_log("failed its CRC")
def test_no_read_joins_bytes_from_before_and_after_a_bad_object(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object is found wrong after a read took its first block and before it asks for the second."""
    data = os.urandom(3 * BLOCK_BYTES)
    version = bench.put(b"between", data)
    bench.emulator.set_faults({"kind": "corrupt", "operations": ["GetObject"], "limit": 1})
    lease = bench.open(version)
    dropped = threading.Event()
    fail, wait = bench.filler.fail, Flight.wait

    def failed(task: Task, error: JindoError) -> None:
        fail(task, error)
        dropped.set()

    def late(flight: Flight, deadline: Deadline) -> SealedBuffer:
        sealed = wait(flight, deadline)
        assert dropped.wait(10)
        return sealed

    monkeypatch.setattr(bench.filler, "fail", failed)
    monkeypatch.setattr(Flight, "wait", late)
    with pytest.raises(ObjectCorrupt):
        bench.filler.read(version, lease, 0, len(data), soon())
    assert lease.missing(0, 3) == [0, 1, 2]
    monkeypatch.undo()
    assert bench.filler.read(version, lease, 0, len(data), soon()) == data
    lease.close()


def test_another_version_is_told_apart(bench: Bench) -> None:
    version = bench.put(b"changing", b"a" * 1000)
    bench.put(b"changing", b"b" * 1000)
    lease = bench.open(version)
    with pytest.raises(VersionChanged):
        bench.filler.read(version, lease, 0, 1000, soon())
    lease.close()


def test_refused_keys_are_told_in_words(emulator: Emulator, bench: Bench, tmp_path: Path) -> None:
    version = bench.put(b"refused", b"a" * 1000)
    other = Bench(emulator, tmp_path / "other", secret="wrong")
    lease = other.open(version)
    with pytest.raises(AccessDenied, match="the signature does not match"):
        other.filler.read(version, lease, 0, 1000, soon())
    lease.close()
    other.close()


def test_a_small_budget_is_enough_for_many(emulator: Emulator, tmp_path: Path) -> None:
    bench = Bench(emulator, tmp_path / "cache", memory_bytes=2 * BLOCK_BYTES)
    data = os.urandom(24 * BLOCK_BYTES)
    version = bench.put(b"budget", data)
    lease = bench.open(version)
    flights = bench.filler.request(version, lease, 0, 24, Priority.READAHEAD)
    done = threading.Semaphore(0)
    for flight in flights:
        flight.when_done(lambda _size, _error: done.release())
    del flights, flight
    for _ in range(24):
        assert done.acquire(timeout=30)
    assert lease.complete
    assert lease.read(0, len(data)) == data
    assert bench.pool.peak_bytes <= 2 * BLOCK_BYTES
    lease.close()
    bench.close()


def test_closing_ends_what_runs(emulator: Emulator, tmp_path: Path) -> None:
    bench = Bench(emulator, tmp_path / "cache")
    version = bench.put(b"slow", os.urandom(100_000))
    emulator.set_faults({"kind": "slow", "operations": ["GetObject"], "delay_seconds": 30})
    lease = bench.open(version)
    flights = bench.filler.request(version, lease, 0, 1, Priority.DEMAND)
    threading.Timer(0.3, bench.filler.close).start()
    with pytest.raises(DeadlineExceeded, match="shutting down"):
        flights[0].wait(soon())
    lease.close()
    bench.close()
    emulator.set_faults()
    assert bench.pool.used_bytes == 0
    gc.collect()  # streams that earlier tests' exceptions keep
    assert httpget.live_counts() == {"transfers": 0}


def test_a_rate_holds_for_native_gets(emulator: Emulator, tmp_path: Path) -> None:
    bench = Bench(emulator, tmp_path / "cache", rate=download_rate(2_000_000))
    data = os.urandom(4 * BLOCK_BYTES)
    version = bench.put(b"limited", data)
    lease = bench.open(version)
    began = time.monotonic()
    assert bench.filler.read(version, lease, 0, len(data), soon()) == data
    assert 1.8 < time.monotonic() - began < 10, "4.2 MB at 2 MB/s"
    assert bench.layers.block_gets() is not None
    lease.close()
    bench.close()


WITHOUT = """
import sys
for name in ("httpblocks", "httpget", "httpcrew", "httphead"):
    sys.modules[f"jindopy._ext.{name}"] = None
from contextlib import closing
from jindopy.base.clock import Deadline
from jindopy.ufs.credentials import Credentials, Static
from jindopy.ufs.layers import LayerConfig, download_rate, wrap
from jindopy.ufs.registry import open_driver
from jindopy.cache import fill_native
assert not fill_native.NATIVE
options = {"fs.oss.endpoint": sys.argv[1], "fs.oss.region": "cn-hangzhou"}
bare, _ = open_driver("oss://blocks", options, Static(Credentials(*sys.argv[2:4])))
with closing(wrap(bare, LayerConfig(download_rate=download_rate(1e9)))) as driver:
    assert driver.block_gets() is None
    stat = driver.put(b"plain", b"x" * 1000, deadline=Deadline.after(20))
    with driver.get(b"plain", 0, 1000, token=stat.token, deadline=Deadline.after(20)) as body:
        target = bytearray(1000)
        assert body.readinto(memoryview(target)) == 1000
        assert target == b"x" * 1000
"""


def test_without_the_native_client_gets_go_through_python(emulator: Emulator) -> None:
    command = [sys.executable, "-c", WITHOUT, emulator.endpoint, *emulator.keys]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_get_is_for_blocks_that_exist(bench: Bench) -> None:
    version = bench.put(b"two", os.urandom(BLOCK_BYTES + 1))
    lease = bench.open(version)
    queue = httpblocks.LandingQueue()
    for first, count in [(0, 0), (2, 1), (1, 2), (0, 3)]:
        with pytest.raises(ValueError, match="no blocks"):
            httpblocks.BlockGet(queue, bench.pool, lease, first, count, b"token", True, None)
    get = httpblocks.BlockGet(queue, bench.pool, lease, 1, 1, b"token", True, "mine")
    assert (get.offset, get.size_bytes, get.cookie, get.object_crc64) == (BLOCK_BYTES, 1, "mine", None)
    assert queue.take(0.01) == []
    lease.close()
