"""Mounts with little memory: slower, never stuck, and within their budget."""

from __future__ import annotations

import contextlib
import os
import random
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from jindopy.config.settings import CacheTier, UfsMount
from jindopy.emulator.synthetic import Synthetic, SyntheticBucket
from tests.emulator_fixture import Emulator, running_emulator
from tests.fault_fixture import KEYS, REGION, status
from tests.mount_fixture import MIB, RunningMount, running_mount

pytestmark = [pytest.mark.root, pytest.mark.timeout(180), pytest.mark.usefixtures("each_transport")]

BUDGET_BYTES = 64 * MIB
BUCKET = "synthetic"
SAMPLE_SECONDS = 0.1


class Peak:
    """The most anonymous and shared memory of a process and its children, looked at ten times a second."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.bytes = 0

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.bytes = max(self.bytes, self._now())

    def _now(self) -> int:
        top = psutil.Process(self._pid)
        total = 0
        for process in [top, *top.children(recursive=True)]:
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{process.pid}/status").read_text()
                total += sum(int(kib) << 10 for kib in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", text, re.M))
        return total

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@contextlib.contextmanager
def synthetic_mount(tmp_path: Path, formula: str, **changes: object) -> Iterator[tuple[Emulator, RunningMount]]:
    """A mount with the least budget of a bucket made by formula."""
    (tmp_path / "store").mkdir()
    with running_emulator(tmp_path / "store", synthetic=f"name={BUCKET},{formula}", latency="20ms") as emulator:
        options = {"fs.oss.endpoint": emulator.endpoint, "fs.oss.region": REGION}
        changes = {"memory_bytes": BUDGET_BYTES} | changes
        with running_mount(tmp_path, [UfsMount(f"oss://{BUCKET}/", "", options)], KEYS, **changes) as mount:
            yield emulator, mount


def contents(formula: str) -> Callable[[str], bytes]:
    """What an object of the bucket holds."""
    store = Synthetic([SyntheticBucket.parse(f"name={BUCKET},{formula}")])
    return lambda key: store.content(BUCKET, key.encode())


def in_threads(count: int, body: Callable[[int], None], seconds_max: float) -> None:
    """Run bodies side by side; all must have ended in time, and none with an error."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            body(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    end = time.monotonic() + seconds_max
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    assert errors == []
    stuck = sum(thread.is_alive() for thread in threads)
    assert stuck == 0, f"{stuck} readers have not ended after {seconds_max:g} s"


def test_64_readers_with_64_mb_end_with_the_right_bytes(tmp_path: Path):
    """Each reads a file of its own from one end to the other, and pieces of all others, through a cache of a quarter
    of the files."""
    readers, size = 64, 8 * 10**6
    formula = f"prefixes=4,objects=16,size={size}"
    content = contents(formula)
    keys = [f"p{number // 16:03}/o{number % 16:06}" for number in range(readers)]
    tiers = (CacheTier("SSD", str(tmp_path / "cache"), 128 * MIB, 0.95, 0.8, 0),)
    with synthetic_mount(tmp_path, formula, tiers=tiers) as (_, mount), Peak(mount.process.pid) as peak:

        def read(number: int) -> None:
            chance = random.Random(number)
            expected = content(keys[number])
            with (mount.path / keys[number]).open("rb", buffering=0) as file:
                for offset in range(0, size, MIB):
                    assert file.read(MIB) == expected[offset : offset + MIB]
            for key in chance.sample(keys, 5):
                offset = chance.randrange(size - 5000)
                with (mount.path / key).open("rb", buffering=0) as file:
                    assert os.pread(file.fileno(), 5000, offset) == content(key)[offset : offset + 5000]

        in_threads(readers, read, seconds_max=120)
    assert peak.bytes <= BUDGET_BYTES


def test_1000_open_files_and_random_reads_through_a_small_cache(tmp_path: Path):
    size, reads = 2 * 10**6, 1_200
    formula = f"prefixes=10,objects=100,size={size}"
    content = contents(formula)
    quota = 64 * MIB
    tiers = (CacheTier("SSD", str(tmp_path / "cache"), quota, 0.95, 0.8, 0),)
    with contextlib.ExitStack() as stack:
        _, mount = stack.enter_context(synthetic_mount(tmp_path, formula, tiers=tiers))
        peak = stack.enter_context(Peak(mount.process.pid))
        paths = sorted(mount.path.glob("p*/o*"))
        files = [(path, stack.enter_context(path.open("rb", buffering=0))) for path in paths]
        assert len(files) == 1_000

        def read(number: int) -> None:
            chance = random.Random(number)
            for _ in range(reads // 8):
                path, file = chance.choice(files)
                offset = chance.randrange(size - 5000)
                expected = content(str(path.relative_to(mount.path)))[offset : offset + 5000]
                assert os.pread(file.fileno(), 5000, offset) == expected

        in_threads(8, read, seconds_max=120)
        (tier,) = status(mount).tiers
        assert tier.evicted_bytes > quota
        assert tier.used_bytes <= quota
    assert peak.bytes <= BUDGET_BYTES


@pytest.mark.slow
def test_a_tree_with_more_names_than_memory_is_walked_whole(tmp_path: Path):
    """60,000 files whose attributes the kernel asks for and keeps; it is made to forget some."""
    with synthetic_mount(tmp_path, "prefixes=60,objects=1000,size=10", prefetch_bytes_max=0) as (_, mount):
        with Peak(mount.process.pid) as peak:
            for _ in range(2):
                found = subprocess.run(
                    ["find", str(mount.path), "-type", "f", "-size", "+0"], check=True, capture_output=True, text=True
                ).stdout.split()
                assert len(found) == len(set(found)) == 60_000
            (names,) = (part for part in status(mount).memory if part.name == "names")
        assert (mount.path / "p059/o000999").stat().st_size == 10
        assert not (mount.path / "p059/o001000").exists()
    assert names.used_bytes < 1.5 * names.budget_bytes
    assert peak.bytes <= BUDGET_BYTES
