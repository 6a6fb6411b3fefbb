"""Native cids are those of Python, and lead to the entries of the files that nodes stand for."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from jindopy._ext import cid
from jindopy._ext.blockstore import BlockStore, TierSpec
from jindopy._ext.fuseknown import KnownFiles
from jindopy._ext.inodes import InodeTable
from jindopy.base.ident import Kind, UfsId, make_cid

SOON_NS = 10**18


@given(st.text(max_size=200), st.binary(max_size=1100), st.binary(max_size=300))
def test_the_same_for_all_fields(ufs_id: str, key: bytes, token: bytes) -> None:
    assert cid.make_cid(ufs_id.encode(), key, token) == make_cid(UfsId(ufs_id), key, token)


@pytest.mark.parametrize("size", [0, 1, 95, 96, 97, 115, 116, 117, 243, 244, 245, 1024])
def test_around_the_ends_of_compressed_blocks(size: int) -> None:
    assert cid.make_cid(b"u", b"k" * size, b"") == make_cid(UfsId("u"), b"k" * size, b"")


def put(table: InodeTable, parent: int, name: bytes, inode: int, mount: int, kind: Kind = Kind.FILE) -> int:
    return table.put(parent, name, inode, 1, kind, 0o644, 0, 0, 1, 10, 0, mount, b"tok", SOON_NS)


def test_keys_of_nodes_in_several_mounts(tmp_path: Path) -> None:
    table = InodeTable(0, 0, 0o755, 0)
    store = BlockStore([TierSpec("SSD", str(tmp_path), 1 << 26, 0.95, 0.8, 0)], sync_seconds=0)
    try:
        known = KnownFiles(
            table, store, [(1, b"", b"", b"oss://one", 7), (2, b"deep/two", b"pre/fix/", b"oss://two", 8)]
        )
        deep = put(table, 1, b"deep", 2, 1, Kind.DIRECTORY)
        two = put(table, deep, b"two", 3, 2, Kind.DIRECTORY)
        sub = put(table, two, b"sub", 4, 2, Kind.DIRECTORY)
        top, below, stranger = put(table, 1, b"top", 5, 1), put(table, sub, b"f\xff", 6, 2), put(table, 1, b"x", 7, 3)
        long = sub
        for inode in range(100, 120):
            long = put(table, long, b"n" * 255, inode, 2, Kind.DIRECTORY)
        assert known.cid(top) == make_cid(UfsId("oss://one"), b"top", b"tok")
        assert known.cid(below) == make_cid(UfsId("oss://two"), b"pre/fix/sub/f\xff", b"tok")
        assert known.cid(stranger) is None, "of no mount it was told of"
        assert known.cid(sub) is None, "a directory"
        assert known.cid(4711) is None
        assert known.cid(put(table, long, b"file", 200, 2)) is None, "a path of more than 4 KiB is for Python"
    finally:
        store.close()
