"""What an inode table lets go when it is over its bound, and in which order."""

from __future__ import annotations

import pytest
from inodes_puts import RENUMBERED, hit, put_dir, put_file

from jindopy._ext.inodes import MISS, InodeTable


@pytest.fixture
def table() -> InodeTable:
    return InodeTable(0, 0, 0o755, 0)


def test_memory_a_node_and_trim(table: InodeTable) -> None:
    """60,000 files with names of 20 and etags of 32 bytes: at most 250 bytes each, given back by trim."""
    directories = [put_dir(table, 1, b"d%d" % i, 2 + i) for i in range(60)]
    for i in range(60_000):
        name, token = b"n%08d_%05d.JPEG" % (i, i), b"%032X" % i
        put_file(table, directories[i % 60], name, 100 + i, token=token)
        if i & (i - 1) == 0 and i > 1000:  # also just after the tables have grown
            assert table.memory_bytes <= 250 * table.count
    assert table.memory_bytes <= 250 * table.count
    assert len(table.children(directories[7])) == 1000

    table.set_dir(directories[0], 1, 1000, True)
    table.hold(directories[0])
    table.hold(table.children(directories[1])[500])
    looked_up = hit(table, directories[2], b"n%08d_%05d.JPEG" % (62, 62), count=True)
    assert looked_up.inode == 162
    half = table.memory_bytes // 2
    assert table.trim(half) == []
    assert half - 10_000 < table.memory_bytes <= half
    count = table.count
    assert table.trim(half) == []
    assert table.count == count

    assert table.trim(0, 100) == [looked_up.nodeid]
    assert len(table.children(directories[0])) == 1000  # held
    assert table.dir_state(directories[0]) == (1, 1000, True)
    assert table.children(1) == directories[:3]
    assert table.count == 1 + 3 + 1000 + 2
    table.unhold(directories[0])
    assert table.trim(0, 100) == []  # asked for already
    assert table.children(1) == directories[1:3]
    assert table.count == 1 + 2 + 2
    table.forget(looked_up.nodeid, 1)
    table.trim(0)
    assert table.children(1) == directories[1:2]


def test_what_was_used_last_goes_last(table: InodeTable) -> None:
    """Ten directories of 1,000 files; two of them were used since the hand last passed."""
    directories = [put_dir(table, 1, b"d%d" % i, 2 + i) for i in range(10)]
    for i in range(10_000):
        put_file(table, directories[i // 1000], b"f%d" % i, 100 + i)
    table.trim(table.memory_bytes - 1)  # everything was used: the hand goes round once
    for used in (directories[3], directories[7]):
        assert table.lookup(used, b"none", 0, False) == MISS
    table.trim(table.memory_bytes // 2)
    kept = [len(table.children(directory)) for directory in directories if directory in table.children(1)]
    assert sum(kept) < 5_000
    assert len(table.children(directories[3])) == len(table.children(directories[7])) == 1000


def test_a_trimmed_directory_is_no_longer_complete(table: InodeTable) -> None:
    put_file(table, 1, b"f", 2)
    table.set_dir(1, 1, 100, True)
    table.trim(0)
    assert table.dir_state(1) == (1, 100, False)
    assert table.lookup(1, b"f", 0, False) == MISS


def test_a_directory_the_kernel_keeps_is_not_asked_for(table: InodeTable) -> None:
    """A process may work in it, whose path would be gone."""
    directory = put_dir(table, 1, b"d", 2)
    file = put_file(table, 1, b"f", 3)
    for nodeid in (directory, file):
        table.attr(nodeid, True)
    assert table.trim(0, 10) == [file]
    assert hit(table, 1, b"f", count=True).nodeid == file  # wanted again
    assert table.trim(0, 10) == [file]
    table.hold(file)
    hit(table, 1, b"f", count=True)
    assert table.trim(0, 10) == []  # open


def test_numbers_of_the_gone_are_not_kept_beyond_their_share(table: InodeTable) -> None:
    for i in range(20_000):
        put_file(table, 1, b"f%d" % i, 100 + i)
    table.trim(0)
    assert table.memory_bytes < 100_000
    assert put_file(table, 1, b"f0", 100, 2) >= RENUMBERED
