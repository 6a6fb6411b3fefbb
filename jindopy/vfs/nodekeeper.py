"""Keeps the inode table within its share of the memory budget.

    a page of a listing, a single answer ──▶ grown ─────┐
    the kernel forgets ──▶ forgotten, if still over ────┴─▶ trim ──▶ names only the kernel keeps ──▶ notifier

The table drops by itself what nobody needs (``_ext/nodetrim``).  Files that only the kernel keeps are told to the
notifier, whose thread has the kernel forget them; when it does, they are dropped in their turn.  Meanwhile the table
may be over its bound: by what is open, by a directory that is being listed, and by directories the kernel knows.

Bounds   NOTICES_MAX names told at a time.  After a trim that did not get there, the next one comes once the table has
         grown by a share of its bound, or once the kernel has forgotten half as many.
Locks    One, never waited for: whoever finds somebody trimming goes on.
Failure  None: a node that is gone when its name is asked for needs no notice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, final

from jindopy._ext.inodes import InodeTable
from jindopy.base.ident import NodeId
from jindopy.vfs.notifier import KernelNotifier, SilentNotifier

SLACK_SHARE: Final = 16
"""A trim goes so much (a sixteenth) below the bound: a page of a listing must not cost a trim each."""
NOTICES_MAX: Final = 1024
"""Names on their way to the kernel at a time: 0.3 MB, and 10 ms for the thread that tells it."""
RETRY_SHARE: Final = 64


@final
class NodeKeeper:
    """Trims one table."""

    def __init__(self, table: InodeTable, bound_bytes: Callable[[], int]) -> None:
        """``bound_bytes`` may change with time; it is asked for each page of a listing."""
        self._table = table
        self._bound_bytes = bound_bytes
        self._notifier: KernelNotifier = SilentNotifier()
        self._lock = threading.Lock()
        self._retry_bytes = 0
        """The size below which another trim would find nothing new."""
        self._forgotten = 0
        self._over = False

    def notify_through(self, notifier: KernelNotifier) -> None:
        """Have the kernel asked to forget by ``notifier``."""
        self._notifier = notifier

    def grown(self) -> None:
        """Nodes were put."""
        bound = self._bound_bytes()
        if self._table.memory_bytes > max(bound, self._retry_bytes):
            self._trim(bound)

    def forgotten(self) -> None:
        """The kernel gave a node back."""
        if not self._over:
            return
        self._forgotten += 1
        if self._forgotten >= NOTICES_MAX // 2:
            self._trim(self._bound_bytes())

    def _trim(self, bound: int) -> None:
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._forgotten = 0
            asked = self._table.trim(bound - bound // SLACK_SHARE, NOTICES_MAX)
            left = self._table.memory_bytes
            self._over = left > bound
            self._retry_bytes = left + bound // RETRY_SHARE if self._over else 0
        finally:
            self._lock.release()
        for nodeid in asked:
            try:
                name, directory = self._table.name(nodeid), self._table.attr(nodeid).parent
            except KeyError:
                continue
            if directory:
                self._notifier.entry_changed(NodeId(directory), name)
