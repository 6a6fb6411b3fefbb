"""Buckets and objects as directories and files: ROOT/bucket/key, names escaped by ``names.py``.

The file is the body; everything else is a row of the side store (``metadata.py``) that holds for one state of the file
(inode, mtime).  A file without a row was dropped in by hand: its ETag is made of inode, size and time without reading
it (the real service's ETags of multipart objects are no MD5 either), its CRC is computed when first asked for.

Writes stream into ROOT/.jindopy-emulator/tmp and are renamed into place, so a reader, of any process, has the old body
or the new one, never a mixture, and an upload that breaks off leaves nothing.  The three steps row, rename, drop of old
rows are one critical section (thread lock and flock).  Directories appear with their first object and go with their
last one.

Symbolic links on disk are not followed: no key reaches a file outside its bucket's directory.

Threads: the event loop, and worker threads for what takes long (copying, joining parts, the CRC of a large dropped
file).  ``info`` objects are shared and change only by filling in a CRC.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat as stat_bits
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b, md5
from pathlib import Path
from typing import Final

from jindopy._ext.crc64 import crc64
from jindopy.base.clock import Clock
from jindopy.base.errors import ConfigError
from jindopy.emulator.errors import Refused, no_such_bucket, no_such_key
from jindopy.emulator.metadata import BucketRow, Metadata, ObjectRow
from jindopy.emulator.names import (
    ESCAPE,
    aside_name,
    check_bucket_name,
    check_key,
    component_hash,
    disk_name,
    is_hashed,
)

STATE_DIRECTORY: Final = ".jindopy-emulator"
READ_BYTES: Final = 1 << 20

INFO_CACHE_ENTRIES_MAX: Final = 50_000
"""About 1 kB each; a bench of 5,000 or 20,000 files fits, a bucket of a million costs 50 MB."""

ARCHIVE_CLASSES: Final = frozenset({"Archive", "ColdArchive", "DeepColdArchive"})
STORAGE_CLASSES: Final = frozenset({"Standard", "IA"}) | ARCHIVE_CLASSES

_OPEN_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG)


@dataclass(slots=True)
class ObjectInfo:
    """One state of one object."""

    size: int
    mtime_ns: int
    inode: int
    etag: str
    """Without quotes."""
    crc64: int | None
    kind: str = "Normal"
    storage_class: str = "Standard"
    headers: dict[str, str] = field(default_factory=dict)
    """Stored headers (content-type, cache-control, ...) and user metadata, names in lower case."""
    target: bytes | None = None
    restored_until: int = 0
    rendered: str = ""
    """The response header fields that never change, made by ``operations`` when first needed."""


@dataclass(slots=True)
class Place:
    """Where a key lives."""

    bucket: str
    key: bytes
    directory: bytes
    """Key up to and with the last ``/``."""
    name: bytes
    """Last component of the key."""
    path: bytes
    """Plain path on disk."""
    aside: bytes
    """Path when a directory has the plain one."""


class Writing:
    """A body on its way to disk, with its digests; ends by ``Store.commit`` or ``abort``."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self.size = 0
        self.crc64 = 0
        self._md5 = md5(usedforsecurity=False)

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        self._md5.update(data)
        self.crc64 = crc64(data, self.crc64)
        self.size += len(data)
        left = memoryview(data)
        while left:
            left = left[os.write(self.fd, left) :]

    @property
    def md5_digest(self) -> bytes:
        """MD5 of what was written."""
        return self._md5.digest()

    def abort(self) -> None:
        """Leave nothing behind; harmless when repeated or after the commit."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)


class Store:
    """All buckets below one root; open it in the process that uses it."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self.root = root = root.resolve()
        self._root = os.fsencode(root)
        self._clock = clock
        state = root / STATE_DIRECTORY
        try:
            for directory in (state, state / "tmp", state / "uploads"):
                directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._lock_fd = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigError(f"--root {root}: {error.strerror}; name a directory this user may write") from error
        # SQLite does not wait for locks while it switches a new database to WAL, and all processes start at once.
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        try:
            self.metadata = Metadata(state / "metadata.db")
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
        self.uploads_directory = os.fsencode(state / "uploads")
        self._tmp = os.fsencode(state / "tmp")
        self._thread_lock = threading.Lock()
        self._counter = 0
        self._cache: dict[tuple[str, bytes], ObjectInfo] = {}
        self._places: dict[tuple[str, bytes], Place] = {}
        self._inside_directories: set[bytes] = set()

    def close(self) -> None:
        """Close files; the store is not usable any more."""
        self.metadata.close()
        os.close(self._lock_fd)

    def now_ns(self) -> int:
        """The wall clock."""
        return self._clock.wall_ns()

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._thread_lock:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    # Buckets

    def bucket_path(self, bucket: str) -> bytes:
        """The bucket's directory; raises Refused when it is not there."""
        path = self._root + b"/" + bucket.encode("utf-8", "surrogateescape")
        check_bucket_name(bucket)
        try:
            if stat_bits.S_ISDIR(os.lstat(path).st_mode):
                return path
        except FileNotFoundError:
            pass
        raise no_such_bucket(bucket)

    def buckets(self) -> list[tuple[str, BucketRow]]:
        """All buckets by name."""
        found = []
        with os.scandir(self.root) as entries:
            for entry in entries:
                try:
                    check_bucket_name(entry.name)
                except Refused:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    found.append((entry.name, self.bucket_row(entry.name)))
        return sorted(found)

    def bucket_row(self, bucket: str) -> BucketRow:
        """What is known of a bucket; raises Refused."""
        path = self.bucket_path(bucket)
        row = self.metadata.find_bucket(bucket)
        return row if row is not None else BucketRow(os.stat(path).st_ctime_ns, "Standard", "private")

    def create_bucket(self, bucket: str, storage_class: str, acl: str) -> None:
        """Make a bucket; one that is there already keeps its class and objects, as with the real service."""
        check_bucket_name(bucket)
        path = self._root + b"/" + bucket.encode()
        created_ns = self.now_ns()
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
            self.metadata.save_bucket(bucket, BucketRow(created_ns, storage_class, acl))
            return
        row = self.bucket_row(bucket)
        self.metadata.save_bucket(bucket, BucketRow(row.created_ns, row.storage_class, acl))

    def delete_bucket(self, bucket: str) -> None:
        """Remove an empty bucket; raises Refused."""
        path = self.bucket_path(bucket)
        if self.metadata.find_uploads(bucket):
            raise Refused(409, "BucketNotEmpty", "The bucket has multipart uploads under way.")
        with self._exclusive():
            _remove_empty_tree(path)
            try:
                os.rmdir(path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                raise Refused(
                    409,
                    "BucketNotEmpty",
                    "The bucket you tried to delete is not empty.",
                    details=(("BucketName", bucket),),
                ) from None
            self.metadata.drop_bucket(bucket)

    # Reading

    def place(self, bucket: str, key: bytes) -> Place:
        """Where a key lives; raises Refused when it is no valid key or the bucket no valid name."""
        check_key(key)
        directory, slash, name = key.rpartition(b"/")
        base = self._root + b"/" + bucket.encode("utf-8", "surrogateescape") + b"/"
        if slash:
            base += b"/".join([disk_name(part) for part in directory.split(b"/")]) + b"/"
        return Place(bucket, key, directory + slash, name, base + disk_name(name), base + aside_name(name))

    def open(self, bucket: str, key: bytes) -> tuple[int, ObjectInfo]:
        """A descriptor of the body and what is known of it; the caller closes it.  Raises Refused."""
        place = self._places.get((bucket, key))
        if place is None:
            check_bucket_name(bucket)
            place = self.place(bucket, key)
            if len(self._places) >= INFO_CACHE_ENTRIES_MAX:
                self._places.clear()
            self._places[bucket, key] = place
        fd, status = self._open_file(place)
        try:
            return fd, self._info(place, status)
        except BaseException:
            os.close(fd)
            raise

    def info(self, bucket: str, key: bytes) -> ObjectInfo:
        """What is known of an object; its CRC may be None.  Raises Refused."""
        fd, info = self.open(bucket, key)
        os.close(fd)
        return info

    def _open_file(self, place: Place) -> tuple[int, os.stat_result]:
        for path in (place.path, place.aside):
            try:
                fd = os.open(path, _OPEN_FLAGS)
            except OSError as error:
                if error.errno in _NOT_THERE:
                    continue
                raise
            status = os.fstat(fd)
            if stat_bits.S_ISREG(status.st_mode) and self._inside(place):
                return fd, status
            os.close(fd)
        self.bucket_path(place.bucket)
        raise no_such_key(place.key)

    def _inside(self, place: Place) -> bool:
        """Whether no directory on the way is a symbolic link; asked once a directory, for realpath takes 30 µs."""
        directory = os.path.dirname(place.path)
        if directory in self._inside_directories:
            return True
        if os.path.realpath(directory) != directory:
            return False
        if len(self._inside_directories) >= INFO_CACHE_ENTRIES_MAX:
            self._inside_directories.clear()
        self._inside_directories.add(directory)
        return True

    def _info(self, place: Place, status: os.stat_result) -> ObjectInfo:
        cached = self._cache.get((place.bucket, place.key))
        if (
            cached is not None
            and cached.mtime_ns == status.st_mtime_ns
            and cached.size == status.st_size
            and cached.inode == status.st_ino
        ):
            return cached
        row = self.metadata.find(place.bucket, place.directory, place.name, status.st_ino, status.st_mtime_ns)
        info = info_of(row, place.key, status.st_ino, status.st_size, status.st_mtime_ns)
        if len(self._cache) >= INFO_CACHE_ENTRIES_MAX:
            self._cache.pop(next(iter(self._cache)), None)
        self._cache[place.bucket, place.key] = info
        return info

    def fill_crc(self, bucket: str, key: bytes, fd: int, info: ObjectInfo) -> None:
        """Compute the CRC of a file dropped in by hand; takes as long as reading it."""
        crc, offset = 0, 0
        while offset < info.size:
            data = os.pread(fd, READ_BYTES, offset)
            if not data:
                break
            crc = crc64(data, crc)
            offset += len(data)
        info.crc64 = crc
        if info.size > READ_BYTES:
            place = self.place(bucket, key)
            self.metadata.save(bucket, place.directory, place.name, row_of(info))

    # Writing

    def begin(self) -> Writing:
        """Start a body."""
        return Writing(self._tmp + b"/" + self._unique())

    def _unique(self) -> bytes:
        with self._thread_lock:
            self._counter += 1
            return b"%d-%d-%s" % (os.getpid(), self._counter, os.urandom(4).hex().encode())

    def commit(
        self,
        bucket: str,
        key: bytes,
        writing: Writing,
        *,
        etag: str,
        crc: int | None,
        kind: str = "Normal",
        storage_class: str = "Standard",
        headers: dict[str, str] | None = None,
        target: bytes | None = None,
        overwrite: bool = True,
    ) -> ObjectInfo:
        """Make a finished body the object; raises Refused."""
        self.bucket_path(bucket)
        place = self.place(bucket, key)
        mtime_ns = self.now_ns()
        os.utime(writing.fd, ns=(mtime_ns, mtime_ns))
        status = os.fstat(writing.fd)
        info = ObjectInfo(
            status.st_size, status.st_mtime_ns, status.st_ino, etag, crc, kind, storage_class, headers or {}, target
        )
        for component in place.key.split(b"/"):
            for name in (disk_name(component), aside_name(component)):
                if is_hashed(name):
                    self.metadata.save_component(component_hash(component), component)
        with self._exclusive():
            if not overwrite and self._exists(place):
                raise Refused(
                    409,
                    "FileAlreadyExists",
                    "The object you specified already exists and can not be overwritten.",
                    details=(("ObjectName", key.decode("utf-8", "replace")),),
                )
            self._make_directories(place)
            self.metadata.save(bucket, place.directory, place.name, row_of(info))
            self._rename_into(writing.path, place)
            self.metadata.drop(bucket, place.directory, place.name, (info.inode, info.mtime_ns))
        os.close(writing.fd)
        writing.fd = -1
        return info

    def _exists(self, place: Place) -> bool:
        try:
            os.close(self._open_file(place)[0])
        except Refused:
            return False
        return True

    def _make_directories(self, place: Place) -> None:
        base = self._root + b"/" + place.bucket.encode()
        if not place.directory:
            return
        for component in place.directory[:-1].split(b"/"):
            parent, base = base, base + b"/" + disk_name(component)
            try:
                os.mkdir(base)
            except FileExistsError:
                if not stat_bits.S_ISDIR(os.lstat(base).st_mode):
                    self._move_aside(base, parent + b"/" + aside_name(component))
                    os.mkdir(base)

    @staticmethod
    def _move_aside(path: bytes, aside: bytes) -> None:
        """Free a plain name for a directory; a reader that misses the one name finds the other."""
        if not stat_bits.S_ISREG(os.lstat(path).st_mode):
            raise Refused(409, "ObjectNameConflict", "A file that is no object is in the way on the server's disk.")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        os.link(path, aside, follow_symlinks=False)
        os.unlink(path)

    @staticmethod
    def _rename_into(source: bytes, place: Place) -> None:
        try:
            os.rename(source, place.path)
        except IsADirectoryError:
            os.rename(source, place.aside)
            return
        with contextlib.suppress(OSError):
            os.unlink(place.aside)

    def delete(self, bucket: str, key: bytes) -> None:
        """Delete an object; none is there: nothing happens.  Raises Refused when the bucket is not there."""
        base = self.bucket_path(bucket)
        place = self.place(bucket, key)
        with self._exclusive():
            for path in (place.path, place.aside):
                with contextlib.suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
                    if self._inside(place):
                        os.unlink(path)
            self.metadata.drop(bucket, place.directory, place.name)
            self._prune(os.path.dirname(place.path), base)
        self._cache.pop((bucket, key), None)

    @staticmethod
    def _prune(directory: bytes, base: bytes) -> None:
        while len(directory) > len(base):
            try:
                os.rmdir(directory)
            except OSError:
                return
            directory = os.path.dirname(directory)

    def update(self, bucket: str, key: bytes, info: ObjectInfo) -> None:
        """Write changed facts (restored) of an object's current state."""
        place = self.place(bucket, key)
        self.metadata.save(bucket, place.directory, place.name, row_of(info))


def info_of(row: ObjectRow | None, key: bytes, inode: int, size: int, mtime_ns: int) -> ObjectInfo:
    """A file's info from its row, or made up for a file dropped in by hand."""
    if row is None or row.size != size:
        digest = blake2b(b"%d %d %d " % (inode, size, mtime_ns) + key, digest_size=16).hexdigest().upper()
        return ObjectInfo(size, mtime_ns, inode, f"{digest}-1", None)
    return ObjectInfo(
        size, mtime_ns, inode, row.etag, row.crc64, row.kind, row.storage_class, row.headers, row.target,
        row.restored_until,
    )  # fmt: skip


def row_of(info: ObjectInfo) -> ObjectRow:
    """The row that says what ``info`` says."""
    return ObjectRow(
        info.inode, info.mtime_ns, info.size, info.etag, info.crc64, info.kind, info.storage_class, info.headers,
        info.target, info.restored_until,
    )  # fmt: skip


def is_reserved(name: bytes) -> bool:
    """Whether a name on disk is an escape."""
    return name.startswith(ESCAPE)


def _remove_empty_tree(directory: bytes) -> None:
    with os.scandir(directory) as entries:
        children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    for child in children:
        _remove_empty_tree(child)
        with contextlib.suppress(OSError):
            os.rmdir(child)
