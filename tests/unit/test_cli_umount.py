"""``umount`` decides what to do by what it finds; the real mounts are in tests/integration/test_cli_mounts.py."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jindopy.base import mountinfo
from jindopy.base.errors import MountPointError
from jindopy.base.ident import mount_point_id
from jindopy.base.mountinfo import Liveness, OpenFile
from jindopy.cli import umount as umount_module
from jindopy.cli.main import main
from jindopy.control.client import ControlClient
from jindopy.control.server import ControlServer
from tests.fake_daemon import FakeDaemon

Run = Callable[..., Result]


class _System:
    """Mounts as far as ``umount`` sees them."""

    def __init__(self, point: Path, socket: Path) -> None:
        self.entry = mountinfo.MountEntry(1, 0, (0, 52), "/", str(point), (), mountinfo.FS_TYPE, "oss://b", ())
        self.socket = socket
        self.liveness = Liveness.ALIVE
        self.busy_tries = 0
        self.done: list[str] = []
        self.error = 0

    def unmount(self, path: str, *, lazy: bool = False) -> None:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        if self.busy_tries and not lazy:
            self.busy_tries -= 1
            raise OSError(errno.EBUSY, "busy")
        self.done.append("lazy" if lazy else "unmount")
        self.socket.unlink(missing_ok=True)

    def abort(self, entry: mountinfo.MountEntry) -> None:
        self.done.append(f"abort {entry.device[1]}")


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _System:
    point = tmp_path / "m"
    point.mkdir()
    socket = tmp_path / f"{mount_point_id(str(point))}.sock"
    socket.touch()
    fake = _System(point, socket)
    monkeypatch.setattr(mountinfo, "read", lambda: [fake.entry])
    monkeypatch.setattr(mountinfo, "probe", lambda path, seconds: fake.liveness)
    monkeypatch.setattr(mountinfo, "unmount", fake.unmount)
    monkeypatch.setattr(mountinfo, "abort", fake.abort)
    monkeypatch.setattr(mountinfo, "open_files", lambda path: [OpenFile(7, "cat\x1b", f"{path}/f")])
    monkeypatch.setattr(umount_module, "RETRY_SECONDS", 0.01)
    return fake


@pytest.fixture
def run(system: _System, tmp_path: Path) -> Run:
    def call(*arguments: str) -> Result:
        environ = {"JINDOPY_RUN_DIR": str(tmp_path)}
        return CliRunner().invoke(main, ["umount", *arguments, system.entry.mount_point], env=environ)

    return call


def test_plain(run: Run, system: _System) -> None:
    result = run()
    assert (result.exit_code, result.output) == (0, f"unmounted {system.entry.mount_point}\n")
    assert system.done == ["unmount"]


def test_busy_names_the_users(run: Run, system: _System) -> None:
    system.busy_tries = 99
    result = run()
    assert result.exit_code == 1
    assert "is busy: close these files, or use --wait 60s, --lazy or --force" in result.stderr
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["PID", "COMMAND", "PATH"],
        ["7", "cat\\x1b", f"{system.entry.mount_point}/f"],
    ]
    document = json.loads(run("--json").stdout)
    assert document["result"] == "busy"
    assert document["open_files"][0]["pid"] == 7
    assert system.done == []


def test_busy_without_visible_users(run: Run, system: _System, monkeypatch: pytest.MonkeyPatch) -> None:
    system.busy_tries = 99
    monkeypatch.setattr(mountinfo, "open_files", lambda path: [])
    assert "a mount below it, or a process in another container" in run().stderr


def test_waiting(run: Run, system: _System) -> None:
    system.busy_tries = 3
    assert run("--wait", "20s").exit_code == 0
    assert system.done == ["unmount"]
    system.socket.touch()
    system.busy_tries = 10**9
    assert run("--wait", "50ms").exit_code == 1


def test_lazy_tells_what_is_still_open(run: Run, system: _System) -> None:
    result = run("--lazy")
    assert (result.exit_code, system.done) == (0, ["lazy"])
    assert result.stdout == f"detached {system.entry.mount_point}\n"
    assert result.stderr == f"jindopy: still open: 7 cat\\x1b {system.entry.mount_point}/f\n"


def test_force_aborts_its_own_connection_first(run: Run, system: _System) -> None:
    assert run("--force").stdout == f"aborted {system.entry.mount_point}\n"
    assert system.done == ["abort 52", "lazy"]


def test_a_daemon_that_is_quicker(run: Run, system: _System, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [system.entry]

    def unmount(path: str, *, lazy: bool = False) -> None:
        entries.clear()
        raise MountPointError("fusermount3: entry not found")

    monkeypatch.setattr(mountinfo, "read", lambda: list(entries))
    monkeypatch.setattr(mountinfo, "unmount", unmount)
    assert run("--force").stdout == f"aborted {system.entry.mount_point}\n"


def test_force_ends_a_daemon_that_hangs(run: Run, system: _System, monkeypatch: pytest.MonkeyPatch) -> None:
    system.liveness = Liveness.STUCK
    monkeypatch.setattr(umount_module, "STUCK_SECONDS", 0.2)
    with subprocess.Popen(["sleep", "60"]) as daemon:
        monkeypatch.setattr(ControlClient, "daemon_pid", lambda self: daemon.pid)
        result = run("--force")
        assert daemon.wait(10) == -signal.SIGKILL
    assert (result.exit_code, result.stdout) == (0, f"aborted {system.entry.mount_point}\n")
    assert "the daemon did not end and was killed" in result.stderr


def test_busy_because_the_daemon_hangs(run: Run, system: _System) -> None:
    system.liveness = Liveness.STUCK
    system.busy_tries = 99
    result = run()
    assert result.exit_code == 1
    assert f"end both: jindopy umount --force {system.entry.mount_point}" in result.stderr


def test_a_dead_mount_is_cleaned_up(run: Run, system: _System) -> None:
    system.liveness = Liveness.DEAD
    assert run().output == f"cleaned up {system.entry.mount_point}\n"
    assert system.done == ["lazy"]
    assert not system.socket.exists()


def test_the_daemons_end_is_waited_for(
    run: Run, system: _System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.socket.unlink()
    server = ControlServer(system.socket, FakeDaemon())
    server.start()
    try:
        daemon = subprocess.Popen(["sleep", "60"])
        monkeypatch.setattr(ControlClient, "daemon_pid", lambda self: daemon.pid)
        threading.Timer(0.3, daemon.kill).start()
        started = time.monotonic()
        assert run().exit_code == 0
        assert time.monotonic() - started >= 0.29
        daemon.wait()
    finally:
        server.close()


def test_a_daemon_that_does_not_end_is_told(run: Run, system: _System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(umount_module, "CLOSE_SECONDS", 0.05)
    monkeypatch.setattr(ControlClient, "daemon_pid", lambda self: os.getpid())
    result = run()
    assert result.exit_code == 0
    assert "the daemon has not ended yet" in result.stderr


def test_errors_that_are_not_busy(run: Run, system: _System) -> None:
    system.error = errno.EPERM
    result = run()
    assert result.exit_code == 2
    assert "cannot be unmounted: Operation not permitted; ask as the user who mounted it, or root" in result.output


def test_what_is_not_ours_is_left_alone(run: Run, system: _System) -> None:
    system.entry = system.entry._replace(fs_type="ext4")
    assert "is a mount of ext4, not of jindopy; use umount" in run().output
    system.entry = system.entry._replace(mount_point="/somewhere", fs_type=mountinfo.FS_TYPE)
    missing = CliRunner().invoke(main, ["umount", "/elsewhere"])
    assert (missing.exit_code, missing.output.partition(";")[0]) == (2, "jindopy: /elsewhere: nothing is mounted there")
    assert system.done == []
