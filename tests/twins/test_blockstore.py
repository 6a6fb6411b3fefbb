"""What a block store promises (jindopy/_ext/blockstore.pyi), one promise a test."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jindopy._ext.blockfiles import cid_path
from jindopy._ext.blockstore import BlockStore, CacheFile, ScrubResult, TierSpec
from jindopy._ext.blocktable import sizes
from jindopy._ext.crc64 import crc64
from jindopy.base.errors import CacheBusy, CacheError, CacheFull
from tests.twins.blockstore_twin import MIB, sealed

CID = bytes(range(16))

MakeStore = Callable[..., BlockStore]


def fill(lease: CacheFile, data: bytes) -> None:
    for index in range(-(-len(data) // MIB)):
        lease.put(index, sealed(data[index * MIB : (index + 1) * MIB]))


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeStore]:
    stores: list[BlockStore] = []

    def build(
        quota_bytes: int = 64 * MIB, high: float = 0.95, low: float = 0.8, path: Path = tmp_path / "cache"
    ) -> BlockStore:
        stores.append(BlockStore([TierSpec("SSD", str(path), quota_bytes, high, low, 0)], sync_seconds=0))
        return stores[-1]

    yield build
    while stores:
        stores.pop().close()


def test_bytes_come_back_and_survive_a_restart(make: MakeStore) -> None:
    data = os.urandom(3 * MIB + 1000)
    store = make()
    lease = store.open(CID, len(data), 7)
    assert lease.missing(0, 100) == [0, 1, 2, 3]
    assert lease.read(0, 1) is None
    fill(lease, data)
    assert lease.missing(0, 100) == []
    assert lease.complete
    assert lease.read(0, 2 * len(data)) == data
    assert lease.read(MIB - 5, 10) == data[MIB - 5 : MIB + 5]
    assert lease.read(len(data), 10) == b""
    assert lease.crc64() == crc64(data)
    lease.close()
    before = store.files(), store.owner_bytes(7), store.stats()
    store.close()
    store = make()
    assert (store.files(), store.owner_bytes(7), store.stats()) == before
    lease = store.open(CID, len(data), 7)
    assert lease.read(0, len(data)) == data
    lease.close()


def test_a_directory_has_one_owner(make: MakeStore) -> None:
    make()
    with pytest.raises(CacheBusy, match=str(os.getpid())):
        make()


def test_a_block_larger_than_any_room_is_refused(make: MakeStore) -> None:
    store = make(quota_bytes=MIB)
    lease = store.open(CID, MIB, 0)
    with pytest.raises(CacheFull, match="quota"):
        lease.put(0, sealed(bytes(MIB)))
    assert store.counters()["put_refused"] == 1
    lease.close()
    assert store.files() == []


def test_nowait_says_why_it_has_nothing(disk_path: Path, make: MakeStore) -> None:
    data = os.urandom(MIB)
    store = make(path=disk_path)
    lease = store.open(CID, len(data), 0)
    assert lease.read(0, 10, nowait=True) is None
    assert not lease.would_block, "missing, so waiting would not help"
    fill(lease, data)
    store.sync()
    file = disk_path / "v1" / "SSD" / cid_path(CID)
    with file.open("rb") as cached:
        os.posix_fadvise(cached.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert lease.read(0, 10, nowait=True) is None
    assert lease.would_block, "there, but the disk would have to be waited for"
    assert lease.read(0, 10) == data[:10]
    assert lease.read(5, 100_000, nowait=True) == data[5 : 5 + 100_000]
    assert not lease.would_block
    lease.close()


def test_a_damaged_block_is_missing_and_can_be_put_again(make: MakeStore, tmp_path: Path) -> None:
    data = os.urandom(2 * MIB)
    store = make()
    lease = store.open(CID, len(data), 0)
    fill(lease, data)
    file = tmp_path / "cache" / "v1" / "SSD" / cid_path(CID)
    with file.open("r+b") as changed:
        changed.seek(MIB + 5)
        changed.write(bytes([data[MIB + 5] ^ 1]))
    assert lease.read(MIB - 1, 2) is None
    assert lease.missing(0, 2) == [1]
    assert lease.crc64() is None
    assert store.counters()["crc_failures"] == 1
    fill(lease, data)
    assert lease.read(0, 2 * MIB) == data
    with file.open("r+b") as changed:
        changed.write(b"\0" * 100)
    assert store.scrub(CID) == ScrubResult(CID, 2, [0])
    assert lease.missing(0, 2) == [0]
    lease.close()


def test_eviction_takes_the_least_recently_used_and_spares_pins(make: MakeStore) -> None:
    store = make(quota_bytes=8 * MIB + MIB // 2, high=1.0, low=0.5)
    cids = [bytes([number]) * 16 for number in range(20)]

    def use(cid: bytes) -> None:
        lease = store.open(cid, MIB, 0)
        if lease.read(0, 1) is None:
            fill(lease, cid * (MIB // 16))
        lease.close()

    for cid in cids[:6]:
        use(cid)
    assert store.pin(cids[1], True)
    use(cids[0])
    for cid in cids[6:12]:
        use(cid)
    held = {stat.cid for stat in store.files()}
    assert cids[1] in held, "pinned"
    assert cids[2] not in held, "the least recently used"
    assert store.stats()[0].pinned_bytes == MIB
    store.close()
    store = make(quota_bytes=8 * MIB + MIB // 2, high=1.0, low=0.5)
    assert {stat.cid for stat in store.files()} == held
    assert [stat.cid for stat in store.files() if stat.pinned] == [cids[1]]
    assert store.cids(True) == cids[1]
    assert len(store.cids()) == 16 * len(held)
    assert {store.cids()[at : at + 16] for at in range(0, 16 * len(held), 16)} == held
    assert store.pin(cids[1], False)
    for cid in cids[12:]:
        use(cid)
    assert cids[1] not in {stat.cid for stat in store.files()}
    assert not store.pin(cids[1], True)


def test_the_janitor_evicts_to_the_low_watermark(make: MakeStore) -> None:
    store = make(quota_bytes=32 * MIB, high=0.5, low=0.25)
    for number in range(20):
        lease = store.open(bytes([number]) * 16, MIB, 0)
        lease.put(0, sealed(bytes(MIB)))
        lease.close()
    # The 16th put passes the high watermark; what is put while the janitor is at work may stay.
    for _ in range(500):
        if store.stats()[0].used_bytes <= 13 * MIB:
            break
        threading.Event().wait(0.01)
    assert 7 * MIB < store.stats()[0].used_bytes <= 13 * MIB
    assert store.counters()["put_refused"] == 0


def test_a_file_larger_than_the_quota_streams_through(make: MakeStore) -> None:
    store = make(quota_bytes=80 * MIB)
    size = 200 * MIB
    lease = store.open(CID, size, 0)
    block = sealed(bytes(MIB))
    for index in range(200):
        lease.put(index, block)
        assert store.stats()[0].used_bytes <= 80 * MIB
    assert lease.missing(199, 1) == []
    assert lease.missing(0, 1) == [0], "cold segments went first"
    assert lease.read(199 * MIB, MIB) == bytes(MIB)
    lease.close()


def test_evicting_an_open_file(make: MakeStore) -> None:
    store = make()
    lease = store.open(CID, MIB, 3)
    fill(lease, b"a" * MIB)
    assert store.evict(CID) == MIB
    assert store.evict(CID) == 0
    assert lease.read(0, 1) is None
    assert store.owner_bytes(3) == (0, 0)
    fill(lease, b"a" * MIB)
    assert lease.read(0, 1) == b"a"
    lease.drop(0)
    assert lease.missing(0, 1) == [0]
    lease.close()
    assert store.peek(CID) is None
    assert store.evict(CID) == 0


def test_what_is_refused(make: MakeStore, tmp_path: Path) -> None:
    store = make()
    lease = store.open(CID, MIB + 1, 0)
    with pytest.raises(ValueError, match="another size"):
        store.open(CID, MIB, 0)
    with pytest.raises(ValueError, match="16 bytes"):
        store.open(b"short", MIB, 0)
    with pytest.raises(ValueError, match="too large"):
        store.open(bytes(16), 1 << 60, 0)
    with pytest.raises(ValueError, match="has 1 bytes"):
        lease.put(1, sealed(b"ab"))
    for index in (2, -1):
        with pytest.raises(ValueError, match="no block"):
            lease.put(index, sealed(b"a"))
    with pytest.raises(TypeError):
        CacheFile()
    lease.close()
    lease.close()
    with pytest.raises(ValueError, match="closed"):
        lease.read(0, 1)
    still_open = store.open(CID, MIB, 0)
    store.close()
    with pytest.raises(CacheError, match="closed"):
        still_open.read(0, 1)
    with pytest.raises(CacheError, match="closed"):
        store.open(CID, MIB, 0)
    still_open.close()
    good = TierSpec("SSD", str(tmp_path), 8 * MIB, 0.9, 0.8, 0)
    for change in ({"name": "TAPE"}, {"low": 0.95}, {"high": 1.5}, {"quota_bytes": 1}, {"min_free_bytes": -1}):
        with pytest.raises(ValueError, match=r"tier|MEM"):
            BlockStore([good._replace(**change)])
    for specs in ([], [good, good._replace(name="HDD")]):
        with pytest.raises(ValueError, match="tier"):
            BlockStore(specs)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CacheError, match="directory"):
        BlockStore([good._replace(path=str(tmp_path / "file"))])


def test_an_empty_object_is_complete(make: MakeStore) -> None:
    store = make()
    lease = store.open(CID, 0, 0)
    assert lease.complete
    assert lease.read(0, 10) == b""
    assert lease.missing(0, 10) == []
    assert lease.crc64() == crc64(b"")
    lease.warm(0, 10)
    lease.close()


def test_an_entry_costs_little_memory() -> None:
    """A file of one block: entry, segment and malloc's two headers; measured 200 bytes at a million."""
    assert sizes()["entry"] + sizes()["segment"] + 32 <= 220
