"""What a small file that is not cached costs the mount in CPU, from lookup to release."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from bench.lib import content, processes, reader
from bench.lib.bare import bare_gets_per_second
from bench.lib.mounts import Client
from bench.lib.pairs import Record, traffic_facts
from bench.lib.server import BUCKET, Server

FILES = 5_000
FILE_BYTES = 100_000
ROUNDS = 3
KEYS = [f"d/f{number:05}.jpg" for number in range(FILES)]


@pytest.mark.figure_cpu_ms_per_get
def test_cpu_of_cold_small_files(disk: Path, memory_cgroup: str, benchmark: Any, record: Record) -> None:
    store = disk / "store"
    for seed, key in enumerate(KEYS):
        content.write_file(store / BUCKET / key, FILE_BYTES, seed)
    cpu, rates, traffic = [], [], []
    with Server(store) as server:
        bare_rate = bare_gets_per_second(server, BUCKET, KEYS[:2_000])

        def once() -> None:
            # Each round in folders of its own, none removed before the end: ext4 is slow to reuse fresh inodes, and
            # that would be counted as ours.
            client = Client(disk / f"client{len(cpu)}", server.environment)
            try:
                with client.mounted(f"oss://{BUCKET}/") as folder:
                    paths = list((folder / "d").iterdir())
                    pid = client.status()["pid"]
                    before = processes.cpu_seconds(pid)
                    read = reader.small(paths, 1, disk)
                    cpu.append((processes.cpu_seconds(pid) - before) / FILES)
                    rates.append(FILES / read.seconds)
                    traffic.append(client.status()["traffic"])
                    assert read.bytes == FILES * FILE_BYTES
                    for key in KEYS[::500]:
                        assert content.digest(folder / key) == content.digest(store / BUCKET / key)
            finally:
                client.end()

        benchmark.pedantic(once, rounds=ROUNDS, iterations=1)
    record(
        "cpu_ms_per_get",
        statistics.median(cpu) * 1e3,
        **traffic_facts(traffic),
        files_per_second=round(statistics.median(rates)),
        bare_files_per_second=round(bare_rate),
        cgroup=memory_cgroup,
    )
