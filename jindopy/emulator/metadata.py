"""The side store: what a plain file cannot say of an object.  SQLite in WAL mode, one connection a process.

A row describes one *state* of one file, told by inode and modification time (set by us to the nanosecond).  The row is
written before the file is renamed into place and older rows are dropped after it, so a reader that finds a file finds
its row; a file without a row was dropped in by hand.  Writers of all processes take one flock around those three steps
(``objects.py``), readers take nothing.

synchronous=OFF: a crash of the machine may lose rows, and their files then count as dropped in by hand.  That is
enough for what this server is for.  Long calls run in worker threads: one lock serialises the connection.
"""

from __future__ import annotations

import contextlib
import errno
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from jindopy.base.errors import ConfigError, FormatTooNew

FORMAT_VERSION: Final = 1
BUSY_SECONDS: Final = 10.0

_SCHEMA = """
create table if not exists object (
    bucket text not null, directory blob not null, name blob not null,   -- components as in the key, not as on disk
    inode integer not null, mtime_ns integer not null, size integer not null,
    etag text not null,
    crc64 integer,                                                       -- as a signed number; null: not known yet
    kind text not null,                                                  -- Normal, Multipart, Symlink
    storage_class text not null,
    headers text not null,                                               -- JSON object: stored headers, user metadata
    target blob,                                                         -- of a symlink: a key of the same bucket
    restored_until integer not null default 0,                           -- seconds since 1970; archive classes only
    primary key (bucket, directory, name, inode, mtime_ns)
) without rowid;
create table if not exists component (hash blob primary key, component blob not null) without rowid;
create table if not exists bucket (
    name text primary key, created_ns integer not null, storage_class text not null, acl text not null
) without rowid;
create table if not exists upload (
    id text primary key, bucket text not null, key blob not null, headers text not null,
    storage_class text not null, started_ns integer not null
) without rowid;
create table if not exists part (
    upload text not null, number integer not null, file text not null, size integer not null, etag text not null,
    crc64 integer not null, mtime_ns integer not null,
    primary key (upload, number)
) without rowid;
"""


class ObjectRow(NamedTuple):
    """What is stored of one state of one object."""

    inode: int
    mtime_ns: int
    size: int
    etag: str
    crc64: int | None
    kind: str
    storage_class: str
    headers: dict[str, str]
    target: bytes | None
    restored_until: int


class BucketRow(NamedTuple):
    """What is stored of a bucket that was made by a request."""

    created_ns: int
    storage_class: str
    acl: str


class UploadRow(NamedTuple):
    """A multipart upload under way."""

    id: str
    bucket: str
    key: bytes
    headers: dict[str, str]
    storage_class: str
    started_ns: int


class PartRow(NamedTuple):
    """One uploaded part; ``file`` is its name in the upload's directory."""

    number: int
    file: str
    size: int
    etag: str
    crc64: int
    mtime_ns: int


def _signed(value: int | None) -> int | None:
    return value - (1 << 64) if value is not None and value >= 1 << 63 else value


def _unsigned(value: int | None) -> int | None:
    return value + (1 << 64) if value is not None and value < 0 else value


def _upload(row: tuple[Any, ...]) -> UploadRow:
    upload_id, bucket, key, headers, storage_class, started_ns = row
    return UploadRow(upload_id, bucket, key, json.loads(headers), storage_class, started_ns)


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """A disk that is full or fails is the same to callers whether SQLite or the kernel says so."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(errno.EIO, f"side store: {error}") from error


class Metadata:
    """The tables; open it in the process that uses it."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)
            try:
                self._prepare(path)
            except BaseException:
                self._db.close()
                raise
        except sqlite3.Error as error:
            raise ConfigError(f"{path}: {error}; delete it (objects become plain files) or use another root") from error

    def _prepare(self, path: Path) -> None:
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=off")
        version = int(self._db.execute("pragma user_version").fetchone()[0])
        if version > FORMAT_VERSION:
            raise FormatTooNew(f"{path}: written by a newer release (format {version}); upgrade, or use a new root")
        self._db.executescript(_SCHEMA)
        self._db.execute(f"pragma user_version={FORMAT_VERSION}")

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()

    def _all(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock, _as_os_error():
            return self._db.execute(statement, values).fetchall()

    def _run(self, statement: str, *values: Any) -> int:
        with self._lock, _as_os_error():
            return self._db.execute(statement, values).rowcount

    # Objects

    _COLUMNS = "inode, mtime_ns, size, etag, crc64, kind, storage_class, headers, target, restored_until"

    @staticmethod
    def _object(row: tuple[Any, ...]) -> ObjectRow:
        inode, mtime_ns, size, etag, crc, kind, storage_class, headers, target, restored_until = row[:10]
        return ObjectRow(
            inode,
            mtime_ns,
            size,
            etag,
            _unsigned(crc),
            kind,
            storage_class,
            json.loads(headers),
            target,
            restored_until,
        )

    def find(self, bucket: str, directory: bytes, name: bytes, inode: int, mtime_ns: int) -> ObjectRow | None:
        """The row of one state of a file."""
        rows = self._all(
            f"select {self._COLUMNS} from object"  # noqa: S608 (a constant)
            " where bucket=? and directory=? and name=? and inode=? and mtime_ns=?",
            bucket,
            directory,
            name,
            inode,
            mtime_ns,
        )
        return self._object(rows[0]) if rows else None

    def find_directory(self, bucket: str, directory: bytes) -> dict[tuple[bytes, int, int], ObjectRow]:
        """All rows of a directory's direct children, by (name, inode, mtime_ns)."""
        rows = self._all(
            f"select {self._COLUMNS}, name from object where bucket=? and directory=?",  # noqa: S608 (a constant)
            bucket,
            directory,
        )
        return {(row[10], row[0], row[1]): self._object(row) for row in rows}

    def save(self, bucket: str, directory: bytes, name: bytes, row: ObjectRow) -> None:
        """Write the row of one state."""
        self._run(
            "insert or replace into object values (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            bucket,
            directory,
            name,
            row.inode,
            row.mtime_ns,
            row.size,
            row.etag,
            _signed(row.crc64),
            row.kind,
            row.storage_class,
            json.dumps(row.headers),
            row.target,
            row.restored_until,
        )

    def drop(self, bucket: str, directory: bytes, name: bytes, keep: tuple[int, int] = (0, 0)) -> None:
        """Delete a name's rows but the one of state ``keep`` (inode, mtime_ns)."""
        self._run(
            "delete from object where bucket=? and directory=? and name=? and not (inode=? and mtime_ns=?)",
            bucket,
            directory,
            name,
            *keep,
        )

    # Components too long for a directory entry

    def save_component(self, component_hash: bytes, component: bytes) -> None:
        """Remember a component by its hash."""
        self._run("insert or ignore into component values (?,?)", component_hash, component)

    def find_component(self, component_hash: bytes) -> bytes | None:
        """The component of a hash."""
        rows = self._all("select component from component where hash=?", component_hash)
        return bytes(rows[0][0]) if rows else None

    # Buckets

    def save_bucket(self, name: str, row: BucketRow) -> None:
        """Write a bucket's row."""
        self._run("insert or replace into bucket values (?,?,?,?)", name, *row)

    def find_bucket(self, name: str) -> BucketRow | None:
        """A bucket's row; None for a directory made by hand."""
        rows = self._all("select created_ns, storage_class, acl from bucket where name=?", name)
        return BucketRow(*rows[0]) if rows else None

    def drop_bucket(self, name: str) -> None:
        """Forget a bucket and whatever rows its directory left."""
        self._run("delete from bucket where name=?", name)
        self._run("delete from object where bucket=?", name)

    # Multipart uploads

    def save_upload(self, row: UploadRow) -> None:
        """Begin an upload."""
        self._run(
            "insert into upload values (?,?,?,?,?,?)",
            row.id,
            row.bucket,
            row.key,
            json.dumps(row.headers),
            row.storage_class,
            row.started_ns,
        )

    def find_upload(self, upload_id: str) -> UploadRow | None:
        """One upload."""
        rows = self._all("select * from upload where id=?", upload_id)
        return _upload(rows[0]) if rows else None

    def find_uploads(self, bucket: str) -> list[UploadRow]:
        """A bucket's uploads by key and id."""
        rows = self._all("select * from upload where bucket=? order by key, id", bucket)
        return [_upload(row) for row in rows]

    def drop_upload(self, upload_id: str) -> bool:
        """Forget an upload and its parts; False when another request was first."""
        dropped = self._run("delete from upload where id=?", upload_id) > 0
        self._run("delete from part where upload=?", upload_id)
        return dropped

    def save_part(self, upload_id: str, row: PartRow) -> None:
        """Write a part's row; a part of the same number is replaced."""
        self._run(
            "insert or replace into part values (?,?,?,?,?,?,?)",
            upload_id,
            row.number,
            row.file,
            row.size,
            row.etag,
            _signed(row.crc64),
            row.mtime_ns,
        )

    def find_parts(self, upload_id: str) -> list[PartRow]:
        """An upload's parts by number."""
        rows = self._all(
            "select number, file, size, etag, crc64, mtime_ns from part where upload=? order by number", upload_id
        )
        return [PartRow(row[0], row[1], row[2], row[3], _unsigned(row[4]) or 0, row[5]) for row in rows]
