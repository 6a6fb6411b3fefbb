"""The inode table against its twin in any order of calls, then each promise by itself, threads, and memory."""

import random
import threading
from functools import partial
from typing import Any

import inodes_twin
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from inodes_puts import LATER_NS, RENUMBERED, hit, put_dir, put_file

from jindopy._ext.inodes import MISS, NEGATIVE, InodeTable, NodeAttr
from jindopy.base.clock import RealClock
from jindopy.base.ident import Kind

names = st.sampled_from([b"a", b"b", b"\xff" * 255])
inodes = st.integers(1, 6)
kinds = st.sampled_from([Kind.DIRECTORY, Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK])  # most bugs need depth
times = st.integers(0, 5)
small = st.integers(0, 2)


def facts(attr: NodeAttr) -> tuple[int, ...]:
    return (
        *(attr.nodeid, attr.inode, attr.parent, attr.kind, attr.version, attr.expires_ns),
        *(attr.perm, attr.uid, attr.gid, attr.nlink, attr.size, attr.mtime_ns),
    )


def twin_facts(node: inodes_twin.Node) -> tuple[int, ...]:
    parent = node.parent.nodeid if node.parent else 0
    return (node.nodeid, node.inode, parent, node.kind, node.version, node.expires_ns, *node.attributes)


class Inodes(RuleBasedStateMachine):
    """Every call goes to both; after each, all that can be asked of any node is the same."""

    def __init__(self) -> None:
        super().__init__()
        self.real = InodeTable(1000, 1001, 0o755, 7)
        self.twin = inodes_twin.Table(1000, 1001, 0o755, 7)
        self.seen = [1, 99]
        self.asked: set[int] = set()

    def both(self, call: str, *args: object) -> object:
        """The twin's answer, after the real one gave the same or failed alike."""
        try:
            expected = getattr(self.twin, call)(*args)
        except (KeyError, ValueError) as error:
            with pytest.raises(type(error)):
                getattr(self.real, call)(*args)
            return None
        assert getattr(self.real, call)(*args) == expected
        return expected

    def pick(self, number: int) -> int:
        """A number handed out before: 0 the root, 1 the newest, ..."""
        return self.seen[-number % len(self.seen)]

    nodes = st.integers(0, 8)

    @rule(
        at=nodes, name=names, inode=inodes, version=st.integers(1, 2), kind=kinds, some=small,
        token=st.sampled_from([b"", b"etag", b"x" * 1024]), expires_ns=times,
    )  # fmt: skip
    def put(
        self, at: int, name: bytes, inode: int, version: int, kind: Kind, some: int, token: bytes, expires_ns: int
    ) -> None:
        parent = self.pick(at)
        attributes = (0o600 + some, some, some + 1, some + 2, some + 3, -some)
        try:
            expected = self.twin.put(parent, name, inode, version, kind, attributes, some, token, expires_ns)
        except KeyError:
            expected = None
        put = partial(self.real.put, parent, name, inode, version, int(kind), *attributes, some, token, expires_ns)
        if expected is None:
            with pytest.raises(KeyError):
                put()
        else:
            assert put() == expected
            if expected not in self.seen:
                self.seen.append(expected)

    @rule(at=nodes, name=names)
    def remove(self, at: int, name: bytes) -> None:
        self.both("remove", self.pick(at), name)

    @rule(at=nodes, name=names, now_ns=times, count=st.booleans())
    def lookup(self, at: int, name: bytes, now_ns: int, count: bool) -> None:
        expected = self.twin.lookup(self.pick(at), name, now_ns, count)
        found = self.real.lookup(self.pick(at), name, now_ns, count)
        if isinstance(found, NodeAttr):
            assert isinstance(expected, inodes_twin.Node)
            assert facts(found) == twin_facts(expected)
            self.asked.discard(found.nodeid)
        else:
            assert found == (NEGATIVE if expected == inodes_twin.NEGATIVE else MISS)
            assert isinstance(expected, int)

    @rule(at=nodes, call=st.sampled_from(["hold", "unhold", "hold", "begin_dir", "expire_dir"]))
    def by_number(self, at: int, call: str) -> None:
        self.both(call, self.pick(at))

    @rule(at=nodes, count=small)
    def forget(self, at: int, count: int) -> None:
        self.both("forget", self.pick(at), count)

    @rule(at=nodes, generation=small, expires_ns=times, complete=st.booleans())
    def set_dir(self, at: int, generation: int, expires_ns: int, complete: bool) -> None:
        self.both("set_dir", self.pick(at), generation, expires_ns, complete)

    @rule(ask_max=st.sampled_from([0, 1, 100]))
    def trim(self, ask_max: int) -> None:
        self.twin.trim_all()
        asked = self.real.trim(0, ask_max)
        expected = self.twin.only_the_kernels() - self.asked
        assert set(asked) <= expected
        assert len(asked) == len(set(asked)) == min(ask_max, len(expected))
        self.asked |= set(asked)

    @rule(at=nodes)
    def list_again(self, at: int) -> None:
        """A whole listing in which every other child has gone."""
        node = self.twin.nodes.get(self.pick(at))
        if node is None or node.kind != Kind.DIRECTORY:
            return
        self.both("begin_dir", node.nodeid)
        for child in list(node.children.values())[::2]:
            version = (child.inode, child.version, child.kind)
            source = (child.mount, child.token)
            self.twin.put(node.nodeid, child.name, *version, child.attributes, *source, 5)
            self.real.put(node.nodeid, child.name, *version, *child.attributes, *source, 5)
        self.both("set_dir", node.nodeid, 9, 5, True)

    @invariant()
    def all_answers_agree(self) -> None:
        assert self.real.count == len(self.twin.nodes)
        for nodeid in self.seen:
            node = self.twin.nodes.get(nodeid)
            if node is None:
                for ask in (self.real.attr, self.real.name, self.real.path, self.real.source, self.real.children):
                    with pytest.raises(KeyError):
                        ask(nodeid)
                continue
            assert facts(self.real.attr(nodeid)) == twin_facts(node)
            assert self.real.name(nodeid) == node.name
            assert self.real.source(nodeid) == (node.mount, node.token)
            self.both("path", nodeid)
            if node.kind == Kind.DIRECTORY:
                assert self.real.children(nodeid) == [child.nodeid for child in node.children.values()]
                assert self.real.dir_state(nodeid) == node.dir_state
            else:
                with pytest.raises(KeyError):
                    self.real.children(nodeid)
                with pytest.raises(KeyError):
                    self.real.dir_state(nodeid)
            same = [n.nodeid for n in self.twin.nodes.values() if n.inode == node.inode and n.kind == Kind.DIRECTORY]
            assert sorted(self.real.directories_of(node.inode)) == sorted(same)
            looked_up = [
                n.nodeid
                for n in self.twin.nodes.values()
                if n.token == node.token and n.kind != Kind.DIRECTORY and n.lookups
            ]
            assert sorted(self.real.known_by_token(node.token)) == sorted(looked_up)


TestInodes = Inodes.TestCase
TestInodes.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)


@pytest.fixture
def table() -> InodeTable:
    return InodeTable(0, 0, 0o755, 0)


def test_a_new_version_gets_a_new_number_and_the_old_stays_readable(table: InodeTable) -> None:
    assert put_file(table, 1, b"f", 5, 1) == 5
    assert hit(table, 1, b"f", count=True).nodeid == 5
    assert put_file(table, 1, b"f", 5, 2) == RENUMBERED
    assert hit(table, 1, b"f").nodeid == RENUMBERED
    assert hit(table, 1, b"f").inode == table.attr(5).inode == 5
    assert table.source(5) == (1, b"etag1")
    assert table.attr(5).parent == 0
    assert table.name(5) == b"f"
    with pytest.raises(KeyError, match="no name any more"):
        table.path(5)
    assert table.forget(5, 1) is True
    with pytest.raises(KeyError, match="no node 5"):
        table.attr(5)
    assert put_file(table, 1, b"f", 5, 1) == 5  # back again: the version 5 has always named


def test_a_number_is_never_another_version(table: InodeTable) -> None:
    assert put_file(table, 1, b"f", 5, 1) == 5
    table.remove(1, b"f")
    assert table.count == 1
    assert put_file(table, 1, b"f", 5, 2) == RENUMBERED
    table.remove(1, b"f")
    assert put_file(table, 1, b"f", 5, 1) == 5  # the version it was
    table.remove(1, b"f")
    assert put_file(table, 1, b"f", 5, 1, b"other") == RENUMBERED + 1  # not by its token
    table.remove(1, b"f")
    assert put_dir(table, 1, b"f", 5) == RENUMBERED + 2


def test_numbers_stay_unique_when_more_went_than_is_remembered(table: InodeTable) -> None:
    """The table forgets what 262,144 gone numbers were; from then on it gives those inodes new numbers."""
    rounds = 262_144 + 10
    for inode in range(2, rounds + 2):
        assert put_file(table, 1, b"f", inode) == inode
        table.remove(1, b"f")
    assert table.memory_bytes < 10 << 20
    assert put_file(table, 1, b"f", 3, 2) >= RENUMBERED
    table.remove(1, b"f")
    assert put_file(table, 1, b"f", 3, 1) >= RENUMBERED
    table.remove(1, b"f")
    assert put_file(table, 1, b"f", rounds + 100) == rounds + 100


def test_file_turned_directory_and_back(table: InodeTable) -> None:
    assert put_file(table, 1, b"x", 5) == 5
    assert table.lookup(5, b"y", 0, False) == MISS
    with pytest.raises(KeyError, match="no directory"):
        put_file(table, 5, b"y", 6)
    directory = put_dir(table, 1, b"x", 7)
    assert put_file(table, directory, b"y", 6) == 6
    assert table.path(6) == [b"x", b"y"]
    put_file(table, 1, b"x", 8)
    assert table.children(1) == [8]
    assert table.count == 2
    assert table.lookup(directory, b"y", 0, False) == MISS


def test_removing_a_directory_removes_what_is_below_unless_held(table: InodeTable) -> None:
    at = 1
    for inode in range(2, 3000):  # deeper than any recursion would bear
        at = put_dir(table, at, b"d", inode)
    put_file(table, at, b"f", 5000)
    assert hit(table, at, b"f", count=True).nodeid == 5000
    table.hold(1000)
    table.set_dir(1000, 3, LATER_NS, True)
    assert table.remove(1, b"d") == 2
    assert table.count == 3  # root, the held directory, the file the kernel knows
    assert table.attr(1000).parent == 0
    assert table.children(1000) == []
    assert table.dir_state(1000) == (0, 0, False)
    assert table.source(5000) == (1, b"etag1")
    table.forget(5000, 1)
    table.unhold(1000)
    assert table.count == 1


def test_expiry_and_negative_answers(table: InodeTable) -> None:
    table.put(1, b"f", 2, 1, Kind.FILE, 0, 0, 0, 1, 0, 0, 1, b"t", 100)
    assert isinstance(table.lookup(1, b"f", 99, False), NodeAttr)
    assert table.lookup(1, b"f", 100, False) == MISS
    assert table.lookup(1, b"none", 0, False) == MISS
    table.set_dir(1, 1, 200, True)
    assert table.lookup(1, b"none", 199, False) == NEGATIVE
    assert table.lookup(1, b"none", 200, False) == MISS
    assert table.lookup(1, b"f", 150, False) == MISS  # a child expires by itself
    table.set_dir(1, 2, 200, False)
    assert table.lookup(1, b"none", 0, False) == MISS
    table.set_dir(1, 3, 200, True)
    table.expire_dir(1)
    assert table.lookup(1, b"none", 0, False) == table.lookup(1, b"f", 0, False) == MISS
    assert table.attr(2).expires_ns == 0
    assert table.dir_state(1) == (3, 0, True)


def test_a_listing_removes_what_it_did_not_see(table: InodeTable) -> None:
    for inode, name in enumerate([b"a", b"b", b"c", b"sub"], start=2):
        (put_dir if name == b"sub" else put_file)(table, 1, name, inode)
    put_file(table, 5, b"deep", 6)
    table.begin_dir(1)
    put_file(table, 1, b"c", 4)
    table.begin_dir(1)  # the first listing was interrupted: its mark on c counts no more
    assert table.children(1) == [2, 3, 4, 5]
    put_dir(table, 1, b"sub", 5)
    put_file(table, 1, b"b", 3)
    put_file(table, 1, b"new", 7)
    assert table.set_dir(1, 1, LATER_NS, True) == [2, 4]
    assert table.children(1) == [3, 5, 7]
    assert table.children(5) == [6]
    assert table.set_dir(1, 2, LATER_NS, True) == []


def test_a_changed_version_keeps_its_place(table: InodeTable) -> None:
    for inode, name in enumerate([b"a", b"b", b"c"], start=2):
        put_file(table, 1, name, inode)
    changed = put_file(table, 1, b"b", 3, 2)
    assert table.children(1) == [2, changed, 4]
    first = put_file(table, 1, b"a", 2, 2)
    last = put_file(table, 1, b"c", 9)
    assert table.children(1) == [first, changed, last]


def test_a_directory_keeps_its_number_and_children(table: InodeTable) -> None:
    put_dir(table, 1, b"d", 2)
    put_file(table, 2, b"f", 3)
    table.set_dir(2, 4, LATER_NS, True)
    assert table.put(1, b"d", 2, 7, Kind.DIRECTORY, 0o700, 0, 0, 1, 0, 5, 1, b"marker", LATER_NS) == 2
    assert table.children(2) == [3]
    assert table.dir_state(2) == (4, LATER_NS, True)
    assert table.attr(2).version == 7
    assert table.source(2) == (1, b"")


def test_one_inode_may_be_known_as_several_directories(table: InodeTable) -> None:
    put_dir(table, 1, b"d", 2)
    table.hold(2)
    table.remove(1, b"d")
    numbers = [put_dir(table, 1, b"e%d" % i, 2) for i in range(3)]
    assert numbers == [RENUMBERED, RENUMBERED + 1, RENUMBERED + 2]
    assert set(table.directories_of(2)) == {2, *numbers}
    table.remove(1, b"e1")
    table.unhold(2)
    assert set(table.directories_of(2)) == {numbers[0], numbers[2]}
    assert table.directories_of(3) == []


def test_the_root_is_told_its_time(table: InodeTable) -> None:
    assert (table.attr(1).mtime_ns, table.attr(1).expires_ns) == (0, 2**63 - 1)
    table.touch_root(7, 9)
    assert (table.attr(1).mtime_ns, table.attr(1).expires_ns) == (7, 9)


def test_attr_can_count_for_an_answer_that_expires_at_once(table: InodeTable) -> None:
    number = table.put(1, b"f", 2, 1, Kind.FILE, 0, 0, 0, 1, 0, 0, 1, b"t", 0)
    assert table.lookup(1, b"f", 0, True) == MISS
    assert table.attr(number, True).nodeid == number
    table.remove(1, b"f")
    assert table.attr(number).inode == 2
    assert table.forget(number, 5) is True  # more than was given: the kernel's word counts
    assert table.forget(number, 1) is True
    assert table.count == 1


def test_the_root_stays(table: InodeTable) -> None:
    table.forget(1, 1000)
    with pytest.raises(ValueError, match="not held"):
        table.unhold(1)
    assert table.remove(1, b"") == 0
    assert (table.attr(1).nodeid, table.attr(1).parent, table.name(1), table.path(1)) == (1, 1, b"", [])
    assert put_dir(table, 1, b"again", 1) == RENUMBERED  # even if somebody says the root is its own child
    assert table.path(RENUMBERED) == [b"again"]


def test_bad_arguments(table: InodeTable) -> None:
    good: dict[str, Any] = {
        "parent": 1, "name": b"f", "inode": 2, "version": 1, "kind": 0, "perm": 0, "uid": 0, "gid": 0, "nlink": 1,
        "size": 0, "mtime_ns": 0, "mount": 1, "token": b"", "expires_ns": 1,
    }  # fmt: skip
    bad: list[tuple[str, object]] = [
        *(("name", value) for value in (b"", b"x" * 256, "text", None)),
        *(("inode", value) for value in (0, 2**63, -1)),
        *(("kind", value) for value in (3, -1, 1000)),
        *(("token", value) for value in (b"x" * 1025, None)),
        *(("size", value) for value in (-1, 2**64)),
        *(("version", value) for value in (-1, 2**32)),
        ("parent", 77),
    ]
    for key, value in bad:
        with pytest.raises((ValueError, OverflowError, TypeError, KeyError)):
            table.put(**{**good, key: value})
    assert table.count == 1
    table.put(**good)
    assert table.directories_of(2) == []
    for call in (table.begin_dir, table.expire_dir, table.children, table.dir_state):
        for nodeid in (2, 77):
            with pytest.raises(KeyError):
                call(nodeid)
    with pytest.raises(TypeError):
        NodeAttr()


def test_threads(table: InodeTable) -> None:
    """Four threads for a second: each owns a directory, all share one and are swept, trimmed and expired."""
    clock = RealClock()
    end = clock.monotonic() + 1.0
    shared = put_dir(table, 1, b"shared", 2)
    wrong: list[str] = []
    rounds = [0] * 4

    def run(number: int) -> None:
        random_source = random.Random(number)
        own = owned[number]
        first = 1000 * (number + 1)
        while clock.monotonic() < end:
            rounds[number] += 1
            picked = random_source.randrange(100)
            name = b"f%d" % picked
            version = 1 + rounds[number] % 3
            nodeid = put_file(table, own, name, first + picked, version)
            try:
                attr = table.attr(nodeid, True)
            except KeyError:
                continue  # trimmed in between
            if (attr.inode, attr.version) != (first + picked, version):
                wrong.append(f"node {nodeid} is {attr}")
            put_file(table, shared, name, 100_000 + picked, version)
            table.lookup(shared, name, 0, False)
            if rounds[number] % 50 == 0:
                table.begin_dir(shared)
                table.set_dir(shared, rounds[number], LATER_NS, True)
                table.children(shared)
                table.expire_dir(own)
            if rounds[number] % 200 == 0:
                table.trim(0, 10)
            if table.source(nodeid) != (1, b"etag%d" % version):
                wrong.append(f"token of {nodeid}")
            if table.forget(nodeid, 1) is not True:
                wrong.append(f"lookups of {nodeid}")

    owned = [put_dir(table, 1, b"own%d" % number, 10 + number) for number in range(4)]
    for nodeid in (shared, *owned):
        table.attr(nodeid, True)  # else a trim of another thread takes it while it is empty
    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert min(rounds) > 100
    for name in [b"shared", *(b"own%d" % number for number in range(4))]:
        table.forget(table.remove(1, name), 1)
    assert table.count == 1
