"""Phases and figures of a load: written by the thread that runs it, read by whoever watches.

    listing ──▶ loading ──▶ complete
       │           ├──────▶ failed       something is not resident, or the whole load could not go on
       └───────────┴──────▶ cancelled

The phase is all that is persisted; a load found in an unfinished phase begins again, where what is listed and cached
already costs a look.  Lock: one per load, held for copying figures.
"""

from __future__ import annotations

import enum
import threading
from typing import Final, NamedTuple, final

FAILURES_MAX: Final = 1000
"""Failures kept by name; the rest is only counted."""


class Phase(enum.StrEnum):
    """Where a load is."""

    LISTING = "listing"
    LOADING = "loading"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def done(self) -> bool:
        """Nothing more will happen."""
        return self in _DONE


_DONE: Final = {Phase.COMPLETE, Phase.FAILED, Phase.CANCELLED}


class Failure(NamedTuple):
    """What is not loaded, and why."""

    path: bytes
    """Empty when it is the whole load."""
    error: str


class Figures(NamedTuple):
    """A load at one moment."""

    phase: Phase
    directories: int
    files_total: int
    files_done: int
    bytes_total: int
    bytes_done: int
    """Verified and in the cache."""
    bytes_fetched: int
    failures: tuple[Failure, ...]
    """At most FAILURES_MAX."""
    failure_count: int
    notes: tuple[str, ...] = ()
    """For whoever watches, before it is over."""


@final
class Progress:
    """The figures of one load."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._figures = Figures(Phase.LISTING, 0, 0, 0, 0, 0, 0, (), 0)
        self._ended = False

    def figures(self) -> Figures:
        """As they are now."""
        return self._figures

    @property
    def ended(self) -> bool:
        """Its thread is through with it, finished or interrupted by the end of the process."""
        return self._ended

    def listed(self, directories: int, entries: int) -> None:
        """More was listed; called from several threads (``SyncProgress``)."""
        with self._changed:
            now = self._figures
            self._figures = now._replace(
                directories=now.directories + directories, files_total=now.files_total + entries
            )

    def totals(self, files: int, size_bytes: int) -> None:
        """What is selected."""
        with self._changed:
            self._figures = self._figures._replace(files_total=files, bytes_total=size_bytes)

    def enter(self, phase: Phase) -> None:
        """Go on to the next phase."""
        with self._changed:
            self._figures = self._figures._replace(phase=phase)

    def note(self, text: str) -> None:
        """Say something of the load as a whole."""
        with self._changed:
            self._figures = self._figures._replace(notes=(*self._figures.notes, text))

    def add(self, files: int, resident_bytes: int, fetched_bytes: int = 0) -> None:
        """More is there."""
        with self._changed:
            now = self._figures
            self._figures = now._replace(
                files_done=now.files_done + files,
                bytes_done=now.bytes_done + resident_bytes,
                bytes_fetched=now.bytes_fetched + fetched_bytes,
            )

    def settle(self, files: int, resident_bytes: int) -> None:
        """What a count of everything found to be there."""
        with self._changed:
            self._figures = self._figures._replace(files_done=files, bytes_done=resident_bytes)

    def finish(self, phase: Phase, failures: tuple[Failure, ...], failure_count: int) -> None:
        """The load is over."""
        with self._changed:
            self._figures = self._figures._replace(phase=phase, failures=failures, failure_count=failure_count)
            self._ended = True
            self._changed.notify_all()

    def interrupt(self) -> None:
        """The process ends before the load does."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_ended(self, timeout_seconds: float) -> bool:
        """Wait for the end of it, at most so long."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, timeout_seconds)
