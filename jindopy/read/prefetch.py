"""Fetches small files before they are opened, as ``read.neighbours`` says.

Flow     ``opened`` is told of every open.  A directory is watched from the first open that finds its file not cached;
         from the second on the worker thread asks the tree for the directory's files and keeps their ``Neighbours``.
         What those want is queued; the worker takes it to the Filler at read-ahead's priority, a few files at a time.
         A reader who opens one of them joins its flight, or finds it cached.
Bounds   On the disk: ``unused_bytes_max`` asked for and not opened, in all directories together.  In memory:
         ``flying_files_max`` and ``flying_bytes_max`` on the way.  DIRECTORIES_MAX watched, IDLE_SECONDS each.
Manners  Nothing more is begun while a reader's own fetch waits for its turn, or while over MEMORY_SHARE of the buffers
         is in use.  What is on its way is at most what the Filler runs at a time, so its queue stays short.
Locks    ``_lock`` guards everything here, and is held for dictionary work and ``Neighbours`` only: never while the
         tree, the cache or the Filler is asked.  ``opened`` costs a dictionary lookup when all is cached.
Nobody   While no directory is watched, opens of cached files do not matter: ``tell_watching`` tells a transport so.
Failure  A file that cannot be fetched is forgotten; whoever opens it sees the error of a fetch of its own.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol, final

from jindopy._ext.iobuf import BufferPool
from jindopy.base.clock import REAL_CLOCK, Clock
from jindopy.base.errors import JindoError
from jindopy.base.ident import FileVersion, NodeId
from jindopy.cache.fill import Filler, Priority
from jindopy.cache.store import Cache
from jindopy.read.neighbours import NeighbourConfig, Neighbours, Sibling

LOG = logging.getLogger("jindopy.prefetch")

DIRECTORIES_MAX: Final = 256
"""Watched at a time: 26 bytes a file each, so a tree of many small directories costs little and a few huge ones too."""
IDLE_SECONDS: Final = 600.0
"""A directory nobody opened files of for so long is forgotten, and its files no longer count as ahead of a reader."""
HITS_ENOUGH: Final = 256
"""Opens of cached files after which a directory is no longer watched; the next one that is not cached begins anew.
Being watched costs 5 us an open, of the 80 us of a cached file."""
EARLY_MAX: Final = 64
"""Opens kept while the listing of a directory is not complete yet."""
MEMORY_SHARE: Final = 0.75
"""Part of the buffers in use at which nothing more is begun: the rest is for readers."""
WAKE_SHARE: Final = 0.75
"""The worker sleeps until so much less is on its way: to wake it for each file costs a hand-over of the GIL."""
RETRY_SECONDS: Final = 0.01
"""How soon the worker looks again for memory, or whether readers still wait: half of a fast store's latency."""


@dataclass(frozen=True)
class PrefetchConfig:
    """Bounds of what is fetched ahead."""

    unused_bytes_max: int = 1 << 30
    flying_files_max: int = 48
    flying_bytes_max: int = 16 << 20
    neighbours: NeighbourConfig = field(default_factory=NeighbourConfig)


class Tree(Protocol):
    """What is asked of the mounted tree, from memory alone."""

    def siblings(self, directory: NodeId) -> Iterable[Sibling] | None:
        """The files of a directory in the order of its listing; None while that is not complete."""
        ...

    def current_version(self, nodeid: NodeId) -> FileVersion | None:
        """The version a node stands for; None when the node is gone."""
        ...


@final
class _Watched:
    """A directory whose files are opened."""

    __slots__ = ("building", "early", "early_wanted", "hits", "neighbours", "opened_at")

    def __init__(self) -> None:
        self.neighbours: Neighbours | None = None
        self.early: deque[tuple[NodeId, float, bool]] = deque(maxlen=EARLY_MAX)
        """Opens that ``neighbours`` was not told of."""
        self.early_wanted = 2
        """So many of them are reason to look at the listing."""
        self.building = False
        self.opened_at = 0.0
        self.hits = 0
        """Opens in a row that found their file cached since one had to be fetched: it seems that all are."""


@final
class Prefetcher:
    """Watches opens and fetches what will be opened next."""

    def __init__(
        self,
        cache: Cache,
        filler: Filler,
        pool: BufferPool,
        tree: Tree,
        config: PrefetchConfig | None = None,
        *,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._cache = cache
        self._filler = filler
        self._pool = pool
        self._tree = tree
        self._config = config or PrefetchConfig()
        self._clock = clock
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._watched: OrderedDict[NodeId, _Watched] = OrderedDict()
        self._to_build: deque[NodeId] = deque()
        self._wanted: deque[tuple[_Watched, NodeId]] = deque()
        self._flying: dict[NodeId, int] = {}
        self._flying_bytes = 0
        self._ahead_bytes = 0
        self._unread_bytes = 0
        self._idle = True
        self._closed = False
        self._watching: Callable[[bool], None] = lambda _: None
        self._thread = threading.Thread(target=self._serve, name="prefetch", daemon=True)
        self._thread.start()

    def tell_watching(self, watching: Callable[[bool], None]) -> None:
        """Have ``watching`` called, now and whenever it changes, with whether opens of cached files matter.

        It is called with the lock and must only take note.
        """
        with self._lock:
            self._watching = watching
            watching(bool(self._watched))

    def opened(self, directory: NodeId, nodeid: NodeId, size_bytes: int, cached: bool) -> None:
        """A file is opened that nobody has open; ``cached``: wholly."""
        if cached and directory not in self._watched:
            return
        if not 0 < size_bytes <= self._config.neighbours.file_bytes_max:
            return
        now = self._clock.monotonic()
        with self._lock:
            watched = self._watched.get(directory)
            if watched is None:
                self._forget_idle(now)
                watched = self._watched[directory] = _Watched()
                self._watching(True)
            else:
                self._watched.move_to_end(directory)
            watched.opened_at = now
            if watched.neighbours is not None and watched.neighbours.knows(nodeid):
                self._note(watched, nodeid, now, cached)
                if watched.hits >= HITS_ENOUGH and not self._flying:
                    self._forget(directory)
                return
            watched.early.append((nodeid, now, cached))
            if len(watched.early) >= watched.early_wanted and not watched.building:
                watched.building = True
                self._to_build.append(directory)
                self._wake()

    def _note(self, watched: _Watched, nodeid: NodeId, now: float, cached: bool) -> None:
        """Tell the neighbours; called with the lock."""
        neighbours = watched.neighbours
        if neighbours is None:
            return
        before, unread_before = neighbours.ahead_bytes, neighbours.unread_bytes
        watched.hits = watched.hits + 1 if cached else 0
        room = self._config.unused_bytes_max - self._ahead_bytes
        others = self._unread_bytes - unread_before
        wanted = neighbours.opened(nodeid, now, cached or nodeid in self._flying, room, others)
        self._ahead_bytes += neighbours.ahead_bytes - before
        self._unread_bytes += neighbours.unread_bytes - unread_before
        if wanted:
            self._wanted.extend((watched, NodeId(one)) for one in wanted)
            self._wake()

    def _wake(self) -> None:
        if self._idle:
            self._idle = False
            self._work.notify()

    def _forget_idle(self, now: float) -> None:
        while self._watched:
            directory, watched = next(iter(self._watched.items()))
            if len(self._watched) < DIRECTORIES_MAX and now - watched.opened_at < IDLE_SECONDS:
                return
            self._forget(directory)

    def _forget(self, directory: NodeId) -> None:
        self._replace(self._watched.pop(directory), None)
        if not self._watched:
            self._watching(False)

    def _replace(self, watched: _Watched, neighbours: Neighbours | None) -> None:
        """Begin a directory's history anew, or end it; what was ahead no longer counts."""
        if watched.neighbours is not None:
            self._ahead_bytes -= watched.neighbours.ahead_bytes
            self._unread_bytes -= watched.neighbours.unread_bytes
        watched.neighbours = neighbours
        if neighbours is not None:
            self._unread_bytes += neighbours.unread_bytes

    def _give_up(self, watched: _Watched, nodeid: NodeId) -> None:
        neighbours = watched.neighbours
        if neighbours is not None:
            before, unread_before = neighbours.ahead_bytes, neighbours.unread_bytes
            neighbours.gave_up(nodeid)
            self._ahead_bytes += neighbours.ahead_bytes - before
            self._unread_bytes += neighbours.unread_bytes - unread_before

    # The worker

    def _serve(self) -> None:
        while True:
            with self._lock:
                while not self._closed and not self._to_build and not self._may_fetch():
                    self._idle = True
                    # Readers that stop waiting, and buffers that come back, tell nobody.
                    self._work.wait(RETRY_SECONDS if self._wanted and not self._is_full() else None)
                    self._idle = False
                if self._closed:
                    return
                directory = self._to_build.popleft() if self._to_build else None
                next_file = self._next_file() if directory is None else None
            try:
                if directory is not None:
                    self._build(directory)
                elif next_file is not None:
                    self._fetch(*next_file)
            except Exception:
                # A bug here must not end the help for all others.
                LOG.exception("fetching ahead failed unexpectedly")

    def _is_full(self, share: float = 1.0) -> bool:
        """Whether that share of what may be on its way is."""
        return (
            len(self._flying) >= share * self._config.flying_files_max
            or self._flying_bytes >= share * self._config.flying_bytes_max
        )

    def _may_fetch(self) -> bool:
        return bool(
            self._wanted
            and not self._is_full()
            and not self._filler.demand_waits
            and self._pool.used_bytes <= self._pool.budget_bytes * MEMORY_SHARE
        )

    def _next_file(self) -> tuple[_Watched, NodeId] | None:
        """The next one nobody opened meanwhile."""
        while self._wanted:
            watched, nodeid = self._wanted.popleft()
            if watched.neighbours is not None and watched.neighbours.is_waiting(nodeid) and nodeid not in self._flying:
                return watched, nodeid
        return None

    def _build(self, directory: NodeId) -> None:
        """Learn the directory's files, then tell of the opens that came before."""
        siblings = self._tree.siblings(directory)
        neighbours = Neighbours(siblings, self._config.neighbours) if siblings is not None else None
        with self._lock:
            watched = self._watched.get(directory)
            if watched is None:
                return
            watched.building = False
            if neighbours is None:
                watched.early_wanted = min(2 * watched.early_wanted, EARLY_MAX)
                return
            self._replace(watched, neighbours)
            early = list(watched.early)
            watched.early.clear()
            # New names make new files; a listing as long as this one is not read again for each of them.
            watched.early_wanted = EARLY_MAX
            for nodeid, opened_at, cached in early:
                self._note(watched, nodeid, opened_at, cached)

    def _fetch(self, watched: _Watched, nodeid: NodeId) -> None:
        """Have one file fetched; returns at once."""
        version = self._tree.current_version(nodeid)
        if version is None:
            with self._lock:
                self._give_up(watched, nodeid)
            return
        lease = self._cache.open(version)
        try:
            flights = self._filler.request(version, lease, 0, version.block_count, Priority.READAHEAD)
        finally:
            lease.close()
        with self._lock:
            if flights:
                watched.hits = 0
                self._flying[nodeid] = len(flights)
                self._flying_bytes += version.size
            elif watched.neighbours is not None:
                watched.neighbours.arrived(nodeid)
        for flight in flights:
            flight.when_done(functools.partial(self._landed, watched, nodeid, version.size))

    def _landed(
        self, watched: _Watched, nodeid: NodeId, size_bytes: int, block_bytes: int, error: JindoError | None
    ) -> None:
        """A block landed or failed; called by whoever fetched it."""
        if error is not None:
            LOG.debug("node %d was not fetched ahead: %s", nodeid, error)
        with self._lock:
            self._flying[nodeid] -= 1
            if error is not None:
                self._give_up(watched, nodeid)
            if self._flying[nodeid]:
                return
            del self._flying[nodeid]
            self._flying_bytes -= size_bytes
            if watched.neighbours is not None:
                watched.neighbours.arrived(nodeid)
            if self._wanted and not self._is_full(WAKE_SHARE):
                self._wake()

    @property
    def ahead_bytes(self) -> int:
        """Asked for and not opened, in all watched directories."""
        return self._ahead_bytes

    @property
    def directories(self) -> int:
        """Directories watched."""
        return len(self._watched)

    def close(self) -> None:
        """Begin nothing more; what is on its way lands."""
        with self._lock:
            self._closed = True
            self._wanted.clear()
            self._work.notify()
        self._thread.join()
