"""Fixtures of the scenarios: recording figures, a work folder on disk, the fresh cgroup."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.lib import cgroup
from bench.lib.figures import load_table
from bench.lib.pairs import PAIRS, Pairs, Record

TABLE = load_table()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures-out", help="file that recorded figures are appended to, one JSON object a line")


def pytest_configure(config: pytest.Config) -> None:
    for name in TABLE:
        config.addinivalue_line("markers", f"figure_{name}: the scenario records this figure")


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """``record(name, value, **facts)``: one figure of bench/figures.toml with what was seen beside it."""

    def write(name: str, value: float, **facts: Any) -> None:
        assert name in TABLE, f"{name} is not in bench/figures.toml"
        line = json.dumps({"name": name, "value": value, "facts": facts})
        if out := request.config.getoption("--figures-out"):
            with Path(out).open("a") as file:
                file.write(line + "\n")
        print(f"\n{line}")

    return write


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """A folder on a real file system (never tmpfs): JINDOPY_BENCH_DIR, else /var/tmp."""
    folder = Path(tempfile.mkdtemp(prefix="jindopy-bench-", dir=os.environ.get("JINDOPY_BENCH_DIR", "/var/tmp")))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def memory_cgroup() -> Iterator[str]:
    """This process, and so daemons and readers, in a fresh memory cgroup."""
    with cgroup.fresh() as group:
        yield group


@pytest.fixture
def pairs(benchmark: Any) -> Pairs:
    """``pairs(reference, measured)``: PAIRS times one after the other; each returns its own seconds.

    The order alternates, so that what one leaves behind (turbo, disk queue) favours neither.
    """

    def run(reference: Callable[[], float], measured: Callable[[], float]) -> tuple[list[float], list[float]]:
        references: list[float] = []
        measurements: list[float] = []

        def one_pair() -> None:
            both = [(reference, references), (measured, measurements)]
            for function, into in both if len(references) % 2 == 0 else reversed(both):
                into.append(function())

        benchmark.pedantic(one_pair, rounds=PAIRS, iterations=1, warmup_rounds=0)
        return references, measurements

    return run
