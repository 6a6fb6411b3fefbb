"""Files that the kernel reads by itself: the right bytes, whatever happens to cache and daemon meanwhile."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jindopy.config.settings import CacheTier, UfsMount
from tests.fault_fixture import control, status
from tests.mount_fixture import MIB, RunningMount, drop_page_cache, running_mount, wait_until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

SMALL_BYTES = 100_000
SMALL = 40
QUOTA_BYTES = 64 * MIB


def kernel_can() -> bool:
    """FUSE passthrough is there since Linux 6.9, unless the kernel was built without it."""
    major, minor = (int(part) for part in os.uname().release.split(".")[:2])
    return (major, minor) >= (6, 9)


needs_kernel = pytest.mark.skipif(not kernel_can(), reason="needs Linux 6.9")


@pytest.fixture
def objects(tmp_path: Path) -> dict[str, bytes]:
    chance = random.Random(5)
    made = {f"small-{number:02}": chance.randbytes(SMALL_BYTES - number) for number in range(SMALL)}
    made |= {"large": chance.randbytes(9 * MIB + 77), "huge": chance.randbytes(QUOTA_BYTES // 4 + 1), "empty": b""}
    (tmp_path / "source").mkdir()
    for name, content in made.items():
        (tmp_path / "source" / name).write_bytes(content)
    return made


@contextlib.contextmanager
def mounted(tmp_path: Path, **changes: object) -> Iterator[RunningMount]:
    tiers = (CacheTier("SSD", str(tmp_path / "cache"), QUOTA_BYTES, 0.95, 0.8, 0),)
    changes = {"transport": "native", "tiers": tiers} | changes
    with running_mount(tmp_path, [UfsMount(f"local://{tmp_path}/source", "")], **changes) as mount:
        yield mount


@pytest.fixture
def mount(tmp_path: Path, objects: dict[str, bytes]) -> Iterator[RunningMount]:
    """Everything was fetched, and then read from the cache, so it is checked."""
    with mounted(tmp_path) as made:
        read_all(made, objects)
        drop_page_cache(made.path)
        read_all(made, objects)
        yield made


def read_all(mount: RunningMount, objects: dict[str, bytes]) -> None:
    wrong = [name for name, content in objects.items() if (mount.path / name).read_bytes() != content]
    assert wrong == []


def reads_of(mount: RunningMount, name: str, expected: bytes) -> int:
    """Requests that reading an open file costs when the kernel keeps no page of it; its bytes are checked."""
    with (mount.path / name).open("rb", buffering=0) as file:
        drop_page_cache(mount.path / name)
        before = status(mount).traffic.fuse_requests
        for offset in range(0, len(expected), 65536):
            assert os.pread(file.fileno(), 65536, offset) == expected[offset : offset + 65536]
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return status(mount).traffic.fuse_requests - before


@needs_kernel
def test_what_is_cached_and_checked_is_read_without_us(mount: RunningMount, objects: dict[str, bytes]) -> None:
    passed = status(mount).traffic.passed_opens
    for name in ("small-00", "large"):
        assert reads_of(mount, name, objects[name]) == 0
    assert status(mount).traffic.passed_opens - passed >= 2
    assert reads_of(mount, "huge", objects["huge"]) > 0, "more than a quarter of the quota"


@needs_kernel
def test_small_files_are_checked_when_they_are_opened(tmp_path: Path, objects: dict[str, bytes]) -> None:
    with mounted(tmp_path) as mount:
        read_all(mount, objects)
    caches = {path.stat().st_size: path for path in (tmp_path / "cache").rglob("v1/SSD/**/*") if path.is_file()}
    bad = caches[len(objects["small-07"])]
    with bad.open("r+b") as file:
        file.seek(50_000)
        file.write(b"not what was stored")
    drop_page_cache(bad)
    with mounted(tmp_path) as mount:
        assert reads_of(mount, "small-03", objects["small-03"]) == 0
        assert reads_of(mount, "small-07", objects["small-07"]) > 0
        assert reads_of(mount, "small-07", objects["small-07"]) == 0, "fetched again, and now it is good"
        assert reads_of(mount, "large", objects["large"]) > 0, "not checked yet"
        assert reads_of(mount, "large", objects["large"]) == 0
        assert status(mount).traffic.crc_failures == 1


@needs_kernel
def test_a_mapping_shows_the_same(mount: RunningMount, objects: dict[str, bytes]) -> None:
    with (mount.path / "large").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping:
        before = status(mount).traffic.fuse_requests
        chance = random.Random(1)
        for offset in (chance.randrange(len(objects["large"]) - 4096) for _ in range(500)):
            assert mapping[offset : offset + 4096] == objects["large"][offset : offset + 4096]
        assert status(mount).traffic.fuse_requests == before


@needs_kernel
def test_open_files_outlive_the_daemon(mount: RunningMount, objects: dict[str, bytes]) -> None:
    with (mount.path / "large").open("rb", buffering=0) as file:
        os.kill(mount.process.pid, signal.SIGKILL)
        mount.process.wait(30)
        assert file.read(len(objects["large"])) == objects["large"]


@needs_kernel
def test_an_evicted_file_is_read_on_and_its_space_comes_back(mount: RunningMount, objects: dict[str, bytes]) -> None:
    used = disk_bytes(mount)
    with (mount.path / "large").open("rb", buffering=0) as file:
        assert control(mount).evict(["large"]).bytes == len(objects["large"])
        drop_page_cache(mount.path / "large")
        assert file.read(len(objects["large"])) == objects["large"]
        with (mount.path / "large").open("rb", buffering=0) as second:
            assert second.read(len(objects["large"])) == objects["large"]
    wait_until(lambda: disk_bytes(mount) <= used - 8 * MIB)
    assert (mount.path / "large").read_bytes() == objects["large"]


def disk_bytes(mount: RunningMount) -> int:
    """What the file system of the cache has given out."""
    room = os.statvfs(mount.settings.tiers[0].path)
    return (room.f_blocks - room.f_bfree) * room.f_frsize


@needs_kernel
def test_open_files_stay_while_others_push_through_the_cache(tmp_path: Path, objects: dict[str, bytes]) -> None:
    for number in range(12):
        (tmp_path / "source" / f"bulk-{number:02}").write_bytes(random.Random(number).randbytes(9 * MIB))
    with mounted(tmp_path) as mount, contextlib.ExitStack() as stack:
        read_all(mount, objects)
        names = [name for name in objects if name.startswith("small")]
        files = [stack.enter_context((mount.path / name).open("rb", buffering=0)) for name in names]
        for number in range(12):
            expected = random.Random(number).randbytes(9 * MIB)
            assert (mount.path / f"bulk-{number:02}").read_bytes() == expected
        assert status(mount).tiers[0].used_bytes <= QUOTA_BYTES
        for name, file in zip(names, files, strict=True):
            assert os.pread(file.fileno(), SMALL_BYTES, 0) == objects[name]
            assert int(os.getxattr(mount.path / name, "user.jindo.cached")) == len(objects[name]), "still cached"


@needs_kernel
def test_opening_closing_and_evicting_at_once(mount: RunningMount, objects: dict[str, bytes]) -> None:
    """Each open is passed or kept as the moment has it; mixing them up would be EIO."""
    names = [f"small-{number:02}" for number in range(8)] + ["large"]
    end = time.monotonic() + 4
    errors: list[BaseException] = []

    def reader(seed: int) -> None:
        chance = random.Random(seed)
        try:
            while time.monotonic() < end:
                name = chance.choice(names)
                with (mount.path / name).open("rb", buffering=0) as file:
                    offset = chance.randrange(len(objects[name]))
                    assert os.pread(file.fileno(), 5000, offset) == objects[name][offset : offset + 5000]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=reader, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    chance = random.Random(99)
    while time.monotonic() < end:
        control(mount).evict([chance.choice(names)])
        time.sleep(0.01)
    for thread in threads:
        thread.join(30)
    assert errors == []
    read_all(mount, objects)


@needs_kernel
def test_a_cache_on_a_stacked_file_system_is_read_through_us(tmp_path: Path, objects: dict[str, bytes]) -> None:
    layers = [tmp_path / name for name in ("lower", "upper", "work", "cache")]
    for layer in layers:
        layer.mkdir()
    lower, upper, work, merged = layers
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)], check=True)
    try:
        with mounted(tmp_path) as mount:
            for _ in range(2):
                read_all(mount, objects)
            assert reads_of(mount, "small-00", objects["small-00"]) > 0
            assert "is not passed" in mount.log
    finally:
        subprocess.run(["umount", "-l", str(merged)], check=True)
