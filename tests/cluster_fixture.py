"""A cluster of real processes on this machine, reaped whatever happens.

with running_cluster(tmp_path, emulator, workers=2) as cluster:
    client = cluster.fuse("a")
    (client.path / "file").read_bytes()
    cluster.workers[0].kill()
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.emulator_fixture import Emulator

READY_SECONDS = 40.0
MIB = 1 << 20


@dataclass
class Service:
    """One process of the cluster."""

    name: str
    process: subprocess.Popen[bytes]
    log_file: Path
    address: str = ""
    path: Path = Path()
    """Where a client is mounted."""

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@dataclass
class Cluster:
    """The processes; ``arguments`` for storage go to each."""

    work: Path
    ufs: list[str]
    storage: list[str]
    environ: dict[str, str]
    ttl: str = "60s"
    control: list[str] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    workers: list[Service] = field(default_factory=list)
    master: Service | None = None

    def start(self, name: str, *arguments: str, path: Path = Path()) -> Service:
        log_file = self.work / f"{name}.log"
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "jindopy", *arguments, "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self.environ},
                start_new_session=True,
            )
        service = Service(name, process, log_file, path=path)
        self.services.append(service)
        line = _first_line(process)
        assert line, f"{name} ended before it was ready (exit code {process.wait(10)}): {service.log[-3000:]}"
        service.address = json.loads(line)["address"]
        return service

    def start_master(self, listen: str = "127.0.0.1:0", *arguments: str) -> Service:
        mounts = [word for ufs in self.ufs for word in ("--mount", ufs)]
        self.master = self.start(
            "master",
            *("master", "--data-dir", str(self.work / "master"), "--listen", listen, "--ttl", self.ttl),
            *mounts,
            *self.storage,
            *self.control,
            *arguments,
        )
        return self.master

    @property
    def master_address(self) -> str:
        assert self.master is not None
        return self.master.address

    def start_worker(self, number: int, *arguments: str) -> Service:
        worker = self.start(
            f"worker{number}",
            *("worker", "--master", self.master_address, "--cache-dir", str(self.work / f"cache{number}")),
            *("--quota", "512M", "--min-free", "0", "--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0"),
            *self.storage,
            *self.control,
            *arguments,
        )
        self.workers.append(worker)
        return worker

    def fuse(self, name: str, *arguments: str) -> Service:
        point = self.work / f"mnt-{name}"
        point.mkdir(exist_ok=True)
        return self.start(
            f"fuse-{name}",
            *("fuse", "--master", self.master_address, str(point), "--cache-dir", str(self.work / f"own-{name}")),
            *("--quota", "64M", "--min-free", "0", "--run-dir", str(self.work / "run"), "--drain", "2s"),
            *self.storage,
            *self.control,
            *arguments,
            path=point,
        )

    def end(self) -> None:
        for service in reversed(self.services):
            if service.process.poll() is None:
                service.process.send_signal(signal.SIGCONT)
                service.process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    service.process.wait(20)
            if service.process.poll() is None:
                service.process.kill()
                service.process.wait(20)
            if service.path != Path() and service.path.name in Path("/proc/self/mountinfo").read_text():
                subprocess.run(["umount", "-l", str(service.path)], check=False, capture_output=True)
            assert service.process.stdout is not None
            service.process.stdout.close()


def _first_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(READY_SECONDS):
            process.kill()
    return process.stdout.readline().decode()


@contextlib.contextmanager
def running_cluster(
    work: Path, emulator: Emulator, *, workers: int = 2, ttl: str = "60s", bucket: str = "demo"
) -> Iterator[Cluster]:
    """A master and workers over a bucket of the emulator."""
    storage = ["--endpoint", emulator.endpoint, "--region", "cn-hangzhou"]
    keys = {"OSS_ACCESS_KEY_ID": emulator.access_key_id, "OSS_ACCESS_KEY_SECRET": emulator.access_key_secret}
    cluster = Cluster(work, [f"oss://{bucket}"], storage, {**keys, "HOME": str(work)}, ttl)
    try:
        cluster.start_master()
        for number in range(workers):
            cluster.start_worker(number)
        yield cluster
    finally:
        cluster.end()
