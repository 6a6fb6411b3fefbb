"""``status``, ``version`` and ``completion``."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from jindopy import __version__
from jindopy.base import mountinfo
from jindopy.base.errors import JindoError
from jindopy.base.ident import mount_point_id
from jindopy.base.mountinfo import Liveness
from jindopy.base.units import format_duration, format_percent, format_size
from jindopy.cli.options import connect, run_dir_option, run_dirs
from jindopy.cli.output import cached_share, count, examples, json_option, paint, print_json, print_table, shown
from jindopy.control.api import DaemonStatus, TrafficStatus
from jindopy.control.client import ControlClient, run_dirs_of, sockets

# One mount that hangs must not keep the others from being shown.
STATUS_SECONDS = 5.0
ONE_STATUS_SECONDS = 20.0
"""Where only one is asked: sums over ten million files take as long."""


@dataclass(frozen=True)
class Overview:
    """All mounts: those that answer, those that do not, and those that cannot be asked from here."""

    mounts: list[DaemonStatus] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    """One line each: a dead mount, a daemon that does not answer."""
    others: list[str] = field(default_factory=list)
    """One line each: mounts of other users, or with sockets in another place."""


def answering(paths: Sequence[Path]) -> tuple[list[DaemonStatus], dict[Path, str]]:
    """What the daemons behind these sockets say, and why the others say nothing."""
    found, silent = [], {}
    for path in paths:
        try:
            found.append(ControlClient(path, answer_seconds=STATUS_SECONDS).status())
        except JindoError as error:
            silent[path] = error.message
    return found, silent


def overview(directories: Sequence[Path]) -> Overview:
    """Ask every daemon there is, and look for mounts that have none."""
    entries = [entry for entry in mountinfo.read() if entry.ours]
    others = [entry for entry in entries if os.geteuid() not in (0, entry.user_id)]
    entries = [entry for entry in entries if entry not in others]
    found, silent = answering(sockets([*directories, *(place for entry in entries for place in run_dirs_of(entry))]))
    lines = []
    elsewhere = [f"{entry.mount_point}: mounted by user {entry.user_id}; ask as that user or root" for entry in others]
    for entry in entries:
        point, identity = entry.mount_point, mount_point_id(entry.mount_point)
        if any(mount.mount_id == identity for mount in found):
            continue
        has_socket = any(path.stem == identity for path in silent)
        silent = {path: why for path, why in silent.items() if path.stem != identity}
        state = mountinfo.probe(point, STATUS_SECONDS)
        if state is Liveness.ALIVE and not has_socket:
            elsewhere.append(f"{point}: serves files, but has no socket here; was it mounted with another --run-dir?")
        else:
            lines.append(f"{point}: {state.value}, and no daemon answers for it; clean up: jindopy umount {point}")
    lines += [f"{path}: no mount belongs to it ({why})" for path, why in silent.items()]
    return Overview(found, lines, elsewhere)


@click.command(epilog=examples("jindopy status", "jindopy status /mnt/data", "jindopy status --json"))
@click.argument("path", required=False)
@json_option
@run_dir_option
def status(path: str | None, as_json: bool, run_dir: str | None) -> int:
    """Show running mounts; with PATH (or a mount id) all about one."""
    if path is not None:
        _, located = connect(path, run_dir)
        found = ControlClient(located.socket_path, answer_seconds=ONE_STATUS_SECONDS).status()
        if as_json:
            print_json(found)
        else:
            _print_mount(found)
        return 0
    all_mounts = overview(run_dirs(run_dir))
    if as_json:
        print_json(all_mounts)
    else:
        _print_overview(all_mounts)
    return 0 if not all_mounts.silent else 1


def _print_overview(found: Overview) -> None:
    if found.mounts:
        rows = []
        present = {entry.mount_point for entry in mountinfo.read()}
        for mount in found.mounts:
            size = sum(ufs.size_bytes for ufs in mount.mounts)
            cached = sum(ufs.cached_bytes for ufs in mount.mounts)
            rows.append(
                [
                    mount.mount_id,
                    str(mount.pid),
                    format_size(cached),
                    format_percent(cached, size) if size else "-",
                    f"{mount.traffic.hit_ratio:.1%}" if mount.traffic.read_bytes else "-",
                    format_size(mount.traffic.saved_bytes),
                    f"{shown(mount.mount_point)}  ({', '.join(ufs.uri for ufs in mount.mounts)})"
                    + ("" if mount.mount_point in present else "  detached, until its open files are closed"),
                ]
            )
        print_table(["ID", "PID", "CACHED", "OF KNOWN", "HITS", "SAVED", "MOUNT POINT"], rows, right=(1, 2, 3, 4, 5))
    elif not found.silent:
        click.echo("nothing is mounted")
    for line in found.others:
        click.echo(line)
    for line in found.silent:
        click.echo(paint(line, "red"))


def _passed(traffic: TrafficStatus) -> str:
    """What the kernel read by itself shows only as opens."""
    if not traffic.passed_opens:
        return ""
    return f"; it read files of {format_size(traffic.passed_bytes)} by itself ({count(traffic.passed_opens, 'open')})"


def _print_mount(found: DaemonStatus) -> None:
    click.echo(
        f"{shown(found.mount_point)}  (id {found.mount_id}, pid {found.pid}, jindopy {found.version},"
        f" {found.transport}, up {format_duration(found.uptime_seconds)},"
        f" {format_size(found.memory_bytes)} of memory, {count(found.open_files, 'file')} in use)"
    )
    for ufs in found.mounts:
        ttl = "for ever" if ufs.ttl_seconds == float("inf") else format_duration(ufs.ttl_seconds)
        click.echo(f"  /{ufs.path}  {ufs.uri}  at {ufs.endpoint or 'this machine'}")
        share = f"{cached_share(ufs.cached_bytes, ufs.size_bytes)}, {ufs.cached_files:,} of {count(ufs.files, 'file')}"
        click.echo(f"    cached    {share if ufs.files else 'nothing is listed yet; a read or jindopy load does it'}")
        click.echo(f"    metadata  believed {ttl}, consistency {ufs.consistency}")
    for tier in found.tiers:
        state = tier.state if tier.state == "normal" else paint(tier.state, "red")
        click.echo(
            f"  tier {tier.name}  {tier.path}  {format_size(tier.used_bytes)} of {format_size(tier.quota_bytes)} used"
            f" ({format_percent(tier.used_bytes, tier.quota_bytes)}), {format_size(tier.pinned_bytes)} pinned,"
            f" {format_size(tier.evicted_bytes)} evicted, {count(tier.files, 'file')}, {state}"
        )
    traffic = found.traffic
    click.echo(
        f"  read {format_size(traffic.read_bytes)},"
        f" {f'{traffic.hit_ratio:.1%}' if traffic.read_bytes else 'nothing yet'} from the cache"
        f" ({format_size(traffic.saved_bytes)} and {count(traffic.saved_gets, 'GET')} saved),"
        f" {count(traffic.fuse_requests, 'request')} of the kernel"
        f"{_passed(traffic)}"
    )
    click.echo(
        f"  asked the storage for {format_size(traffic.ufs_bytes)}: {count(traffic.ufs_gets, 'GET')},"
        f" {count(traffic.ufs_lists, 'listing')}, {count(traffic.ufs_heads, 'HEAD')}, {count(traffic.retries, 'retry')}"
    )
    if found.memory:
        parts = [
            f"{part.name} {format_size(part.used_bytes)} of {format_size(part.budget_bytes)}" for part in found.memory
        ]
        click.echo(f"  memory budget {format_size(found.memory_budget_bytes)}: {', '.join(parts)}")
    warnings = [f"note: {note}" for note in found.notes]
    if traffic.crc_failures:
        warnings.append(f"{count(traffic.crc_failures, 'bad block')} found and fetched again")
    if traffic.bad_objects:
        objects = count(traffic.bad_objects, "object")
        warnings.append(f"{objects} arrived with wrong bytes, seen at the last one: dropped, fetched again when read")
    if traffic.stale_reads:
        warnings.append(f"{count(traffic.stale_reads, 'read')} of versions that are gone (ESTALE)")
    if found.skipped_keys:
        keys = count(found.skipped_keys, "key")
        warnings.append(f"{keys} that no path can hold: jindopy doctor {shown(found.mount_point)}")
    for warning in warnings:
        click.echo(paint(f"  {warning}", "yellow"))


@dataclass(frozen=True)
class Version:
    """What ``version`` prints."""

    jindopy: str
    python: str
    kernel: str
    machine: str
    crc64: str


@click.command(epilog=examples("jindopy version --json"))
@json_option
def version(as_json: bool) -> None:
    """Print version, Python, kernel and the checksum code in use."""
    try:
        from jindopy._ext import crc64

        kernel = crc64.kernel()
    except ImportError as error:
        kernel = f"not built ({error})"
    found = Version(__version__, platform.python_version(), platform.release(), platform.machine(), kernel)
    if as_json:
        print_json(found)
    else:
        click.echo(
            f"jindopy {found.jindopy} (Python {found.python}, Linux {found.kernel} {found.machine},"
            f" CRC-64 {found.crc64})"
        )


@click.command(epilog=examples("source <(jindopy completion bash)"))
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL, to be sourced by it."""
    from click.shell_completion import get_completion_class

    from jindopy.cli.main import main

    kind = get_completion_class(shell)
    assert kind is not None
    sys.stdout.write(kind(main, {}, "jindopy", "_JINDOPY_COMPLETE").source() + "\n")
