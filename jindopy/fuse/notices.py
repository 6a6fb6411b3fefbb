"""Taking back what the kernel keeps: one thread that serves no requests and holds no lock.

    directory loader, fetch thread ──▶ queue ──▶ this thread ──▶ the transport's call into the kernel

The kernel answers such a call only after requests that are under way (it waits for their pages and directories), and
those may need the very thread that has the news.  So whoever has news leaves it here and goes on.

Bounds   The queue holds no more than the inode table has names; what is queued already is not queued twice.
Lock     One, for the set of what is queued.
Failure  A notice about something the kernel does not hold is no error, and the transports do not raise it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final, final

from jindopy.base.ident import NodeId

CLOSE_SECONDS: Final = 1.0
"""Once the session has ended the kernel answers at once; a thread stuck in a library's queue is left behind."""

Notice = tuple[NodeId, bytes | None]
"""A name in a directory, or None: the content of a file."""


@final
class Notices:
    """The ``vfs.notifier.KernelNotifier`` of a transport."""

    def __init__(self, *, entry: Callable[[int, bytes], object], content: Callable[[int], object]) -> None:
        """``entry(directory, name)`` and ``content(nodeid)`` tell the kernel; both may block."""
        self._entry = entry
        self._content = content
        self._lock = threading.Lock()
        self._queued: set[Notice] = set()
        self._queue: queue.SimpleQueue[Notice | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="notices", daemon=True)
        self._thread.start()

    def entry_changed(self, directory: NodeId, name: bytes) -> None:
        """The name now means another file, or none."""
        self._put((directory, name))

    def content_changed(self, nodeid: NodeId) -> None:
        """What was answered to reads of this node may have been wrong."""
        self._put((nodeid, None))

    def _put(self, notice: Notice) -> None:
        with self._lock:
            if notice in self._queued:
                return
            self._queued.add(notice)
        self._queue.put(notice)

    def _serve(self) -> None:
        while (notice := self._queue.get()) is not None:
            # Before the call: what changes from now on needs a notice of its own.
            with self._lock:
                self._queued.discard(notice)
            nodeid, name = notice
            if name is None:
                self._content(nodeid)
            else:
                self._entry(nodeid, name)

    def close(self) -> None:
        """End the thread once it has told what is queued; harmless when repeated."""
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)
