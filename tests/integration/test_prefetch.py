"""Small files fetched ahead of their readers: the parts of a mount over a real object store, without a kernel."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jindopy._ext.blockstore import TierSpec
from jindopy._ext.iobuf import BufferPool
from jindopy.base.clock import Deadline, SimulatedClock
from jindopy.base.ident import ROOT_INODE, FileVersion, MountId, NodeId
from jindopy.cache.fill import FillConfig, Filler
from jindopy.cache.store import Cache
from jindopy.config.settings import UfsMount
from jindopy.modes.parts import Parts, open_parts
from jindopy.read.neighbours import Sibling
from jindopy.read.prefetch import DIRECTORIES_MAX, IDLE_SECONDS, PrefetchConfig, Prefetcher
from jindopy.ufs import memory
from jindopy.ufs.registry import open_driver
from tests.emulator_fixture import Emulator, running_emulator
from tests.mount_fixture import settings_for, wait_until

FILES = 200
BUCKET = "demo"


def content(name: str) -> bytes:
    return random.Random(name).randbytes(3000)


class Reading:
    """A tree over a store, read by whole files."""

    def __init__(self, parts: Parts, emulator: Emulator) -> None:
        self.parts = parts
        self.emulator = emulator

    def directory(self, name: str) -> NodeId:
        """List it, as a program that reads its files would."""
        nodeid = NodeId(self.parts.vfs.lookup(NodeId(ROOT_INODE), name.encode()).nodeid)
        self.parts.vfs.releasedir(self.parts.vfs.opendir(nodeid))
        return nodeid

    def read(self, directory: NodeId, name: str) -> bytes:
        vfs = self.parts.vfs
        attr = vfs.lookup(directory, name.encode())
        nodeid = NodeId(attr.nodeid)
        vfs.open(nodeid)
        try:
            return vfs.read(nodeid, 0, attr.size)
        finally:
            vfs.release(nodeid)
            vfs.forget(nodeid, 1)

    @property
    def gets(self) -> int:
        return self.emulator.stats().get("GetObject", 0)


def names(count: int = FILES) -> list[str]:
    return [f"f{number:04}" for number in range(count)]


@contextlib.contextmanager
def reading(work: Path, *, files: dict[str, int], **changes: object) -> Iterator[Reading]:
    """Folders of so many files in the store, and a tree over them with nothing cached."""
    with running_emulator(work / "store", buckets=[BUCKET], latency="5ms") as emulator, contextlib.ExitStack() as stack:
        for folder, count in files.items():
            (emulator.root / BUCKET / folder).mkdir(parents=True)
            for name in names(count):
                (emulator.root / BUCKET / folder / name).write_bytes(content(folder + name))
        options = {
            "fs.oss.endpoint": emulator.endpoint,
            "fs.oss.region": "cn-hangzhou",
            "fs.oss.accessKeyId": emulator.keys[0],
            "fs.oss.accessKeySecret": emulator.keys[1],
        }
        settings = settings_for(work, [UfsMount(f"oss://{BUCKET}/", "", options)], **changes)
        for folder in (settings.state_dir, settings.run_dir):
            Path(folder).mkdir(parents=True)
        yield Reading(open_parts(settings, stack), emulator)


def test_files_read_in_order_are_fetched_before_they_are_opened(tmp_path: Path) -> None:
    with reading(tmp_path, files={"d": FILES}) as tree:
        directory = tree.directory("d")
        for name in names()[:12]:
            assert tree.read(directory, name) == content("d" + name)
        wait_until(lambda: tree.gets > 12 + 8)
        for name in names()[12:]:
            assert tree.read(directory, name) == content("d" + name)
        assert tree.gets == FILES, "each file once, whoever asked for it first"


def test_a_shuffled_epoch_is_fetched_ahead_and_the_next_one_asks_for_nothing(tmp_path: Path) -> None:
    with reading(tmp_path, files={"d": FILES}) as tree:
        directory = tree.directory("d")
        order = names()
        random.Random(3).shuffle(order)
        for name in order[:20]:
            assert tree.read(directory, name) == content("d" + name)
        wait_until(lambda: tree.gets == FILES)
        for epoch in range(2):
            for name in order if epoch else order[20:]:
                assert tree.read(directory, name) == content("d" + name)
            random.Random(epoch).shuffle(order)
        assert tree.gets == FILES


def test_files_that_stay_open_are_followed_in_a_later_epoch_too(tmp_path: Path) -> None:
    """A transport that is not told of opens keeps files open; their blocks may be evicted meanwhile."""
    with reading(tmp_path, files={"d": FILES}) as tree:
        directory = tree.directory("d")
        vfs = tree.parts.vfs
        nodeids = [NodeId(vfs.lookup(directory, name.encode()).nodeid) for name in names()]
        for nodeid in nodeids:
            vfs.open(nodeid)
            assert vfs.read_now(nodeid, 0, 3000) or vfs.read(nodeid, 0, 3000)
        assert tree.gets == FILES
        for nodeid in nodeids:
            tree.parts.cache.evict(vfs.version_of(nodeid, vfs.getattr(nodeid)).cid)
        random.Random(7).shuffle(nodeids)
        for nodeid in nodeids[:20]:
            assert vfs.read_now(nodeid, 0, 3000) or vfs.read(nodeid, 0, 3000)
        wait_until(lambda: tree.gets > FILES + 100)


def test_one_file_brings_no_other(tmp_path: Path) -> None:
    with reading(tmp_path, files={"d": FILES}) as tree:
        directory = tree.directory("d")
        for _ in range(3):
            tree.read(directory, "f0100")
        time.sleep(0.3)
        assert tree.gets == 1


def test_nothing_is_fetched_ahead_where_it_is_turned_off(tmp_path: Path) -> None:
    with reading(tmp_path, files={"d": 40}, prefetch_bytes_max=0) as tree:
        directory = tree.directory("d")
        for name in names(20):
            tree.read(directory, name)
        time.sleep(0.3)
        assert tree.gets == 20


def test_readers_wait_for_no_file_but_their_own(tmp_path: Path) -> None:
    """A store that is slow for one folder holds up the fetches ahead in it, and nobody who reads elsewhere."""
    readers = 12
    with reading(tmp_path, files={"slow": FILES, "other": readers}) as tree:
        slow, other = tree.directory("slow"), tree.directory("other")
        for name in names()[:6]:
            tree.read(slow, name)
        tree.emulator.set_faults(
            {"kind": "slow", "operations": ["GetObject"], "key_prefix": "slow/", "delay_seconds": 8}
        )
        stuck = threading.Thread(target=tree.read, args=(slow, "f0100"))
        stuck.start()
        tree.read(other, "f0000")
        answers: dict[str, bytes] = {}

        def read(name: str) -> None:
            answers[name] = tree.read(other, name)

        began = time.monotonic()
        threads = [threading.Thread(target=read, args=(name,)) for name in names(readers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(15)
        assert time.monotonic() - began < 6
        assert answers == {name: content("other" + name) for name in names(readers)}
        tree.emulator.set_faults()
        stuck.join(30)


class Still:
    """A tree of one directory over the memory driver, whose fetches can be held back, and a prefetcher on it."""

    def __init__(self, root: Path, name: str, files: int, **config: int) -> None:
        self.store = memory.store(name)
        self.inner, _ = open_driver(f"memory://{name}")
        self.gets: list[bytes] = []
        self.let_go = threading.Event()
        self.let_go.set()
        self.versions = [self._version(b"k%04d" % number) for number in range(files)]
        self.cache = Cache([TierSpec("SSD", str(root), 256 << 20, 0.95, 0.8, 0)])
        self.pool = BufferPool(8 << 20)
        self.filler = Filler(self.cache, self, self.pool, FillConfig(threads=8))
        self.clock = SimulatedClock()
        self.complete = True
        self.prefetcher = Prefetcher(
            self.cache, self.filler, self.pool, self, PrefetchConfig(**config), clock=self.clock
        )

    def _version(self, key: bytes) -> FileVersion:
        stat = self.store.put(key, key * 100)
        return FileVersion.of(MountId(1), self.inner.ufs_id, key, stat.token, stat.size)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def driver(self, mount):
        return self

    def get(self, key, offset, size_bytes, *, token, deadline):
        self.gets.append(key)
        assert self.let_go.wait(30)
        return self.inner.get(key, offset, size_bytes, token=token, deadline=deadline)

    def siblings(self, directory: NodeId) -> list[Sibling] | None:
        if not self.complete:
            return None
        return [Sibling(number + 2, version.key, version.size) for number, version in enumerate(self.versions)]

    def current_version(self, nodeid: NodeId) -> FileVersion | None:
        return self.versions[nodeid - 2]

    def open(self, number: int, directory: int = 1) -> None:
        version = self.versions[number]
        lease = self.cache.open(version)
        self.prefetcher.opened(NodeId(directory), NodeId(number + 2), version.size, lease.complete)
        lease.close()

    def cached(self) -> int:
        return sum(self.cache.peek(version.cid) is not None for version in self.versions)

    def close(self) -> None:
        self.let_go.set()
        self.prefetcher.close()
        self.filler.close()
        self.cache.close()


@contextlib.contextmanager
def still(tmp_path: Path, files: int = 100, **config: int) -> Iterator[Still]:
    made = Still(tmp_path / "cache", tmp_path.name, files, **config)
    try:
        yield made
    finally:
        made.close()
        memory.forget(tmp_path.name)


def test_no_more_files_are_on_their_way_than_allowed(tmp_path: Path) -> None:
    with still(tmp_path, flying_files_max=5) as tree:
        tree.let_go.clear()
        for number in range(30):
            tree.open(number)
        wait_until(lambda: len(tree.gets) == 5)
        time.sleep(0.2)
        assert len(tree.gets) == 5
        tree.let_go.set()
        wait_until(lambda: len(tree.gets) > 10)


def test_nothing_is_begun_while_memory_is_short(tmp_path: Path) -> None:
    with still(tmp_path) as tree:
        taken = [tree.pool.acquire(1 << 20) for _ in range(7)]
        for number in range(10):
            tree.open(number)
        time.sleep(0.2)
        assert tree.gets == []
        for buffer in taken:
            buffer.release()
        wait_until(lambda: len(tree.gets) > 2)


def test_a_listing_that_is_not_complete_is_looked_at_again(tmp_path: Path) -> None:
    with still(tmp_path) as tree:
        tree.complete = False
        for number in range(3):
            tree.open(number)
        time.sleep(0.1)
        assert tree.gets == []
        tree.complete = True
        for number in range(3, 10):
            tree.open(number)
            time.sleep(0.01)
        wait_until(lambda: len(tree.gets) > 2)


def test_what_nobody_opened_is_bounded_over_all_directories(tmp_path: Path) -> None:
    with still(tmp_path, unused_bytes_max=20 * 500) as tree:
        ahead = 0
        for number in range(60):
            for directory in (1, 7):
                tree.open(number, directory)
                assert tree.prefetcher.ahead_bytes <= 20 * 500
                ahead = max(ahead, tree.prefetcher.ahead_bytes)
            time.sleep(0.002)
        assert ahead > 10 * 500


def test_a_file_that_is_gone_from_the_store_harms_nobody(tmp_path: Path) -> None:
    with still(tmp_path) as tree:
        for number in (3, 4, 5):
            tree.store.delete(b"k%04d" % number)
        for number in range(3):
            tree.open(number)
        wait_until(lambda: len(tree.gets) >= 5)
        for number in range(6, 40):
            tree.open(number)
        wait_until(lambda: tree.cached() > 20)
        assert [tree.gets.count(b"k%04d" % number) for number in (3, 4, 5)] == [1, 1, 1]


def test_idle_directories_are_forgotten(tmp_path: Path) -> None:
    with still(tmp_path) as tree:
        for number in range(10):
            tree.open(number)
        wait_until(lambda: tree.cached() > 2)
        assert tree.prefetcher.ahead_bytes > 0
        tree.clock.advance(IDLE_SECONDS + 1)
        tree.open(99, directory=7)
        assert tree.prefetcher.ahead_bytes == 0
        assert tree.prefetcher.directories == 1


def test_a_directory_that_is_cached_is_watched_no_longer(tmp_path: Path) -> None:
    with still(tmp_path) as tree:
        for number, version in enumerate(tree.versions):
            tree.open(number)
            with contextlib.closing(tree.cache.open(version)) as lease:
                tree.filler.read(version, lease, 0, version.size, Deadline.after(20))
        assert tree.prefetcher.directories == 1
        for epoch in range(4):
            for number in random.Random(epoch).sample(range(100), 100):
                tree.open(number)
        assert tree.prefetcher.directories == 0


def test_not_more_directories_are_watched_than_allowed(tmp_path: Path) -> None:
    with still(tmp_path) as tree:
        for directory in range(2, DIRECTORIES_MAX + 50):
            tree.open(50, directory)
        assert tree.prefetcher.directories == DIRECTORIES_MAX


@pytest.mark.expect_log("fetching ahead failed unexpectedly")
def test_a_bug_below_ends_one_fetch_and_not_the_worker(tmp_path: Path) -> None:
    with still(tmp_path) as tree:
        good = tree.versions[2]
        tree.versions[2] = None  # type: ignore[call-overload]
        tree.current_version = lambda nodeid: tree.versions[nodeid - 2].key and tree.versions[nodeid - 2]  # type: ignore[method-assign]
        tree.siblings = lambda directory: [Sibling(n + 2, b"k%04d" % n, 500) for n in range(100)]  # type: ignore[method-assign]
        for number in (0, 1):
            tree.open(number)
        wait_until(lambda: b"k0003" in tree.gets)
        tree.versions[2] = good
