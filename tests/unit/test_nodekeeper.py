"""The inode table stays within its bound, and the kernel is asked for what only it keeps."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

from jindopy._ext.inodes import InodeTable, NodeAttr
from jindopy.base.ident import Kind, NodeId
from jindopy.vfs.nodekeeper import NodeKeeper

LATER_NS = 10**12
BOUND_BYTES = 1 << 20
PAGE = 500


class Kernel:
    """A notifier that only writes down."""

    def __init__(self) -> None:
        self.told: list[tuple[NodeId, bytes]] = []

    def entry_changed(self, directory: NodeId, name: bytes) -> None:
        self.told.append((directory, name))

    def content_changed(self, nodeid: NodeId) -> None:
        raise AssertionError(nodeid)


@contextlib.contextmanager
def keeping(table: InodeTable, bound_bytes: Callable[[], int]) -> Iterator[NodeKeeper]:
    keeper = NodeKeeper(table, bound_bytes)
    try:
        yield keeper
    finally:
        keeper.close()


def put(table: InodeTable, parent: int, name: bytes, inode: int, kind: Kind = Kind.FILE) -> int:
    return table.put(parent, name, inode, 1, kind, 0o644, 0, 0, 1, 1, 0, 1, b"e" * 32, LATER_NS)


def fill(table: InodeTable, keeper: NodeKeeper, directories: int, look_up: bool) -> list[int]:
    """List so many directories of PAGE files, as the loader does."""
    nodeids = []
    for number in range(directories):
        directory = put(table, 1, b"d%d" % number, 10_000_000 + number, Kind.DIRECTORY)
        for index in range(PAGE):
            name = b"file%012d" % index
            put(table, directory, name, 100 + number * PAGE + index)
            if look_up:
                found = table.lookup(directory, name, 0, True)
                assert isinstance(found, NodeAttr)
                nodeids.append(found.nodeid)
        keeper.grown()
    return nodeids


def test_what_nobody_needs_goes() -> None:
    table, kernel = InodeTable(0, 0, 0o755, 0), Kernel()
    with keeping(table, lambda: BOUND_BYTES) as keeper:
        keeper.notify_through(kernel)
        fill(table, keeper, 50, look_up=False)
        assert BOUND_BYTES * 0.5 < table.memory_bytes <= BOUND_BYTES
    assert kernel.told == []


def test_the_kernel_is_asked_for_what_only_it_keeps_until_the_table_is_within_its_bound() -> None:
    """Nobody calls ``grown`` any more while the kernel forgets."""
    table = InodeTable(0, 0, 0o755, 0)
    asked: queue.SimpleQueue[tuple[NodeId, bytes]] = queue.SimpleQueue()

    class Forgetful(Kernel):
        def entry_changed(self, directory: NodeId, name: bytes) -> None:
            asked.put((directory, name))

    with keeping(table, lambda: BOUND_BYTES) as keeper:
        keeper.notify_through(Forgetful())
        fill(table, keeper, 50, look_up=True)
        assert table.memory_bytes > 4 * BOUND_BYTES
        seen = set()
        looks = 0
        while table.memory_bytes > BOUND_BYTES:
            with contextlib.suppress(queue.Empty):
                directory, name = asked.get(timeout=0.1)
                assert (directory, name) not in seen, "asked for once"
                seen.add((directory, name))
                found = table.lookup(directory, name, 0, False)
                assert isinstance(found, NodeAttr)
                table.forget(found.nodeid, 1)
                continue
            looks += 1
            assert looks < 200


def test_an_open_file_is_neither_dropped_nor_asked_for() -> None:
    table, kernel = InodeTable(0, 0, 0o755, 0), Kernel()
    opened = put(table, 1, b"open", 5)
    table.attr(opened, True)
    table.hold(opened)
    with keeping(table, lambda: 0) as keeper:
        keeper.notify_through(kernel)
        fill(table, keeper, 3, look_up=True)
    assert len(kernel.told) == 3 * PAGE
    assert (NodeId(1), b"open") not in kernel.told
    assert table.name(opened) == b"open"


def test_the_bound_may_move() -> None:
    table, bound = InodeTable(0, 0, 0o755, 0), [BOUND_BYTES]
    with keeping(table, lambda: bound[0]) as keeper:
        fill(table, keeper, 20, look_up=False)
        bound[0] = BOUND_BYTES // 4
        keeper.grown()
        assert table.memory_bytes <= BOUND_BYTES // 4


def test_nobody_waits_for_who_trims() -> None:
    """A notifier that is slow must not hold up those who put nodes meanwhile."""
    table = InodeTable(0, 0, 0o755, 0)
    entered, leave = threading.Event(), threading.Event()

    class Slow(Kernel):
        def entry_changed(self, directory: NodeId, name: bytes) -> None:
            entered.set()
            assert leave.wait(20)

    with keeping(table, lambda: 0) as keeper:
        keeper.notify_through(Slow())
        table.attr(put(table, 1, b"f", 5), True)
        thread = threading.Thread(target=keeper.grown)
        thread.start()
        assert entered.wait(20)
        put(table, 1, b"g", 6)
        keeper.grown()
        assert table.lookup(1, b"g", 0, False) == 0
        leave.set()
        thread.join()
