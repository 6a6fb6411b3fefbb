"""An object overwritten under its readers: every read is bytes of one version, or ESTALE."""

from __future__ import annotations

import errno
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.emulator_fixture import running_emulator
from tests.fault_fixture import BUCKET, KEYS, bucket_settings, status, store_bucket, versioned
from tests.mount_fixture import MIB, RunningMount, end_mount, start_mount

pytestmark = [pytest.mark.root, pytest.mark.soak, pytest.mark.slow]

READERS = 4
SECONDS = 6
SIZES = {"one-block": 60_000, "blocks": 5 * MIB + 4096}
READ_BYTES = 128 * 1024


def size_of(name: str, number: int) -> int:
    """Every second version has the size of the one before, the others are shorter or longer."""
    return SIZES[name] + 16 * (number // 2 % 7 - 3)


class Readers:
    """Open, read in pieces, compare, for as long as they may."""

    def __init__(self, mount: RunningMount) -> None:
        self._mount = mount
        self._lock = threading.Lock()
        self.wrong: list[str] = []
        self.seen: dict[str, set[int]] = {name: set() for name in SIZES}
        self.stale = 0
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._loop, args=(number,)) for number in range(READERS)]
        for thread in self.threads:
            thread.start()

    def _loop(self, number: int) -> None:
        names = list(SIZES)
        while not self.stop.is_set():
            name = names[number % len(names)]
            number += 1
            try:
                self._read(name)
            except OSError as error:
                with self._lock:
                    self.stale += 1
                    if error.errno != errno.ESTALE:
                        self.wrong.append(f"{name}: {error}")

    def _read(self, name: str) -> None:
        descriptor = os.open(self._mount.path / name, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            expected = b""
            for offset in range(0, size, READ_BYTES):
                data = os.pread(descriptor, READ_BYTES, offset)
                if not expected:
                    version = struct.unpack_from("<Q", data)[0]
                    expected = versioned(version, size_of(name, version))
                if data != expected[offset : offset + READ_BYTES] or size != len(expected):
                    with self._lock:
                        self.wrong.append(f"{name}: not all of version {version} at {offset} of {size} bytes")
                    return
            with self._lock:
                self.seen[name].add(version)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def test_overwritten_under_its_readers(tmp_path: Path, rounds: Callable[[int, int], int]) -> None:
    with running_emulator(tmp_path / "store", buckets=[BUCKET], bandwidth="150MB/s", latency="2ms") as emulator:
        bucket = store_bucket(emulator)
        for name in SIZES:
            bucket.put_object(name, versioned(0, size_of(name, 0)))
        mount = start_mount(
            bucket_settings(tmp_path / "work", emulator, ttl_seconds=0.2, prefetch_bytes_max=512 * MIB), KEYS
        )
        try:
            readers = Readers(mount)
            end = time.monotonic() + rounds(SECONDS, 600)
            number = 0
            try:
                while time.monotonic() < end:
                    number += 1
                    for name in SIZES:
                        bucket.put_object(name, versioned(number, size_of(name, number)))
                    time.sleep(0.15)
            finally:
                readers.stop.set()
                for thread in readers.threads:
                    thread.join(60)
            assert not any(thread.is_alive() for thread in readers.threads)
            assert readers.wrong == []
            assert all(len(versions) >= 3 for versions in readers.seen.values()), readers.seen
            assert readers.stale > 0, "the writer never came between"
            assert status(mount).traffic.stale_reads > 0
            assert "unexpectedly" not in mount.log
        finally:
            end_mount(mount)
