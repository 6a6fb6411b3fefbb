"""Memory of a mount that has nothing to do."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bench.lib import processes
from bench.lib.mounts import Client
from bench.lib.pairs import Record
from bench.lib.server import BUCKET, Server

FILES = 1_000
REST_SECONDS = 60


@pytest.mark.figure_idle_mb
def test_idle(disk: Path, memory_cgroup: str, record: Record) -> None:
    with Server(disk / "store") as server:
        for index in range(FILES):
            (server.bucket / f"f{index:04}").write_bytes(b"x")
        client = Client(disk / "client", server.environment)
        try:
            with client.mounted(f"oss://{BUCKET}/") as folder:
                assert sum(entry.stat().st_size for entry in os.scandir(folder)) == FILES
                time.sleep(REST_SECONDS)
                pid = client.status()["pid"]
                record(
                    "idle_mb",
                    processes.pss_bytes(pid) / 1e6,
                    processes=len(processes.tree(pid)),
                    cgroup=memory_cgroup,
                )
        finally:
            client.end()
