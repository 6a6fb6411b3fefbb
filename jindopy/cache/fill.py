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
Peers    Where other machines may have a block (a cluster), they are asked before the storage, block by block in order;
         whatever they do not bring is fetched from the storage as ever.
Failure  An error ends the task's remaining flights with that error; the next request starts anew.  Retry of requests
         is the driver layers' business.  VersionChanged and ObjectNotFound reach the reader, who turns them to ESTALE.
         An object whose CRC as a whole is wrong loses all its blocks; who may have handed them on is told.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final

from jindopy._ext.blockstore import CacheFile
from jindopy._ext.iobuf import BufferPool, FillingBuffer, SealedBuffer
from jindopy.base import metrics
from jindopy.base.clock import Deadline
from jindopy.base.errors import CacheCorrupt, DeadlineExceeded, JindoError, ObjectCorrupt, ShortBody, VersionChanged
from jindopy.base.ident import BLOCK_BYTES, BlockIndex, Cid, FileVersion
from jindopy.cache.fill_native import Drivers, NativeFetches
from jindopy.cache.flights import Flight, Priority, Task, TaskQueue, Withdrawn
from jindopy.cache.store import Cache
from jindopy.ufs.base import Body, Driver

__all__ = ["Drivers", "FillConfig", "Filler", "Flight", "Priority", "Withdrawn"]

LOG = logging.getLogger("jindopy.fill")

DEMAND_RESERVE = 2
"""Threads that background work never takes: a reader's GET starts at once even when a load fills the link."""


LANDED_MAX = 1024
"""Blocks that can land between a reader's look into the cache and its turn with the lock: a second of GETs."""

SPOILED_MAX = 1024
"""Versions with a wrong CRC whose count is kept while a reader may be between two of their blocks."""


class Peers(Protocol):
    """Other machines that may have blocks."""

    def fetch(
        self,
        version: FileVersion,
        first: int,
        count: int,
        pool: BufferPool,
        deadline: Deadline,
        land: Callable[[int, SealedBuffer], None],
        *,
        background: bool,
    ) -> None:
        """Hand blocks from ``first`` on to ``land``, in order and checked; return when the peers can bring no more.

        Never raises for a peer's failure; that the version is gone shows when the storage is asked.
        """
        ...


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
        peers: Peers | None = None,
    ) -> None:
        self._cache = cache
        self._drivers = drivers
        self._pool = pool
        self._config = config or FillConfig()
        self._on_object_crc64 = on_object_crc64
        self._peers = peers
        self._on_bad_object: Callable[[FileVersion], None] = lambda _: None
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._native = NativeFetches(cache, drivers, pool, self, self._config.get_seconds_max)
        self._flights: dict[tuple[Cid, int], tuple[Flight, Task]] = {}
        self._queue = TaskQueue()
        self._running = 0
        self._background_running = 0
        self._ready: deque[Task] = deque()
        """Begun, and to be fetched by a thread of this class."""
        self._idle = 0
        self._recent: OrderedDict[tuple[Cid, int], SealedBuffer] = OrderedDict()
        self._landings = 0
        self._landed: OrderedDict[tuple[Cid, int], int] = OrderedDict()
        """The last LANDED_MAX blocks that were kept, with the count of landings at that time."""
        self._spoiled: OrderedDict[Cid, int] = OrderedDict()
        """How often all blocks of a version were dropped because the object's CRC was wrong; the last SPOILED_MAX."""
        self._closed = False
        self._threads: list[threading.Thread] = []

    def tell_of_bad_objects(self, call: Callable[[FileVersion], None]) -> None:
        """Have ``call`` made, by a fetch thread, once the blocks of an object that failed its CRC are dropped."""
        self._on_bad_object = call

    def read(self, version: FileVersion, lease: CacheFile, offset: int, size_bytes: int, deadline: Deadline) -> bytes:
        """Bytes [offset, offset + size_bytes) clipped to the object's end, fetching what is missing."""
        end = min(offset + size_bytes, version.size)
        if offset >= end:
            return b""
        first, last = offset // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
        spoiled = self._spoiled.get(version.cid, 0)
        flights = self.request(version, lease, first, last - first + 1, Priority.DEMAND)
        # The first only: a reader who waits for one block must not hold others that have landed.
        flight = flights[0] if flights and flights[0].block == first else None
        del flights
        parts = []
        for block in range(first, last + 1):
            low = max(offset, block * BLOCK_BYTES)
            high = min(end, (block + 1) * BLOCK_BYTES)
            if flight is not None:
                parts.append(self._taken(flight, low - block * BLOCK_BYTES, high - low, deadline))
                flight = None
            else:
                parts.append(self._read_part(version, lease, block, low, high - low, deadline, spoiled))
        self._check_unspoiled(version, spoiled)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _check_unspoiled(self, version: FileVersion, before: int) -> None:
        """Refuse a read whose earlier blocks may come from a GET that was found wrong since."""
        if self._spoiled.get(version.cid, 0) != before:
            raise ObjectCorrupt(
                f"the object {version.key.decode('utf-8', 'backslashreplace')!r} failed its CRC while it was being read"
            )

    def _read_part(
        self,
        version: FileVersion,
        lease: CacheFile,
        block: int,
        offset: int,
        size_bytes: int,
        deadline: Deadline,
        spoiled: int,
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
                self._check_unspoiled(version, spoiled)
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
                    self._queue.lift(task, priority)
                    continue
                if run and (block != run[-1] + 1 or len(run) >= blocks_max):
                    flights += self._enqueue(version, run, priority)
                    run = []
                run.append(block)
            if run:
                flights += self._enqueue(version, run, priority)
        self.begin_tasks()
        return flights

    def _enqueue(self, version: FileVersion, blocks: list[int], priority: Priority) -> list[Flight]:
        flights = [Flight(block) for block in blocks]
        if self._closed:
            for flight in flights:
                flight.fail(DeadlineExceeded("shutting down"))
            return flights
        task = Task(version, blocks[0], flights, priority)
        for block, flight in zip(blocks, flights, strict=True):
            self._flights[version.cid, block] = (flight, task)
        self._queue.push(task)
        return flights

    @property
    def demand_waits(self) -> bool:
        """Whether a reader's fetch has not begun yet.  Asked without the lock: a hint, wrong for microseconds."""
        return self._queue.demands > 0

    def withdraw(self, cid: Cid) -> int:
        """Fail the queued fetches of a version that only loads wait for; returns the number of blocks.

        A reader who joined such a fetch has lifted it to its own priority, so it stays.
        """
        with self._lock:
            tasks = self._queue.withdraw(cid)
        for task in tasks:
            self.fail(task, Withdrawn("the load was stopped"))
        return sum(task.block_count for task in tasks)

    def begin_tasks(self) -> None:
        """Begin what is queued, as far as the bounds allow; whoever queues or ends something calls this."""
        while True:
            with self._lock:
                task = self._claim()
            if task is None:
                return
            try:
                if self._peers is not None or not self._native.start(task):
                    self.fetch_slowly(task)
            except JindoError as error:
                self.fail(task, error)
                self.finished(task)

    def _claim(self) -> Task | None:
        """Called with the lock."""
        config = self._config
        background = self._background_running < max(1, config.threads - DEMAND_RESERVE)
        if self._closed or self._running >= config.threads + config.demand_threads:
            return None
        task = self._queue.claim(background=background and self._running < config.threads)
        if task is not None:
            self._running += 1
            self._background_running += task.background
        return task

    def fetch_slowly(self, task: Task) -> None:
        """Have a begun task fetched, from where it stands, by a thread that waits and tries again."""
        with self._lock:
            self._ready.append(task)
            if len(self._ready) > self._idle:
                thread = threading.Thread(target=self._serve, name=f"fill-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._work.notify()

    def finished(self, task: Task) -> None:
        """A begun task is at its end, well or not."""
        with self._lock:
            self._running -= 1
            self._background_running -= task.background

    def _serve(self) -> None:
        while True:
            with self._lock:
                while not self._ready:
                    if self._closed:
                        return
                    self._idle += 1
                    self._work.wait()
                    self._idle -= 1
                task = self._ready.popleft()
            try:
                self._fetch(task)
            except JindoError as error:
                self.fail(task, error)
            except Exception as error:
                # A bug must not leave readers waiting for ever: they get EIO, the log gets the trace.
                LOG.exception("fetch of %r failed unexpectedly", task.version.key)
                self.fail(task, JindoError(f"internal error while fetching: {error!r}"))
            self.finished(task)
            self.begin_tasks()

    def _fetch(self, task: Task) -> None:
        version = task.version
        deadline = Deadline.after(self._config.get_seconds_max)
        end = task.first + task.block_count
        lease = self._cache.open(version)
        try:
            if self._peers is not None:
                self._peers.fetch(
                    version,
                    task.first,
                    task.block_count,
                    self._pool,
                    deadline,
                    lambda block, sealed: self._store(task, lease, block, sealed, None),
                    background=task.background,
                )
            first = task.first + task.landed
            if first == end:
                return
            offset = first * BLOCK_BYTES
            size = min(end * BLOCK_BYTES, version.size) - offset
            buffer = self._acquire(version, first, deadline)
            try:
                driver = self._drivers.driver(version.mount)
                with driver.get(version.key, offset, size, token=version.token, deadline=deadline) as body:
                    self._check_version(version, driver, body)
                    for block in range(first, end):
                        if block > first:
                            buffer = self._acquire(version, block, deadline)
                        _fill(buffer, body, version, driver)
                        # A one-block object is checked against the store's CRC before anybody sees it.
                        whole = body.object_crc64 if version.block_count == 1 else None
                        # Not kept in a variable: a thread that waits for a buffer must not hold another one, or
                        # threads that all do wait for each other once the budget is small.
                        self._store(task, lease, block, buffer.seal(whole), body.object_crc64)
                    self.learned(version, body.object_crc64)
            finally:
                buffer.release()
        finally:
            lease.close()

    def _acquire(self, version: FileVersion, block: int, deadline: Deadline) -> FillingBuffer:
        size_bytes = version.block_bytes(BlockIndex(block))
        try:
            return self._pool.acquire(size_bytes, min(1.0, deadline.remaining()))
        except TimeoutError:
            self.hungry()
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

    def hungry(self) -> None:
        """Somebody waits for memory: let go of what is only kept in case."""
        with self._lock:
            self._recent.clear()

    def learned(self, version: FileVersion, crc64: int | None) -> None:
        """The store told an object's CRC, and all that came agreed with it."""
        if crc64 is not None and self._on_object_crc64 is not None:
            self._on_object_crc64(version, crc64)

    def _store(self, task: Task, lease: CacheFile, block: int, sealed: SealedBuffer, object_crc64: int | None) -> None:
        """Store the block, then wake its waiters: whoever comes later finds it in one of the two places."""
        self.land(task, lease, block, sealed, self._cache.put(lease, block, sealed), object_crc64)

    def land(
        self, task: Task, lease: CacheFile, block: int, sealed: SealedBuffer, kept: bool, object_crc64: int | None
    ) -> None:
        """Wake the waiters of a block that is stored, or will not be.

        Before they wake, the object is checked if this block completed it: nobody is told of a complete object that
        is not the store's.
        """
        key = (task.version.cid, block)
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
        with self._lock:
            # Counted before a block is dropped: a reader who misses one sees the count.
            self._spoiled[version.cid] = self._spoiled.pop(version.cid, 0) + 1
            if len(self._spoiled) > SPOILED_MAX:
                self._spoiled.popitem(last=False)
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

    def fail(self, task: Task, error: JindoError) -> None:
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
            waiting = self._queue.drain()
            self._work.notify_all()
        for task in waiting:
            self.fail(task, DeadlineExceeded("shutting down"))
        self._native.close()
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
