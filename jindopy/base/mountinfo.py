"""Mounts of this machine: who is mounted where, is it alive, who has files open there, take it away.

``parse`` is a pure function over /proc/self/mountinfo.  Nothing here waits for a FUSE daemon without a limit: a probe
asks in a thread of its own and leaves it behind when no answer comes (the thread ends with the process), and open
files are found by /proc links, which the kernel answers without asking the daemon.

Unmounting: root calls umount2 itself; others go through fusermount3, the set-uid helper that may undo a user's own FUSE
mounts.  ``abort`` ends exactly one connection, by the device number of the mount it was asked about.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import errno
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from jindopy.base.errors import MountPointError, redact

FS_TYPE = "fuse.jindopy"
"""Type under which our mounts stand in mountinfo (FUSE's ``subtype=jindopy``)."""

CONNECTIONS = Path("/sys/fs/fuse/connections")

_MNT_FORCE = 1
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_FUSERMOUNT_SECONDS = 10
_COMMAND_CHARS_MAX = 100


class MountEntry(NamedTuple):
    """One line of mountinfo."""

    mount_id: int
    parent_id: int
    device: tuple[int, int]
    """Major and minor number; a FUSE mount's connection is named by its minor."""
    root: str
    mount_point: str
    options: tuple[str, ...]
    fs_type: str
    source: str
    super_options: tuple[str, ...]

    @property
    def ours(self) -> bool:
        """Whether jindopy made it."""
        return self.fs_type == FS_TYPE

    @property
    def is_fuse(self) -> bool:
        """Whether a FUSE daemon serves it."""
        return self.fs_type == "fuse" or self.fs_type.startswith("fuse.")

    @property
    def user_id(self) -> int:
        """Who made a FUSE mount; root where the kernel does not tell."""
        told = next((option[8:] for option in self.super_options if option.startswith("user_id=")), "")
        return int(told) if told.isdecimal() else 0


class OpenFile(NamedTuple):
    """A file that a process has open, mapped or stands in."""

    pid: int
    command: str
    path: str


class Liveness(enum.Enum):
    """What a probe of a mount found."""

    ALIVE = "alive"
    DEAD = "dead"
    """Its daemon is gone: everything answers ENOTCONN."""
    STUCK = "stuck"
    """No answer in time."""
    ABSENT = "absent"
    """No such path."""


def parse(text: str) -> list[MountEntry]:
    """Entries of a mountinfo file, in mount order; lines that make no sense are left out."""
    entries = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        first, last = left.split(" "), right.split(" ")
        if not separator or len(first) < 6 or len(last) < 3:
            continue
        major, _, minor = first[2].partition(":")
        entries.append(
            MountEntry(
                mount_id=int(first[0]),
                parent_id=int(first[1]),
                device=(int(major), int(minor)),
                root=_unescape(first[3]),
                mount_point=_unescape(first[4]),
                options=tuple(first[5].split(",")),
                fs_type=_unescape(last[0]),
                source=_unescape(last[1]),
                super_options=tuple(last[2].split(",")),
            )
        )
    return entries


def _unescape(text: str) -> str:
    r"""Turn ``\040`` back into a blank; the kernel escapes byte by byte."""
    if "\\" not in text:
        return text
    raw = text.encode("utf-8", "surrogateescape")
    plain = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8) & 0xFF]), raw)
    return plain.decode("utf-8", "surrogateescape")


def read(mountinfo: Path = Path("/proc/self/mountinfo")) -> list[MountEntry]:
    """The mounts this process sees."""
    return parse(mountinfo.read_text(encoding="utf-8", errors="surrogateescape"))


def find(path: str, entries: Iterable[MountEntry]) -> MountEntry | None:
    """The mount that ``path`` (absolute, without links) lies on: the deepest, of stacked ones the last."""
    best: MountEntry | None = None
    for entry in entries:
        inside = path == entry.mount_point or path.startswith(entry.mount_point.rstrip("/") + "/")
        if inside and (best is None or len(entry.mount_point) >= len(best.mount_point)):
            best = entry
    return best


def at(path: str, entries: Iterable[MountEntry]) -> MountEntry | None:
    """The topmost mount whose mount point is exactly ``path``."""
    found = find(path, entries)
    return found if found is not None and found.mount_point == path else None


def probe(path: str, timeout_seconds: float = 5.0) -> Liveness:
    """Ask whoever serves ``path`` for its statistics, which no cache of the kernel answers."""
    answers: list[Liveness] = []

    def ask() -> None:
        try:
            os.statvfs(path)
            answers.append(Liveness.ALIVE)
        except OSError as error:
            # ECONNABORTED: the connection was cut while we asked.
            dead = error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
            absent = error.errno in (errno.ENOENT, errno.ENOTDIR)
            answers.append(Liveness.DEAD if dead else Liveness.ABSENT if absent else Liveness.ALIVE)

    thread = threading.Thread(target=ask, name="mount-probe", daemon=True)
    thread.start()
    thread.join(timeout_seconds)
    return answers[0] if answers else Liveness.STUCK


def unmount(path: str, *, lazy: bool = False) -> None:
    """Take the topmost mount at ``path`` away; ``lazy`` hides it now and ends it when its last file is closed.

    Raises OSError (EBUSY when files are open) or MountPointError from fusermount3's mouth.
    """
    if os.geteuid() == 0:
        _umount2(path, _MNT_DETACH if lazy else 0)
        return
    helper = shutil.which("fusermount3") or shutil.which("fusermount")
    if helper is None:
        raise MountPointError(f"{path}: unmounting without root needs fusermount3; install the package fuse3")
    command = [helper, "-u", *(["-z"] if lazy else []), path]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FUSERMOUNT_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise OSError(errno.EBUSY, "fusermount3 does not end", path) from None
    if done.returncode != 0:
        if "busy" in done.stderr.lower():
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        raise MountPointError(f"{path}: {done.stderr.strip() or 'fusermount3 failed'}")


def _umount2(path: str, flags: int) -> None:
    """umount2(2), never through a symbolic link; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), flags | _UMOUNT_NOFOLLOW) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def abort(entry: MountEntry) -> None:
    """Cut a FUSE mount's connection: every running and later request on it fails.  Raises MountPointError.

    Where fusectl is not mounted (containers) root does it by a forced umount, which aborts the connection first and
    may then leave the mount where it is, because files are open.
    """
    if not entry.is_fuse:
        raise MountPointError(f"{entry.mount_point}: is no FUSE mount, there is no connection to abort")
    if os.geteuid() == 0 and not (CONNECTIONS.is_dir() and any(CONNECTIONS.iterdir())):
        if at(entry.mount_point, read()) == entry:
            with contextlib.suppress(OSError):
                _umount2(entry.mount_point, _MNT_FORCE)
        return
    switch = CONNECTIONS / str(entry.device[1]) / "abort"
    try:
        switch.write_text("1")
    except OSError as error:
        raise MountPointError(
            f"{entry.mount_point}: cannot abort its connection ({switch}: {error.strerror}); as root: mount -t fusectl"
            f" none {CONNECTIONS}"
        ) from None


def read_ahead_kb(entry: MountEntry) -> int | None:
    """The kernel's read-ahead for a mount in KiB; None where sysfs does not tell."""
    try:
        text = Path(f"/sys/class/bdi/{entry.device[0]}:{entry.device[1]}/read_ahead_kb").read_text(encoding="ascii")
        return int(text)
    except (OSError, ValueError):
        return None


def open_files(mount_point: str, *, proc: Path = Path("/proc"), ignore: frozenset[int] = frozenset()) -> list[OpenFile]:
    """Files below a mount point that processes we may look into hold open, map, run or stand in."""
    found: set[tuple[int, str]] = set()
    prefix = mount_point.rstrip("/") + "/"
    for folder in proc.iterdir():
        if not folder.name.isdigit() or int(folder.name) in ignore:
            continue
        for path in _paths_of(folder):
            if path == mount_point or path.startswith(prefix):
                found.add((int(folder.name), path))
    return [OpenFile(pid, _command(proc / str(pid)), path) for pid, path in sorted(found)]


def _paths_of(process: Path) -> Iterator[str]:
    for name in ("cwd", "root", "exe"):
        yield from _link(process / name)
    try:
        for descriptor in (process / "fd").iterdir():
            yield from _link(descriptor)
        with (process / "maps").open(encoding="utf-8", errors="surrogateescape") as maps:
            for line in maps:
                # address perms offset dev inode path: memory without a file has no sixth column
                columns = line.rstrip("\n").split(maxsplit=5)
                if len(columns) == 6 and columns[5].startswith("/"):
                    yield _unescape(columns[5])
    except OSError:
        return  # gone meanwhile, or another user's


def _link(path: Path) -> Iterator[str]:
    try:
        yield str(path.readlink())
    except OSError:
        return


def _command(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        line = b" ".join(words).strip() or (process / "comm").read_bytes().strip()
    except OSError:
        return "?"
    return redact(line.decode("utf-8", "replace"))[:_COMMAND_CHARS_MAX]
