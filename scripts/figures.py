"""Writes the table of figures in README.md from bench/results.json; ``--check`` only says whether it is up to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "bench" / "results.json"
BEGIN = "<!-- figures: made by scripts/figures.py from bench/results.json -->\n"
END = "<!-- /figures -->\n"
COMMIT_DIGITS = 8
EMPTY = "Nothing measured yet: `make bench`.\n"


def table(document: dict[str, Any], whats: dict[str, str]) -> str:
    """The figures as Markdown; ``whats`` explains each name."""
    machine = document["machine"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; each row at the commit it names:",
        "",
        "| figure | value | bar | what | beside | commit |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in document["figures"].items():
        verdict = "void" if "void" in row else {True: "holds", False: "**does not hold**"}.get(row["holds"], "")
        bar = " ".join(part for part in (row["bar"], verdict) if part)
        unit = "" if row["unit"] in ("ratio", "fraction") else f" {row['unit']}"
        lines.append(
            f"| `{name}` | {row['value']:,.5g}{unit} | {bar} | {whats.get(name, '')} "
            f"| {row['beside']}, {row['state']} | {row.get('commit', document['commit'])[:COMMIT_DIGITS]} |"
        )
    return "\n".join(lines) + "\n"


def fresh_readme() -> str:
    """README.md as it should be."""
    sys.path.insert(0, str(ROOT))
    from bench.lib.figures import load_table

    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    whats = {name: figure.what for name, figure in load_table().items()}
    made = table(json.loads(RESULTS.read_text()), whats) if RESULTS.exists() else EMPTY
    return before + BEGIN + made + END + after


def main() -> int:
    """Write, or check with ``--check``."""
    fresh = fresh_readme()
    if "--check" in sys.argv[1:]:
        if fresh == README.read_text():
            return 0
        print("README.md: the figures are not those of bench/results.json; run .venv/bin/python scripts/figures.py")
        return 1
    README.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
