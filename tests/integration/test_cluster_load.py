"""Loads and evictions through a client are the workers' business: nothing passes the client's own cache."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster_fixture import MIB, Cluster, Service, running_cluster
from tests.emulator_fixture import Emulator, running_emulator
from tests.mount_fixture import wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]

FILES = 30
LARGE = 100 * MIB


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with running_emulator(tmp_path / "oss", buckets=["demo"]) as running:
        folder = running.root / "demo" / "set"
        folder.mkdir()
        for number in range(FILES):
            (folder / f"{number:02}").write_bytes(random.Random(number).randbytes(300_000))
        (running.root / "demo" / "model").write_bytes(random.Random("m").randbytes(LARGE))
        yield running


@pytest.fixture
def cluster(tmp_path: Path, emulator: Emulator) -> Iterator[Cluster]:
    work = tmp_path / "cluster"
    work.mkdir()
    with running_cluster(work, emulator) as running:
        yield running


def command(client: Service, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "jindopy", *arguments, "--json", "--run-dir", str(client.path.parent / "run")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_load_fills_the_workers_and_every_client_reads_from_there(cluster: Cluster, emulator: Emulator) -> None:
    # The model is larger than the client's cache: it is loaded all the same.
    loading, reading = cluster.fuse("a"), cluster.fuse("b")
    (loaded,) = command(loading, "load", str(loading.path))
    assert loaded["phase"] == "complete"
    assert (loaded["files_done"], loaded["bytes_done"]) == (FILES + 1, FILES * 300_000 + LARGE)
    assert loaded["bytes_fetched"] == loaded["bytes_done"]
    gets = emulator.stats()["GetObject"]
    for number in range(FILES):
        assert (reading.path / "set" / f"{number:02}").read_bytes() == random.Random(number).randbytes(300_000)
    assert (reading.path / "model").read_bytes() == random.Random("m").randbytes(LARGE)
    assert emulator.stats()["GetObject"] == gets
    own = sum(file.stat().st_blocks * 512 for file in (cluster.work / "own-a").rglob("v1/SSD/*/*"))
    assert own == 0, "the loading client kept nothing for itself"
    # Again: nothing is fetched.
    (again,) = command(loading, "load", str(loading.path))
    assert (again["phase"], again["bytes_fetched"]) == ("complete", 0)
    assert emulator.stats()["GetObject"] == gets


def report(cluster: Cluster) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "jindopy", "report", "--master", cluster.master_address, "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def test_the_report_adds_up(cluster: Cluster) -> None:
    client = cluster.fuse("a")
    command(client, "load", str(client.path / "set"))
    wait_until(lambda: report(cluster)["cached_bytes"] == FILES * 300_000, 20)
    told = report(cluster)
    assert told["clients"] == 1
    assert told["mounts"] == ["oss://demo"]
    assert told["capacity_bytes"] == 2 * 512 * MIB
    assert sum(worker["files"] for worker in told["workers"]) == FILES
    assert {worker["data_address"] for worker in told["workers"]} == {worker.address for worker in cluster.workers}


def test_a_load_survives_a_worker(cluster: Cluster) -> None:
    client = cluster.fuse("a")
    cluster.workers[0].kill()
    (loaded,) = command(client, "load", str(client.path / "set"))
    assert (loaded["phase"], loaded["files_done"]) == ("complete", FILES)


def test_an_eviction_reaches_every_worker(cluster: Cluster, emulator: Emulator) -> None:
    client = cluster.fuse("a")
    command(client, "load", str(client.path / "set"))
    gets = emulator.stats()["GetObject"]
    done = command(client, "evict", str(client.path / "set"))
    assert (done["files"], done["bytes"]) == (FILES, FILES * 300_000)
    assert (client.path / "set" / "07").read_bytes() == random.Random(7).randbytes(300_000)
    assert emulator.stats()["GetObject"] > gets


def test_status_and_pins_say_what_they_cannot(cluster: Cluster) -> None:
    client = cluster.fuse("a")
    status = command(client, "status", str(client.path))
    assert str(client.path) in json.dumps(status)
    done = subprocess.run(
        [sys.executable, "-m", "jindopy", "pin", str(client.path), "--run-dir", str(client.path.parent / "run")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "workers keep no pins yet" in done.stderr
