"""One listing of one directory: how far it came, as others see it, and what each of its pages writes.

``Listing`` is shared between the thread that lists and those who wait: its condition guards how far it came.
``ListingWork`` belongs to the listing thread.  A page's transaction reads the known rows of the page's range, merges
(``diff``), writes what changed and where to go on.  The last page's makes the new generation the complete one; the
first page's draws its number, so a directory of one page costs one transaction.

Where to go on: after a crash, the oldest page that holds a name not decided yet is asked for again.  That is nearly
always the last one, as its last key waits for the next page.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Final, final

from jindopy.base.clock import Deadline
from jindopy.base.errors import JindoError, NoSuchEntry
from jindopy.base.ident import Inode
from jindopy.base.metrics import SYNC_SKIPPED_KEYS
from jindopy.namespace.diff import KnownTuple, ListingMerge, decided
from jindopy.namespace.keys import CLASH
from jindopy.namespace.mounts import Mounted
from jindopy.namespace.pages import Names
from jindopy.namespace.sqlite_rows import DirState
from jindopy.namespace.sqlite_write import Transaction

WAIT_SECONDS: Final = 5.0
"""Waits are cut into pieces of this length, because an endless deadline is no number a condition takes."""


@final
class Listing:
    """One listing of one directory, while it runs and for those who still look at it."""

    def __init__(self, directory: Inode, resume_after: int | None) -> None:
        self.directory = directory
        self.resume_after = resume_after
        """Go on with an unfinished generation above this one, however old; None: by age."""
        self.generation = 0
        """0 until the first page is in the store."""
        self.since_ns = 0
        """When its first request was sent."""
        self.bound = b""
        self.finished = False
        self.entries = 0
        self._error: JindoError | None = None
        self._moved = threading.Condition()

    def advance(self, bound: bytes, *, finished: bool = False) -> None:
        """Another page is in the store."""
        with self._moved:
            self.bound, self.finished = bound, finished
            self._moved.notify_all()

    def progress(self) -> bytes | None:
        """The bound; None at the end."""
        with self._moved:
            return None if self.finished else self.bound

    def fail(self, error: JindoError) -> None:
        """It ends here."""
        with self._moved:
            self._error = error
            self._moved.notify_all()

    def decided(self, name: bytes) -> bool:
        """Whether all about ``name`` is in the store."""
        return self.finished or (self.generation > 0 and decided(name, self.bound))

    def wait(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Wait for ``ready`` at most so long; raises what the listing failed with."""
        with self._moved:
            done = self._moved.wait_for(lambda: ready() or self._error is not None, seconds)
            error = self._error
        if error is not None:
            # A copy: threads that raise one exception object write their tracebacks over each other's.
            raise copy.copy(error) from error
        return done

    def join(self, deadline: Deadline) -> None:
        """Wait for its end."""
        while not self.wait(lambda: self.finished, deadline.bounded(WAIT_SECONDS)):
            deadline.check("listing a directory")


@final
class ListingWork:
    """The thread's side of one listing: where it is and what one page writes."""

    def __init__(
        self, listing: Listing, mounted: Mounted, prefix: bytes, mtime_ns: int | None, anchors: dict[bytes, Inode]
    ) -> None:
        self.listing = listing
        self.anchors = anchors
        self.cursor = ""
        self.bound = b""
        self.begun = False
        self.complete = False
        self.altered = False
        self._mounted = mounted
        self._prefix = prefix
        self._mtime_ns = mtime_ns
        self._marker = False
        self._merge = ListingMerge()
        self._resume_cursor = ""
        self._resume_bound = b""
        self._dirty = False
        self._before = DirState()
        self.resumable = True
        """Its cursor means something to a later listing of this directory alone."""
        self.fresh = False
        """The directory was made just now: nothing is known below it."""

    def resume(self, state: DirState) -> None:
        """Go on where an unfinished listing stopped."""
        self.cursor = self._resume_cursor = state.cursor
        self.bound = self._resume_bound = state.bound
        self.listing.since_ns = state.started_ns
        self.listing.generation = state.running_gen
        # The marker object is on the first page, which may be in the store already; so may rows marked as gone.
        self._marker = self._dirty = True

    def write_page(self, tx: Transaction, names: Names, cursor: str) -> None:
        """One page's transaction."""
        listing, directory = self.listing, self.listing.directory
        if not self.begun:
            self.begin(tx)
        elif tx.row(directory) is None:
            raise NoSuchEntry(f"inode {directory} is gone")
        last = not cursor
        bound = None if last else names.bound
        rows = self._known(tx, bound)
        self._dirty = self._dirty or any(row[6] is not None for row in rows)
        changes = self._merge.page(names.files, names.directories, bound, rows)
        tx.apply(directory, self._mounted.info.id, listing.generation, changes)
        self._dirty = self._dirty or bool(changes.gone)
        self.altered = self.altered or bool(
            changes.altered or (self._before.complete_gen and (changes.inserts or changes.new_directories))
        )
        skipped = names.skipped + [(self._prefix + name, CLASH) for name in changes.clashes]
        if skipped:
            tx.note_skipped(self._mounted.info.id, directory, listing.generation, skipped)
            for _, reason in skipped:
                SYNC_SKIPPED_KEYS.labels(reason).inc()
        if names.marker_mtime_ns is not None:
            self._marker = True
            if names.marker_mtime_ns != self._mtime_ns:
                tx.set_mtime(directory, names.marker_mtime_ns)
        listing.entries += len(names.files) + len(names.directories)
        if last:
            self._finish(tx)
        elif self.resumable:
            self._save_progress(tx, names.bound, cursor)
        self.cursor, self.bound, self.complete = cursor, names.bound, last

    def begin(self, tx: Transaction) -> None:
        """The listing's number is drawn with its first page."""
        self.begun = True
        if not self.fresh:
            if tx.row(self.listing.directory) is None:
                raise NoSuchEntry(f"inode {self.listing.directory} is gone")
            self._before = tx.dir_state(self.listing.directory)
        if not self.listing.generation:
            self.listing.generation = tx.draw_generation()

    def save_begun(self, tx: Transaction) -> None:
        """Note that a listing is under way which can't go on after a crash."""
        state = self._before._replace(running_gen=self.listing.generation, started_ns=self.listing.since_ns)
        tx.save_dir_state(self.listing.directory, state._replace(cursor="", bound=b""))

    def _known(self, tx: Transaction, bound: bytes | None) -> list[KnownTuple]:
        rows = tx.known(self.listing.directory, self.bound, bound)
        return [row for row in rows if row[0] not in self.anchors] if self.anchors else rows

    def _save_progress(self, tx: Transaction, bound: bytes, cursor: str) -> None:
        oldest = self._merge.oldest_carried
        if oldest is None:
            self._resume_cursor, self._resume_bound = cursor, bound
        elif oldest > self.bound:
            # Names of this page wait for the next one: after a crash this page is asked for again.
            self._resume_cursor, self._resume_bound = self.cursor, self.bound
        state = self._before._replace(
            running_gen=self.listing.generation,
            started_ns=self.listing.since_ns,
            cursor=self._resume_cursor,
            bound=self._resume_bound,
        )
        tx.save_dir_state(self.listing.directory, state)

    def _finish(self, tx: Transaction) -> None:
        listing = self.listing
        if self._dirty:
            tx.sweep(listing.directory)
        if self._before.complete_gen:
            tx.forget_skipped(listing.directory, listing.generation)
        if not self._marker and self._mtime_ns is not None:
            tx.set_mtime(listing.directory, None)
        tx.save_dir_state(listing.directory, DirState(listing.generation, listing.since_ns))
