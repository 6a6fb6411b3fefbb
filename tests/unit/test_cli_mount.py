"""What ``mount`` checks before it starts anything, and how it treats the daemon it started (a small fake one here)."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from jindopy.base import mountinfo
from jindopy.base.errors import CacheBusy, ConfigError, DeadlineExceeded, JindoError, MountPointError
from jindopy.base.ident import mount_point_id
from jindopy.base.mountinfo import Liveness
from jindopy.cli import mount as mount_module
from jindopy.cli import spawn
from jindopy.cli.main import main
from jindopy.cli.mount import check_cache_owner, check_fuse, check_mount_point, make_directories
from jindopy.config.settings import CacheTier, MountSettings, UfsMount
from jindopy.control.server import ControlServer
from tests.fake_daemon import FakeDaemon


def _entry(point: Path, kind: str = mountinfo.FS_TYPE) -> mountinfo.MountEntry:
    return mountinfo.MountEntry(1, 0, (0, 99999), "/", str(point), (), kind, "oss://b", ("user_id=0",))


@pytest.fixture
def settings(tmp_path: Path) -> MountSettings:
    (tmp_path / "run").mkdir()
    return MountSettings(
        mount_id="0123456789ab",
        mount_point=str(tmp_path / "mnt"),
        mounts=(UfsMount("oss://b/p", ""),),
        tiers=(CacheTier("SSD", str(tmp_path / "var/cache"), 1 << 30, 0.95, 0.8, 0),),
        state_dir=str(tmp_path / "var/state"),
        run_dir=str(tmp_path / "run"),
        log_file=str(tmp_path / "log"),
        log_format="text",
        log_level="info",
        ttl_seconds=60.0,
        uid=0,
        gid=0,
        umask=0o022,
        allow_other=True,
        transport="auto",
        passthrough=True,
        read_ahead_bytes_max=1,
        prefetch_bytes_max=1,
        kernel_read_ahead_bytes=1,
        memory_bytes=1,
        fetch_threads=1,
        list_threads=1,
        request_timeout_seconds=1.0,
        drain_seconds=1.0,
        foreground=False,
    )


# --- the mount point --------------------------------------------------------------------------------------------------


def test_an_empty_directory_is_taken_by_its_real_path(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "link").symlink_to("m")
    assert check_mount_point(str(tmp_path / "link"), tmp_path) == str(tmp_path / "m")


def test_other_mount_points_are_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    for name, told in [
        ("none", f"{tmp_path}/none: no such directory; make it: mkdir -p {tmp_path}/none"),
        ("full/file", "is no directory"),
        ("full", "is not empty (it holds 'file'), a mount would hide that; choose an empty directory"),
    ]:
        with pytest.raises(MountPointError) as error:
            check_mount_point(str(tmp_path / name), tmp_path)
        assert told in error.value.message


def test_a_mount_point_in_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountinfo, "read", lambda: [_entry(tmp_path)])
    with pytest.raises(MountPointError, match="is a jindopy mount already; first: jindopy umount"):
        check_mount_point(str(tmp_path), tmp_path)


def test_a_dead_mount_is_cleaned_up_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m").mkdir()
    stale = tmp_path / f"{mount_point_id(str(tmp_path / 'm'))}.sock"
    stale.touch()
    mounts = [_entry(tmp_path / "m")]
    monkeypatch.setattr(mountinfo, "read", lambda: mounts)
    monkeypatch.setattr(mountinfo, "probe", lambda path, seconds: Liveness.DEAD)
    monkeypatch.setattr(mountinfo, "unmount", lambda path, lazy: mounts.clear())
    assert check_mount_point(str(tmp_path / "m"), tmp_path) == str(tmp_path / "m")
    assert capsys.readouterr().err == f"jindopy: note: cleaned up a dead mount at {tmp_path / 'm'}\n"
    assert not stale.exists()


def test_fuse_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="is missing: load the module"):
        check_fuse(tmp_path / "fuse")
    (tmp_path / "fuse").touch()
    check_fuse(tmp_path / "fuse")
    monkeypatch.setattr(mount_module.os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ConfigError, match="install the package fuse3"):
        check_fuse(tmp_path / "fuse")
    monkeypatch.setattr(mount_module.os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError, match="is not open to this user"):
        check_fuse(tmp_path / "fuse")


# --- directories and owners -------------------------------------------------------------------------------------------


def test_directories_go_again_when_the_mount_fails(settings: MountSettings, tmp_path: Path) -> None:
    with ExitStack() as undo:
        make_directories(settings, undo)
        assert (tmp_path / "var/cache").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "var/state").is_dir()
    assert not (tmp_path / "var").exists()
    with ExitStack() as undo:
        make_directories(settings, undo)
        (tmp_path / "var/state/namespace.db").touch()
    assert (tmp_path / "var/state/namespace.db").exists(), "what holds something stays"
    assert not (tmp_path / "var/cache").exists()


def test_directories_that_cannot_be_made_are_told(settings: MountSettings, tmp_path: Path) -> None:
    (tmp_path / "var").touch()
    with ExitStack() as undo, pytest.raises(ConfigError, match="cannot be made: Not a directory"):
        make_directories(settings, undo)


def test_the_owner_of_a_cache_is_named(settings: MountSettings, tmp_path: Path) -> None:
    daemon = FakeDaemon("/mnt/other", "abcdefabcdef")
    server = ControlServer(tmp_path / "run/abcdefabcdef.sock", daemon)
    server.start()
    try:
        check_cache_owner(settings)
        tier = replace(daemon.status_value.tiers[0], path=settings.tiers[0].path)
        daemon.status_value = replace(daemon.status_value, tiers=[tier])
        with pytest.raises(CacheBusy) as error:
            check_cache_owner(settings)
    finally:
        server.close()
    assert error.value.message == (
        f"the cache {tmp_path}/var/cache belongs to the mount at /mnt/other (pid 4242); give this one its own"
        " (--cache-dir DIR), or mount both there: jindopy mount oss://b/p=/a oss://b/p=/b /mnt/other"
    )


# --- the daemon -------------------------------------------------------------------------------------------------------

FAKE_DAEMON = """
import argparse, os, signal, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--settings-fd", type=int)
parser.add_argument("--ready-fd", type=int)
options = parser.parse_args()
from jindopy.config.settings import MountSettings, Readiness
settings = MountSettings.from_json(os.fdopen(options.settings_fd).read())
ready = os.fdopen(options.ready_fd, "w")
{body}
"""


def _fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    (tmp_path / "fake_mount_daemon.py").write_text(FAKE_DAEMON.format(body=textwrap.dedent(body)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(spawn, "MODULE", "fake_mount_daemon")


def _gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def test_a_daemon_that_is_ready(settings: MountSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = """
        print("to the log", os.getcwd(), os.getsid(0) == os.getpid(), file=sys.stderr, flush=True)
        ready.write(Readiness(ready=True, mount_id=settings.mount_id, pid=os.getpid()).to_line()); ready.close()
        time.sleep(60)
    """
    _fake(tmp_path, monkeypatch, body)
    answer = spawn.start_daemon(settings, 20)
    try:
        assert answer.mount_id == settings.mount_id
        assert Path(settings.log_file).read_text() == "to the log / True\n"
        command = Path(f"/proc/{answer.pid}/cmdline").read_bytes().split(b"\0")
        assert b"oss://b/p" not in b" ".join(command)
        descriptors = {os.readlink(f"/proc/{answer.pid}/fd/{number}") for number in (0, 1, 2)}
        assert descriptors == {"/dev/null", settings.log_file}
    finally:
        os.kill(answer.pid, signal.SIGKILL)
        os.waitpid(answer.pid, 0)


@pytest.mark.parametrize(
    ("body", "kind", "told", "exit_code"),
    [
        (
            "ready.write(Readiness(ready=False, error='oss://b: wrong key', exit_code=3).to_line()); ready.close()",
            JindoError,
            "oss://b: wrong key",
            3,
        ),
        ("raise ValueError('boom')", JindoError, "the mount's process died: ValueError: boom (log: {log})", 1),
        ("os._exit(0)", JindoError, "the mount's process died: it wrote nothing (log: {log})", 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", JindoError, "the mount's process died", 1),
        ("ready.write('Traceback' + chr(10)); ready.close(); time.sleep(60)", ConfigError, "makes no sense", 2),
    ],
)
def test_a_daemon_that_fails(
    settings: MountSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    kind: type[JindoError],
    told: str,
    exit_code: int,
) -> None:
    _fake(tmp_path, monkeypatch, body)
    with pytest.raises(kind) as error:
        spawn.start_daemon(settings, 20)
    assert told.format(log=settings.log_file) in error.value.message
    assert error.value.exit_code == exit_code


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_daemon_that_takes_too_long_is_ended(
    settings: MountSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stubborn: bool
) -> None:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)" if stubborn else ""
    _fake(tmp_path, monkeypatch, f"{ignore}\nopen(settings.state_dir, 'w').write(str(os.getpid()))\ntime.sleep(60)")
    Path(settings.state_dir).parent.mkdir()
    Path(settings.control_socket).touch()
    monkeypatch.setattr(spawn, "END_SECONDS", 0.5)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"did not answer within 1\.5 s and was ended; raise --timeout"):
        spawn.start_daemon(settings, 1.5)
    assert time.monotonic() - started < 10
    assert _gone(int(Path(settings.state_dir).read_text()))
    assert not Path(settings.control_socket).exists()


def test_a_failed_start_leaves_another_daemons_mount_alone(
    settings: MountSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake(tmp_path, monkeypatch, "ready.write(Readiness(ready=False, error='cache busy', exit_code=2).to_line())")
    monkeypatch.setattr(mountinfo, "read", lambda: [_entry(Path(settings.mount_point))])
    state = [Liveness.ALIVE]
    monkeypatch.setattr(mountinfo, "probe", lambda path: state[0])
    undone: list[str] = []
    monkeypatch.setattr(mountinfo, "unmount", lambda path, lazy: undone.append(path))
    server = ControlServer(Path(settings.control_socket), FakeDaemon())
    server.start()
    try:
        for state[0] in (Liveness.ALIVE, Liveness.STUCK):
            with pytest.raises(JindoError, match="cache busy"):
                spawn.start_daemon(settings, 20)
        assert undone == []
        assert Path(settings.control_socket).exists()
    finally:
        server.close()
    state[0] = Liveness.DEAD
    with pytest.raises(JindoError, match="cache busy"):
        spawn.start_daemon(settings, 20)
    assert undone == [settings.mount_point]


def test_an_interrupt_while_waiting_ends_the_daemon(
    settings: MountSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake(tmp_path, monkeypatch, "open(settings.state_dir, 'w').write(str(os.getpid()))\ntime.sleep(60)")
    Path(settings.state_dir).parent.mkdir()

    def interrupted(descriptor: int, deadline: object) -> str:
        while not (Path(settings.state_dir).exists() and Path(settings.state_dir).read_text()):
            time.sleep(0.02)
        raise KeyboardInterrupt

    monkeypatch.setattr(spawn, "_read_line", interrupted)
    with pytest.raises(KeyboardInterrupt):
        spawn.start_daemon(settings, 20)
    assert _gone(int(Path(settings.state_dir).read_text()))


def test_a_log_that_cannot_be_written(settings: MountSettings) -> None:
    with pytest.raises(ConfigError, match="choose another with --log-file"):
        spawn.start_daemon(replace(settings, log_file="/nonexistent/log"), 1)


# --- the whole command up to the daemon -------------------------------------------------------------------------------


def test_the_command_says_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount_module, "check_fuse", lambda: None)
    body = """
        answer = Readiness(ready=True, mount_id=settings.mount_id, pid=os.getpid(), notes=["slow disk"])
        ready.write(answer.to_line()); ready.close()
        assert settings.mounts[0].options["fs.oss.endpoint"] == "http://127.0.0.1:1"
        assert settings.ttl_seconds == float("inf")
    """
    _fake(tmp_path, monkeypatch, body)
    (tmp_path / "m").mkdir()
    environ = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": "",
        "OSS_ENDPOINT": "",
        "JINDOPY_RUN_DIR": str(tmp_path / "run"),
    }
    arguments = ["mount", "oss://b/p", str(tmp_path / "m"), "--cache-dir", str(tmp_path / "c"), "--quota", "64M"]
    arguments += ["--state-dir", str(tmp_path / "s"), "--log-file", str(tmp_path / "log")]
    arguments += ["-o", "rw,fs.oss.endpoint=http://127.0.0.1:1,ttl=once"]
    result = CliRunner().invoke(main, arguments, env=environ)
    assert result.exit_code == 0, result.output
    assert result.stderr == "jindopy: note: slow disk\n"
    assert result.stdout.startswith(f"mounted oss://b/p at {tmp_path}/m (pid ")
    assert result.output.endswith(f", cache 64.0 MiB at {tmp_path}/c)\n")
    assert (tmp_path / "c").is_dir()
    assert "Traceback" not in (tmp_path / "log").read_text()
    result = CliRunner().invoke(main, [*arguments, "--json"], env=environ)
    assert f'"cache": [\n    "{tmp_path}/c"\n  ]' in result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--quota", "900T"], "is larger than the disk"),
        (["--high", "0.5", "--low", "0.8"], "the low watermark (0.8) must be above 0 and below the high one (0.5)"),
        (["-o", "fs.oss.accessKeySecret=hush"], "secrets may not stand in -o fs.oss.accessKeySecret"),
        (["--ttl", "soon"], "--ttl: not a duration: 'soon'"),
        (["--log-format", "xml"], "--log-format: one of text, json is due, not 'xml'"),
        (["-o", "/nowhere:fs.oss.endpoint=x"], "-o /nowhere:...: nothing is mounted at that path"),
    ],
)
def test_bad_input_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.setattr(mount_module, "check_fuse", lambda: None)
    (tmp_path / "m").mkdir()
    base = [
        "mount",
        "oss://b/p",
        str(tmp_path / "m"),
        "--cache-dir",
        str(tmp_path / "c"),
        "--state-dir",
        str(tmp_path / "s"),
    ]
    environ = {"HOME": str(tmp_path), "JINDOPY_RUN_DIR": str(tmp_path / "run")}
    result = CliRunner().invoke(main, [*base, *arguments], env=environ)
    assert result.exit_code == 2
    assert result.output.startswith("jindopy: ")
    assert told in result.output
    assert "hush" not in result.output
    assert result.output.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("oss://", "names no bucket"),
        ("bucket", "not a UFS: 'bucket'"),
        ("oss://id:hush@b", "oss://***: keys do not belong in a URI"),
    ],
)
def test_bad_addresses(tmp_path: Path, uri: str, told: str) -> None:
    result = CliRunner().invoke(main, ["mount", uri, str(tmp_path)], env={"HOME": str(tmp_path)})
    assert result.exit_code == 2
    assert told in result.output
    assert "hush" not in result.output


def test_foreground_becomes_the_daemon(
    settings: MountSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced: list[tuple[str, list[str], str]] = []

    def execv(path: str, arguments: list[str]) -> None:
        descriptor = int(arguments[-1])
        assert os.get_inheritable(descriptor)
        with os.fdopen(descriptor) as file:
            replaced.append((path, arguments, file.read()))

    monkeypatch.setattr(spawn.os, "execv", execv)
    spawn.become_daemon(settings)
    ((path, arguments, text),) = replaced
    assert path == sys.executable
    assert arguments[:-1] == [sys.executable, "-P", "-m", "jindopy.modes.mount", "--settings-fd"]
    assert MountSettings.from_json(text) == settings
