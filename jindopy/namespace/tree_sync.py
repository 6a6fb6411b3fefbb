"""List a whole tree into the store with several threads; go on after a crash.

A tree listing is a row of ``tree_sync``: its directory and the generation at which it began.  A directory is done when
its complete generation is above that number, so a restart, or a second caller, repeats nothing that is finished, and a
directory with a million keys goes on at its saved cursor.  The row goes when the whole tree is done.

Flow: a stack of directories → each thread takes one and, if it is not done, lists all below it in one pass where that
pays (``flat_sync``), else the directory alone (``Lister.list_now``) → pushes a cursor over its subdirectories → threads
take a thousand of them at a time.  So the stack grows with depth, not with the number of directories.

On failure the first error stops all threads after their current directory and is raised; so does the deadline.
"""

from __future__ import annotations

import threading
from typing import Final, final

from jindopy.base.clock import Deadline
from jindopy.base.errors import DeadlineExceeded, JindoError, NamespaceError, NoSuchEntry
from jindopy.base.ident import Inode
from jindopy.namespace.api import SyncProgress
from jindopy.namespace.flat_sync import FlatSync
from jindopy.namespace.listing import WAIT_SECONDS
from jindopy.namespace.mounts import Mounted
from jindopy.namespace.sync import Lister, seconds_left

_SUBDIRECTORIES: Final = 1000


@final
class TreeSync:
    """One listing of one tree."""

    def __init__(self, lister: Lister, threads: int, progress: SyncProgress | None) -> None:
        self._lister = lister
        self._store = lister.store
        self._threads = threads
        self._progress = progress
        self._refresh = True
        self._generation = 0
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        """There is more to do, or all is over."""
        self._ended = threading.Condition(lock)
        """All is over: for the caller alone, so that it never takes a thread's wake-up."""
        self._to_list: list[Inode] = []
        self._to_expand: list[tuple[Inode, bytes]] = []
        self._busy = 0
        self._error: BaseException | None = None
        self._stopped = False
        self._deadline = Deadline.never()

    def run(self, top: Inode, *, refresh: bool, deadline: Deadline) -> None:
        """List everything below ``top``; see ``MasterApi.sync_tree``."""
        self._refresh, self._deadline = refresh, deadline
        begun = self._store.tree_sync(top)
        if begun is None:
            with self._store.write() as tx:
                begun = tx.draw_generation()
                tx.save_tree_sync(top, begun)
        self._generation = begun
        self._to_list.append(top)
        threads = [
            threading.Thread(target=self._work, name=f"jindopy-tree-{n}", daemon=True) for n in range(self._threads)
        ]
        for thread in threads:
            thread.start()
        with self._changed:
            while not self._over():
                self._ended.wait(deadline.bounded(WAIT_SECONDS))
                if deadline.passed:
                    self._stopped = True
                    self._changed.notify_all()
                    raise DeadlineExceeded("listing a tree: no answer in time")
            error = self._error
        for thread in threads:
            thread.join()
        if isinstance(error, JindoError):
            raise error
        if error is not None:
            raise NamespaceError(f"listing a tree failed: {error!r}") from error
        with self._store.write() as tx:
            tx.end_tree_sync(top, begun)

    def _over(self) -> bool:
        return self._stopped or not (self._busy or self._to_list or self._to_expand)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._over() and not self._to_list and not self._to_expand:
                    self._changed.wait(WAIT_SECONDS)
                if self._over():
                    return
                directory = self._to_list.pop() if self._to_list else None
                expand = self._to_expand.pop() if directory is None else None
                self._busy += 1
            found: list[Inode] = []
            more: tuple[Inode, bytes] | None = None
            error: BaseException | None = None
            try:
                if directory is not None:
                    more = self._list(directory)
                elif expand is not None:
                    found, more = self._expand(*expand)
            except BaseException as raised:  # noqa: BLE001 - handed to the caller of run
                error = raised
            with self._changed:
                self._busy -= 1
                self._to_list.extend(found)
                if more is not None:
                    self._to_expand.append(more)
                if error is not None:
                    self._error = self._error or error
                    self._stopped = True
                if self._over():
                    self._changed.notify_all()
                    self._ended.notify_all()
                else:
                    # This thread takes one of them itself.
                    self._changed.notify(len(found) + (more is not None) - 1)

    def _list(self, directory: Inode) -> tuple[Inode, bytes] | None:
        row = self._store.row(directory)
        if row is None:
            return None
        mounted = self._lister.mounts.get(row.mount)
        if mounted is not None:
            state = self._store.dir_state(directory)
            left = seconds_left(state.listed_ns, mounted.info.ttl_seconds, self._lister.clock.wall_ns())
            done = state.complete_gen > self._generation
            if not done and (self._refresh or not state.complete_gen or left <= 0):
                try:
                    self._list_now(directory, mounted)
                except NoSuchEntry:
                    return None  # dropped meanwhile by its parent's listing
        return directory, b""

    def _list_now(self, directory: Inode, mounted: Mounted) -> None:
        FlatSync(self._lister, self._generation, self._progress).run(directory, mounted)
        if self._store.dir_state(directory).complete_gen > self._generation:
            return
        listing = self._lister.list_now(directory, self._generation, self._deadline)
        if self._progress is not None:
            self._progress.listed(1, listing.entries)

    def _expand(self, directory: Inode, after: bytes) -> tuple[list[Inode], tuple[Inode, bytes] | None]:
        rows = self._store.subdirectories(directory, after, _SUBDIRECTORIES)
        more = (directory, rows[-1][1]) if len(rows) == _SUBDIRECTORIES else None
        return [Inode(inode) for inode, _ in rows], more
