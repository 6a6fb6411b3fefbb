"""The main path through a real kernel: a local directory and a real daemon process."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jindopy.config.settings import UfsMount
from tests.emulator_fixture import running_emulator
from tests.fault_fixture import BUCKET, KEYS, REGION, store_bucket
from tests.mount_fixture import RunningMount, end_mount, running_mount, settings_for, start_mount, wait_until

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("each_way")]

MIB = 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "dir" / "sub").mkdir(parents=True)
    (root / "empty").touch()
    (root / "small").write_bytes(b"hello")
    (root / "dir" / "big").write_bytes(random.Random(5).randbytes(7 * MIB + 12345))
    (root / "dir" / "sub" / "näme with space").write_bytes(b"x" * 4096)
    return root


@pytest.fixture
def mount(tmp_path: Path, source: Path) -> Iterator[RunningMount]:
    with running_mount(tmp_path / "work", [UfsMount(f"local://{source}", "")], ttl_seconds=1.0) as made:
        yield made


def test_bytes_and_names_are_those_of_the_store(mount: RunningMount, source: Path):
    assert (mount.path / "small").read_bytes() == b"hello"
    assert (mount.path / "empty").read_bytes() == b""
    assert sorted(os.listdir(mount.path)) == ["dir", "empty", "small"]
    assert os.listdir(mount.path / "dir" / "sub") == ["näme with space"]
    expected = (source / "dir" / "big").read_bytes()
    assert (mount.path / "dir" / "big").read_bytes() == expected
    done = subprocess.run(["diff", "-r", source, mount.path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_attributes(mount: RunningMount, source: Path):
    seen = (mount.path / "dir" / "big").stat()
    assert seen.st_size == 7 * MIB + 12345
    assert seen.st_mode == 0o100644
    assert (seen.st_uid, seen.st_gid) == (os.getuid(), os.getgid())
    assert seen.st_nlink == 1
    assert abs(seen.st_mtime - (source / "dir" / "big").stat().st_mtime) < 1
    assert (mount.path / "dir").stat().st_mode == 0o040755
    figures = os.statvfs(mount.path)
    assert figures.f_namemax == 255


def test_missing_names_and_wrong_kinds(mount: RunningMount):
    with pytest.raises(FileNotFoundError):
        (mount.path / "nothing").read_bytes()
    with pytest.raises(NotADirectoryError):
        os.listdir(mount.path / "small")
    with pytest.raises(OSError) as too_long:
        os.stat(mount.path / ("x" * 256))
    assert too_long.value.errno == errno.ENAMETOOLONG


@pytest.mark.parametrize(
    "change",
    [
        lambda path: (path / "small").write_bytes(b"no"),
        lambda path: (path / "new").write_bytes(b"no"),
        lambda path: (path / "small").unlink(),
        lambda path: (path / "newdir").mkdir(),
        lambda path: os.rename(path / "small", path / "other"),
        lambda path: os.truncate(path / "small", 0),
    ],
)
def test_nothing_can_be_written(mount: RunningMount, source: Path, change):
    with pytest.raises(OSError) as refused:
        change(mount.path)
    assert refused.value.errno == errno.EROFS
    assert (source / "small").read_bytes() == b"hello"


def test_xattrs(mount: RunningMount, source: Path):
    path = mount.path / "dir" / "big"
    assert os.getxattr(path, "user.jindo.cached") == b"0"
    path.read_bytes()
    assert int(os.getxattr(path, "user.jindo.cached")) == 7 * MIB + 12345
    assert os.getxattr(path, "user.jindo.ufs").endswith(b"/dir/big")
    assert os.getxattr(path, "user.jindo.etag")
    assert "user.jindo.etag" in os.listxattr(path)
    with pytest.raises(OSError) as unknown:
        os.getxattr(path, "user.jindo.nonsense")
    assert unknown.value.errno == errno.ENODATA


def test_mmap_and_random_reads_agree_with_the_source(mount: RunningMount, source: Path):
    expected = (source / "dir" / "big").read_bytes()
    draw = random.Random(11)
    with (mount.path / "dir" / "big").open("rb") as stream:
        for _ in range(50):
            offset = draw.randrange(len(expected))
            size = draw.choice([1, 100, 4096, 300_000])
            assert os.pread(stream.fileno(), size, offset) == expected[offset : offset + size]
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
            assert hashlib.sha256(view).digest() == hashlib.sha256(expected).digest()


def test_many_readers_at_once(mount: RunningMount, source: Path):
    expected = hashlib.sha256((source / "dir" / "big").read_bytes()).digest()
    wrong: list[str] = []

    def read(number: int) -> None:
        for _ in range(3):
            if hashlib.sha256((mount.path / "dir" / "big").read_bytes()).digest() != expected:
                wrong.append(f"reader {number}")

    readers = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert wrong == []


def test_a_changed_file_is_seen_after_the_ttl_and_an_open_one_keeps_its_version(mount: RunningMount, source: Path):
    path = mount.path / "small"
    with path.open("rb") as old:
        assert old.read() == b"hello"
        (source / "small").write_bytes(b"HELLO, longer")
        (source / "added").write_bytes(b"+")
        wait_until(lambda: path.read_bytes() == b"HELLO, longer")
        old.seek(0)
        assert old.read() == b"hello"
    wait_until((mount.path / "added").exists)
    (source / "added").unlink()
    wait_until(lambda: not (mount.path / "added").exists())


def test_a_same_size_change_never_shows_old_bytes_to_new_opens(mount: RunningMount, source: Path):
    path = mount.path / "small"
    assert path.read_bytes() == b"hello"
    (source / "small").write_bytes(b"HELLO")
    wait_until(lambda: path.read_bytes() == b"HELLO")
    for _ in range(5):
        assert path.read_bytes() == b"HELLO"


def test_a_vanished_version_is_estale_and_the_log_says_so(mount: RunningMount, source: Path):
    with (mount.path / "dir" / "big").open("rb", buffering=0) as stream:
        assert os.pread(stream.fileno(), 100, 6 * MIB)
        (source / "dir" / "big").write_bytes(b"y" * (7 * MIB + 12345))
        with pytest.raises(OSError) as stale:
            os.pread(stream.fileno(), 100, 1 * MIB)
        assert stale.value.errno == errno.ESTALE

    def reads_anew() -> bool:
        try:
            return (mount.path / "dir" / "big").read_bytes()[:1] == b"y"
        except OSError as error:  # until the old name's time is over, opens may still meet the old version
            # Of an error that came for a request of its read-ahead the kernel makes EIO.
            assert error.errno in (errno.ESTALE, errno.EIO)
            return False

    wait_until(reads_anew)
    assert "changed or vanished" in mount.log
    assert "(EIO)" not in mount.log, "we never answered it"


def test_a_file_that_turns_into_a_directory_is_noticed(mount: RunningMount, source: Path):
    assert (mount.path / "small").is_file()
    (source / "small").unlink()
    (source / "small").mkdir()
    (source / "small" / "inner").write_bytes(b"1")
    wait_until((mount.path / "small").is_dir)
    assert (mount.path / "small" / "inner").read_bytes() == b"1"


def test_the_cache_outlives_an_unmount_and_a_kill(tmp_path: Path, source: Path):
    settings = settings_for(tmp_path / "work", [UfsMount(f"local://{source}", "")])
    expected = (source / "dir" / "big").read_bytes()
    first = start_mount(settings)
    try:
        assert (first.path / "dir" / "big").read_bytes() == expected
    finally:
        end_mount(first)
    assert first.process.returncode == 0
    for end in ("kill", "stop"):
        again = start_mount(settings)
        try:
            cached = int(os.getxattr(again.path / "dir" / "big", "user.jindo.cached"))
            assert cached == len(expected), f"before {end}"
            assert (again.path / "dir" / "big").read_bytes() == expected
        finally:
            if end == "kill":
                again.kill()
            end_mount(again)


def test_sigterm_with_an_open_file_detaches_after_the_drain(tmp_path: Path, source: Path):
    settings = settings_for(tmp_path / "work", [UfsMount(f"local://{source}", "")], drain_seconds=0.5)
    mount = start_mount(settings)
    try:
        held = os.open(mount.path / "small", os.O_RDONLY)
        began = time.monotonic()
        assert mount.stop() == 0
        assert time.monotonic() - began < 15
        with contextlib.suppress(OSError):  # the file's daemon is gone
            os.close(held)
        assert not os.path.ismount(mount.path)
        assert os.listdir(mount.path) == []
    finally:
        end_mount(mount)


def test_umount_ends_the_daemon(mount: RunningMount):
    subprocess.run(["umount", mount.path], check=True)
    assert mount.process.wait(30) == 0


def test_the_mount_point_shows_the_time_of_its_marker(tmp_path: Path):
    with running_emulator(tmp_path / "store", buckets=[BUCKET]) as emulator:
        bucket = store_bucket(emulator)
        bucket.put_object("prefix/", b"")
        bucket.put_object("prefix/file", b"1")
        options = {"fs.oss.endpoint": emulator.endpoint, "fs.oss.region": REGION}
        storage = [UfsMount(f"oss://{BUCKET}/prefix", "", options)]
        with running_mount(tmp_path / "work", storage, KEYS, ttl_seconds=0.5) as made:
            first = bucket.head_object("prefix/").last_modified
            wait_until(lambda: os.listdir(made.path) and made.path.stat().st_mtime == first)
            wait_until(lambda: time.time() > first + 1)
            bucket.put_object("prefix/", b"")
            later = bucket.head_object("prefix/").last_modified
            assert later > first
            wait_until(lambda: os.listdir(made.path) and made.path.stat().st_mtime == later)


def test_two_stores_in_one_tree(tmp_path: Path, source: Path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "x").write_bytes(b"other")
    mounts = [UfsMount(f"local://{source}", "a"), UfsMount(f"local://{other}", "deep/b")]
    with running_mount(tmp_path / "work", mounts) as made:
        assert sorted(os.listdir(made.path)) == ["a", "deep"]
        assert (made.path / "a" / "small").read_bytes() == b"hello"
        assert (made.path / "deep" / "b" / "x").read_bytes() == b"other"
