"""Writes the generated part of docs/CONFIGURATION.md from the table of settings, ``jindopy/config/params.py``.

    python scripts/configuration.py [--check] [FILE]

The part stands between two comments; ``--check`` changes nothing and exits 1 when it is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

from jindopy.base import errors
from jindopy.config.params import PARAMS, Kind, Param

MANUAL = Path(__file__).parents[1] / "docs/CONFIGURATION.md"
BEGIN = "<!-- settings: made by scripts/configuration.py from jindopy/config/params.py -->"
END = "<!-- /settings -->"


def render() -> str:
    """All settings, group by group, as Markdown."""
    lines = []
    for group in dict.fromkeys(param.group for param in PARAMS):
        lines += [f"### {group}", "", "| setting | default | what |", "|---|---|---|"]
        lines += [_row(param) for param in PARAMS if param.group == group]
        lines.append("")
    return "\n".join(lines)


def _row(param: Param) -> str:
    names = [f"`{param.name}`", f"`{param.flag}`", f"`{param.env}`"]
    names += [f"`{name}`" for name in (*param.other_env, *param.jindo)]
    accepted = "" if param.kind in (Kind.TEXT, Kind.PATH) else f" ({param.accepted})"
    return f"| {'<br>'.join(names)} | {_default(param)} | {param.help}{accepted} |"


def _default(param: Param) -> str:
    return param.derived or f"`{param.default_text}`"


def exit_codes() -> str:
    """The table of exit codes, from the error tree."""
    meanings = {
        0: "done",
        errors.EXIT_FAILURE: "failed; files are open (`umount`), something is wrong (`doctor`)",
        errors.EXIT_USAGE: "a flag, file, address or mount point is wrong",
        errors.EXIT_ACCESS: "wrong key, no permission, no such bucket",
        errors.EXIT_UNREACHABLE: "the storage or the mount does not answer",
        errors.EXIT_DATA: "damaged cache or namespace, or a load that is not complete",
        errors.EXIT_INTERRUPTED: "interrupted",
    }
    rows = [f"| {code} | {meaning} |" for code, meaning in meanings.items()]
    return "\n".join(["### Exit codes", "", "| code | meaning |", "|---|---|", *rows, ""])


def refreshed(text: str) -> str:
    """``text`` with its generated part made anew; ValueError when the comments are not there."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} ... {END} in it")
    return f"{head}{BEGIN}\n\n{render()}\n{exit_codes()}\n{END}{tail}"


def main(arguments: list[str]) -> int:
    """Entry point; returns the exit code."""
    names = [argument for argument in arguments if argument != "--check"]
    path = Path(names[0]) if names else MANUAL
    text = path.read_text(encoding="utf-8")
    fresh = refreshed(text)
    if "--check" in arguments:
        if fresh != text:
            sys.stderr.write(f"{path} is stale: run python scripts/configuration.py\n")
        return int(fresh != text)
    path.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
