"""What the machine is like, gathered once so that ``config.rationalize`` can decide without looking.

Everything here only reads: file systems (statvfs), memory limits (cgroup v1 and v2, both may be mounted), who we are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from jindopy.config.rationalize import DiskFacts, Facts

FUSE_CONF = Path("/etc/fuse.conf")

# A cgroup v1 without a limit shows the largest page-aligned 63-bit number; anything near it is no limit.
_NO_LIMIT_BYTES = 1 << 60

# Adding up what an old cache takes stops here: beyond it the free space decides alone, and start stays quick.
_SCAN_FILES_MAX = 200_000


def gather(environ: Mapping[str, str], paths: Iterable[str]) -> Facts:
    """Facts about this process and the file systems that hold ``paths`` (which need not exist yet)."""
    return Facts(
        uid=os.geteuid(),
        gid=os.getegid(),
        home=environ.get("HOME") or "/",
        xdg_cache_home=environ.get("XDG_CACHE_HOME", ""),
        xdg_state_home=environ.get("XDG_STATE_HOME", ""),
        xdg_runtime_dir=environ.get("XDG_RUNTIME_DIR", ""),
        memory_bytes=memory_bytes(),
        user_allow_other=user_allow_other(FUSE_CONF),
        disks={path: disk_facts(path) for path in paths},
    )


def disk_facts(path: str) -> DiskFacts:
    """The file system that holds ``path``, and what lies below it already."""
    place = Path(path)
    while not place.exists() and place != place.parent:
        place = place.parent
    stat = os.statvfs(place)
    return DiskFacts(
        total_bytes=stat.f_blocks * stat.f_frsize,
        free_bytes=stat.f_bavail * stat.f_frsize,
        own_bytes=used_below(path),
        writable=os.access(place, os.W_OK | os.X_OK),
    )


def used_below(path: str) -> int:
    """Disk space taken by the files below a directory; 0 when it is missing or unreadable."""
    total, seen, folders = 0, 0, [path]
    while folders and seen < _SCAN_FILES_MAX:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    seen += 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:
            continue  # vanished or closed to us: it counts as nothing, the quota only gets more careful
    return total


def memory_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory this process may use: the machine's, or less when a cgroup above us says so."""
    limit = _machine_bytes(proc / "meminfo")
    for line in _read(proc / "self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            limit = min(limit, _lowest(cgroups, path, "memory.max"))
        elif "memory" in controllers.split(","):
            limit = min(limit, _lowest(cgroups / "memory", path, "memory.limit_in_bytes"))
    return limit


def _lowest(root: Path, path: str, name: str) -> int:
    """Smallest limit from a cgroup up to the root; inside a container the path may not exist, then the root's own."""
    lowest, folder = _NO_LIMIT_BYTES, root / path.lstrip("/")
    for place in (folder, *folder.parents):
        if not place.is_relative_to(root):
            break
        text = _read(place / name).strip()
        if text.isdigit():
            lowest = min(lowest, int(text))
    return lowest


def _machine_bytes(meminfo: Path) -> int:
    for line in _read(meminfo).splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) << 10
    return _NO_LIMIT_BYTES


def user_allow_other(fuse_conf: Path) -> bool:
    """Whether fuse.conf lets users who are not root open their mounts to others."""
    return any(line.strip() == "user_allow_other" for line in _read(fuse_conf).splitlines())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
