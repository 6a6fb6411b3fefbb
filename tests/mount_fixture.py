"""Real mounts for tests: the daemon process as ``jindopy mount`` starts it, reaped whatever happens.

with running_mount(tmp_path, [UfsMount("local:///data", "")]) as mount:
    (mount.path / "file").read_bytes()
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from jindopy.base.ident import mount_point_id
from jindopy.config.settings import CacheTier, MountSettings, Readiness, UfsMount

MIB = 1 << 20


default_transport = "auto"
"""How mounts are made that do not say it; set by the fixture ``each_transport``."""


as_cluster = False
"""Mounts are clients of a master and two workers, made with them; set by the fixture ``each_way``."""


def settings_for(work: Path, mounts: Sequence[UfsMount], **changes: object) -> MountSettings:
    """Settings of a small mount wholly below ``work``."""
    base = MountSettings(
        mount_id="testmount000",
        mount_point=str(work / "mnt"),
        mounts=tuple(mounts),
        tiers=(CacheTier("SSD", str(work / "cache"), 2048 * MIB, 0.95, 0.8, 0),),
        state_dir=str(work / "state"),
        run_dir=str(work / "run"),
        log_file=str(work / "mount.log"),
        log_format="text",
        log_level="info",
        ttl_seconds=60.0,
        uid=os.getuid(),
        gid=os.getgid(),
        umask=0o022,
        allow_other=False,
        transport=default_transport,
        passthrough=True,
        read_ahead_bytes_max=64 * MIB,
        prefetch_bytes_max=512 * MIB,
        kernel_read_ahead_bytes=4 * MIB,
        memory_bytes=256 * MIB,
        fetch_threads=16,
        list_threads=16,
        request_timeout_seconds=60.0,
        drain_seconds=2.0,
        foreground=False,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@dataclass
class RunningMount:
    """A mount that answers."""

    settings: MountSettings
    process: subprocess.Popen[bytes]
    others: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """Of a cluster: its workers and its master, in the order in which they end."""

    @property
    def path(self) -> Path:
        """The mount point."""
        return Path(self.settings.mount_point)

    @property
    def log(self) -> str:
        """What the daemon logged so far."""
        return Path(self.settings.log_file).read_text(encoding="utf-8")

    def kill(self) -> None:
        """SIGKILL, then take the dead mount away."""
        self.process.kill()
        self.process.wait(30)
        for other in self.others:
            other.kill()
            other.wait(30)
        subprocess.run(["umount", "-l", self.settings.mount_point], check=False, capture_output=True)

    def stop(self) -> int:
        """SIGTERM and wait; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


class MountFailed(Exception):
    """The daemon said that it cannot start."""

    def __init__(self, readiness: Readiness) -> None:
        super().__init__(readiness.error)
        self.readiness = readiness


def start_mount(settings: MountSettings, env: dict[str, str] | None = None) -> RunningMount:
    """Start a daemon and wait until it is ready; raises MountFailed."""
    for directory in (settings.mount_point, settings.state_dir, settings.run_dir):
        Path(directory).mkdir(parents=True, exist_ok=True)
    if as_cluster:
        from tests.cluster_mount import start_cluster

        named = replace(settings, mount_id=mount_point_id(os.path.realpath(settings.mount_point)))
        return RunningMount(named, *start_cluster(settings, env or {}))
    settings_read, settings_write = os.pipe()
    ready_read, ready_write = os.pipe()
    log = Path(settings.log_file).with_suffix(".stderr").open("ab")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jindopy.modes.mount",
            "--settings-fd",
            str(settings_read),
            "--ready-fd",
            str(ready_write),
        ],
        pass_fds=(settings_read, ready_write),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env={**os.environ, **(env or {})},
    )
    log.close()
    os.close(settings_read)
    os.close(ready_write)
    with os.fdopen(settings_write, "w", encoding="utf-8") as pipe:
        pipe.write(settings.to_json())
    with os.fdopen(ready_read, encoding="utf-8") as pipe:
        line = pipe.readline()
    if not line:
        process.kill()
        process.wait(30)
        raise AssertionError(
            "the daemon died without a word: " + Path(settings.log_file).with_suffix(".stderr").read_text()
        )
    readiness = Readiness.from_line(line)
    if not readiness.ready:
        process.wait(30)
        raise MountFailed(readiness)
    return RunningMount(settings, process)


def end_mount(mount: RunningMount) -> None:
    """Unmount and reap, by force if need be."""
    if mount.process.poll() is None:
        mount.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            mount.process.wait(30)
    if mount.process.poll() is None:
        mount.process.kill()
        mount.process.wait(30)
    for other in mount.others:
        if other.poll() is None:
            other.terminate()
            other.wait(30)
    if os.path.ismount(mount.settings.mount_point) or _is_dead(mount.settings.mount_point):
        subprocess.run(["umount", "-l", mount.settings.mount_point], check=False, capture_output=True)


def _is_dead(path: str) -> bool:
    try:
        os.stat(path)
    except OSError:
        return True
    return False


@contextlib.contextmanager
def running_mount(
    work: Path, mounts: Sequence[UfsMount], env: dict[str, str] | None = None, **changes: object
) -> Iterator[RunningMount]:
    """A mount for the length of a with block."""
    mount = start_mount(settings_for(work, mounts, **changes), env)
    try:
        yield mount
    finally:
        end_mount(mount)


def drop_page_cache(*roots: Path) -> None:
    """Write back and drop from the page cache every file below ``roots``."""
    for root in roots:
        for path in [root] if root.is_file() else [p for p in root.rglob("*") if p.is_file()]:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def wait_until(condition, seconds: float = 10.0) -> None:  # type: ignore[no-untyped-def]
    """Poll until ``condition()`` is true; AssertionError when time is over."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "condition not met in time"
        time.sleep(0.02)
