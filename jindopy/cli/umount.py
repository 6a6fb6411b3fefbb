"""``umount``: take a mount away without losing what uses it, or say who uses it.

    plain    unmount; busy: list open files, exit 1 (``--wait`` tries again until the time is over)
    --lazy   detach at once, open files go on being served until they are closed
    --force  abort the mount's own FUSE connection, then detach: open files end with an error, and so does a daemon that
             hangs (by SIGKILL, which its cache survives)

Whatever the way, the command returns only when the daemon has ended, so that the next mount can take its cache; only
``--lazy`` does not wait.  Who the daemon is, the kernel says of its socket: it need not answer.  A dead mount is simply
cleaned up.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
from dataclasses import dataclass, field, replace
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
STUCK_SECONDS = 5.0
"""For one that did not answer even before its connection was aborted."""


@dataclass(frozen=True)
class Outcome:
    """What became of the mount."""

    mount_point: str
    result: str
    """``unmounted``, ``detached``, ``aborted``, ``cleaned up`` or ``busy``"""
    open_files: list[OpenFileInfo] = field(default_factory=list)
    stuck: bool = False
    """The daemon answered nothing for ``PROBE_SECONDS``."""


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
    state = mountinfo.probe(point, PROBE_SECONDS)
    if state is Liveness.DEAD:
        clean_up_dead(entry, sockets)
        return Outcome(point, "cleaned up")
    daemon = _daemon(sockets)
    try:
        if force:
            return _force(entry, daemon, sockets, stuck=state is Liveness.STUCK)
        outcome = _take_living(entry, daemon, wait_seconds=wait_seconds, lazy=lazy)
        return replace(outcome, stuck=state is Liveness.STUCK)
    finally:
        if daemon is not None:
            os.close(daemon)


def _force(entry: MountEntry, daemon: int | None, sockets: list[Path], *, stuck: bool) -> Outcome:
    point = entry.mount_point
    users = _users(point)
    mountinfo.abort(entry)
    _unmount(point, lazy=True)
    if daemon is not None and not _ends(daemon, STUCK_SECONDS if stuck else CLOSE_SECONDS):
        # It would keep the cache from the next mount.  A descriptor, so that it is no other process by now.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(daemon, signal.SIGKILL)
        tell("the daemon did not end and was killed; its cache survives that")
        _ends(daemon, STUCK_SECONDS)
        for path in sockets:
            remove_stale(path)
    return Outcome(point, "aborted", users, stuck)


def _take_living(entry: MountEntry, daemon: int | None, *, wait_seconds: float, lazy: bool) -> Outcome:
    point = entry.mount_point
    if lazy:
        users = _users(point)
        _unmount(point, lazy=True)
        return Outcome(point, "detached", users)
    deadline = Deadline.after(wait_seconds)
    while not _unmount(point, lazy=False):
        if deadline.passed:
            return Outcome(point, "busy", _users(point))
        REAL_CLOCK.sleep(deadline.bounded(RETRY_SECONDS))
    if daemon is not None and not _ends(daemon, CLOSE_SECONDS):
        tell("unmounted, but the daemon has not ended yet; its log says what it waits for")
    return Outcome(point, "unmounted")


def clean_up_dead(entry: MountEntry, sockets: list[Path]) -> None:
    """Undo a mount whose daemon is gone, and its socket."""
    _unmount(entry.mount_point, lazy=True)
    for path in sockets:
        remove_stale(path)


def _unmount(point: str, *, lazy: bool) -> bool:
    """False when files are open.  A daemon whose connection was aborted may be quicker and take it away itself."""
    try:
        mountinfo.unmount(point, lazy=lazy)
    except MountPointError:
        if mountinfo.at(point, mountinfo.read()) is not None:
            raise
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        if error.errno == errno.EINVAL and mountinfo.at(point, mountinfo.read()) is None:
            return True
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


def _ends(daemon: int, seconds: float) -> bool:
    """Whether the daemon ends within that time."""
    return bool(select.select([daemon], [], [], seconds)[0])


def _tell_busy(outcome: Outcome) -> None:
    point = shown(outcome.mount_point)
    if outcome.stuck:
        tell(f"{point} is busy and its daemon answers nothing; end both: jindopy umount --force {point}")
    elif not outcome.open_files:
        tell(f"{point} is busy: a mount below it, or a process in another container or of another user, holds it")
    else:
        tell(f"{point} is busy: close these files, or use --wait 60s, --lazy or --force")
    if not outcome.open_files:
        return
    rows = [[str(file.pid), shown(file.command), shown(file.path)] for file in outcome.open_files]
    print_table(["PID", "COMMAND", "PATH"], rows, right=(0,))
