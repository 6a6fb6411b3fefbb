"""Checking: once a piece of a block in a process, before any byte of it is handed out."""

from __future__ import annotations

from pathlib import Path

from jindopy._ext.blockstore import BlockStore, CacheFile, TierSpec
from jindopy._ext.iobuf import BufferPool

BLOCK = 1 << 20
PIECE = 1 << 17
CID = bytes(range(16))


def opened(root: Path) -> tuple[BlockStore, CacheFile]:
    store = BlockStore([TierSpec("SSD", str(root), 64 << 20, 0.95, 0.8, 0)])
    return store, store.open(CID, 3 * BLOCK + 5, 1)


def flip(path: Path, *offsets: int) -> None:
    with path.open("r+b") as stream:
        for offset in offsets:
            stream.seek(offset)
            byte = stream.read(1)[0]
            stream.seek(offset)
            stream.write(bytes([byte ^ 0xFF]))


def filled(root: Path) -> None:
    pool = BufferPool(4 * BLOCK)
    store, lease = opened(root)
    for index, size in enumerate((BLOCK, BLOCK, BLOCK, 5)):
        buffer = pool.acquire(size)
        with memoryview(buffer) as view:
            view[:] = bytes([index + 1]) * size
        lease.put(index, buffer.seal())
    lease.close()
    store.close()


def test_a_checked_block_is_answered_without_waiting(tmp_path: Path):
    filled(tmp_path)
    store, lease = opened(tmp_path)
    (path,) = (path for path in tmp_path.rglob(CID.hex()) if path.is_file())
    lease.verify(0, 2)
    flip(path, 5, BLOCK - 1, 2 * BLOCK + 5)
    assert lease.read(10, 100) == b"\x01" * 100, "checked before it was damaged: this process trusts it"
    assert lease.read(BLOCK - 1, 1) == b"\xfe"
    assert lease.read(2 * BLOCK, 100) is None, "not in the range"
    lease.verify(3, 1000)
    lease.verify(50, 1)
    flip(path, 3 * BLOCK)
    assert lease.read(3 * BLOCK, 1) == b"\xfb"
    lease.close()
    store.close()


def test_a_read_checks_what_it_hands_out_and_no_more(tmp_path: Path):
    filled(tmp_path)
    (path,) = (path for path in tmp_path.rglob(CID.hex()) if path.is_file())
    flip(path, PIECE - 1, 3 * PIECE, BLOCK + 5 * PIECE)
    store, lease = opened(tmp_path)
    assert lease.read(PIECE, PIECE, True) == b"\x01" * PIECE, "a whole piece between two damaged ones"
    assert lease.read(2 * PIECE + 7, 3, True) == b"\x01" * 3, "a part of a piece"
    assert lease.read(BLOCK - PIECE - 9, PIECE, True) == b"\x01" * PIECE, "parts of two pieces"
    assert lease.read(4 * PIECE, BLOCK + PIECE) == b"\x01" * (4 * PIECE) + b"\x02" * (5 * PIECE)
    assert lease.read(2 * BLOCK - 1, 2, True) == b"\x02\x03", "of two blocks"
    assert store.counters()["crc_failures"] == 0
    assert lease.read(PIECE - 9, 5, True) is None, "of a damaged piece nothing, not even its good bytes"
    assert not lease.would_block
    assert lease.missing(0, 4) == [0], "a damaged piece costs its block"
    assert lease.read(BLOCK + 4 * PIECE, 2 * PIECE) is None
    assert lease.missing(0, 4) == [0, 1]
    assert store.counters()["crc_failures"] == 2
    lease.close()
    store.close()


def test_what_was_checked_is_checked_again_once_replaced(tmp_path: Path):
    filled(tmp_path)
    (path,) = (path for path in tmp_path.rglob(CID.hex()) if path.is_file())
    store, lease = opened(tmp_path)
    assert lease.read(0, 4) == b"\x01" * 4
    lease.drop(0)
    buffer = BufferPool(BLOCK).acquire(BLOCK)
    with memoryview(buffer) as view:
        view[:] = b"\x09" * BLOCK
    lease.put(0, buffer.seal())
    flip(path, 1)
    assert lease.read(0, 4) is None
    lease.close()
    store.close()


def test_damage_is_dropped_and_counted(tmp_path: Path):
    filled(tmp_path)
    (path,) = (path for path in tmp_path.rglob(CID.hex()) if path.is_file())
    with path.open("r+b") as stream:
        stream.seek(BLOCK + 77)
        stream.write(b"\xff")
        stream.seek(3 * BLOCK + 1)
        stream.write(b"\xff")
    store, lease = opened(tmp_path)
    lease.verify(0, 3)
    assert lease.missing(0, 4) == [1]
    assert lease.read(3 * BLOCK, 5, True) is None
    assert lease.missing(0, 4) == [1, 3]
    assert store.counters()["crc_failures"] == 2
    lease.close()
    store.close()
