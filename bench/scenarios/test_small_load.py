"""Opens of cached files while a load fills the link.

Timed from before the open to behind the last byte: with the native transport an open alone is no request at all.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bench.lib import content, pagecache, processes, reader
from bench.lib.bare import bare_bytes_per_second
from bench.lib.mounts import Client
from bench.lib.pairs import Record, traffic_facts
from bench.lib.server import BUCKET, Server

FILES = 2_000
FILE_BYTES = 100_000
OPENS_A_SECOND = 250
"""8 s of opens, within a load of 10 s."""
LARGE_FILES = 8
LARGE_BYTES = 256 << 20
LINK_BYTES_PER_SECOND = 200_000_000
LOAD_FRACTION_MIN = 0.8
ROUNDS = 3
URI = f"oss://{BUCKET}/"


@pytest.mark.figure_p99_open_ms_during_load
def test_opens_while_a_load_runs(disk: Path, memory_cgroup: str, benchmark: Any, record: Record) -> None:
    store = disk / "store"
    names = [f"f{number:05}" for number in range(FILES)]
    for seed, name in enumerate(names):
        content.write_file(store / BUCKET / "small" / name, FILE_BYTES, seed)
    first = store / BUCKET / "large" / "f0"
    content.write_file(first, LARGE_BYTES)
    for number in range(1, LARGE_FILES):
        os.link(first, first.with_name(f"f{number}"))
    with Server(store) as unlimited:
        bare_rate = bare_bytes_per_second(unlimited, BUCKET, "large/f0", LARGE_BYTES)
    alone, beside, runs, cpu, traffic = [], [], [], [], []
    with Server(store, "--latency", "20ms", "--bandwidth", "200MB/s") as server:
        client = Client(disk / "client", server.environment)

        def load(folder: Path) -> float:
            client.run("evict", str(folder / "large"))
            start = time.monotonic()
            client.run("load", str(folder / "large"))
            return time.monotonic() - start

        def once() -> None:
            with client.mounted(URI) as folder:
                alone.append(load(folder))
            with client.mounted(URI) as folder:
                pagecache.warm(client.cache_files())
                paths = list((folder / "small").iterdir())
                pid = client.status()["pid"]
                loading = threading.Thread(target=lambda: beside.append(load(folder)))
                loading.start()
                time.sleep(1)
                cpu_before = processes.cpu_seconds(pid)
                runs.append(reader.opens(paths, OPENS_A_SECOND, disk))
                cpu.append((processes.cpu_seconds(pid) - cpu_before) / runs[-1].seconds)
                assert loading.is_alive(), "the load ended before the opens did"
                loading.join()
                traffic.append(client.status()["traffic"])

        try:
            with client.mounted(URI) as folder:
                client.run("load", str(folder / "small"))
                assert content.digest(folder / "small" / names[7]) == content.digest(
                    store / BUCKET / "small" / names[7]
                )
            benchmark.pedantic(once, rounds=ROUNDS, iterations=1)
        finally:
            client.end()
    fraction = statistics.median(one / two for one, two in zip(alone, beside, strict=True))
    assert fraction >= LOAD_FRACTION_MIN, f"the load ran at {fraction:.2f} of its rate alone"
    record(
        "p99_open_ms_during_load",
        statistics.median(run.p99_ms for run in runs),
        median_ms=round(statistics.median(run.median_ms for run in runs), 3),
        max_ms=round(max(run.max_ms for run in runs), 2),
        p99_open_alone_ms=round(statistics.median(run.open_p99_ms for run in runs), 3),
        load_fraction=round(fraction, 3),
        load_mb_per_s=round(LARGE_FILES * LARGE_BYTES / 1e6 / statistics.median(beside)),
        daemon_cpus=round(statistics.median(cpu), 2),
        server_factor=round(bare_rate / LINK_BYTES_PER_SECOND, 2),
        **traffic_facts(traffic),
        cgroup=memory_cgroup,
    )
