"""Fetches that need no thread of Python while they run: the native client gets, checks and stores their blocks.

Flow     ``start`` signs a task's GET and hands it to the driver's native threads.  They leave word of stored blocks in
         a LandingQueue; one thread here takes all word that has gathered, wakes the readers, and begins what is queued
         next.  A small file costs the GIL two short turns: one to sign, one to land.
Bounds   Those of the Filler, which counts these tasks as its own.
Failure  One try, and only the very answer expected counts.  Whatever else happens, the task goes on from where it
         stands by ``fetch_slowly``, which asks through all layers, tells errors apart and tries again.  A body that the
         store's CRC does not fit, and the end of the mount, are final.
"""

from __future__ import annotations

import logging
import threading
from typing import Final, Protocol, cast, final

from jindopy._ext.blockstore import CacheFile
from jindopy._ext.iobuf import BufferPool, SealedBuffer
from jindopy.base.clock import Deadline
from jindopy.base.errors import CacheCorrupt, DeadlineExceeded, JindoError
from jindopy.base.ident import FileVersion, MountId
from jindopy.cache.flights import Task
from jindopy.cache.store import Cache
from jindopy.ufs.base import BlockGets, Driver, HasBlockGets

try:
    from jindopy._ext.httpblocks import BlockGet, LandingQueue, Word
except ImportError:  # built without libcurl: nothing is ever started, all goes the slow way
    NATIVE: Final = False
else:
    NATIVE = True  # type: ignore[misc]

LOG = logging.getLogger("jindopy.fill")

TAKE_SECONDS: Final = 60.0
"""The landing thread wakes so often although there is no word."""


class Drivers(Protocol):
    """Where a mount's driver comes from."""

    def driver(self, mount: MountId) -> Driver:
        """The driver of a mount, layers included."""
        ...


class Landings(Protocol):
    """What is done with tasks that got somewhere: the Filler."""

    def land(
        self, task: Task, lease: CacheFile, block: int, sealed: SealedBuffer, kept: bool, object_crc64: int | None
    ) -> None: ...
    def learned(self, version: FileVersion, crc64: int | None) -> None: ...
    def fail(self, task: Task, error: JindoError) -> None: ...
    def fetch_slowly(self, task: Task) -> None: ...
    def finished(self, task: Task) -> None: ...
    def begin_tasks(self) -> None: ...
    def hungry(self) -> None: ...


@final
class NativeFetches:
    """Starts tasks natively where their driver can, and lands what comes."""

    def __init__(
        self, cache: Cache, drivers: Drivers, pool: BufferPool, landings: Landings, get_seconds_max: float
    ) -> None:
        self._get_seconds_max = get_seconds_max
        self._cache = cache
        self._drivers = drivers
        self._pool = pool
        self._landings = landings
        self._lock = threading.Lock()
        self._gets: dict[MountId, BlockGets | None] = {}
        self._running: set[BlockGet] = set()
        self._closed = False
        self._thread: threading.Thread | None = None
        if NATIVE:
            self._queue = LandingQueue()

    def start(self, task: Task) -> bool:
        """Begin a task; False: its driver has no native GETs.  Raises what signing raises."""
        version = task.version
        gets = self._gets_of(version.mount)
        if gets is None:
            return False
        lease = self._cache.open(version)
        try:
            get = BlockGet(
                *(self._queue, self._pool, lease, task.first, task.block_count, version.token),
                *(self._cache.may_store(), task),
            )
            with self._lock:
                if self._closed:
                    raise DeadlineExceeded("shutting down")
                self._running.add(get)
                task.lease = lease
            try:
                gets.start_get(version.key, get, token=version.token, deadline=Deadline.after(self._get_seconds_max))
            except BaseException:
                with self._lock:
                    self._running.discard(get)
                task.lease = None
                raise
        except BaseException:
            lease.close()
            raise
        return True

    def _gets_of(self, mount: MountId) -> BlockGets | None:
        if not NATIVE:
            return None
        if mount not in self._gets:
            driver = self._drivers.driver(mount)
            gets = driver.block_gets() if isinstance(driver, HasBlockGets) else None
            with self._lock:
                self._gets[mount] = gets
                if gets is not None and self._thread is None and not self._closed:
                    self._thread = threading.Thread(target=self._serve, name="land", daemon=True)
                    self._thread.start()
        return self._gets[mount]

    def _serve(self) -> None:
        while self._running or not self._closed:
            self._take_all()

    def _take_all(self) -> None:
        # A call of its own: a thread that waits must not hold the last block it landed.
        ended = False
        for word in self._queue.take(TAKE_SECONDS):
            ended |= self._take(word)
        if self._queue.hungry:
            self._landings.hungry()
        if ended:
            self._landings.begin_tasks()

    def _take(self, word: Word) -> bool:
        """Land blocks; True: that was the end of this GET."""
        get, blocks, ending = word
        task = cast(Task, get.cookie)
        lease = task.lease
        assert lease is not None
        try:
            for block, sealed, put_error in blocks:
                kept = self._cache.stored(put_error)
                if not task.over:
                    self._landings.land(task, lease, block, sealed, kept, get.object_crc64)
        except JindoError as error:
            self._give_up(get, task, error)
        except Exception as error:
            # A bug must not leave readers waiting for ever: they get EIO, the log gets the trace.
            LOG.exception("landing %r failed unexpectedly", task.version.key)
            self._give_up(get, task, JindoError(f"internal error while fetching: {error!r}"))
        if ending is None:
            return False
        lease.close()
        task.lease = None
        with self._lock:
            self._running.discard(get)
        version = task.version
        gets = self._gets[version.mount]
        assert gets is not None
        done = ending.outcome == "done"
        gets.ended(get.size_bytes if done else 0, "ok" if done else ending.outcome)
        if task.over:
            pass
        elif task.landed == task.block_count:
            self._landings.learned(version, get.object_crc64)
        elif get.damaged:
            self._landings.fail(
                task,
                CacheCorrupt(
                    f"{version.key.decode('utf-8', 'backslashreplace')!r}: what arrived has another CRC-64 than the"
                    f" store says ({get.object_crc64:016x})"
                ),
            )
        elif self._closed:
            self._landings.fail(task, DeadlineExceeded("shutting down"))
        else:
            LOG.debug("%r goes on through the layers: %s %s", version.key, ending.outcome, ending.text)
            self._landings.fetch_slowly(task)
            return False
        self._landings.finished(task)
        return True

    def _give_up(self, get: BlockGet, task: Task, error: JindoError) -> None:
        task.over = True
        self._landings.fail(task, error)
        get.cancel()

    def close(self) -> None:
        """End what runs; returns when all of it has been told of."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for get in running:
            get.cancel()
        if self._thread is not None:
            self._queue.wake()
            self._thread.join()
