"""CPU time and memory of a process and all it started."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.M)
_OWN = re.compile(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", re.M)
SAMPLE_SECONDS = 0.1


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


def own_bytes(pid: int) -> int:
    """Anonymous and shared memory of the tree (RssAnon + RssShmem): what is not a file's and cannot be dropped."""
    total = 0
    for process in tree(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += sum(int(kib) for kib in _OWN.findall(Path(f"/proc/{process.pid}/status").read_text())) * 1024
    return total


@contextlib.contextmanager
def watched(pid: int) -> Iterator[list[int]]:
    """A list that gets ``own_bytes`` ten times a second for the length of a with block."""
    samples = [own_bytes(pid)]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            with contextlib.suppress(psutil.NoSuchProcess):
                samples.append(own_bytes(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()
