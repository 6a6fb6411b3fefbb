"""What a transaction on the namespace can do: every statement that changes rows of the tree and the mount table.

A ``Transaction`` exists only inside ``SqliteStore.write()``, which holds the write lock and commits or rolls back.
Inode, generation and mount numbers are drawn from counters in memory and saved by the commit: a rollback wastes its
numbers, so none is ever given out twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from itertools import count, repeat
from typing import Final, final

from jindopy.base.ident import Inode
from jindopy.namespace.diff import Changes, EntryTuple, KnownTuple
from jindopy.namespace.sqlite_rows import DirState, MountRow, Row, child_row, dir_state_row, row_by_id, signed

SKIPPED_PER_DIRECTORY: Final = 1000
"""Skipped keys remembered of one directory (all are counted): a bucket of nothing else must not fill the disk."""


@final
class Transaction:
    """What can be done inside ``SqliteStore.write()``."""

    def __init__(self, connection: sqlite3.Connection, counters: dict[str, int]) -> None:
        self.db = connection
        self._counters = counters
        self._drawn: set[str] = set()

    def _draw(self, counter: str, many: int = 1) -> int:
        first = self._counters[counter]
        self._counters[counter] = first + many
        self._drawn.add(counter)
        return first

    def draw_generation(self) -> int:
        """A number above all generations so far."""
        return self._draw("next_generation")

    def draw_mount(self) -> int:
        """A new mount id."""
        return self._draw("next_mount")

    def save_counters(self) -> None:
        """Part of the commit."""
        self.db.executemany(
            "UPDATE meta SET value = ? WHERE key = ?", [(self._counters[name], name) for name in self._drawn]
        )

    # Single rows

    def child(self, parent: int, name: bytes) -> Row | None:
        return child_row(self.db, parent, name)

    def row(self, inode: int) -> Row | None:
        return row_by_id(self.db, inode)

    def insert_directory(self, parent: int, name: bytes, mount: int, generation: int) -> Inode:
        """A new directory row."""
        inode = self._draw("next_inode")
        self.db.execute(
            "INSERT INTO inode(id, parent, name, mount, kind, size, version, token, sync_gen)"
            " VALUES (?, ?, ?, ?, 1, 0, 1, x'', ?)",
            (inode, parent, name, mount, generation),
        )
        return Inode(inode)

    def insert_root(self) -> None:
        """Inode 1, unless it is there."""
        self.db.execute(
            "INSERT OR IGNORE INTO inode(id, parent, name, mount, kind, size, version, token, sync_gen)"
            " VALUES (1, 0, x'', 0, 1, 0, 1, x'', 0)"
        )

    def insert_file(self, parent: int, mount: int, entry: EntryTuple, generation: int) -> Inode:
        """A new file or symlink row."""
        return Inode(self._insert_files(parent, mount, [entry], generation))

    def _insert_files(self, parent: int, mount: int, entries: list[EntryTuple], generation: int) -> int:
        first = self._draw("next_inode", len(entries))
        self.db.executemany(
            "INSERT INTO inode(id, parent, name, mount, kind, size, mtime_ns, version, token, crc64, sync_gen)"
            f" VALUES (?, {int(parent)}, ?, {int(mount)}, ?, ?, ?, 1, ?, ?, {int(generation)})",
            [
                (inode, name, kind, size, mtime_ns, token, crc64 if crc64 is None else signed(crc64))
                for inode, (name, kind, size, mtime_ns, token, crc64) in zip(count(first), entries, strict=False)
            ],
        )
        return first

    def update_files(self, updates: Iterable[tuple[int, EntryTuple, bool]]) -> None:
        """(inode, what it is now, whether that is a new version); a known CRC stays with its version."""
        self.db.executemany(
            "UPDATE inode SET size = ?, mtime_ns = ?, token = ?, version = version + ?, gone_gen = NULL,"
            " crc64 = coalesce(?, CASE ? WHEN 0 THEN crc64 END) WHERE id = ?",
            [
                (*entry[2:5], int(new_version), signed(entry[5]), int(new_version), inode)
                for inode, entry, new_version in updates
            ],
        )

    def set_checked(self, inode: int, checked_ns: int) -> None:
        self.db.execute("UPDATE inode SET checked_ns = ?, gone_gen = NULL WHERE id = ?", (checked_ns, inode))

    def set_mtime(self, inode: int, mtime_ns: int | None) -> None:
        self.db.execute("UPDATE inode SET mtime_ns = ? WHERE id = ?", (mtime_ns, inode))

    def set_mount(self, inode: int, mount: int) -> None:
        """What a mount's root is to belong to."""
        self.db.execute("UPDATE inode SET mount = ?, mtime_ns = NULL WHERE id = ?", (mount, inode))

    def move(self, inode: int, parent: int, name: bytes) -> None:
        self.db.execute("UPDATE inode SET parent = ?, name = ? WHERE id = ?", (parent, name, inode))

    def make_permanent(self, inode: int) -> None:
        """Shown at every generation, whatever listings say."""
        self.db.execute("UPDATE inode SET sync_gen = 0, gone_gen = NULL WHERE id = ?", (inode,))

    def set_crc64(self, inode: int, version: int, crc64: int) -> None:
        self.db.execute(
            "UPDATE inode SET crc64 = ?1 WHERE id = ?2 AND version = ?3 AND crc64 IS NOT ?1",
            (signed(crc64), inode, version),
        )

    def drop(self, inodes: Iterable[int]) -> None:
        """Delete rows; what is below a directory follows in ``purge`` steps."""
        ids = [(inode,) for inode in inodes]
        self.db.executemany("INSERT OR IGNORE INTO trash SELECT id FROM inode WHERE id = ? AND kind = 1", ids)
        self.db.executemany("DELETE FROM inode WHERE id = ?", ids)

    # Listings

    def dir_state(self, inode: int) -> DirState:
        return dir_state_row(self.db, inode)

    def save_dir_state(self, inode: int, state: DirState) -> None:
        self.db.execute("INSERT OR REPLACE INTO dir_state VALUES (?, ?, ?, ?, ?, ?, ?)", (inode, *state))

    def forget_dir_state(self, inode: int) -> None:
        """The next reader lists it anew."""
        self.db.execute("DELETE FROM dir_state WHERE inode = ?", (inode,))

    def known(self, parent: int, after: bytes, upto: bytes | None) -> list[KnownTuple]:
        """Rows with names in (after, upto]; without ``upto`` all above ``after``."""
        limit = "" if upto is None else " AND name <= ?"
        return self.db.execute(
            "SELECT name, id, kind, size, mtime_ns, token, gone_gen FROM inode"
            f" WHERE parent = ? AND name > ?{limit} ORDER BY name",
            (parent, after) if upto is None else (parent, after, upto),
        ).fetchall()

    def apply(self, parent: int, mount: int, generation: int, changes: Changes) -> None:
        """Write what a page changed."""
        if changes.turned:
            self.drop(changes.turned)
        if changes.gone:
            self.db.executemany(
                "UPDATE inode SET gone_gen = ? WHERE id = ?", zip(repeat(generation), changes.gone, strict=False)
            )
        if changes.returned:
            self.db.executemany("UPDATE inode SET gone_gen = NULL WHERE id = ?", [(i,) for i in changes.returned])
        if changes.updates:
            self.update_files(changes.updates)
        if changes.inserts:
            self._insert_files(parent, mount, changes.inserts, generation)
        for name in changes.new_directories:
            self.insert_directory(parent, name, mount, generation)

    def sweep(self, parent: int) -> None:
        """A listing is complete: what it did not find goes."""
        self.db.execute(
            "INSERT OR IGNORE INTO trash SELECT id FROM inode WHERE parent = ? AND gone_gen IS NOT NULL AND kind = 1",
            (parent,),
        )
        self.db.execute("DELETE FROM inode WHERE parent = ? AND gone_gen IS NOT NULL", (parent,))

    def forget_skipped(self, parent: int, generation: int) -> None:
        """A listing is complete: what older ones skipped is void."""
        self.db.execute("DELETE FROM skipped WHERE directory = ? AND generation < ?", (parent, generation))

    def note_skipped(self, mount: int, directory: int, generation: int, skipped: Iterable[tuple[bytes, str]]) -> None:
        """Remember (key, reason) pairs, up to a number per directory."""
        known = self.db.execute(
            "SELECT count(*) FROM skipped WHERE directory = ? AND generation = ?", (directory, generation)
        ).fetchone()[0]
        self.db.executemany(
            "INSERT OR REPLACE INTO skipped VALUES (?, ?, ?, ?, ?)",
            [
                (mount, key, reason, directory, generation)
                for key, reason in list(skipped)[: max(0, SKIPPED_PER_DIRECTORY - known)]
            ],
        )

    def save_tree_sync(self, inode: int, generation: int) -> None:
        self.db.execute("INSERT OR REPLACE INTO tree_sync VALUES (?, ?)", (inode, generation))

    def end_tree_sync(self, inode: int, generation: int) -> None:
        self.db.execute("DELETE FROM tree_sync WHERE inode = ? AND generation = ?", (inode, generation))
        self.db.execute("DELETE FROM flat_sync WHERE generation = ?", (generation,))

    def save_flat_cursor(self, inode: int, generation: int, cursor: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO flat_sync VALUES (?, ?, ?)", (inode, generation, cursor))

    # The mount table

    def save_mount(self, row: MountRow) -> None:
        self.db.execute("INSERT OR REPLACE INTO mount VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def drop_mount(self, mount: int) -> None:
        """Forget a mount and every row of it.  Reads the whole table: only at a start that changes the mounts."""
        of_mount = "SELECT id FROM inode WHERE mount = ?"
        self.db.execute(f"DELETE FROM dir_state WHERE inode IN ({of_mount})", (mount,))
        self.db.execute(f"DELETE FROM tree_sync WHERE inode IN ({of_mount})", (mount,))
        self.db.execute("DELETE FROM inode WHERE mount = ? AND id != 1", (mount,))
        self.db.execute("UPDATE inode SET mount = 0, mtime_ns = NULL WHERE mount = ?", (mount,))
        for table in ("skipped", "pin"):
            self.db.execute(f"DELETE FROM {table} WHERE mount = ?", (mount,))
        self.db.execute("DELETE FROM mount WHERE id = ?", (mount,))

    def synthetic_directories(self) -> list[int]:
        """Directories below the root that belong to no mount."""
        return [i for (i,) in self.db.execute("SELECT id FROM inode WHERE kind = 1 AND mount = 0 AND id != 1")]
