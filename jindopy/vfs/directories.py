"""Directory streams from the master into the inode table, and lookups that need one.

Flow     A name the table cannot answer starts a *loading* of its directory: the master's stream is poured into the
         table page by page.  The lookup is answered as soon as the page with its name has passed; if that takes longer
         than JOIN_SECONDS the master is asked for the one name (a HEAD), while the loading goes on for the others.
Bounds   One loading per directory, LOADERS at a time; a directory is believed for as long as the master said.  The
         table is trimmed after each page; a directory on its way is *held*, or its listing would end with holes.
Locks    ``_lock`` guards the map of loadings; each loading has a condition for those who wait on it.  Neither is held
         while the master is asked.
Failure  The error of a failed loading reaches those who waited for it; what the table knew before stays as it was.
         While the master is away nothing expires: names and absences that are known are answered from the table, for
         the others the master is waited for as long as the request may take.

What the kernel may have cached is taken back through a ``KernelNotifier`` when a directory is loaded because the master
said that it changed.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, final

from jindopy._ext.inodes import NEGATIVE, InodeTable, NodeAttr
from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import DeadlineExceeded, JindoError, MasterAway, NameTooLong, NoSuchEntry, NotADirectory
from jindopy.base.ident import ROOT_INODE, Inode, Kind, NodeId
from jindopy.namespace.api import DirPage, MasterApi, Node
from jindopy.vfs.nodekeeper import NodeKeeper
from jindopy.vfs.notifier import KernelNotifier, SilentNotifier

LOG = logging.getLogger("jindopy.vfs")

LOADERS: Final = 8
"""Directory streams at a time: what a walk by several processes needs; each costs one thread and one connection."""
JOIN_SECONDS: Final = 0.2
"""How long a lookup waits for a running listing before it asks for its one name."""
TTL_SECONDS_MIN: Final = 1.0
"""Even an answer that is no longer fresh is used once by the request that asked for it."""
NAME_BYTES_MAX: Final = 255
"""As every Linux file system has it; the kernel itself lets FUSE names grow to 1024."""
FOREVER_NS: Final = 1 << 62
"""Expiry of what never expires; CLOCK_MONOTONIC needs 146 years to get there."""
LOAD_SECONDS_MAX: Final = 1800.0
"""Deadline of one directory stream: ten million keys at 5,000 a second."""


@final
class _Loading:
    """One directory stream on its way into the table."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.pages = 0
        self.done = False
        self.error: JindoError | None = None


def expiry_ns(clock: Clock, ttl_seconds: float) -> int:
    """Table expiry of an answer that may be believed for ``ttl_seconds`` from now."""
    if ttl_seconds == float("inf"):
        return FOREVER_NS
    return int((clock.monotonic() + max(ttl_seconds, TTL_SECONDS_MIN)) * 1e9)


@final
class Directories:
    """Answers lookups and listings from the table, loading directories when it must."""

    def __init__(self, table: InodeTable, master: MasterApi, keeper: NodeKeeper, clock: Clock = REAL_CLOCK) -> None:
        self._table = table
        self._keeper = keeper
        self._master = master
        self._clock = clock
        self._notifier: KernelNotifier = SilentNotifier()
        self._lock = threading.Lock()
        self._loadings: dict[NodeId, _Loading] = {}
        self._changed: set[NodeId] = set()
        self._pool = ThreadPoolExecutor(LOADERS, thread_name_prefix="dir")
        master.subscribe(self)

    def notify_through(self, notifier: KernelNotifier) -> None:
        """Have the kernel's cached names taken back by ``notifier``."""
        self._notifier = notifier

    def now_ns(self) -> int:
        """The table's time."""
        return int(self._clock.monotonic() * 1e9)

    def _believing_ns(self) -> int:
        """The time by which answers have expired: none has while nobody could give a newer one."""
        return 0 if self._master.away else self.now_ns()

    def lookup_known(self, parent: NodeId, name: bytes) -> NodeAttr | None:
        """Answer from the table, counting the lookup; None: unknown, ``lookup`` must be asked.

        Raises NoSuchEntry when a fresh, complete listing has no such name, NameTooLong.
        """
        if len(name) > NAME_BYTES_MAX:
            raise NameTooLong("file name too long")
        answer = self._table.lookup(parent, name, self._believing_ns(), True)
        if isinstance(answer, NodeAttr):
            return answer
        if answer == NEGATIVE:
            raise NoSuchEntry("no such file or directory")
        return None

    def lookup(self, parent: NodeId, name: bytes, deadline: Deadline) -> NodeAttr:
        """The entry, counted; raises NoSuchEntry, NotADirectory, UfsError, DeadlineExceeded."""
        while True:
            known = self.lookup_known(parent, name)
            if known is not None:
                return known
            try:
                return self._lookup_loading(parent, name, deadline)
            except MasterAway:
                # What is known is asked for once more: now it does not expire.
                if self._master.away and (known := self.lookup_known(parent, name)) is not None:
                    return known
                if not self._master.wait_back(deadline) or deadline.passed:
                    raise

    def _lookup_loading(self, parent: NodeId, name: bytes, deadline: Deadline) -> NodeAttr:
        loading = self._load(parent)
        give_up = Deadline.after(deadline.bounded(JOIN_SECONDS), self._clock)
        while True:
            with loading.condition:
                seen = loading.pages
                done, error = loading.done, loading.error
            if error is not None:
                raise error
            known = self.lookup_known(parent, name)
            if known is not None:
                return known
            if done:
                break  # loaded, but already expired or the name's own answer is missing: ask for it
            with loading.condition:
                waiting = loading.pages == seen and not loading.done
                if waiting and not loading.condition.wait(give_up.remaining()):
                    break
            if give_up.passed:
                break
        return self._ask(parent, name, deadline)

    def _ask(self, parent: NodeId, name: bytes, deadline: Deadline) -> NodeAttr:
        """Have the master answer for one name."""
        answer = self._master.lookup(self._inode(parent), name, deadline=deadline)
        if answer.node is None:
            raise NoSuchEntry("no such file or directory")
        with self._held(parent):
            self._put(parent, answer.node, expiry_ns(self._clock, answer.ttl_seconds))
            known = self._table.lookup(parent, name, 0, True)  # time 0: nothing has expired
        self._keeper.grown()
        if not isinstance(known, NodeAttr):
            raise NoSuchEntry("no such file or directory")
        return known

    @contextlib.contextmanager
    def _held(self, directory: NodeId) -> Iterator[None]:
        """Nothing of the directory is trimmed meanwhile; raises NoSuchEntry when it is gone."""
        try:
            self._table.hold(directory)
        except KeyError:
            raise NoSuchEntry("no such directory") from None
        try:
            yield
        finally:
            self._table.unhold(directory)

    def ensure(self, directory: NodeId, deadline: Deadline) -> None:
        """Return once a fresh and complete listing is in the table."""
        while True:
            _, expires_ns, complete = self._table.dir_state(directory)
            if complete and expires_ns > self._believing_ns():
                return
            try:
                self._ensure_loading(directory, deadline)
            except MasterAway:
                if not (complete and self._master.away) and (not self._master.wait_back(deadline) or deadline.passed):
                    raise
            else:
                return

    def _ensure_loading(self, directory: NodeId, deadline: Deadline) -> None:
        loading = self._load(directory)
        with loading.condition:
            remaining = deadline.remaining()
            if not loading.condition.wait_for(lambda: loading.done, None if remaining == float("inf") else remaining):
                raise DeadlineExceeded("listing a directory: no answer in time")
        if loading.error is not None:
            raise loading.error

    def directory_changed(self, directory: Inode, generation: int) -> None:
        """The master says that children changed: load anew and tell the kernel what differs."""
        for number in self._table.directories_of(directory):
            nodeid = NodeId(number)
            try:
                known_generation, _, _ = self._table.dir_state(nodeid)
                # 0: never listed.  One that was trimmed since is no longer complete, but the kernel may know names.
                if not 0 < known_generation < generation:
                    continue
                self._table.expire_dir(nodeid)
            except KeyError:
                continue
            with self._lock:
                self._changed.add(nodeid)
            self._load(nodeid)

    def everything_changed(self) -> None:
        """News were missed: whatever is asked for next is asked of the master again, and the kernel told what differs.

        A walk over the table, which takes a second for a million names, so another thread makes it.
        """
        with contextlib.suppress(RuntimeError):  # closed meanwhile
            self._pool.submit(self._expire_all)

    def _expire_all(self) -> None:
        left = [NodeId(ROOT_INODE)]
        while left:
            directory = left.pop()
            try:
                if self._table.dir_state(directory)[0]:
                    self._table.expire_dir(directory)
                    with self._lock:
                        self._changed.add(directory)
                for child in self._table.children(directory):
                    with contextlib.suppress(KeyError):
                        if self._table.attr(child).kind == Kind.DIRECTORY:
                            left.append(NodeId(child))
            except KeyError:
                continue

    def _load(self, directory: NodeId) -> _Loading:
        with self._lock:
            loading = self._loadings.get(directory)
            if loading is None:
                loading = self._loadings[directory] = _Loading()
                self._pool.submit(self._run, directory, loading)
            return loading

    def _run(self, directory: NodeId, loading: _Loading) -> None:
        error: JindoError | None = None
        with self._lock:
            compare = directory in self._changed
            self._changed.discard(directory)
        try:
            with self._held(directory):
                self._pour(directory, loading, compare)
            self._keeper.grown()
        except JindoError as problem:
            error = problem
        except KeyError:
            error = NoSuchEntry("the directory vanished while it was listed")
        except Exception as problem:
            # A bug must not leave lookups waiting for ever: they get EIO, the log gets the trace.
            LOG.exception("loading directory %d failed unexpectedly", directory)
            error = JindoError(f"internal error while listing: {problem!r}")
        with self._lock:
            del self._loadings[directory]
        with loading.condition:
            loading.error = error
            loading.done = True
            loading.condition.notify_all()

    def _pour(self, directory: NodeId, loading: _Loading, compare: bool) -> None:
        inode = self._inode(directory)
        deadline = Deadline.after(LOAD_SECONDS_MAX, self._clock)
        self._table.begin_dir(directory)
        for page in self._master.read_dir(inode, deadline=deadline):
            expires_ns = expiry_ns(self._clock, page.ttl_seconds)
            for node in page.nodes:
                if compare:
                    self._put_comparing(directory, node, expires_ns)
                else:
                    self._put(directory, node, expires_ns)
            if page.last:
                self._finish(directory, page, expires_ns, compare)
            self._keeper.grown()
            with loading.condition:
                loading.pages += 1
                loading.condition.notify_all()

    def _finish(self, directory: NodeId, page: DirPage, expires_ns: int, compare: bool) -> None:
        for nodeid in self._table.set_dir(directory, page.generation, expires_ns, True):
            if compare:
                try:
                    name = self._table.name(nodeid)
                except KeyError:
                    continue  # the kernel does not hold it: nothing to take back
                self._notifier.entry_changed(directory, name)

    def _put_comparing(self, directory: NodeId, node: Node, expires_ns: int) -> None:
        before = self._table.lookup(directory, node.name, 0, False)
        after = self._put(directory, node, expires_ns)
        if not isinstance(before, NodeAttr) or before.nodeid != after:
            self._notifier.entry_changed(directory, node.name)

    def _put(self, directory: NodeId, node: Node, expires_ns: int) -> int:
        return self._table.put(
            directory,
            node.name,
            node.inode,
            node.version,
            node.kind,
            node.perm,
            node.uid,
            node.gid,
            node.nlink,
            node.size,
            node.mtime_ns,
            node.mount,
            node.token,
            expires_ns,
        )

    def _inode(self, directory: NodeId) -> Inode:
        try:
            attr = self._table.attr(directory)
        except KeyError:
            raise NoSuchEntry("no such directory") from None
        if attr.kind != Kind.DIRECTORY:
            raise NotADirectory("not a directory")
        return Inode(attr.inode)

    def close(self) -> None:
        """Let running listings end, start no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
