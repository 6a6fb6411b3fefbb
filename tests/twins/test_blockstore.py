"""What a block store promises (jindopy/_ext/blockstore.pyi), one promise a test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jindopy._ext.blockstore import BlockStore, CacheFile, TierSpec
from jindopy._ext.crc64 import crc64
from jindopy.base.errors import CacheBusy, CacheFull
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
