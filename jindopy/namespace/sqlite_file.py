"""Opening the namespace file: one owner, a sound file, a format this release reads, connections.

Flow: refuse network file systems (WAL shares memory between connections, which they don't offer) → lock
``<file>.lock`` (one process owns a namespace; the lock ends with it) → open and check → migrate when the format is
older.  The whole file is checked (``quick_check``) only when the last owner did not close it: SQLite survives a kill,
this is for disks that did not survive a power cut.

Connections: one writer, whose user holds the store's write lock, and a pool of readers, at most ``READERS_MAX`` and
opened on demand.  WAL gives each reader a snapshot for the time of a statement, or of a transaction it opens.

On failure: SQLite's own errors are translated here and nowhere else (``translated``): a damaged file is
NamespaceCorrupt, a full disk or an I/O error a NamespaceError.  A damaged file is never moved or written anew here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, final

from jindopy.base import mountinfo
from jindopy.base.clock import Deadline
from jindopy.base.errors import CacheBusy, DeadlineExceeded, FormatTooNew, NamespaceCorrupt, NamespaceError, UsageError

FORMAT_VERSION: Final = 1
MIN_READER: Final = 1
"""Oldest format a release must speak to use what this one writes."""

READERS_MAX: Final = 24
"""16 threads of listings and lookups, and 8 streams that keep a snapshot while a slow reader holds them."""

READERS_KEPT: Final = 4
"""Idle connections kept open, about 0.5 MB each once they have read."""

READER_CACHE_KIB: Final = 512
WRITER_CACHE_KIB: Final = 2048
"""600,000 inodes take 3.9 CPU-s with 2, 8 and 64 MiB alike, and 48, 55 and 128 MB of memory (bench/micro/namespace.py):
listings insert in the order of the index."""

WAL_PAGES: Final = 2000
"""Checkpoint every 8 MB: half as many as by default, and the log's index stays small."""

CLOSE_SECONDS: Final = 1.0
"""How long ``close`` waits for readers: a statement takes far less, and an abandoned stream is not waited for."""

WAL_BYTES_KEPT: Final = 16 << 20
"""A long read lets the log grow; this much of the file stays once it could be emptied."""

_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"}
    | {"orangefs", "pvfs2", "smb3", "smbfs"}
)


def file_system_type(directory: Path) -> str:
    """Type of the file system a directory is on; empty where the kernel does not say (btrfs has devices of its own)."""
    device = directory.stat().st_dev
    wanted = (os.major(device), os.minor(device))
    return next((entry.fs_type for entry in mountinfo.read() if entry.device == wanted), "")


def refuse_network_file_system(directory: Path, kind: str) -> None:
    """Raise UsageError if SQLite cannot work there."""
    # File systems in user space are remote, but for the one that rootless containers have as their root.
    if kind in _NETWORK_FILE_SYSTEMS or (kind.startswith("fuse.") and kind != "fuse.fuse-overlayfs"):
        raise UsageError(
            f"{directory} is on a network file system ({kind}), where the namespace cannot live: "
            "choose a state directory on a local disk"
        )


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_CORRUPT:
            raise _corrupt(path, error) from error
        if code == sqlite3.SQLITE_FULL:
            raise NamespaceError(f"{path}: the disk is full; free some space") from error
        raise NamespaceError(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise _corrupt(path, error) from error


def _corrupt(path: Path, cause: object) -> NamespaceCorrupt:
    name = str(path)
    return NamespaceCorrupt(
        f"{name} is damaged ({cause}); run: mv {shlex.quote(name)} {shlex.quote(name + '.damaged')} and mount again:"
        " the tree is listed anew, pins and unfinished loads in it are lost"
    )


@final
class SqliteFile:
    """An opened, locked, checked namespace file and its connections."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.created = False
        refuse_network_file_system(path.parent, file_system_type(path.parent))
        self._lock_fd = _lock(path)
        self._idle: list[sqlite3.Connection] = []
        self._available = threading.Condition()
        self._out = 0
        self._closed = False
        self._suspect = False
        try:
            with translated(path):
                self.writer = self._open()
        except BaseException:
            os.close(self._lock_fd)
            raise

    def _open(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
            meta = _read_meta(connection)
            self.created = not meta
            if meta.get("min_reader", 0) > FORMAT_VERSION:
                raise FormatTooNew(
                    f"{self.path} has format {meta['format_version']}, this release reads up to {FORMAT_VERSION}: "
                    "upgrade jindopy, or choose another state directory"
                )
            if meta and not meta.get("clean", 0):
                _check(connection, self.path)
            if meta.get("format_version", 0) < FORMAT_VERSION:
                from jindopy.namespace import schema

                schema.migrate(connection)
            connection.execute("UPDATE meta SET value = 0 WHERE key = 'clean'")
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> sqlite3.Connection:
        # Connections move between threads, one at a time.  One process owns the file, so a busy wait is only ever for
        # a checkpoint.
        connection = sqlite3.connect(self.path, timeout=30.0, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Translate errors; once SQLite has met damage, the next start checks the whole file."""
        try:
            with translated(self.path):
                yield
        except NamespaceCorrupt:
            self._suspect = True
            raise

    def acquire(self, deadline: Deadline | None = None) -> sqlite3.Connection:
        """A reader of one's own until ``release``."""
        with self._available:
            while True:
                if self._closed:
                    raise NamespaceError(f"{self.path} is closed")
                if self._idle:
                    self._out += 1
                    return self._idle.pop()
                if self._out < READERS_MAX:
                    self._out += 1
                    break
                seconds = 30.0 if deadline is None else deadline.bounded(30.0)
                if not self._available.wait(seconds):
                    raise DeadlineExceeded(f"{self.path}: {READERS_MAX} readers are busy")
        try:
            with self.guard():
                return self._connect()
        except BaseException:
            with self._available:
                self._out -= 1
                self._available.notify()
            raise

    def release(self, connection: sqlite3.Connection) -> None:
        """Give a reader back."""
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        with self._available:
            keep = not self._closed and len(self._idle) < READERS_KEPT
            if keep:
                self._idle.append(connection)
            else:
                connection.close()
            self._out -= 1
            self._available.notify_all()

    @contextlib.contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """A reader for a few statements."""
        connection = self.acquire()
        try:
            with self.guard():
                yield connection
        finally:
            self.release(connection)

    def close(self) -> None:
        """Mark the file as properly closed and let go of it; the caller holds the write lock."""
        with self._available:
            if self._closed:
                return
            self._closed = True
            # The last connection to close tidies the log up: let it be the writer.
            self._available.wait_for(lambda: self._out == 0, CLOSE_SECONDS)
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        try:
            if not self._suspect:
                with translated(self.path):
                    self.writer.execute("UPDATE meta SET value = 1 WHERE key = 'clean'")
        finally:
            self.writer.close()
            os.close(self._lock_fd)


def _lock(path: Path) -> int:
    lock_path = path.with_name(path.name + ".lock")
    try:
        fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"{path.parent}: {error.strerror}; choose another state directory") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(fd, 32).decode("ascii", "replace").strip()
        os.close(fd)
        raise CacheBusy(
            f"{path} is in use by process {owner or 'unknown'}; stop it or choose another state directory"
        ) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _read_meta(connection: sqlite3.Connection) -> dict[str, int]:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is None:
        return {}
    return dict(connection.execute("SELECT key, value FROM meta"))


def _check(connection: sqlite3.Connection, path: Path) -> None:
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise _corrupt(path, verdict)
