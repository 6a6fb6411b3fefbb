"""Random operations, restarts, crashes and damage on a real block store, compared with its twin.

Bytes are compared exactly.  The store may miss what the twin has only after it evicted something (or somebody damaged
its files), never what is pinned; it may never have what the twin has not.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jindopy._ext.blockstore import BlockStore, CacheFile, TierSpec
from jindopy._ext.crc64 import crc64
from jindopy.base.errors import CacheFull
from tests.twins.blockstore_twin import MIB, BlockStoreTwin, cid_of, known_block, sealed

QUOTA_BYTES = 6 * MIB
# One block, none, blocks with a short end, and more than one segment of 64.
SIZES = (0, 1, 4096, MIB, MIB + 1, 3 * MIB + 77, 130 * MIB)

numbers = st.integers(0, len(SIZES) - 1)


def content(number: int, block: int) -> bytes:
    return known_block(cid_of(number), SIZES[number], block)


class BlockStoreModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="jindopy-model-"))
        self.lives = 0
        self.twin = BlockStoreTwin()
        self.leases: dict[int, CacheFile] = {}
        self.damaged = False

    @initialize(tiers=st.integers(1, 2))
    def begin(self, tiers: int) -> None:
        self.tiers = tiers
        self.start()

    def start(self) -> None:
        place = self.root / str(self.lives)
        self.store = BlockStore(
            [TierSpec(name, str(place / name), QUOTA_BYTES, 1.0, 0.7, 0) for name in ("SSD", "HDD")[: self.tiers]],
            sync_seconds=0,
        )
        self.evicted_before = 0

    def teardown(self) -> None:
        for lease in self.leases.values():
            lease.close()
        self.store.close()
        shutil.rmtree(self.root)

    # --- what anybody may do

    @rule(number=numbers)
    def open_or_close(self, number: int) -> None:
        if number in self.leases:
            self.leases.pop(number).close()
            self.twin.close(cid_of(number))
        else:
            self.leases[number] = self.store.open(cid_of(number), SIZES[number], number % 2)
            self.twin.open(cid_of(number), SIZES[number], number % 2)

    @rule(number=numbers, where=st.floats(0, 1, exclude_max=True), many=st.integers(1, 3))
    def put(self, number: int, where: float, many: int) -> None:
        if number not in self.leases or not SIZES[number]:
            return
        blocks = -(-SIZES[number] // MIB)
        first = int(where * blocks)
        for block in range(first, min(first + many, blocks)):
            data = content(number, block)
            try:
                self.leases[number].put(block, sealed(data))
            except CacheFull:
                assert self.pinned_bytes() + MIB + 64 * 4096 > QUOTA_BYTES, "room could have been made"
            else:
                self.twin.put(cid_of(number), block, data)

    @rule(number=numbers, where=st.floats(0, 1), size_bytes=st.sampled_from((0, 1, 4096, MIB, 2 * MIB + 3)))
    def read(self, number: int, where: float, size_bytes: int) -> None:
        if number not in self.leases:
            return
        self.notice_evictions()
        offset = int(where * SIZES[number])
        found = self.leases[number].read(offset, size_bytes)
        expected = self.twin.read(cid_of(number), offset, size_bytes)
        if self.damaged and found is None:
            self.notice_evictions()
        else:
            assert found == expected

    @rule(number=numbers, pinned=st.booleans())
    def pin(self, number: int, pinned: bool) -> None:
        self.notice_evictions()
        assert self.store.pin(cid_of(number), pinned) == self.twin.pin(cid_of(number), pinned)

    @rule(number=numbers)
    def evict(self, number: int) -> None:
        self.notice_evictions()
        assert self.store.evict(cid_of(number)) == self.twin.evict(cid_of(number))
        self.evicted_before = self.store.counters()["evicted_bytes"]

    @rule(number=numbers, where=st.floats(0, 1, exclude_max=True))
    def drop(self, number: int, where: float) -> None:
        if number in self.leases and SIZES[number]:
            block = int(where * -(-SIZES[number] // MIB))
            self.leases[number].drop(block)
            self.twin.drop(cid_of(number), block)

    # --- what happens to processes and disks

    @rule()
    def restart(self) -> None:
        self.notice_evictions()
        self.end_leases()
        self.store.close()
        self.start()

    @rule()
    def crash(self) -> None:
        """Go on with a copy of the directories as they are, as after kill -9."""
        self.notice_evictions()
        before, after = self.root / str(self.lives), self.root / str(self.lives + 1)
        for tier in before.iterdir():
            (after / tier.name / "v1").mkdir(parents=True)
            # The log first: a snapshot that is newer than its log loses nothing, an older one would.
            for name in ("index.log", "index.old", "index.snap"):
                if (tier / "v1" / name).exists():
                    shutil.copy(tier / "v1" / name, after / tier.name / "v1" / name)
            shutil.copytree(tier / "v1" / tier.name, after / tier.name / "v1" / tier.name)
        self.end_leases()
        self.store.close()
        shutil.rmtree(before)
        self.lives += 1
        self.start()

    @precondition(lambda self: not self.damaged)
    @rule(number=numbers)
    def damage(self, number: int) -> None:
        """Somebody zeroes a file while the store is down; everything read afterwards must still be right."""
        self.restart()
        for file in self.root.rglob(cid_of(number).hex()):
            file.write_bytes(bytes(file.stat().st_size))
            self.damaged = True

    # --- what always holds

    @invariant()
    def sums_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        self.notice_evictions()
        files = {stat.cid: stat for stat in self.store.files()}
        assert set(files) == set(self.twin.entries)
        for cid, entry in self.twin.entries.items():
            assert files[cid].cached_bytes == entry.cached_bytes
            assert files[cid].pinned == entry.pinned
            assert files[cid].owner == entry.owner
            assert self.store.peek(cid) == files[cid]
        for owner in (0, 1):
            assert self.store.owner_bytes(owner) == self.twin.owner_bytes(owner)
        tiers = self.store.stats()
        assert sum(tier.cached_bytes for tier in tiers) == sum(e.cached_bytes for e in self.twin.entries.values())
        assert sum(tier.blocks for tier in tiers) == sum(len(e.blocks) for e in self.twin.entries.values())
        assert sum(tier.pinned_bytes for tier in tiers) == self.pinned_bytes()
        for tier in tiers:
            assert tier.used_bytes <= tier.quota_bytes
        for number, lease in self.leases.items():
            assert lease.complete == (self.twin.entries[cid_of(number)].cached_bytes == SIZES[number])
            if lease.complete:
                whole = b"".join(content(number, block) for block in range(-(-SIZES[number] // MIB)))
                assert lease.crc64() == crc64(whole)

    def pinned_bytes(self) -> int:
        return sum(entry.cached_bytes for entry in self.twin.entries.values() if entry.pinned)

    def end_leases(self) -> None:
        for lease in self.leases.values():
            lease.close()
        self.leases.clear()
        self.twin.restart()

    def notice_evictions(self) -> None:
        """Tell the twin which blocks are gone, and refuse it when nothing explains that."""
        evicted = self.store.counters()["evicted_bytes"]
        explained = evicted != self.evicted_before or self.damaged
        self.evicted_before = evicted
        for cid in list(self.twin.entries):
            entry = self.twin.entries[cid]
            if entry.blocks and self.cached_bytes(cid) != entry.cached_bytes:
                with_lease = self.store.open(cid, entry.size, entry.owner)
                gone = set(with_lease.missing(0, entry.block_count)) & set(entry.blocks)
                with_lease.close()
                assert explained
                assert not entry.pinned or self.damaged
                for block in gone:
                    self.twin.drop(cid, block)
                self.twin.open(cid, entry.size, entry.owner)
                self.twin.close(cid)

    def cached_bytes(self, cid: bytes) -> int:
        stat = self.store.peek(cid)
        return stat.cached_bytes if stat else 0


TestBlockStoreModel = BlockStoreModel.TestCase
TestBlockStoreModel.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestBlockStoreModel = pytest.mark.slow(TestBlockStoreModel)
