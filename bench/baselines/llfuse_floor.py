"""The least a file system on llfuse can do: every name is a file, every file the same bytes in memory.

    python -m bench.baselines.llfuse_floor MOUNT_POINT FILE_BYTES

Prints ``ready`` once mounted, ends when unmounted.  What it needs for a file is what libfuse, llfuse, the kernel and
this machine's context switches cost; no cache behind the same transport can be faster.
"""

from __future__ import annotations

import errno
import signal
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import llfuse

DIRECTORY_BIT = 1 << 40
TIMEOUT_SECONDS = 60


class Constant(llfuse.Operations):  # type: ignore[misc]  # llfuse has no types
    """Names starting with ``d`` are directories, all others files; numbers come from the digits in the name."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def _entry(self, inode: int) -> llfuse.EntryAttributes:
        entry = llfuse.EntryAttributes()
        entry.st_ino = inode
        directory = inode == llfuse.ROOT_INODE or inode & DIRECTORY_BIT
        entry.st_mode = stat.S_IFDIR | 0o755 if directory else stat.S_IFREG | 0o644
        entry.st_size = len(self._data)
        entry.entry_timeout = entry.attr_timeout = TIMEOUT_SECONDS
        return entry

    def lookup(self, parent: int, name: bytes, ctx: Any) -> llfuse.EntryAttributes:
        return self._entry((DIRECTORY_BIT if name.startswith(b"d") else 0) + int(name[1:]) + 2)

    def getattr(self, inode: int, ctx: Any) -> llfuse.EntryAttributes:
        return self._entry(inode)

    def open(self, inode: int, flags: int, ctx: Any) -> int:
        return inode

    def read(self, handle: int, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]

    def flush(self, handle: int) -> None:
        raise llfuse.FUSEError(errno.ENOSYS)

    def release(self, handle: int) -> None:
        """Nothing is held."""

    def forget(self, forgotten: list[tuple[int, int]]) -> None:
        """Nothing is counted."""


def main(mount_point: str, file_bytes: int) -> None:
    sys.setswitchinterval(0.0005)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    llfuse.init(Constant(bytes(file_bytes)), mount_point, {"fsname=llfuse_floor", "ro", "default_permissions"})
    # A daemon thread, for stat waits for the loop that starts below.
    threading.Thread(target=lambda: (Path(mount_point).stat(), print("ready", flush=True)), daemon=True).start()
    llfuse.main(workers=1, handle_signals=False)
    llfuse.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
