"""What the kernel counted for the processes that take part: CPU time, and bytes that disks had to read.

``/proc/PID/io`` tells what a process had block devices read, so bytes that came from the page cache are those missing
there.  It may be read by the same user or root; where it may not, the figure is None and nothing is concluded from it.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import NamedTuple, Protocol, final


class Counts(NamedTuple):
    """Sums at one moment."""

    cpu_seconds: float
    daemon_cpu_seconds: float = 0.0
    disk_bytes: int | None = None
    store_bytes: int | None = None
    store_requests: int = 0
    served_bytes: int | None = None


class Meter(Protocol):
    """Whatever counts for a test."""

    def counts(self) -> Counts: ...


@final
class ProcessMeter:
    """This process alone.  ``on_disk``: what is read lies on a block device, so that the kernel's count means it."""

    def __init__(self, *, on_disk: bool) -> None:
        self._on_disk = on_disk

    def counts(self) -> Counts:
        return Counts(own_cpu_seconds(), disk_bytes=disk_bytes(os.getpid()) if self._on_disk else None)


def own_cpu_seconds() -> float:
    """User and system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def cpu_seconds(pid: int) -> float:
    """User and system time of another process; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    # The command's name may hold blanks and parentheses: fields are counted from behind it.
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def disk_bytes(pid: int) -> int | None:
    """Bytes that block devices read for a process, ever."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("read_bytes:")), None)


def busy_seconds() -> float:
    """Time that all cores of the machine spent on anything."""
    fields = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()[1:]
    # user nice system idle iowait irq softirq steal; guests are counted in user already.
    idle = int(fields[3]) + int(fields[4])
    return (sum(map(int, fields[:8])) - idle) / os.sysconf("SC_CLK_TCK")
