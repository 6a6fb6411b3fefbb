"""Kernels of the native modules against what they replace."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from bench.lib.mounts import ROOT
from bench.lib.pairs import Record


@pytest.mark.figure_crc64_vs_liblzma
def test_crc64(benchmark: Any, record: Record) -> None:
    told: dict[str, Any] = {}

    def once() -> None:
        output = subprocess.run(
            [sys.executable, "-m", "bench.micro.crc64", "--json"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
        told.update(json.loads(output.splitlines()[-1]))

    benchmark.pedantic(once, rounds=1, iterations=1)
    record("crc64_vs_liblzma", told.pop("ratio"), **told)
