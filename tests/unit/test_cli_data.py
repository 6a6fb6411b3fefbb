"""Commands that ask a running mount, against the real control socket with a fake daemon behind it."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jindopy.base import mountinfo
from jindopy.base.clock import SimulatedClock
from jindopy.base.errors import StaleVersion
from jindopy.base.ident import mount_point_id
from jindopy.cli.main import main
from jindopy.cli.output import shown
from jindopy.cli.progress import Lines
from jindopy.control.api import LoadFailure, LoadProgress, LoadRequest
from jindopy.control.server import ControlServer
from tests.fake_daemon import FakeDaemon

Run = Callable[..., Result]


@pytest.fixture
def point(tmp_path: Path) -> Path:
    (tmp_path / "mnt/d").mkdir(parents=True)
    return tmp_path / "mnt"


@pytest.fixture
def daemon(point: Path, tmp_path: Path) -> Iterator[FakeDaemon]:
    identity = mount_point_id(str(point))
    daemon = FakeDaemon(str(point), identity)
    server = ControlServer(tmp_path / "run" / f"{identity}.sock", daemon)
    server.start()
    yield daemon
    daemon.gate.set()
    server.close()


@pytest.fixture
def run(point: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call a command as if our file system were mounted at ``point``."""
    options = (f"user_id={os.geteuid()}",)
    entry = mountinfo.MountEntry(1, 0, (0, 99999), "/", str(point), (), mountinfo.FS_TYPE, "oss://b", options)
    monkeypatch.setattr(mountinfo, "read", lambda: [entry])

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(
            main, [str(argument) for argument in arguments], env={"JINDOPY_RUN_DIR": str(tmp_path / "run")}
        )

    return call


def test_status_of_one_mount(run: Run, daemon: FakeDaemon, point: Path) -> None:
    result = run("status", point / "d")
    assert result.exit_code == 0
    for part in (
        f"{point}  (id {daemon.status_value.mount_id}, pid 4242, jindopy 0.1.0, llfuse, up 1 h 2 min",
        "oss://b/p  at http://oss",
        "cached    1.0 MiB of 3.0 MiB (33.3%), 1 of 3 files",
        "tier SSD  /c  2.0 GiB of 10.0 GiB used (20.0%)",
        "75.0% from the cache (3.0 MiB and 24 GETs saved), 12 requests of the kernel",
        "7 GETs, 2 listings, 1 HEAD, 0 retries",
        "1 key that no path can hold",
        "note: read-ahead not set",
    ):
        assert part in result.output
    document = json.loads(run("status", "--json", point).output)
    assert document["traffic"]["saved_bytes"] == 3 << 20
    assert run("status", daemon.status_value.mount_id).output == run("status", point).output


def test_status_of_all(run: Run, daemon: FakeDaemon, point: Path) -> None:
    result = run("status")
    assert result.exit_code == 0
    row = result.output.splitlines()[1]
    assert row.split() == [
        daemon.status_value.mount_id, "4242", "1.0", "MiB", "33.3%", "75.0%", "3.0", "MiB", str(point), "(oss://b/p)",
    ]  # fmt: skip
    assert json.loads(run("status", "--json").output)["mounts"][0]["pid"] == 4242


def test_status_names_mounts_that_do_not_answer(
    run: Run, point: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("status")
    assert result.exit_code == 0
    assert f"{point}: serves files, but has no socket here; was it mounted with another --run-dir?" in result.output
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f"{mount_point_id(str(point))}.sock").touch()
    result = run("status")
    assert result.exit_code == 1
    assert f"{point}: alive, and no daemon answers for it; clean up: jindopy umount {point}" in result.output
    monkeypatch.setattr(mountinfo, "probe", lambda path, seconds: mountinfo.Liveness.DEAD)
    assert f"{point}: dead, and no daemon answers for it" in run("status").output


def test_status_names_mounts_of_other_users(
    run: Run, daemon: FakeDaemon, point: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    result = run("status")
    assert f"{point}: mounted by user {owner}; ask as that user or root\n" in result.output
    assert "no daemon answers" not in result.output


def test_status_tells_of_mounts_that_were_detached(
    run: Run, daemon: FakeDaemon, point: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mountinfo, "read", list)
    assert f"{point}  (oss://b/p)  detached, until its open files are closed" in run("status").output


def test_status_names_sockets_without_a_mount(run: Run, daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "run/abcdefabcdef.sock").touch()
    result = run("status")
    assert result.exit_code == 1
    assert f"{tmp_path}/run/abcdefabcdef.sock: no mount belongs to it" in result.output
    assert "4242" in result.output


def test_ls(run: Run, daemon: FakeDaemon, point: Path) -> None:
    daemon.entries["a"] = replace(daemon.entries["a"], pinned=True)
    lines = run("ls", point).output.splitlines()
    assert lines[0].split() == ["SIZE", "CACHED", "CHANGED", "(UTC)", "NAME"]
    assert lines[1].split() == ["-p", "1.0", "MiB", "100.0%", "2023-11-14", "22:13:20", "a"]
    assert lines[2].split() == ["d", "2023-11-14", "22:13:20", "d/"]
    assert "b\\xff c" in run("ls", point / "d").output
    assert [entry["path"] for entry in json.loads(run("ls", "--json", point / "d").output)] == ["d/b\udcff c"]


def test_stat(run: Run, daemon: FakeDaemon, point: Path) -> None:
    output = run("stat", point / "a").output
    assert "object    oss://b/p/a\n" in output
    assert "size      1048576 bytes (1.0 MiB)\n" in output
    assert "crc64     2748 (0000000000000abc)\n" in output
    assert json.loads(run("stat", "--json", point / "a").output)["etag"] == "ea"
    missing = run("stat", point / "zz")
    assert (missing.exit_code, missing.output) == (1, "jindopy: /zz: no such file or directory\n")


@pytest.mark.parametrize(("command", "done"), [("evict", "evicted"), ("pin", "pinned"), ("unpin", "unpinned")])
def test_evict_pin_unpin(run: Run, daemon: FakeDaemon, point: Path, command: str, done: str) -> None:
    result = run(command, point / "a", point / "d" / "*")
    assert (result.exit_code, result.output) == (0, f"{done} 2 files, 2.0 MiB\n")
    assert daemon.calls[-1] == (command, ["a", "d/*"])
    assert json.loads(run(command, "--json", point / "a").output) == {"files": 1, "bytes": 1 << 20, "messages": []}
    nothing = run(command, point / "zz")
    assert nothing.exit_code == 1
    assert nothing.output == f"{done} 0 files, 0 B\njindopy: zz: nothing matches\n"


def test_the_daemons_error_is_shown_with_its_exit_code(run: Run, daemon: FakeDaemon, point: Path) -> None:
    daemon.error = StaleVersion("x is gone")
    result = run("ls", point)
    assert (result.exit_code, result.output) == (1, "jindopy: x is gone\n")


def test_paths_outside_of_mounts(run: Run, daemon: FakeDaemon) -> None:
    for command in ("ls", "stat", "load", "evict", "pin", "status"):
        result = run(command, "/etc/hosts")
        assert result.exit_code == 2
        assert result.output == "jindopy: /etc/hosts: not below a jindopy mount; jindopy status lists the mounts\n"


# --- load -------------------------------------------------------------------------------------------------------------


def test_load(run: Run, daemon: FakeDaemon, point: Path) -> None:
    result = run("load", point / "a", point)
    assert result.exit_code == 0
    assert result.output.startswith("complete: 2 files, 2.0 MiB in 1 directory; fetched 1.0 MiB in ")
    assert daemon.calls == [("load", LoadRequest(["a", ""]))]


@pytest.mark.parametrize(
    ("flag", "request_", "told"),
    [
        ("--metadata", LoadRequest([""], data=False), "complete: listed 2 files, 2.0 MiB"),
        ("--data", LoadRequest([""], metadata=False), "complete: 2 files"),
        ("--dry-run", LoadRequest([""], dry_run=True), "there are 2 files, 2.0 MiB in 1 directory; 2.0 MiB of them"),
    ],
)
def test_load_in_parts(run: Run, daemon: FakeDaemon, point: Path, flag: str, request_: LoadRequest, told: str) -> None:
    result = run("load", flag, point)
    assert (result.exit_code, daemon.calls) == (0, [("load", request_)])
    assert result.output.startswith(told)


def test_load_of_everything_and_by_address(run: Run, daemon: FakeDaemon) -> None:
    assert run("load", "--all").exit_code == 0
    assert daemon.calls[-1] == ("load", LoadRequest([]))
    assert run("load", "oss://b/p/d/x", "oss://b/p/").exit_code == 0
    assert daemon.calls[-1] == ("load", LoadRequest(["d/x", ""]))
    other = run("load", "oss://b/prefix")
    assert other.exit_code == 2
    assert "oss://b/prefix is not mounted; jindopy mount oss://b/prefix DIR comes first" in other.output


def test_failures_are_named(run: Run, daemon: FakeDaemon, point: Path) -> None:
    daemon.load_failures = [LoadFailure(f"d/f{number}\x1b[2J", "access denied") for number in range(30)]
    result = run("load", point)
    assert result.exit_code == 5
    assert "failed: 0 of 2 files" in result.output
    assert "jindopy: d/f0\\x1b[2J: access denied\n" in result.output
    assert "... and 10 more failures" in result.output
    document = json.loads(run("load", "--json", point).stdout)
    assert len(document[0]["failures"]) == 30


def test_nothing_mounted_to_load(run: Run) -> None:
    result = run("load", "--all")
    assert (result.exit_code, result.output) == (2, "jindopy: nothing is mounted; jindopy mount UFS DIR comes first\n")


def test_cancel(run: Run, daemon: FakeDaemon, point: Path) -> None:
    assert run("load", "--cancel", "job-1", point).output == "load job-1 stops; what it loaded stays in the cache\n"
    other = run("load", "--cancel", "job-2", point)
    assert (other.exit_code, other.output) == (1, "jindopy: no load job-2 is running there\n")
    assert run("load", "--cancel", "job-1", point, point / "d").exit_code == 2


def _start_load(tmp_path: Path, **kwargs: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jindopy", "load", "oss://b/p"]
    environ = {**os.environ, "JINDOPY_RUN_DIR": str(tmp_path / "run"), "TERM": "xterm", "COLUMNS": "120"}
    return subprocess.Popen(command, env=environ, **kwargs)  # type: ignore[call-overload, no-any-return]


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_interrupt_leaves_the_load_running_and_says_so(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.blocked = True
    with _start_load(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        _wait_for(lambda: any(call[0] == "load" for call in daemon.calls))
        time.sleep(0.2)  # until the first progress has been read: it names the job
        command.send_signal(signal.SIGINT)
        _, told = command.communicate(timeout=20)
    assert command.returncode == 130
    assert told == (b"jindopy: interrupted; the load goes on in the mount (stop it: jindopy load --cancel job-1 DIR)\n")
    assert ("cancel_load", "job-1") not in daemon.calls


def test_a_terminal_gets_a_bar(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.blocked = True
    ours, theirs = pty.openpty()
    with _start_load(tmp_path, stdout=subprocess.PIPE, stderr=theirs) as command:
        os.close(theirs)
        seen = b""
        while b"listing" not in seen:
            assert select.select([ours], [], [], 20)[0]
            seen += os.read(ours, 65536)
        daemon.gate.set()
        out, _ = command.communicate(timeout=20)
    os.close(ours)
    assert out.startswith(b"complete: 2 files")
    assert command.returncode == 0


def test_without_a_terminal_a_line_every_few_seconds() -> None:
    clock, told = SimulatedClock(0.0), list[str]()
    lines = Lines(clock, told.append)
    state = LoadProgress("j", "listing", False, 3, 1200, 0, 0, 0, 0)
    loading = replace(state, phase="loading", bytes_total=100 << 20, files_done=1, bytes_done=10 << 20)
    for seconds, now in (
        (1.0, state),
        (5.0, state),
        (6.0, loading),
        (9.0, replace(loading, bytes_done=12 << 20)),
        (10.0, replace(loading, files_done=600, bytes_done=50 << 20, notes=["it is large"])),
        (10.1, replace(loading, bytes_done=51 << 20, notes=["it is large"])),
        (20.0, replace(loading, phase="complete", done=True, notes=["it is large"])),
    ):
        clock.sleep(seconds - clock.monotonic())
        lines.show(now)
    assert told == [
        "listing: 1,200 files in 3 directories so far",
        "note: it is large",
        "loading: 600 of 1,200 files, 50.0 MiB of 100.0 MiB (50.0%), 10.5 MB/s, 5 s to go",
    ]


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text"),
    [("a b", "a b"), ("é", "é"), ("x\udcff", "x\\xff"), ("a\nb\x1b", "a\\nb\\x1b"), ("\u202e", "\\u202e")],
)
def test_names_cannot_upset_a_terminal(path: str, text: str) -> None:
    assert shown(path) == text
