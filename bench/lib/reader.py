"""Runs the reader written in C (``reader.c``), compiled into build/bench when needed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("reader.c")
BINARY = Path(__file__).parents[2] / "build" / "bench" / "reader"
BLOCK_BYTES = 1 << 20
TIMEOUT_SECONDS = 300


class Read(NamedTuple):
    """One run of the reader."""

    seconds: float
    bytes: int
    first_byte_seconds: float


def sequential(path: Path) -> Read:
    """One file, 1 MiB at a time, from open to last byte."""
    return _run("seq", str(path), str(BLOCK_BYTES))


def small(paths: Iterable[Path], processes: int, scratch: Path) -> Read:
    """Many files, dealt out to so many processes."""
    listing = scratch / "reader-files.txt"
    listing.write_text("".join(f"{path}\n" for path in paths))
    return _run("small", str(listing), str(processes))


def compile_reader() -> Path:
    """The binary, built anew when the source is newer."""
    if not BINARY.exists() or BINARY.stat().st_mtime < SOURCE.stat().st_mtime:
        BINARY.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-o", str(BINARY), str(SOURCE)], check=True)
    return BINARY


def _run(*arguments: str) -> Read:
    output = subprocess.run(
        [str(compile_reader()), *arguments], check=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    ).stdout
    told = json.loads(output)
    return Read(told["ns"] / 1e9, told["bytes"], told.get("first_byte_ns", 0) / 1e9)
