"""An exported directory as a UFS: keys are relative paths, and nothing outside the root can be reached.

Every access walks from the root's descriptor one component at a time (``openat`` with O_NOFOLLOW), so neither ``..``
nor a symbolic link, not even one swapped in between two calls, leads out.  Symbolic links whose targets stay inside
are shown as links; others, and sockets, pipes and devices, are skipped.

A listing is in key order: a directory sorts as ``name/``, so flat listings equal those of an object store.  Empty
directories appear as marker objects ``dir/``.  The cursor is the last entry shown, so it stays right while the
directory changes; names of the last large directories are kept sorted (bounded) until their mtime moves.

Tokens are ``size-mtime_ns``: weak, a write that keeps both is not seen.  ``get`` checks the open descriptor against
the token before the first byte and after each read; a file that moved under the reader is VersionChanged.

Safe for threads: the root descriptor is only ever used as a base; one lock guards the kept listings.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import final

from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import (
    AccessDenied,
    BadAnswer,
    BucketNotFound,
    KeyRefused,
    ObjectNotFound,
    ShortBody,
    UfsError,
    Unavailable,
    VersionChanged,
)
from jindopy.base.ident import Kind, UfsId
from jindopy.ufs.base import Capability, ListPage, ObjectStat
from jindopy.ufs.bodies import ToldBody
from jindopy.ufs.uri import UfsUri

COMPONENT_BYTES_MAX = 255
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a pipe that took a file's place must not wait for a writer; it means nothing for regular files.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_TEMPORARY = ".jindopy-put-"
"""Files being written have names that start so; listings skip them."""

_KEPT_DIRECTORIES = 8
_KEPT_NAMES_MIN = 1000
_SETTLED_NS = 1_000_000_000
_KEPT_NAMES_MAX = 2_000_000
"""Names in one kept listing (~100 bytes each): beyond it, pages of one huge directory are sorted anew each time."""


@final
class _LocalBody(ToldBody):
    def __init__(self, driver: LocalDriver, key: bytes, fd: int, seen: os.stat_result, offset: int, size: int) -> None:
        self._fd = fd  # first: __del__ looks at it
        super().__init__(_token(seen), seen.st_size)
        self._driver = driver
        self._key = key
        self._at = offset
        self._end = offset + size

    def readinto(self, target: memoryview) -> int:
        wanted = min(len(target), self._end - self._at)
        done = 0
        while done < wanted:
            try:
                count = os.preadv(self._fd, [target[done:wanted]], self._at + done)
            except OSError as error:
                raise self._driver.translated(error, self._key) from error
            if count == 0:
                break
            done += count
        self._at += done
        if _token(os.fstat(self._fd)) != self._token:
            raise VersionChanged("the file changed while it was read", endpoint=self._driver.endpoint, key=self._key)
        if done < wanted:
            raise ShortBody(f"ends {wanted - done} bytes early", endpoint=self._driver.endpoint, key=self._key)
        return done

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


@final
class LocalDriver:
    """Driver over a directory of this machine."""

    def __init__(self, root: str | Path, clock: Clock = REAL_CLOCK) -> None:
        self._clock = clock
        self._path = os.path.realpath(root)
        try:
            self._root = os.open(self._path, _DIRECTORY)
        except NotADirectoryError as error:
            raise BucketNotFound(f"local://{root} is not a directory") from error
        except FileNotFoundError as error:
            raise BucketNotFound(f"local://{root}: no such directory; create it or check the path") from error
        except PermissionError as error:
            raise AccessDenied(f"local://{root}: permission denied; this user needs r-x on it") from error
        self._device = os.fstat(self._root).st_dev
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, tuple[int, list[bytes]]] = OrderedDict()

    @property
    def scheme(self) -> str:
        return "local"

    @property
    def ufs_id(self) -> UfsId:
        return UfsId(f"local://{self._device:x}{self._path}")

    @property
    def endpoint(self) -> str:
        return f"local://{self._path}"

    @property
    def capabilities(self) -> Capability:
        return Capability.FLAT_LIST | Capability.SYMLINK | Capability.WRITE

    def stat(self, key: bytes, *, deadline: Deadline) -> ObjectStat:
        deadline.check("local stat")
        with self._parent(key) as (parent, name):
            try:
                seen = os.stat(name, dir_fd=parent, follow_symlinks=False)
            except OSError as error:
                raise self.translated(error, key) from error
            found = self._described(parent, key, name, seen)
        if found is None or (found.kind is Kind.DIRECTORY) != key.endswith(b"/"):
            raise ObjectNotFound("no such file", endpoint=self.endpoint, key=key)
        return found

    def list_page(
        self, prefix: bytes, *, delimiter: bool, cursor: str = "", limit: int = 1000, deadline: Deadline
    ) -> ListPage:
        try:
            after = bytes.fromhex(cursor)
        except ValueError:
            raise BadAnswer(f"not a cursor of this driver: {cursor!r}", endpoint=self.endpoint) from None
        directory, _, _ = prefix.rpartition(b"/")
        base = directory + b"/" if directory else b""
        objects: list[ObjectStat] = []
        prefixes: list[bytes] = []
        last = after
        for entry in self._walk(base, prefix, after, delimiter, deadline):
            if len(objects) + len(prefixes) >= max(1, limit):
                return ListPage(objects, prefixes, last.hex())
            if isinstance(entry, bytes):
                prefixes.append(entry)
                last = entry
            else:
                objects.append(entry)
                last = entry.key
        return ListPage(objects, prefixes, "")

    def get(self, key: bytes, offset: int, size_bytes: int, *, token: bytes | None, deadline: Deadline) -> _LocalBody:
        deadline.check("local get")
        with self._parent(key) as (parent, name):
            try:
                fd = os.open(name, _FILE, dir_fd=parent)
            except OSError as error:
                raise self.translated(error, key) from error
        try:
            seen = os.fstat(fd)
            if not stat.S_ISREG(seen.st_mode):
                raise ObjectNotFound("not a regular file", endpoint=self.endpoint, key=key)
            if token is not None and token != _token(seen):
                raise VersionChanged("the file was overwritten", endpoint=self.endpoint, key=key)
            if offset < 0 or size_bytes < 0 or offset + size_bytes > seen.st_size:
                raise BadAnswer(
                    f"range {offset}+{size_bytes} is beyond the file's {seen.st_size} bytes",
                    endpoint=self.endpoint,
                    key=key,
                )
        except BaseException:
            os.close(fd)
            raise
        return _LocalBody(self, key, fd, seen, offset, size_bytes)

    def read_link(self, key: bytes, *, deadline: Deadline) -> bytes:
        deadline.check("local read_link")
        with self._parent(key) as (parent, name):
            try:
                target = _link_key(key, os.readlink(name, dir_fd=parent))
            except OSError as error:
                if error.errno == errno.EINVAL:
                    raise ObjectNotFound("not a symbolic link", endpoint=self.endpoint, key=key) from error
                raise self.translated(error, key) from error
        if target is None:
            raise ObjectNotFound("the link leads out of the exported directory", endpoint=self.endpoint, key=key)
        return target

    def put(self, key: bytes, data: bytes | Iterator[bytes], *, deadline: Deadline) -> ObjectStat:
        """Whole or not at all: written beside its place under a name that listings skip, then renamed."""
        deadline.check("local put")
        if key.endswith(b"/"):
            with self._parent(key + b".", make=True):
                return self.stat(key, deadline=deadline)
        with self._parent(key, make=True) as (parent, name):
            temporary = os.fsencode(f"{_TEMPORARY}{os.getpid()}-{threading.get_ident()}")
            try:
                fd = os.open(temporary, _NEW_FILE, mode=0o644, dir_fd=parent)
                try:
                    with os.fdopen(fd, "wb") as file:
                        for chunk in [data] if isinstance(data, bytes) else data:
                            deadline.check("local put")
                            file.write(chunk)
                    os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
                except BaseException:
                    os.unlink(temporary, dir_fd=parent)
                    raise
            except OSError as error:
                raise self.translated(error, key) from error
        return self.stat(key, deadline=deadline)

    def delete(self, keys: list[bytes], *, deadline: Deadline) -> None:
        for key in keys:
            deadline.check("local delete")
            try:
                with self._parent(key) as (parent, name):
                    if key.endswith(b"/"):
                        os.rmdir(name, dir_fd=parent)
                    else:
                        os.unlink(name, dir_fd=parent)
            except (ObjectNotFound, FileNotFoundError):
                continue
            except OSError as error:
                raise self.translated(error, key) from error

    def check(self, *, deadline: Deadline) -> None:
        deadline.check("local check")
        try:
            with os.scandir(self._root) as entries:
                next(entries, None)
        except OSError as error:
            raise self.translated(error, b"") from error

    def close(self) -> None:
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def translated(self, error: OSError, key: bytes) -> UfsError:
        """The error of this tree for what the operating system said."""
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO}:
            return ObjectNotFound("no such file", endpoint=self.endpoint, key=key)
        if error.errno in {errno.EACCES, errno.EPERM}:
            return AccessDenied("permission denied for this user", endpoint=self.endpoint, key=key)
        if error.errno in {errno.ENAMETOOLONG, errno.EINVAL}:
            return KeyRefused("no file can have this name", endpoint=self.endpoint, key=key)
        return Unavailable(os.strerror(error.errno or errno.EIO), endpoint=self.endpoint, key=key)

    @contextlib.contextmanager
    def _parent(self, key: bytes, make: bool = False) -> Generator[tuple[int, bytes]]:
        """Descriptor of the directory that holds ``key``, and the last component."""
        parts = key.removesuffix(b"/").split(b"/")
        for part in parts:
            if part in {b"", b".", b".."} or b"\x00" in part or len(part) > COMPONENT_BYTES_MAX:
                raise KeyRefused("no path of a directory can hold this key", endpoint=self.endpoint, key=key)
        fd = self._root
        try:
            for part in parts[:-1]:
                try:
                    below = self._enter(fd, part, make)
                except OSError as error:
                    raise self.translated(error, key) from error
                if fd != self._root:
                    os.close(fd)
                fd = below
            yield fd, parts[-1]
        finally:
            if fd != self._root:
                os.close(fd)

    @staticmethod
    def _enter(parent: int, name: bytes, make: bool) -> int:
        try:
            return os.open(name, _DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            if not make:
                raise
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
        return os.open(name, _DIRECTORY, dir_fd=parent)

    def _described(self, parent: int, key: bytes, name: bytes, seen: os.stat_result) -> ObjectStat | None:
        """What to show of a directory entry; None for what is skipped."""
        if stat.S_ISREG(seen.st_mode):
            return ObjectStat(key, seen.st_size, seen.st_mtime_ns, _token(seen))
        if stat.S_ISDIR(seen.st_mode):
            return ObjectStat(key, 0, seen.st_mtime_ns, b"", Kind.DIRECTORY)
        if stat.S_ISLNK(seen.st_mode):
            with contextlib.suppress(OSError):
                if _link_key(key, os.readlink(name, dir_fd=parent)) is not None:
                    return ObjectStat(key, seen.st_size, seen.st_mtime_ns, _token(seen), Kind.SYMLINK)
        return None

    def _walk(
        self, base: bytes, prefix: bytes, after: bytes, delimiter: bool, deadline: Deadline
    ) -> Iterator[ObjectStat | bytes]:
        """Entries of the directory ``base`` that start with ``prefix`` and lie above ``after``, in key order."""
        deadline.check("local list")
        try:
            fd = self._open_directory(base)
        except ObjectNotFound:
            return
        try:
            names = self._sorted_names(base, fd)
            if not names and base and base.startswith(prefix) and base > after:
                yield ObjectStat(base, 0, os.fstat(fd).st_mtime_ns, b"", Kind.DIRECTORY)
            for name in names[_first_index(names, base, prefix, after) :]:
                key = base + name
                if not key.startswith(prefix):
                    return
                if not name.endswith(b"/"):
                    with contextlib.suppress(FileNotFoundError):  # it vanished since the names were read
                        seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
                        found = self._described(fd, key, name, seen)
                        if found is not None and found.kind is not Kind.DIRECTORY:
                            yield found
                elif not delimiter:
                    yield from self._walk(key, prefix, after, delimiter, deadline)
                elif key > after:
                    yield key
        except OSError as error:
            raise self.translated(error, base) from error
        finally:
            os.close(fd)

    def _open_directory(self, base: bytes) -> int:
        if not base:
            return os.open(b".", _DIRECTORY, dir_fd=self._root)
        with self._parent(base) as (parent, name):
            try:
                return os.open(name, _DIRECTORY, dir_fd=parent)
            except OSError as error:
                raise self.translated(error, base) from error

    def _sorted_names(self, base: bytes, fd: int) -> list[bytes]:
        """Names in key order, directories with their slash; skipped ones may still be among them."""
        mtime_ns = os.fstat(fd).st_mtime_ns
        with self._lock:
            kept = self._kept.get(base)
            if kept is not None and kept[0] == mtime_ns:
                self._kept.move_to_end(base)
                return kept[1]
        with os.scandir(fd) as entries:
            names = sorted(
                os.fsencode(entry.name) + (b"/" if entry.is_dir(follow_symlinks=False) else b"")
                for entry in entries
                if not entry.name.startswith(_TEMPORARY)
            )
        # A change within the same tick of the kernel's clock would not move the mtime: young listings are not kept.
        settled = self._clock.wall_ns() - mtime_ns > _SETTLED_NS
        with self._lock:
            if settled and _KEPT_NAMES_MIN <= len(names) <= _KEPT_NAMES_MAX:
                self._kept[base] = (mtime_ns, names)
                if len(self._kept) > _KEPT_DIRECTORIES:
                    self._kept.popitem(last=False)
        return names


def _first_index(names: list[bytes], base: bytes, prefix: bytes, after: bytes) -> int:
    """Index of the first name that may lead to a key above ``after`` and at or above ``prefix``."""
    low = bisect.bisect_left(names, prefix[len(base) :]) if len(prefix) > len(base) else 0
    if after <= base or not after.startswith(base):
        return low if after <= base else len(names)
    rest = after[len(base) :]
    head, slash, _ = rest.partition(b"/")
    if slash:  # the cursor lies below (or is) this directory: it may have more
        return max(low, bisect.bisect_left(names, head + b"/"))
    return max(low, bisect.bisect_right(names, rest))


def _token(seen: os.stat_result) -> bytes:
    return b"%d-%d" % (seen.st_size, seen.st_mtime_ns)


def _link_key(key: bytes, target: bytes) -> bytes | None:
    """Key a link leads to; None when that is outside the root, or absolute."""
    if target.startswith(b"/"):
        return None
    parts = key.split(b"/")[:-1]
    for part in target.split(b"/"):
        if part == b"..":
            if not parts:
                return None
            parts.pop()
        elif part not in {b"", b"."}:
            parts.append(part)
    return b"/".join(parts)


def open_uri(uri: UfsUri, _options: Mapping[str, str], _credentials: object) -> LocalDriver:
    """Driver for ``local:///path``."""
    return LocalDriver(uri.path)
