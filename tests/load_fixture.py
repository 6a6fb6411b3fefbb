"""A mount's parts without a kernel: memory UFS, real namespace, real block store, real fill, the daemon's API."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from jindopy._ext.blockstore import TierSpec
from jindopy._ext.iobuf import BufferPool
from jindopy.base.clock import Deadline
from jindopy.base.errors import JindoError
from jindopy.base.ident import FileVersion, MountId, NodeId
from jindopy.cache.fill import FillConfig, Filler
from jindopy.cache.store import Cache
from jindopy.control.api import LoadProgress, LoadRequest
from jindopy.master.selection import Versions
from jindopy.modes.daemon import Daemon, DaemonFacts
from jindopy.namespace.service import EmbeddedMaster, MountRequest
from jindopy.read.path import ReadPath
from jindopy.ufs import memory
from jindopy.ufs.registry import open_driver
from jindopy.vfs.operations import Vfs


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something that another thread brings about."""
    give_up = Deadline.after(seconds)
    while not condition():
        give_up.check("what the test waits for")
        time.sleep(0.005)


class Gate:
    """A driver around the memory driver: counts GETs, holds them back, fails some keys."""

    def __init__(self, name: str) -> None:
        self.inner, _ = open_driver(f"memory://{name}")
        self.gets: list[bytes] = []
        self.open = threading.Event()
        self.open.set()
        self.waiting = threading.Event()
        self.fail: Callable[[bytes], JindoError | None] = lambda key: None
        self.lock = threading.Lock()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def get(self, key, offset, size_bytes, *, token, deadline):
        with self.lock:
            self.gets.append(key)
        self.waiting.set()
        assert self.open.wait(30)
        error = self.fail(key)
        if error is not None:
            raise error
        return self.inner.get(key, offset, size_bytes, token=token, deadline=deadline)


class LoadBench:
    """Everything a load needs; ``restart`` makes new objects over the same directories."""

    def __init__(self, root: Path, name: str, *, quota_bytes: int = 1 << 30, pool_bytes: int = 64 << 20) -> None:
        self.root, self.name, self.quota_bytes, self.pool_bytes = root, name, quota_bytes, pool_bytes
        memory.forget(name)
        self.store = memory.store(name)
        self.gate = Gate(name)
        self.ended: list[float] = []
        self.ttl_seconds = 60.0
        self.start()

    def start(self) -> None:
        self.cache = Cache([TierSpec("SSD", str(self.root / "cache"), self.quota_bytes, 0.95, 0.8, 0)])
        self.master = EmbeddedMaster(
            self.root / "state",
            [MountRequest(b"", f"memory://{self.name}", self.gate, ttl_seconds=self.ttl_seconds)],
        )
        self.pool = BufferPool(self.pool_bytes)
        self.filler = Filler(self.cache, self, self.pool, FillConfig())
        self.vfs = Vfs(self.master, ReadPath(self.cache, self.filler), self.cache)
        facts = DaemonFacts(
            mount_id="0123456789ab",
            mount_point="/mnt/data",
            version="1",
            transport="none",
            endpoints={mount.id: self.gate for mount in self.master.mounts()},
            notes=["read-ahead is not set"],
        )
        self.daemon = Daemon(
            master=self.master,
            cache=self.cache,
            filler=self.filler,
            vfs=self.vfs,
            facts=facts,
            fuse_requests=lambda: 0,
            shutdown=self.ended.append,
        )

    def stop(self) -> None:
        self.daemon.close()
        self.vfs.close()
        self.filler.close()
        self.master.close()
        self.cache.close()
        # Whoever keeps the bench (a fixture does) must not keep native objects alive.
        del self.daemon, self.vfs, self.filler, self.master, self.cache, self.pool

    def restart(self) -> None:
        self.stop()
        self.start()

    def driver(self, mount: MountId) -> Gate:
        return self.gate

    # What tests ask for.

    def put(self, key: str, data: bytes) -> None:
        self.store.put(key.encode(), data)

    def load(self, *paths: str, **options: bool) -> LoadProgress:
        last = None
        for last in self.daemon.load(LoadRequest(list(paths), **options)):
            assert not last.done or last.phase in ("complete", "failed", "cancelled")
        assert last is not None and last.done
        return last

    def version(self, path: str) -> FileVersion:
        node = self.master.resolve(path.encode(), deadline=Deadline.after(10))
        return Versions(self.master.mounts()).of(path.encode(), node)

    def cached(self, path: str) -> int:
        known = self.cache.peek(self.version(path).cid)
        return known.cached_bytes if known else 0

    def read(self, path: str) -> bytes:
        nodeid = NodeId(1)
        for name in path.encode().split(b"/"):
            attr = self.vfs.lookup(nodeid, name)
            nodeid = NodeId(attr.nodeid)
        self.vfs.open(nodeid)
        try:
            return b"".join(self.vfs.read(nodeid, at, 1 << 20) for at in range(0, attr.size, 1 << 20))
        finally:
            self.vfs.release(nodeid)
