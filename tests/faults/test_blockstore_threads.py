"""Readers, writers, evictors and pinners on one small store at once: every byte read says itself whose it is."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jindopy._ext.blockstore import BlockStore, CacheFile, FileStat, TierSpec, TierStat, live_counts
from jindopy.base.errors import CacheFull
from tests.twins.blockstore_twin import MIB, cid_of, known_block, sealed

SECONDS = 5
QUOTA_BYTES = 24 * MIB
# The last one alone is three times the quota: its cold segments are punched under its readers.
SIZES = (100_000, 3 * MIB + 77, 1, MIB, 100_000, 2 * MIB, 5000, 70 * MIB)
FILES = 24


def size_of(number: int) -> int:
    return SIZES[number % len(SIZES)]


class Stress:
    def __init__(self, path: Path) -> None:
        self.store = BlockStore([TierSpec("SSD", str(path), QUOTA_BYTES, 0.9, 0.6, 0)], sync_seconds=0.2)
        self.stop = threading.Event()
        self.failures: list[BaseException] = []
        self.hits = 0
        self.lines: dict[tuple[int, int], bytes] = {}

    def block(self, number: int, block: int) -> bytes:
        key = number, block
        if key not in self.lines:
            self.lines[key] = known_block(cid_of(number), size_of(number), block)
        return self.lines[key]

    def lease(self, number: int) -> CacheFile:
        return self.store.open(cid_of(number), size_of(number), number % 3)

    def run(self, work: Callable[[random.Random], None], seed: int) -> None:
        chance = random.Random(seed)
        try:
            while not self.stop.is_set():
                work(chance)
        except BaseException as error:
            self.failures.append(error)
            self.stop.set()

    def read(self, chance: random.Random) -> None:
        number = chance.randrange(FILES)
        lease = self.lease(number)
        for _ in range(4):
            block = chance.randrange(-(-size_of(number) // MIB))
            expected = self.block(number, block)
            start = chance.randrange(len(expected))
            count = chance.choice((1, 4096, 131072, MIB))
            found = lease.read(block * MIB + start, min(count, len(expected) - start), chance.random() < 0.3)
            if found is not None:
                self.hits += 1
                assert found == expected[start : start + count], (number, block, start)
        lease.close()

    def write(self, chance: random.Random) -> None:
        number = chance.randrange(FILES)
        lease = self.lease(number)
        first = chance.randrange(-(-size_of(number) // MIB))
        for block in lease.missing(first, 4):
            try:
                lease.put(block, sealed(self.block(number, block)))
            except CacheFull:
                break
        lease.close()

    def disturb(self, chance: random.Random) -> None:
        number = chance.randrange(FILES)
        match chance.randrange(6):
            case 0:
                self.store.evict(cid_of(number))
            case 1:
                self.store.pin(cid_of(number), number < 3)
            case 2:
                assert self.store.scrub(cid_of(number)).bad_blocks == []
            case 3:
                lease = self.lease(number)
                lease.drop(chance.randrange(-(-size_of(number) // MIB)))
                lease.close()
            case 4:
                tier = self.store.stats()[0]
                assert tier.used_bytes <= tier.quota_bytes
            case 5:
                self.store.sync()
        self.stop.wait(0.002)


def settled(store: BlockStore) -> tuple[list[FileStat], list[TierStat]]:
    """What the store holds once the eviction that the last put began is over."""
    while True:
        before = sorted(store.files()), [tier._replace(evicted_bytes=0) for tier in store.stats()]
        time.sleep(0.3)
        if before == (sorted(store.files()), [tier._replace(evicted_bytes=0) for tier in store.stats()]):
            return before


@pytest.mark.slow
def test_no_thread_ever_reads_a_wrong_byte(tmp_path: Path, rounds: Callable[[int, int], int]) -> None:
    before = live_counts()
    stress = Stress(tmp_path)
    jobs = [stress.read] * 4 + [stress.write] * 3 + [stress.disturb]
    threads = [threading.Thread(target=stress.run, args=(job, seed)) for seed, job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    stress.stop.wait(rounds(SECONDS, 300))
    stress.stop.set()
    for thread in threads:
        thread.join()
    assert stress.failures == []
    counters = stress.store.counters()
    assert counters["crc_failures"] == counters["io_errors"] == 0
    assert stress.hits > 100
    assert counters["evicted_bytes"] > QUOTA_BYTES
    expected = settled(stress.store)
    stress.store.close()
    assert live_counts() == {**before, "stores": before["stores"] + 1}
    stress.store = BlockStore([TierSpec("SSD", str(tmp_path), QUOTA_BYTES, 0.9, 0.6, 0)], sync_seconds=0)
    assert settled(stress.store) == expected
    for stat in stress.store.files():
        assert stress.store.scrub(stat.cid).bad_blocks == []
    stress.store.close()


def test_many_leases_few_descriptors(tmp_path: Path) -> None:
    """More leases than descriptors may be open; each still reads and writes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        store = BlockStore([TierSpec("SSD", str(tmp_path), QUOTA_BYTES, 1.0, 0.6, 0)], sync_seconds=0)
        leases = [store.open(cid_of(8 * number), 100_000, 0) for number in range(400)]
        for _ in range(2):
            for number, lease in enumerate(leases):
                data = known_block(cid_of(8 * number), 100_000, 0)
                if lease.missing(0, 1):
                    lease.put(0, sealed(data))
                assert lease.read(0, MIB) in (data, None)
        assert 50 < live_counts()["descriptors"] <= 100
        for lease in leases:
            lease.close()
        assert live_counts()["descriptors"] == 0
        store.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_lease_closed_under_its_reader(tmp_path: Path) -> None:
    store = BlockStore([TierSpec("SSD", str(tmp_path), QUOTA_BYTES, 1.0, 0.6, 0)], sync_seconds=0)
    data = known_block(cid_of(3), MIB, 0)
    for _ in range(50):
        lease = store.open(cid_of(3), MIB, 0)
        lease.put(0, sealed(data))
        found: list[bytes | None] = []

        def read(lease: CacheFile = lease, found: list[bytes | None] = found) -> None:
            try:
                while True:
                    found.append(lease.read(0, MIB))
            except ValueError:
                return

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        while not found:
            time.sleep(0)
        lease.close()
        for thread in threads:
            thread.join()
        assert set(found) == {data}
    assert live_counts()["leases"] == 0
    store.close()


def test_holes_punched_under_readers(tmp_path: Path) -> None:
    """A file of three segments in a quota of four blocks: nearly every put punches what somebody is just reading."""
    store = BlockStore([TierSpec("SSD", str(tmp_path), 4 * MIB + 65536, 1.0, 0.6, 0)], sync_seconds=0)
    cid, size = cid_of(0), 130 * MIB
    blocks = [known_block(cid, size, block) for block in (0, 1, 64, 65, 128, 129)]
    buffers = [sealed(block) for block in blocks]
    numbers = (0, 1, 64, 65, 128, 129)
    stop = threading.Event()
    wrong: list[int] = []
    reads, puts, refused = [0], [0], [0]

    def work(seed: int) -> None:
        chance = random.Random(seed)
        with_lease = store.open(cid, size, 0)
        while not stop.is_set():
            which = chance.randrange(len(numbers))
            if seed % 2:
                try:
                    with_lease.put(numbers[which], buffers[which])
                    puts[0] += 1
                except CacheFull:  # every block there is room for is being read or written at this moment
                    refused[0] += 1
            found = with_lease.read(numbers[which] * MIB, MIB)
            if found is not None:
                reads[0] += 1
                if found != blocks[which]:
                    wrong.append(numbers[which])
        with_lease.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    stop.wait(2)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert reads[0] > 50
    assert puts[0] > 5 * refused[0]
    store.close()
