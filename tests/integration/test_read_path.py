"""The read path over a real cache on a real disk: which thread waits for the disk, and for how long."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jindopy._ext.blockstore import TierSpec
from jindopy._ext.iobuf import BufferPool
from jindopy.base.ident import BLOCK_BYTES, FileVersion, MountId, UfsId
from jindopy.cache.fill import FillConfig, Filler
from jindopy.cache.store import Cache
from jindopy.read.path import IMPATIENT_SECONDS, PATIENCE_SECONDS, ReadPath
from jindopy.ufs.base import Driver

KIB128 = 128 * 1024
DATA = os.urandom(4 * BLOCK_BYTES)


class DiskClock:
    """Between any two looks at it lie ``step_seconds``: what a read from disk seems to take."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.step_seconds = 0.0

    def monotonic(self) -> float:
        self.now += self.step_seconds
        return self.now

    def wall_ns(self) -> int:
        return 0

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody sleeps here")


class NoStore:
    """Nothing may be fetched: all is cached."""

    def driver(self, mount: MountId) -> Driver:
        raise AssertionError(f"a request to mount {mount}")


class Place:
    """One cached file of four blocks."""

    def __init__(self, root: Path) -> None:
        self.cache = Cache([TierSpec("SSD", str(root), 64 << 20, 0.95, 0.8, 0)])
        self.pool = BufferPool(8 << 20)
        self.filler = Filler(self.cache, NoStore(), self.pool, FillConfig(threads=1))
        self.clock = DiskClock()
        self.reads = ReadPath(self.cache, self.filler, clock=self.clock)
        self.version = FileVersion.of(MountId(1), UfsId("memory://it"), b"k", b"t", len(DATA))
        lease = self.cache.open(self.version)
        for block in range(4):
            buffer = self.pool.acquire(BLOCK_BYTES)
            with memoryview(buffer) as view:
                view[:] = DATA[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]
            assert self.cache.put(lease, block, buffer.seal())
        lease.close()
        (self.path,) = (path for path in root.rglob(self.version.cid.hex()) if path.is_file())

    def to_disk(self) -> None:
        """Out of the page cache, which takes writing it first."""
        self.cache.sync()
        with self.path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        self.reads.close()
        self.filler.close()
        self.cache.close()


@pytest.fixture
def place(disk_path: Path) -> Iterator[Place]:
    made = Place(disk_path)
    yield made
    made.close()


def test_who_reads_ahead_waits_for_a_fast_disk_himself(place: Place) -> None:
    file = place.reads.open(place.version)
    place.to_disk()
    assert place.reads.read_cached(file, 0, KIB128) is None, "nobody reads it ahead: another thread is to wait"
    file.warming = range(len(DATA))
    assert place.reads.read_cached(file, 0, KIB128) == DATA[:KIB128]
    file.close()


def test_a_slow_disk_is_left_to_other_threads_for_a_while(place: Place) -> None:
    file = place.reads.open(place.version)
    file.warming = range(len(DATA))
    place.clock.step_seconds = 2 * PATIENCE_SECONDS
    place.to_disk()
    assert place.reads.read_cached(file, 0, KIB128) == DATA[:KIB128]
    place.to_disk()
    assert place.reads.read_cached(file, BLOCK_BYTES, KIB128) is None
    assert place.reads.read(file, BLOCK_BYTES, KIB128) == DATA[BLOCK_BYTES : BLOCK_BYTES + KIB128]
    place.clock.now += IMPATIENT_SECONDS
    place.to_disk()
    file.warming = range(len(DATA))
    assert place.reads.read_cached(file, 3 * BLOCK_BYTES, KIB128) == DATA[3 * BLOCK_BYTES : 3 * BLOCK_BYTES + KIB128]
    file.close()


def test_a_sequential_reader_has_what_follows_read_ahead(place: Place) -> None:
    file = place.reads.open(place.version)
    place.to_disk()
    assert place.reads.read(file, 0, KIB128) == DATA[:KIB128]
    assert file.warming == range(len(DATA))
    place.reads.close()  # which waits for what was begun, unless it had not begun
    file.close()


def test_a_missing_block_is_nothing_to_wait_for(place: Place) -> None:
    file = place.reads.open(place.version)
    file.warming = range(len(DATA))
    file.lease.drop(1)
    assert place.reads.read_cached(file, BLOCK_BYTES, KIB128) is None
    file.close()
