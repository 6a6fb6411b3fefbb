"""Open files and open directories.

The state of an open file (version, lease, read history) hangs on the node, not on the handle: a node is one version,
so all who have it open share one ``OpenFile``, counted here.  It ends with the last close.

Threads: one lock, held for dictionary work only; leases are taken and given back outside it.
"""

from __future__ import annotations

import itertools
import threading
from typing import NamedTuple, final

from jindopy._ext.inodes import InodeTable
from jindopy.base.ident import FileVersion, NodeId
from jindopy.read.path import OpenFile, ReadPath


class _Shared:
    """An open file and how many opens it serves."""

    __slots__ = ("file", "opens")

    def __init__(self, file: OpenFile) -> None:
        self.file = file
        self.opens = 1


@final
class OpenFiles:
    """Nodes that are open."""

    def __init__(self, table: InodeTable, reads: ReadPath) -> None:
        self._table = table
        self._reads = reads
        self._lock = threading.Lock()
        self._shared: dict[NodeId, _Shared] = {}

    def join(self, nodeid: NodeId) -> bool:
        """Count one more open of a node that is open already; False when it is not."""
        with self._lock:
            shared = self._shared.get(nodeid)
            if shared is None:
                return False
            shared.opens += 1
            return True

    def add(self, nodeid: NodeId, version: FileVersion) -> OpenFile:
        """Open a node."""
        file = self._reads.open(version)
        self._table.hold(nodeid)
        with self._lock:
            shared = self._shared.get(nodeid)
            if shared is None:
                self._shared[nodeid] = _Shared(file)
                return file
            shared.opens += 1
        # Somebody else was first: theirs serves both.
        self._table.unhold(nodeid)
        file.close()
        return shared.file

    def get(self, nodeid: NodeId) -> OpenFile | None:
        """The open file of a node."""
        shared = self._shared.get(nodeid)
        return shared.file if shared is not None else None

    def drop(self, nodeid: NodeId) -> None:
        """One open less; the last one ends the lease."""
        with self._lock:
            shared = self._shared.get(nodeid)
            if shared is None:
                return
            shared.opens -= 1
            if shared.opens:
                return
            del self._shared[nodeid]
        self._table.unhold(nodeid)
        shared.file.close()

    def __len__(self) -> int:
        return len(self._shared)

    def close(self) -> None:
        """End every lease: the transport is gone."""
        with self._lock:
            left = dict(self._shared)
            self._shared.clear()
        for nodeid, shared in left.items():
            self._table.unhold(nodeid)
            shared.file.close()


class DirHandle(NamedTuple):
    """An open directory: the children of one generation, fixed at opendir."""

    directory: NodeId
    parent: NodeId
    children: list[int]


@final
class OpenDirs:
    """Directory handles."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._open: dict[int, DirHandle] = {}

    def add(self, handle: DirHandle) -> int:
        """Keep a handle; returns its number."""
        number = next(self._numbers)
        self._open[number] = handle
        return number

    def get(self, number: int) -> DirHandle:
        """Raises KeyError."""
        return self._open[number]

    def drop(self, number: int) -> DirHandle:
        """Forget a handle; raises KeyError."""
        return self._open.pop(number)
