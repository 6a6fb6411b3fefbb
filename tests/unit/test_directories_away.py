"""While the master is away nothing that is known expires, and what is not known waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from jindopy._ext.inodes import InodeTable
from jindopy.base.clock import Deadline, SimulatedClock
from jindopy.base.errors import MasterAway, NoSuchEntry
from jindopy.base.ident import Inode, Kind, MountId, NodeId
from jindopy.namespace.api import Answer, DirPage, Node
from jindopy.vfs.directories import Directories
from jindopy.vfs.nodekeeper import NodeKeeper

ROOT = NodeId(1)


def node(number: int, name: bytes, kind: Kind = Kind.FILE, parent: int = 1) -> Node:
    return Node(Inode(number), Inode(parent), name, MountId(1), kind, 0o644, 0, 0, 1, 5, 0, 1, b"t", None)


class Master:
    """A namespace of one directory that can go away."""

    def __init__(self) -> None:
        self.away = False
        self.nodes = [node(2, b"a"), node(3, b"d", Kind.DIRECTORY)]
        self.asked = 0
        self.waited = threading.Event()
        self._back = threading.Event()

    def wait_back(self, deadline: Deadline) -> bool:
        self.waited.set()
        return not self.away or self._back.wait(min(deadline.remaining(), 10))

    def leave(self) -> None:
        self.away = True
        self._back.clear()

    def come_back(self) -> None:
        self.away = False
        self._back.set()

    def subscribe(self, listener: object) -> None: ...

    def read_dir(self, inode: Inode, *, deadline: Deadline, refresh: bool = False) -> Iterator[DirPage]:
        self.asked += 1
        if self.away:
            raise MasterAway("away")
        yield DirPage(self.nodes if inode == 1 else [], True, self.asked, 10.0)

    def lookup(self, parent: Inode, name: bytes, *, deadline: Deadline) -> Answer:
        if self.away:
            raise MasterAway("away")
        return Answer(None, 0.0)


@pytest.fixture
def world() -> Iterator[tuple[Directories, Master, SimulatedClock]]:
    clock, master = SimulatedClock(), Master()
    table = InodeTable(0, 0, 0o755, 0)
    keeper = NodeKeeper(table, lambda: 1 << 30)
    directories = Directories(table, master, keeper, clock)  # type: ignore[arg-type]
    yield directories, master, clock
    master.come_back()
    directories.close()
    keeper.close()


World = tuple[Directories, Master, SimulatedClock]


def test_names_absences_and_listings_outlive_their_time(world: World) -> None:
    directories, master, clock = world
    directories.ensure(ROOT, Deadline.after(5))
    master.leave()
    asked = master.asked
    clock.advance(1000)
    assert directories.lookup(ROOT, b"a", Deadline.after(5)).inode == 2
    with pytest.raises(NoSuchEntry):
        directories.lookup(ROOT, b"none", Deadline.after(5))
    directories.ensure(ROOT, Deadline.after(5))
    assert master.asked == asked, "nobody is asked who is known to be away"
    master.come_back()
    master.nodes.append(node(4, b"none"))
    assert directories.lookup(ROOT, b"none", Deadline.after(5)).inode == 4


def test_going_away_in_the_middle_of_a_listing_is_the_same(world: World) -> None:
    directories, master, clock = world
    directories.ensure(ROOT, Deadline.after(5))
    clock.advance(1000)

    def leaves(inode: Inode, *, deadline: Deadline, refresh: bool = False) -> Iterator[DirPage]:
        yield DirPage(master.nodes[:1], False, 9, 10.0)
        master.leave()
        raise MasterAway("gone in the middle")

    master.read_dir = leaves  # type: ignore[method-assign]
    assert directories.lookup(ROOT, b"d", Deadline.after(5)).inode == 3
    directories.ensure(ROOT, Deadline.after(5))


def test_what_is_not_known_waits_and_is_answered_when_the_master_is_back(world: World) -> None:
    directories, master, _ = world
    directories.ensure(ROOT, Deadline.after(5))
    folder = NodeId(directories.lookup(ROOT, b"d", Deadline.after(5)).nodeid)
    master.leave()
    found: list[object] = []

    def ask() -> None:
        try:
            directories.lookup(folder, b"x", Deadline.after(10))
        except NoSuchEntry as absent:
            found.append(absent)

    thread = threading.Thread(target=ask)
    thread.start()
    assert master.waited.wait(5)
    assert found == []
    master.come_back()
    thread.join(10)
    assert len(found) == 1


def test_what_is_not_known_ends_with_its_deadline(world: World) -> None:
    directories, master, _ = world
    directories.ensure(ROOT, Deadline.after(5))
    folder = NodeId(directories.lookup(ROOT, b"d", Deadline.after(5)).nodeid)
    master.leave()
    with pytest.raises(MasterAway):
        directories.lookup(folder, b"x", Deadline.after(0.2))
    with pytest.raises(MasterAway):
        directories.ensure(folder, Deadline.after(0.2))


def test_after_missed_news_everything_is_asked_again(world: World) -> None:
    directories, master, _ = world
    directories.ensure(ROOT, Deadline.after(5))
    folder = NodeId(directories.lookup(ROOT, b"d", Deadline.after(5)).nodeid)
    directories.ensure(folder, Deadline.after(5))
    asked = master.asked
    directories.everything_changed()
    directories._expire_all()  # as its thread does
    directories.ensure(ROOT, Deadline.after(5))
    directories.ensure(folder, Deadline.after(5))
    assert master.asked == asked + 2
