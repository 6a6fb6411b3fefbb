"""Epochs over more small files than there is memory for: cached files in random order, by many processes."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.lib import cgroup, content, pagecache, processes, reader
from bench.lib.mounts import Client
from bench.lib.pairs import PAIRS, Record, median_ratio, traffic_facts
from bench.lib.server import BUCKET, Server

FILE_BYTES = 100_000
FOLDERS = 20
FOLDER_FILES = 500
READERS = 8
EPOCHS = 2
LIMIT_BYTES = 256_000_000
KEYS = [f"d{folder:02}/f{number:05}.jpg" for folder in range(FOLDERS) for number in range(FOLDER_FILES)]
URI = f"oss://{BUCKET}/"


@pytest.fixture
def limited() -> Iterator[str]:
    """Readers and mount in one fresh cgroup with little memory."""
    with cgroup.fresh(LIMIT_BYTES) as group:
        yield group


@pytest.mark.figure_epoch_vs_raw
def test_two_epochs(disk: Path, limited: str, benchmark: Any, record: Record) -> None:
    raw: list[list[float]] = [[] for _ in range(EPOCHS)]
    mounted: list[list[float]] = [[] for _ in range(EPOCHS)]
    cpu, memory, traffic = [], [], []
    references = [disk / "epochs-reference" / key for key in KEYS]
    with Server(disk / "epochs-store") as server:
        for seed, (key, reference) in enumerate(zip(KEYS, references, strict=True)):
            content.write_file(reference, FILE_BYTES, seed)
            content.write_file(server.bucket / key, FILE_BYTES, seed)
        client = Client(disk / "epochs", server.environment)

        def epochs(paths: list[Path], into: list[list[float]]) -> None:
            for epoch, seconds in enumerate(into):
                random.Random(100 * epoch + len(seconds)).shuffle(paths)
                read = reader.small(paths, READERS, disk)
                assert read.bytes == len(KEYS) * FILE_BYTES
                seconds.append(read.seconds)

        def plain() -> None:
            pagecache.drop_and_check(references)
            epochs(list(references), raw)

        def through_the_mount() -> None:
            with client.mounted(URI) as folder:
                pagecache.drop_and_check(client.cache_files())
                pid = client.status()["pid"]
                before = processes.cpu_seconds(pid)
                epochs([folder / key for key in KEYS], mounted)
                cpu.append(processes.cpu_seconds(pid) - before)
                memory.append(processes.own_bytes(pid))
                traffic.append(client.status()["traffic"])

        def pair() -> None:
            for side in (plain, through_the_mount) if len(cpu) % 2 == 0 else (through_the_mount, plain):
                side()

        try:
            with client.mounted(URI) as folder:
                client.run("load", str(folder))
                for key, reference in list(zip(KEYS, references, strict=True))[::200]:
                    assert content.digest(folder / key) == content.digest(reference)
            benchmark.pedantic(pair, rounds=PAIRS, iterations=1)
        finally:
            client.end()
    assert all(one["ufs_gets"] == 0 for one in traffic)
    ratios = [median_ratio(plain_seconds, seconds) for plain_seconds, seconds in zip(raw, mounted, strict=True)]
    facts: dict[str, object] = {}
    for epoch in range(EPOCHS):
        facts[f"epoch_{epoch + 1}_ratio"] = round(ratios[epoch], 3)
        facts[f"epoch_{epoch + 1}_files_per_s"] = round(len(KEYS) / statistics.median(mounted[epoch]))
        facts[f"epoch_{epoch + 1}_reference_files_per_s"] = round(len(KEYS) / statistics.median(raw[epoch]))
    record(
        "epoch_vs_raw",
        min(ratios),
        **facts,
        readers=READERS,
        daemon_cpu_ms_per_file=round(statistics.median(cpu) / EPOCHS / len(KEYS) * 1e3, 3),
        daemon_own_mb=round(max(memory) / 1e6),
        **traffic_facts(traffic),
        cgroup=limited,
    )
