"""A cache disk that is full: the mount reads on, right, and keeps again once there is room."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jindopy.config.settings import CacheTier
from tests.emulator_fixture import running_emulator
from tests.fault_fixture import (
    BUCKET,
    KEYS,
    bucket_settings,
    cached_bytes,
    check_all,
    fill_store,
    known_objects,
    status,
)
from tests.mount_fixture import MIB, end_mount, start_mount

pytestmark = [pytest.mark.root]

DISK_BYTES = 24 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    image, place = tmp_path / "disk.img", tmp_path / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill_up(place: Path) -> Path:
    """Take all the room that is left."""
    foreign = place / "foreign"
    with pytest.raises(OSError) as full, foreign.open("ab") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    assert full.value.errno == errno.ENOSPC
    return foreign


def test_a_full_cache_disk(tmp_path: Path, disk: Path) -> None:
    objects = known_objects(30, 12)
    assert sum(map(len, objects.values())) > 1.5 * DISK_BYTES
    small = [name for name in objects if name.startswith("small")]
    fill_store(tmp_path / "store", objects)
    with running_emulator(tmp_path / "store") as emulator:
        tier = CacheTier("SSD", str(disk / "cache"), 1024 * MIB, 0.95, 0.8, 0)  # far more than the disk has
        settings = bucket_settings(tmp_path / "work", emulator, tiers=(tier,))
        mount = start_mount(settings, KEYS)
        try:
            for _ in range(2):
                check_all(mount, objects)
            assert 0 < status(mount).mounts[0].cached_bytes < DISK_BYTES
            foreign = fill_up(disk)
            check_all(mount, objects)
            fill_up(disk)  # what eviction has freed meanwhile
            log_chars = len(mount.log)
        finally:
            end_mount(mount)
        # What eviction freed is taken again at once or not: the snapshot has room, or its absence is told.
        assert mount.process.returncode == 0, mount.log
        ends = mount.log[log_chars:]
        assert ("no room" in ends) == ("the next start reads the whole index" in ends)
        assert "ERROR" not in ends
        mount = start_mount(settings, KEYS)  # there is no room even for an index
        try:
            check_all(mount, objects)
            foreign.unlink()
            check_all(mount, {name: objects[name] for name in small})
            assert sum(cached_bytes(mount, name) for name in small) > 0
            assert "Traceback" not in mount.log
            assert "CRC" not in mount.log
        finally:
            end_mount(mount)


def test_a_full_disk_below_the_namespace(tmp_path: Path, disk: Path) -> None:
    objects = {f"{folder}/{name}": data for folder in ("known", "new") for name, data in known_objects(5, 0).items()}
    for folder in ("known", "new"):
        (tmp_path / "store" / BUCKET / folder).mkdir(parents=True)
    fill_store(tmp_path / "store", objects)
    known = {name: data for name, data in objects.items() if name.startswith("known/")}
    with running_emulator(tmp_path / "store") as emulator:
        mount = start_mount(bucket_settings(tmp_path / "work", emulator, state_dir=str(disk / "state")), KEYS)
        try:
            check_all(mount, known)
            foreign = fill_up(disk)
            check_all(mount, known)
            for name in ("new", "new/small-000"):
                with pytest.raises(OSError) as failure:
                    (mount.path / name).stat()
                    list((mount.path / name).iterdir())
                assert failure.value.errno == errno.EIO
            assert f"{disk}/state/namespace.db: the disk is full; free some space" in mount.log
            foreign.unlink()
            check_all(mount, objects)
        finally:
            end_mount(mount)
        assert mount.process.returncode == 0
        assert "Traceback" not in mount.log
