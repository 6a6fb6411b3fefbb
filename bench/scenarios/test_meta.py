"""Metadata: listing a bucket into the namespace, walking it, and the namespace's own store."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench.lib.bare import bare_objects_per_second
from bench.lib.mounts import ROOT, Client
from bench.lib.pairs import Record
from bench.lib.server import Server

OBJECTS = 200_000
PREFIXES = 200
TREE = f"name=meta,prefixes={PREFIXES},objects={OBJECTS // PREFIXES},size=1kB"
FLAT = f"name=meta,prefixes=0,objects={OBJECTS},size=1kB"
WALK = "name=meta,prefixes=100,objects=1000,size=1kB"
LATENCY = ["--latency", "20ms"]
URI = "oss://meta/"
ROUNDS = 3  # each takes several seconds


def load_metadata(disk: Path, benchmark: Any, synthetic: str, *options: str) -> tuple[list[float], dict[str, Any]]:
    """Seconds of each load into an empty namespace, and what the client said of its traffic."""
    seconds: list[float] = []
    traffic: dict[str, Any] = {}
    with Server(disk / "store", "--synthetic", synthetic, *options) as server:

        def once() -> None:
            client = Client(disk / f"client-{len(seconds)}", server.environment)
            try:
                with client.mounted(URI) as folder:
                    start = time.perf_counter()
                    client.run("load", "--metadata", str(folder))
                    seconds.append(time.perf_counter() - start)
                    told = client.status()
                    traffic.update(told["traffic"])
                    assert sum(mount["files"] for mount in told["mounts"]) == OBJECTS
            finally:
                client.end()

        benchmark.pedantic(once, rounds=ROUNDS, iterations=1)
    return seconds, traffic


@pytest.mark.parametrize(
    ("figure", "synthetic", "options"),
    [
        pytest.param("meta_load_per_s", TREE, (), marks=pytest.mark.figure_meta_load_per_s),
        pytest.param(
            "meta_load_20ms_per_s", TREE, ("--latency", "20ms"), marks=pytest.mark.figure_meta_load_20ms_per_s
        ),
        pytest.param("meta_load_flat_per_s", FLAT, (), marks=pytest.mark.figure_meta_load_flat_per_s),
    ],
)
def test_load_metadata(
    disk: Path,
    memory_cgroup: str,
    benchmark: Any,
    record: Record,
    figure: str,
    synthetic: str,
    options: tuple[str, ...],
) -> None:
    with Server(disk / figure / "bare", "--synthetic", synthetic) as server:
        bare = bare_objects_per_second(
            server, "meta", [] if synthetic is FLAT else [f"p{n:03}/" for n in range(PREFIXES)]
        )
    seconds, traffic = load_metadata(disk / figure, benchmark, synthetic, *options)
    rate = OBJECTS / statistics.median(seconds)
    record(
        figure,
        rate,
        server_factor=None if options else round(bare / rate, 2),
        server_lists=traffic["ufs_lists"],
        seconds=statistics.median(seconds),
        cgroup=memory_cgroup,
    )


@pytest.mark.figure_find_100k_s
def test_find(disk: Path, memory_cgroup: str, benchmark: Any, record: Record) -> None:
    seconds: list[float] = []
    with Server(disk / "walk" / "store", "--synthetic", WALK) as server:
        client = Client(disk / "walk" / "client", server.environment)

        def once() -> None:
            with client.mounted(URI, "--ttl", "once") as folder:
                client.run("load", "--metadata", str(folder))
            with client.mounted(URI, "--ttl", "once") as folder:
                start = time.perf_counter()
                found = subprocess.run(["find", str(folder), "-size", "+0"], check=True, capture_output=True).stdout
                seconds.append(time.perf_counter() - start)
                assert found.count(b"/o") == 100_000

        try:
            benchmark.pedantic(once, rounds=ROUNDS, iterations=1)
        finally:
            client.end()
    record("find_100k_s", statistics.median(seconds), cgroup=memory_cgroup)


@pytest.mark.figure_inodes_1m_s
@pytest.mark.figure_inodes_1m_mb
def test_a_million_inodes(disk: Path, memory_cgroup: str, benchmark: Any, record: Record) -> None:
    told: list[dict[str, float]] = []

    def once() -> None:
        output = subprocess.run(
            [sys.executable, "-m", "bench.micro.namespace", "--json", "--dir", str(disk)],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        told.append(json.loads(output.splitlines()[-1]))

    benchmark.pedantic(once, rounds=ROUNDS, iterations=1)
    record("inodes_1m_s", statistics.median(one["seconds"] for one in told), cgroup=memory_cgroup)
    record("inodes_1m_mb", max(one["memory_mb"] for one in told), cgroup=memory_cgroup)
