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
    return _read("seq", str(path), str(BLOCK_BYTES))


def small(paths: Iterable[Path], processes: int, scratch: Path) -> Read:
    """Many files, dealt out to so many processes."""
    listing = scratch / "reader-files.txt"
    listing.write_text("".join(f"{path}\n" for path in paths))
    return _read("small", str(listing), str(processes))


class Opens(NamedTuple):
    """How long files of a run took from before the open to behind the last byte: the median, 99 of 100, the longest."""

    median_ms: float
    p99_ms: float
    max_ms: float
    open_p99_ms: float
    """Of the open alone."""
    seconds: float


def opens(paths: Iterable[Path], a_second: int, scratch: Path) -> Opens:
    """Files opened, read and closed one after the other, so many ``a_second``; each is timed."""
    listing = scratch / "reader-opens.txt"
    listing.write_text("".join(f"{path}\n" for path in paths))
    told = _run("opens", str(listing), str(a_second))
    return Opens(
        told["read_p50_ns"] / 1e6,
        told["read_p99_ns"] / 1e6,
        told["read_max_ns"] / 1e6,
        told["open_p99_ns"] / 1e6,
        told["ns"] / 1e9,
    )


def random_reads(path: Path, count: int, seed: int) -> int:
    """So many reads of 4 KiB at random aligned offsets; returns how many blocks of 1 MiB they touched."""
    return int(_run("random", str(path), str(count), str(seed))["blocks"])


def compile_reader() -> Path:
    """The binary, built anew when the source is newer."""
    if not BINARY.exists() or BINARY.stat().st_mtime < SOURCE.stat().st_mtime:
        BINARY.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-o", str(BINARY), str(SOURCE)], check=True)
    return BINARY


def _read(*arguments: str) -> Read:
    told = _run(*arguments)
    return Read(told["ns"] / 1e9, told["bytes"], told.get("first_byte_ns", 0) / 1e9)


def _run(*arguments: str) -> dict[str, int]:
    output = subprocess.run(
        [str(compile_reader()), *arguments], check=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    ).stdout
    told: dict[str, int] = json.loads(output)
    return told
