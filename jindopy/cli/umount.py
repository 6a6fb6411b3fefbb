"""``umount``: take a mount away without losing what uses it, or say who uses it.

    plain    unmount; busy: list open files, exit 1 (``--wait`` tries again until the time is over)
    --lazy   detach at once, open files go on being served until they are closed
    --force  abort the mount's own FUSE connection, then detach: open files end with an error

Whatever the way, the command returns only when the daemon has ended, so that the next mount can take its cache; only
``--lazy`` does not wait.  Who the daemon is, the kernel says of its socket: it need not answer.  A dead mount is simply
cleaned up.
"""

from __future__ import annotations

import errno
import os
import select
from dataclasses import dataclass, field
from pathlib import Path

import click

from jindopy.base import mountinfo
from jindopy.base.clock import REAL_CLOCK, Deadline
from jindopy.base.errors import JindoError, MountPointError, UsageError
from jindopy.base.ident import mount_point_id
from jindopy.base.mountinfo import Liveness, MountEntry
from jindopy.base.units import parse_duration
from jindopy.cli.options import run_dir_option, run_dirs
from jindopy.cli.output import examples, json_option, print_json, print_table, shown, tell
from jindopy.control.api import OpenFileInfo
from jindopy.control.client import ControlClient, resolve, run_dirs_of
from jindopy.control.server import remove_stale

PROBE_SECONDS = 5.0
RETRY_SECONDS = 0.2
CLOSE_SECONDS = 30.0
"""A daemon that closes a large cache syncs it first: a few seconds on slow disks."""


@dataclass(frozen=True)
class Outcome:
    """What became of the mount."""

    mount_point: str
    result: str
    """``unmounted``, ``detached``, ``aborted``, ``cleaned up`` or ``busy``"""
    open_files: list[OpenFileInfo] = field(default_factory=list)


@click.command(
    epilog=examples(
        "jindopy umount /mnt/data",
        "jindopy umount --wait 60s /mnt/data",
        "jindopy umount --lazy /mnt/data",
        "jindopy umount --force /mnt/data",
    )
)
@click.argument("path", metavar="DIR")
@click.option("--wait", "wait", metavar="TIME", help="While files are open, try again for so long.")
@click.option("--lazy", is_flag=True, help="Detach now; open files are served until they are closed.")
@click.option("--force", is_flag=True, help="Abort the connection: open files end with an error.")
@json_option
@run_dir_option
def umount(path: str, wait: str | None, lazy: bool, force: bool, as_json: bool, run_dir: str | None) -> int:
    """Take the mount at DIR away.  With open files: name them and exit 1."""
    if lazy and force:
        raise UsageError("--lazy keeps serving open files, --force ends them; choose one")
    wait_seconds = parse_duration(wait) if wait is not None else 0.0
    entry = _our_mount(path)
    sockets = [
        place / f"{mount_point_id(entry.mount_point)}.sock" for place in (*run_dirs(run_dir), *run_dirs_of(entry))
    ]
    outcome = take_away(entry, sockets, wait_seconds=wait_seconds, lazy=lazy, force=force)
    if as_json:
        print_json(outcome)
    elif outcome.result == "busy":
        _tell_busy(outcome)
    else:
        click.echo(f"{outcome.result} {shown(outcome.mount_point)}")
        for file in outcome.open_files:
            tell(f"still open: {file.pid} {shown(file.command)} {shown(file.path)}")
    return 1 if outcome.result == "busy" else 0


def _our_mount(path: str) -> MountEntry:
    plain, entry = resolve(path, mountinfo.read())
    if entry is None or entry.mount_point != plain:
        raise MountPointError(f"{path}: nothing is mounted there; jindopy status lists the mounts")
    if not entry.ours:
        raise MountPointError(f"{path}: is a mount of {entry.fs_type}, not of jindopy; use umount")
    return entry


def take_away(entry: MountEntry, sockets: list[Path], *, wait_seconds: float, lazy: bool, force: bool) -> Outcome:
    """Unmount as asked; raises MountPointError when the mount can't be undone for other reasons than open files."""
    point = entry.mount_point
    if mountinfo.probe(point, PROBE_SECONDS) is Liveness.DEAD:
        clean_up_dead(entry, sockets)
        return Outcome(point, "cleaned up")
    daemon = _daemon(sockets)
    try:
        return _take_living(entry, daemon, wait_seconds=wait_seconds, lazy=lazy, force=force)
    finally:
        if daemon is not None:
            os.close(daemon)


def _take_living(entry: MountEntry, daemon: int | None, *, wait_seconds: float, lazy: bool, force: bool) -> Outcome:
    point = entry.mount_point
    if lazy or force:
        users = _users(point)
        if force:
            mountinfo.abort(entry)
        _unmount(point, lazy=True)
        if force:
            _wait_for(daemon)
        return Outcome(point, "aborted" if force else "detached", users)
    deadline = Deadline.after(wait_seconds)
    while not _unmount(point, lazy=False):
        if deadline.passed:
            return Outcome(point, "busy", _users(point))
        REAL_CLOCK.sleep(deadline.bounded(RETRY_SECONDS))
    _wait_for(daemon)
    return Outcome(point, "unmounted")


def clean_up_dead(entry: MountEntry, sockets: list[Path]) -> None:
    """Undo a mount whose daemon is gone, and its socket."""
    _unmount(entry.mount_point, lazy=True)
    for path in sockets:
        remove_stale(path)


def _unmount(point: str, *, lazy: bool) -> bool:
    """False when files are open."""
    try:
        mountinfo.unmount(point, lazy=lazy)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        if error.errno == errno.EINVAL and mountinfo.at(point, mountinfo.read()) is None:
            return True  # the daemon, whose connection was aborted, took it away itself
        hint = "; ask as the user who mounted it, or root" if error.errno == errno.EPERM else ""
        raise MountPointError(f"{point}: cannot be unmounted: {error.strerror}{hint}") from None
    return True


def _users(point: str) -> list[OpenFileInfo]:
    return [OpenFileInfo(*file) for file in mountinfo.open_files(point)]


def _daemon(sockets: list[Path]) -> int | None:
    """A descriptor of the daemon's process; None when nobody listens (any more)."""
    for path in sockets:
        if path.exists():
            try:
                return os.pidfd_open(ControlClient(path).daemon_pid())
            except (JindoError, ProcessLookupError):
                continue
    return None


def _wait_for(daemon: int | None) -> None:
    if daemon is not None and not select.select([daemon], [], [], CLOSE_SECONDS)[0]:
        tell("unmounted, but the daemon has not ended yet; its log says what it waits for")


def _tell_busy(outcome: Outcome) -> None:
    point = shown(outcome.mount_point)
    if not outcome.open_files:
        tell(f"{point} is busy: a mount below it, or a process in another container or of another user, holds it")
        return
    tell(f"{point} is busy: close these files, or use --wait 60s, --lazy or --force")
    rows = [[str(file.pid), shown(file.command), shown(file.path)] for file in outcome.open_files]
    print_table(["PID", "COMMAND", "PATH"], rows, right=(0,))
