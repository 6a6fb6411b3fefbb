"""Every command on a real mount: what users type, from mount to umount."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jindopy.base import mountinfo
from tests.command_fixture import Command, installed_command

pytestmark = pytest.mark.root

MIB = 1 << 20


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    (data / "d").mkdir(parents=True)
    (data / "a").write_bytes(os.urandom(3 * MIB + 17))
    (data / "d/b c").write_bytes(os.urandom(MIB))
    (data / "d/empty").touch()
    return data


@pytest.fixture
def command(tmp_path: Path, data: Path) -> Iterator[Command]:
    with installed_command(tmp_path) as command:
        done = command.mount(f"local://{data}")
        assert done.returncode == 0, done
        yield command


def _json(command: Command, *arguments: str) -> object:
    done = command.run(*arguments, "--json")
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_from_mount_to_umount(command: Command, data: Path) -> None:
    point = str(command.point)
    assert (command.point / "a").read_bytes() == (data / "a").read_bytes()
    status = _json(command, "status", point)
    assert isinstance(status, dict)
    assert status["mount_point"] == point
    assert status["traffic"]["read_bytes"] >= 3 * MIB + 17
    assert not (command.point / "none").exists()
    more = _json(command, "status", point)
    assert isinstance(more, dict)
    # A lookup and reads of at most 1 MiB, by the transport that asks least; the name that is not there was one lookup.
    assert 5 < status["traffic"]["fuse_requests"] < more["traffic"]["fuse_requests"] < 1000
    listing = _json(command, "ls", point)
    assert isinstance(listing, list)
    assert [(entry["path"], entry["kind"]) for entry in listing] == [("a", "file"), ("d", "directory")]
    stat = _json(command, "stat", f"{point}/a")
    assert isinstance(stat, dict)
    assert (stat["size_bytes"], stat["cached_bytes"]) == (3 * MIB + 17, 3 * MIB + 17)
    assert command.run("load", "--dry-run", point).stdout.startswith("there are 3 files, 4.0 MiB")
    loaded = command.run("load", point)
    assert loaded.returncode == 0
    assert loaded.stdout.startswith("complete: 3 files, 4.0 MiB in ")
    assert command.run("load", f"local://{data}/d").stdout.startswith("complete: 2 files, 1.0 MiB")
    assert command.run("pin", f"{point}/d").stdout == "pinned 2 files, 1.0 MiB\n"
    pinned = command.run("evict", f"{point}/d/b*")
    assert (pinned.returncode, pinned.stdout) == (1, "evicted 0 files, 0 B\n")
    assert command.run("unpin", f"{point}/d").returncode == 0
    assert command.run("evict", point).stdout.startswith("evicted ")
    assert command.run("ls", f"{point}/d").stdout.splitlines()[1].split()[3] == "0.0%"
    assert (command.point / "d/b c").read_bytes() == (data / "d/b c").read_bytes()
    doctor = command.run("doctor", "--scrub", point)
    assert doctor.returncode == 0, doctor.stdout
    assert "OK    scrub: 1 block of 1 file found sound\n" in doctor.stdout
    assert point in command.run("status").stdout
    assert command.run("umount", point).stdout == f"unmounted {point}\n"
    assert command.processes() == []
    rest = command.run("status").stdout
    assert rest.startswith("nothing is mounted\n")
    assert point not in rest  # mounts that others made may be named


def test_commands_work_from_inside_and_by_id(command: Command) -> None:
    status = _json(command, "status", str(command.point))
    assert isinstance(status, dict)
    assert command.run("status", status["mount_id"]).returncode == 0
    done = subprocess.run(
        [sys.executable, "-m", "jindopy", "ls"],
        cwd=command.point / "d",
        env={**os.environ, **command.environ},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split(":")[-1][4:] for line in done.stdout.splitlines()[1:]] == ["b c", "empty"]


def test_a_missing_path_is_told(command: Command) -> None:
    done = command.run("stat", f"{command.point}/none")
    assert done.returncode == 1
    assert done.stderr.startswith("jindopy: ")
    assert "none" in done.stderr


def test_the_mount_shows_where_it_comes_from(command: Command, data: Path) -> None:
    entry = mountinfo.at(str(command.point), mountinfo.read())
    assert entry is not None
    assert (entry.fs_type, entry.source) == ("fuse.jindopy", f"local://{data}")


# --- umount -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def reader(command: Command) -> Iterator[subprocess.Popen[str]]:
    """A process that keeps the file open, and copies it when told to."""
    code = "import sys; f = open(sys.argv[1], 'rb'); print(flush=True); sys.stdin.readline(); print(len(f.read()))"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(command.point / "a")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_busy_names_the_process(command: Command, reader: subprocess.Popen[str]) -> None:
    done = command.run("umount", str(command.point))
    assert done.returncode == 1
    assert "is busy: close these files" in done.stderr
    row = done.stdout.splitlines()[1]
    assert row.split()[0] == str(reader.pid)
    assert row.endswith(f"{command.point}/a")
    assert command.mounted()
    assert reader.communicate("\n")[0] == f"{3 * MIB + 17}\n"


def test_waiting_for_the_process(command: Command, reader: subprocess.Popen[str]) -> None:
    threading.Timer(0.5, reader.kill).start()
    done = command.run("umount", "--wait", "30s", str(command.point))
    assert done.stdout == f"unmounted {command.point}\n"


def test_lazy_serves_open_files(command: Command, reader: subprocess.Popen[str]) -> None:
    done = command.run("umount", "--lazy", str(command.point))
    assert done.stdout == f"detached {command.point}\n"
    assert f"still open: {reader.pid} " in done.stderr
    assert not command.mounted()
    assert reader.communicate("\n")[0] == f"{3 * MIB + 17}\n", "still served"
    _until(lambda: command.processes() == [])


def test_force_ends_open_files_and_no_other_mount(
    command: Command, reader: subprocess.Popen[str], tmp_path: Path, data: Path
) -> None:
    (tmp_path / "other").mkdir()
    with installed_command(tmp_path / "other") as other:
        assert other.mount(f"local://{data}").returncode == 0
        done = command.run("umount", "--force", str(command.point))
        assert done.stdout == f"aborted {command.point}\n", done
        assert not command.mounted()
        assert command.processes() == []
        _, told = reader.communicate("\n")
        assert "OSError" in told
        assert (other.point / "a").read_bytes() == (data / "a").read_bytes()
        assert other.run("umount", str(other.point)).returncode == 0


@pytest.mark.slow
def test_a_daemon_that_hangs(command: Command, data: Path) -> None:
    (pid,) = command.processes()
    os.kill(pid, signal.SIGSTOP)
    done = command.run("umount", "--force", str(command.point))
    assert (done.returncode, done.stdout) == (0, f"aborted {command.point}\n"), done
    assert "was killed" in done.stderr
    assert command.processes() == []
    assert command.mount(f"local://{data}").returncode == 0
    assert (command.point / "a").read_bytes() == (data / "a").read_bytes()


def test_sigterm_unmounts(command: Command) -> None:
    (pid,) = command.processes()
    os.kill(pid, signal.SIGTERM)
    _until(lambda: not command.mounted() and command.processes() == [])


def test_plain_umount_ends_the_daemon(command: Command) -> None:
    subprocess.run(["umount", str(command.point)], check=True)
    _until(lambda: command.processes() == [])
    assert list((command.work / "run").iterdir()) == []


def test_foreground(command: Command, tmp_path: Path, data: Path) -> None:
    work = tmp_path / "second"
    work.mkdir()
    with installed_command(work) as second:
        environ = {**os.environ, **second.environ}
        del environ["JINDOPY_LOG_FILE"]
        arguments = [sys.executable, "-m", "jindopy", "mount", "-f", f"local://{data}", str(second.point)]
        with subprocess.Popen(arguments, env=environ, stderr=subprocess.PIPE, text=True) as process:
            _until(second.mounted)
            assert (second.point / "a").stat().st_size == 3 * MIB + 17
            assert second.processes() == [process.pid], "the command became the daemon"
            process.terminate()
            ending = threading.Timer(30, process.kill)
            ending.start()
            _, told = process.communicate()
            ending.cancel()
        assert process.returncode == 0
        assert told.count(f"mounted local://{data} at {second.point} (pid {process.pid}") == 1


@pytest.mark.parametrize("log", ["terminal", "file"])
def test_foreground_fails_with_one_line(tmp_path: Path, log: str) -> None:
    with installed_command(tmp_path) as command:
        if log == "terminal":
            del command.environ["JINDOPY_LOG_FILE"]
        done = command.mount("-f", "local:///nowhere")
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == "jindopy: local:///nowhere: no such directory; create it or check the path\n"
        assert not command.mounted()


def _until(condition: object) -> None:
    end = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)
