"""``jindopy bench``: wires a target, its meters and the tests, and has the results judged.

    storage     driver with a mount's layers ── suite ── latency and link from it ── judge
    directory   plain system calls ─────────── suite ── judge
    a mount     the same, its daemon's counters beside; then the cache's own disk by the same tests, as reference

Nothing is written and nothing is mounted.  Reading through a mount fills its cache, as any reader does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, final

from jindopy.base import metrics, mountinfo
from jindopy.base.clock import Deadline
from jindopy.base.errors import JindoError, UsageError
from jindopy.config.settings import UfsMount
from jindopy.control.client import ControlClient
from jindopy.measure import meters, verdict
from jindopy.measure.loop import Budget, Watch
from jindopy.measure.suite import Findings, Plan, Suite
from jindopy.measure.targets import DirectoryTarget, StorageTarget
from jindopy.measure.verdict import Known, Limit, Row
from jindopy.modes.parts import open_ufs

RAW_PART: Final = 2
"""The cache's own disk gets half of the seconds: it is only the reference."""
CPU_OF_OTHERS_NOTED: Final = 0.5
"""Cores.  Of two, this is where rates of a busy process begin to suffer."""
MEMORY_NOTED: Final = 0.1
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True)
class BenchRow:
    """One measured row with its verdict."""

    measured: Row
    bytes_per_second: float
    operations_per_second: float
    limit: str
    shares: Mapping[str, float]
    """Of the time, by possible limit."""
    raw_bytes_per_second: float | None = None
    """The cache's own disk in the same test."""


@dataclass(frozen=True)
class Report:
    """All that a bench found out."""

    target: str
    kind: str
    """``storage``, ``mount`` or ``directory``."""
    where: str
    """Endpoint, daemon or file system."""
    entries: int
    entries_bytes: int
    entries_complete: bool
    latency_seconds: float | None
    link_bytes_per_second: float | None
    rows: list[BenchRow] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@final
class MountMeter:
    """This process, and what a mount's daemon says of itself."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def counts(self) -> meters.Counts:
        status = self._client.status()
        return meters.Counts(
            cpu_seconds=meters.own_cpu_seconds(),
            daemon_cpu_seconds=meters.cpu_seconds(status.pid),
            disk_bytes=meters.disk_bytes(status.pid),
            store_bytes=status.traffic.ufs_bytes,
            store_requests=status.traffic.ufs_gets + status.traffic.ufs_lists + status.traffic.ufs_heads,
            served_bytes=status.traffic.read_bytes,
        )


@final
class _Surroundings:
    """What went on beside the tests."""

    def __init__(self) -> None:
        self._retries = metrics.value(metrics.UFS_RETRIES)
        self._busy = meters.busy_seconds()
        # A deadline that never passes tells how long ago it was made.
        self._began = Deadline.after(_DAY_SECONDS)

    def notes(self, rows: list[Row]) -> list[str]:
        notes = []
        retries = round(metrics.value(metrics.UFS_RETRIES) - self._retries)
        if retries:
            notes.append(f"{retries} requests were refused or lost and repeated: the store may limit their number")
        seconds = _DAY_SECONDS - self._began.remaining()
        ours = sum(row.cpu_seconds + row.daemon_cpu_seconds for row in rows)
        others = (meters.busy_seconds() - self._busy - ours) / seconds
        if others > CPU_OF_OTHERS_NOTED:
            notes.append(
                f"other programs used {others:.1f} of this machine's {os.cpu_count()} cores meanwhile: rates may be low"
            )
        return notes


_DAY_SECONDS: Final = 86_400.0


def bench_storage(mount: UfsMount, plan: Plan, watch: Watch) -> Report:
    """Measure below an address; raises what is wrong with it."""
    driver, prefix = open_ufs(mount)
    try:
        around = _Surroundings()
        local = driver.scheme == "local"
        found = Suite(StorageTarget(driver, prefix), plan, meters.ProcessMeter(on_disk=local), watch).run(
            probe=not local
        )
        _require(found, mount.uri)
        link, connection = (None, None) if local else verdict.link_of(found.ramp)
        known = Known(
            latency_seconds=verdict.latency_of(found.probes) if found.probes else None,
            link_bytes_per_second=link,
            connection_bytes_per_second=connection,
        )
        return _report(mount.uri, "storage", driver.endpoint, found, known, around.notes(found.rows))
    finally:
        driver.close()


def bench_directory(path: str, plan: Plan, watch: Watch) -> Report:
    """Measure below a directory of any file system."""
    entry = mountinfo.find(os.path.realpath(path), mountinfo.read())
    kind = entry.fs_type if entry is not None else "unknown"
    on_disk = entry is not None and (kind in _IN_MEMORY or kind == "overlay" or entry.source.startswith("/dev/"))
    around = _Surroundings()
    found = Suite(DirectoryTarget(path), plan, meters.ProcessMeter(on_disk=on_disk), watch).run(probe=False)
    _require(found, path)
    notes = around.notes(found.rows) + _memory_notes(found.rows, plan, kind)
    return _report(path, "directory", kind, found, Known(served=not on_disk), notes)


def bench_mount(path: str, client: ControlClient, plan: Plan, watch: Watch) -> Report:
    """Measure below a running mount of ours, and the disk of its cache."""
    status = client.status()
    around = _Surroundings()
    found = Suite(DirectoryTarget(path), replace(plan, fills_cache=True), MountMeter(client), watch).run(probe=False)
    _require(found, path)
    raw, notes = _raw_rates([tier.path for tier in status.tiers], plan, watch)
    notes += around.notes(found.rows) + _memory_notes(found.rows, plan, status.transport)
    where = f"pid {status.pid}, {status.transport}, of {', '.join(ufs.uri for ufs in status.mounts)}"
    return _report(path, "mount", where, found, Known(raw=raw), notes)


def _raw_rates(tiers: list[str], plan: Plan, watch: Watch) -> tuple[dict[str, float], list[str]]:
    """The same tests on the first tier's own files, which are complete copies of objects."""
    budget = Budget(plan.budget.bytes, plan.budget.seconds / RAW_PART)
    raw_plan = replace(plan, budget=budget, file=None, tests=[test for test in plan.tests if test != "stat"])

    def watch_raw(test: str, done: float) -> None:
        watch(f"{test}, cache disk", done)

    for tier in tiers:
        target = DirectoryTarget(str(Path(tier) / "v1"), of_cache=True)
        try:
            found = Suite(target, raw_plan, meters.ProcessMeter(on_disk=True), watch_raw).run(probe=False)
        except JindoError as error:
            return {}, [f"the cache's disk was not measured: {error.message}"]
        rates = {
            verdict.raw_key(row.test, row.readers): row.bytes_per_second
            for row in found.rows
            # Rates of the page cache would make any disk look slow.
            if row.bytes and verdict.from_memory(row) < verdict.FROM_MEMORY
        }
        if rates:
            return rates, []
    return {}, ["the cache's disk was not measured: no complete file in the cache that memory does not hold"]


def _require(found: Findings, target: str) -> None:
    if not found.entries:
        raise UsageError(
            f"{target}: holds no files to read; name a bucket, prefix or directory with files in it"
            " (one object: its directory's address, and --file NAME)"
        )


def _memory_notes(rows: list[Row], plan: Plan, kind: str) -> list[str]:
    """Rows that the kernel answered, in one line."""
    tests = sorted({row.test for row in rows if verdict.from_memory(row) > MEMORY_NOTED})
    if not tests or kind in _IN_MEMORY:
        return []
    why = (
        "dropping them did not help: somebody maps or writes those files, or they are not on disk yet (sync)"
        if plan.forget
        else "without --keep-page-cache it is told to forget them first"
    )
    return [f"the kernel's page cache answered part of: {', '.join(tests)}; {why}"]


def _report(target: str, kind: str, where: str, found: Findings, known: Known, notes: list[str]) -> Report:
    rows = []
    for row in found.rows:
        judged = verdict.judge(row, known)
        rows.append(
            BenchRow(
                measured=row,
                bytes_per_second=row.bytes_per_second,
                operations_per_second=row.operations_per_second,
                limit=judged.limit,
                shares={name.value: round(share, 3) for name, share in judged.shares.items()},
                raw_bytes_per_second=known.raw.get(verdict.raw_key(row.test, row.readers)),
            )
        )
    return Report(
        target=target,
        kind=kind,
        where=where,
        entries=found.entries,
        entries_bytes=found.bytes,
        entries_complete=found.complete,
        latency_seconds=known.latency_seconds,
        link_bytes_per_second=known.link_bytes_per_second,
        rows=rows,
        skipped=found.skipped,
        notes=notes,
    )


def limits_of(report: Report) -> list[Limit]:
    """Each limit that was met, in the order of the rows."""
    return list(dict.fromkeys(Limit(row.limit) for row in report.rows))
