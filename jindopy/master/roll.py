"""The roll of workers: membership and cache map behind one lock, and the thread that notices who is silent.

A master that has just started knows nobody.  Until SETTLE_SECONDS have passed its lists say so, and clients keep the
workers they knew: else each restart of the master would send every read to the storage.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final, final

from jindopy.base.clock import REAL_CLOCK, Clock
from jindopy.base.ident import Cid
from jindopy.cluster import placement
from jindopy.cluster.cachemap import CacheMap, Held
from jindopy.cluster.membership import LOST_SECONDS, Membership, WorkerFacts, weights
from jindopy.rpc import convert
from jindopy.rpc.v1.gen import master_pb2 as pb

LOG = logging.getLogger("jindopy.master")

SETTLE_SECONDS: Final = LOST_SECONDS
LOOK_SECONDS: Final = 0.5


@final
class Roll:
    """See the module."""

    def __init__(self, tell: Callable[[pb.Members], None], clock: Clock = REAL_CLOCK) -> None:
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._membership = Membership()
        self._map = CacheMap()
        self._settled_at = clock.monotonic() + SETTLE_SECONDS
        self._settling = True
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="roll", daemon=True)
        self._thread.start()

    def heartbeat(
        self, facts: WorkerFacts, added: Sequence[Held], removed: Sequence[Held], *, everything: bool, in_step: bool
    ) -> bool:
        """A worker's sign of life; True: it has to tell everything that it holds again."""
        with self._lock:
            changed = self._membership.heartbeat(facts, self._clock.monotonic())
        known = self._map.knows(facts.id)
        self._map.told(facts.id, added, removed, everything=everything)
        if changed:
            LOG.info("worker %s is there: data %s, control %s", facts.id, facts.data_address, facts.rpc_address)
            self._tell(self.members())
        return not everything and not (in_step and known)

    def leave(self, worker: str) -> None:
        """A worker goes."""
        with self._lock:
            was_there = self._membership.leave(worker)
        if was_there:
            LOG.info("worker %s has left", worker)
            self._map.gone(worker)
            self._tell(self.members())

    def members(self) -> pb.Members:
        """Who is there."""
        with self._lock:
            workers = self._membership.workers()
        return pb.Members(workers=map(convert.worker_out, workers), settling=self._settling)

    def locations(self, cid: Cid, extents: Sequence[int]) -> list[tuple[int, list[str], list[str]]]:
        """(extent, who should hold it, who says they do)."""
        with self._lock:
            weight = weights(self._membership.workers())
        return [(extent, placement.rank(cid, extent, weight), self._map.holders(cid, extent)) for extent in extents]

    def _watch(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            now = self._clock.monotonic()
            with self._lock:
                lost = self._membership.expire(now)
                settled = self._settling and now >= self._settled_at
                if settled:
                    self._settling = False
            for worker in lost:
                LOG.warning("worker %s is silent and taken off the roll; its extents go to others", worker)
                self._map.gone(worker)
            if lost or settled:
                self._tell(self.members())

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join()
