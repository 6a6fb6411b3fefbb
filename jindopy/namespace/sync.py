"""Listing directories into the store, each by one thread at a time, read by any number while it runs.

Flow of a listing: ask for a page → take it apart (``pages``) → merge it into the store in one transaction (``listing``)
→ tell those who wait how far it came → next page, which another thread asks for meanwhile.

Readers hold a *view*: of the complete generation, or of the running listing they joined, of which they see what is
decided.  Both read the store a page at a time, so a view costs no memory.  Before a listing writes its first row it
gives a snapshot of the store to the views that still show an older generation: each stream shows one generation, and
neither waits for the other.

Age counts from the first request of a listing.  One that failed or died leaves the complete generation as it was; the
next may go on where it stopped if what it has is young enough.

Threads and locks: interactive listings run in a pool, tree listings in their callers' threads.  ``_lock`` guards which
listings and views exist and is never held across a transaction or a request.  Requests have deadlines of their own,
since a listing outlives the caller it was begun for.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol, final

from jindopy.base.clock import Clock, Deadline
from jindopy.base.errors import BadAnswer, JindoError, NamespaceError, NoSuchEntry, NotADirectory
from jindopy.base.ident import Inode, Kind
from jindopy.namespace.api import Listener
from jindopy.namespace.listing import Listing, ListingWork
from jindopy.namespace.mounts import Mounted, MountTable
from jindopy.namespace.pages import names_of
from jindopy.namespace.sqlite_rows import DirState, RowTuple
from jindopy.namespace.sqlite_store import Snapshot, SqliteStore
from jindopy.ufs.base import ListPage

LIST_THREADS: Final = 16
"""At 20 ms a request, 16 in flight list 800 directories a second."""

PAGE_KEYS: Final = 1000
"""The most OSS and S3 give in one answer."""

PAGE_SECONDS: Final = 120.0
"""Deadline of one page, tries included: a listing outlives its callers, so it cannot use theirs."""

CLOSE_SECONDS: Final = 3.0
"""Within the ten seconds that ending a mount may take; what a listing writes later meets a closed store."""

EVER: Final = 1 << 62
"""Generation of directories that no listing changes; above all real ones, so every row shows."""

log = logging.getLogger(__name__)


def seconds_left(since_ns: int, ttl_seconds: float, now_ns: int) -> float:
    """How long something learned at ``since_ns`` may still be believed; nothing when the clock went back."""
    if math.isinf(ttl_seconds):
        return ttl_seconds
    if since_ns > now_ns:
        return 0.0
    return max(0.0, ttl_seconds - (now_ns - since_ns) / 1e9)


@final
class SharedSnapshot:
    """A snapshot for the views that were open when a listing began."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._lock = threading.Lock()
        self._users = 0

    def share(self) -> SharedSnapshot:
        with self._lock:
            self._users += 1
        return self

    def children(self, parent: int, generation: int, after: bytes, upto: bytes | None, limit: int) -> list[RowTuple]:
        with self._lock:
            return self._snapshot.children(parent, generation, after, upto, limit)

    def named(self, parent: int, generation: int, names: Iterable[bytes]) -> list[RowTuple]:
        with self._lock:
            return self._snapshot.named(parent, generation, names)

    def drop(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users <= 0:
                self._snapshot.close()


class Source(Protocol):
    """Where rows of a generation can be read."""

    def children(
        self, parent: int, generation: int, after: bytes, upto: bytes | None, limit: int
    ) -> list[RowTuple]: ...

    def named(self, parent: int, generation: int, names: Iterable[bytes]) -> list[RowTuple]: ...


@dataclass(eq=False)
class View:
    """A reader's hold on one generation of one directory."""

    directory: Inode
    generation: int
    since_ns: int
    """From when its age counts."""
    ttl_seconds: float
    listing: Listing | None
    """The listing it joined; None: the generation was complete."""
    snapshot: SharedSnapshot | None = None


class _Live:
    """What exists of one directory right now."""

    __slots__ = ("listing", "views")

    def __init__(self) -> None:
        self.listing: Listing | None = None
        self.views: set[View] = set()


@final
class Lister:
    """See the module.

    ``store``, ``mounts`` and ``clock`` are those of the room: what is built on the lister uses them, never others.
    """

    def __init__(self, store: SqliteStore, mounts: MountTable, clock: Clock, threads: int = LIST_THREADS) -> None:
        self.store = store
        self.mounts = mounts
        self.clock = clock
        self._lock = threading.Condition()
        self._live: dict[Inode, _Live] = {}
        self._listeners: list[Listener] = []
        self._closing = False
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="jindopy-list")

    def close(self) -> None:
        """End running listings after their current page, but wait for a stuck request no longer than a moment."""
        self._closing = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._lock.wait_for(lambda: all(live.listing is None for live in self._live.values()), CLOSE_SECONDS)

    def subscribe(self, listener: Listener) -> None:
        """Tell ``listener`` of changes from now on."""
        self._listeners = [*self._listeners, listener]

    def changed(self, directory: Inode, generation: int) -> None:
        """Tell the listeners; no lock is held here."""
        for listener in self._listeners:
            listener.directory_changed(directory, generation)

    # Views

    def open_view(self, directory: Inode, *, refresh: bool) -> View:
        """Join the running listing, else show the complete generation while it is fresh, else begin a listing."""
        row = self.store.row(directory)
        if row is None:
            raise NoSuchEntry(f"no inode {directory}")
        if row.kind != Kind.DIRECTORY:
            raise NotADirectory(f"inode {directory} is no directory")
        mounted = self.mounts.get(row.mount)
        if mounted is None:
            return View(directory, EVER, 0, math.inf, None)
        begun = None
        with self._lock:
            live = self._live.setdefault(directory, _Live())
            if live.listing is None:
                # Under the lock: else a listing could begin and end between this look and the view's birth.
                state = self.store.dir_state(directory)
                ttl_seconds = mounted.info.ttl_seconds
                fresh = seconds_left(state.listed_ns, ttl_seconds, self.clock.wall_ns()) > 0
                if not refresh and state.complete_gen and fresh:
                    view = View(directory, state.complete_gen, state.listed_ns, ttl_seconds, None)
                    live.views.add(view)
                    return view
                begun = live.listing = Listing(directory, EVER if refresh else None)
            view = View(directory, 0, 0, mounted.info.ttl_seconds, live.listing)
            live.views.add(view)
        if begun is not None:
            self._submit(begun)
        return view

    def close_view(self, view: View) -> None:
        """The reader is done."""
        with self._lock:
            live = self._live.get(view.directory)
            if live is not None:
                live.views.discard(view)
                self._forget_idle(view.directory, live)
            snapshot, view.snapshot = view.snapshot, None
        if snapshot is not None:
            snapshot.drop()

    def read(self, view: View, after: bytes, upto: bytes | None, limit: int) -> list[RowTuple]:
        """Rows of the view with names in (after, upto]."""
        return self._consistently(
            view, lambda source: source.children(view.directory, view.generation, after, upto, limit)
        )

    def read_named(self, view: View, names: Iterable[bytes]) -> list[RowTuple]:
        """Rows of the view under some names."""
        return self._consistently(view, lambda source: source.named(view.directory, view.generation, names))

    def _consistently(self, view: View, read: Callable[[Source], list[RowTuple]]) -> list[RowTuple]:
        if view.listing is not None:
            view.generation, view.since_ns = view.listing.generation, view.listing.since_ns
        snapshot = self._snapshot_of(view)
        if snapshot is None:
            rows = read(self.store)
            snapshot = self._snapshot_of(view)
            if snapshot is None:  # no later listing had begun to write when the rows were read
                return rows
        return read(snapshot)

    def left_seconds(self, view: View) -> float:
        """How long what the view shows may still be believed."""
        if view.snapshot is not None:
            return 0.0
        return seconds_left(view.since_ns, view.ttl_seconds, self.clock.wall_ns())

    def _snapshot_of(self, view: View) -> SharedSnapshot | None:
        with self._lock:
            return view.snapshot

    def _forget_idle(self, directory: Inode, live: _Live) -> None:
        if live.listing is None and not live.views:
            self._live.pop(directory, None)

    # Listings

    def running(self, directory: Inode) -> Listing | None:
        """The listing of a directory that is under way."""
        with self._lock:
            live = self._live.get(directory)
            return None if live is None else live.listing

    def claim(self, directory: Inode, resume_after: int) -> tuple[Listing, bool]:
        """The listing of a directory, and whether it is the caller's to do."""
        with self._lock:
            live = self._live.setdefault(directory, _Live())
            mine = live.listing is None
            if live.listing is None:
                live.listing = Listing(directory, resume_after)
            return live.listing, mine

    def list_now(self, directory: Inode, resume_after: int, deadline: Deadline) -> Listing:
        """List in this thread, or wait for the listing under way."""
        listing, mine = self.claim(directory, resume_after)
        if mine:
            self._execute(listing)
        listing.join(deadline)
        return listing

    def _submit(self, listing: Listing) -> None:
        try:
            self._pool.submit(self._execute, listing)
        except RuntimeError:  # the pool is shut down
            self.end(listing, NamespaceError("the namespace is closed"))

    def _execute(self, listing: Listing) -> None:
        try:
            self._run(listing)
        except JindoError as error:
            self.end(listing, error)
        except Exception as error:
            log.exception("listing inode %d failed", listing.directory)
            self.end(listing, NamespaceError(f"listing failed: {error!r}"))

    def end(self, listing: Listing, error: JindoError) -> None:
        """It failed: tell who waits for it."""
        try:
            if isinstance(error, BadAnswer) and listing.generation:
                # Perhaps the cursor is what the server does not like: begin at the start next time.
                with self.store.write() as tx:
                    state = tx.dir_state(listing.directory)
                    tx.save_dir_state(listing.directory, DirState(state.complete_gen, state.listed_ns))
        finally:
            self.retire(listing)
            listing.fail(error)

    def retire(self, listing: Listing) -> None:
        """It is not under way any more; readers may still look at it."""
        with self._lock:
            live = self._live.get(listing.directory)
            if live is not None and live.listing is listing:
                live.listing = None
                self._forget_idle(listing.directory, live)
                self._lock.notify_all()

    def _run(self, listing: Listing) -> None:
        directory = listing.directory
        row = self.store.row(directory)
        mounted = None if row is None else self.mounts.get(row.mount)
        if row is None or mounted is None:
            raise NoSuchEntry(f"no inode {directory} to list")
        prefix = self.mounts.directory_key(directory)
        work = ListingWork(listing, mounted, prefix, row.node[10], self.mounts.anchors(directory))
        state = self.store.dir_state(directory)
        listing.since_ns = self.clock.wall_ns()
        if self._resumable(listing, mounted, state):
            work.resume(state)
        pages = self.pages(mounted, prefix, work.cursor, delimiter=True)
        while not work.complete:
            page = next(pages)
            names = names_of(page, prefix, work.bound, work.anchors)
            if not work.begun:
                self.detach_views(listing)
            with self.store.write() as tx:
                work.write_page(tx, names, page.cursor)
            if not work.complete:
                listing.advance(work.bound)
        self.publish(work)
        self.purge()

    def publish(self, work: ListingWork) -> None:
        """All of a listing is in the store."""
        self.retire(work.listing)
        work.listing.advance(work.bound, finished=True)
        if work.altered:
            self.changed(work.listing.directory, work.listing.generation)

    def pages(self, mounted: Mounted, prefix: bytes, cursor: str, *, delimiter: bool) -> Iterator[ListPage]:
        """Pages of a listing, each asked for while the caller is busy with the one before."""
        driver = mounted.driver

        def ask(cursor: str) -> ListPage:
            deadline = Deadline.after(PAGE_SECONDS, self.clock)
            return driver.list_page(prefix, delimiter=delimiter, cursor=cursor, limit=PAGE_KEYS, deadline=deadline)

        page = ask(cursor)
        while page.cursor:
            if page.cursor == cursor:
                raise BadAnswer("the listing does not advance", endpoint=driver.endpoint, key=prefix)
            cursor = page.cursor
            if self._closing:
                raise NamespaceError("the namespace is closing")
            try:
                ahead = self._pool.submit(ask, cursor)
            except RuntimeError:  # the pool is shut down
                raise NamespaceError("the namespace is closing") from None
            yield page
            # Not begun yet: all threads are busy, perhaps all with waiting here.  Then this one asks itself.
            page = ask(cursor) if ahead.cancel() else ahead.result()
        yield page

    def purge(self) -> None:
        """Delete what is left below dropped directories, in small steps."""
        while not self._closing and self.store.purge():
            pass

    def purge_soon(self) -> None:
        """The same in a thread of the pool."""
        with contextlib.suppress(RuntimeError):  # the pool is shut down: the next start does it
            self._pool.submit(self.purge)

    def _resumable(self, listing: Listing, mounted: Mounted, state: DirState) -> bool:
        if not state.running_gen:
            return False
        if listing.resume_after is not None:
            return state.running_gen > listing.resume_after
        return seconds_left(state.started_ns, mounted.info.ttl_seconds, self.clock.wall_ns()) > 0

    def detach_views(self, listing: Listing) -> None:
        """Give views of older generations a snapshot, before the first row changes."""
        with self._lock:
            live = self._live.get(listing.directory)
            if live is None or all(view.listing is listing or view.snapshot is not None for view in live.views):
                return
        shared = SharedSnapshot(self.store.snapshot()).share()
        with self._lock:
            for view in live.views:
                if view.listing is not listing and view.snapshot is None:
                    view.snapshot = shared.share()
        shared.drop()
