"""One large file: from the store, from the cache on disk, from the page cache; and what checking costs."""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.lib import content, pagecache, processes, reader
from bench.lib.bare import bare_bytes_per_second
from bench.lib.mounts import Client
from bench.lib.pairs import PAIRS, Pairs, Record, median_ratio, traffic_facts
from bench.lib.server import BUCKET, Server

SIZE_BYTES = 210 << 20
LINK_BYTES_PER_SECOND = 100_000_000
VERIFY_BYTES = 1 << 30
URI = f"oss://{BUCKET}/"


class Setting:
    """A bucket with one file, the same file on the plain disk, a client that has cached it."""

    def __init__(self, disk: Path, size_bytes: int) -> None:
        self.reference = disk / "reference" / "file"
        self.size_bytes = size_bytes
        content.write_file(self.reference, size_bytes)
        self.server = Server(disk / "store")
        shutil.copyfile(self.reference, self.server.bucket / "file")
        self.client = Client(disk / "client", self.server.environment)
        with self.client.mounted(URI) as folder:
            assert content.digest(folder / "file") == content.digest(self.reference)

    def end(self) -> None:
        self.client.end()
        self.server.stop()


@pytest.fixture
def warm(disk: Path, memory_cgroup: str, request: pytest.FixtureRequest) -> Iterator[Setting]:
    setting = Setting(disk / request.node.name, getattr(request, "param", SIZE_BYTES))
    yield setting
    setting.end()


@pytest.mark.figure_warm_uncached_vs_raw
@pytest.mark.figure_warm_hot_vs_raw
def test_warm(warm: Setting, memory_cgroup: str, pairs: Pairs, record: Record) -> None:
    resident, traffic, hot = [], [], []

    def raw() -> float:
        resident.append(pagecache.drop_and_check([warm.reference]))
        return reader.sequential(warm.reference).seconds

    def mounted() -> float:
        with warm.client.mounted(URI) as folder:
            resident.append(pagecache.drop_and_check(warm.client.cache_files()))
            seconds = reader.sequential(folder / "file").seconds
            traffic.append(warm.client.status()["traffic"])
            hot.append(reader.sequential(folder / "file").seconds / reader.sequential(warm.reference).seconds)
        return seconds

    raw_seconds, mount_seconds = pairs(raw, mounted)
    record(
        "warm_uncached_vs_raw",
        median_ratio(mount_seconds, raw_seconds),
        **traffic_facts(traffic),
        resident_pages=max(resident),
        seconds=statistics.median(mount_seconds),
        reference_seconds=statistics.median(raw_seconds),
        cgroup=memory_cgroup,
    )
    record("warm_hot_vs_raw", statistics.median(hot))


@pytest.mark.figure_cold_link_fraction
def test_cold(disk: Path, memory_cgroup: str, benchmark: Any, record: Record) -> None:
    work = disk / "cold"
    source = work / "store" / BUCKET / "file"
    content.write_file(source, SIZE_BYTES)
    traffic, runs = [], []
    with Server(work / "store") as unlimited:
        bare_rate = bare_bytes_per_second(unlimited, BUCKET, "file", SIZE_BYTES)
    with Server(work / "store", "--latency", "20ms", "--bandwidth", "100MB/s") as server:
        client = Client(work / "client", server.environment)

        def once() -> None:
            shutil.rmtree(client.cache_dir, ignore_errors=True)
            with client.mounted(URI) as folder:
                runs.append(reader.sequential(folder / "file").seconds)
                traffic.append(client.status()["traffic"])

        try:
            benchmark.pedantic(once, rounds=PAIRS, iterations=1)
        finally:
            client.end()
    seconds = statistics.median(runs)
    record(
        "cold_link_fraction",
        SIZE_BYTES / seconds / LINK_BYTES_PER_SECOND,
        server_factor=round(bare_rate / LINK_BYTES_PER_SECOND, 2),
        **traffic_facts(traffic),
        seconds=seconds,
        cgroup=memory_cgroup,
    )


@pytest.mark.figure_verify_cpu_s_per_gb
@pytest.mark.parametrize("warm", [VERIFY_BYTES], indirect=True)
def test_verify(warm: Setting, memory_cgroup: str, benchmark: Any, record: Record) -> None:
    first, again = [], []

    def cpu_of_read(folder: Path) -> float:
        pid = warm.client.status()["pid"]
        before = processes.cpu_seconds(pid)
        reader.sequential(folder / "file")
        return processes.cpu_seconds(pid) - before

    def once() -> None:
        pagecache.warm(warm.client.cache_files())
        # A checked file is passed to the kernel at its next open, and then costs the daemon nothing at all.
        with warm.client.mounted(URI, "--no-passthrough") as folder:
            first.append(cpu_of_read(folder))
            # The least of three: fresh memory for the page cache costs the daemon up to twice as much some times.
            verified = []
            for _ in range(3):
                drop_pages_of_mounted_file(folder / "file")
                verified.append(cpu_of_read(folder))
            again.append(min(verified))

    benchmark.pedantic(once, rounds=PAIRS, iterations=1)
    gigabytes = VERIFY_BYTES / 1e9
    record(
        "verify_cpu_s_per_gb",
        statistics.median(one - two for one, two in zip(first, again, strict=True)) / gigabytes,
        first_cpu_s_per_gb=round(statistics.median(first) / gigabytes, 3),
        verified_cpu_s_per_gb=round(statistics.median(again) / gigabytes, 3),
        cgroup=memory_cgroup,
    )


def drop_pages_of_mounted_file(path: Path) -> None:
    """Forget the kernel's pages of a file of the mount; the daemon keeps what it verified."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    assert pagecache.resident_pages([path]) == 0
