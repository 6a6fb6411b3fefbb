"""The kernel's read-ahead of a mount: root may raise it once the mount answers."""

from __future__ import annotations

import os
from pathlib import Path


def raise_read_ahead(mount_point: str, wanted_bytes: int) -> list[str]:
    """Set it; returns what the user should know when that is not permitted.  0 leaves the kernel's default."""
    if not wanted_bytes:
        return []
    device = Path(mount_point).stat().st_dev
    path = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    try:
        path.write_text(f"{wanted_bytes // 1024}\n")
    except OSError as error:
        return [
            f"the kernel's read-ahead stays at its default ({error.strerror}): sequential reads are slower;"
            " root can set it"
        ]
    return []
