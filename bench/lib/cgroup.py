"""A fresh memory cgroup for daemon, helpers and readers, so that no earlier run's page cache is charged to them.

cgroup v1, v2 and the hybrid of both: the memory controller decides.  The server under the daemon stays outside.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")
REMOVE_SECONDS = 10


def root() -> Path | None:
    """The top of the memory hierarchy where this process may make groups, else None."""
    for top, marker in ((V1, "memory.limit_in_bytes"), (V2, "cgroup.controllers")):
        if (top / marker).exists() or (top / "memory.usage_in_bytes").exists():
            return top if os.access(top, os.W_OK) else None
    return None


@contextlib.contextmanager
def fresh(limit_bytes: int | None = None) -> Iterator[str]:
    """Move this process into a new group for the time being; yields the group's path, or why there is none.

    Within ``limit_bytes`` all that is started from now on must do with its page cache; what this process has already
    is not charged.
    """
    top = root()
    if top is None:
        yield "none: needs root and a memory controller"
        return
    group = top / f"jindopy-bench-{os.getpid()}"
    group.mkdir()
    try:
        if limit_bytes is not None:
            (group / ("memory.limit_in_bytes" if top == V1 else "memory.max")).write_text(str(limit_bytes))
        _enter(group)
        yield str(group)
    finally:
        _enter(top)
        _remove(group, top)


def outside(command: list[str]) -> list[str]:
    """The command, started so that it and all it starts stay out of any fresh group."""
    top = root()
    if top is None:
        return command
    return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(top / "cgroup.procs"), *command]


def _remove(group: Path, top: Path) -> None:
    """What is left in the group (a process that is just ending) moves up; the group goes once it is empty."""
    end = time.monotonic() + REMOVE_SECONDS
    while True:
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (top / "cgroup.procs").write_text(pid)
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def _enter(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))
