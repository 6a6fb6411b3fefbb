"""``load``: bring metadata and data into the cache, watch it, name what failed.

The load runs in the mount's daemon; this command only watches.  Interrupting the command leaves the load running and
says how to stop it, because a second command (or the next container) may be waiting for the same data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from jindopy.base.clock import REAL_CLOCK
from jindopy.base.errors import EXIT_DATA, EXIT_INTERRUPTED, MountPointError, UsageError
from jindopy.base.units import format_duration, format_rate, format_size
from jindopy.cli.options import connect, run_dir_option, run_dirs
from jindopy.cli.output import count, examples, json_option, print_json, shown, tell
from jindopy.cli.progress import progress
from jindopy.control.api import LoadProgress, LoadRequest
from jindopy.control.client import ControlClient, sockets

FAILURES_SHOWN = 20


@dataclass(frozen=True)
class Part:
    """What to load of one mount."""

    client: ControlClient
    paths: list[str]


@click.command(
    epilog=examples(
        "jindopy load /mnt/data/train",
        "jindopy load --metadata /mnt/data",
        "jindopy load '/mnt/data/*.csv'",
        "jindopy load oss://bucket/prefix",
        "jindopy load --all --dry-run",
    )
)
@click.argument("paths", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything of every mount.")
@click.option("--metadata", "only_metadata", is_flag=True, help="Names, sizes and versions only.")
@click.option("--data", "only_data", is_flag=True, help="Data of what is listed already, without listing anew.")
@click.option("--dry-run", is_flag=True, help="Say how much there is to load, and load nothing.")
@click.option("--cancel", "cancel_job", metavar="JOB", help="Stop this running load of the mount at PATH instead.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
@json_option
@run_dir_option
def load(
    paths: tuple[str, ...],
    everything: bool,
    only_metadata: bool,
    only_data: bool,
    dry_run: bool,
    cancel_job: str | None,
    quiet: bool,
    as_json: bool,
    run_dir: str | None,
) -> int:
    """Load PATHS into the cache: paths below a mount, globs, or addresses such as oss://bucket/prefix.

    Complete means that every byte listed is in the cache and verified.  A second load of the same files joins the
    first.  Ctrl-C stops watching; the load goes on in the mount.  Progress goes to standard error: a bar on a terminal,
    else a line every 5 seconds.  --json prints one list at the end, an entry for each mount.
    """
    if bool(paths) == everything:
        raise UsageError("name paths to load, or --all for everything of every mount")
    if only_metadata and only_data:
        raise UsageError("--metadata and --data exclude each other; without both, both are loaded")
    if cancel_job is not None:
        return _cancel(paths, cancel_job, run_dir)
    exit_code, finals = 0, []
    for part in _parts(paths, run_dirs(run_dir), run_dir):
        request = LoadRequest(part.paths, metadata=not only_data, data=not only_metadata, dry_run=dry_run)
        started = REAL_CLOCK.monotonic()
        final = _watch(part.client.load(request), quiet=quiet)
        if final is None:
            return EXIT_INTERRUPTED
        finals.append(final)
        if not as_json:
            _print_final(final, dry_run, only_metadata, REAL_CLOCK.monotonic() - started)
        if final.phase != "complete":
            exit_code = EXIT_DATA
    if as_json:
        print_json(finals)
    return exit_code


def _cancel(paths: Sequence[str], job: str, run_dir: str | None) -> int:
    if len(paths) != 1:
        raise UsageError("--cancel needs the one mount whose load it is: jindopy load --cancel JOB DIR")
    client, _ = connect(paths[0], run_dir)
    if client.cancel_load(job):
        click.echo(f"load {job} stops; what it loaded stays in the cache")
        return 0
    tell(f"no load {job} is running there")
    return 1


def _parts(paths: Sequence[str], places: list[Path], run_dir: str | None) -> list[Part]:
    """Requests by mount; without paths everything of each."""
    if not paths:
        parts = [Part(ControlClient(path), []) for path in sockets(places)]
        if not parts:
            raise MountPointError("nothing is mounted; jindopy mount UFS DIR comes first")
        return parts
    by_socket: dict[Path, Part] = {}
    for path in paths:
        if "://" in path:
            socket_path, inner = _find_address(path, places)
            client = ControlClient(socket_path)
        else:
            client, located = connect(path, run_dir)
            socket_path, inner = located.socket_path, located.inner_path
        by_socket.setdefault(socket_path, Part(client, [])).paths.append(inner)
    return list(by_socket.values())


def _find_address(address: str, places: list[Path]) -> tuple[Path, str]:
    """The mount that shows ``oss://bucket/prefix``, and the path there: the longest matching address wins."""
    best: tuple[int, Path, str] | None = None
    for socket_path in sockets(places):
        for ufs in ControlClient(socket_path).status().mounts:
            base = ufs.uri.rstrip("/")
            if address.rstrip("/") != base and not address.startswith(base + "/"):
                continue
            inner = "/".join(part for part in (ufs.path.strip("/"), address[len(base) :].strip("/")) if part)
            if best is None or len(base) > best[0]:
                best = (len(base), socket_path, inner)
    if best is None:
        raise MountPointError(f"{address} is not mounted; jindopy mount {address} DIR comes first")
    return best[1], best[2]


def _watch(items: Iterator[LoadProgress], *, quiet: bool) -> LoadProgress | None:
    """Follow a load to its end; None when interrupted, which is told."""
    last: LoadProgress | None = None
    try:
        with progress(quiet) as show:
            for last in items:
                show(last)
    except KeyboardInterrupt:
        job = last.job if last is not None else "?"
        tell(f"interrupted; the load goes on in the mount (stop it: jindopy load --cancel {job} DIR)")
        return None
    if last is None or not last.done:
        raise MountPointError("the mount ended before the load was complete; mount again and repeat the load")
    return last


def _print_final(final: LoadProgress, dry_run: bool, only_metadata: bool, seconds: float) -> None:
    files, directories = count(final.files_total, "file"), count(final.directories, "directory")
    there = f"{files}, {format_size(final.bytes_total)} in {directories}"
    took = f"in {format_duration(seconds)}"
    if dry_run:
        missing = final.bytes_total - final.bytes_done
        click.echo(f"there are {there}; {format_size(missing)} of them would be fetched")
    elif only_metadata and final.phase == "complete":
        click.echo(f"complete: listed {there} {took}")
    elif final.phase == "complete":
        rate = format_rate(final.bytes_fetched / seconds) if seconds > 0 else ""
        fetched = f"fetched {format_size(final.bytes_fetched)} {took} ({rate})"
        click.echo(f"complete: {there}; {fetched if final.bytes_fetched else 'all of it was in the cache'}")
    else:
        click.echo(
            f"{final.phase}: {final.files_done:,} of {files} and {format_size(final.bytes_done)} of"
            f" {format_size(final.bytes_total)} are in the cache after {format_duration(seconds)}"
        )
    for failure in final.failures[:FAILURES_SHOWN]:
        tell(f"{shown(failure.path)}: {failure.error}")
    if final.failure_count > FAILURES_SHOWN:
        tell(f"... and {count(final.failure_count - FAILURES_SHOWN, 'more failure')} (--json names up to 1,000)")
