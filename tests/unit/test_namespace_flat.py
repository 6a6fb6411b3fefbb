"""Trees listed by key order in one pass: the same tree as directory by directory, with fewer requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jindopy.base.clock import Deadline
from jindopy.base.errors import BadAnswer, Unavailable
from jindopy.base.ident import ROOT_INODE, Kind
from jindopy.namespace.api import TreeCount
from jindopy.namespace.flat_sync import worth_it
from jindopy.namespace.service import EmbeddedMaster, MountRequest
from jindopy.ufs.base import ListPage, ObjectStat
from jindopy.ufs.memory import MemoryDriver, MemoryStore

FOREVER = float("inf")
DIRECTORIES, FILES = 60, 50


def soon() -> Deadline:
    return Deadline.after(20.0)


class World:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.driver = MemoryDriver("x", MemoryStore())
        self.calls: list[bytes] = []
        self.fail_at = -1
        self.master = self.started()
        self.driver.on_call = self._call

    def started(self) -> EmbeddedMaster:
        return EmbeddedMaster(self.directory, [MountRequest(b"", "memory://x", self.driver, ttl_seconds=FOREVER)])

    def _call(self, operation: str, key: bytes) -> None:
        self.calls.append(key)
        if len(self.calls) == self.fail_at:
            raise Unavailable("no route")

    def fill(self) -> None:
        for n in range(DIRECTORIES):
            for m in range(FILES):
                self.driver.store.put(b"d%02d/e/f%03d" % (n, m), b"x")

    def sync(self) -> TreeCount:
        return self.master.sync_tree(ROOT_INODE, deadline=soon())

    def paths(self) -> set[bytes]:
        return {path for path, _ in self.master.walk(ROOT_INODE)}

    def listed(self, path: bytes) -> set[bytes]:
        directory = self.master.resolve(path, deadline=soon()).inode
        return {node.name for page in self.master.read_dir(directory, deadline=soon()) for node in page.nodes}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.master.close()


def test_when_a_pass_is_worth_it() -> None:
    def page(directories: int, cursor: str) -> ListPage:
        return ListPage([ObjectStat(b"d%d/f" % (n % directories), 1, 1, b"t") for n in range(1000)], [], cursor)

    assert worth_it(page(1, ""))
    assert not worth_it(page(16, "more"))
    assert worth_it(page(17, "more"))


def test_a_page_for_a_thousand_objects(world: World) -> None:
    world.fill()
    assert world.sync() == (DIRECTORIES * FILES, 2 * DIRECTORIES, DIRECTORIES * FILES)
    assert world.calls == [b""] * 3
    assert world.listed(b"") == {b"d%02d" % n for n in range(DIRECTORIES)}
    assert world.listed(b"d07/e") == {b"f%03d" % n for n in range(FILES)}
    assert len(world.calls) == 3


def test_what_changed_is_noticed(world: World) -> None:
    world.fill()
    world.sync()
    before = dict(world.master.walk(ROOT_INODE))
    for n in range(0, DIRECTORIES, 2):
        for m in range(FILES):
            world.driver.store.delete(b"d%02d/e/f%03d" % (n, m))
    world.driver.store.put(b"d01/e/f000", b"new")
    world.driver.store.delete(b"d03/e/f000")
    world.driver.store.put(b"d03/e/f000/turned", b"")
    world.driver.store.put(b"d06", b"file")
    world.driver.store.put(b"d04/", b"")
    heard: list[int] = []

    class Changes:
        def directory_changed(self, directory: int, generation: int) -> None:
            heard.append(directory)

    root, changed = ROOT_INODE, world.master.resolve(b"d01/e", deadline=soon()).inode
    world.master.subscribe(Changes())
    world.sync()
    after = dict(world.master.walk(ROOT_INODE))
    assert after.keys() == set(world.driver.store._keys) - {b"d04/"}
    assert after[b"d01/e/f000"].inode == before[b"d01/e/f000"].inode
    assert after[b"d01/e/f000"].version == 2
    assert after[b"d05/e/f000"] == before[b"d05/e/f000"]
    assert {root, changed} <= set(heard)
    assert world.master.resolve(b"d04", deadline=soon()).kind is Kind.DIRECTORY
    quiet = len(heard)
    world.sync()
    assert len(heard) == quiet


def test_an_interrupted_pass_goes_on_at_its_page(world: World) -> None:
    world.fill()
    world.driver.store.put(b"a", b"")
    world.fail_at = 3
    with pytest.raises(Unavailable):
        world.sync()
    world.master.close()
    world.calls.clear()
    world.fail_at = -1
    world.master = world.started()
    assert world.sync().files == DIRECTORIES * FILES + 1
    # Two pages are left; the directories the pass was inside of are tried as a pass, then listed on their own.
    assert len(world.calls) <= 2 + 2 * 3
    assert world.paths() == set(world.driver.store._keys)
    assert world.listed(b"") == {b"a"} | {b"d%02d" % n for n in range(DIRECTORIES)}


def test_vanished_names_before_the_cursor_go_too(world: World) -> None:
    world.fill()
    world.sync()
    world.driver.store.delete(b"d00/e/f000")
    for m in range(FILES):
        world.driver.store.delete(b"d01/e/f%03d" % m)
    world.calls.clear()
    world.fail_at = 3
    with pytest.raises(Unavailable):
        world.sync()
    world.fail_at = -1
    world.sync()
    assert world.paths() == set(world.driver.store._keys)
    assert b"d01" not in world.listed(b"")


def test_a_large_directory_among_small_ones(world: World) -> None:
    world.fill()
    for n in range(5500):
        world.driver.store.put(b"d30/large/%05d" % n, b"")
    world.sync()
    assert world.paths() == set(world.driver.store._keys)
    assert len(world.listed(b"d30/large")) == 5500
    for n in range(0, 5500, 7):
        world.driver.store.delete(b"d30/large/%05d" % n)
    world.sync()
    assert world.paths() == set(world.driver.store._keys)


def test_readers_of_a_directory_the_pass_is_inside_of(world: World) -> None:
    """A reader that listed first is waited for; one that comes later joins."""
    world.fill()
    root = world.master.read_dir(ROOT_INODE, deadline=soon())
    reached, go_on = threading.Event(), threading.Event()

    def hold(operation: str, key: bytes) -> None:
        if not reached.is_set():
            reached.set()
            assert go_on.wait(20)

    world.driver.on_call = hold
    names: list[bytes] = []
    reader = threading.Thread(target=lambda: names.extend(node.name for page in root for node in page.nodes))
    reader.start()
    assert reached.wait(20)
    syncing = threading.Thread(target=world.sync)
    syncing.start()
    go_on.set()
    for thread in (reader, syncing):
        thread.join(20)
        assert not thread.is_alive()
    assert len(names) == DIRECTORIES
    assert world.paths() == set(world.driver.store._keys)


def test_a_listing_out_of_order_fails_for_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stats = [ObjectStat(key, 1, 1, b"t") for key in (b"a/1", b"b/1", b"a/2")]
    monkeypatch.setattr(MemoryStore, "page", lambda self, prefix, delimiter, after, limit: ListPage(stats, [], ""))
    with pytest.raises(BadAnswer, match="out of order"):
        world.sync()
    monkeypatch.setattr(MemoryStore, "page", lambda self, prefix, delimiter, after, limit: ListPage([], [b"a/"], ""))
    with pytest.raises(BadAnswer, match="common prefixes"):
        world.sync()
    monkeypatch.undo()
    world.driver.store.put(b"a/1", b"")
    assert world.sync().files == 1


COMPONENT = st.sampled_from([b"a", b"b", b"a-", b"a0", b"", b"..", b"x" * 256])
KEY = st.lists(COMPONENT, min_size=1, max_size=4).map(b"/".join).filter(bool)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sets(KEY, max_size=25), min_size=1, max_size=3))
def test_both_ways_give_one_tree(tmp_path_factory: pytest.TempPathFactory, states: list[set[bytes]]) -> None:
    """The same objects, in one pass and directory by directory, changed twice."""
    world = World(tmp_path_factory.mktemp("flat"))
    plain = EmbeddedMaster(
        tmp_path_factory.mktemp("plain"), [MountRequest(b"", "memory://x", world.driver, ttl_seconds=FOREVER)]
    )
    try:
        for keys in states:
            for key in set(world.driver.store._keys) - keys:
                world.driver.store.delete(key)
            for key in keys:
                world.driver.store.put(key, key)
            directories = [ROOT_INODE]
            for directory in directories:
                for page in plain.read_dir(directory, deadline=soon(), refresh=True):
                    directories += [node.inode for node in page.nodes if node.kind is Kind.DIRECTORY]
            assert world.sync() == plain.count(ROOT_INODE)
            trees = [
                {path: (node.size, node.token) for path, node in master.walk(ROOT_INODE)}
                for master in (world.master, plain)
            ]
            assert trees[0] == trees[1]
            plain._lister.purge()  # a reader does not wait for it, as a tree listing does
            assert world.master.skipped() == plain.skipped()
    finally:
        plain.close()
        world.master.close()
