"""A bucket on a slow store and a mount of it, for the tests of pipelines that people use.

with bucket_mount(tmp_path) as (bucket, mount): files written below ``bucket`` before ``mount()`` are objects.
"""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jindopy.config.settings import MountSettings, UfsMount
from jindopy.control.api import LoadRequest
from jindopy.control.client import ControlClient
from tests.emulator_fixture import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator, running_emulator
from tests.mount_fixture import RunningMount, end_mount, settings_for, start_mount

NAME = "pipelines"
KEYS = {"OSS_ACCESS_KEY_ID": ACCESS_KEY_ID, "OSS_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET}


@dataclass
class Bucket:
    """A bucket whose objects are files below ``folder``, and how to mount it."""

    work: Path
    emulator: Emulator
    mounts: list[RunningMount] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.emulator.root / NAME

    def mount(self) -> Path:
        """Mount it with an empty cache; the mount point."""
        options = {"fs.oss.endpoint": self.emulator.endpoint, "fs.oss.region": "cn-hangzhou"}
        settings: MountSettings = settings_for(self.work, [UfsMount(f"oss://{NAME}/", "", options)])
        self.emulator.reset_stats()
        mount = start_mount(settings, KEYS)
        self.mounts.append(mount)
        return mount.path

    def put(self, name: str, data: bytes) -> None:
        """Overwrite at once: the store's listings may miss for 2 s what is written into a file in place."""
        made = self.work / "made"
        made.write_bytes(data)
        made.replace(self.folder / name)

    def list_anew(self) -> None:
        """Have the last mount see what changed in the bucket, as ``jindopy load --metadata`` does."""
        client = ControlClient(Path(self.mounts[-1].settings.control_socket))
        *_, last = client.load(LoadRequest([], data=False))
        assert last.phase == "complete"

    @property
    def gets(self) -> int:
        """GETs of objects since the mount."""
        return self.emulator.stats()["GetObject"]


@contextlib.contextmanager
def bucket_on_slow_store(work: Path) -> Iterator[Bucket]:
    """An empty bucket; each answer comes after 5 ms, so that what waits for it can go wrong."""
    (work / "store" / NAME).mkdir(parents=True)
    with running_emulator(work / "store", buckets=[NAME], latency="5ms") as emulator:
        bucket = Bucket(work, emulator)
        try:
            yield bucket
        finally:
            for mount in bucket.mounts:
                end_mount(mount)


def tree_of_files(folder: Path) -> dict[str, bytes]:
    """Directories three deep, sizes from nothing to several blocks, names that shells and tools stumble over."""
    source = random.Random(11)
    names = [f"d{number % 7}/e{number % 3}/file {number:03}.dat" for number in range(120)]
    names += ["d0/-dash", "d0/naïve-ü.txt", "d1/with'quote", "d1/*star", "top.bin", "d2/.hidden", "d2/empty"]
    content = {name: source.randbytes(source.randrange(1, 30_000)) for name in names}
    content["d2/empty"] = b""
    content["top.bin"] = source.randbytes((3 << 20) + 12_345)
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return content


def files_below(folder: Path) -> dict[str, bytes]:
    """What ``tree_of_files`` returned, read back."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def needs(program: str) -> str:
    """Path of a program; skips the test where there is none."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"needs {program}")
    return found
