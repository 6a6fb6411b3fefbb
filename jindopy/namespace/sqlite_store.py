"""The namespace in SQLite: reads, the one place where transactions begin and end, pins and jobs.

Reads take a pooled connection for one statement or a few.  Writes go through ``write()``: one transaction at a time,
under the store's lock, on the one writer connection; it ends in a commit, or in a rollback when the block raises.
Nobody asks a network inside a transaction.

SQL stands in the files ``sqlite_*.py`` and in ``schema``, which explains every table and column; nothing of it shows
outside the room.

Bounds: nothing here returns more rows than its ``limit`` says, but for the small tables (mounts, pins, jobs).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from jindopy.base.errors import NamespaceError
from jindopy.base.ident import MountId
from jindopy.namespace.api import SkippedKey, TreeCount
from jindopy.namespace.sqlite_file import SqliteFile
from jindopy.namespace.sqlite_rows import (
    NODE_COLUMNS,
    DirState,
    MountRow,
    Row,
    RowTuple,
    child_row,
    child_rows,
    dir_state_row,
    lookup_rows,
    named_rows,
    row_by_id,
)
from jindopy.namespace.sqlite_write import Transaction


@dataclass(frozen=True)
class Job:
    """A load job as it survives restarts; ``spec`` and ``cursor`` are the load engine's own text."""

    id: str
    spec: str
    state: str
    cursor: str
    created_ns: int


@final
class SqliteStore:
    """See the module."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path)
        self._write_lock = threading.Lock()
        self._closed = False
        try:
            with self._file.reader() as db:
                self._counters: dict[str, int] = dict(
                    db.execute("SELECT key, value FROM meta WHERE key LIKE 'next_%'").fetchall()
                )
        except BaseException:
            self._file.close()
            raise

    @property
    def path(self) -> Path:
        return self._file.path

    def close(self) -> None:
        """Finish the running transaction and let go of the file."""
        with self._write_lock:
            self._closed = True
            self._file.close()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """One transaction."""
        with self._write_lock, self._file.guard():
            if self._closed:
                raise NamespaceError(f"{self.path} is closed")
            writer = self._file.writer
            writer.execute("BEGIN IMMEDIATE")
            try:
                transaction = Transaction(writer, self._counters)
                yield transaction
                transaction.save_counters()
                writer.execute("COMMIT")
            except BaseException:
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
                raise

    def snapshot(self) -> Snapshot:
        """The store as it is now, whatever is written later."""
        return Snapshot(self._file)

    def row(self, inode: int) -> Row | None:
        with self._file.reader() as db:
            return row_by_id(db, inode)

    def child(self, parent: int, name: bytes) -> Row | None:
        with self._file.reader() as db:
            return child_row(db, parent, name)

    def for_lookup(self, parent: int, name: bytes) -> tuple[Row | None, Row | None, DirState]:
        """The directory, the child and what is known of the directory, as of one moment."""
        with self._file.reader() as db:
            return lookup_rows(db, parent, name)

    def dir_state(self, inode: int) -> DirState:
        with self._file.reader() as db:
            return dir_state_row(db, inode)

    def children(self, parent: int, generation: int, after: bytes, upto: bytes | None, limit: int) -> list[RowTuple]:
        """Rows of a directory as of ``generation``, names in (after, upto], in order of names."""
        with self._file.reader() as db:
            return child_rows(db, parent, generation, after, upto, limit)

    def named(self, parent: int, generation: int, names: Iterable[bytes]) -> list[RowTuple]:
        """Rows of a directory as of ``generation`` under some names."""
        with self._file.reader() as db:
            return named_rows(db, parent, generation, names)

    def present_children(self, parent: int, after: bytes, limit: int) -> list[RowTuple]:
        """Rows of a directory that no listing found gone."""
        with self._file.reader() as db:
            return db.execute(
                f"SELECT {NODE_COLUMNS} FROM inode WHERE parent = ? AND name > ? AND gone_gen IS NULL"
                " ORDER BY name LIMIT ?",
                (parent, after, limit),
            ).fetchall()

    def subdirectories(self, parent: int, after: bytes, limit: int) -> list[tuple[int, bytes]]:
        """(inode, name) of directories in a directory."""
        with self._file.reader() as db:
            return db.execute(
                "SELECT id, name FROM inode INDEXED BY inode_directories"
                " WHERE kind = 1 AND parent = ? AND name > ? AND gone_gen IS NULL ORDER BY name LIMIT ?",
                (parent, after, limit),
            ).fetchall()

    def count(self, inode: int) -> TreeCount:
        """Sums below a directory."""
        with self._file.reader() as db:
            directories, files, size = db.execute(
                "WITH RECURSIVE top(id) AS (VALUES (?) UNION ALL SELECT inode.id FROM top CROSS JOIN inode"
                " INDEXED BY inode_directories ON inode.parent = top.id AND kind = 1 AND gone_gen IS NULL)"
                " SELECT (SELECT count(*) - 1 FROM top), count(*), coalesce(sum(size), 0)"
                " FROM top CROSS JOIN inode ON inode.parent = top.id WHERE kind != 1 AND gone_gen IS NULL",
                (inode,),
            ).fetchone()
        return TreeCount(files, directories, size)

    def tree_sync(self, inode: int) -> int | None:
        """Generation at which an unfinished listing of this tree began."""
        with self._file.reader() as db:
            found = db.execute("SELECT generation FROM tree_sync WHERE inode = ?", (inode,)).fetchone()
        return None if found is None else int(found[0])

    def flat_cursor(self, inode: int, generation: int) -> str:
        """Where a flat listing that is part of that tree listing goes on; empty: at the start."""
        statement = "SELECT cursor FROM flat_sync WHERE inode = ? AND generation = ?"
        with self._file.reader() as db:
            found = db.execute(statement, (inode, generation)).fetchone()
        return "" if found is None else str(found[0])

    def purge(self, limit: int = 2000) -> bool:
        """Delete some rows below dropped directories; whether there may be more to do."""
        with self._file.reader() as db:
            if db.execute("SELECT 1 FROM trash LIMIT 1").fetchone() is None:
                return False
        with self.write() as tx:
            found = tx.db.execute("SELECT inode FROM trash LIMIT 1").fetchone()
            if found is None:
                return False
            (top,) = found
            rows = tx.db.execute("SELECT id FROM inode WHERE parent = ? LIMIT ?", (top, limit)).fetchall()
            tx.drop(inode for (inode,) in rows)
            if len(rows) < limit:
                for table, column in (("trash", "inode"), ("dir_state", "inode"), ("skipped", "directory")):
                    tx.db.execute(f"DELETE FROM {table} WHERE {column} = ?", (top,))
        return True

    def skipped(self, limit: int) -> list[SkippedKey]:
        with self._file.reader() as db:
            rows = db.execute("SELECT mount, key, reason FROM skipped ORDER BY mount, key LIMIT ?", (limit,)).fetchall()
        return [SkippedKey(MountId(mount), key, reason) for mount, key, reason in rows]

    def mounts(self) -> list[MountRow]:
        with self._file.reader() as db:
            return [MountRow(*row) for row in db.execute("SELECT * FROM mount ORDER BY path")]

    def pins(self) -> list[tuple[MountId, bytes]]:
        with self._file.reader() as db:
            return db.execute("SELECT mount, path FROM pin ORDER BY mount, path").fetchall()

    def set_pin(self, mount: int, path: bytes, pinned: bool, now_ns: int) -> None:
        with self.write() as tx:
            if pinned:
                tx.db.execute("INSERT OR IGNORE INTO pin VALUES (?, ?, ?)", (mount, path, now_ns))
            else:
                tx.db.execute("DELETE FROM pin WHERE mount = ? AND path = ?", (mount, path))

    def save_job(self, job: Job) -> None:
        with self.write() as tx:
            tx.db.execute(
                "INSERT OR REPLACE INTO job VALUES (?, ?, ?, ?, ?)",
                (job.id, job.spec, job.state, job.cursor, job.created_ns),
            )

    def jobs(self) -> list[Job]:
        with self._file.reader() as db:
            return [Job(*row) for row in db.execute("SELECT * FROM job ORDER BY created_ns, id")]

    def delete_job(self, job: str) -> None:
        with self.write() as tx:
            tx.db.execute("DELETE FROM job WHERE id = ?", (job,))


@final
class Snapshot:
    """One state of the store for as long as it is open; holds a reader.  Not for two threads at once."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._db: sqlite3.Connection | None = file.acquire()
        with file.guard():
            # BEGIN alone takes no snapshot: the first read does.
            self._db.execute("BEGIN")
            self._db.execute("SELECT 1 FROM meta LIMIT 1").fetchone()

    def children(self, parent: int, generation: int, after: bytes, upto: bytes | None, limit: int) -> list[RowTuple]:
        """As the store's."""
        assert self._db is not None
        with self._file.guard():
            return child_rows(self._db, parent, generation, after, upto, limit)

    def named(self, parent: int, generation: int, names: Iterable[bytes]) -> list[RowTuple]:
        """As the store's."""
        assert self._db is not None
        with self._file.guard():
            return named_rows(self._db, parent, generation, names)

    def close(self) -> None:
        """Give the reader back."""
        if self._db is not None:
            self._file.release(self._db)
            self._db = None
