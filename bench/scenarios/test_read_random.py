"""Random reads of a large file that is not cached fetch the blocks they touch, and no others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.lib import reader
from bench.lib.mounts import Client
from bench.lib.pairs import PAIRS, Record, traffic_facts
from bench.lib.server import Server

READS = 1_000
BLOCK_BYTES = 1 << 20


@pytest.mark.figure_overfetch_random
def test_random_reads(disk: Path, memory_cgroup: str, benchmark: Any, record: Record) -> None:
    ratios, blocks, traffic = [], [], []
    with Server(disk / "random-store", "--synthetic", "name=large,objects=1,size=1GB") as server:
        client = Client(disk / "random", server.environment)

        def once() -> None:
            shutil.rmtree(client.cache_dir, ignore_errors=True)
            with client.mounted("oss://large/") as folder:
                touched = reader.random_reads(next(folder.iterdir()), READS, seed=len(ratios))
                told = client.status()["traffic"]
            blocks.append(touched)
            traffic.append(told)
            ratios.append(told["ufs_bytes"] / (touched * BLOCK_BYTES))

        try:
            benchmark.pedantic(once, rounds=PAIRS, iterations=1)
        finally:
            client.end()
    record("overfetch_random", max(ratios), blocks=max(blocks), **traffic_facts(traffic), cgroup=memory_cgroup)
