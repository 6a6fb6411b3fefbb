"""5,000 files of 100 kB, as training jobs read them: open, read, close."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.lib import content, pagecache, reader
from bench.lib.mounts import Client
from bench.lib.pairs import PAIRS, Pairs, Record, median_ratio, traffic_facts
from bench.lib.server import BUCKET, Server

FILES = 5_000
FILE_BYTES = 100_000
FILES_A_FOLDER = 500
URI = f"oss://{BUCKET}/"


def names() -> list[str]:
    return [f"d{index // FILES_A_FOLDER:03}/f{index:05}" for index in range(FILES)]


class Setting:
    """The files in a bucket, on the plain disk, and in a client's cache."""

    def __init__(self, disk: Path, cgroup: str) -> None:
        self.cgroup = cgroup
        self.scratch = disk
        self.server = Server(disk / "store")
        self.references = [disk / "reference" / name for name in names()]
        for seed, (name, reference) in enumerate(zip(names(), self.references, strict=True)):
            content.write_file(reference, FILE_BYTES, seed)
            content.write_file(self.server.bucket / name, FILE_BYTES, seed)
        self.client = Client(disk / "client", self.server.environment)
        with self.client.mounted(URI) as folder:
            self.client.run("load", str(folder))
            for name, reference in list(zip(names(), self.references, strict=True))[::100]:
                assert content.digest(folder / name) == content.digest(reference)

    def end(self) -> None:
        self.client.end()
        self.server.stop()


@pytest.fixture(scope="module")
def setting(disk: Path, memory_cgroup: str) -> Iterator[Setting]:
    made = Setting(disk, memory_cgroup)
    yield made
    made.end()


def floor_files_per_s(setting: Setting) -> float:
    """What a file system on the same transport does that only hands out constant bytes."""
    folder = setting.scratch / "floor"
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "bench.baselines.llfuse_floor", str(folder), str(FILE_BYTES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            seconds = reader.small([folder / name for name in names()], 1, setting.scratch).seconds
        finally:
            subprocess.run(["umount", str(folder)], check=True)
    return FILES / seconds


def measure(
    setting: Setting, pairs: Pairs, record: Record, figure: str, readers: int, uncached: bool, **facts: object
) -> None:
    resident, traffic = [], []

    def prepare(paths: list[Path]) -> None:
        if uncached:
            resident.append(pagecache.drop_and_check(paths))
        else:
            pagecache.warm(paths)

    def raw() -> float:
        prepare(setting.references)
        return reader.small(setting.references, readers, setting.scratch).seconds

    def mounted() -> float:
        with setting.client.mounted(URI) as folder:
            prepare(setting.client.cache_files())
            read = reader.small([folder / name for name in names()], readers, setting.scratch)
            assert read.bytes == FILES * FILE_BYTES
            traffic.append(setting.client.status()["traffic"])
        return read.seconds

    raw_seconds, mount_seconds = pairs(raw, mounted)
    record(
        figure,
        median_ratio(raw_seconds, mount_seconds),
        files_per_s=round(FILES / statistics.median(mount_seconds)),
        reference_files_per_s=round(FILES / statistics.median(raw_seconds)),
        readers=readers,
        **facts,
        **traffic_facts(traffic),
        **({"resident_pages": max(resident)} if uncached else {}),
        cgroup=setting.cgroup,
    )


@pytest.mark.figure_small_first_touch_vs_raw
def test_first_touch(setting: Setting, pairs: Pairs, record: Record) -> None:
    floor = round(statistics.median(floor_files_per_s(setting) for _ in range(PAIRS)))
    measure(
        setting, pairs, record, "small_first_touch_vs_raw", readers=1, uncached=False, transport_floor_files_per_s=floor
    )


@pytest.mark.figure_small_uncached_vs_raw
def test_uncached(setting: Setting, pairs: Pairs, record: Record) -> None:
    measure(setting, pairs, record, "small_uncached_vs_raw", readers=1, uncached=True)


@pytest.mark.figure_small_uncached_4_vs_raw
def test_uncached_by_four(setting: Setting, pairs: Pairs, record: Record) -> None:
    measure(setting, pairs, record, "small_uncached_4_vs_raw", readers=4, uncached=True)
