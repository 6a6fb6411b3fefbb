"""How commands print: aligned columns for people, JSON for programs, names that cannot upset a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from jindopy.base.records import encode
from jindopy.base.units import format_percent, format_size


def examples(*lines: str) -> str:
    """The end of a command's help: one example a line, not refilled."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def tell(message: str) -> None:
    """One line on standard error."""
    click.echo(f"jindopy: {message}", err=True)


def print_json(value: object) -> None:
    """A dataclass, or a list of them, as indented JSON (names that are no UTF-8 as escaped surrogates)."""
    click.echo(json.dumps(encode(value), indent=2))


def shown(path: str) -> str:
    """A path for a terminal: bytes that are no UTF-8 and control characters as escapes."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Columns as wide as their widest cell; those numbered in ``right`` flush right, the last one free."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(cells).rstrip()
        click.echo(click.style(line, bold=True) if row is head and colours() else line)


def colours(stream_is_error: bool = False) -> bool:
    """Whether to colour: a terminal whose user did not decline."""
    stream = sys.stderr if stream_is_error else sys.stdout
    return stream.isatty() and not os.environ.get("NO_COLOR")


def paint(text: str, colour: str) -> str:
    """``text`` in a colour where that makes sense."""
    return click.style(text, fg=colour) if colours() else text


def format_time(mtime_ns: int) -> str:
    """``2026-01-31 12:00:00`` UTC; empty for none."""
    return datetime.fromtimestamp(mtime_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S") if mtime_ns else ""


def count(number: int, thing: str) -> str:
    """``1 file``, ``1,234 files``."""
    plural = thing[:-1] + "ies" if thing.endswith("y") else thing + "s"
    return f"{number:,} {thing if number == 1 else plural}"


def cached_share(cached_bytes: int, size_bytes: int) -> str:
    """``1.0 MiB of 3.0 MiB (33.3%)``."""
    return f"{format_size(cached_bytes)} of {format_size(size_bytes)} ({format_percent(cached_bytes, size_bytes)})"
