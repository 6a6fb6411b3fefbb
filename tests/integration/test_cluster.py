"""A cluster of real processes: one cache for all clients, whoever dies."""

from __future__ import annotations

import hashlib
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_fixture import MIB, Cluster, running_cluster
from tests.emulator_fixture import Emulator, running_emulator
from tests.mount_fixture import wait_until

pytestmark = pytest.mark.root

LARGE = 9 * MIB + 777
SMALL = 40


def content(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with running_emulator(tmp_path / "oss", buckets=["demo"]) as running:
        bucket = running.root / "demo"
        (bucket / "small").mkdir()
        (bucket / "large.bin").write_bytes(content("large", LARGE))
        for number in range(SMALL):
            (bucket / "small" / f"{number:03}").write_bytes(content(f"s{number}", 5000 + number))
        yield running


@pytest.fixture
def cluster(tmp_path: Path, emulator: Emulator) -> Iterator[Cluster]:
    work = tmp_path / "cluster"
    work.mkdir()
    with running_cluster(work, emulator) as running:
        yield running


def check_small(path: Path) -> None:
    for number in range(SMALL):
        assert (path / "small" / f"{number:03}").read_bytes() == content(f"s{number}", 5000 + number)


def test_every_byte_comes_through_the_workers(cluster: Cluster, emulator: Emulator) -> None:
    client = cluster.fuse("a")
    assert sorted(path.name for path in client.path.iterdir()) == ["large.bin", "small"]
    assert (client.path / "large.bin").read_bytes() == content("large", LARGE)
    check_small(client.path)
    assert "failed a read" not in client.log
    cached = [sum(file.stat().st_size for file in (cluster.work / f"cache{n}").rglob("v1/SSD/*/*")) for n in (0, 1)]
    assert all(cached), "both workers hold a share"
    assert sum(cached) == LARGE + sum(5000 + number for number in range(SMALL))


def test_two_clients_cost_the_storage_one_get_a_file(cluster: Cluster, emulator: Emulator) -> None:
    clients = [cluster.fuse(name) for name in ("a", "b")]
    emulator.reset_stats()
    wrong: list[object] = []

    def read(path: Path) -> None:
        try:
            check_small(path)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=read, args=(client.path,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert emulator.stats()["GetObject"] == SMALL
    # A third one, which comes later, costs none.
    check_small(cluster.fuse("c").path)
    assert emulator.stats()["GetObject"] == SMALL


def test_clients_that_read_one_large_file_at_a_time_share_its_gets(cluster: Cluster, emulator: Emulator) -> None:
    emulator.set_conditions(latency_seconds=0.05)
    clients = [cluster.fuse(name) for name in ("a", "b", "c")]
    emulator.reset_stats()
    digests: list[bytes] = []

    def read(path: Path) -> None:
        digests.append(hashlib.sha256((path / "large.bin").read_bytes()).digest())

    threads = [threading.Thread(target=read, args=(client.path,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests == [hashlib.sha256(content("large", LARGE)).digest()] * 3
    stats = emulator.stats()
    # No block twice: what was sent is the file, and what little heads and listings weigh.
    assert LARGE <= stats["bytes_sent"] < LARGE + 100_000
    assert stats["GetObject"] <= 10


def test_a_worker_that_is_killed_fails_no_read(cluster: Cluster) -> None:
    client = cluster.fuse("a")
    digest = hashlib.sha256((client.path / "large.bin").read_bytes()).digest()
    cluster.workers[0].kill()
    check_small(client.path)
    subprocess.run(["sh", "-c", "echo 3 > /proc/sys/vm/drop_caches"], check=False)
    assert hashlib.sha256((client.path / "large.bin").read_bytes()).digest() == digest
    # The master notices, and a client that comes now is told of one worker.
    assert cluster.master is not None
    master = cluster.master
    wait_until(lambda: "is silent and taken off the roll" in master.log, 20)
    check_small(cluster.fuse("b").path)


def test_listed_paths_are_read_on_without_a_master(cluster: Cluster) -> None:
    client = cluster.fuse("a", "--meta-timeout", "3s")
    assert len(list((client.path / "small").iterdir())) == SMALL
    assert cluster.master is not None
    cluster.master.kill()
    check_small(client.path)
    assert (client.path / "large.bin").read_bytes() == content("large", LARGE)
    with pytest.raises(FileNotFoundError):
        (client.path / "small" / "absent").stat()
