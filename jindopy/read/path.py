"""The read path: the sources of design asked in order, one loop, each fall-through counted.

    1. local cache file      ``lease.read``: bytes, or "a block is missing"
    2. the UFS               ``Filler.read``: fetched once for all who wait, checked, stored

An ``OpenFile`` is one version of one file with its lease and its read history; whoever holds it keeps reading that
version even when the object has changed.  When the UFS no longer has the version and a block is not cached the answer
is StaleVersion, counted.

A cached file is read from disk into the page cache ahead of a sequential reader by a thread of its own, so that the
reader's own requests find their bytes in memory; they check them where they hand them out.

Threads: any number may read one OpenFile.  Its lock covers only the read history (microseconds); another one, which of
the files read ahead.
"""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, final

from jindopy._ext.blockstore import CacheFile
from jindopy.base import metrics
from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import ObjectNotFound, StaleVersion, VersionChanged
from jindopy.base.ident import BLOCK_BYTES, FileVersion
from jindopy.cache.fill import Filler, Priority
from jindopy.cache.store import Cache
from jindopy.read.readahead import AheadShares, ReadAhead, ReadAheadConfig

WARMERS: Final = 1
"""Threads that read ahead, without the GIL.  One reads at the disk's own speed (2.6 GB/s here, 6 ms of CPU for
210 MiB); two at a time make the disk jump and cost up to half of that."""

PATIENCE_SECONDS: Final = 0.005
"""What is on its way from a flash disk comes in 0.1 ms: the thread that receives all requests waits for it itself,
which costs less than another taking over (210 MiB: 0.09 instead of 0.13-0.17 CPU-s; asking again after a sleep costs
more than either).  A disk that takes longer than this is not waited for there in the next IMPATIENT_SECONDS."""
IMPATIENT_SECONDS: Final = 1.0


@dataclass(frozen=True)
class ReadConfig:
    """Bounds of one read."""

    deadline_seconds: float = 150.0
    """Longer than one fetch with all its retries, so that the reader sees the fetch's own error."""
    readahead: ReadAheadConfig = field(default_factory=ReadAheadConfig)
    """For files that must come from the UFS."""
    ahead_bytes_max: int = 256 << 20
    """Read ahead from the UFS of all files together."""
    warm_ahead: ReadAheadConfig = field(
        default_factory=lambda: ReadAheadConfig(window_bytes_min=12 * BLOCK_BYTES, window_bytes_max=24 * BLOCK_BYTES)
    )
    """For cached files.  The kernel itself runs up to 8 MiB ahead of the reader from the start, so the first window
    covers more than that; wider ones than 24 MiB leave the last-level cache (32 MiB here) before they are read: 16 to
    64 MiB took 0.145 s for 210 MiB, 12 to 24 MiB 0.118 s, 8 MiB 0.24 s."""


@final
class OpenFile:
    """One version of one file, open.  Made by ``ReadPath.open``, ended by ``close``."""

    __slots__ = ("begun", "complete", "history", "lease", "lock", "version", "warming")

    def __init__(self, version: FileVersion, lease: CacheFile, history: ReadAhead, complete: bool) -> None:
        self.version = version
        self.lease = lease
        self.history = history
        self.lock = threading.Lock()
        self.begun = False
        """Its first bytes were asked for when they were not cached."""
        self.complete = complete
        """Every block was cached at open: nothing needs fetching ahead unless something gets evicted."""
        self.warming = range(0)
        """From the read that last had bytes read ahead from disk to the end of these."""

    def close(self) -> None:
        """Give the lease back."""
        self.lease.close()


@final
class ReadPath:
    """Answers reads of open files."""

    def __init__(
        self,
        cache: Cache,
        filler: Filler,
        config: ReadConfig | None = None,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._cache = cache
        self._filler = filler
        self._config = config or ReadConfig()
        self._warmers = ThreadPoolExecutor(WARMERS, thread_name_prefix="warm")
        self._clock = clock
        self._impatient_until = 0.0
        self._shares = AheadShares(self._config.ahead_bytes_max)
        self._shares_lock = threading.Lock()

    def open(self, version: FileVersion) -> OpenFile:
        """Take a lease; no request is sent before the first read."""
        lease = self._cache.open(version)
        complete = lease.complete
        ahead = self._config.warm_ahead if complete else self._config.readahead
        return OpenFile(version, lease, ReadAhead(version.size, ahead), complete)

    def read_cached(self, file: OpenFile, offset: int, size_bytes: int) -> bytes | None:
        """The bytes if that takes neither network nor a disk's time; None: call ``read``, which may wait."""
        data = file.lease.read(offset, size_bytes, True)
        if data is None and offset in file.warming and self._clock.monotonic() > self._impatient_until:
            data = self._read_warming(file, offset, size_bytes)
        if data is not None and file.version.size > BLOCK_BYTES:
            self.reads_on(file, offset, size_bytes)
        return data

    def _read_warming(self, file: OpenFile, offset: int, size_bytes: int) -> bytes | None:
        """Bytes that are on their way into memory; None: they are not here at all."""
        began = self._clock.monotonic()
        data = file.lease.read(offset, size_bytes)
        ended = self._clock.monotonic()
        if ended - began > PATIENCE_SECONDS:
            self._impatient_until = ended + IMPATIENT_SECONDS
        return data

    def read(self, file: OpenFile, offset: int, size_bytes: int) -> bytes:
        """Bytes of the file's version, clipped to its end.

        Raises StaleVersion, the UfsError family, DeadlineExceeded.
        """
        self.reads_on(file, offset, size_bytes)
        data = file.lease.read(offset, size_bytes)
        if data is not None:
            return data
        file.complete = False
        try:
            return self._filler.read(
                file.version, file.lease, offset, size_bytes, Deadline.after(self._config.deadline_seconds)
            )
        except (VersionChanged, ObjectNotFound) as error:
            metrics.READS_STALE.inc()
            raise StaleVersion(
                f"{file.version.key.decode('utf-8', 'backslashreplace')!r} changed or vanished in the store, and the"
                f" version this reader opened is not wholly cached; open it again ({error})"
            ) from error

    def reads_on(self, file: OpenFile, offset: int, size_bytes: int) -> None:
        """Start what the history says will be read next: from disk where cached, from the UFS where not."""
        with file.lock:
            if not file.complete:
                file.history.share_bytes = self._shares.share_bytes
            ahead = file.history.on_read(offset, size_bytes)
        if ahead is None:
            return
        if not file.complete:
            with self._shares_lock:
                self._shares.asked(id(file))
            # The demanded blocks go first: requested here, they head the same GET as what follows them.
            first = min(offset // BLOCK_BYTES, ahead.first)
            self._filler.request(file.version, file.lease, first, ahead.first - first, Priority.DEMAND)
            self._filler.request(file.version, file.lease, ahead.first, ahead.blocks, Priority.READAHEAD)
        else:
            end = (ahead.first + ahead.blocks) * BLOCK_BYTES
            file.warming = range(offset, end)
            self._warmers.submit(_warm, file, ahead.first * BLOCK_BYTES, end)

    def close(self) -> None:
        """Read ahead no more."""
        self._warmers.shutdown(wait=True, cancel_futures=True)


def _warm(file: OpenFile, begin: int, end: int) -> None:
    # The file may be closed while this waits for its turn.
    with contextlib.suppress(ValueError):
        file.lease.warm(begin, end - begin)
