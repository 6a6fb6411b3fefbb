"""``make bench [GROUP=...]``: runs the scenarios, prints the table and keeps it in bench/results.json.

A scenario is a test under bench/scenarios (``test_<group>.py``, ``test_<group>_<what>.py``) that measures with
pytest-benchmark and records figures by name with the ``record`` fixture.  Exit code 1 when a scenario failed, a bar
does not hold or a figure of the group was not measured, unless what it needs is not installed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.lib.figures import ROOT, Figure, load_table, result, store_results

SCENARIOS = ROOT / "bench" / "scenarios"

# Run before all others: it counts the CPU time of making files, and ext4 passes over each inode freed in the last
# minutes before it gives out one (1.0 ms a file instead of 0.65 after other scenarios had removed theirs).
FIRST = ("test_small_cpu.py",)


def main() -> int:
    table = load_table()
    groups = sorted({figure.group for figure in table.values()})
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--group", choices=groups, action="append", help="one group only; may be repeated")
    parser.add_argument("--figure", choices=sorted(table), help="one figure only: the scenarios that record it")
    chosen = parser.parse_args()
    wanted = {
        name: figure
        for name, figure in table.items()
        if (not chosen.group or figure.group in chosen.group) and chosen.figure in (None, name)
    }
    with tempfile.TemporaryDirectory(prefix="jindopy-bench-") as folder:
        out = Path(folder) / "figures.jsonl"
        code = run_scenarios(wanted, out, chosen.figure)
        recorded = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    measured = {row["name"]: result(table[row["name"]], row["value"], row["facts"]) for row in recorded}
    if measured:
        store_results(measured)
    print_table(wanted, measured)
    missing = []
    for name in sorted(set(wanted) - set(measured)):
        needs = "" if table[name].can_be_measured else f" (needs {table[name].needs})"
        print(f"not measured: {name}{needs}")
        missing += [] if needs else [name]
    return int(bool(code or missing or any(row["holds"] is False for row in measured.values())))


def run_scenarios(wanted: dict[str, Figure], out: Path, figure: str | None) -> int:
    """Pytest over the groups' files; returns its exit code."""
    groups = sorted({figure.group for figure in wanted.values()})
    files = [
        str(file)
        for group in groups
        for file in sorted({*SCENARIOS.glob(f"test_{group}.py"), *SCENARIOS.glob(f"test_{group}_*.py")})
    ]
    files.sort(key=lambda file: not file.endswith(FIRST))
    command = [
        *(
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-s",
            "--benchmark-enable",
            "--benchmark-columns=min,median,max,rounds",
        ),
        *("-p", "no:cacheprovider", "--timeout=1800", "--confcutdir=bench", f"--figures-out={out}"),
        *(("-m", f"figure_{figure}") if figure else ()),
        *files,
    ]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def print_table(wanted: dict[str, Figure], measured: dict[str, dict[str, Any]]) -> None:
    print(f"\n{'figure':28} {'value':>12} {'unit':10} {'bar':>10}  {'':5} beside (state)")
    for name, figure in wanted.items():
        row = measured.get(name)
        if row is None:
            continue
        verdict = "void" if "void" in row else {True: "holds", False: "FAILS", None: ""}[row["holds"]]
        print(
            f"{name:28} {row['value']:>12,.6g} {figure.unit:10} {figure.bar:>10}  {verdict:5} "
            f"{figure.beside} ({figure.state})"
        )


if __name__ == "__main__":
    sys.exit(main())
