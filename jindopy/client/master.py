"""A remote master: ``MasterApi`` over the control plane.

Flow     One thread keeps the stream of news (``Watch``): who the workers are, which directories changed, that the
         master lives.  Calls go out on whatever thread makes them, with their caller's deadline.
Away     When the stream ends, or nothing comes on it, the master is *away*: calls, those that wait too, fail with
         MasterAway, and who asks decides whether what it knows will do (``vfs/directories.py``) or waits with
         ``wait_back``.  When it is back, everything that was believed before is void, because news were missed.
Bounds   TRIES for a call that found the connection broken; the connection itself is tried for ever, once a second.
Failure  A master with another namespace (its data directory is a new one) is never believed: inodes would mean other
         files.  It stays away for this client, and the log says to mount again.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

import grpc

from jindopy.base import retry
from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import BadFrame, JindoError, MasterAway, PeerGone
from jindopy.base.ident import ROOT_INODE, Inode, MountId
from jindopy.cluster.membership import WorkerFacts
from jindopy.namespace.api import Answer, DirPage, Listener, MountInfo, Node, SkippedKey, SyncProgress, TreeCount
from jindopy.rpc import convert
from jindopy.rpc.channel import Security, open_channel
from jindopy.rpc.convert import MountFacts
from jindopy.rpc.errors import inward
from jindopy.rpc.v1.gen import master_pb2 as pb
from jindopy.rpc.v1.gen.master_pb2_grpc import MasterStub

LOG = logging.getLogger("jindopy.client")

RETRY: Final = retry.RetryPolicy(attempts=3, base_seconds=0.1, cap_seconds=0.5)
RECONNECT_SECONDS_MAX: Final = 1.0
SILENCE_SECONDS_MAX: Final = 8.0
"""Four ticks: a stream that says nothing for so long has a master that does not run."""
CALL_SECONDS_MAX: Final = 60.0
"""For calls that take no deadline."""


class _Method(Protocol):
    def __call__(self, request: Any, *, timeout: float | None, metadata: Any) -> Any: ...


class _Unary(Protocol):
    def future(self, request: Any, *, timeout: float | None, metadata: Any) -> Any: ...


class Report(NamedTuple):
    """A whole cluster in figures."""

    epoch: int
    cluster: str
    version: str
    mounts: list[MountFacts]
    workers: list[WorkerFacts]
    clients: int


class RemoteMaster:
    """See the module."""

    def __init__(self, address: str, security: Security, name: str, clock: Clock = REAL_CLOCK) -> None:
        """``name`` is shown in the master's log.  Nothing is asked before ``start``."""
        self.address = address
        self._name = name
        self._clock = clock
        self._channel, self._metadata = open_channel(address, security)
        self._stub = MasterStub(self._channel)
        self._lock = threading.Condition()
        self._away = True
        self._cause: JindoError = MasterAway(f"{address}: the master has not answered yet")
        self._closed = threading.Event()
        self._cluster = ""
        self._epoch = 0
        self._number = 0
        self._mounts: list[MountFacts] = []
        self._workers: dict[str, WorkerFacts] = {}
        self._listeners: list[Listener] = []
        self._stream: Any = None
        self._running: set[Any] = set()
        """Calls that wait for the master: cut when it is away."""
        self._heard_at = clock.monotonic()
        self._threads = [
            threading.Thread(target=self._watch, name="news", daemon=True),
            threading.Thread(target=self._guard, name="news-guard", daemon=True),
        ]

    # Life

    def start(self, deadline: Deadline) -> None:
        """Begin to listen, and wait for the first word; raises MasterAway, or at once what the master refuses."""
        for thread in self._threads:
            thread.start()
        with self._lock:
            self._lock.wait_for(
                lambda: not self._away or not isinstance(self._cause, PeerGone),
                min(deadline.remaining(), threading.TIMEOUT_MAX),
            )
            if self._away:
                raise self._cause

    def close(self) -> None:
        """End the stream and the connection."""
        self._closed.set()
        with self._lock:
            stream = self._stream
            self._lock.notify_all()
        if stream is not None:
            stream.cancel()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._channel.close()

    @property
    def away(self) -> bool:
        """Whether the master cannot be asked now."""
        return self._away

    def wait_back(self, deadline: Deadline) -> bool:
        """Wait until it can be asked; False when the time is over."""
        with self._lock:
            return (
                self._lock.wait_for(
                    lambda: not self._away or self._closed.is_set(), min(deadline.remaining(), threading.TIMEOUT_MAX)
                )
                and not self._away
            )

    # News

    def workers(self) -> list[WorkerFacts]:
        """As last told; kept while the master is away."""
        return list(self._workers.values())

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def _watch(self) -> None:
        failures = 0
        while not self._closed.is_set():
            cause: JindoError
            try:
                stream: Any = self._stub.Watch(pb.WatchRequest(client=self._name), metadata=self._metadata)
                with self._lock:
                    self._stream = stream
                    self._heard_at = self._clock.monotonic()
                for event in stream:
                    failures = 0
                    self._heard_at = self._clock.monotonic()
                    self._take(event)
                cause = MasterAway(f"{self.address}: the master ended the stream of news")
            except grpc.RpcError as error:
                cause = inward(error, self.address, "Watch")
            except JindoError as error:
                cause = error
            self._lost(cause)
            failures += 1
            self._closed.wait(random.uniform(0.05, min(RECONNECT_SECONDS_MAX, 0.1 * 2 ** min(failures, 8))))  # noqa: S311

    def _guard(self) -> None:
        """Cut a stream on which nothing comes: a master that is stopped keeps its connection."""
        while not self._closed.wait(1.0):
            if self._clock.monotonic() - self._heard_at > SILENCE_SECONDS_MAX:
                with self._lock:
                    stream = self._stream
                if stream is not None:
                    stream.cancel()

    def _take(self, event: pb.Event) -> None:
        kind = event.WhichOneof("kind")
        if kind == "welcome":
            self._welcomed(event)
            return
        if event.epoch != self._epoch:
            raise MasterAway(f"{self.address}: another life of the master speaks on an old stream")
        expected = self._number if kind == "tick" else self._number + 1
        if event.number != expected:
            raise MasterAway(f"{self.address}: news {expected} are missing")
        self._number = event.number
        if kind == "invalidation":
            told = event.invalidation
            for listener in self._listeners:
                listener.directory_changed(Inode(told.directory), told.generation)
        elif kind == "members":
            self._set_members(event.members)

    def _welcomed(self, event: pb.Event) -> None:
        welcome = event.welcome
        if self._cluster and welcome.cluster != self._cluster:
            raise BadFrame(
                f"{self.address}: this master has another namespace (cluster {welcome.cluster[:32]}, not"
                f" {self._cluster}); mount again to see it"
            )
        again = bool(self._cluster)
        self._cluster, self._epoch, self._number = welcome.cluster, event.epoch, event.number
        self._mounts = [convert.mount_in(mount) for mount in welcome.mounts]
        self._set_members(welcome.members)
        if again:
            LOG.info("the master at %s is back (epoch %d)", self.address, self._epoch)
            for listener in self._listeners:
                listener.everything_changed()
        with self._lock:
            self._away = False
            self._lock.notify_all()

    def _set_members(self, members: pb.Members) -> None:
        told = {worker.id: convert.worker_in(worker) for worker in members.workers}
        self._workers = self._workers | told if members.settling else told

    def _lost(self, cause: JindoError) -> None:
        with self._lock:
            self._stream = None
            was_there = not self._away
            self._away = True
            self._cause = cause if not isinstance(cause, PeerGone) else MasterAway(cause.message)
            running = list(self._running)
            self._lock.notify_all()
        for call in running:
            call.cancel()
        if self._closed.is_set():
            return
        if was_there:
            LOG.warning("the master is away: %s; what is known is served meanwhile", cause)
        elif not isinstance(cause, PeerGone):
            LOG.warning("%s", cause)

    # Calls

    def _ask(self, method: _Unary, request: Any, name: str, deadline: Deadline) -> Any:
        def attempt() -> Any:
            call = self._begun(lambda: method.future(request, timeout=_seconds(deadline), metadata=self._metadata))
            try:
                return call.result()
            except grpc.FutureCancelledError:
                raise self._away_error() from None
            except grpc.RpcError as error:
                raise self._understood(error, name) from None
            finally:
                self._ended(call)

        return retry.run(attempt, policy=RETRY, deadline=deadline, clock=self._clock)

    def _stream_of(self, method: _Method, request: Any, name: str, deadline: Deadline) -> Iterator[Any]:
        stream = self._begun(lambda: method(request, timeout=_seconds(deadline), metadata=self._metadata))
        try:
            yield from stream
        except grpc.RpcError as error:
            raise self._understood(error, name) from None
        finally:
            self._ended(stream)
            stream.cancel()

    def _begun(self, begin: Callable[[], Any]) -> Any:
        with self._lock:
            if self._away:
                raise self._away_error()
            call = begin()
            self._running.add(call)
            return call

    def _ended(self, call: Any) -> None:
        with self._lock:
            self._running.discard(call)

    def _understood(self, error: grpc.RpcError, name: str) -> JindoError:
        meaning = inward(error, self.address, name)
        return MasterAway(meaning.message) if isinstance(meaning, PeerGone) else meaning

    def _away_error(self) -> JindoError:
        return MasterAway(f"the master is away: {self._cause}")

    def _soon(self) -> Deadline:
        return Deadline.after(CALL_SECONDS_MAX, self._clock)

    # MasterApi

    def mounts(self) -> list[MountInfo]:
        return [mount.info for mount in self._mounts]

    def mount_facts(self) -> list[MountFacts]:
        """The mount table with what drivers are told."""
        return list(self._mounts)

    def root(self) -> Node:
        return self.node(ROOT_INODE)

    def node(self, inode: Inode) -> Node:
        return convert.node_in(self._ask(self._stub.GetNode, pb.InodeRequest(inode=inode), "GetNode", self._soon()))

    def lookup(self, parent: Inode, name: bytes, *, deadline: Deadline) -> Answer:
        request = pb.LookupRequest(parent=parent, name=name)
        return convert.answer_in(self._ask(self._stub.Lookup, request, "Lookup", deadline))

    def read_dir(self, inode: Inode, *, deadline: Deadline, refresh: bool = False) -> Iterator[DirPage]:
        request = pb.ReadDirRequest(inode=inode, refresh=refresh)
        for page in self._stream_of(self._stub.ReadDir, request, "ReadDir", deadline):
            yield convert.page_in(page)

    def resolve(self, path: bytes, *, deadline: Deadline) -> Node:
        return convert.node_in(self._ask(self._stub.Resolve, pb.ResolveRequest(path=path), "Resolve", deadline))

    def object_key(self, inode: Inode) -> tuple[MountInfo, bytes]:
        reply = self._ask(self._stub.ObjectKey, pb.InodeRequest(inode=inode), "ObjectKey", self._soon())
        return convert.mount_in(reply.mount).info, reply.key

    def read_link(self, inode: Inode, *, deadline: Deadline) -> bytes:
        target: bytes = self._ask(self._stub.ReadLink, pb.InodeRequest(inode=inode), "ReadLink", deadline).target
        return target

    def revalidate(self, inode: Inode, *, deadline: Deadline) -> Answer:
        return convert.answer_in(self._ask(self._stub.Revalidate, pb.InodeRequest(inode=inode), "Revalidate", deadline))

    def note_crc64(self, inode: Inode, version: int, crc64: int) -> None:
        self.note_crc64s([(inode, version, crc64)])

    def note_crc64s(self, told: Sequence[tuple[Inode, int, int]]) -> None:
        message = pb.Checksums(
            told=[pb.Checksum(inode=inode, version=version, crc64=crc64) for inode, version, crc64 in told]
        )
        self._ask(self._stub.NoteChecksums, message, "NoteChecksums", self._soon())

    def sync_tree(
        self, inode: Inode, *, deadline: Deadline, progress: SyncProgress | None = None, refresh: bool = True
    ) -> TreeCount:
        request = pb.SyncTreeRequest(inode=inode, refresh=refresh)
        for reply in self._stream_of(self._stub.SyncTree, request, "SyncTree", deadline):
            if reply.HasField("total"):
                return convert.count_in(reply.total)
            if progress is not None:
                progress.listed(reply.directories, reply.entries)
        raise BadFrame(f"{self.address}: SyncTree: the answer ended without its sums")

    def walk(self, inode: Inode) -> Iterator[tuple[bytes, Node]]:
        pages = self._stream_of(self._stub.Walk, pb.InodeRequest(inode=inode), "Walk", Deadline.never())
        for page in pages:
            for entry in page.entries:
                yield entry.path, convert.node_in(entry.node)

    def count(self, inode: Inode) -> TreeCount:
        return convert.count_in(self._ask(self._stub.Count, pb.InodeRequest(inode=inode), "Count", self._soon()))

    def skipped(self, limit: int = 1000) -> list[SkippedKey]:
        reply = self._ask(self._stub.Skipped, pb.SkippedRequest(limit=limit), "Skipped", self._soon())
        return [SkippedKey(MountId(one.mount), one.key, one.reason) for one in reply.keys]

    def pins(self) -> list[tuple[MountId, bytes]]:
        reply = self._ask(self._stub.Pins, pb.Nothing(), "Pins", self._soon())
        return [(MountId(pin.mount), pin.path) for pin in reply.pins]

    def set_pin(self, mount: MountId, path: bytes, pinned: bool) -> None:
        request = pb.SetPinRequest(pin=pb.Pin(mount=mount, path=path), pinned=pinned)
        self._ask(self._stub.SetPin, request, "SetPin", self._soon())

    # The cluster

    def ticket(self, deadline: Deadline) -> tuple[bytes, float]:
        """A ticket for the data plane and for how many seconds it is good."""
        reply = self._ask(self._stub.Ticket, pb.Nothing(), "Ticket", deadline)
        return reply.ticket, reply.lifetime_seconds

    def report(self) -> Report:
        """Who is there and how much is cached, as the master knows."""
        reply = self._ask(self._stub.Report, pb.Nothing(), "Report", self._soon())
        return Report(
            reply.epoch,
            reply.cluster,
            reply.version,
            [convert.mount_in(mount) for mount in reply.mounts],
            [convert.worker_in(worker) for worker in reply.workers],
            reply.clients,
        )


def _seconds(deadline: Deadline) -> float | None:
    left = deadline.remaining()
    return None if left == float("inf") else left
