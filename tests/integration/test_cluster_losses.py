"""What a client of a cluster notices when others die, hang, or come back: slower reads, never wrong or failed ones."""

from __future__ import annotations

import errno
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_fixture import MIB, Cluster, Service, running_cluster
from tests.emulator_fixture import Emulator, running_emulator
from tests.mount_fixture import wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]

FILES = 60
SIZE = 1_500_000


def content(number: int) -> bytes:
    return random.Random(number).randbytes(SIZE)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    root = tmp_path_factory.mktemp("losses") / "oss"
    with running_emulator(root, buckets=["demo"]) as running:
        for number in range(FILES):
            (root / "demo" / f"{number:03}").write_bytes(content(number))
        (root / "demo" / "later").mkdir()
        (root / "demo" / "later" / "file").write_bytes(b"late")
        yield running


@pytest.fixture
def cluster(tmp_path: Path, emulator: Emulator) -> Iterator[Cluster]:
    with running_cluster(tmp_path, emulator, ttl="1s") as running:
        yield running


class Readers:
    """Threads that read all files again and again, past the kernel's cache."""

    def __init__(self, path: Path, threads: int = 3) -> None:
        self.failures: list[str] = []
        self.reads = 0
        self.slowest = 0.0
        self._stop = threading.Event()
        self._path = path
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self, seed: int) -> None:
        order = random.Random(seed)
        while not self._stop.is_set():
            number = order.randrange(FILES)
            begun = time.monotonic()
            try:
                file = os.open(self._path / f"{number:03}", os.O_RDONLY)
                try:
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                    data = b"".join(iter(lambda: os.read(file, MIB), b""))  # noqa: B023 - called before the next
                finally:
                    os.close(file)
                if data != content(number):
                    self.failures.append(f"{number}: other bytes")
            except OSError as error:
                self.failures.append(f"{number}: {error}")
            self.slowest = max(self.slowest, time.monotonic() - begun)
            self.reads += 1

    def more(self, count: int, seconds: float = 60.0) -> None:
        """Wait for so many more reads."""
        wanted = self.reads + count
        wait_until(lambda: self.reads >= wanted or self.failures, seconds)

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


def test_workers_killed_frozen_and_restarted_under_readers(cluster: Cluster) -> None:
    # The client's own cache holds a fifth of what is read.
    client = cluster.fuse("a", "--quota", "16M")
    readers = Readers(client.path)

    def failures() -> int:
        return client.log.count("failed a read")

    try:
        readers.more(60)
        assert failures() == 0
        cluster.workers[0].kill()
        wait_until(lambda: failures() > 0, 20)
        readers.more(60)
        again = cluster.start_worker(0)
        readers.more(60)
        frozen, before = cluster.workers[1], failures()
        frozen.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: failures() > before, 30)
        readers.more(60)
        frozen.process.send_signal(signal.SIGCONT)
        readers.more(30)
        frozen.kill()
        again.kill()
        readers.more(60)
    finally:
        readers.end()
    assert readers.failures == []
    assert 5 < readers.slowest < 30


def test_the_master_killed_and_restarted_under_readers(cluster: Cluster, emulator: Emulator) -> None:
    client = cluster.fuse("a", "--meta-timeout", "20s")
    assert len(os.listdir(client.path)) == FILES + 1
    readers = Readers(client.path)
    try:
        readers.more(60)
        address = cluster.master_address
        assert cluster.master is not None
        cluster.master.kill()
        began = time.monotonic()
        readers.more(60)
        time.sleep(max(0.0, began + 3 - time.monotonic()))  # three times the listing's time
        readers.more(20)
        assert sorted(os.listdir(client.path))[:2] == ["000", "001"]
        with pytest.raises(FileNotFoundError):
            os.stat(client.path / "no-such-name")
        # What was never listed waits, and is answered once the master is back.
        late: list[bytes] = []
        waiting = threading.Thread(target=lambda: late.append((client.path / "later" / "file").read_bytes()))
        waiting.start()
        waiting.join(2)
        assert waiting.is_alive()
        cluster.start_master(address)
        waiting.join(20)
        assert late == [b"late"]
        (emulator.root / "demo" / "new").write_bytes(b"new")
        wait_until((client.path / "new").exists, 20)
        readers.more(20)
    finally:
        readers.end()
        (emulator.root / "demo" / "new").unlink(missing_ok=True)
    assert readers.failures == []
    assert "is back (epoch 2)" in client.log
    wait_until(lambda: "the master at" in cluster.workers[0].log and "is back" in cluster.workers[0].log)


def test_a_master_with_another_mount_table_needs_no_new_mounts(cluster: Cluster, emulator: Emulator) -> None:
    client = cluster.fuse("a")
    assert (client.path / "000").read_bytes() == content(0)
    address = cluster.master_address
    assert cluster.master is not None
    cluster.master.stop()
    cluster.ufs = ["oss://demo=/here", "oss://demo/later=/there"]
    cluster.start_master(address)
    wait_until((client.path / "there" / "file").exists, 20)
    assert (client.path / "there" / "file").read_bytes() == b"late"
    assert (client.path / "here" / "001").read_bytes() == content(1)
    wait_until(lambda: not (client.path / "000").exists(), 20)
    assert "failed a read" not in client.log or "not for this mount" in client.log


def test_a_frozen_master_is_a_dead_one(cluster: Cluster) -> None:
    client = cluster.fuse("a")
    names = os.listdir(client.path)
    master: Service | None = cluster.master
    assert master is not None
    master.process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)  # what was listed has expired
    begun = time.monotonic()
    assert (client.path / "000").read_bytes() == content(0)
    assert os.listdir(client.path) == names
    assert time.monotonic() - begun < 30
    master.process.send_signal(signal.SIGCONT)
    wait_until(lambda: "is back" in client.log, 30)
    assert (client.path / "later" / "file").read_bytes() == b"late"


def test_what_was_never_listed_ends_with_an_error_in_time(cluster: Cluster) -> None:
    client = cluster.fuse("a", "--meta-timeout", "2s")
    os.listdir(client.path)
    assert cluster.master is not None
    cluster.master.kill()
    begun = time.monotonic()
    with pytest.raises(OSError) as failure:
        os.stat(client.path / "later" / "file")
    assert failure.value.errno == errno.EIO
    assert 1.5 < time.monotonic() - begun < 10


def test_without_keys_of_its_own_a_client_reads_from_workers_only(cluster: Cluster) -> None:
    keys = ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET")
    kept = {name: cluster.environ.pop(name) for name in keys}
    client = cluster.fuse("a")
    cluster.environ.update(kept)
    assert (client.path / "003").read_bytes() == content(3)
    assert "cannot be reached from here" in client.log
    for worker in cluster.workers:
        worker.kill()
    with pytest.raises(OSError) as failure:
        (client.path / "004").read_bytes()
    assert failure.value.errno in (errno.EACCES, errno.EIO)


def test_services_end_in_order_when_told(cluster: Cluster) -> None:
    client = cluster.fuse("a")
    assert (client.path / "000").read_bytes() == content(0)
    assert client.stop() == 0
    assert not os.path.ismount(client.path)
    assert cluster.master is not None
    assert cluster.workers[0].stop() == 0
    master = cluster.master
    wait_until(lambda: "has left" in master.log)
    assert cluster.workers[1].stop() == 0
    assert master.stop() == 0
    for service in cluster.services:
        assert "Traceback" not in service.log
