"""Pins: paths whose files stay cached, whatever their version.

A pin is a row in the namespace (mount, path prefix); in the cache it is a flag of one version, set before the first
byte comes.  *Reconciling* makes the second follow the first: walk what is pinned, flag the versions that are current,
take the flag from all others.  It runs after each change of pins and each load, and in the background at the start and
when the namespace says that directories changed, so that a new version is flagged whoever reads it.

Bounds: PINS_MAX rows; reconciling remembers one cid for each flagged version.
Threads: one for the background; ``_lock`` makes reconciliations follow each other.
On failure: flags stay as they are, with a line in the log; the next occasion tries again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol, final

from jindopy._ext.blockstore import FileStat, TierStat
from jindopy.base.clock import Deadline
from jindopy.base.errors import JindoError, NamespaceError, UsageError
from jindopy.base.ident import Cid, FileVersion, Inode, MountId
from jindopy.base.units import format_size
from jindopy.master.patterns import is_below
from jindopy.master.selection import Found, Selection, Versions, walk_node
from jindopy.namespace.api import MasterApi

LOG = logging.getLogger("jindopy.pins")

PINS_MAX: Final = 1000
"""Rows; whoever needs more pins the directory."""
PIN_SECONDS_MAX: Final = 1800.0
"""Listing what is to be pinned, to know its size."""


SETTLE_SECONDS: Final = 2.0
"""Changes of directories come in bursts, one listing after the other."""


class Lease(Protocol):
    """Keeps an entry of the cache while it is open."""

    def close(self) -> None: ...


class Flags(Protocol):
    """What pinning needs of a cache."""

    def open(self, version: FileVersion) -> Lease:
        """Make an entry, empty or not."""
        ...

    def stats(self) -> list[TierStat]: ...

    def peek(self, cid: Cid) -> FileStat | None: ...

    def cids(self, *, pinned: bool = False) -> list[Cid]: ...

    def pin(self, cid: Cid, pinned: bool) -> bool: ...


class Pinned(NamedTuple):
    """Sums over what a request pinned or let go."""

    files: int
    bytes: int
    cached_bytes: int


@final
class Pins:
    """The pins of a mount."""

    def __init__(self, master: MasterApi, cache: Flags) -> None:
        self._master = master
        self._cache = cache
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._paths: tuple[bytes, ...] = ()
        self._remember()
        self._thread = threading.Thread(target=self._follow, name="pins", daemon=True)
        self._wake.set()
        self._thread.start()
        master.subscribe(self)

    def _remember(self) -> None:
        self._paths = tuple(path for _, path in self._master.pins())

    def covers(self, path: bytes) -> bool:
        """Whether a path is pinned, by itself or with a directory above it."""
        return any(is_below(path, pinned) for pinned in self._paths)

    def directory_changed(self, directory: Inode, generation: int) -> None:
        """The namespace learnt of new versions (``namespace.api.Listener``)."""
        if self._paths:
            self._wake.set()

    def everything_changed(self) -> None:
        """It may have."""
        if self._paths:
            self._wake.set()

    def _follow(self) -> None:
        while self._wake.wait() and not self._closed.is_set():
            self._wake.clear()
            self.reconcile()
            self._closed.wait(SETTLE_SECONDS)

    def pin(self, paths: Sequence[str], room_bytes: int) -> Pinned:
        """Pin what paths and globs select now, and what comes below them later.

        Raises UsageError when all that is pinned would be larger than ``room_bytes``, NoSuchEntry.
        """
        deadline = Deadline.after(PIN_SECONDS_MAX)
        selection = Selection(self._master, paths)
        selection.refresh(deadline, anew=False)
        with self._lock:
            added = self._rows(selection, deadline)
            if len(self._paths) + len(added) > PINS_MAX:
                raise UsageError(f"more than {PINS_MAX} pins are too many: pin the directory")
            needed = self._sum(selection.files(deadline))
            others = self._sum(found for found in self._pinned(deadline) if not selection.selects(found.path))
            if needed.bytes + others.bytes > room_bytes:
                raise UsageError(
                    f"not pinned: {format_size(needed.bytes + others.bytes)} would be pinned and the cache keeps"
                    f" {format_size(room_bytes)} (low watermark x quota); raise the quota or pin less"
                )
            for mount, path in added:
                self._master.set_pin(mount, path, True)
            self._remember()
            self._reconcile(deadline)
        return needed

    def unpin(self, paths: Sequence[str]) -> Pinned:
        """Forget the pins at and below the paths.  Raises UsageError when another pin above a path holds it."""
        deadline = Deadline.after(PIN_SECONDS_MAX)
        selection = Selection(self._master, paths)
        with self._lock:
            rows = self._master.pins()
            going = [row for row in rows if selection.selects(row[1])]
            for pattern in selection.patterns:
                above = [row[1] for row in rows if row not in going and is_below(pattern.base, row[1])]
                if above:
                    raise UsageError(f"{_shown(pattern.text)} is pinned with {_shown(above[0])}: unpin that")
            before = self._sum(self._pinned(deadline))
            for mount, path in going:
                self._master.set_pin(mount, path, False)
            self._remember()
            self._reconcile(deadline)
            after = self._sum(self._pinned(deadline))
        return Pinned(*(was - now for was, now in zip(before, after, strict=True)))

    def reconcile(self) -> None:
        """Flag the current versions of what is pinned, and no others."""
        try:
            with self._lock:
                self._reconcile(Deadline.after(PIN_SECONDS_MAX))
        except JindoError as error:
            LOG.warning("pins could not be brought up to date, what was pinned stays so: %s", error)

    def _reconcile(self, deadline: Deadline) -> None:
        if not self._paths and not any(tier.pinned_bytes for tier in self._cache.stats()):
            return  # spares listing the cache where nobody pins
        stale = set(self._cache.cids(pinned=True))
        for _, version in self._pinned(deadline):
            if self._closed.is_set():
                return
            if version.cid in stale:
                stale.discard(version.cid)
            elif version.size:
                self._flag(version)
        for cid in stale:
            self._cache.pin(cid, False)

    def _flag(self, version: FileVersion) -> None:
        lease = self._cache.open(version)
        try:
            self._cache.pin(version.cid, True)
        finally:
            lease.close()

    def _pinned(self, deadline: Deadline) -> Iterator[Found]:
        """Each file that is pinned, as the store knows it."""
        versions = Versions(self._master.mounts())
        done: list[bytes] = []
        # The shortest first: what is below one that was walked is not walked again.
        for path in sorted(self._paths, key=len):
            if any(is_below(path, walked) for walked in done):
                continue
            done.append(path)
            try:
                node = self._master.resolve(path, deadline=deadline)
            except NamespaceError:
                continue  # there is no such file now; the pin waits for it
            for below, found in walk_node(self._master, path, node):
                yield Found(below, versions.of(below, found))

    def _rows(self, selection: Selection, deadline: Deadline) -> list[tuple[MountId, bytes]]:
        """Rows that the patterns ask for and no pin covers; at most a few more than PINS_MAX."""
        rows: list[tuple[MountId, bytes]] = []
        for path, node in selection.tops(deadline):
            if self.covers(path):
                continue
            if node.mount:
                rows.append((node.mount, path))
            else:  # a directory that only leads to mounts
                rows += [(mount.id, mount.path) for mount in self._master.mounts() if is_below(mount.path, path)]
            if len(rows) > PINS_MAX:
                break
        return rows

    def _sum(self, files: Iterable[Found]) -> Pinned:
        count = size_bytes = cached_bytes = 0
        for _, version in files:
            known = self._cache.peek(version.cid)
            count += 1
            size_bytes += version.size
            cached_bytes += known.cached_bytes if known is not None else 0
        return Pinned(count, size_bytes, cached_bytes)

    def close(self) -> None:
        """End the background thread."""
        self._closed.set()
        self._wake.set()
        self._thread.join()


def _shown(path: bytes) -> str:
    return repr(path.decode("utf-8", "backslashreplace") or "/")
