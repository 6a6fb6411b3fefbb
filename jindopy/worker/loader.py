"""Files of a load → ``cache.fill``: enough on the way to keep the link full, memory bounded, readers first.

Flow     One caller's thread pulls files from an iterator and asks the Filler for their missing blocks, a *stride* at a
         time, at the lowest priority.  Blocks land on fetch threads, which leave a note in a queue; the caller's thread
         takes the notes, asks for more, and ends files in whatever order they become complete.
Bounds   ``files_max`` open files; ``window_blocks`` (and a stride) asked for and not landed.  No flight is kept: a
         landed block's memory goes back to the pool although its neighbours are still on the way.
Verified A file is reported as loaded when every block is in the cache and was checked by this process: those fetched
         now were checked on arrival, those found are read and compared with their checksums unless a reader's were
         already; bad ones are dropped and fetched again, once.
Failure  The first error of a file ends that file alone; what landed of it stays cached.  Whether errors end the whole
         load is the listener's decision (``stopped``), which also takes queued fetches back.
"""

from __future__ import annotations

import functools
import logging
import queue
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, final

from jindopy._ext.blockstore import CacheFile
from jindopy.base.errors import CacheCorrupt, CacheFull, JindoError
from jindopy.base.ident import FileVersion
from jindopy.cache.fill import Filler, Priority
from jindopy.cache.store import Cache

LOG = logging.getLogger("jindopy.loader")

POLL_SECONDS = 0.2
"""How soon a cancelled load notices when nothing lands."""


@dataclass(frozen=True)
class LoaderConfig:
    """Bounds of one load."""

    files_max: int = 64
    """Small files on the way: two for each of the Filler's 30 background threads, so that none waits for the next."""
    window_blocks: int = 64
    """Blocks on the way: 16 GETs of 4 MiB, what a link of 3 GB/s has on its way in 20 ms."""
    stride_blocks: int = 16
    """Blocks asked for at once: four whole GETs."""


class LoadListener(Protocol):
    """Told how a load goes; called from the loading thread only."""

    @property
    def stopped(self) -> bool:
        """Asked between steps: end now."""
        ...

    def moved(self, resident_bytes: int, fetched_bytes: int) -> None:
        """So many more bytes are verified and in the cache (fewer, when a file failed), and were fetched for it."""
        ...

    def ended(self, path: bytes, version: FileVersion, error: JindoError | None) -> None:
        """A file is wholly loaded, or will not be."""
        ...


@final
class _File:
    """A file on its way."""

    __slots__ = ("counted", "error", "found", "lease", "next_block", "path", "pending", "second_try", "version")

    def __init__(self, path: bytes, version: FileVersion, lease: CacheFile) -> None:
        self.path = path
        self.version = version
        self.lease = lease
        self.next_block = 0
        self.pending = 0
        self.counted = 0
        """Bytes told to the listener as resident."""
        self.found = False
        """Blocks were there before, which this process may never have checked."""
        self.second_try = False
        self.error: JindoError | None = None

    @property
    def exhausted(self) -> bool:
        """Nothing more to ask for."""
        return self.error is not None or self.next_block >= self.version.block_count


@final
class Loader:
    """Brings versions of files into the cache."""

    def __init__(self, cache: Cache, filler: Filler, config: LoaderConfig | None = None) -> None:
        self._cache = cache
        self._filler = filler
        self._config = config or LoaderConfig()

    def cached_bytes(self, version: FileVersion) -> int:
        """Bytes of a version that are cached."""
        known = self._cache.peek(version.cid)
        return known.cached_bytes if known is not None else 0

    def room_bytes(self) -> int:
        """What the cache keeps without evicting: low watermark × quota of all tiers."""
        return sum(int(tier.low * tier.quota_bytes) for tier in self._cache.tiers)

    def load(self, files: Iterable[tuple[bytes, FileVersion]], listener: LoadListener) -> None:
        """Load files until all have ended or the listener wants to stop; each is reported once unless stopped."""
        _Load(self._cache, self._filler, self._config, files, listener).run()


@final
class _Load:
    """One call of ``Loader.load``."""

    def __init__(
        self,
        cache: Cache,
        filler: Filler,
        config: LoaderConfig,
        files: Iterable[tuple[bytes, FileVersion]],
        listener: LoadListener,
    ) -> None:
        self._cache = cache
        self._filler = filler
        self._config = config
        self._source = iter(files)
        self._source_ended = False
        self._listener = listener
        self._open: set[_File] = set()
        self._asking: list[_File] = []
        """Open files with blocks not yet asked for; more than one only when blocks were found bad."""
        self._pending = 0
        # Unbounded as a type, bounded by the window: one note for each block on its way.
        self._notes: queue.SimpleQueue[tuple[_File, int, JindoError | None]] = queue.SimpleQueue()

    def run(self) -> None:
        """Ask, take notes, end files."""
        try:
            while not self._listener.stopped:
                self._ask()
                if self._open:
                    self._take_notes()
                elif self._source_ended:
                    return
        finally:
            for file in self._open:
                self._filler.withdraw(file.version.cid)
                file.lease.close()

    def _ask(self) -> None:
        """Put more on the way while the window has room."""
        while self._pending < self._config.window_blocks and not self._listener.stopped:
            if self._asking:
                self._ask_stride(self._asking[0])
            elif not self._open_next():
                return

    def _open_next(self) -> bool:
        """Open the source's next file; False when there is none or enough are open."""
        if self._source_ended or len(self._open) >= self._config.files_max:
            return False
        try:
            path, version = next(self._source)
        except StopIteration:
            self._source_ended = True
            return False
        if version.size == 0:
            self._listener.ended(path, version, None)
            return True
        file = _File(path, version, self._cache.open(version))
        self._open.add(file)
        self._asking.append(file)
        return True

    def _ask_stride(self, file: _File) -> None:
        if not file.exhausted:
            first = file.next_block
            count = min(self._config.stride_blocks, file.version.block_count - first)
            file.next_block = first + count
            if len(file.lease.missing(first, count)) < count:
                file.found = True
            for flight in self._filler.request(file.version, file.lease, first, count, Priority.LOAD):
                file.pending += 1
                self._pending += 1
                flight.when_done(functools.partial(self._note, file))
        if file.exhausted:
            self._asking.remove(file)
            if not file.pending:
                self._finish(file)

    def _note(self, file: _File, size_bytes: int, error: JindoError | None) -> None:
        """A block landed or failed; called on the fetch thread."""
        self._notes.put((file, size_bytes, error))

    def _take_notes(self) -> None:
        """Wait for one note, then take all there are."""
        try:
            note = self._notes.get(timeout=POLL_SECONDS)
            while True:
                self._take(*note)
                note = self._notes.get_nowait()
        except queue.Empty:
            return

    def _take(self, file: _File, size_bytes: int, error: JindoError | None) -> None:
        file.pending -= 1
        self._pending -= 1
        if error is None:
            file.counted += size_bytes
            self._listener.moved(size_bytes, size_bytes)
        elif file.error is None:
            file.error = error
        if file.exhausted and not file.pending:
            if file in self._asking:
                self._asking.remove(file)
            self._finish(file)

    def _finish(self, file: _File) -> None:
        if file.error is None and not file.lease.complete:
            file.error = CacheFull("the cache did not keep it: no room that may be evicted, or the disk is failing")
        if file.error is None and file.found and not self._check_found(file):
            return
        file.lease.close()
        self._open.remove(file)
        self._listener.moved(-file.counted if file.error is not None else file.version.size - file.counted, 0)
        self._listener.ended(file.path, file.version, file.error)

    def _check_found(self, file: _File) -> bool:
        """Check what was cached before and not read since the start; False: some of it was bad and is fetched again."""
        for first in range(0, file.version.block_count, self._config.stride_blocks):
            if self._listener.stopped:
                return False  # a large file takes long, and ``run`` ends now
            file.lease.verify(first, self._config.stride_blocks)
        if file.lease.complete:
            return True
        LOG.warning("%r: cached blocks were damaged, fetching them again", file.path)
        if file.second_try:
            file.error = CacheCorrupt("blocks written just now came back damaged: check the disk")
            return True
        file.second_try = True
        file.next_block = 0
        self._asking.append(file)
        return False
