"""How long answers are believed, and what happens when the UFS changes under a question: time is simulated."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jindopy.base.clock import Deadline, SimulatedClock
from jindopy.base.errors import (
    BadAnswer,
    ConfigError,
    DeadlineExceeded,
    NamespaceCorrupt,
    NamespaceError,
    NoSuchEntry,
    Unavailable,
)
from jindopy.base.ident import ROOT_INODE, Kind
from jindopy.base.metrics import SYNC_SKIPPED_KEYS, value
from jindopy.namespace import sync
from jindopy.namespace.api import Node
from jindopy.namespace.service import EmbeddedMaster, MountRequest
from jindopy.namespace.sync import seconds_left
from jindopy.ufs.base import ListPage
from jindopy.ufs.memory import MemoryDriver, MemoryStore

TTL = 60.0
WAIT_SECONDS = 20.0


def soon() -> Deadline:
    return Deadline.after(WAIT_SECONDS)


class World:
    """A master over one memory UFS, with every call counted."""

    def __init__(self, directory: Path, ttl_seconds: float = TTL) -> None:
        self.clock = SimulatedClock()
        self.driver = MemoryDriver("x", MemoryStore(self.clock))
        self.calls: list[tuple[str, bytes]] = []
        self.hook: Callable[[str, bytes], None] = lambda operation, key: None
        self.driver.on_call = self._call
        self.directory = directory
        self.ttl_seconds = ttl_seconds
        self.master = self.started()

    def started(self) -> EmbeddedMaster:
        request = MountRequest(b"", "memory://x", self.driver, ttl_seconds=self.ttl_seconds)
        return EmbeddedMaster(self.directory, [request], clock=self.clock, uid=7, gid=8, umask=0o027)

    def _call(self, operation: str, key: bytes) -> None:
        self.calls.append((operation, key))
        self.hook(operation, key)

    def put(self, key: bytes, data: bytes = b"x") -> None:
        self.driver.store.put(key, data)

    def lookup(self, name: bytes) -> tuple[Node | None, float]:
        return self.master.lookup(ROOT_INODE, name, deadline=soon())

    def list(self) -> dict[bytes, Node]:
        pages = list(self.master.read_dir(ROOT_INODE, deadline=soon()))
        return {node.name: node for page in pages for node in page.nodes}

    def fail_once(self, at_call: int) -> None:
        """From now on the call of that number fails, those before and after it do not."""
        calls = itertools.count(1)

        def fail(operation: str, key: bytes) -> None:
            if next(calls) == at_call:
                raise Unavailable("no route")

        self.hook = fail

    def asked(self) -> list[tuple[str, bytes]]:
        calls, self.calls = self.calls, []
        return calls


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.master.close()


def test_seconds_left() -> None:
    now = 10**18
    assert seconds_left(now, 60.0, now + 5 * 10**9) == 55.0
    assert seconds_left(now, 60.0, now + 61 * 10**9) == 0.0
    assert seconds_left(now, 60.0, now - 1) == 0.0
    assert seconds_left(now, float("inf"), now - 1) == float("inf")


def test_a_listing_is_believed_for_its_ttl(world: World) -> None:
    world.put(b"a")
    world.list()
    world.put(b"b")
    world.clock.advance(59)
    (page,) = world.master.read_dir(ROOT_INODE, deadline=soon())
    assert page.ttl_seconds == pytest.approx(1.0)
    assert world.lookup(b"b") == (None, pytest.approx(1.0))
    assert world.asked() == [("list", b"")]
    world.clock.advance(1)
    assert set(world.list()) == {b"a", b"b"}
    assert world.asked() == [("list", b"")]


def test_a_probe_is_believed_for_its_ttl(world: World) -> None:
    world.put(b"a")
    node, left = world.lookup(b"a")
    assert node is not None
    assert left == TTL
    world.clock.advance(20)
    assert world.lookup(b"a") == (node, pytest.approx(40.0))
    assert world.asked() == [("stat", b"a")]
    world.put(b"a", b"new")
    world.clock.advance(40)
    node, left = world.lookup(b"a")
    assert node is not None
    assert (node.version, node.size, left) == (2, 3, TTL)
    assert world.asked() == [("stat", b"a")]


def test_an_expired_listing_is_no_proof_of_absence(world: World) -> None:
    world.put(b"a")
    world.list()
    world.clock.advance(TTL)
    assert world.lookup(b"no") == (None, 0.0)
    assert world.asked() == [("list", b""), ("stat", b"no"), ("list", b"no/")]


def test_a_clock_that_goes_back_expires_all(world: World) -> None:
    world.put(b"a")
    world.list()
    world.clock.advance(-3600)
    world.list()
    assert world.asked() == [("list", b"")] * 2


def test_no_ttl_at_all(tmp_path: Path) -> None:
    world = World(tmp_path, ttl_seconds=0.0)
    world.put(b"a")
    world.list()
    world.list()
    assert world.lookup(b"a")[1] == 0.0
    assert world.asked() == [("list", b"")] * 2 + [("stat", b"a")]
    world.master.close()


def test_each_mount_has_its_own_ttl(tmp_path: Path) -> None:
    clock = SimulatedClock()
    short, long = (MemoryDriver(name, MemoryStore(clock)) for name in ("short", "long"))
    requests = [
        MountRequest(b"short", "memory://short", short, ttl_seconds=10.0),
        MountRequest(b"long", "memory://long", long, ttl_seconds=float("inf")),
    ]
    master = EmbeddedMaster(tmp_path, requests, clock=clock)
    for driver in (short, long):
        driver.store.put(b"old", b"")

    def names(path: bytes) -> set[bytes]:
        inode = master.resolve(path, deadline=soon()).inode
        return {node.name for page in master.read_dir(inode, deadline=soon()) for node in page.nodes}

    assert names(b"short") == names(b"long") == {b"old"}
    for driver in (short, long):
        driver.store.put(b"new", b"")
    clock.advance(9)
    assert names(b"short") == names(b"long") == {b"old"}
    clock.advance(1)
    assert names(b"short") == {b"old", b"new"}
    clock.advance(1e6)
    assert names(b"long") == {b"old"}
    master.close()


def test_listings_and_probes_outlive_a_restart(world: World) -> None:
    world.put(b"a")
    world.put(b"d/e/f")
    world.list()
    directory = world.master.resolve(b"d", deadline=soon())
    assert world.master.lookup(directory.inode, b"e", deadline=soon()).node is not None
    world.asked()
    world.master.close()
    world.master = world.started()
    world.clock.advance(10)
    assert set(world.list()) == {b"a", b"d"}
    assert world.master.lookup(directory.inode, b"e", deadline=soon()).ttl_seconds == pytest.approx(50.0)
    assert world.asked() == []


def test_owner_and_permissions(world: World) -> None:
    world.put(b"a")
    world.put(b"d/1")
    nodes = world.list()
    assert {(node.perm, node.uid, node.gid) for node in nodes.values()} == {(0o640, 7, 8), (0o750, 7, 8)}
    assert world.master.root().perm == 0o750
    assert world.master.root().mtime_ns == world.clock.wall_ns()


def test_a_known_directory_wins_without_a_head(world: World) -> None:
    world.put(b"n")
    world.put(b"n/1")
    assert world.list()[b"n"].kind is Kind.DIRECTORY
    world.asked()
    world.clock.advance(TTL)
    node, _ = world.lookup(b"n")
    assert node is not None
    assert node.kind is Kind.DIRECTORY
    assert world.asked() == [("list", b"n/")]


def test_an_empty_object_may_stand_for_a_directory(world: World) -> None:
    world.put(b"n", b"")
    world.put(b"n/1")
    world.put(b"empty", b"")
    node, _ = world.lookup(b"n")
    assert node is not None
    assert node.kind is Kind.DIRECTORY
    node, _ = world.lookup(b"empty")
    assert node is not None
    assert node.kind is Kind.FILE
    assert world.asked() == [("stat", b"n"), ("list", b"n/"), ("stat", b"empty"), ("list", b"empty/")]


def test_a_probe_sees_a_turn(world: World) -> None:
    world.put(b"n/1")
    before = world.list()[b"n"]
    world.driver.store.delete(b"n/1")
    world.put(b"n")
    world.clock.advance(TTL)
    node, _ = world.lookup(b"n")
    assert node is not None
    assert node.kind is Kind.FILE
    assert node.inode != before.inode
    with pytest.raises(NoSuchEntry):
        world.master.node(before.inode)


def test_a_probed_directory_has_the_time_of_its_marker(world: World) -> None:
    world.put(b"m/")
    made_ns = world.clock.wall_ns()
    world.clock.advance(5)
    node, _ = world.lookup(b"m")
    assert node is not None
    assert (node.kind, node.mtime_ns) == (Kind.DIRECTORY, made_ns)


def test_questions_for_one_name_share_a_request(world: World) -> None:
    world.put(b"a")
    asked, go_on = threading.Event(), threading.Event()

    def hold(operation: str, key: bytes) -> None:
        asked.set()
        assert go_on.wait(WAIT_SECONDS)

    world.hook = hold
    answers: list[Node | None] = []
    threads = [threading.Thread(target=lambda: answers.append(world.lookup(b"a")[0])) for _ in range(20)]
    for thread in threads:
        thread.start()
    assert asked.wait(WAIT_SECONDS)
    flights = world.master._prober._flights
    assert list(flights) == [(ROOT_INODE, b"a")]
    go_on.set()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert len({node.inode for node in answers if node is not None}) == 1
    assert len(answers) == 20
    # Threads that came after the first answer found it in the store.
    assert world.asked() == [("stat", b"a")]
    assert not flights


def test_an_answer_older_than_a_listing_is_not_written_down(world: World) -> None:
    world.put(b"a", b"old")
    listed: list[Node] = []

    def overwrite_and_list(operation: str, key: bytes) -> None:
        if operation == "stat":
            world.hook = lambda operation, key: None
            found = world.driver.store.find(b"a")
            assert found is not None
            world.put(b"a", b"newest")
            listed.extend(world.list().values())
            # What the HEAD then brings is the state from before.
            world.driver.store._objects[b"a"] = found

    world.hook = overwrite_and_list
    node, _ = world.lookup(b"a")
    assert [node] == listed
    assert node is not None
    assert (node.size, node.version) == (6, 1)


def test_a_failed_probe_is_told_and_not_remembered(world: World) -> None:
    world.put(b"a")

    world.fail_once(at_call=1)
    with pytest.raises(Unavailable):
        world.lookup(b"a")
    assert world.lookup(b"a")[0] is not None


def test_a_probe_does_not_show_in_an_older_generation(world: World) -> None:
    for number in range(1500):
        world.put(b"%05d" % number)
    world.list()
    stream = world.master.read_dir(ROOT_INODE, deadline=soon())
    seen = [node.name for node in next(stream).nodes]
    world.clock.advance(TTL)
    world.put(b"99999")
    assert world.lookup(b"99999")[0] is not None
    seen += [node.name for page in stream for node in page.nodes]
    assert len(seen) == 1500


def test_a_listing_that_does_not_advance(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put(b"a")
    monkeypatch.setattr(MemoryStore, "page", lambda self, prefix, delimiter, after, limit: ListPage([], [], "61"))
    with pytest.raises(BadAnswer, match="does not advance"):
        world.list()


@pytest.mark.expect_log("listing inode 1 failed")
def test_a_driver_with_a_bug_hangs_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object, **__: object) -> ListPage:
        raise ZeroDivisionError

    monkeypatch.setattr(MemoryStore, "page", bug)
    with pytest.raises(Exception, match="ZeroDivisionError"):
        world.list()


def test_a_failed_listing_goes_on_where_it_stopped(world: World) -> None:
    for number in range(3500):
        world.put(b"%05d" % number)
    world.fail_once(at_call=4)
    with pytest.raises(Unavailable):
        world.list()
    world.asked()
    assert len(world.list()) == 3500
    assert len(world.asked()) == 2, "the page before the failure and the one that failed"


def test_a_name_that_waits_for_its_decision_survives_a_failure(world: World) -> None:
    world.put(b"n")  # it may be hidden by a directory until all of "n!..." has passed
    for number in range(3500):
        world.put(b"n!%04d" % number)
    world.fail_once(at_call=4)
    with pytest.raises(Unavailable):
        world.list()
    assert b"n" in world.list()


def test_an_old_failed_listing_begins_anew(world: World) -> None:
    for number in range(2500):
        world.put(b"%05d" % number)
    world.fail_once(at_call=3)
    with pytest.raises(Unavailable):
        world.list()
    world.asked()
    world.clock.advance(TTL)
    world.driver.store.delete(b"00001")
    assert len(world.list()) == 2499
    assert len(world.asked()) == 3


def test_closing_does_not_wait_for_a_stuck_request(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "CLOSE_SECONDS", 0.05)
    reached, go_on = threading.Event(), threading.Event()

    def stuck(operation: str, key: bytes) -> None:
        reached.set()
        assert go_on.wait(WAIT_SECONDS)

    world.hook = stuck
    errors: list[BaseException] = []

    def read() -> None:
        try:
            world.list()
        except NamespaceError as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert reached.wait(WAIT_SECONDS)
    world.master.close()
    go_on.set()
    reader.join(WAIT_SECONDS)
    assert not reader.is_alive()
    assert not isinstance(errors[0], NamespaceCorrupt)


def test_a_tree_listing_ends_with_its_deadline(world: World) -> None:
    go_on = threading.Event()

    def stuck(operation: str, key: bytes) -> None:
        assert go_on.wait(WAIT_SECONDS)

    world.hook = stuck
    with pytest.raises(DeadlineExceeded):
        world.master.sync_tree(ROOT_INODE, deadline=Deadline.after(0.05))
    go_on.set()


def test_skipped_keys_are_counted(world: World) -> None:
    before = value(SYNC_SKIPPED_KEYS, reason="dotdot")
    world.put(b"..")
    world.list()
    assert value(SYNC_SKIPPED_KEYS, reason="dotdot") == before + 1


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "nothing to mount"),
        ([(b"a", 60.0), (b"/a/", 60.0)], "two UFS at one path"),
        ([(b"a/../b", 60.0)], "not a mount path"),
        ([(b"a", -1.0)], "TTL"),
        ([(b"a", float("nan"))], "TTL"),
    ],
)
def test_wrong_mounts(tmp_path: Path, requests: list[tuple[bytes, float]], message: str) -> None:
    driver = MemoryDriver("x", MemoryStore())
    with pytest.raises(ConfigError, match=message):
        EmbeddedMaster(tmp_path, [MountRequest(path, "memory://x", driver, ttl_seconds=ttl) for path, ttl in requests])
    # Nothing is held: the next start finds the file free.
    EmbeddedMaster(tmp_path, [MountRequest(b"", "memory://x", driver)]).close()
