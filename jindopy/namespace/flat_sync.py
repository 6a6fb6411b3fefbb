"""List a tree of small directories by key order, without a delimiter: a thousand objects a request, not a directory.

A pass over the keys below a directory meets each directory below it as one run of keys, nested like brackets.  A stack
holds the directories the pass is inside of.  A directory that is left is complete: its names are merged into the store
as those of a listing of its own (``listing``).  Files of a large one are written a thousand at a time.

The pass is worth it when the tree fits into one page, or when the first page shows more than 16 directories (as many as
delimiter listings run at once).  It only ever speeds a tree listing up: the walk of ``tree_sync`` follows, and lists
what the pass left out.  That is: directories somebody else is listing; those done before; those that a pass before a
crash was inside of, whose first names this one, going on at the saved cursor, never sees.

On failure every directory that is not left fails as a listing does, and keeps the names it had.
"""

from __future__ import annotations

import copy
from typing import Final, final

from jindopy.base.errors import BadAnswer, JindoError, NamespaceError
from jindopy.base.ident import Inode, Kind
from jindopy.namespace.api import SyncProgress
from jindopy.namespace.diff import EntryTuple
from jindopy.namespace.keys import CLASH, name_fault
from jindopy.namespace.listing import Listing, ListingWork
from jindopy.namespace.mounts import Mounted
from jindopy.namespace.pages import Names
from jindopy.namespace.sqlite_write import Transaction
from jindopy.namespace.sync import PAGE_KEYS, Lister
from jindopy.ufs.base import Capability, ListPage, ObjectStat

DIRECTORIES_MIN: Final = 16


def worth_it(page: ListPage) -> bool:
    """Whether the first page of a flat listing says that going on is better than listing directory by directory."""
    if not page.cursor:
        return True
    return len({stat.key[: stat.key.rfind(b"/") + 1] for stat in page.objects}) > DIRECTORIES_MIN


@final
class _Open:
    """A directory the pass is inside of."""

    __slots__ = ("directories", "files", "generation", "inode", "marker_mtime_ns", "noted", "prefix", "skipped", "work")

    def __init__(
        self, prefix: bytes, inode: Inode | None, work: ListingWork | None = None, generation: int = 0
    ) -> None:
        self.prefix = prefix
        self.inode = inode
        """None: nothing below here is shown."""
        self.work = work
        """None: its own names are left to others."""
        self.generation = generation
        """Of the listing that brings its new directories; 0: it is complete, or others bring them."""
        self.files: list[EntryTuple] = []
        self.directories: list[bytes] = []
        self.skipped: list[tuple[bytes, str]] = []
        self.marker_mtime_ns: int | None = None
        self.noted = False

    def take_names(self, bound: bytes) -> Names:
        """What was met since the last call."""
        names = Names(self.files, self.directories, self.skipped, self.marker_mtime_ns, bound)
        self.files, self.directories, self.skipped, self.marker_mtime_ns = [], [], [], None
        return names


@final
class FlatSync:
    """One pass below one directory, as part of the tree listing that began at ``generation``."""

    def __init__(self, lister: Lister, generation: int, progress: SyncProgress | None) -> None:
        self._lister = lister
        self._store = lister.store
        self._mounts = lister.mounts
        self._generation = generation
        self._progress = progress
        self._stack: list[_Open] = []
        self._left: list[ListingWork] = []
        self._claimed: dict[Inode, Listing] = {}
        self._base = b""
        self._last = b""
        self._since_ns = 0

    def run(self, top: Inode, mounted: Mounted) -> None:
        """List what can be listed in one pass below ``top``."""
        if Capability.FLAT_LIST not in mounted.driver.capabilities:
            return
        prefix = self._mounts.directory_key(top)
        cursor = self._store.flat_cursor(top, self._generation)
        # The next page is asked for before this one comes back: its age counts from the call that brought this one.
        self._since_ns = before_ns = self._lister.clock.wall_ns()
        pages = self._lister.pages(mounted, prefix, cursor, delimiter=False)
        page = next(pages)
        if not cursor and not worth_it(page):
            return
        self._base = prefix
        try:
            while True:
                with self._store.write() as tx:
                    if not self._stack:
                        self._stack.append(self._top(tx, top, mounted, prefix))
                    if page.prefixes:
                        raise BadAnswer("a listing without a delimiter has common prefixes", key=prefix)
                    self._take(tx, mounted, page.objects)
                    self._end_page(tx, last=not page.cursor)
                    tx.save_flat_cursor(top, self._generation, page.cursor)
                self._publish()
                if not page.cursor:
                    break
                self._since_ns, before_ns = before_ns, self._lister.clock.wall_ns()
                page = next(pages)
        except BaseException as error:
            self._fail(error)
            raise
        self._lister.purge()

    def _top(self, tx: Transaction, top: Inode, mounted: Mounted, prefix: bytes) -> _Open:
        row = tx.row(top)
        if row is None:
            return _Open(prefix, None)
        return self._opened(tx, top, mounted, prefix, row.node[10], fresh=False)

    def _take(self, tx: Transaction, mounted: Mounted, objects: list[ObjectStat]) -> None:
        at = self._stack[-1]
        hidden = at.work.anchors if at.work is not None else {}
        for key, size, mtime_ns, token, kind, crc64, _ in objects:
            if key <= self._last or not key.startswith(self._stack[0].prefix):
                raise BadAnswer("the listing is out of order or outside its prefix", key=key)
            self._last = key
            cut = key.rfind(b"/") + 1
            if key[:cut] != self._base:
                self._enter(tx, mounted, key[:cut])
                at = self._stack[-1]
                hidden = at.work.anchors if at.work is not None else {}
            if at.work is None:
                continue
            name = key[cut:]
            if not name:
                at.marker_mtime_ns = mtime_ns
                continue
            fault = CLASH if name in hidden else name_fault(name)
            if fault is None:
                at.files.append((name, 0 if kind is Kind.FILE else int(kind), size, mtime_ns, token, crc64))
            else:
                at.skipped.append((key, fault))

    def _enter(self, tx: Transaction, mounted: Mounted, base: bytes) -> None:
        """Leave and enter directories until inside of ``base``."""
        while not base.startswith(self._stack[-1].prefix):
            self._leave(tx)
        at = self._stack[-1]
        for name in base[len(at.prefix) :].split(b"/")[:-1]:
            at = self._below(tx, mounted, at, name)
            self._stack.append(at)
        self._base = base

    def _below(self, tx: Transaction, mounted: Mounted, parent: _Open, name: bytes) -> _Open:
        prefix = parent.prefix + name + b"/"
        nothing = _Open(prefix, None)
        if parent.inode is None or self._mounts.is_anchor(parent.inode, name):
            return nothing
        fault = name_fault(name)
        if fault is not None:
            if parent.work is not None:
                parent.skipped.append((prefix, fault))
            return nothing
        work = parent.work
        row = None if work is not None and work.fresh else tx.child(parent.inode, name)
        if row is not None and row.kind == Kind.DIRECTORY:
            inode, mtime_ns, fresh = row.inode, row.node[10], False
        elif not parent.generation or (work is None and row is not None):
            return nothing
        else:
            if work is not None and row is not None:
                tx.drop([row.inode])
                work.altered = True
            inode = tx.insert_directory(parent.inode, name, mounted.info.id, parent.generation)
            mtime_ns, fresh = None, True
        if work is not None:
            parent.directories.append(name)
        return self._opened(tx, inode, mounted, prefix, mtime_ns, fresh=fresh)

    def _opened(
        self, tx: Transaction, inode: Inode, mounted: Mounted, prefix: bytes, mtime_ns: int | None, *, fresh: bool
    ) -> _Open:
        """Begin the listing of a directory, unless others do it or did it."""
        if not fresh:
            state = tx.dir_state(inode)
            if state.complete_gen > self._generation:
                return _Open(prefix, inode)
            if state.running_gen > self._generation:
                return _Open(prefix, inode, None, state.running_gen)
        listing, mine = self._lister.claim(inode, self._generation)
        if not mine:
            return _Open(prefix, inode)
        self._claimed[inode] = listing
        listing.since_ns = self._since_ns
        work = ListingWork(listing, mounted, prefix, mtime_ns, self._mounts.anchors(inode))
        work.fresh, work.resumable = fresh, False
        if not fresh:
            self._lister.detach_views(listing)
        work.begin(tx)
        return _Open(prefix, inode, work, listing.generation)

    def _leave(self, tx: Transaction) -> None:
        left = self._stack.pop()
        if left.work is not None:
            self._left.append(left.work)
            left.work.write_page(tx, left.take_names(b""), "")

    def _end_page(self, tx: Transaction, *, last: bool) -> None:
        if last:
            while self._stack:
                self._leave(tx)
            return
        for at in self._stack:
            if at.work is not None and not at.noted:
                # What tells a later pass that it has not seen all names of this directory.
                at.work.save_begun(tx)
                at.noted = True
        at = self._stack[-1]
        if at.work is not None and len(at.files) >= PAGE_KEYS:
            bound = at.files[-1][0]
            at.work.write_page(tx, at.take_names(bound), "more")

    def _publish(self) -> None:
        left, self._left = self._left, []
        for work in left:
            self._lister.publish(work)
            del self._claimed[work.listing.directory]
            if self._progress is not None:
                self._progress.listed(1, work.listing.entries)

    def _fail(self, error: BaseException) -> None:
        reason = error if isinstance(error, JindoError) else NamespaceError(f"listing failed: {error!r}")
        for listing in self._claimed.values():
            self._lister.end(listing, copy.copy(reason))
