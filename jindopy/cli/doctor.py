"""``doctor``: everything that has to be right for a mount, each with OK, WARN or FAIL and what to do.

Without an argument: this machine and all running mounts.  With an address: also that storage, before any mount.  With a
directory: also the storage behind that mount, its skipped keys, and with ``--scrub`` every block of its cache.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from jindopy.base.errors import UsageError
from jindopy.cli.admin import overview
from jindopy.cli.checks import Finding, Level, check_machine
from jindopy.cli.checks_storage import SKIPPED_MAX, SKIPPED_SHOWN, check_mounts, check_skipped, check_storage
from jindopy.cli.options import config_option, load_settings, settings_options
from jindopy.cli.output import count, examples, json_option, paint, print_json, shown
from jindopy.config.facts import gather
from jindopy.config.params import Loaded
from jindopy.config.rationalize import parse_ufs, tier_paths, ufs_mounts
from jindopy.config.settings import UfsMount
from jindopy.control.client import ControlClient, locate

COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


@click.command(
    epilog=examples(
        "jindopy doctor",
        "jindopy doctor oss://bucket/prefix --endpoint oss-cn-hangzhou.aliyuncs.com",
        "jindopy doctor --scrub /mnt/data",
    )
)
@click.argument("target", required=False, metavar="[UFS|DIR]")
@click.option("--scrub", is_flag=True, help="Read and check every cached block of the mount at DIR.")
@click.option("-o", "options", multiple=True, metavar="KEY=VALUE,...", help="Settings as for jindopy mount.")
@config_option
@json_option
@settings_options("endpoint", "region", "signature", "credentials_file", "credentials_dir", "cache_dir", "quota")
@settings_options("high", "low", "min_free", "tier", "allow_other", "memory", "state_dir", "run_dir")
def doctor(
    target: str | None,
    scrub: bool,
    options: tuple[str, ...],
    config_file: str | None,
    as_json: bool,
    **flags: object,
) -> int:
    """Check kernel, FUSE, permissions, disk, storage, clock and running mounts; exit 1 when anything fails."""
    loaded, dirs, facts = load_settings(flags, options, config_file)
    facts = replace(facts, disks=gather(os.environ, tier_paths(loaded.settings, dirs)).disks)
    is_storage = target is not None and "://" in target
    if scrub and (target is None or is_storage):
        raise UsageError("--scrub checks the cache of a running mount: jindopy doctor --scrub DIR")
    findings = []

    def report(found: Iterator[Finding]) -> None:
        for finding in found:
            findings.append(finding)
            if not as_json:
                _print(finding)

    if loaded.origins:
        given = ", ".join(f"{name} ({origin})" for name, origin in sorted(loaded.origins.items()))
        report(iter([Finding("settings", Level.OK, given)]))
    report(iter(check_machine(loaded.settings, dirs, facts)))
    report(check_mounts(overview([Path(dirs.run)])))
    if target is not None and is_storage:
        for mount in ufs_mounts(parse_ufs([target]), loaded):
            report(check_storage(mount))
    elif target is not None:
        client = ControlClient(locate(target, [Path(dirs.run)]).socket_path)
        report(_check_one(client, loaded, SKIPPED_MAX if as_json else SKIPPED_SHOWN))
        if scrub:
            report(_scrub(client, quiet=as_json))
    if as_json:
        print_json(findings)
    return 1 if any(finding.level == Level.FAIL for finding in findings) else 0


def _check_one(client: ControlClient, loaded: Loaded, skipped_max: int) -> Iterator[Finding]:
    status = client.status()
    yield from check_skipped(status, client, skipped_max)
    for mount in status.mounts:
        (asked,) = ufs_mounts((UfsMount(mount.uri, mount.path.strip("/")),), loaded)
        scheme = mount.uri.partition(":")[0]
        endpoint = {f"fs.{scheme}.endpoint": mount.endpoint} if "://" in mount.endpoint else {}
        yield from check_storage(UfsMount(asked.uri, asked.path, {**endpoint, **asked.options}))


def _scrub(client: ControlClient, *, quiet: bool) -> Iterator[Finding]:
    last = None
    for last in client.scrub():
        if not quiet and sys.stderr.isatty():
            click.echo(f"\rchecked {last.files_checked:,} of {count(last.files_total, 'file')}", nl=False, err=True)
    if not quiet and sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    if last is None or not last.done:
        yield Finding("scrub", Level.FAIL, "the mount ended before its cache was checked", "mount again and repeat")
        return
    blocks, files = count(last.blocks_checked, "block"), count(last.files_checked, "file")
    if not last.blocks_bad:
        yield Finding("scrub", Level.OK, f"{blocks} of {files} found sound")
        return
    fix = "nothing is lost: they are fetched again when read, or now by jindopy load; check the disk (smartctl)"
    named = ", ".join(map(shown, last.bad_files[:5]))
    yield Finding("scrub", Level.FAIL, f"{last.blocks_bad:,} of {blocks} found bad and dropped: {named}", fix)


def _print(finding: Finding) -> None:
    level = paint(f"{finding.level:<4}", COLOURS[Level(finding.level)])
    click.echo(f"{level}  {finding.check}: {finding.message}")
    if finding.fix:
        click.echo(f"      → {finding.fix}")
