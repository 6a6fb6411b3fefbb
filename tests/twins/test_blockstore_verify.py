"""Checking ahead: what it finds good needs no second look, what it finds bad is gone."""

from __future__ import annotations

from pathlib import Path

from jindopy._ext.blockstore import BlockStore, CacheFile, TierSpec
from jindopy._ext.iobuf import BufferPool

BLOCK = 1 << 20
CID = bytes(range(16))


def opened(root: Path) -> tuple[BlockStore, CacheFile]:
    store = BlockStore([TierSpec("SSD", str(root), 64 << 20, 0.95, 0.8, 0)])
    return store, store.open(CID, 3 * BLOCK + 5, 1)


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
    assert lease.read(10, 100, True) is None
    assert lease.would_block, "a part of a large block that nobody has checked yet"
    lease.verify(0, 2)
    assert lease.read(10, 100, True) == b"\x01" * 100
    assert lease.read(2 * BLOCK, 100, True) is None, "not in the range"
    lease.verify(2, 1000)
    lease.verify(50, 1)
    assert lease.read(2 * BLOCK, 100, True) == b"\x03" * 100
    lease.close()
    store.close()


def test_a_small_block_is_checked_by_its_first_read_even_without_waiting(tmp_path: Path):
    filled(tmp_path)
    store, lease = opened(tmp_path)
    assert lease.read(3 * BLOCK, 100, True) == b"\x04" * 5
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
