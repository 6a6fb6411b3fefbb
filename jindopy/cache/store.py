"""The cache as the rest of the program sees it: versions go in, leases come out.

Wraps the native block store: turns identities into cids and owner tags, watches the disks' health, and keeps the
question "may this block be stored now?" in one place (``put``).  Bytes never pass through here.

Threads: every method may be called from any; the native store has its own locks, the health record has one here.
On failure: a full or failing disk refuses blocks (``put`` says so), reads go on from what is there and from the UFS.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import threading
from collections.abc import Sequence
from typing import Final, final

from jindopy._ext.blockstore import BlockStore, CacheFile, FileStat, ScrubResult, TierSpec, TierStat
from jindopy._ext.iobuf import SealedBuffer
from jindopy.base.clock import REAL_CLOCK, Clock
from jindopy.base.errors import CacheError, CacheFull
from jindopy.base.ident import BLOCK_BYTES, CID_BYTES, Cid, FileVersion, UfsId
from jindopy.cache.health import DiskHealth, DiskState

LOG = logging.getLogger("jindopy.cache")

INDEX_BYTES_A_FILE: Final = 220
INDEX_BYTES_A_BLOCK: Final = 65
"""A file of one piece, a MiB of a large file: what blocktable says, and its test holds."""


def owner_tag(ufs_id: UfsId) -> int:
    """64-bit tag under which the block store sums what belongs to a UFS."""
    return int.from_bytes(hashlib.blake2b(ufs_id.encode(), digest_size=8).digest(), "little")


@final
class Cache:
    """Tiers, quotas and leases."""

    def __init__(self, tiers: Sequence[TierSpec], *, clock: Clock = REAL_CLOCK) -> None:
        """Take the cache directories.

        Raises CacheBusy, FormatTooNew, CacheError.
        """
        self._tiers = list(tiers)
        self._clock = clock
        self._store = BlockStore(self._tiers)
        self._health = DiskHealth()
        self._health_lock = threading.Lock()

    def open(self, version: FileVersion) -> CacheFile:
        """Lease on a version; close it when done."""
        return self._store.open(version.cid, version.size, owner_tag(version.ufs_id))

    def peek(self, cid: Cid) -> FileStat | None:
        """What is cached of a version."""
        return self._store.peek(cid)

    def put(self, lease: CacheFile, block_index: int, block: SealedBuffer) -> bool:
        """Store a block; False when it cannot be kept now (no room, or the disk is failing)."""
        with self._health_lock:
            if not self._health.may_write(self._clock.monotonic()):
                return False
        try:
            lease.put(block_index, block)
        except CacheFull as error:
            LOG.debug("block not kept: %s", error)
            return False
        except CacheError as error:
            self._failed(error)
            return False
        with self._health_lock:
            self._health.succeeded()
        return True

    def may_store(self) -> bool:
        """Whether to try to store a block now: asked by who stores natively and tells ``stored`` what came of it."""
        with self._health_lock:
            return self._health.may_write(self._clock.monotonic())

    def stored(self, put_error: int) -> bool:
        """What the block store said to a native put: 0, an errno, or -1: not tried.  True: the block is kept."""
        if put_error == 0:
            if self._health.state is not DiskState.NORMAL:
                with self._health_lock:
                    self._health.succeeded()
            return True
        if put_error not in {-1, errno.ENOSPC, errno.EDQUOT}:
            self._failed(os.strerror(put_error))
        return False

    def _failed(self, cause: object) -> None:
        with self._health_lock:
            before = self._health.state
            self._health.failed(self._clock.monotonic())
            after = self._health.state
        if after is not before:
            LOG.warning("cache disk is %s: %s; reads go on from the store, check the disk", after.value, cause)

    def pin(self, cid: Cid, pinned: bool) -> bool:
        """Set or clear a version's pin; False when nothing is known of it."""
        return self._store.pin(cid, pinned)

    def evict(self, cid: Cid) -> int:
        """Drop a version; returns object bytes freed."""
        return self._store.evict(cid)

    def cids(self, *, pinned: bool = False) -> list[Cid]:
        """Of all versions with an entry, or of those that are pinned: a million take 0.2 s."""
        joined = self._store.cids(pinned)
        return [Cid(joined[at : at + CID_BYTES]) for at in range(0, len(joined), CID_BYTES)]

    def scrub(self, cid: Cid) -> ScrubResult:
        """Check a version's blocks."""
        return self._store.scrub(cid)

    def owner_bytes(self, ufs_id: UfsId) -> tuple[int, int]:
        """(object bytes, files) cached of a UFS."""
        return self._store.owner_bytes(owner_tag(ufs_id))

    def stats(self) -> list[TierStat]:
        """Figures of each tier."""
        return self._store.stats()

    def counters(self) -> dict[str, int]:
        """Counts since start (see BlockStore.counters)."""
        return self._store.counters()

    def index_bytes(self) -> int:
        """Memory that knowing what is cached takes, near enough (see blocktable)."""
        return sum(
            stat.files * INDEX_BYTES_A_FILE + stat.cached_bytes // BLOCK_BYTES * INDEX_BYTES_A_BLOCK
            for stat in self.stats()
        )

    @property
    def blocks(self) -> BlockStore:
        """The native store, for native readers that find entries by themselves."""
        return self._store

    @property
    def tiers(self) -> list[TierSpec]:
        """As configured."""
        return list(self._tiers)

    @property
    def disk_state(self) -> DiskState:
        """Worst state of the disks behind the tiers."""
        return self._health.state

    def sync(self) -> None:
        """Make what was stored survive a power cut."""
        self._store.sync()

    def close(self) -> None:
        """Write the snapshot and let the directories go."""
        self._store.close()
