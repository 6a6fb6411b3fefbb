"""What the native transport does that the portable one cannot, and its bounds; see also test_passthrough."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from jindopy.base.errors import MountPointError
from jindopy.config.memory import REQUEST_THREAD_BYTES
from jindopy.config.settings import UfsMount
from jindopy.fuse import fusermount
from jindopy.fuse.native_transport import RECEIVERS
from tests.emulator_fixture import running_emulator
from tests.fault_fixture import BUCKET, KEYS, bucket_settings, fill_store, status
from tests.mount_fixture import MIB, RunningMount, drop_page_cache, end_mount, running_mount, start_mount, wait_until

FILES_KEPT = 1024


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    root.mkdir()
    (root / "big").write_bytes(os.urandom(8 * MIB))
    (root / "small").write_bytes(b"small")
    return root


@pytest.fixture
def mount(tmp_path: Path, source: Path) -> Iterator[RunningMount]:
    settings = {"transport": "native", "passthrough": False, "ttl_seconds": 1.0}
    with running_mount(tmp_path / "work", [UfsMount(f"local://{source}", "")], **settings) as made:
        assert status(made).transport == "native"
        yield made


def requests(mount: RunningMount) -> int:
    return status(mount).traffic.fuse_requests


@pytest.mark.root
def test_opening_and_closing_asks_nothing(mount: RunningMount) -> None:
    path = mount.path / "small"
    assert path.read_bytes() == b"small"
    before = requests(mount)
    for _ in range(500):
        with path.open("rb", buffering=0):
            pass
    # Names are looked up again whenever their second is over.
    assert requests(mount) - before < 50


@pytest.mark.root
def test_a_request_is_up_to_a_block(mount: RunningMount, source: Path) -> None:
    path = mount.path / "big"
    assert path.read_bytes() == (source / "big").read_bytes()
    drop_page_cache(path)
    before = requests(mount)
    assert path.read_bytes() == (source / "big").read_bytes()
    assert requests(mount) - before < 32, "128 KiB at a time it would be 64"


@pytest.mark.root
def test_a_changed_object_keeps_its_inode_number(mount: RunningMount, source: Path) -> None:
    path = mount.path / "small"
    with path.open("rb", buffering=0) as old:
        assert old.read(5) == b"small"
        before = path.stat()
        (source / "small").write_bytes(b"other")
        wait_until(lambda: path.read_bytes() == b"other")
        assert path.stat().st_ino == before.st_ino
        drop_page_cache(source)
        os.posix_fadvise(old.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(old.fileno(), 5, 0) == b"small", "an open file keeps its version"


@pytest.mark.root
def test_more_open_files_than_are_kept_at_hand(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    count = FILES_KEPT + 300
    for number in range(count):
        (source / f"f{number:04}").write_bytes(b"%d" % number)
    with running_mount(tmp_path / "work", [UfsMount(f"local://{source}", "")], passthrough=False) as mount:
        open_files = [os.open(mount.path / f"f{number:04}", os.O_RDONLY) for number in range(count)]
        try:
            for _ in range(2):
                for number, descriptor in enumerate(open_files):
                    assert os.pread(descriptor, 9, 0) == b"%d" % number
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            held = len(os.listdir(f"/proc/{mount.process.pid}/fd"))
            assert held < FILES_KEPT + 150, "cache files are closed again"
        finally:
            for descriptor in open_files:
                os.close(descriptor)


@pytest.mark.root
def test_what_a_sequential_reader_needs_next_is_read_from_disk_ahead(disk_path: Path) -> None:
    source = disk_path / "source"
    source.mkdir()
    (source / "huge").write_bytes(os.urandom(48 * MIB))
    with running_mount(disk_path / "work", [UfsMount(f"local://{source}", "")], transport="native") as warm:
        path = warm.path / "huge"
        assert path.read_bytes() == (source / "huge").read_bytes()
        cached = disk_path / "work" / "cache"
        drop_page_cache(cached, path)
        with path.open("rb", buffering=0) as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # the kernel itself reads nothing ahead
            for offset in range(0, 4 * MIB, MIB):
                os.pread(stream.fileno(), MIB, offset)
        wait_until(lambda: resident_bytes(cached) >= 12 * MIB)


def resident_bytes(root: Path) -> int:
    done = subprocess.run(
        ["fincore", "--bytes", "--noheadings", "--output", "RES", *(p for p in root.rglob("*") if p.is_file())],
        capture_output=True,
        text=True,
        check=True,
    )
    return sum(int(line) for line in done.stdout.split())


@pytest.mark.root
def test_a_directory_comes_with_its_attributes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3000):
        (source / f"a rather long name to fill more than one answer {number:05}").write_bytes(b"x" * (number % 7))
    with running_mount(tmp_path / "work", [UfsMount(f"local://{source}", "")], transport="native") as mount:
        before = requests(mount)
        with os.scandir(mount.path) as entries:
            sizes = {entry.name: entry.stat().st_size for entry in entries}
        assert sizes == {path.name: path.stat().st_size for path in source.iterdir()}
        assert requests(mount) - before < 400, "one by one it would be 3,000"


def request_threads(mount: RunningMount) -> int:
    (used,) = (part.used_bytes for part in status(mount).memory if part.name == "requests")
    return used // REQUEST_THREAD_BYTES


@pytest.mark.slow
@pytest.mark.root
def test_readers_that_wait_stop_nobody(tmp_path: Path) -> None:
    readers = 24
    objects = {f"o{number:02}": os.urandom(200_000) for number in range(readers)} | {"known": b"k"}
    fill_store(tmp_path / "store", objects)
    with running_emulator(tmp_path / "store") as store:
        settings = replace(bucket_settings(tmp_path / "work", store), transport="native", prefetch_bytes_max=0)
        mount = start_mount(settings, KEYS)
        try:
            assert (mount.path / "known").read_bytes() == b"k"
            assert len(os.listdir(mount.path)) == len(objects)
            store.set_conditions(latency_seconds=3.0)
            with ThreadPoolExecutor(readers) as pool:
                reads = [pool.submit((mount.path / name).read_bytes) for name in objects if name != "known"]
                time.sleep(1.0)
                began = time.monotonic()
                assert (mount.path / "known").stat().st_size == 1
                drop_page_cache(mount.path / "known")
                assert (mount.path / "known").read_bytes() == b"k"
                assert time.monotonic() - began < 1.5
                assert not any(read.done() for read in reads)
                assert request_threads(mount) > readers
                assert [read.result(60) for read in reads] == [objects[name] for name in objects if name != "known"]
            # Those hired for the occasion retire once enough others receive.
            wait_until(lambda: request_threads(mount) <= RECEIVERS)
        finally:
            end_mount(mount)


@pytest.mark.slow
@pytest.mark.root
def test_who_is_killed_does_not_wait_for_the_store(tmp_path: Path) -> None:
    fill_store(tmp_path / "store", {"known": b"k"})
    (tmp_path / "store" / BUCKET / "dir").mkdir()
    (tmp_path / "store" / BUCKET / "dir" / "a").write_bytes(b"a")
    with running_emulator(tmp_path / "store") as store:
        settings = replace(bucket_settings(tmp_path / "work", store), transport="native", ttl_seconds=1.0)
        mount = start_mount(settings, KEYS)
        try:
            assert (mount.path / "known").read_bytes() == b"k"
            store.set_conditions(latency_seconds=6.0)
            with subprocess.Popen(["ls", mount.path / "dir"], stderr=subprocess.DEVNULL) as waiting:
                time.sleep(1.0)
                assert waiting.poll() is None, "it waits for a listing"
                waiting.kill()
                assert waiting.wait(3) == -signal.SIGKILL
            store.set_conditions(latency_seconds=0.0)
            wait_until(lambda: os.listdir(mount.path / "dir") == ["a"], 60)
            assert "unexpectedly" not in mount.log
        finally:
            end_mount(mount)


READER = """
import os, random, sys
folder, seed = sys.argv[1], int(sys.argv[2])
names = os.listdir(folder)
random.Random(seed).shuffle(names)
for name in names:
    path = os.path.join(folder, name)
    assert os.stat(path).st_size == 5
    with open(path, "rb") as stream:
        assert stream.read() == name[:5].encode()
    os.path.exists(path + ".none")
"""


@pytest.mark.root
def test_many_programs_at_once_never_hang(tmp_path: Path) -> None:
    """Names expire all the while, so native threads and Python are at the inode table together."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(1500):
        (source / f"{number:05}.txt").write_bytes(b"%05d" % number)
    mounts = [UfsMount(f"local://{source}", "")]
    with running_mount(tmp_path / "work", mounts, transport="native", ttl_seconds=0.2) as mount:
        readers = [
            subprocess.Popen([sys.executable, "-c", READER, str(mount.path), str(seed)], stderr=subprocess.PIPE)
            for seed in range(8)
        ]
        try:
            said = [reader.communicate(timeout=90)[1] for reader in readers]
            assert [reader.returncode for reader in readers] == [0] * 8, said
        finally:
            for reader in readers:
                reader.kill()
                reader.communicate()


def program(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    path = folder / fusermount.PROGRAM
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_what_fusermount_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "echo 'fusermount3: no such thing' >&2; exit 1", monkeypatch)
    with pytest.raises(MountPointError, match=r"cannot mount at /x: no such thing; run 'jindopy doctor'"):
        fusermount.attach("/x", ["ro"])


def test_a_fusermount_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "exec sleep 60", monkeypatch)
    monkeypatch.setattr(fusermount, "TIMEOUT_SECONDS", 0.2)
    with pytest.raises(MountPointError, match="did not answer"):
        fusermount.attach("/x", ["ro"])


def test_without_fusermount_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MountPointError, match="install the package fuse3"):
        fusermount.attach("/x", ["ro"])
