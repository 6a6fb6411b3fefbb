"""``mount``: settle everything, check what can be checked without a daemon, start it, and say what came of it.

    settings ← files, environment, flags · mount point: ours and dead? clean up; missing, full, busy? say so
    · addresses, disks, other owners of the cache · directories · daemon ← settings by descriptor
    · one line when it is ready, or its one line of error; whatever fails leaves nothing behind

The daemon is a fresh process (never a fork of this one), in a session of its own, with the log as standard error.
``-f`` becomes the daemon by exec instead.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click

from jindopy.base import mountinfo
from jindopy.base.errors import CacheBusy, ConfigError, MountPointError, UsageError
from jindopy.base.ident import mount_point_id
from jindopy.base.mountinfo import Liveness
from jindopy.cli.admin import answering
from jindopy.cli.options import config_option, load_settings, settings_options
from jindopy.cli.output import examples, json_option, print_json, tell
from jindopy.cli.spawn import become_daemon, start_daemon
from jindopy.cli.umount import PROBE_SECONDS, clean_up_dead
from jindopy.config.facts import gather
from jindopy.config.rationalize import mount_settings, parse_ufs, tier_paths
from jindopy.config.settings import MountSettings
from jindopy.control.client import resolve, run_dirs_of, sockets
from jindopy.control.server import prepare_directory
from jindopy.ufs import registry
from jindopy.ufs import uri as uris

FUSE_DEVICE = Path("/dev/fuse")


@dataclass(frozen=True)
class Mounted:
    """What ``--json`` prints."""

    mount_id: str
    mount_point: str
    pid: int
    uris: list[str]
    cache: list[str]
    notes: list[str] = field(default_factory=list)


@click.command(
    epilog=examples(
        "jindopy mount oss://bucket/prefix /mnt/data --endpoint oss-cn-hangzhou.aliyuncs.com",
        "jindopy mount oss://a=/a oss://b/sub=/b /mnt/data -o fs.oss.endpoint=oss-cn-hangzhou.aliyuncs.com",
        "jindopy mount local:///data /mnt/data --quota 10G --ttl once",
    )
)
@click.argument("arguments", nargs=-1, required=True, metavar="UFS[=/PATH]... DIR")
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground and log to the terminal.")
@click.option(
    "-o",
    "options",
    multiple=True,
    metavar="KEY=VALUE,...",
    help="Any setting, Jindo's names accepted (fs.oss.endpoint=...); /PATH:fs.oss.endpoint=... for one UFS.",
)
@config_option
@json_option
@settings_options()
def mount(
    arguments: tuple[str, ...],
    foreground: bool,
    options: tuple[str, ...],
    config_file: str | None,
    as_json: bool,
    **flags: object,
) -> int:
    """Mount UFS at the directory DIR, which must exist and be empty.

    UFS is oss://bucket/prefix or local:///directory; several make one tree, each at its own /PATH.  Keys come from the
    environment (OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET), --credentials-file, --credentials-dir or ~/.ossutilconfig.
    """
    if len(arguments) < 2:
        raise UsageError("give storage and directory: jindopy mount oss://bucket/prefix /mnt/data")
    *ufs, directory = arguments
    loaded, dirs, _ = load_settings(flags, options, config_file)
    for parsed in parse_ufs(ufs):
        uris.parse(parsed.uri)
    check_fuse()
    point = check_mount_point(directory, Path(dirs.run))
    facts = gather(os.environ, tier_paths(loaded.settings, dirs))
    settings, notes = mount_settings(loaded, facts, mount_point=point, ufs=ufs, foreground=foreground)
    notes += check_options(settings)
    check_cache_owner(settings)
    with ExitStack() as undo:
        make_directories(settings, undo)
        if foreground:
            for note in notes:
                tell(f"note: {note}")
            become_daemon(settings)
        ready = start_daemon(settings, loaded.settings.timeout)
        undo.pop_all()
    notes += ready.notes
    for note in notes:
        tell(f"note: {note}")
    if as_json:
        caches = [tier.path for tier in settings.tiers]
        print_json(Mounted(ready.mount_id, point, ready.pid, [ufs.uri for ufs in settings.mounts], caches, notes))
    else:
        click.echo(settings.mounted_line(ready.pid))
    return 0


def check_fuse(device: Path = FUSE_DEVICE) -> None:
    """FUSE is there and ours to use; raises ConfigError."""
    if not device.exists():
        raise ConfigError(
            f"{device} is missing: load the module (modprobe fuse), or start the container with --device {device}"
            " --cap-add SYS_ADMIN"
        )
    if not os.access(device, os.R_OK | os.W_OK):
        raise ConfigError(f"{device} is not open to this user; as root: chmod 666 {device}")
    if os.geteuid() != 0 and not (shutil.which("fusermount3") or shutil.which("fusermount")):
        raise ConfigError("mounting without root needs fusermount3; install the package fuse3")


def check_mount_point(directory: str, run_dir: Path) -> str:
    """The real path to mount at.  A dead mount of ours is cleaned up, and told; raises MountPointError."""
    entries = mountinfo.read()
    plain, entry = resolve(directory, entries)
    if entry is not None and entry.ours and entry.mount_point == plain:
        if mountinfo.probe(plain, PROBE_SECONDS) is not Liveness.DEAD:
            raise MountPointError(f"{plain}: is a jindopy mount already; first: jindopy umount {plain}")
        identity = mount_point_id(plain)
        clean_up_dead(entry, [place / f"{identity}.sock" for place in (run_dir, *run_dirs_of(entry))])
        tell(f"note: cleaned up a dead mount at {plain}")
        return check_mount_point(directory, run_dir)
    path = Path(os.path.realpath(directory))
    try:
        first = next(path.iterdir(), None)
    except FileNotFoundError:
        raise MountPointError(f"{path}: no such directory; make it: mkdir -p {path}") from None
    except NotADirectoryError:
        raise MountPointError(f"{path}: is no directory; mount at an empty one") from None
    except OSError as error:
        raise MountPointError(f"{path}: {error.strerror}; choose another directory") from None
    if first is not None:
        raise MountPointError(
            f"{path}: is not empty (it holds {first.name!r}), a mount would hide that; choose an empty directory"
        )
    if os.geteuid() != 0 and not os.access(path, os.W_OK):
        raise MountPointError(f"{path}: mounting without root needs a directory you may write to; choose another")
    return str(path)


def check_options(settings: MountSettings) -> list[str]:
    """Options that no storage of the mount reads: Jindo has many more, so they are told, not refused."""
    unread: set[str] = set()
    read: set[str] = set()
    for mount in settings.mounts:
        without_effect = registry.without_effect(mount.uri, mount.options)
        unread |= without_effect
        read |= set(mount.options) - without_effect
    return [
        f"{name} has no effect here; docs/CONFIGURATION.md lists the options that have"
        for name in sorted(unread - read)
    ]


def check_cache_owner(settings: MountSettings) -> None:
    """A cache directory has one owner at a time; who it is, running mounts say (the block store has the last word)."""
    wanted = {tier.path for tier in settings.tiers}
    for other in answering(sockets([Path(settings.run_dir)]))[0]:
        shared = next((tier.path for tier in other.tiers if tier.path in wanted), None)
        if shared is not None:
            uri = settings.mounts[0].uri
            raise CacheBusy(
                f"the cache {shared} belongs to the mount at {other.mount_point} (pid {other.pid}); give this one its"
                f" own (--cache-dir DIR), or mount both there: jindopy mount {other.mounts[0].uri}=/a {uri}=/b"
                f" {other.mount_point}"
            )


def make_directories(settings: MountSettings, undo: ExitStack) -> None:
    """Directories the daemon needs; those made here go again when the mount fails and they stayed empty."""
    for path in (*(tier.path for tier in settings.tiers), settings.state_dir):
        _make(Path(path), 0o700, undo)
    if settings.log_file:
        _make(Path(settings.log_file).parent, 0o755, undo)
    prepare_directory(Path(settings.run_dir))


def _make(path: Path, mode: int, undo: ExitStack) -> None:
    missing = []
    place = path
    while not place.exists():
        missing.append(place)
        place = place.parent
    try:
        for place in reversed(missing):
            place.mkdir(mode=mode if place == path else 0o755)
            undo.callback(_remove_empty, place)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be made: {error.strerror}; choose another directory") from None


def _remove_empty(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        return  # something was put there meanwhile, so it stays
