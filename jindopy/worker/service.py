"""The worker's side of the control plane: fetch what clients miss, once for all of them; drop what is to go.

Flow     A client that finds blocks missing on the data plane calls ``Fetch``; the fill joins everybody who wants the
         same block into one GET, and the call answers when the blocks are stored.  The bytes go over the data plane.
Bounds   Those of the fill; a call waits as long as its client does.
Trust    A request is believed as far as it names a mount of the master's table with its storage; key, token and size
         are the storage's to judge (a conditional GET).
"""

from __future__ import annotations

from typing import Final, Protocol, final

import grpc

from jindopy._ext.blockstore import CacheFile
from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import UsageError
from jindopy.base.ident import CID_BYTES, Cid, FileVersion, MountId, UfsId
from jindopy.cache.fill import Filler, Priority
from jindopy.cache.store import Cache
from jindopy.rpc import convert
from jindopy.rpc.serving import answering
from jindopy.rpc.v1.gen import worker_pb2 as pb
from jindopy.rpc.v1.gen.worker_pb2_grpc import WorkerServicer

FETCH_SECONDS_MAX: Final = 120.0


class Mounts(Protocol):
    """The master's mount table, as last told."""

    def check(self, mount: MountId, ufs_id: UfsId) -> None:
        """Raises UsageError for a mount that is not in it."""
        ...


@final
class WorkerService(WorkerServicer):
    """See the module."""

    def __init__(self, cache: Cache, filler: Filler, mounts: Mounts, clock: Clock = REAL_CLOCK) -> None:
        self._cache = cache
        self._filler = filler
        self._mounts = mounts
        self._clock = clock

    @answering
    def Fetch(self, request: pb.FetchRequest, context: grpc.ServicerContext) -> pb.FetchReply:
        version, first, count = convert.fetch_in(request)
        self._mounts.check(version.mount, version.ufs_id)
        left = context.time_remaining()
        deadline = Deadline.after(FETCH_SECONDS_MAX if left is None else min(left, FETCH_SECONDS_MAX), self._clock)
        try:
            lease = self._cache.open(version)
        except ValueError:
            raise UsageError("this version is known here with another size") from None
        try:
            fetched = self._fetch(version, lease, first, count, deadline, background=request.background)
            stored = count - len(lease.missing(first, count))
        finally:
            lease.close()
        return pb.FetchReply(stored=stored, fetched_bytes=fetched)

    def _fetch(
        self, version: FileVersion, lease: CacheFile, first: int, count: int, deadline: Deadline, *, background: bool
    ) -> int:
        priority = Priority.READAHEAD if background else Priority.DEMAND
        flights = self._filler.request(version, lease, first, count, priority)
        flights.reverse()
        fetched_bytes = 0
        while flights:
            # Taken out, so that nothing here keeps a landed block's memory.
            fetched_bytes += len(flights.pop().wait(deadline))
        return fetched_bytes

    @answering
    def Evict(self, request: pb.EvictRequest, context: grpc.ServicerContext) -> pb.EvictReply:
        if any(len(cid) != CID_BYTES for cid in request.cids):
            raise UsageError(f"a cid has {CID_BYTES} bytes")
        return pb.EvictReply(freed_bytes=[self._cache.evict(Cid(cid)) for cid in request.cids])
