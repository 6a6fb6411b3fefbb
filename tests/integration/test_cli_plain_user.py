"""A user without root: fusermount3, the user's own directories, and what that costs."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount_fixture import wait_until
from tests.plain_user_fixture import UID, PlainUser, plain_user

pytestmark = pytest.mark.root

CONTENT = os.urandom(3 * 1024 * 1024)


@pytest.fixture(scope="module")
def machine() -> Iterator[PlainUser]:
    with plain_user() as user:
        (user.work / "data").mkdir()
        (user.work / "data" / "file").write_bytes(CONTENT)
        assert user.run("mkdir", user.home / "mnt").returncode == 0
        yield user


@pytest.fixture
def user(machine: PlainUser) -> Iterator[PlainUser]:
    yield machine
    machine.jindopy("umount", "--lazy", machine.home / "mnt")
    wait_until(lambda: not machine.processes())


def mount(user: PlainUser, *options: str, **environ: str) -> str:
    done = user.jindopy("mount", *options, f"local://{user.work}/data", user.home / "mnt", **environ)
    assert done.returncode == 0, done
    return done.stderr


def mode_and_owner(path: Path) -> tuple[int, int]:
    found = path.stat()
    return stat.S_IMODE(found.st_mode), found.st_uid


def test_from_mount_to_umount(user: PlainUser) -> None:
    point = user.home / "mnt"
    assert "the kernel's read-ahead stays at its default" in mount(user)
    assert user.run("cmp", user.work / "data" / "file", point / "file").returncode == 0
    assert user.run("stat", "-c", "%a %u", point / "file").stdout == f"644 {UID}\n"

    (socket,) = user.run_dir.iterdir()
    assert mode_and_owner(user.run_dir) == (0o700, UID)
    assert mode_and_owner(socket) == (0o600, UID)
    assert mode_and_owner(user.home / ".cache" / "jindopy") == (0o700, UID)
    state = user.home / ".local" / "state" / "jindopy"
    assert {path.name for path in state.iterdir()} == {socket.stem, f"{socket.stem}.log"}
    assert mode_and_owner(state / socket.stem) == (0o700, UID)

    status = json.loads(user.jindopy("status", point, "--json").stdout)
    assert (status["mount_point"], status["traffic"]["read_bytes"]) == (str(point), len(CONTENT))
    (file,) = json.loads(user.jindopy("ls", point, "--json").stdout)
    assert file["cached_bytes"] == len(CONTENT)
    assert user.jindopy("load", point).stdout.startswith("complete: 1 file")

    doctor = user.jindopy("doctor", point)
    assert doctor.returncode == 0, doctor.stdout
    assert "FAIL" not in doctor.stdout
    for told in (
        "other users: cannot see into mounts made without root",
        "without root: the kernel reads 128 KiB ahead",
    ):
        assert told in doctor.stdout

    with user.start("tail", "-f", point / "file") as reader:
        try:
            wait_until(lambda: json.loads(user.jindopy("status", point, "--json").stdout)["open_files"] == 1)
            busy = user.jindopy("umount", point)
            assert busy.returncode == 1
            assert "is busy: close these files" in busy.stderr
            (row,) = [line.split() for line in busy.stdout.splitlines() if "tail" in line]
            assert row[1:] == ["tail", "-f", f"{point}/file", f"{point}/file"]
        finally:
            reader.terminate()
    done = user.jindopy("umount", point)
    assert (done.returncode, done.stdout) == (0, f"unmounted {point}\n")
    assert user.processes() == []
    assert list(user.run_dir.iterdir()) == []


def test_the_users_own_choice_of_directories(user: PlainUser) -> None:
    places = {f"XDG_{name}": f"{user.home}/{name.lower()}" for name in ("CACHE_HOME", "STATE_HOME", "RUNTIME_DIR")}
    assert user.run("mkdir", "-m", "700", places["XDG_RUNTIME_DIR"]).returncode == 0
    mount(user, **places)
    assert (user.home / "cache_home" / "jindopy" / "v1").is_dir()
    assert len(list((user.home / "state_home" / "jindopy").iterdir())) == 2
    (socket,) = (user.home / "runtime_dir" / "jindopy").iterdir()
    assert socket.suffix == ".sock"
    done = user.jindopy("status", user.home / "mnt", **places)
    assert done.returncode == 0, done
    assert user.jindopy("umount", user.home / "mnt", **places).returncode == 0


def test_a_killed_daemon_is_cleaned_up_by_the_next_mount(user: PlainUser) -> None:
    mount(user)
    (daemon,) = user.processes()
    os.kill(daemon, signal.SIGKILL)
    wait_until(lambda: user.processes() == [])
    doctor = user.jindopy("doctor")
    assert doctor.returncode == 1
    assert f"→ jindopy umount {user.home}/mnt" in doctor.stdout
    assert f"note: cleaned up a dead mount at {user.home}/mnt" in mount(user)
    assert user.run("cmp", user.work / "data" / "file", user.home / "mnt" / "file").returncode == 0


def test_force_ends_open_files(user: PlainUser) -> None:
    mount(user)
    with user.start("tail", "-f", user.home / "mnt" / "file") as reader:
        wait_until(lambda: json.loads(user.jindopy("status", user.home / "mnt", "--json").stdout)["open_files"] == 1)
        done = user.jindopy("umount", "--force", user.home / "mnt")
        assert (done.returncode, done.stdout) == (0, f"aborted {user.home}/mnt\n")
        assert user.processes() in ([], [reader.pid])
        reader.terminate()


@pytest.mark.parametrize(
    ("options", "environ", "told"),
    [
        (["--allow-other"], {}, "user_allow_other"),
        ([], {"PATH": "/nowhere"}, "mounting without root needs fusermount3; install the package fuse3"),
        (["--cache-dir", "/var/cache/jindopy-of-root"], {}, "not writable for this user; give another --cache-dir"),
    ],
)
def test_what_a_user_may_not(user: PlainUser, options: list[str], environ: dict[str, str], told: str) -> None:
    done = user.jindopy("mount", *options, f"local://{user.work}/data", user.home / "mnt", **environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert told in done.stderr
    assert user.processes() == []
    assert user.run("stat", "-f", "-c", "%T", user.home / "mnt").stdout != "fuseblk\n"
    assert user.run("ls", "-A", user.home / "mnt").stdout == ""


def test_a_mount_point_of_root_is_refused(user: PlainUser) -> None:
    (user.work / "roots").mkdir(exist_ok=True)
    done = user.jindopy("mount", f"local://{user.work}/data", user.work / "roots")
    assert done.returncode == 2
    assert f"{user.work}/roots: mounting without root needs a directory you may write to" in done.stderr
