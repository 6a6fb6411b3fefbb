"""All workers as one cache: loads that pass nobody's memory but theirs, and evictions everywhere.

Flow     ``load`` takes files from an iterator with FETCHERS threads; each has the worker that placement names for an
         extent fetch it, CHUNK_BLOCKS a call.  What the calls tell goes through a queue to the loading thread, which
         alone speaks to the listener.
Bounds   A file a thread; the queue holds a few notes each.  A call gets CALL_SECONDS, which the worker's fill keeps.
Failure  A worker that does not answer: the next in the extent's order fetches.  The first error of a file ends it.
"""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol, final

import grpc

from jindopy.base.clock import REAL_CLOCK, Clock
from jindopy.base.errors import CacheFull, DeadlineExceeded, JindoError, PeerError, PeerGone
from jindopy.base.ident import BLOCK_BYTES, Cid, FileVersion
from jindopy.cache.store import Cache
from jindopy.client.links import WorkerLink, WorkerLinks
from jindopy.client.peers import REPLICAS
from jindopy.cluster import placement
from jindopy.rpc import convert
from jindopy.rpc.errors import inward
from jindopy.rpc.v1.gen import worker_pb2 as wpb

FETCHERS: Final = 32
CHUNK_BLOCKS: Final = 64
CALL_SECONDS: Final = 130.0
"""Longer than the worker's own bound, so that its error is the one that is told."""
EVICT_SECONDS: Final = 10.0
EVICT_CIDS: Final = 1000
KNOWN_MAX: Final = 200_000
"""Versions known to be loaded, about 20 MB."""
ROOM: Final = 0.8
"""Of the workers' quotas: their low watermark, unless they were told otherwise."""


class Listener(Protocol):
    """As ``master.loadrun.Listener``."""

    @property
    def stopped(self) -> bool: ...

    def moved(self, resident_bytes: int, fetched_bytes: int) -> None: ...

    def ended(self, path: bytes, version: FileVersion, error: JindoError | None) -> None: ...


@final
class Fleet:
    """See the module; ``master.loadrun.FileLoader``."""

    def __init__(self, links: WorkerLinks, cache: Cache, clock: Clock = REAL_CLOCK) -> None:
        self._links = links
        self._cache = cache
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[Cid, int] = OrderedDict()

    def cached_bytes(self, version: FileVersion) -> int:
        """What this process knows to be cached: loaded by it, or in its own cache."""
        known = self._cache.peek(version.cid)
        return max(self._known.get(version.cid, 0), known.cached_bytes if known is not None else 0)

    def room_bytes(self) -> int:
        """Of all workers."""
        return int(sum(link.facts.capacity_bytes for link in self._links.current().values()) * ROOM)

    def load(self, files: Iterable[tuple[bytes, FileVersion]], listener: Listener) -> None:
        """Have files fetched until all have ended or the listener wants to stop; each is told of once."""
        _Load(self, iter(files), listener).run()

    def fetch(self, version: FileVersion, first: int, count: int) -> int:
        """Have blocks of one extent fetched by its worker, or the next; returns bytes from the storage.  Raises."""
        links = self._links.current()
        weights = {name: float(link.facts.capacity_bytes) for name, link in links.items() if not link.down}
        last: JindoError = PeerGone("no worker is there to load into")
        for name in placement.rank(version.cid, placement.extent_of(first), weights, REPLICAS):
            try:
                return self._fetch_by(links[name], version, first, count)
            except (PeerError, DeadlineExceeded) as error:
                links[name].failed(error)
                last = error
        raise last

    def _fetch_by(self, link: WorkerLink, version: FileVersion, first: int, count: int) -> int:
        stub, metadata = link.control()
        request = convert.fetch_out(version, first, count, background=True)
        try:
            reply = stub.Fetch(request, timeout=CALL_SECONDS, metadata=metadata)
        except grpc.RpcError as error:
            raise inward(error, link.facts.rpc_address, "Fetch") from None
        if reply.stored < count:
            raise CacheFull(f"worker {link.facts.id} did not keep it: no room that may be evicted, or a failing disk")
        return reply.fetched_bytes

    def loaded(self, version: FileVersion) -> None:
        """All of it is in the workers."""
        with self._lock:
            self._known[version.cid] = version.size
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)

    def evict(self, cids: Sequence[Cid]) -> list[int]:
        """Drop versions from every worker; returns the bytes each freed.  Workers that are not there have nothing."""
        freed = [0] * len(cids)
        with self._lock:
            for cid in cids:
                self._known.pop(cid, None)
        for link in self._links.current().values():
            for at in range(0, len(cids), EVICT_CIDS):
                request = wpb.EvictRequest(cids=cids[at : at + EVICT_CIDS])
                stub, metadata = link.control()
                try:
                    reply = stub.Evict(request, timeout=EVICT_SECONDS, metadata=metadata)
                except grpc.RpcError as error:
                    raise inward(error, link.facts.rpc_address, "Evict") from None
                for index, size in enumerate(reply.freed_bytes[: len(request.cids)], at):
                    freed[index] += size
        return freed


class _Stop(Exception):
    """The load is to end."""


@final
class _Load:
    """One call of ``Fleet.load``."""

    def __init__(self, fleet: Fleet, files: Iterator[tuple[bytes, FileVersion]], listener: Listener) -> None:
        self._fleet = fleet
        self._files = files
        self._listener = listener
        self._source_lock = threading.Lock()
        self._stopping = False
        self._problem: BaseException | None = None
        self._notes: queue.Queue[tuple[bytes, FileVersion, int, int, JindoError | None, bool] | None] = queue.Queue(
            4 * FETCHERS
        )

    def run(self) -> None:
        threads = [threading.Thread(target=self._serve, name=f"load-{n}", daemon=True) for n in range(FETCHERS)]
        for thread in threads:
            thread.start()
        left = len(threads)
        while left:
            note = self._notes.get()
            if note is None:
                left -= 1
                continue
            path, version, resident, fetched, error, ended = note
            if not self._stopping:
                self._listener.moved(resident, fetched)
                if ended:
                    self._listener.ended(path, version, error)
            self._stopping = self._stopping or self._listener.stopped
        for thread in threads:
            thread.join()
        if self._problem is not None:
            raise self._problem

    def _serve(self) -> None:
        try:
            while not self._stopping:
                with self._source_lock:
                    found = next(self._files, None)
                if found is None:
                    return
                self._load(*found)
        except _Stop:
            return
        except BaseException as problem:  # noqa: BLE001 - raised again in the thread that asked for the load
            self._problem = problem
            self._stopping = True
        finally:
            self._notes.put(None)

    def _load(self, path: bytes, version: FileVersion) -> None:
        error: JindoError | None = None
        resident = 0
        first = 0
        while first < version.block_count and error is None:
            if self._stopping:
                raise _Stop
            within = placement.BLOCKS_AN_EXTENT - first % placement.BLOCKS_AN_EXTENT
            count = min(CHUNK_BLOCKS, within, version.block_count - first)
            try:
                fetched = self._fleet.fetch(version, first, count)
            except JindoError as problem:
                error = problem
                break
            first += count
            size = min(first * BLOCK_BYTES, version.size) - resident
            resident += size
            self._notes.put((path, version, size, fetched, None, False))
        if error is None:
            self._fleet.loaded(version)
        self._notes.put((path, version, 0 if error is None else -resident, 0, error, True))
