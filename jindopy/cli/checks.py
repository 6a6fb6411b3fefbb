"""What ``doctor`` checks of the machine: each check is a function that returns findings and never raises.

A finding is a level, one line of what is so, and, unless all is well, what to do about it.  Checks of storage and of
running mounts are in ``cli.checks_storage``.
"""

from __future__ import annotations

import enum
import importlib
import os
import platform
import re
import resource
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jindopy.base import mountinfo
from jindopy.base.errors import ConfigError
from jindopy.base.units import format_size
from jindopy.config.params import Settings
from jindopy.config.rationalize import Directories, Facts, cache_tiers, memory_budget
from jindopy.fuse.transport import TRANSPORTS


class Level(enum.StrEnum):
    """How a finding matters."""

    OK = "OK"
    WARN = "WARN"
    """It works, at a cost that is named."""
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """Result of a check."""

    check: str
    level: str
    message: str
    fix: str = ""
    """What to do; empty when all is well, and only then."""

    def __post_init__(self) -> None:
        if (self.level == Level.OK) == bool(self.fix):
            raise ValueError(f"{self.check}: {self.level}, and what to do is {self.fix!r}")


KERNEL_TESTED = (5, 4)
KERNEL_MAX_PAGES = (4, 20)
NOFILE_MIN = 4096
FREE_INODES_MIN = 10_000

# SQLite's write-ahead log needs memory shared between processes, which these do not have.
NETWORK_TYPES = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.sshfs", "lustre"})


def check_machine(settings: Settings, dirs: Directories, facts: Facts) -> list[Finding]:
    """Everything that needs no network and no mount."""
    return [
        check_kernel(platform.release()),
        check_native(),
        check_fuse_device(Path("/dev/fuse")),
        check_fusermount(facts.uid),
        check_transports(),
        check_allow_other(facts),
        *check_plain_user(facts),
        check_nofile(resource.getrlimit(resource.RLIMIT_NOFILE)),
        check_memory(settings, facts),
        *check_cache(settings, dirs, facts),
        check_state(dirs.state, mountinfo.read()),
    ]


def check_kernel(release: str) -> Finding:
    """Linux, and new enough."""
    match = re.match(r"(\d+)\.(\d+)", release)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    if version < KERNEL_MAX_PAGES:
        return Finding("kernel", Level.WARN, f"Linux {release} reads through FUSE in 128 KiB pieces", "use Linux 5.4+")
    if version < KERNEL_TESTED:
        return Finding("kernel", Level.WARN, f"Linux {release} is older than what is tested", "use Linux 5.4 or newer")
    return Finding("kernel", Level.OK, f"Linux {release} {platform.machine()}")


def check_native() -> Finding:
    """The native modules are built, and the checksum code is a fast one."""
    try:
        for name in ("iobuf", "blockstore", "inodes"):
            importlib.import_module(f"jindopy._ext.{name}")
        kernel = str(importlib.import_module("jindopy._ext.crc64").kernel())
    except ImportError as error:
        return Finding("native modules", Level.FAIL, f"not built: {error}", "install again: pip install .")
    if kernel == "scalar":
        return Finding(
            "native modules",
            Level.WARN,
            "checksums are computed without carry-less multiplication: about 1 GB/s a core instead of 8",
            "unset JINDOPY_CRC64, or use a CPU with PCLMULQDQ",
        )
    return Finding("native modules", Level.OK, f"built, CRC-64 by {kernel}, Python {sys.version.split()[0]}")


def check_fuse_device(device: Path) -> Finding:
    """The kernel's end of FUSE."""
    if not device.exists():
        return Finding(
            "FUSE device",
            Level.FAIL,
            f"{device} is missing",
            f"modprobe fuse; in a container: --device {device} --cap-add SYS_ADMIN",
        )
    if not os.access(device, os.R_OK | os.W_OK):
        return Finding("FUSE device", Level.FAIL, f"{device} is closed to this user", f"as root: chmod 666 {device}")
    return Finding("FUSE device", Level.OK, f"{device} can be opened")


def check_fusermount(uid: int) -> Finding:
    """The set-uid helper, without which only root mounts."""
    helper = shutil.which("fusermount3") or shutil.which("fusermount")
    if helper is None:
        level = Level.WARN if uid == 0 else Level.FAIL
        return Finding("fusermount", level, "fusermount3 is missing: only root can mount", "apt-get install fuse3")
    if uid != 0 and not Path(helper).stat().st_mode & 0o4000:
        fix = f"as root: chmod u+s {helper}"
        return Finding("fusermount", Level.FAIL, f"{helper} is not set-uid root: only root can mount", fix)
    return Finding("fusermount", Level.OK, helper)


def check_transports(transports: Mapping[str, tuple[str, str]] = TRANSPORTS) -> Finding:
    """A mount can be served: by which transports, and why not by others."""
    usable, reasons, fixes = [], [], []
    for name, (target, hint) in transports.items():
        try:
            importlib.import_module(target.partition(":")[0])
            usable.append(name)
        except ImportError as error:
            reasons.append(f"{name} cannot be loaded: {error}")
            fixes.append(hint)
    level = Level.OK if not reasons else Level.WARN if usable else Level.FAIL
    return Finding(
        "transport", level, "; ".join([", ".join(usable), *reasons] if usable else reasons), "; ".join(fixes)
    )


def check_allow_other(facts: Facts) -> Finding:
    """Who may look into a mount."""
    if facts.uid == 0:
        return Finding("other users", Level.OK, "may use root's mounts (--no-allow-other keeps them out)")
    if facts.user_allow_other:
        return Finding("other users", Level.OK, "may use your mounts with --allow-other")
    return Finding(
        "other users",
        Level.WARN,
        "cannot see into mounts made without root, nor can containers",
        "as root: echo user_allow_other >> /etc/fuse.conf, then mount with --allow-other",
    )


def check_plain_user(facts: Facts) -> list[Finding]:
    """What mounting without root costs besides."""
    if facts.uid == 0:
        return []
    return [
        Finding(
            "without root",
            Level.WARN,
            "the kernel reads 128 KiB ahead of your mounts: sequential buffered reads cost 3 times the requests",
            "mount as root, or have root raise read_ahead_kb of the running mount: doctor then names the file",
        ),
        Finding("without root", Level.OK, "cache, state and sockets are your own: other users share none of them"),
    ]


def check_nofile(limit: tuple[int, int]) -> Finding:
    """Descriptors: one a cached file in use, one a connection."""
    soft, hard = limit
    if soft != resource.RLIM_INFINITY and soft < NOFILE_MIN:
        fix = f"ulimit -n {NOFILE_MIN}" if hard >= NOFILE_MIN else f"raise the hard limit to {NOFILE_MIN} (limits.conf)"
        return Finding("open files", Level.WARN, f"at most {soft}: many open files at once will fail", fix)
    return Finding("open files", Level.OK, "no limit" if soft == resource.RLIM_INFINITY else f"at most {soft}")


def check_memory(settings: Settings, facts: Facts) -> Finding:
    """The budget fits the machine or cgroup; whether MEM tiers fit it is told with the cache."""
    try:
        budget = memory_budget(settings, facts)
    except ConfigError as error:
        return Finding("memory", Level.FAIL, error.message, "set memory to less, or leave it out")
    message = f"budget {format_size(budget)} of {format_size(facts.memory_bytes)}"
    if budget * 2 > facts.memory_bytes:
        fix = "raise the cgroup's memory limit to 256 MiB or more"
        return Finding("memory", Level.WARN, f"{message}: little is left for anything else", fix)
    return Finding("memory", Level.OK, message)


def check_cache(settings: Settings, dirs: Directories, facts: Facts) -> list[Finding]:
    """Each tier: quota against disk, watermarks, writability; and inodes."""
    try:
        tiers, notes = cache_tiers(settings, dirs, facts)
        if any(tier.name == "MEM" for tier in tiers):
            memory_budget(settings, facts, tiers)
    except ConfigError as error:
        return [Finding("cache", Level.FAIL, error.message, "correct the setting it names")]
    fix = "free disk space, or set a smaller quota or another --cache-dir"
    findings = [Finding("cache", Level.WARN, note, fix) for note in notes]
    for tier in tiers:
        findings.append(_check_inodes(tier.path))
        if not any(tier.path in note for note in notes):
            free = format_size(facts.disks[tier.path].free_bytes)
            message = f"{tier.name} {tier.path}: quota {format_size(tier.quota_bytes)}, {free} free"
            findings.append(Finding("cache", Level.OK, message))
    return findings


def _check_inodes(path: str) -> Finding:
    place = Path(path)
    while not place.exists():
        place = place.parent
    stat = os.statvfs(place)
    # Some file systems (btrfs) make inodes as needed and say 0 of 0.
    if stat.f_files and stat.f_favail < FREE_INODES_MIN:
        fix = "choose a file system with more inodes for --cache-dir"
        return Finding("inodes", Level.WARN, f"{path}: only {stat.f_favail} free, one is needed a cached file", fix)
    return Finding("inodes", Level.OK, f"{path}: {stat.f_favail} free" if stat.f_files else f"{path}: made as needed")


def check_state(state_dir: str, entries: Iterable[mountinfo.MountEntry]) -> Finding:
    """SQLite must not stand on a network file system."""
    entry = mountinfo.find(os.path.realpath(state_dir), entries)
    kind = entry.fs_type if entry is not None else "unknown"
    if kind in NETWORK_TYPES:
        fix = "give a local directory: --state-dir /var/lib/jindopy"
        return Finding("namespace", Level.FAIL, f"{state_dir} lies on {kind}, where SQLite is not safe", fix)
    return Finding("namespace", Level.OK, f"{state_dir} on {kind}")
