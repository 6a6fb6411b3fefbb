"""The table of figures (bench/figures.toml), their bars, and the file of results.

A result is void, neither holding nor failing, when the server it was measured against was not at least twice as fast
as what was measured: then it shows the server.
"""

from __future__ import annotations

import importlib.util
import json
import operator
import os
import platform
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "bench" / "figures.toml"
RESULTS = ROOT / "bench" / "results.json"
MIN_SERVER_FACTOR = 2.0

_COMPARE: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Figure:
    """One row of the table."""

    name: str
    group: str
    unit: str
    bar: str
    beside: str
    state: str
    what: str
    needs: str = ""
    """A module or program without which it is not measured."""

    @property
    def can_be_measured(self) -> bool:
        return not self.needs or bool(importlib.util.find_spec(self.needs) or shutil.which(self.needs))

    def holds(self, value: float) -> bool | None:
        """Whether ``value`` keeps the bar; None without one."""
        if self.bar == "stated":
            return None
        sign, limit = self.bar.split()
        return _COMPARE[sign](value, float(limit))


def load_table() -> dict[str, Figure]:
    """All figures by name; a bar that cannot be read is an error at once."""
    table = {name: Figure(name=name, **row) for name, row in tomllib.loads(TABLE.read_text()).items()}
    for figure in table.values():
        figure.holds(0.0)
    return table


def result(figure: Figure, value: float, facts: dict[str, Any]) -> dict[str, Any]:
    """One entry of ``figures`` in the results; ``facts`` are what was recorded beside it."""
    row: dict[str, Any] = {
        "value": float(f"{value:.4g}"),
        "unit": figure.unit,
        "bar": figure.bar,
        "holds": figure.holds(value),
        "beside": figure.beside,
        "state": figure.state,
        **{name: float(f"{fact:.4g}") if isinstance(fact, float) else fact for name, fact in facts.items()},
    }
    factor = facts.get("server_factor")
    if factor is not None and factor < MIN_SERVER_FACTOR:
        row["holds"] = None
        row["void"] = f"the server was only {factor:.1f} times as fast"
    return row


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    memory_kib = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory_kib / (1 << 20), 1),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def commit() -> str:
    """Commit of the tree, marked when it was changed since."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    return described.stdout.strip() or "unknown"


def load_results() -> dict[str, Any]:
    """Results of earlier runs, or an empty document."""
    if not RESULTS.exists():
        return {"figures": {}}
    loaded: dict[str, Any] = json.loads(RESULTS.read_text())
    return loaded


def store_results(measured: dict[str, dict[str, Any]]) -> None:
    """Put what was measured now among earlier figures; each names its commit when that is not the document's."""
    document = load_results()
    now = commit()
    kept = {
        name: {"commit": document.get("commit"), **row}
        for name, row in document["figures"].items()
        if name not in measured
    }
    table = load_table()
    figures = {name: (kept | measured)[name] for name in table if name in kept or name in measured}
    text = json.dumps({"commit": now, "machine": machine(), "figures": figures}, indent=2)
    partial = RESULTS.with_suffix(".tmp")
    partial.write_text(text + "\n")
    partial.replace(RESULTS)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
