"""A bucket whose every byte a test knows, and mounts of it: what the tests of faults in real mounts share."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import oss2

from jindopy.config.settings import MountSettings, UfsMount
from jindopy.control.api import DaemonStatus
from jindopy.control.client import ControlClient
from tests.emulator_fixture import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator
from tests.mount_fixture import MIB, RunningMount, drop_page_cache, settings_for

BUCKET = "faults"
REGION = "cn-hangzhou"
KEYS = {"OSS_ACCESS_KEY_ID": ACCESS_KEY_ID, "OSS_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET}
SMALL_BYTES = 100_000


def known_objects(small: int, large: int) -> dict[str, bytes]:
    """Objects of one block and of several, the same in every run."""
    chance = random.Random(3)
    names = {f"small-{number:03}": SMALL_BYTES - number for number in range(small)}
    names |= {f"large-{number:02}": 3 * MIB + 70_001 * (number + 1) for number in range(large)}
    return {name: chance.randbytes(size) for name, size in names.items()}


def versioned(number: int, size_bytes: int) -> bytes:
    """Content of which every 16 bytes tell the version and the page."""
    pages = -(-size_bytes // 4096)
    return b"".join(struct.pack("<QQ", number, page) * 256 for page in range(pages))[:size_bytes]


def store_bucket(emulator: Emulator) -> oss2.Bucket:
    """The bucket through a foreign client."""
    auth = oss2.AuthV4(*emulator.keys)
    return oss2.Bucket(auth, emulator.endpoint, BUCKET, region=REGION, is_path_style=True)


def fill_store(root: Path, objects: dict[str, bytes]) -> None:
    """A file below the bucket's directory is an object at once."""
    (root / BUCKET).mkdir(parents=True, exist_ok=True)
    for name, content in objects.items():
        (root / BUCKET / name).write_bytes(content)


def bucket_settings(work: Path, emulator: Emulator, options: dict[str, str] | None = None, **changes: object):
    """Settings of a mount of the bucket, which fetches nothing that nobody reads; give ``KEYS`` as its environment."""
    given = {"fs.oss.endpoint": emulator.endpoint, "fs.oss.region": REGION} | (options or {})
    changes = {"prefetch_bytes_max": 0} | changes
    settings: MountSettings = settings_for(work, [UfsMount(f"oss://{BUCKET}/", "", given)], **changes)
    return settings


def control(mount: RunningMount) -> ControlClient:
    """The daemon's other door."""
    return ControlClient(Path(mount.settings.control_socket))


def status(mount: RunningMount) -> DaemonStatus:
    """Figures of a mount."""
    return control(mount).status()


def check_all(mount: RunningMount, objects: dict[str, bytes]) -> None:
    """Every byte is right, and came from the daemon, not from the kernel's page cache."""
    drop_page_cache(*(mount.path / name for name in objects))
    wrong = [name for name, content in objects.items() if (mount.path / name).read_bytes() != content]
    assert wrong == []


def cached_bytes(mount: RunningMount, name: str) -> int:
    """Bytes of a file in the cache."""
    return int(os.getxattr(mount.path / name, "user.jindo.cached"))
