"""What the cluster's parts cost beside the least that could do the same."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from bench.lib import dataplane
from bench.lib.pairs import Pairs, Record, median_ratio

BLOCKS = 4096
GB = BLOCKS * (1 << 20) / 1e9


@pytest.mark.figure_dataplane_vs_bare
@pytest.mark.figure_dataplane_cpu_vs_bare
def test_dataplane(disk: Path, pairs: Pairs, record: Record) -> None:
    with dataplane.servers(disk) as target:
        bare_cpu: list[float] = []
        data_cpu: list[float] = []

        def reference() -> float:
            run = dataplane.bare(target, BLOCKS)
            bare_cpu.append(run.cpu_seconds)
            return run.seconds

        def measured() -> float:
            run = dataplane.data(target, BLOCKS)
            data_cpu.append(run.cpu_seconds)
            return run.seconds

        bare_seconds, data_seconds = pairs(reference, measured)
    facts = {
        "gb_per_s": GB / statistics.median(data_seconds),
        "bare_gb_per_s": GB / statistics.median(bare_seconds),
        "cpu_s_per_gb": statistics.median(data_cpu) / GB,
        "bare_cpu_s_per_gb": statistics.median(bare_cpu) / GB,
    }
    record("dataplane_vs_bare", median_ratio(bare_seconds, data_seconds), **facts)
    record("dataplane_cpu_vs_bare", median_ratio(data_cpu, bare_cpu), **facts)
