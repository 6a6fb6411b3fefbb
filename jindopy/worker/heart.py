"""A worker's heartbeats: its registration, its figures, and what the master answers.

Flow     One thread sends a heartbeat every few seconds (the master says how many) and hands the answer, mounts and
         ticket keys, to the worker.  While the master is away it goes on trying once a second; what was told before
         holds, so clients are served on.
Failure  A master that refuses this worker (token, id) is an error in the log, again with each try: somebody mends it.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Sequence
from typing import Final, final

import grpc

from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import JindoError, MasterAway, PeerGone
from jindopy.base.ident import Inode
from jindopy.cluster.membership import WorkerFacts
from jindopy.rpc import convert
from jindopy.rpc.channel import Security, open_channel
from jindopy.rpc.convert import MountFacts
from jindopy.rpc.errors import inward
from jindopy.rpc.v1.gen import master_pb2 as pb
from jindopy.rpc.v1.gen.master_pb2_grpc import MasterStub
from jindopy.worker.holdings import Holdings

LOG = logging.getLogger("jindopy.worker")

CALL_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 1.0
INTERVAL_SECONDS_MAX: Final = 60.0
LEAVE_SECONDS: Final = 2.0


@final
class Heart:
    """See the module."""

    def __init__(
        self,
        address: str,
        security: Security,
        facts: Callable[[], WorkerFacts],
        holdings: Holdings,
        on_mounts: Callable[[list[MountFacts]], None],
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._address = address
        self._facts = facts
        self._holdings = holdings
        self._on_mounts = on_mounts
        self._clock = clock
        self._channel, self._metadata = open_channel(address, security)
        self._stub = MasterStub(self._channel)
        self._epoch = 0
        self._keys: dict[str, bytes] = {}
        self._closed = threading.Event()
        self._joined = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def wait_joined(self, deadline: Deadline) -> bool:
        """Wait for the master's first answer."""
        return self._joined.wait(min(deadline.remaining(), threading.TIMEOUT_MAX))

    def keys(self) -> dict[str, bytes]:
        """Of tickets, as last told."""
        return self._keys

    def note_crc64s(self, told: Sequence[tuple[Inode, int, int]]) -> None:
        """Tell the master checksums of objects (``vfs.checksums.Noter``)."""
        message = pb.Checksums(
            told=[pb.Checksum(inode=inode, version=version, crc64=crc64) for inode, version, crc64 in told]
        )
        try:
            self._stub.NoteChecksums(message, timeout=CALL_SECONDS, metadata=self._metadata)
        except grpc.RpcError as error:
            raise inward(error, self._address, "NoteChecksums") from None

    def _beat(self) -> None:
        away = False
        while not self._closed.is_set():
            try:
                interval_seconds = self._once()
                if away:
                    LOG.info("the master at %s is back", self._address)
                away = False
            except JindoError as error:
                interval_seconds = random.uniform(0.5, 1.0) * RETRY_SECONDS  # noqa: S311 - spreads the workers
                if isinstance(error, PeerGone):
                    if not away:
                        LOG.warning("the master is away, what is cached is served on: %s", error)
                    away = True
                else:
                    LOG.error("the master at %s does not take this worker: %s", self._address, error)
            except Exception:
                LOG.exception("a heartbeat failed unexpectedly")
                interval_seconds = RETRY_SECONDS
            self._closed.wait(interval_seconds)

    def _once(self) -> float:
        added, removed, everything = self._holdings.news()
        request = pb.HeartbeatRequest(
            worker=convert.worker_out(self._facts()),
            epoch=self._epoch,
            added=map(convert.held_out, added),
            removed=map(convert.held_out, removed),
            all=everything,
        )
        try:
            reply = self._stub.Heartbeat(request, timeout=CALL_SECONDS, metadata=self._metadata)
        except grpc.RpcError as error:
            self._holdings.unsent()
            meaning = inward(error, self._address, "Heartbeat")
            raise (MasterAway(meaning.message) if isinstance(meaning, PeerGone) else meaning) from None
        self._keys = {key.id: key.secret for key in reply.keys}
        self._on_mounts([convert.mount_in(mount) for mount in reply.mounts])
        if reply.resend or self._epoch not in (0, reply.epoch):
            self._holdings.unsent()
        self._epoch = reply.epoch
        self._joined.set()
        return max(0.1, min(reply.interval_seconds, INTERVAL_SECONDS_MAX))

    def close(self) -> None:
        """Tell the master and end."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._joined.is_set():
            with contextlib.suppress(grpc.RpcError):
                self._stub.Leave(pb.LeaveRequest(id=self._facts().id), timeout=LEAVE_SECONDS, metadata=self._metadata)
        self._channel.close()
