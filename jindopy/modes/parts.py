"""The parts of every mode that reads files: drivers, cache, namespace, fill, read path, vfs.

Made in this order, given to an ExitStack so that they close in reverse; a part that cannot be made undoes those before
it.  Nothing here knows how requests arrive (FUSE, a Python reader), and ``open_readers`` not where the namespace is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from pathlib import Path
from typing import Final, NamedTuple, final

from jindopy._ext.blockstore import TierSpec
from jindopy._ext.iobuf import BufferPool
from jindopy.base.clock import Deadline
from jindopy.base.errors import CacheFull
from jindopy.base.ident import MountId, UfsId
from jindopy.cache.fill import Drivers, FillConfig, Filler, Peers
from jindopy.cache.store import Cache
from jindopy.config.memory import MemoryShares
from jindopy.config.settings import CacheTier, MountSettings, UfsMount
from jindopy.modes.daemon import DaemonMaster, Elsewhere
from jindopy.namespace.mounts import MountRequest
from jindopy.namespace.service import EmbeddedMaster
from jindopy.read.neighbours import NeighbourConfig
from jindopy.read.path import ReadConfig, ReadPath
from jindopy.read.prefetch import PrefetchConfig, Prefetcher
from jindopy.read.readahead import ReadAheadConfig
from jindopy.ufs import uri
from jindopy.ufs.base import Driver, Rate
from jindopy.ufs.credentials import default_chain
from jindopy.ufs.layers import LayerConfig, download_rate, wrap
from jindopy.ufs.registry import open_driver
from jindopy.vfs.checksums import ChecksumLearner
from jindopy.vfs.operations import Vfs, VfsConfig

LOG = logging.getLogger("jindopy.mount")

CHECK_SECONDS_MAX: Final = 20.0
"""Proving endpoint, bucket and key at the start: well inside the command's own 30 s."""
FLYING_OF_THREADS: Final = 2
"""Small files on their way for each GET that can run: one runs, one waits, and none idles while more are chosen."""


@final
class DriverTable:
    """The drivers of a mount's UFS, by mount id."""

    def __init__(self) -> None:
        self._drivers: dict[MountId, Driver] = {}

    def add(self, mount: MountId, driver: Driver) -> None:
        """Remember a mount's driver."""
        self._drivers[mount] = driver

    def driver(self, mount: MountId) -> Driver:
        """The driver of a mount, layers included."""
        return self._drivers[mount]


def open_ufs(mount: UfsMount, rate: Rate | None = None) -> tuple[Driver, bytes]:
    """Driver with its layers, proven to answer; its bodies keep to ``rate``."""
    credentials = default_chain(
        mount.options,
        bucket=uri.parse(mount.uri).authority.partition(".")[0],
        credentials_file=mount.options.get("credentials.file"),
        secret_dir=mount.options.get("credentials.dir"),
    )
    bare, prefix = open_driver(mount.uri, mount.options, credentials)
    driver = wrap(bare, dataclasses.replace(LayerConfig.from_options(mount.options), download_rate=rate))
    try:
        driver.check(deadline=Deadline.after(CHECK_SECONDS_MAX))
    except BaseException:
        driver.close()
        raise
    return driver, prefix


class Parts(NamedTuple):
    """What a mode builds on."""

    drivers: Drivers
    cache: Cache
    master: DaemonMaster
    pool: BufferPool
    filler: Filler
    reads: ReadPath
    vfs: Vfs
    elsewhere: Elsewhere | None = None


def open_parts(settings: MountSettings, stack: contextlib.ExitStack) -> Parts:
    """Make all parts with an embedded master; ``stack`` closes them.  Raises what the user has to mend, in one line."""
    on_exit = stack.callback
    requests = []
    opened: dict[UfsId, Driver] = {}
    limit = settings.download_bytes_per_second
    rate = download_rate(limit) if limit else None
    for mount in settings.mounts:
        driver, prefix = open_ufs(mount, rate)
        on_exit(driver.close)
        opened[driver.ufs_id] = driver
        requests.append(
            MountRequest(
                path=os.fsencode(mount.path),
                uri=mount.uri,
                driver=driver,
                prefix=prefix,
                ttl_seconds=settings.ttl_seconds,
            )
        )
    cache = Cache([tier_spec(tier) for tier in settings.tiers])
    on_exit(close_cache, cache)
    master = EmbeddedMaster(
        Path(settings.state_dir),
        requests,
        uid=settings.uid,
        gid=settings.gid,
        umask=settings.umask,
        list_threads=settings.list_threads,
    )
    on_exit(master.close)
    drivers = DriverTable()
    for known in master.mounts():
        drivers.add(known.id, opened[known.ufs_id])
    return open_readers(settings, stack, drivers, cache, master)


def open_readers(
    settings: MountSettings,
    stack: contextlib.ExitStack,
    drivers: Drivers,
    cache: Cache,
    master: DaemonMaster,
    peers: Peers | None = None,
) -> Parts:
    """The parts above namespace and storage; ``stack`` closes them."""
    on_exit = stack.callback
    learner = ChecksumLearner(master)
    on_exit(learner.close)
    shares = settings.memory_shares
    pool = BufferPool(shares.buffer_bytes)
    filler = Filler(
        cache,
        drivers,
        pool,
        FillConfig(threads=shares.fetch_threads, recent_bytes=shares.recent_bytes),
        on_object_crc64=learner.learn,
        peers=peers,
    )
    on_exit(filler.close)
    readahead = ReadAheadConfig(window_bytes_max=settings.read_ahead_bytes_max)
    reads = ReadPath(cache, filler, ReadConfig(readahead=readahead, ahead_bytes_max=shares.ahead_bytes))
    on_exit(reads.close)
    vfs_config = VfsConfig(request_seconds_max=settings.request_timeout_seconds, names_bytes_max=shares.names_bytes)
    vfs = Vfs(master, reads, cache, vfs_config)
    on_exit(vfs.close)
    if settings.prefetch_bytes_max:
        prefetcher = Prefetcher(cache, filler, pool, vfs, _prefetch_config(settings, shares))
        on_exit(prefetcher.close)
        vfs.fetch_ahead_by(prefetcher)
    filler.tell_of_bad_objects(vfs.take_back)
    return Parts(drivers, cache, master, pool, filler, reads, vfs)


def _prefetch_config(settings: MountSettings, shares: MemoryShares) -> PrefetchConfig:
    return PrefetchConfig(
        unused_bytes_max=settings.prefetch_bytes_max,
        flying_files_max=FLYING_OF_THREADS * shares.fetch_threads,
        flying_bytes_max=shares.buffer_bytes // 4,
        neighbours=NeighbourConfig(reach_bytes=settings.prefetch_bytes_max),
    )


def close_cache(cache: Cache) -> None:
    """Close it; that a full disk has no room for a snapshot of the index costs the next start time and nothing else."""
    try:
        cache.close()
    except CacheFull as error:
        LOG.warning("%s; what is cached stays, the next start reads the whole index", error)


def tier_spec(tier: CacheTier) -> TierSpec:
    """A tier as the block store takes it."""
    return TierSpec(tier.name, tier.path, tier.quota_bytes, tier.high, tier.low, tier.min_free_bytes)
