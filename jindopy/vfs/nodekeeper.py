"""Keeps the inode table within its share of the memory budget.

    a page of a listing, a single answer ──▶ grown ──▶ trim ──▶ names only the kernel keeps ──▶ notifier
                                                        ▲
                         still over: this room's thread ┘ looks again, for what the kernel has forgotten meanwhile

The table drops by itself what nobody needs (``_ext/nodetrim``).  Files that only the kernel keeps are told to the
notifier, whose thread has the kernel forget them; when it does, they are dropped in their turn.  Meanwhile the table
may be over its bound: by what is open, by a directory that is being listed, and by directories the kernel knows.

Bounds   NOTICES_MAX names told at a time.  After a trim that did not get there the next page trims once the table has
         grown by a share of its bound; the thread looks ever more seldom while it finds nothing.
Locks    ``_lock``, never waited for: whoever finds somebody trimming goes on.  The thread sleeps on ``_over``.
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
PATIENCE_SECONDS_MIN: Final = 0.02
"""The kernel forgets a thousand names in so long."""
PATIENCE_SECONDS_MAX: Final = 10.0
"""A look at a table of 250,000 nodes that all must stay takes 10 ms."""


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
        self._over = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="names", daemon=True)
        self._thread.start()

    def notify_through(self, notifier: KernelNotifier) -> None:
        """Have the kernel asked to forget by ``notifier``."""
        self._notifier = notifier

    def grown(self) -> None:
        """Nodes were put, or are no longer held."""
        bound = self._bound_bytes()
        if self._table.memory_bytes > max(bound, self._retry_bytes):
            self._trim(bound)

    def _keep(self) -> None:
        patience = PATIENCE_SECONDS_MIN
        while True:
            self._over.wait()
            if self._closed.wait(patience):
                return
            before = self._table.memory_bytes
            told = self._trim(self._bound_bytes())
            moved = told or self._table.memory_bytes < before
            patience = PATIENCE_SECONDS_MIN if moved else min(2 * patience, PATIENCE_SECONDS_MAX)

    def _trim(self, bound: int) -> int:
        """Returns how many names were told to the kernel."""
        if not self._lock.acquire(blocking=False):
            return 0
        try:
            asked = self._table.trim(bound - bound // SLACK_SHARE, NOTICES_MAX)
            left = self._table.memory_bytes
            if left > bound:
                self._retry_bytes = left + bound // RETRY_SHARE
                self._over.set()
            else:
                self._retry_bytes = 0
                self._over.clear()
        finally:
            self._lock.release()
        for nodeid in asked:
            try:
                name, directory = self._table.name(nodeid), self._table.attr(nodeid).parent
            except KeyError:
                continue
            if directory:
                self._notifier.entry_changed(NodeId(directory), name)
        return len(asked)

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._over.set()
        self._thread.join()
