"""What a mount takes of a budget of 256 MiB while far more passes through it."""

from __future__ import annotations

import os
import random
import shutil
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bench.lib import processes
from bench.lib.mounts import Client
from bench.lib.pairs import Record, traffic_facts
from bench.lib.server import Server
from jindopy.emulator.synthetic import Synthetic, SyntheticBucket

FILES = 1_000
FILE_BYTES = 10_000_000
PIECE_BYTES = 1 << 20
READERS = 8
CHECKED_SHARE = 200
ROUNDS = 2
FORMULA = f"name=tree,prefixes=10,objects={FILES // 10},size={FILE_BYTES}"


@pytest.mark.figure_budget_mb
def test_10_gb_through_1_gb(disk: Path, memory_cgroup: str, benchmark: Any, record: Record) -> None:
    base, peaks, seconds, cpu, traffic = [], [], [], [], []
    contents = Synthetic([SyntheticBucket.parse(FORMULA)])

    def once() -> None:
        shutil.rmtree(client.cache_dir, ignore_errors=True)
        with client.mounted("oss://tree/", "--memory", "256M", "--quota", "1GB") as folder:
            pid = client.status()["pid"]
            base.append(processes.own_bytes(pid))
            keys = [str(path.relative_to(folder)) for path in sorted(folder.glob("p*/o*"))]
            files = [os.open(folder / key, os.O_RDONLY) for key in keys]
            assert len(files) == FILES
            pieces = [(number, offset) for number in range(FILES) for offset in range(0, FILE_BYTES, PIECE_BYTES)]
            random.Random(len(peaks)).shuffle(pieces)
            wrong = []

            def read(reader: int) -> int:
                buffer = bytearray(PIECE_BYTES)
                total = 0
                for index in range(reader, len(pieces), READERS):
                    number, offset = pieces[index]
                    got = os.preadv(files[number], [buffer], offset)
                    total += got
                    if index % CHECKED_SHARE == 0:
                        expected = contents.content("tree", keys[number].encode())[offset : offset + PIECE_BYTES]
                        wrong.extend([] if buffer[:got] == expected else [(keys[number], offset)])
                return total

            cpu_before = processes.cpu_seconds(pid)
            with processes.watched(pid) as samples, ThreadPoolExecutor(READERS) as readers:
                start = time.monotonic()
                assert sum(readers.map(read, range(READERS))) == FILES * FILE_BYTES
                seconds.append(time.monotonic() - start)
            cpu.append(processes.cpu_seconds(pid) - cpu_before)
            peaks.append(max(samples))
            status = client.status()
            traffic.append(status["traffic"])
            assert wrong == []
            assert status["tiers"][0]["used_bytes"] <= 1e9
            for descriptor in files:
                os.close(descriptor)

    with Server(disk / "budget-store", "--synthetic", FORMULA) as server:
        client = Client(disk / "budget", server.environment)
        try:
            benchmark.pedantic(once, rounds=ROUNDS, iterations=1)
        finally:
            client.end()
    gigabytes = FILES * FILE_BYTES / 1e9
    record(
        "budget_mb",
        max(peaks) / 1e6,
        base_mb=round(statistics.median(base) / 1e6, 1),
        mb_per_s=round(gigabytes * 1e3 / statistics.median(seconds)),
        daemon_cpu_s_per_gb=round(statistics.median(cpu) / gigabytes, 2),
        **traffic_facts(traffic),
        cgroup=memory_cgroup,
    )
