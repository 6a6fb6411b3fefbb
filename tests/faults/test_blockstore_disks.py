"""Disks that are full, fail or are too small for the quota: a clear error for the block, everything else goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jindopy._ext.blockfiles import cid_path
from jindopy._ext.blockstore import BlockStore, TierSpec
from jindopy.base.errors import CacheError, CacheFull
from tests.twins.blockstore_twin import MIB, cid_of, known_block, sealed

DISK_BYTES = {"tmpfs": 48 * MIB, "ext4": 48 * MIB, "xfs": 320 * MIB}  # the smallest that mkfs.xfs makes is 300 MiB
MKFS_OPTIONS = {"ext4": ["-q", "-m", "0"], "xfs": ["-q"]}

MakeDisk = Callable[[str], Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[MakeDisk]:
    """Mounts a small file system of a kind; all are unmounted at the end."""
    mounted: list[Path] = []

    def make(kind: str) -> Path:
        place = tmp_path / kind
        place.mkdir()
        if kind == "tmpfs":
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES[kind]}", "tmpfs", place], check=True)
        elif shutil.which(f"mkfs.{kind}") is None:
            pytest.skip(f"mkfs.{kind} is not installed")
        else:
            image = tmp_path / f"{kind}.img"
            with image.open("wb") as file:
                file.truncate(DISK_BYTES[kind])
            subprocess.run([f"mkfs.{kind}", *MKFS_OPTIONS[kind], image], check=True)
            subprocess.run(["mount", "-o", "loop", image, place], check=True)
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", "-l", place], check=True)


def tier(
    path: Path, name: str = "SSD", quota_bytes: int = 1024 * MIB, min_free_bytes: int = 0, high: float = 0.95
) -> TierSpec:
    return TierSpec(name, str(path), quota_bytes, high, 0.8, min_free_bytes)


def put_one(store: BlockStore, number: int) -> None:
    lease = store.open(cid_of(number), MIB, 0)
    try:
        lease.put(0, sealed(known_block(cid_of(number), MIB, 0)))
    finally:
        lease.close()


def check_all(store: BlockStore) -> int:
    """Every file listed reads right; how many."""
    for stat in store.files():
        lease = store.open(stat.cid, MIB, 0)
        assert lease.read(0, MIB) == known_block(stat.cid, MIB, 0)
        lease.close()
    return len(store.files())


@pytest.mark.root
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_disk_smaller_than_the_quota(disk: MakeDisk, kind: str) -> None:
    place = disk(kind)
    store = BlockStore([tier(place / "cache", min_free_bytes=4 * MIB)])
    for number in range(100):
        put_one(store, number)
        status = os.statvfs(place)
        assert status.f_bavail * status.f_frsize >= 3 * MIB
    assert check_all(store) >= 30
    # Others fill the disk: everything goes, then puts are refused in so many words, and nothing else happens.
    foreign = place / "foreign"
    with pytest.raises(OSError, match="No space left"), foreign.open("wb") as file:
        while True:
            file.write(bytes(65536))
            file.flush()
    with pytest.raises(CacheFull, match="free disk space"):
        for number in range(100, 200):
            put_one(store, number)
            with foreign.open("ab") as file:
                file.write(bytes(MIB - 1))
    assert store.counters()["put_refused"] >= 1
    foreign.unlink()
    for number in range(200, 220):
        put_one(store, number)
    assert check_all(store) >= 20
    store.close()


@pytest.mark.root
def test_a_log_that_cannot_be_written_acknowledges_nothing(disk: MakeDisk) -> None:
    """The data fits on another disk, the record does not: after a restart only what was acknowledged is there."""
    place = disk("tmpfs")
    elsewhere = place.parent / "data"
    elsewhere.mkdir()
    (place / "v1").mkdir()
    (place / "v1" / "SSD").mkdir()
    subprocess.run(["mount", "--bind", elsewhere, place / "v1" / "SSD"], check=True)
    try:
        store = BlockStore([tier(place)], sync_seconds=0)
        put_one(store, 0)
        with pytest.raises(OSError, match="No space left"), (place / "foreign").open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        acknowledged = {0}
        with pytest.raises(CacheFull):
            for number in range(1, 1000):  # what is left of the log's last page takes some records still
                put_one(store, number)
                acknowledged.add(number)
        assert {stat.cid for stat in store.files()} == {cid_of(number) for number in acknowledged}
        (place / "foreign").unlink()
        put_one(store, 2000)
        store.close()
        store = BlockStore([tier(place)], sync_seconds=0)
        assert check_all(store) == len(acknowledged) + 1
        store.close()
    finally:
        subprocess.run(["umount", "-l", place / "v1" / "SSD"], check=True)


@pytest.mark.root
def test_a_full_tier_hands_new_files_to_the_next(disk: MakeDisk, tmp_path: Path) -> None:
    store = BlockStore([tier(disk("tmpfs"), "MEM", 4 * MIB), tier(tmp_path / "below", "HDD")], sync_seconds=0)
    for number in range(3):
        put_one(store, number)
        assert store.pin(cid_of(number), True)
    for number in range(3, 8):
        put_one(store, number)
    tiers = {stat.cid: stat.tier for stat in store.files()}
    assert [tiers[cid_of(number)] for number in range(8)] == ["MEM"] * 3 + ["HDD"] * 5
    assert check_all(store) == 8
    store.close()


@pytest.mark.root
def test_a_disk_that_fails(disk: MakeDisk, tmp_path: Path) -> None:
    """Blocks on a dead disk read as missing, are counted, and nothing wrong is read; the store goes on."""
    place = disk("ext4")
    store = BlockStore([tier(place / "cache"), tier(tmp_path / "below", "HDD")], sync_seconds=0)
    for number in range(8):
        put_one(store, number)
    store.sync()
    # Pages of the cache go, then most of the disk under them.
    for number in range(8):
        with (place / "cache" / "v1" / "SSD" / cid_path(cid_of(number))).open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    os.truncate(tmp_path / "ext4.img", 65536)
    lost = 0
    for number in range(8):
        lease = store.open(cid_of(number), MIB, 0)
        found = lease.read(0, MIB)
        lost += found is None
        assert found in (None, known_block(cid_of(number), MIB, 0))
        lease.close()
    assert lost > 0
    assert store.counters()["io_errors"] >= lost
    check_all(store)
    try:
        store.close()
    except CacheError as error:
        assert "Input/output error" in str(error) or "Read-only" in str(error)


def test_one_file_that_cannot_be_opened(tmp_path: Path) -> None:
    store = BlockStore([tier(tmp_path)], sync_seconds=0)
    in_the_way = tmp_path / "v1" / "SSD" / cid_path(cid_of(0))
    in_the_way.mkdir(parents=True)
    with pytest.raises(CacheError, match=cid_of(0).hex()):
        put_one(store, 0)
    put_one(store, 1)
    assert check_all(store) == 1
    assert store.counters()["io_errors"] == 1
    store.close()


@pytest.mark.root
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_nowait_reads_what_is_in_memory(disk: MakeDisk, kind: str) -> None:
    """tmpfs refuses RWF_NOWAIT; that is neither a damaged block nor a reason to wait."""
    store = BlockStore([tier(disk(kind) / "cache")], sync_seconds=0)
    put_one(store, 0)
    lease = store.open(cid_of(0), MIB, 0)
    assert lease.read(0, 1) is not None
    assert lease.read(100, 4096, nowait=True) == known_block(cid_of(0), MIB, 0)[100:4196]
    assert store.counters()["io_errors"] == 0
    lease.close()
    store.close()


@pytest.mark.root
@pytest.mark.parametrize("kind", ["tmpfs", "ext4", "xfs"])
def test_use_is_what_the_disk_says(disk: MakeDisk, kind: str) -> None:
    """A large file through a small quota, block by block: neither more nor less is counted than the files take."""
    place = disk(kind)
    # Only puts evict: the janitor would do so between the two sums.
    store = BlockStore([tier(place, quota_bytes=24 * MIB, high=1.0)], sync_seconds=0)
    lease = store.open(cid_of(0), 300 * MIB, 0)
    block = sealed(bytes(MIB))
    for index in (*range(40), 100, 299, 200):
        lease.put(index, block)
        used = store.stats()[0].used_bytes
        on_disk = sum(path.stat().st_blocks * 512 for path in (place / "v1" / "SSD").rglob("*"))
        assert abs(used - on_disk) <= 64 * 1024, "more than a file system's afterthoughts"
        assert used <= 24 * MIB
        assert used - store.stats()[0].cached_bytes < MIB
    lease.close()
    store.close()
