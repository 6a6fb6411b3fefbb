"""``report``: a cluster in figures, asked of its master."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

import click

from jindopy.base.units import format_percent, format_size
from jindopy.cli.output import count, examples, json_option, print_json, print_table
from jindopy.cli.serve import control_options, control_settings, master_option
from jindopy.modes.report import ask

ANSWER_SECONDS: Final = 10.0


@dataclass(frozen=True)
class WorkerReport:
    """One worker."""

    id: str
    data_address: str
    control_address: str
    capacity_bytes: int
    cached_bytes: int
    files: int


@dataclass(frozen=True)
class ClusterReport:
    """What ``--json`` prints."""

    cluster: str
    epoch: int
    version: str
    mounts: list[str]
    workers: list[WorkerReport]
    clients: int
    capacity_bytes: int
    cached_bytes: int


@click.command(
    epilog=examples("jindopy report --master 127.0.0.1:18101", "jindopy report --master m:18101 --tls-ca ca.pem --json")
)
@master_option
@control_options
@json_option
def report(master: str, as_json: bool, **flags: Any) -> int:
    """Show a cluster's workers, what they cache, and how many clients there are."""
    found = ask(master, control_settings(flags), f"report pid {os.getpid()}", ANSWER_SECONDS)
    workers = [
        WorkerReport(
            worker.id,
            worker.data_address,
            worker.rpc_address,
            worker.capacity_bytes,
            worker.cached_bytes,
            worker.files,
        )
        for worker in found.workers
    ]
    told = ClusterReport(
        cluster=found.cluster,
        epoch=found.epoch,
        version=found.version,
        mounts=[
            f"{mount.info.uri}=/{os.fsdecode(mount.info.path)}" if mount.info.path else mount.info.uri
            for mount in found.mounts
        ],
        workers=workers,
        # The asker watches as well.
        clients=max(0, found.clients - 1),
        capacity_bytes=sum(worker.capacity_bytes for worker in workers),
        cached_bytes=sum(worker.cached_bytes for worker in workers),
    )
    if as_json:
        print_json(told)
        return 0
    click.echo(f"cluster {told.cluster}, epoch {told.epoch}, {count(told.clients, 'client')}: {' '.join(told.mounts)}")
    print_table(
        ("worker", "data", "cached", "of", "share", "files"),
        [
            (
                worker.id,
                worker.data_address,
                format_size(worker.cached_bytes),
                format_size(worker.capacity_bytes),
                format_percent(worker.cached_bytes, worker.capacity_bytes),
                f"{worker.files:,}",
            )
            for worker in workers
        ],
        right=(2, 3, 4, 5),
    )
    return 0
