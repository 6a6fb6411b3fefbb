"""The master's side of the control plane: check, call the namespace, answer.

Flow     Each call is one method on a thread of the server.  News (invalidations, members) go to the ``NewsDesk``, which
         gives each watcher its own queue; a watcher's thread empties it and says that the master lives when there is
         nothing to say.
Bounds   Watchers take a thread each; one that does not read its news has its stream ended once NEWS_MAX wait, and hears
         everything again when it comes back.
Locks    ``_lock`` of the desk and of the roll (``master/roll.py``), never held across a call of the namespace.
Failure  ``rpc.serving`` translates errors.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol, final

import grpc

from jindopy import __version__
from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import JindoError, UsageError
from jindopy.base.ident import CID_BYTES, Cid, Inode, MountId
from jindopy.cluster.membership import HEARTBEAT_SECONDS
from jindopy.dataplane.ticket import LIFETIME_SECONDS
from jindopy.master.roll import Roll
from jindopy.namespace.api import MasterApi
from jindopy.rpc import convert
from jindopy.rpc.convert import MountFacts
from jindopy.rpc.serving import answering, streaming
from jindopy.rpc.v1.gen import master_pb2 as pb
from jindopy.rpc.v1.gen.master_pb2_grpc import MasterServicer

LOG = logging.getLogger("jindopy.master")

TICK_SECONDS: Final = 2.0
NEWS_MAX: Final = 10_000
CALL_SECONDS_MAX: Final = 1800.0
"""For callers who name no deadline: as long as one directory may take."""
WALK_PAGE: Final = 500
"""About 100 kB a message."""
LOCATIONS_MAX: Final = 4096


class Keys(Protocol):
    """What the service needs to know of the cluster's identity (``master/identity.py``)."""

    cluster: str
    epoch: int

    def ticket(self, owners: Sequence[int], now_seconds: float) -> bytes: ...
    def secrets(self) -> dict[str, bytes]: ...


@final
class NewsDesk:
    """Numbers news and hands them to every watcher."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._lock = threading.Lock()
        self._number = 0
        self._watchers: dict[int, queue.Queue[pb.Event | None]] = {}
        self._next = 0

    def tell(self, **kind: Any) -> None:
        """News for everyone who watches; never blocks."""
        with self._lock:
            self._number += 1
            event = pb.Event(epoch=self._epoch, number=self._number, **kind)
            for number, waiting in list(self._watchers.items()):
                try:
                    waiting.put_nowait(event)
                except queue.Full:
                    del self._watchers[number]
                    waiting.get_nowait()
                    waiting.put_nowait(None)

    def tick(self) -> pb.Event:
        """The master lives."""
        return pb.Event(epoch=self._epoch, number=self._number, tick=pb.Nothing())

    def watch(self, welcome: Callable[[], pb.Welcome]) -> tuple[int, queue.Queue[pb.Event | None], pb.Event]:
        """From now on; the Welcome holds all that was told before."""
        with self._lock:
            self._next += 1
            waiting: queue.Queue[pb.Event | None] = queue.Queue(NEWS_MAX)
            self._watchers[self._next] = waiting
            return self._next, waiting, pb.Event(epoch=self._epoch, number=self._number, welcome=welcome())

    def leave(self, number: int) -> None:
        """No more for this one."""
        with self._lock:
            self._watchers.pop(number, None)

    def __len__(self) -> int:
        return len(self._watchers)

    def close(self) -> None:
        """End all streams."""
        with self._lock:
            for waiting in self._watchers.values():
                waiting.queue.clear()
                waiting.put_nowait(None)
            self._watchers.clear()

    # The namespace's listener

    def directory_changed(self, directory: Inode, generation: int) -> None:
        """Children changed."""
        self.tell(invalidation=pb.Invalidation(directory=directory, generation=generation))

    def everything_changed(self) -> None:
        """Only a remote namespace says this; here news are never missed."""


@final
class _Progress:
    """Turns what a tree listing tells from many threads into messages."""

    def __init__(self) -> None:
        self.messages: queue.Queue[pb.SyncTreeReply | JindoError] = queue.Queue()

    def listed(self, directories: int, entries: int) -> None:
        self.messages.put(pb.SyncTreeReply(directories=directories, entries=entries))


@final
class MasterService(MasterServicer):
    """See the module."""

    def __init__(
        self,
        api: MasterApi,
        mounts: Callable[[], list[MountFacts]],
        keys: Keys,
        roll: Roll,
        desk: NewsDesk,
        owners: Callable[[], list[int]],
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._api = api
        self._mounts = mounts
        self._keys = keys
        self._roll = roll
        self._desk = desk
        self._owners = owners
        self._clock = clock
        api.subscribe(desk)

    def _deadline(self, context: grpc.ServicerContext) -> Deadline:
        left = context.time_remaining()
        return Deadline.after(CALL_SECONDS_MAX if left is None else min(left, CALL_SECONDS_MAX), self._clock)

    # News

    @streaming
    def Watch(self, request: pb.WatchRequest, context: grpc.ServicerContext) -> Iterator[pb.Event]:
        number, waiting, first = self._desk.watch(self._welcome)
        context.add_callback(lambda: self._desk.leave(number))
        LOG.info("a client watches: %s", request.client[:100])
        try:
            yield first
            while context.is_active():
                try:
                    event = waiting.get(timeout=TICK_SECONDS)
                except queue.Empty:
                    event = self._desk.tick()
                if event is None:
                    return
                yield event
        finally:
            self._desk.leave(number)

    def _welcome(self) -> pb.Welcome:
        return pb.Welcome(
            cluster=self._keys.cluster,
            version=__version__,
            mounts=map(convert.mount_out, self._mounts()),
            members=self._roll.members(),
        )

    # The namespace

    @answering
    def GetNode(self, request: pb.InodeRequest, context: grpc.ServicerContext) -> pb.Node:
        return convert.node_out(self._api.node(_inode(request.inode)))

    @answering
    def Lookup(self, request: pb.LookupRequest, context: grpc.ServicerContext) -> pb.Answer:
        answer = self._api.lookup(_inode(request.parent), request.name, deadline=self._deadline(context))
        return convert.answer_out(answer)

    @streaming
    def ReadDir(self, request: pb.ReadDirRequest, context: grpc.ServicerContext) -> Iterator[pb.DirPage]:
        pages = self._api.read_dir(_inode(request.inode), deadline=self._deadline(context), refresh=request.refresh)
        for page in pages:
            yield convert.page_out(page)

    @answering
    def Resolve(self, request: pb.ResolveRequest, context: grpc.ServicerContext) -> pb.Node:
        return convert.node_out(self._api.resolve(request.path, deadline=self._deadline(context)))

    @answering
    def ObjectKey(self, request: pb.InodeRequest, context: grpc.ServicerContext) -> pb.ObjectKeyReply:
        info, key = self._api.object_key(_inode(request.inode))
        return pb.ObjectKeyReply(mount=convert.mount_out(MountFacts(info, {})), key=key)

    @answering
    def ReadLink(self, request: pb.InodeRequest, context: grpc.ServicerContext) -> pb.ReadLinkReply:
        target = self._api.read_link(_inode(request.inode), deadline=self._deadline(context))
        return pb.ReadLinkReply(target=target)

    @answering
    def Revalidate(self, request: pb.InodeRequest, context: grpc.ServicerContext) -> pb.Answer:
        answer = self._api.revalidate(_inode(request.inode), deadline=self._deadline(context))
        return convert.answer_out(answer)

    @answering
    def NoteChecksums(self, request: pb.Checksums, context: grpc.ServicerContext) -> pb.Nothing:
        self._api.note_crc64s([(_inode(one.inode), one.version, one.crc64) for one in request.told])
        return pb.Nothing()

    @streaming
    def SyncTree(self, request: pb.SyncTreeRequest, context: grpc.ServicerContext) -> Iterator[pb.SyncTreeReply]:
        progress = _Progress()
        inode, deadline = _inode(request.inode), self._deadline(context)

        def run() -> None:
            try:
                total = self._api.sync_tree(inode, deadline=deadline, progress=progress, refresh=request.refresh)
                progress.messages.put(pb.SyncTreeReply(total=convert.count_out(total)))
            except JindoError as error:
                progress.messages.put(error)
            except Exception as error:
                LOG.exception("listing a tree failed unexpectedly")
                progress.messages.put(JindoError(f"internal error of the master: {type(error).__name__}"))

        threading.Thread(target=run, name="sync-tree", daemon=True).start()
        while True:
            message = progress.messages.get()
            if isinstance(message, JindoError):
                raise message
            yield message
            if message.HasField("total"):
                return

    @streaming
    def Walk(self, request: pb.InodeRequest, context: grpc.ServicerContext) -> Iterator[pb.WalkPage]:
        page = pb.WalkPage()
        for path, node in self._api.walk(_inode(request.inode)):
            page.entries.append(pb.WalkEntry(path=path, node=convert.node_out(node)))
            if len(page.entries) >= WALK_PAGE:
                yield page
                page = pb.WalkPage()
        yield page

    @answering
    def Count(self, request: pb.InodeRequest, context: grpc.ServicerContext) -> pb.TreeCount:
        return convert.count_out(self._api.count(_inode(request.inode)))

    @answering
    def Skipped(self, request: pb.SkippedRequest, context: grpc.ServicerContext) -> pb.SkippedReply:
        keys = self._api.skipped(min(request.limit, WALK_PAGE * 20))
        return pb.SkippedReply(keys=[pb.SkippedKey(mount=one.mount, key=one.key, reason=one.reason) for one in keys])

    @answering
    def Pins(self, request: pb.Nothing, context: grpc.ServicerContext) -> pb.PinsReply:
        return pb.PinsReply(pins=[pb.Pin(mount=mount, path=path) for mount, path in self._api.pins()])

    @answering
    def SetPin(self, request: pb.SetPinRequest, context: grpc.ServicerContext) -> pb.Nothing:
        self._api.set_pin(MountId(request.pin.mount), request.pin.path, request.pinned)
        return pb.Nothing()

    # The cluster

    @answering
    def Ticket(self, request: pb.Nothing, context: grpc.ServicerContext) -> pb.TicketReply:
        signed = self._keys.ticket(self._owners(), self._clock.wall_ns() / 1e9)
        return pb.TicketReply(ticket=signed, lifetime_seconds=LIFETIME_SECONDS)

    @answering
    def Heartbeat(self, request: pb.HeartbeatRequest, context: grpc.ServicerContext) -> pb.HeartbeatReply:
        facts = convert.worker_in(request.worker)
        resend = self._roll.heartbeat(
            facts,
            convert.held_in(request.added),
            convert.held_in(request.removed),
            everything=request.all,
            in_step=request.epoch == self._keys.epoch,
        )
        return pb.HeartbeatReply(
            epoch=self._keys.epoch,
            cluster=self._keys.cluster,
            interval_seconds=HEARTBEAT_SECONDS,
            mounts=map(convert.mount_out, self._mounts()),
            keys=[pb.TicketKey(id=name, secret=secret) for name, secret in self._keys.secrets().items()],
            resend=resend,
        )

    @answering
    def Leave(self, request: pb.LeaveRequest, context: grpc.ServicerContext) -> pb.Nothing:
        self._roll.leave(request.id)
        return pb.Nothing()

    @answering
    def Report(self, request: pb.Nothing, context: grpc.ServicerContext) -> pb.ReportReply:
        return pb.ReportReply(
            epoch=self._keys.epoch,
            cluster=self._keys.cluster,
            version=__version__,
            mounts=map(convert.mount_out, self._mounts()),
            workers=self._roll.members().workers,
            clients=len(self._desk),
        )

    @answering
    def Locations(self, request: pb.LocationsRequest, context: grpc.ServicerContext) -> pb.LocationsReply:
        if len(request.cid) != CID_BYTES or len(request.extents) > LOCATIONS_MAX:
            raise UsageError(f"locations are told of one cid ({CID_BYTES} bytes) and {LOCATIONS_MAX} extents at most")
        return pb.LocationsReply(
            locations=[
                pb.Location(extent=extent, placed=placed, cached=cached)
                for extent, placed, cached in self._roll.locations(Cid(request.cid), list(request.extents))
            ]
        )


def _inode(number: int) -> Inode:
    if not 0 < number <= convert.INODE_MAX:
        raise UsageError(f"{number} is no inode")
    return Inode(number)
