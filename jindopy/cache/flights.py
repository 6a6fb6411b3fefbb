"""Blocks on their way, and which fetch comes next.

A ``Flight`` is one block that somebody waits for; a ``Task`` is one ranged GET for consecutive ones.  ``TaskQueue``
orders tasks by priority, then age; it is not locked: who owns it holds a lock around every call.
"""

from __future__ import annotations

import enum
import heapq
import itertools
import threading
from collections.abc import Callable
from typing import final

from jindopy._ext.blockstore import CacheFile
from jindopy._ext.iobuf import SealedBuffer
from jindopy.base.clock import Deadline
from jindopy.base.errors import DeadlineExceeded, JindoError
from jindopy.base.ident import Cid, FileVersion


class Withdrawn(JindoError):
    """A queued fetch was taken back before it began."""


class Priority(enum.IntEnum):
    """Who is served first; smaller is sooner."""

    DEMAND = 0
    READAHEAD = 1
    LOAD = 2


@final
class Flight:
    """One block on its way.  ``wait`` returns its bytes or raises what went wrong.

    Whoever keeps a flight keeps its block's memory: those who have many on the way use ``when_done`` and let go.
    """

    __slots__ = ("_calls", "_done", "_error", "_sealed", "block")

    def __init__(self, block: int) -> None:
        self.block = block
        self._done = threading.Event()
        self._sealed: SealedBuffer | None = None
        self._error: JindoError | None = None
        self._calls: list[Callable[[int, JindoError | None], None]] = []

    def wait(self, deadline: Deadline) -> SealedBuffer:
        """The sealed block; raises the fetch's error or DeadlineExceeded."""
        remaining = deadline.remaining()
        if not self._done.wait(None if remaining == float("inf") else remaining):
            raise DeadlineExceeded("block fetch: no answer in time")
        if self._error is not None:
            raise self._error
        assert self._sealed is not None
        return self._sealed

    def when_done(self, call: Callable[[int, JindoError | None], None]) -> None:
        """Have ``call(bytes, error)`` made once, from whatever thread ends the flight; it must not block."""
        self._calls.append(call)
        if self._done.is_set():
            self._tell()

    def land(self, sealed: SealedBuffer) -> None:
        """The block is there."""
        self._sealed = sealed
        self._done.set()
        self._tell()

    def fail(self, error: JindoError) -> None:
        """The block will not come."""
        self._error = error
        self._done.set()
        self._tell()

    def _tell(self) -> None:
        # Two threads may drain the list at once; ``pop`` gives each call to one of them.
        size_bytes = len(self._sealed) if self._sealed is not None else 0
        while self._calls:
            try:
                call = self._calls.pop()
            except IndexError:
                return
            call(size_bytes, self._error)


@final
class Task:
    """One ranged GET: consecutive blocks of a version, each with its flight."""

    __slots__ = (
        *("background", "block_count", "claimed", "first", "flights", "landed", "lease", "over", "priority"),
        "version",
    )

    def __init__(self, version: FileVersion, first: int, flights: list[Flight], priority: Priority) -> None:
        self.version = version
        self.first = first
        self.block_count = len(flights)
        self.flights = flights
        """Those that have not landed: a landed one holds its block's memory and belongs to its waiters alone."""
        self.landed = 0
        self.priority = priority
        self.claimed = False
        self.background = False
        """Once claimed: it counts as background work, whoever joins it later."""
        self.over = False
        """Failed although its GET still runs."""
        self.lease: CacheFile | None = None
        """While the native client fetches it."""


@final
class TaskQueue:
    """Tasks that have not begun."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Task]] = []
        self._sequence = itertools.count()
        self.demands = 0
        """Queued for readers."""

    def push(self, task: Task) -> None:
        """Queue a task at its priority."""
        heapq.heappush(self._heap, (task.priority, next(self._sequence), task))
        if task.priority is Priority.DEMAND:
            self.demands += 1

    def lift(self, task: Task, priority: Priority) -> bool:
        """Move a task that still waits to a better place; its old entry is skipped when met."""
        if task.claimed or priority >= task.priority:
            return False
        task.priority = priority
        self.push(task)
        return True

    def claim(self, *, background: bool) -> Task | None:
        """The next task, which is then the caller's; only one that readers wait for unless ``background``."""
        while self._heap and self._heap[0][2].claimed:
            heapq.heappop(self._heap)
        if not self._heap or not (background or self._heap[0][0] == Priority.DEMAND):
            return None
        task = heapq.heappop(self._heap)[2]
        task.claimed = True
        if task.priority is Priority.DEMAND:
            self.demands -= 1
        else:
            task.background = True
        return task

    def withdraw(self, cid: Cid) -> list[Task]:
        """Take out what only loads wait for of one version."""
        tasks = [
            task
            for _, _, task in self._heap
            if task.version.cid == cid and not task.claimed and task.priority is Priority.LOAD
        ]
        for task in tasks:
            task.claimed = True
        return tasks

    def drain(self) -> list[Task]:
        """Take out everything."""
        tasks = [task for _, _, task in self._heap if not task.claimed]
        for task in tasks:
            task.claimed = True
        self._heap.clear()
        self.demands = 0
        return tasks
