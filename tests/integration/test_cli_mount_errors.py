"""Bad input, end to end: each is one line with the fix and an exit code, and nothing is left behind or lost."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jindopy._ext import blockindex
from jindopy.base import mountinfo
from jindopy.base.mountinfo import Liveness
from tests.command_fixture import Command, installed_command
from tests.emulator_fixture import Emulator, running_emulator

pytestmark = pytest.mark.root


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    with installed_command(tmp_path) as command:
        yield command


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with running_emulator(tmp_path_factory.mktemp("emulator"), buckets=["demo"]) as emulator:
        (emulator.root / "demo" / "hello").write_bytes(b"world")
        yield emulator


@pytest.fixture
def storage(command: Command, emulator: Emulator) -> list[str]:
    key_id, secret = emulator.keys
    command.environ |= {"OSS_ACCESS_KEY_ID": key_id, "OSS_ACCESS_KEY_SECRET": secret}
    return ["--endpoint", emulator.endpoint, "--region", "cn-hangzhou"]


def _refused(command: Command, done: subprocess.CompletedProcess[str], exit_code: int, *told: str) -> None:
    assert done.returncode == exit_code, done
    assert done.stdout == ""
    assert done.stderr.startswith("jindopy: ")
    assert done.stderr.count("\n") == 1
    for part in told:
        assert part in done.stderr
    assert not command.mounted()
    assert command.processes() == []


def _left(command: Command) -> set[str]:
    return {path.name for path in command.work.iterdir()}


def test_a_mount_that_works(command: Command, storage: list[str]) -> None:
    done = command.mount("oss://demo", *storage)
    assert done.returncode == 0, done
    assert done.stderr == ""
    assert done.stdout.startswith(f"mounted oss://demo at {command.point} (pid ")
    assert (command.point / "hello").read_bytes() == b"world"
    again = command.mount("oss://demo", *storage)
    assert again.returncode == 2
    assert "is a jindopy mount already; first: jindopy umount" in again.stderr
    assert command.run("umount", str(command.point)).stdout == f"unmounted {command.point}\n"
    assert not command.mounted()


def test_what_could_not_be_set_is_told(command: Command, storage: list[str]) -> None:
    done = command.mount("oss://demo", *storage, "--kernel-read-ahead", "100000000000T")
    assert done.returncode == 0, done
    assert done.stderr.startswith("jindopy: note: the kernel's read-ahead stays at its default (")
    assert done.stderr.count("\n") == 1
    assert done.stdout.startswith("mounted oss://demo")
    assert command.run("umount", str(command.point)).returncode == 0


def test_options_without_effect_are_told(command: Command, storage: list[str]) -> None:
    done = command.mount("oss://demo", *storage, "-o", "fs.oss.retry.count=1,fs.oss.retry.cuont=1")
    assert done.returncode == 0, done
    assert done.stderr.startswith("jindopy: note: fs.oss.retry.cuont has no effect here; ")
    assert done.stderr.count("\n") == 1
    assert command.run("umount", str(command.point)).returncode == 0


def test_wrong_secret(command: Command, storage: list[str]) -> None:
    done = command.mount("oss://demo", *storage, OSS_ACCESS_KEY_SECRET="hush-not-the-secret")
    _refused(command, done, 3, "the signature does not match", "check the access key secret")
    assert "hush" not in done.stderr
    assert "hush" not in (command.work / "log/mount.log").read_text()
    assert _left(command) == {"mnt", "log", "run"}, "no cache and no state were made"


def test_unknown_key_id(command: Command, storage: list[str]) -> None:
    _refused(command, command.mount("oss://demo", *storage, OSS_ACCESS_KEY_ID="nobody"), 3)


def test_half_a_key(command: Command, storage: list[str]) -> None:
    done = command.mount("oss://demo", *storage, OSS_ACCESS_KEY_SECRET="")
    _refused(command, done, 2, "the access key secret is missing")


def test_paths_are_those_of_the_caller(command: Command, storage: list[str], emulator: Emulator) -> None:
    keys = "\n".join(
        f"{name}={value}" for name, value in zip(("accessKeyId", "accessKeySecret"), emulator.keys, strict=True)
    )
    (command.work / "keys").write_text(keys)
    (command.work / "keys").chmod(0o600)
    no_keys = {"OSS_ACCESS_KEY_ID": "", "OSS_ACCESS_KEY_SECRET": ""}
    done = command.run(
        "mount",
        "oss://demo",
        "mnt",
        *storage,
        "--credentials-file",
        "keys",
        "--cache-dir",
        "here",
        cwd=command.work,
        **no_keys,
    )
    assert done.returncode == 0, done
    assert (command.point / "hello").read_bytes() == b"world"
    assert (command.work / "here" / "v1").is_dir()
    assert command.run("umount", "mnt", cwd=command.work).returncode == 0
    relative = command.mount("oss://demo", *storage, "-o", "credentials_file=keys", **no_keys)
    _refused(command, relative, 2, "-o credentials_file: 'keys' is relative; give the path from the root")


def test_missing_bucket(command: Command, storage: list[str]) -> None:
    _refused(command, command.mount("oss://nonesuch", *storage), 3, "nonesuch")


def test_clock_far_off(command: Command, storage: list[str], emulator: Emulator) -> None:
    emulator.set_conditions(clock_offset_seconds=3600)
    try:
        _refused(command, command.mount("oss://demo", *storage), 3, "clock")
    finally:
        emulator.set_conditions(clock_offset_seconds=0)


def test_unreachable_endpoint(command: Command, storage: list[str]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        started = time.monotonic()
        done = command.mount("oss://demo", "--endpoint", address, "--region", "cn-hangzhou")
    _refused(command, done, 4, address)
    assert time.monotonic() - started < 35


def test_silent_endpoint_ends_at_the_timeout(command: Command, storage: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = command.mount("oss://demo", "--endpoint", address, "--region", "cn-hangzhou", "--timeout", "1s")
    _refused(command, done, 4, "did not answer within 1 s", "--timeout")


def test_no_endpoint(command: Command) -> None:
    _refused(command, command.mount("oss://demo"), 2, "endpoint")


def test_mount_points(command: Command, storage: list[str]) -> None:
    (command.point / "file").touch()
    _refused(command, command.mount("oss://demo", *storage), 2, "is not empty", "'file'")
    missing = command.run("mount", "oss://demo", str(command.work / "none"), *storage)
    _refused(command, missing, 2, "no such directory; make it: mkdir -p")
    assert _left(command) == {"mnt"}


def test_quota_and_watermarks(command: Command, storage: list[str]) -> None:
    _refused(command, command.mount("oss://demo", *storage, "--quota", "900T"), 2, "larger than the disk")
    _refused(command, command.mount("oss://demo", *storage, "--low", "0.96"), 2, "low watermark (0.96)")
    assert _left(command) == {"mnt"}


def test_missing_directory_of_local_storage(command: Command) -> None:
    _refused(command, command.mount(f"local://{command.work}/none"), 3, "no such directory")


def _mount_and_unmount(command: Command, storage: list[str]) -> None:
    assert command.mount("oss://demo", *storage).returncode == 0
    assert (command.point / "hello").read_bytes() == b"world"
    assert command.run("umount", str(command.point)).returncode == 0


def test_a_damaged_namespace_is_refused_and_left_as_it_is(command: Command, storage: list[str]) -> None:
    _mount_and_unmount(command, storage)
    (database,) = command.work.glob("state/*/namespace.db")
    with database.open("r+b") as file:
        file.write(b"garbage!" * 1024)
    damaged = database.read_bytes()
    fix = f"run: mv {database} {database}.damaged and mount again"
    _refused(command, command.mount("oss://demo", *storage), 5, f"{database} is damaged", fix, "pins")
    assert database.read_bytes() == damaged
    database.rename(f"{database}.damaged")
    _mount_and_unmount(command, storage)
    assert Path(f"{database}.damaged").read_bytes() == damaged


def test_newer_namespace(command: Command, storage: list[str]) -> None:
    _mount_and_unmount(command, storage)
    (database,) = command.work.glob("state/*/namespace.db")
    with sqlite3.connect(database) as connection:
        changed = connection.execute("UPDATE meta SET value = 999 WHERE key IN ('format_version', 'min_reader')")
        assert changed.rowcount == 2
    connection.close()
    done = command.mount("oss://demo", *storage)
    _refused(command, done, 2, "newer")


def test_newer_cache(command: Command, storage: list[str]) -> None:
    _mount_and_unmount(command, storage)
    index = command.work / "cache/v1/index.log"
    header = blockindex.encode_header(False, b"\0" * 16, format_version=999, min_reader=999)
    with index.open("r+b") as file:
        file.write(header)
    files = [path for path in (command.work / "cache").rglob("*") if path.is_file() and path.name != "lock"]
    before = {path: path.read_bytes() for path in files}
    done = command.mount("oss://demo", *storage)
    _refused(command, done, 2, f"{command.work}/cache was written by a newer release", "upgrade jindopy")
    assert {path: path.read_bytes() for path in files} == before


def test_two_mounts_on_one_cache(command: Command, storage: list[str]) -> None:
    assert command.mount("oss://demo", *storage).returncode == 0
    other = command.work / "other"
    other.mkdir()
    done = command.run("mount", "oss://demo", str(other), *storage)
    assert done.returncode == 2
    assert f"belongs to the mount at {command.point} (pid " in done.stderr
    assert "--cache-dir DIR" in done.stderr
    assert not os.path.ismount(other)
    assert (command.point / "hello").read_bytes() == b"world"
    assert command.run("umount", str(command.point)).returncode == 0


def test_two_commands_at_once_make_one_mount(command: Command, storage: list[str]) -> None:
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: command.mount("oss://demo", *storage), range(3)))
    assert sorted(one.returncode for one in done) == [0, 2, 2], done
    assert all(one.stderr.count("\n") == 1 for one in done if one.returncode)
    assert (command.point / "hello").read_bytes() == b"world"
    assert command.run("status", str(command.point)).returncode == 0
    assert command.run("umount", str(command.point)).returncode == 0


def test_a_dead_mount_is_recognised_and_cleaned_up(command: Command, storage: list[str]) -> None:
    assert command.mount("oss://demo", *storage).returncode == 0
    (pid,) = command.processes()
    os.kill(pid, signal.SIGKILL)
    while mountinfo.probe(str(command.point)) is not Liveness.DEAD:
        time.sleep(0.02)
    dead = command.run("status")
    assert dead.returncode == 1
    assert f"{command.point}: dead, and no daemon answers for it; clean up: jindopy umount" in dead.stdout
    done = command.mount("oss://demo", *storage)
    assert done.returncode == 0, done
    assert done.stderr == f"jindopy: note: cleaned up a dead mount at {command.point}\n"
    assert (command.point / "hello").read_bytes() == b"world"
    assert len([entry for entry in mountinfo.read() if entry.mount_point == str(command.point)]) == 1
    (pid,) = command.processes()
    os.kill(pid, signal.SIGKILL)
    while mountinfo.probe(str(command.point)) is not Liveness.DEAD:
        time.sleep(0.02)
    assert command.run("umount", str(command.point)).stdout == f"cleaned up {command.point}\n"
    assert not command.mounted()
