"""One large file that is not cached, as fast as machine and store allow, beside a client that only receives."""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path

import pytest

from bench.lib import content, processes, reader
from bench.lib.bare import discarded_bytes_per_second
from bench.lib.mounts import Client
from bench.lib.pairs import Pairs, Record, median_ratio, traffic_facts
from bench.lib.server import BUCKET, Server

SIZE_BYTES = 1 << 30
CONNECTIONS = 16  # ``fetch_threads``


@pytest.mark.figure_cold_vs_bare
def test_cold_without_limits(disk: Path, memory_cgroup: str, pairs: Pairs, record: Record) -> None:
    store, rates, cpu, traffic = disk / "store", [], [], []
    content.write_file(store / BUCKET / "file", SIZE_BYTES)
    with Server(store) as server:

        def bare() -> float:
            return SIZE_BYTES / discarded_bytes_per_second(server, "file", SIZE_BYTES, CONNECTIONS)

        def mounted() -> float:
            client = Client(disk / f"client{len(rates)}", server.environment)
            try:
                with client.mounted(f"oss://{BUCKET}/") as folder:
                    pid = client.status()["pid"]
                    before = processes.cpu_seconds(pid)
                    seconds = reader.sequential(folder / "file").seconds
                    cpu.append(processes.cpu_seconds(pid) - before)
                    traffic.append(client.status()["traffic"])
                    if not rates:
                        assert content.digest(folder / "file") == content.digest(store / BUCKET / "file")
            finally:
                client.end()
                shutil.rmtree(client.work, ignore_errors=True)
            rates.append(SIZE_BYTES / seconds / 1e6)
            return seconds

        bare_seconds, mount_seconds = pairs(bare, mounted)
    record(
        "cold_vs_bare",
        median_ratio(bare_seconds, mount_seconds),
        **traffic_facts(traffic),
        mb_per_second=round(statistics.median(rates)),
        bare_mb_per_second=round(SIZE_BYTES / statistics.median(bare_seconds) / 1e6),
        cpu_s_per_gb=round(statistics.median(cpu) / (SIZE_BYTES / 1e9), 3),
        cgroup=memory_cgroup,
    )
