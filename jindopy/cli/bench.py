"""``bench``: how fast storage, a mount or a directory is for this machine, and what limits it.

An address is asked through the driver, with no mount; any path is read through the kernel.  The limits of each test
(bytes, seconds) are options; progress is shown on a terminal, the table at the end, or JSON.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Final

import click

from jindopy.base.errors import MountPointError, UsageError
from jindopy.base.units import format_duration, format_rate, format_size, parse_duration, parse_size
from jindopy.cli.options import config_option, load_settings, run_dirs, settings_options
from jindopy.cli.output import count, examples, json_option, paint, print_json, print_table, shown, tell
from jindopy.config.rationalize import parse_ufs, ufs_mounts
from jindopy.control.client import ControlClient, locate
from jindopy.measure.loop import Budget, Watch
from jindopy.measure.suite import TESTS, Plan
from jindopy.measure.verdict import Limit, advice
from jindopy.modes.bench import BenchRow, Report, bench_directory, bench_mount, bench_storage, limits_of

DIRECTORY_READERS: Final = 4
"""Disks and mounts: as many as data loaders usually have; a store is asked by a mount's ``fetch_threads``."""
SIZE_MIN: Final = 1 << 20
SHARE_SHOWN_MIN: Final = 0.05


@click.command(
    epilog=examples(
        "jindopy bench oss://bucket/prefix --endpoint oss-cn-hangzhou.aliyuncs.com",
        "jindopy bench /mnt/data",
        "jindopy bench /var/cache --test sequential --test random --size 1G --time 20s",
        "jindopy bench oss://bucket/models --file model-00001.safetensors --test sequential",
        "jindopy bench /mnt/data --json",
    )
)
@click.argument("target", metavar="PATH|UFS")
@click.option("--test", "tests", multiple=True, type=click.Choice(TESTS), help="Only this test. Repeatable.")
@click.option("--size", default="256M", show_default=True, metavar="SIZE", help="Read at most so much in each test.")
@click.option("--time", "seconds", default="5s", show_default=True, metavar="TIME", help="Let each test take so long.")
@click.option(
    "--readers",
    type=click.IntRange(1, 256),
    help=f"Reads at one time.  [{DIRECTORY_READERS}; for storage fetch_threads]",
)
@click.option("--file", metavar="NAME", help="Read this file below PATH or UFS, not the largest found.")
@click.option(
    "--entries", type=click.IntRange(min=1), default=10_000, show_default=True, help="List at most so many files."
)
@click.option("--keep-page-cache", is_flag=True, help="Do not have the kernel forget files before they are read.")
@click.option("-o", "options", multiple=True, metavar="KEY=VALUE,...", help="Settings as for jindopy mount.")
@config_option
@json_option
@settings_options("endpoint", "region", "signature", "credentials_file", "credentials_dir", "run_dir")
def bench(
    target: str,
    tests: tuple[str, ...],
    size: str,
    seconds: str,
    readers: int | None,
    file: str | None,
    entries: int,
    keep_page_cache: bool,
    options: tuple[str, ...],
    config_file: str | None,
    as_json: bool,
    **flags: object,
) -> None:
    """Measure PATH or UFS and say what limits it: link, latency of the store, disk or CPU.

    UFS (oss://bucket/prefix) is asked directly, without a mount.  PATH is any directory or file; below a jindopy mount
    the cache's own disk is measured beside it.  Nothing is written.  Every test has an end: --size and --time; all of
    them read at most eight times --size.  Reading through a mount fills its cache.
    """
    loaded, _, _ = load_settings(flags, options, config_file)
    is_storage = "://" in target
    plan = Plan(
        budget=_budget(size, seconds),
        readers=readers or (loaded.settings.fetch_threads if is_storage else DIRECTORY_READERS),
        entries_max=entries,
        tests=tests or TESTS,
        file=file,
        forget=not keep_page_cache,
    )
    with _progress(quiet=as_json) as watch:
        if is_storage:
            (mount,) = ufs_mounts(parse_ufs([target]), loaded)
            report = bench_storage(mount, plan, watch)
        elif (client := _client(target, flags)) is not None:
            report = bench_mount(target, client, plan, watch)
        else:
            report = bench_directory(target, plan, watch)
    if as_json:
        print_json(report)
    else:
        _print(report)


def _budget(size: str, seconds: str) -> Budget:
    budget = Budget(parse_size(size), parse_duration(seconds))
    if budget.bytes < SIZE_MIN:
        raise UsageError(f"--size {size}: too little to tell anything; give at least 1M")
    if budget.seconds <= 0:
        raise UsageError(f"--time {seconds}: give more than 0")
    return budget


def _client(path: str, flags: dict[str, object]) -> ControlClient | None:
    """The daemon behind a path, if it lies below a mount of ours whose daemon we may ask."""
    run_dir = flags["run_dir"]
    try:
        located = locate(path, run_dirs(run_dir if isinstance(run_dir, str) else None))
        client = ControlClient(located.socket_path)
        client.status()
    except MountPointError:
        return None
    return client


@contextlib.contextmanager
def _progress(*, quiet: bool) -> Iterator[Watch]:
    """A bar on standard error, where someone watches."""
    if quiet or not sys.stderr.isatty():
        yield lambda _test, _done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<28}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda test, done: bar.update(task, description=test, completed=done)


def _print(report: Report) -> None:
    seen = f"{count(report.entries, 'file')}, {format_size(report.entries_bytes)}"
    all_of_it = "" if report.entries_complete else " looked at, there are more"
    click.echo(f"{shown(report.target)}  ({report.kind}, {shown(report.where)}): {seen}{all_of_it}")
    if report.latency_seconds is not None:
        click.echo(f"  the store answers after {report.latency_seconds * 1000:.1f} ms (median, one byte)")
    if report.link_bytes_per_second is not None:
        click.echo(f"  the link brings {format_rate(report.link_bytes_per_second)}, however many connections")
    with_raw = any(row.raw_bytes_per_second for row in report.rows)
    head = ["TEST", "READERS", "BYTES/S", "PER SECOND", "MEDIAN", "P99", "LIMIT", *(["CACHE DISK"] if with_raw else [])]
    print_table(head, [_cells(row, with_raw) for row in report.rows], right=(1, 2, 3, 4, 5))
    for limit in limits_of(report):
        click.echo(f"{paint(limit, 'green')}: {advice(limit)}")
    for line in report.skipped:
        tell(f"skipped: {line}")
    for line in report.notes:
        tell(f"note: {line}")


def _cells(row: BenchRow, with_raw: bool) -> list[str]:
    measured = row.measured
    again = " again" if measured.state == "again" else ""
    cells = [
        measured.test + again,
        str(measured.readers),
        format_rate(row.bytes_per_second) if measured.bytes else "",
        f"{row.operations_per_second:,.0f}" if measured.operations else "",
        _time(measured.median_seconds),
        _time(measured.p99_seconds),
        _limit(row),
    ]
    if with_raw:
        cells.append(format_rate(row.raw_bytes_per_second) if row.raw_bytes_per_second else "")
    return cells


def _time(seconds: float) -> str:
    if not seconds:
        return ""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else format_duration(seconds)


def _limit(row: BenchRow) -> str:
    """The limit with its share of the time; of a mixed row the two largest."""
    if row.limit == Limit.MIXED:
        largest = sorted(row.shares.items(), key=lambda item: -item[1])[:2]
        told = [f"{name} {share:.0%}" for name, share in largest if share >= SHARE_SHOWN_MIN]
        return f"{row.limit} ({', '.join(told)})" if told else row.limit
    share = row.shares.get(row.limit)
    return row.limit if share is None else f"{row.limit} {share:.0%}"
