"""One name at a time: lookups without a listing, and second looks at a version that changed under its reader.

A lookup is answered, in this order, by: the mount table; a fresh complete listing, which alone can say for some time
that a name does not exist; a fresh earlier probe; the running listing, once it has passed the name; the UFS.  Asking
the UFS is a HEAD, and if there is no object, or an empty one (some tools mark directories so), a listing of one key
below ``name/``: a directory wins over a file of its name.  For a name known as a directory the order is turned round.
A file that is not empty and hides a directory so is found out by the next listing only: a second request for every
file would cost all for the sake of few.

What the UFS says is recorded, unless a listing changed the row while the answer was under way: that one is as young.

Threads: callers' own.  Callers that want one name at the same time share one request.  No lock is held across it.
"""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Final, NamedTuple, final

from jindopy.base.clock import Deadline
from jindopy.base.errors import JindoError, NoSuchEntry, NotADirectory, ObjectNotFound
from jindopy.base.ident import Inode, Kind
from jindopy.namespace.api import Answer, Node
from jindopy.namespace.diff import EntryTuple
from jindopy.namespace.keys import name_fault
from jindopy.namespace.mounts import Mounted
from jindopy.namespace.sqlite_rows import Row
from jindopy.namespace.sqlite_write import Transaction
from jindopy.namespace.sync import Lister, seconds_left

JOIN_SECONDS: Final = 0.2
"""How long a lookup waits for a running listing to pass its name: ten round trips of 20 ms, unnoticed by a person."""

_FOREVER: Final = float("inf")


class Found(NamedTuple):
    """What the UFS has under a name."""

    entry: EntryTuple
    marker_mtime_ns: int | None
    """Of a directory with a marker object."""


@final
class Prober:
    """See the module."""

    def __init__(self, lister: Lister) -> None:
        self._lister = lister
        self._store = lister.store
        self._mounts = lister.mounts
        self._lock = threading.Lock()
        self._flights: dict[tuple[Inode, bytes], Future[Answer]] = {}

    def lookup(self, parent: Inode, name: bytes, deadline: Deadline) -> Answer:
        """See ``MasterApi.lookup``."""
        if name_fault(name) is not None or b"/" in name:
            return Answer(None, _FOREVER)
        directory, row, state = self._store.for_lookup(parent, name)
        if directory is None:
            raise NoSuchEntry(f"no inode {parent}")
        if directory.kind != Kind.DIRECTORY:
            raise NotADirectory(f"inode {parent} is no directory")
        mounted = self._mounts.get(directory.mount)
        if mounted is None or self._mounts.is_anchor(parent, name):
            return Answer(self._node(row), _FOREVER)
        now_ns, ttl_seconds = self._lister.clock.wall_ns(), mounted.info.ttl_seconds
        left = seconds_left(state.listed_ns, ttl_seconds, now_ns)
        if state.complete_gen and left > 0:
            gone = row is None or (row.gone_gen is not None and row.gone_gen <= state.complete_gen)
            return Answer(None if gone else self._node(row), left)
        return (
            self._from_probe(row, ttl_seconds)
            or self._from_listing(parent, name, ttl_seconds, deadline)
            or self._shared(parent, name, mounted, row, deadline)
        )

    def revalidate(self, inode: Inode, deadline: Deadline) -> Answer:
        """See ``MasterApi.revalidate``."""
        row = self._store.row(inode)
        if row is None:
            return Answer(None, 0.0)
        parent, name = Inode(row.node[1]), row.node[2]
        mounted = self._mounts.get(row.mount)
        if mounted is None or mounted.root == inode or self._mounts.is_anchor(parent, name):
            return Answer(self._node(row), _FOREVER)
        return self._ask_and_record(parent, name, mounted, row, deadline)

    def _node(self, row: Row | None) -> Node | None:
        return None if row is None else self._mounts.nodes([row.node])[0]

    def _from_probe(self, row: Row | None, ttl_seconds: float) -> Answer | None:
        """What an earlier probe found, while that is fresh."""
        if row is None or row.checked_ns is None or row.gone_gen is not None:
            return None
        left = seconds_left(row.checked_ns, ttl_seconds, self._lister.clock.wall_ns())
        return Answer(self._node(row), left) if left > 0 else None

    def _from_listing(self, parent: Inode, name: bytes, ttl_seconds: float, deadline: Deadline) -> Answer | None:
        listing = self._lister.running(parent)
        if listing is None:
            return None
        # A listing that fails is no reason not to ask for this one name.
        with contextlib.suppress(JindoError):
            if listing.wait(lambda: listing.decided(name), deadline.bounded(JOIN_SECONDS)):
                row = self._store.child(parent, name)
                left = seconds_left(listing.since_ns, ttl_seconds, self._lister.clock.wall_ns())
                if row is not None and row.visible(listing.generation):
                    return Answer(self._node(row), left)
                return Answer(None, left if listing.finished else 0.0)
        return None

    def _shared(self, parent: Inode, name: bytes, mounted: Mounted, row: Row | None, deadline: Deadline) -> Answer:
        """Ask, or wait for whoever is asking already."""
        with self._lock:
            flight = self._flights.get((parent, name))
            mine = flight is None
            if flight is None:
                flight = self._flights[parent, name] = Future()
        if not mine:
            with contextlib.suppress(FutureTimeout, JindoError):
                return flight.result(deadline.bounded(3600.0))
            # Its deadline was another: with time left, ask for oneself.
            deadline.check("looking up a name")
            return self._ask_and_record(parent, name, mounted, row, deadline)
        try:
            # Another's flight may have landed since this caller looked.
            row = self._store.child(parent, name)
            answer = self._from_probe(row, mounted.info.ttl_seconds) or self._ask_and_record(
                parent, name, mounted, row, deadline
            )
        except BaseException as error:
            flight.set_exception(error)
            raise
        else:
            flight.set_result(answer)
            return answer
        finally:
            with self._lock:
                del self._flights[parent, name]

    def _ask_and_record(
        self, parent: Inode, name: bytes, mounted: Mounted, seen: Row | None, deadline: Deadline
    ) -> Answer:
        key = self._mounts.directory_key(parent) + name
        asked_ns = self._lister.clock.wall_ns()
        found = _ask(mounted, key, name, seen is not None and seen.kind == Kind.DIRECTORY, deadline)
        listing = self._lister.running(parent)
        generation = 0 if listing is None else listing.generation
        told = None
        with self._store.write() as tx:
            directory, row = tx.row(parent), tx.child(parent, name)
            if directory is None:
                raise NoSuchEntry(f"inode {parent} is gone")
            if not _same(row, seen):
                return self._answer(row, mounted, asked_ns)
            generation = generation or tx.draw_generation()
            changed = _record(tx, directory, name, found, row, generation)
            if found is not None:
                row = tx.child(parent, name)
                assert row is not None
                tx.set_checked(row.inode, asked_ns)
            else:
                row = None
            if changed:
                told = generation
        if told is not None:
            self._lister.changed(parent, told)
            self._lister.purge_soon()
        return self._answer(row, mounted, asked_ns)

    def _answer(self, row: Row | None, mounted: Mounted, asked_ns: int) -> Answer:
        if row is None:
            return Answer(None, 0.0)
        return Answer(self._node(row), seconds_left(asked_ns, mounted.info.ttl_seconds, self._lister.clock.wall_ns()))


def _same(row: Row | None, seen: Row | None) -> bool:
    if row is None or seen is None:
        return row is seen
    return row.inode == seen.inode and row.version == seen.version


def _ask(mounted: Mounted, key: bytes, name: bytes, directory_first: bool, deadline: Deadline) -> Found | None:
    if directory_first:
        return _ask_directory(mounted, key, name, deadline) or _ask_object(mounted, key, name, deadline)
    found = _ask_object(mounted, key, name, deadline)
    if found is None or (found.entry[1] == Kind.FILE and found.entry[2] == 0):
        return _ask_directory(mounted, key, name, deadline) or found
    return found


def _ask_object(mounted: Mounted, key: bytes, name: bytes, deadline: Deadline) -> Found | None:
    try:
        stat = mounted.driver.stat(key, deadline=deadline)
    except ObjectNotFound:
        return None
    if stat.kind is Kind.DIRECTORY:
        return Found(_directory_entry(name), stat.mtime_ns)
    return Found((name, int(stat.kind), stat.size, stat.mtime_ns, stat.token, stat.crc64), None)


def _ask_directory(mounted: Mounted, key: bytes, name: bytes, deadline: Deadline) -> Found | None:
    prefix = key + b"/"
    page = mounted.driver.list_page(prefix, delimiter=True, limit=1, deadline=deadline)
    marker = next((stat.mtime_ns for stat in page.objects if stat.key == prefix), None)
    if page.objects or page.prefixes:
        return Found(_directory_entry(name), marker)
    return None


def _directory_entry(name: bytes) -> EntryTuple:
    return (name, int(Kind.DIRECTORY), 0, 0, b"", None)


def _record(
    tx: Transaction, directory: Row, name: bytes, found: Found | None, row: Row | None, generation: int
) -> bool:
    """Write down what the UFS says; whether something answered earlier is no longer true."""
    parent, mount = directory.inode, directory.mount
    if found is None:
        if row is not None:
            tx.drop([row.inode])
        return row is not None
    entry = found.entry
    if row is not None and row.kind != entry[1]:
        tx.drop([row.inode])
    if row is None or row.kind != entry[1]:
        if entry[1] == Kind.DIRECTORY:
            inode = tx.insert_directory(parent, name, mount, generation)
            if found.marker_mtime_ns is not None:
                tx.set_mtime(inode, found.marker_mtime_ns)
        else:
            tx.insert_file(parent, mount, entry, generation)
        return True
    if entry[1] == Kind.DIRECTORY:
        if found.marker_mtime_ns is not None and found.marker_mtime_ns != row.node[10]:
            tx.set_mtime(row.inode, found.marker_mtime_ns)
        return False
    renewed = entry[4] != row.node[12] or entry[2] != row.node[9]
    if renewed or entry[3] != row.node[10] or entry[5] is not None:
        tx.update_files([(row.inode, entry, renewed)])
    return renewed
