"""Small files that are not cached: fetched ahead of their readers, in any order, and never a folder for one file."""

from __future__ import annotations

import os
import random
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.lib import content, processes, reader
from bench.lib.bare import bare_gets_per_second
from bench.lib.mounts import Client
from bench.lib.pairs import PAIRS, Record, traffic_facts
from bench.lib.server import BUCKET, Server

FILE_BYTES = 100_000
FOLDER_FILES = 500
EPOCH_FOLDERS = 20
EPOCH_READERS = 8
EPOCHS = 3
LINK_BYTES_PER_SECOND = 100_000_000
LATENCY = ("--latency", "20ms")
URI = f"oss://{BUCKET}/"


def keys(folder: int) -> list[str]:
    return [f"d{folder:02}/f{number:05}.jpg" for number in range(FOLDER_FILES)]


ALL_KEYS = [key for folder in range(EPOCH_FOLDERS) for key in keys(folder)]


@pytest.fixture(scope="module")
def store(disk: Path) -> Path:
    """Folders of small files, as the server serves them."""
    root = disk / "store"
    for seed, key in enumerate(ALL_KEYS):
        content.write_file(root / BUCKET / key, FILE_BYTES, seed)
    return root


@pytest.fixture(scope="module")
def bare_rate(store: Path) -> float:
    """GETs a second of the server itself, without latency, by clients that do nothing else."""
    with Server(store) as server:
        return bare_gets_per_second(server, BUCKET, ALL_KEYS[:2_000])


@pytest.fixture
def slow(store: Path, disk: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Server, Client]]:
    """A server with latency and what else the test asks for, and a client that has nothing cached."""
    with Server(store, *LATENCY, *getattr(request, "param", ())) as server:
        client = Client(disk / "client", server.environment)
        try:
            yield server, client
        finally:
            client.end()
            shutil.rmtree(client.work, ignore_errors=True)


def gets(server: Server) -> int:
    count: int = server.stats()["counters"].get("GetObject", 0)
    return count


def forget(client: Client) -> None:
    """The next mount starts with nothing."""
    for folder in (client.cache_dir, client.work / "state"):
        shutil.rmtree(folder, ignore_errors=True)


def verify(folder: Path, store: Path, some: list[str]) -> None:
    for key in some:
        assert content.digest(folder / key) == content.digest(store / BUCKET / key)


@pytest.mark.figure_small_cold_speedup
def test_one_reader_of_a_cold_folder(
    slow: tuple[Server, Client],
    store: Path,
    disk: Path,
    bare_rate: float,
    memory_cgroup: str,
    benchmark: Any,
    record: Record,
) -> None:
    server, client = slow
    rates: dict[str, list[float]] = {"one_at_a_time": [], "readdir": [], "shuffled": []}
    cpu, traffic = [], []

    def cold(order: str, shuffle: random.Random | None) -> None:
        forget(client)
        before = gets(server)
        with client.mounted(URI) as folder:
            paths = list((folder / "d00").iterdir())
            if shuffle is not None:
                shuffle.shuffle(paths)
            status = client.status()
            cpu_before = processes.cpu_seconds(status["pid"])
            read = reader.small(paths, 1, disk)
            cpu.append((processes.cpu_seconds(status["pid"]) - cpu_before) / len(paths))
            traffic.append(client.status()["traffic"])
            assert read.bytes == FOLDER_FILES * FILE_BYTES
            assert gets(server) - before == FOLDER_FILES
            verify(folder, store, keys(0)[::50])
        rates[order].append(FOLDER_FILES / read.seconds)

    def once() -> None:
        rates["one_at_a_time"].append(bare_gets_per_second(server, BUCKET, keys(0), processes=1))
        cold("readdir", None)
        cold("shuffled", random.Random(len(rates["shuffled"])))

    benchmark.pedantic(once, rounds=PAIRS, iterations=1)
    medians = {order: statistics.median(some) for order, some in rates.items()}
    speedups = {
        order: statistics.median(ours / alone for ours, alone in zip(rates[order], rates["one_at_a_time"], strict=True))
        for order in ("readdir", "shuffled")
    }
    record(
        "small_cold_speedup",
        min(speedups.values()),
        **{f"{order}_speedup": round(value, 2) for order, value in speedups.items()},
        **{f"{order}_files_per_s": round(rate) for order, rate in medians.items()},
        server_factor=round(bare_rate / max(medians["readdir"], medians["shuffled"]), 2),
        daemon_cpu_ms_per_file=round(statistics.median(cpu) * 1e3, 2),
        **traffic_facts(traffic),
        cgroup=memory_cgroup,
    )


@pytest.mark.figure_overfetch_single
def test_one_file_of_a_large_folder(disk: Path, memory_cgroup: str, benchmark: Any, record: Record) -> None:
    traffic = []
    folder_of_many = "name=many,prefixes=1,objects=10000,size=100kB"
    with Server(disk / "nothing", *LATENCY, "--synthetic", folder_of_many) as server:
        client = Client(disk / "single", server.environment)

        def once() -> None:
            forget(client)
            with client.mounted("oss://many/") as folder:
                paths = list((folder / "p000").iterdir())
                assert len(paths) == 10_000
                assert len(paths[5_000].read_bytes()) == FILE_BYTES
                time.sleep(1)
                traffic.append(client.status()["traffic"])

        try:
            benchmark.pedantic(once, rounds=PAIRS, iterations=1)
        finally:
            client.end()
    record(
        "overfetch_single",
        max(one["ufs_bytes"] for one in traffic) / 1e6,
        **traffic_facts(traffic),
        cgroup=memory_cgroup,
    )


@pytest.mark.figure_first_epoch_link_fraction
@pytest.mark.parametrize("slow", [("--bandwidth", "100MB/s")], indirect=True)
def test_a_first_epoch_by_many(
    slow: tuple[Server, Client],
    store: Path,
    disk: Path,
    bare_rate: float,
    memory_cgroup: str,
    benchmark: Any,
    record: Record,
) -> None:
    server, client = slow
    seconds, second_seconds, cpu, traffic = [], [], [], []

    def once() -> None:
        forget(client)
        before = gets(server)
        with client.mounted(URI) as folder:
            paths = [Path(top) / name for top, _, names in os.walk(folder) for name in names]
            assert len(paths) == len(ALL_KEYS)
            random.Random(len(seconds)).shuffle(paths)
            pid = client.status()["pid"]
            cpu_before = processes.cpu_seconds(pid)
            read = reader.small(paths, EPOCH_READERS, disk)
            cpu.append((processes.cpu_seconds(pid) - cpu_before) / len(paths))
            traffic.append(client.status()["traffic"])
            assert read.bytes == len(paths) * FILE_BYTES
            assert gets(server) - before == len(paths)
            seconds.append(read.seconds)
            random.Random(-len(seconds)).shuffle(paths)
            second_seconds.append(reader.small(paths, EPOCH_READERS, disk).seconds)
            assert gets(server) - before == len(paths), "the next epoch, in another order, is served from the cache"
            verify(folder, store, ALL_KEYS[::500])

    benchmark.pedantic(once, rounds=EPOCHS, iterations=1)
    files_per_s = len(ALL_KEYS) / statistics.median(seconds)
    record(
        "first_epoch_link_fraction",
        files_per_s * FILE_BYTES / LINK_BYTES_PER_SECOND,
        files_per_s=round(files_per_s),
        second_epoch_files_per_s=round(len(ALL_KEYS) / statistics.median(second_seconds)),
        readers=EPOCH_READERS,
        server_factor=round(bare_rate * FILE_BYTES / LINK_BYTES_PER_SECOND, 2),
        daemon_cpu_ms_per_file=round(statistics.median(cpu) * 1e3, 2),
        **traffic_facts(traffic),
        cgroup=memory_cgroup,
    )
