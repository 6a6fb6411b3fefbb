"""CPU time and memory of a process and all it started."""

from __future__ import annotations

import re
from pathlib import Path

import psutil

_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.M)


def tree(pid: int) -> list[psutil.Process]:
    """The process and its descendants."""
    top = psutil.Process(pid)
    return [top, *top.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """User and system time of the tree, children that ended included."""
    total = 0.0
    for process in tree(pid):
        times = process.cpu_times()
        total += times.user + times.system
        if process.pid == pid:
            total += times.children_user + times.children_system
    return total


def pss_bytes(pid: int) -> int:
    """Proportional memory of the tree."""
    total = 0
    for process in tree(pid):
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        found = _PSS.search(text)
        total += int(found.group(1)) * 1024 if found else 0
    return total
