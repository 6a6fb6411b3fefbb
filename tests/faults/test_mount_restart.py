"""Daemons killed at work, and caches damaged while no daemon runs: what comes back is right, or is fetched again."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jindopy.base.errors import JindoError
from jindopy.control.api import LoadRequest
from tests.emulator_fixture import running_emulator
from tests.fault_fixture import (
    KEYS,
    bucket_settings,
    cached_bytes,
    check_all,
    control,
    fill_store,
    known_objects,
    status,
)
from tests.mount_fixture import MIB, RunningMount, end_mount, start_mount

pytestmark = [pytest.mark.root, pytest.mark.soak, pytest.mark.slow]

READERS = 3
FLIPS_A_ROUND = 200


class Work:
    """Readers and a load that go on until the daemon is gone."""

    def __init__(self, mount: RunningMount, objects: dict[str, bytes], seed: int, *, load: bool) -> None:
        self._mount, self._objects = mount, objects
        self.wrong: list[str] = []
        self.reads = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(seed * READERS + n,)) for n in range(READERS)]
        if load:
            self._threads.append(threading.Thread(target=self._load))
        for thread in self._threads:
            thread.start()

    def _read(self, seed: int) -> None:
        chance, names = random.Random(seed), list(self._objects)
        while not self._stop.is_set():
            name = chance.choice(names)
            try:
                data = (self._mount.path / name).read_bytes()
            except OSError as error:
                # The kernel tells of the death before the process can be waited for, on a busy machine long before.
                end = time.monotonic() + 5
                while self._mount.process.poll() is None and not self._stop.is_set():
                    if time.monotonic() > end:
                        self.wrong.append(f"{name}: {error} from a living daemon")
                        break
                    time.sleep(0.02)
                return
            self.reads += 1
            if data != self._objects[name]:
                self.wrong.append(name)

    def _load(self) -> None:
        with contextlib.suppress(JindoError):  # the daemon dies under it
            for _ in control(self._mount).load(LoadRequest(paths=[])):
                if self._stop.is_set():
                    return

    def end(self) -> None:
        """Wait for all."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


def test_killed_while_it_loads_and_serves(tmp_path: Path, rounds: Callable[[int, int], int]) -> None:
    objects = known_objects(60, 8)
    fill_store(tmp_path / "store", objects)
    chance = random.Random(9)
    reads = came_back = resumes = log_chars = 0
    with running_emulator(tmp_path / "store", bandwidth="80MB/s", latency="5ms") as emulator:
        settings = bucket_settings(tmp_path / "work", emulator)
        for number in range(rounds(5, 100)):
            mount = start_mount(settings, KEYS)
            try:
                whole = {name: data for name, data in objects.items() if cached_bytes(mount, name) == len(data)}
                came_back += len(whole)
                if number:
                    assert status(mount).mounts[0].cached_bytes > 0
                emulator.reset_stats()
                check_all(mount, whole)
                traffic = status(mount).traffic
                # What the kernel read by itself shows as the sizes of the files, once an open.
                assert traffic.read_bytes == traffic.cache_read_bytes
                assert traffic.cache_read_bytes + traffic.passed_bytes >= sum(map(len, whole.values()))
                resumed = "goes on after a restart" in mount.log[log_chars:]
                resumes += resumed
                if not resumed:  # else the load that was killed fetches what is missing meanwhile
                    assert emulator.stats().get("GetObject", 0) == 0, "cached files were fetched again"
                log_chars = len(mount.log)
                control(mount).evict(chance.sample(list(objects), 25))
                work = Work(mount, objects, number, load=number % 3 == 0)
                try:
                    time.sleep(chance.uniform(0.05, 0.6))
                finally:
                    mount.kill()
                    work.end()
                assert work.wrong == []
                reads += work.reads
            finally:
                end_mount(mount)
        mount = start_mount(settings, KEYS)
        try:
            check_all(mount, objects)
            assert status(mount).traffic.crc_failures == 0
        finally:
            end_mount(mount)
    assert reads > 0
    assert came_back > 0
    assert resumes > 0


def flip_bits(files: list[Path], count: int, chance: random.Random) -> dict[tuple[Path, int], int]:
    """Flip single bits, no byte twice; returns the bytes of each block that was hit."""
    places = set()
    while len(places) < count:
        path = chance.choice(files)
        places.add((path, chance.randrange(path.stat().st_size)))
    hit = {}
    for path, position in places:
        with path.open("r+b") as file:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ 1 << chance.randrange(8)]))
        block = position // MIB
        hit[path, block] = min(MIB, path.stat().st_size - block * MIB)
    return hit


def test_bits_flipped_while_no_daemon_runs(tmp_path: Path, rounds: Callable[[int, int], int]) -> None:
    objects = known_objects(240, 10)
    fill_store(tmp_path / "store", objects)
    chance = random.Random(20)
    with running_emulator(tmp_path / "store") as emulator:
        settings = bucket_settings(tmp_path / "work", emulator)
        mount = start_mount(settings, KEYS)
        try:
            check_all(mount, objects)
        finally:
            end_mount(mount)
        files = [path for path in (tmp_path / "work" / "cache" / "v1" / "SSD").rglob("*") if path.is_file()]
        assert len(files) == len(objects)
        for _ in range(rounds(2, 50)):
            hit = flip_bits(files, FLIPS_A_ROUND, chance)
            mount = start_mount(settings, KEYS)
            try:
                emulator.reset_stats()
                check_all(mount, objects)
                traffic = status(mount).traffic
                assert traffic.crc_failures == len(hit)
                assert traffic.ufs_bytes == sum(hit.values()), "what was damaged is fetched, nothing else"
                emulator.reset_stats()
                check_all(mount, objects)
                assert emulator.stats().get("GetObject", 0) == 0, "healed blocks stay"
            finally:
                end_mount(mount)
