"""Getting files out of the page cache, and proof of it.

``posix_fadvise(DONTNEED)`` skips dirty pages and pages that someone maps, so files are synced first and the result is
checked with ``fincore``; a scenario never measures "uncached" on hope.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

FILES_A_CALL = 500


def files_below(folder: Path) -> list[Path]:
    """Regular files with content, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def drop(paths: Iterable[Path]) -> None:
    """Sync the files and drop their pages."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def warm(paths: Iterable[Path]) -> None:
    """Read the files once."""
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


def resident_pages(paths: Iterable[Path]) -> int:
    """Pages of the files in memory, counted by ``fincore``."""
    total = 0
    for some in _chunks([str(path) for path in paths]):
        output = subprocess.run(
            ["fincore", "--noheadings", "--output", "PAGES", *some], check=True, capture_output=True, text=True
        ).stdout
        total += sum(int(line) for line in output.split())
    return total


def drop_and_check(paths: list[Path]) -> int:
    """Drop, and raise unless no page is left; returns 0, to be recorded."""
    drop(paths)
    pages = resident_pages(paths)
    if pages:
        raise RuntimeError(f"{pages} pages of {len(paths)} files stay in memory: the state 'uncached' cannot be had")
    return pages


def _chunks(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), FILES_A_CALL):
        yield names[start : start + FILES_A_CALL]
