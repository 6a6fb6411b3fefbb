"""One load from listing to *complete*: every selected byte verified and in the cache, or named as missing.

Flow     list what is selected · count it · then rounds over the selection, streamed from the namespace:
         1. everything goes to the loader, which fetches what is missing and verifies what is there
         2. what is not resident then (errors, overwritten meanwhile, evicted by its neighbours) is tried once more
         3. only if something was: a last look that fetches nothing
         What the last round finds missing are the failures.
Bounds   The selection is streamed in every round; failures are kept by name up to FAILURES_MAX.  When it is larger than
         the room of the cache, files beyond that room are not fetched at all: they would evict those before them.
Failure  A file's error ends that file.  An error that means the whole UFS (no bucket, bad keys), or STRIKES_MAX files
         failed in a row for reasons that are not their own, ends the load with that error; in the second round the
         latter only ends the trying.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, final

from jindopy.base.clock import REAL_CLOCK, Deadline
from jindopy.base.errors import (
    BadCredentials,
    BucketNotFound,
    ClockSkewed,
    JindoError,
    KeyRefused,
    NoSuchEntry,
    NotRestored,
    ObjectNotFound,
    VersionChanged,
)
from jindopy.base.ident import FileVersion
from jindopy.base.units import format_size
from jindopy.master.progress import FAILURES_MAX, Failure, Phase, Progress
from jindopy.master.selection import Found, Selection
from jindopy.namespace.api import MasterApi

LOG = logging.getLogger("jindopy.load")

STRIKES_MAX: Final = 32
"""Files in a row whose every try failed: half of what the loader has on the way.  An outage of seconds is over before
the drivers' own retries are."""
DISK_BLOCK_BYTES: Final = 4096
"""A file takes whole blocks of the cache's file system."""
_OF_THE_UFS: Final = (BucketNotFound, BadCredentials, ClockSkewed)
_OF_THE_FILE: Final = (ObjectNotFound, VersionChanged, KeyRefused, NotRestored)


@dataclass(frozen=True)
class LoadSpec:
    """What to load; persisted as JSON."""

    paths: list[str]
    metadata: bool = True
    """List anew, even what is still fresh."""
    data: bool = True
    dry_run: bool = False
    """List and compare with the cache, fetch nothing."""


class Listener(Protocol):
    """What a loader tells while it loads."""

    @property
    def stopped(self) -> bool: ...

    def moved(self, resident_bytes: int, fetched_bytes: int) -> None: ...

    def ended(self, path: bytes, version: FileVersion, error: JindoError | None) -> None: ...


class FileLoader(Protocol):
    """Whoever brings files into caches: the worker of this process, or the workers of a cluster."""

    def cached_bytes(self, version: FileVersion) -> int:
        """Bytes of a version that are cached."""
        ...

    def room_bytes(self) -> int:
        """Disk space that can be filled without anything being evicted again."""
        ...

    def load(self, files: Iterable[tuple[bytes, FileVersion]], listener: Listener) -> None:
        """Load files until all have ended or the listener wants to stop."""
        ...


@final
class _StopClock:
    """A clock on which every deadline passes once the load is to stop: listings end at their next request."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping

    def monotonic(self) -> float:
        return float("inf") if self._stopping() else REAL_CLOCK.monotonic()

    def wall_ns(self) -> int:
        return REAL_CLOCK.wall_ns()

    def sleep(self, seconds: float) -> None:
        REAL_CLOCK.sleep(seconds)


LOAD_SECONDS_MAX: Final = 30 * 86400.0
"""No load is bounded by time, but for a clock to stop it there must be a moment."""


@final
class LoadRun:
    """Runs one load in the caller's thread; ``progress`` tells how it goes."""

    def __init__(
        self,
        master: MasterApi,
        loader: FileLoader,
        selection: Selection,
        spec: LoadSpec,
        progress: Progress,
        *,
        stopping: Callable[[], bool],
        on_phase: Callable[[Phase], None],
    ) -> None:
        self._master = master
        self._loader = loader
        self._selection = selection
        self._spec = spec
        self._progress = progress
        self._stopping = stopping
        self._on_phase = on_phase
        self._deadline = Deadline.after(LOAD_SECONDS_MAX, _StopClock(stopping))
        self._lost = _Failures()
        """What no later round would find: patterns without a match, files that vanished."""
        self._reasons: dict[bytes, str] = {}
        """Last error of a file; the first FAILURES_MAX are known."""

    def run(self) -> tuple[tuple[Failure, ...], int]:
        """Load; returns the failures and their number.  Raises the error that ended the whole load."""
        self._selection.refresh(self._deadline, self._progress, anew=self._spec.metadata)
        self._count()
        failures = self._lost
        if self._spec.dry_run:
            self._compare()
        elif self._spec.data:
            self._on_phase(Phase.LOADING)
            self._warn_of_size()
            failures = self._rounds()
        return tuple(failures.named), failures.count

    def _count(self) -> None:
        counts = [0] * len(self._selection.patterns)
        files = size_bytes = 0
        for found in self._files(counts):
            files += 1
            size_bytes += found.version.size
        self._progress.totals(files, size_bytes)
        for pattern, count in zip(self._selection.patterns, counts, strict=True):
            if count < 0:
                self._lost.add(pattern.text, "no such file or directory any more")
            elif pattern.rest and not count:
                self._lost.add(pattern.text, "no file matches")

    def _compare(self) -> None:
        for found in self._files():
            cached = min(self._loader.cached_bytes(found.version), found.version.size)
            self._progress.add(int(cached == found.version.size), cached)

    def _files(self, counts: list[int] | None = None) -> Iterator[Found]:
        """The selection, until the load is to stop."""
        for found in self._selection.files(self._deadline, counts):
            if self._stopping():
                return
            yield found

    def _warn_of_size(self) -> None:
        room, needed = self._loader.room_bytes(), self._progress.figures().bytes_total
        if needed > room:
            note = (
                f"the load needs {format_size(needed)} and the cache keeps {format_size(room)} (low watermark x quota):"
                " what does not fit is not fetched"
            )
            LOG.warning("%s", note)
            self._progress.note(note)

    def _rounds(self) -> _Failures:
        for number in (1, 2, 3):
            this = _Round(self, number)
            this.run()
            if self._stopping():
                break
            if number > 1:
                self._progress.totals(this.files_seen + self._lost.count, this.bytes_seen)
                self._progress.settle(this.files_done, this.bytes_done)
                if not this.files_tried:
                    break
        this.failures.extend(self._lost)
        return this.failures

    # For the rounds.

    def files(self) -> Iterator[Found]:
        """The selection, until the load is to stop."""
        return self._files()

    @property
    def loader(self) -> FileLoader:
        """Whoever fetches."""
        return self._loader

    @property
    def progress(self) -> Progress:
        """Where figures go."""
        return self._progress

    @property
    def stopping(self) -> bool:
        """Whether to end now."""
        return self._stopping()

    def is_resident(self, version: FileVersion) -> bool:
        """Whether every byte is cached."""
        return not version.size or self._loader.cached_bytes(version) >= version.size

    def loaded(self, path: bytes) -> None:
        """A file is there."""
        self._reasons.pop(path, None)

    def failed(self, path: bytes, version: FileVersion, error: JindoError) -> None:
        """A file is not there; when its version is gone, have the namespace ask what the UFS has instead."""
        self._note(path, str(error))
        if isinstance(error, VersionChanged | ObjectNotFound):
            try:
                gone = self._master.revalidate(version.inode, deadline=self._deadline).node is None
            except NoSuchEntry:
                gone = True
            except JindoError as problem:
                self._note(path, str(problem))
                return
            if gone:
                self._lost.add(path, "vanished from the store during the load")

    def _note(self, path: bytes, reason: str) -> None:
        if len(self._reasons) < FAILURES_MAX or path in self._reasons:
            self._reasons[path] = reason

    def reason(self, path: bytes) -> str:
        """Why a file is not there."""
        return self._reasons.get(path, "evicted again: readers or other loads need the cache's room")


@final
class _Failures:
    """Failures, the first ones by name."""

    def __init__(self) -> None:
        self.named: list[Failure] = []
        self.count = 0

    def add(self, path: bytes, error: str) -> None:
        """One more."""
        self.count += 1
        if len(self.named) < FAILURES_MAX:
            self.named.append(Failure(path, error))

    def extend(self, others: _Failures) -> None:
        """Take over another's."""
        self.named += others.named[: FAILURES_MAX - len(self.named)]
        self.count += others.count


@final
class _Room:
    """Which files of a stream fit into the cache together, first come first served."""

    def __init__(self, room_bytes: int) -> None:
        self._room_bytes = room_bytes
        self._taken_bytes = 0

    def take(self, size_bytes: int) -> bool:
        """Whether a file fits; if so its room is taken."""
        disk_bytes = -(-size_bytes // DISK_BLOCK_BYTES) * DISK_BLOCK_BYTES
        if self._taken_bytes + disk_bytes > self._room_bytes:
            return False
        self._taken_bytes += disk_bytes
        return True

    def refusal(self) -> str:
        """Why a file was not fetched."""
        return (
            f"does not fit: the cache keeps {format_size(self._room_bytes)} (low watermark x quota);"
            " raise the quota or load less"
        )


@final
class _Round:
    """One pass over the selection; the Listener of what it has loaded."""

    def __init__(self, run: LoadRun, number: int) -> None:
        self._run = run
        self._number = number
        self._room = _Room(run.loader.room_bytes())
        self._strikes = 0
        self._fatal: JindoError | None = None
        self._tired = False
        """Trying the others again is hopeless."""
        self.failures = _Failures()
        self.files_seen = 0
        self.bytes_seen = 0
        self.files_done = 0
        self.bytes_done = 0
        self.files_tried = 0
        """Given to the loader."""

    def run(self) -> None:
        """Pass; raises the error that ends the whole load."""
        self._run.loader.load(self._wanted(), self)
        if self._fatal is not None:
            raise self._fatal

    def _wanted(self) -> Iterator[tuple[bytes, FileVersion]]:
        """What the loader is to bring; decides about the other files on the way."""
        for path, version in self._run.files():
            self.files_seen += 1
            self.bytes_seen += version.size
            fits = self._room.take(version.size)
            resident = (self._number > 1 or not fits) and self._run.is_resident(version)
            if resident and self._number > 1:
                # Verified by an earlier round, or put there by a reader since.
                self.files_done += 1
                self.bytes_done += version.size
            elif not fits and not resident:
                self.failures.add(path, self._room.refusal())
            elif self._number > 2 or self._tired:
                self.failures.add(path, self._run.reason(path))
            else:
                self.files_tried += 1
                yield path, version

    @property
    def stopped(self) -> bool:
        """Cancelled, or nothing can be fetched any more."""
        return self._fatal is not None or self._run.stopping

    def moved(self, resident_bytes: int, fetched_bytes: int) -> None:
        """Bytes arrived."""
        self._run.progress.add(0, resident_bytes if self._number == 1 else 0, fetched_bytes)

    def ended(self, path: bytes, version: FileVersion, error: JindoError | None) -> None:
        """A file is loaded, or not."""
        if error is None:
            self._strikes = 0
            self.files_done += 1
            self.bytes_done += version.size
            if self._number == 1:
                self._run.progress.add(1, 0)
            self._run.loaded(path)
            return
        self._run.failed(path, version, error)
        if self._number > 1:
            self.failures.add(path, self._run.reason(path))
        if isinstance(error, _OF_THE_UFS):
            self._fatal = error
        elif not isinstance(error, _OF_THE_FILE):
            self._strikes += 1
            if self._strikes >= STRIKES_MAX:
                # The second round tries only what failed before: there it says nothing of the UFS.
                self._tired = True
                if self._number == 1:
                    self._fatal = error
