"""Single-flight fill: UFS → block buffer → CRC → store, and to whoever waits.

Flow     A missing block becomes a *flight*, consecutive ones of a version one *task*, which is one ranged GET.  The
         body streams into block buffers; each block is sealed (CRC), stored and handed to its waiters as soon as it is
         complete, so nobody waits for the rest of the GET.  Whoever wants a block that is on its way joins its flight.
Bounds   ``threads`` GETs at a time, of which background work (read-ahead, load) gets all but DEMAND_RESERVE; when
         readers find all of them busy, up to ``demand_threads`` more, so that no reader waits for another's read-ahead.
         Memory by the BufferPool; a task is at most ``get_bytes_max``.  A demand for a queued block lifts its task to
         the front.  Blocks that the cache would not keep stay in a small memory of recent ones, or a reader with
         128 KiB requests would fetch a block eight times.
Locks    ``_lock`` guards queue, flights and recents; never held across I/O or waits for memory.
Failure  An error ends the task's remaining flights with that error; the next request starts anew.  Retry of requests
         is the driver layers' business.  VersionChanged and ObjectNotFound reach the reader, who turns them to ESTALE.
         An object whose CRC as a whole is wrong loses all its blocks; who may have handed them on is told.
"""

from __future__ import annotations

import enum
import heapq
import itertools
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final

from jindopy._ext.blockstore import CacheFile
from jindopy._ext.iobuf import BufferPool, FillingBuffer, SealedBuffer
from jindopy.base import metrics
from jindopy.base.clock import Deadline
from jindopy.base.errors import CacheCorrupt, DeadlineExceeded, JindoError, ObjectCorrupt, ShortBody, VersionChanged
from jindopy.base.ident import BLOCK_BYTES, BlockIndex, Cid, FileVersion, MountId
from jindopy.cache.store import Cache
from jindopy.ufs.base import Body, Driver

LOG = logging.getLogger("jindopy.fill")

DEMAND_RESERVE = 2
"""Threads that background work never takes: a reader's GET starts at once even when a load fills the link."""


LANDED_MAX = 1024
"""Blocks that can land between a reader's look into the cache and its turn with the lock: a second of GETs."""


class Withdrawn(JindoError):
    """A queued fetch was taken back before it began."""


class Priority(enum.IntEnum):
    """Who is served first; smaller is sooner."""

    DEMAND = 0
    READAHEAD = 1
    LOAD = 2


@dataclass(frozen=True)
class FillConfig:
    """Bounds of the fill."""

    threads: int = 16
    demand_threads: int = 64
    """As many more as readers wait at one time; they are started when first needed."""
    get_bytes_max: int = 4 * BLOCK_BYTES
    """4 MiB: at 100 MB/s and 20 ms to the first byte eight such GETs keep a link full, and a reader who joins the
    last block of one on a 12 MB/s link waits 0.35 s at most."""
    get_seconds_max: float = 120.0
    """Deadline of one task, retries included."""
    recent_bytes: int = 8 * BLOCK_BYTES


class Drivers(Protocol):
    """Where a mount's driver comes from."""

    def driver(self, mount: MountId) -> Driver:
        """The driver of a mount, layers included."""
        ...


@final
class Flight:
    """One block on its way.  ``wait`` returns its bytes or raises what went wrong.

    Whoever keeps a flight keeps its block's memory: those who have many on the way use ``when_done`` and let go.
    """

    __slots__ = ("_calls", "_done", "_error", "_sealed")

    def __init__(self) -> None:
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
class _Task:
    """One ranged GET: consecutive blocks of a version, each with its flight."""

    __slots__ = ("block_count", "claimed", "first", "flights", "landed", "priority", "version")

    def __init__(self, version: FileVersion, first: int, flights: list[Flight], priority: Priority) -> None:
        self.version = version
        self.first = first
        self.block_count = len(flights)
        self.flights = flights
        """Those that have not landed: a landed one holds its block's memory and belongs to its waiters alone."""
        self.landed = 0
        self.priority = priority
        self.claimed = False


@final
class Filler:
    """Fetches blocks into the cache."""

    def __init__(
        self,
        cache: Cache,
        drivers: Drivers,
        pool: BufferPool,
        config: FillConfig | None = None,
        *,
        on_object_crc64: Callable[[FileVersion, int], None] | None = None,
    ) -> None:
        self._cache = cache
        self._drivers = drivers
        self._pool = pool
        self._config = config or FillConfig()
        self._on_object_crc64 = on_object_crc64
        self._on_bad_object: Callable[[FileVersion], None] = lambda _: None
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._flights: dict[tuple[Cid, int], tuple[Flight, _Task]] = {}
        self._queue: list[tuple[int, int, _Task]] = []
        self._sequence = itertools.count()
        self._background_running = 0
        self._idle = 0
        self._demands = 0
        """Queued for readers and not begun."""
        self._recent: OrderedDict[tuple[Cid, int], SealedBuffer] = OrderedDict()
        self._landings = 0
        self._landed: OrderedDict[tuple[Cid, int], int] = OrderedDict()
        """The last LANDED_MAX blocks that were kept, with the count of landings at that time."""
        self._closed = False
        self._threads: list[threading.Thread] = []
        for _ in range(self._config.threads):
            self._hire()

    def tell_of_bad_objects(self, call: Callable[[FileVersion], None]) -> None:
        """Have ``call`` made, by a fetch thread, once the blocks of an object that failed its CRC are dropped."""
        self._on_bad_object = call

    def read(self, version: FileVersion, lease: CacheFile, offset: int, size_bytes: int, deadline: Deadline) -> bytes:
        """Bytes [offset, offset + size_bytes) clipped to the object's end, fetching what is missing."""
        end = min(offset + size_bytes, version.size)
        if offset >= end:
            return b""
        first, last = offset // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
        self.request(version, lease, first, last - first + 1, Priority.DEMAND)
        parts = []
        for block in range(first, last + 1):
            low = max(offset, block * BLOCK_BYTES)
            high = min(end, (block + 1) * BLOCK_BYTES)
            parts.append(self._read_part(version, lease, block, low, high - low, deadline))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_part(
        self, version: FileVersion, lease: CacheFile, block: int, offset: int, size_bytes: int, deadline: Deadline
    ) -> bytes:
        inner = offset - block * BLOCK_BYTES
        while True:
            with self._lock:
                known = self._flights.get((version.cid, block))
                recent = self._recent.get((version.cid, block))
            if recent is not None:
                return recent.slice(inner, size_bytes)
            if known is None:
                cached = lease.read(offset, size_bytes)
                if cached is not None:
                    return cached
                for flight in self.request(version, lease, block, 1, Priority.DEMAND):
                    return self._taken(flight, inner, size_bytes, deadline)
                deadline.check(f"block {block}")
                continue  # it landed, or was evicted, between the two looks
            return self._taken(known[0], inner, size_bytes, deadline)

    def _taken(self, flight: Flight, inner: int, size_bytes: int, deadline: Deadline) -> bytes:
        data = flight.wait(deadline).slice(inner, size_bytes)
        metrics.READ_BYTES.labels("ufs").inc(len(data))
        return data

    def request(
        self, version: FileVersion, lease: CacheFile, first_block: int, block_count: int, priority: Priority
    ) -> list[Flight]:
        """Have the missing blocks of a range fetched; returns the flights started or joined, without waiting."""
        block_count = min(block_count, version.block_count - first_block)
        if block_count <= 0:
            return []
        landings = self._landings
        missing = lease.missing(first_block, block_count)
        if not missing:
            return []
        flights: list[Flight] = []
        blocks_max = max(1, self._config.get_bytes_max // BLOCK_BYTES)
        with self._lock:
            run: list[int] = []
            for block in missing:
                if (version.cid, block) in self._recent or self._landed.get((version.cid, block), 0) > landings:
                    continue  # at hand, or landed since the cache was asked
                known = self._flights.get((version.cid, block))
                if known is not None:
                    flight, task = known
                    flights.append(flight)
                    self._lift(task, priority)
                    continue
                if run and (block != run[-1] + 1 or len(run) >= blocks_max):
                    flights += self._enqueue(version, run, priority)
                    run = []
                run.append(block)
            if run:
                flights += self._enqueue(version, run, priority)
        return flights

    def _enqueue(self, version: FileVersion, blocks: list[int], priority: Priority) -> list[Flight]:
        flights = [Flight() for _ in blocks]
        if self._closed:
            for flight in flights:
                flight.fail(DeadlineExceeded("shutting down"))
            return flights
        task = _Task(version, blocks[0], flights, priority)
        for block, flight in zip(blocks, flights, strict=True):
            self._flights[version.cid, block] = (flight, task)
        self._push(task)
        return flights

    def _lift(self, task: _Task, priority: Priority) -> None:
        """Move a task that still waits to a better place; its old queue entry is skipped when met."""
        if not task.claimed and priority < task.priority:
            task.priority = priority
            self._push(task)

    def _push(self, task: _Task) -> None:
        heapq.heappush(self._queue, (task.priority, next(self._sequence), task))
        if task.priority is Priority.DEMAND:
            self._demands += 1
            if self._demands > self._idle and len(self._threads) < self._config.threads + self._config.demand_threads:
                self._hire()
        self._work.notify()

    def _hire(self) -> None:
        """One more thread; those beyond the first ``threads`` serve readers only, by the bound on background work."""
        thread = threading.Thread(target=self._serve, name=f"fill-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    @property
    def demand_waits(self) -> bool:
        """Whether a reader's fetch has not begun yet.  Asked without the lock: a hint, wrong for microseconds."""
        return self._demands > 0

    def withdraw(self, cid: Cid) -> int:
        """Fail the queued fetches of a version that only loads wait for; returns the number of blocks.

        A reader who joined such a fetch has lifted it to its own priority, so it stays.
        """
        with self._lock:
            tasks = [
                task
                for _, _, task in self._queue
                if task.version.cid == cid and not task.claimed and task.priority is Priority.LOAD
            ]
            for task in tasks:
                task.claimed = True  # its queue entry is skipped when met
        for task in tasks:
            self._fail(task, Withdrawn("the load was stopped"))
        return sum(task.block_count for task in tasks)

    def _serve(self) -> None:
        while True:
            task = self._next_task()
            if task is None:
                return
            background = task.priority is not Priority.DEMAND
            try:
                self._fetch(task)
            except JindoError as error:
                self._fail(task, error)
            except Exception as error:
                # A bug must not leave readers waiting for ever: they get EIO, the log gets the trace.
                LOG.exception("fetch of %r failed unexpectedly", task.version.key)
                self._fail(task, JindoError(f"internal error while fetching: {error!r}"))
            finally:
                if background:
                    with self._lock:
                        self._background_running -= 1
                        self._work.notify()

    def _next_task(self) -> _Task | None:
        background_max = max(1, self._config.threads - DEMAND_RESERVE)
        with self._lock:
            while True:
                if self._closed:
                    return None
                while self._queue and self._queue[0][2].claimed:
                    heapq.heappop(self._queue)
                if self._queue:
                    priority, _, task = self._queue[0]
                    if priority == Priority.DEMAND or self._background_running < background_max:
                        heapq.heappop(self._queue)
                        task.claimed = True
                        if task.priority is Priority.DEMAND:
                            self._demands -= 1
                        else:
                            self._background_running += 1
                        return task
                self._idle += 1
                self._work.wait()
                self._idle -= 1

    def _fetch(self, task: _Task) -> None:
        version = task.version
        deadline = Deadline.after(self._config.get_seconds_max)
        offset = task.first * BLOCK_BYTES
        size = min(task.block_count * BLOCK_BYTES, version.size - offset)
        lease = self._cache.open(version)
        try:
            buffer = self._acquire(version, task.first, deadline)
            try:
                driver = self._drivers.driver(version.mount)
                with driver.get(version.key, offset, size, token=version.token, deadline=deadline) as body:
                    self._check_version(version, driver, body)
                    for number in range(task.block_count):
                        block = task.first + number
                        if number:
                            buffer = self._acquire(version, block, deadline)
                        _fill(buffer, body, version, driver)
                        # A one-block object is checked against the store's CRC before anybody sees it.
                        whole = body.object_crc64 if version.block_count == 1 else None
                        # Not kept in a variable: a thread that waits for a buffer must not hold another one, or
                        # threads that all do wait for each other once the budget is small.
                        self._land(task, lease, block, buffer.seal(whole), body.object_crc64)
                    if body.object_crc64 is not None and self._on_object_crc64 is not None:
                        self._on_object_crc64(version, body.object_crc64)
            finally:
                buffer.release()
        finally:
            lease.close()

    def _acquire(self, version: FileVersion, block: int, deadline: Deadline) -> FillingBuffer:
        size_bytes = version.block_bytes(BlockIndex(block))
        try:
            return self._pool.acquire(size_bytes, min(1.0, deadline.remaining()))
        except TimeoutError:
            with self._lock:
                self._recent.clear()
        try:
            return self._pool.acquire(size_bytes, min(deadline.remaining(), self._config.get_seconds_max))
        except TimeoutError as error:
            raise DeadlineExceeded("no memory for a block in time: raise --memory") from error

    @staticmethod
    def _check_version(version: FileVersion, driver: Driver, body: Body) -> None:
        if body.object_bytes != version.size or body.token != version.token:
            raise VersionChanged(
                "the object changed while it was being read", endpoint=driver.endpoint, key=version.key
            )

    def _land(self, task: _Task, lease: CacheFile, block: int, sealed: SealedBuffer, object_crc64: int | None) -> None:
        """Store the block, then wake its waiters: whoever comes later finds it in one of the two places.

        Before they wake, the object is checked if this block completed it: nobody is told of a complete object that
        is not the store's.
        """
        key = (task.version.cid, block)
        kept = self._cache.put(lease, block, sealed)
        if kept and object_crc64 is not None and task.version.block_count > 1 and lease.complete:
            self._check_whole(task.version, lease, object_crc64)
        with self._lock:
            flight, _ = self._flights.pop(key)
            task.landed += 1
            del task.flights[0]
            if kept:
                self._landings += 1
                self._landed[key] = self._landings
                if len(self._landed) > LANDED_MAX:
                    self._landed.popitem(last=False)
            else:
                self._recent[key] = sealed
                while len(self._recent) * BLOCK_BYTES > self._config.recent_bytes:
                    self._recent.popitem(last=False)
        flight.land(sealed)

    def _check_whole(self, version: FileVersion, lease: CacheFile, expected: int) -> None:
        """Compare a complete object's CRC with the store's.  If it is wrong, drop every block and raise."""
        found = lease.crc64()
        if found is None or found == expected:
            return
        for block in range(version.block_count):
            lease.drop(block)
        with self._lock:
            for key in [key for key in self._recent if key[0] == version.cid]:
                del self._recent[key]
        metrics.CRC_FAILURES.labels("object").inc()
        self._on_bad_object(version)
        raise ObjectCorrupt(
            f"the object {version.key.decode('utf-8', 'backslashreplace')!r} failed its CRC: the store says"
            f" {expected:016x}, what arrived has {found:016x}; something on the way from the store changes bytes, all"
            " blocks are dropped and fetched again by the next read"
        )

    def _fail(self, task: _Task, error: JindoError) -> None:
        if isinstance(error, ObjectCorrupt):
            LOG.error("%s", error)
        elif isinstance(error, CacheCorrupt):
            metrics.CRC_FAILURES.labels("get").inc()
        with self._lock:
            failed = list(task.flights)
            for number in range(task.landed, task.block_count):
                self._flights.pop((task.version.cid, task.first + number), None)
        for flight in failed:
            flight.fail(error)

    def close(self) -> None:
        """Fail what waits, let what runs finish, end the threads."""
        with self._lock:
            self._closed = True
            waiting = [task for _, _, task in self._queue if not task.claimed]
            self._queue.clear()
            self._work.notify_all()
        for task in waiting:
            self._fail(task, DeadlineExceeded("shutting down"))
        for thread in self._threads:
            thread.join(timeout=self._config.get_seconds_max)
        with self._lock:
            self._recent.clear()


def _fill(buffer: FillingBuffer, body: Body, version: FileVersion, driver: Driver) -> None:
    """Read exactly one block."""
    with memoryview(buffer) as whole:
        done = 0
        while done < len(whole):
            with whole[done:] as rest:
                count = body.readinto(rest)
            if count == 0:
                raise ShortBody(
                    f"body ended {len(whole) - done} bytes early", endpoint=driver.endpoint, key=version.key
                )
            done += count
