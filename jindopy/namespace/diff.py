"""Known rows × listed pages → changes.  P.

One ``ListingMerge`` lives as long as one listing of one directory.  Each page gives the names it lists as files and as
directories, its *bound* (its last key below the directory, with the slash of a common prefix) and the known rows with
names in (bound before, this bound].  The answer is what must change in the store.

Order is the difficulty: listings are in key order, where the directory ``a`` stands as ``a/``, behind ``a-1`` and
``a.txt``.  So a name is *decided* only once ``name/`` is at or below the bound: until then a directory of that name may
still come.  Undecided names, all of them prefixes of the bound, are carried to the next page.  Deciding each name once,
with everything known about it, makes file ↔ directory turns and clashes (directory wins) plain.

Nothing is said about rows that did not change.  A row that is gone is only marked, and deleted when the listing is
complete: a listing that fails leaves the names of the previous one in place.

Bounds: carried state is at most one name for each length up to 255.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from jindopy.base.ident import Kind
from jindopy.namespace.keys import parents

EntryTuple = tuple[bytes, int, int, int, bytes, int | None]
"""A listed file or symbolic link: name, kind, size, mtime_ns, token, crc64.

Plain, and so is the next: building a NamedTuple costs 0.4 µs, for a listed key that costs 6 µs in all."""

KnownTuple = tuple[bytes, int, int, int, int | None, bytes, int | None]
"""What the store has under a name: name, inode, kind, size, mtime_ns, token, gone_gen.

The last is set when an unfinished listing did not find the row any more."""


@final
class Changes:
    """What one page asks of the store; lists are applied in the order of the fields."""

    __slots__ = ("clashes", "gone", "inserts", "new_directories", "returned", "turned", "updates")

    def __init__(self) -> None:
        self.turned: list[int] = []
        """Inodes to drop at once, subtree included: their name now means something of another kind."""
        self.gone: list[int] = []
        """Inodes to mark as gone."""
        self.returned: list[int] = []
        """Inodes that a failed listing marked as gone and this one found, otherwise unchanged."""
        self.updates: list[tuple[int, EntryTuple, bool]] = []
        """(inode, what it is now, whether that is a new version)."""
        self.inserts: list[EntryTuple] = []
        self.new_directories: list[bytes] = []
        self.clashes: list[bytes] = []
        """Names of files hidden by a directory."""

    @property
    def altered(self) -> int:
        """How many answers given earlier are no longer true."""
        return len(self.turned) + len(self.gone) + len(self.updates)


def decided(name: bytes, bound: bytes | None) -> bool:
    """Whether a listing that has come to ``bound`` (None: its end) has said all about ``name``."""
    return bound is None or name + b"/" <= bound


def undecided_names(bound: bytes | None) -> set[bytes]:
    """Every name at or below ``bound`` that is not decided yet."""
    if bound is None:
        return set()
    return {name for name in parents(bound) if not decided(name, bound)}


def new_version(entry: EntryTuple, row: KnownTuple) -> bool:
    """Whether ``entry`` is another state of the object than ``row``."""
    return entry[4] != row[5] or entry[2] != row[3]


@final
class ListingMerge:
    """Merges the pages of one listing with the known rows of the same names."""

    def __init__(self) -> None:
        self._files: dict[bytes, EntryTuple] = {}
        self._directories: set[bytes] = set()
        self._known: dict[bytes, KnownTuple] = {}

    @property
    def oldest_carried(self) -> bytes | None:
        """The lowest name that still waits for its decision."""
        return min((*self._files, *self._directories, *self._known), default=None)

    def page(
        self,
        files: list[EntryTuple],
        directories: Iterable[bytes],
        bound: bytes | None,
        known: Iterable[KnownTuple],
    ) -> Changes:
        """Decide every name up to ``bound``; None on the last page."""
        carried_files, carried_directories, carried_known = self._files, self._directories, self._known
        names = set(directories) | carried_directories
        rows = {row[0]: row for row in known}
        rows.update(carried_known)
        self._files, self._directories, self._known = {}, set(), {}
        if carried_files:
            files = [*carried_files.values(), *files]
        held = undecided_names(bound)
        if held:
            self._directories = names & held
            names -= held
            for name in held & rows.keys():
                self._known[name] = rows.pop(name)
            self._files = {entry[0]: entry for entry in files if entry[0] in held}
            if self._files:
                files = [entry for entry in files if entry[0] not in held]
        changes = Changes()
        if rows:
            _decide_files(files, names, rows, changes)
        elif names:
            _sort_out_clashes(files, names, changes)
        else:
            changes.inserts = files
        _decide_directories(names, rows, changes)
        changes.gone.extend(row[1] for row in rows.values() if row[6] is None)
        return changes


def _sort_out_clashes(files: list[EntryTuple], names: set[bytes], changes: Changes) -> None:
    """Nothing is known: every file is new unless a directory hides it."""
    clashes = names.intersection([entry[0] for entry in files])
    if clashes:
        changes.clashes.extend(sorted(clashes))
        files = [entry for entry in files if entry[0] not in clashes]
    changes.inserts = files


def _decide_files(files: list[EntryTuple], names: set[bytes], rows: dict[bytes, KnownTuple], changes: Changes) -> None:
    """Take the rows that files account for out of ``rows``."""
    pop = rows.pop
    for entry in files:
        name = entry[0]
        if name in names:
            changes.clashes.append(name)
            continue
        row = pop(name, None)
        if row is None:
            changes.inserts.append(entry)
        elif row[2] != entry[1]:
            changes.turned.append(row[1])
            changes.inserts.append(entry)
        elif new_version(entry, row):
            changes.updates.append((row[1], entry, True))
        elif row[4] != entry[3]:
            changes.updates.append((row[1], entry, False))
        elif row[6] is not None:
            changes.returned.append(row[1])


def _decide_directories(names: set[bytes], rows: dict[bytes, KnownTuple], changes: Changes) -> None:
    """Take the rows that directories account for out of ``rows``."""
    for name in names:
        row = rows.pop(name, None)
        if row is not None:
            if row[2] == Kind.DIRECTORY:
                if row[6] is not None:
                    changes.returned.append(row[1])
                continue
            changes.turned.append(row[1])
        changes.new_directories.append(name)
    changes.new_directories.sort()
