"""Figures of this process for ``status``: traffic since the daemon began, memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, final

from jindopy._ext.inodes import InodeTable
from jindopy._ext.iobuf import BufferPool
from jindopy.base import metrics
from jindopy.cache.store import Cache
from jindopy.config.memory import REQUEST_THREAD_BYTES, MemoryShares
from jindopy.control.api import MemoryPart, TrafficStatus


class _Counts(NamedTuple):
    """Counters of the process at one moment."""

    cache_reads: int
    cache_bytes: int
    through_bytes: int
    """Answered to readers from blocks that had just come from the UFS."""
    gets: int
    lists: int
    heads: int
    ufs_bytes: int
    retries: int
    crc_failures: int
    stale_reads: int
    fuse_requests: int
    bad_objects: int
    lent_files: int
    lent_bytes: int


@final
class Traffic:
    """What was read since this object was made."""

    def __init__(self, cache: Cache, fuse_requests: Callable[[], int]) -> None:
        self._cache = cache
        self._fuse_requests = fuse_requests
        self._before = self._counts()

    def _counts(self) -> _Counts:
        store = self._cache.counters()
        value = metrics.value
        return _Counts(
            cache_reads=store["hit_reads"],
            cache_bytes=store["hit_bytes"],
            through_bytes=int(value(metrics.READ_BYTES, source="ufs")),
            gets=int(value(metrics.UFS_REQUESTS, operation="get")),
            lists=int(value(metrics.UFS_REQUESTS, operation="list")),
            heads=int(value(metrics.UFS_REQUESTS, operation="head")),
            ufs_bytes=int(value(metrics.UFS_BYTES)),
            retries=int(value(metrics.UFS_RETRIES)),
            crc_failures=store["crc_failures"] + int(value(metrics.CRC_FAILURES, where="get")),
            stale_reads=int(value(metrics.READS_STALE)),
            fuse_requests=self._fuse_requests(),
            bad_objects=int(value(metrics.CRC_FAILURES, where="object")),
            lent_files=store["lent"],
            lent_bytes=store["lent_object_bytes"],
        )

    def status(self) -> TrafficStatus:
        """Sums and what follows from them."""
        now = _Counts(*(count - before for count, before in zip(self._counts(), self._before, strict=True)))
        read_bytes = now.cache_bytes + now.through_bytes
        # Fetched but never read (a load, read-ahead) saves nothing yet; it cannot make the saving negative.
        saved_bytes = max(0, read_bytes - now.ufs_bytes)
        return TrafficStatus(
            read_bytes=read_bytes,
            cache_read_bytes=now.cache_bytes,
            hit_ratio=saved_bytes / read_bytes if read_bytes else 1.0,
            ufs_gets=now.gets,
            ufs_lists=now.lists,
            ufs_heads=now.heads,
            ufs_bytes=now.ufs_bytes,
            saved_bytes=saved_bytes,
            retries=now.retries,
            crc_failures=now.crc_failures,
            stale_reads=now.stale_reads,
            fuse_requests=now.fuse_requests,
            saved_gets=now.cache_reads,
            bad_objects=now.bad_objects,
            passed_opens=now.lent_files,
            passed_bytes=now.lent_bytes,
        )


@final
class MemoryUse:
    """What the shares of the memory budget are used for."""

    def __init__(
        self,
        shares: MemoryShares,
        pool: BufferPool,
        table: InodeTable,
        cache: Cache,
        request_threads: Callable[[], int],
    ) -> None:
        self.budget_bytes = shares.budget_bytes
        self._shares = shares
        self._pool = pool
        self._table = table
        self._cache = cache
        self._request_threads = request_threads

    def parts(self) -> list[MemoryPart]:
        """Now."""
        shares = self._shares
        names_bytes = self._table.memory_bytes + self._cache.index_bytes()
        requests_bytes = self._request_threads() * REQUEST_THREAD_BYTES
        return [
            MemoryPart("buffers", self._pool.used_bytes, shares.buffer_bytes),
            MemoryPart("names", names_bytes, shares.names_bytes),
            MemoryPart("requests", requests_bytes, shares.request_threads * REQUEST_THREAD_BYTES),
        ]


def resident_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
