"""Blocks from workers: ``cache.fill.Peers`` over the data plane.

    extent ── placement ──▶ its worker ──has it──▶ block
                              │ └─ has it not: told to fetch it (once for the whole cluster), then asked again
                              ▼ does not answer, or cannot
                            the next in the extent's order (REPLICAS in all) ──▶ else the caller goes to the storage

Bounds   PEER_SECONDS_MAX for all tries together, so a reader waits no longer before it is the storage's turn; a worker
         that does not answer is left alone for a while, so the next reader does not wait at all.
Memory   Only the first buffer of a request is waited for.
Failure  Peers' errors are logged and counted, never raised.  That the version is gone (told by a worker that asked the
         storage) is no error of the peer: it is left to the caller, who asks the storage itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

import grpc

from jindopy._ext.iobuf import BufferPool, FillingBuffer, SealedBuffer
from jindopy.base import metrics
from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import DeadlineExceeded, JindoError, PeerError, UsageError
from jindopy.base.ident import BlockIndex, FileVersion
from jindopy.client.links import WorkerLink, WorkerLinks
from jindopy.cluster import placement
from jindopy.rpc import convert
from jindopy.rpc.errors import inward

LOG = logging.getLogger("jindopy.client")

PEER_SECONDS_MAX: Final = 30.0
DATA_SECONDS: Final = 8.0
"""For blocks that a worker has: from a busy hard disk some MiB take a second."""
FETCH_SECONDS: Final = 20.0
"""For blocks that it has to fetch."""
BUFFER_SECONDS: Final = 10.0
REPLICAS: Final = 2


@dataclass
class _Wanted:
    """A run of blocks on its way."""

    version: FileVersion
    next: int
    """The first one that has not landed."""
    end: int
    pool: BufferPool
    limit: Deadline
    land: Callable[[int, SealedBuffer], None]
    background: bool


@final
class WorkerPeers:
    """See the module."""

    def __init__(self, links: WorkerLinks, clock: Clock = REAL_CLOCK) -> None:
        self._links = links
        self._clock = clock

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
        """See ``Peers``."""
        limit = Deadline.after(deadline.bounded(PEER_SECONDS_MAX), self._clock)
        wanted = _Wanted(version, first, first + count, pool, limit, land, background)
        while wanted.next < wanted.end and not limit.passed:
            extent = placement.extent_of(wanted.next)
            end = min(wanted.end, (extent + 1) * placement.BLOCKS_AN_EXTENT)
            self._fetch_extent(wanted, extent, end)
            if wanted.next < end:
                return

    def _fetch_extent(self, wanted: _Wanted, extent: int, end: int) -> None:
        """Blocks of one extent, up to ``end``."""
        links = self._links.current()
        weights = {name: float(link.facts.capacity_bytes) for name, link in links.items() if not link.down}
        for name in placement.rank(wanted.version.cid, extent, weights, REPLICAS):
            try:
                self._from_worker(links[name], wanted, end)
            except (PeerError, DeadlineExceeded) as error:
                links[name].failed(error)
                metrics.PEER_FAILURES.labels(type(error).__name__).inc()
                LOG.warning("worker %s failed a read, others are asked meanwhile: %s", name, error)
            except UsageError as error:
                LOG.warning("worker %s cannot be used as this client is set up: %s", name, error)
            except JindoError as error:
                LOG.info("worker %s cannot fetch %r: %s", name, wanted.version.key, error)
                return
            if wanted.next == end or wanted.limit.passed:
                return

    def _from_worker(self, link: WorkerLink, wanted: _Wanted, end: int) -> None:
        """What one worker brings; less than asked for when it cannot keep blocks."""
        told_to_fetch = -1
        while wanted.next < end:
            before = wanted.next
            self._request(link, wanted, end)
            if wanted.next > before:
                continue
            if told_to_fetch == before:
                return  # fetched and gone again: its cache is full
            self._have_fetched(link, wanted, end)
            told_to_fetch = before

    def _request(self, link: WorkerLink, wanted: _Wanted, end: int) -> None:
        """One request on the data plane; lands what comes before the first missing block."""
        data = link.data(wanted.limit)
        buffers: list[FillingBuffer] = []
        try:
            for block in range(wanted.next, end):
                patience = 0.0 if buffers else wanted.limit.bounded(BUFFER_SECONDS)
                try:
                    buffers.append(wanted.pool.acquire(wanted.version.block_bytes(BlockIndex(block)), patience))
                except TimeoutError:
                    break
            if not buffers:
                return
            seconds = wanted.limit.bounded(DATA_SECONDS)
            blocks = data.start(wanted.version.cid, wanted.next, buffers, seconds).wait()
        except BaseException:
            for buffer in buffers:
                buffer.release()
            raise
        buffers.clear()
        link.answered()
        blocks.reverse()
        # Taken out one by one: whoever lands a block must not hold it while it waits for anything.
        while blocks and (sealed := blocks.pop()) is not None:
            metrics.PEER_BYTES.inc(len(sealed))
            wanted.next += 1
            wanted.land(wanted.next - 1, sealed)

    def _have_fetched(self, link: WorkerLink, wanted: _Wanted, end: int) -> None:
        stub, metadata = link.control()
        count = end - wanted.next
        request = convert.fetch_out(wanted.version, wanted.next, count, background=wanted.background)
        try:
            stub.Fetch(request, timeout=wanted.limit.bounded(FETCH_SECONDS), metadata=metadata)
        except grpc.RpcError as error:
            raise inward(error, link.facts.rpc_address, "Fetch") from None
