"""What is measured: storage through its driver, or a directory through the kernel.  One Protocol, so one set of tests.

A target never writes; files that vanish meanwhile are passed over.  Storage is asked with the drivers, layers and
credentials of a mount, by as many connections; a directory with plain system calls, staying on its own file system and
following no links.  Threads: ``read`` and ``stat`` may be called by many, the rest between tests.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, Protocol, final

from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import AccessDenied, JindoError, ObjectNotFound, Unavailable, UsageError
from jindopy.base.ident import Kind
from jindopy.measure.loop import GoOn
from jindopy.measure.sample import Entry, Piece
from jindopy.ufs.base import Capability, Driver

REQUEST_SECONDS: Final = 30.0
"""One request, tries included."""
PAGE_ENTRIES: Final = 1000
"""What OSS sends at most."""
_ARCHIVED: Final = "Archive"
"""Storage classes whose objects must be restored before they can be read all end so."""
_FULL: Final = 0.95


class Target(Protocol):
    """Something with files to read."""

    def pages(self) -> Iterator[list[Entry]]:
        """All files, as many at a time as one request brings."""
        ...

    def find(self, name: str) -> Entry:
        """One file by what the user calls it; raises what is wrong with it."""
        ...

    def stat(self, entry: Entry) -> bool:
        """Ask for attributes; False when it is gone by now."""
        ...

    def read(self, piece: Piece, buffer: memoryview, go_on: GoOn) -> bool:
        """Read the piece through the buffer; False when it was not read to its end, or is gone by now."""
        ...

    def let_go(self) -> None:
        """Close what the last test kept open."""
        ...

    def forget(self, entries: Iterable[Entry]) -> None:
        """Have the kernel drop what it keeps of them, where a kernel does."""
        ...


@final
class StorageTarget:
    """Below a prefix of a bucket."""

    def __init__(self, driver: Driver, prefix: bytes, clock: Clock = REAL_CLOCK) -> None:
        self._driver = driver
        self._prefix = prefix
        self._clock = clock

    def pages(self) -> Iterator[list[Entry]]:
        """By key order without a delimiter; prefix by prefix where a driver has no such listing."""
        flat = Capability.FLAT_LIST in self._driver.capabilities
        left = deque([self._prefix])
        while left:
            prefix, cursor = left.popleft(), ""
            while True:
                page = self._driver.list_page(
                    prefix, delimiter=not flat, cursor=cursor, limit=PAGE_ENTRIES, deadline=self._deadline()
                )
                yield [
                    Entry(found.key, found.size)
                    for found in page.objects
                    if found.kind is Kind.FILE and not found.storage_class.endswith(_ARCHIVED)
                ]
                left.extend(page.prefixes)
                cursor = page.cursor
                if not cursor:
                    break

    def find(self, name: str) -> Entry:
        key = self._prefix + name.lstrip("/").encode("utf-8", "surrogateescape")
        found = self._driver.stat(key, deadline=self._deadline())
        return Entry(found.key, found.size)

    def stat(self, entry: Entry) -> bool:
        try:
            self._driver.stat(entry.name, deadline=self._deadline())
        except ObjectNotFound:
            return False
        return True

    def read(self, piece: Piece, buffer: memoryview, go_on: GoOn) -> bool:
        try:
            body = self._driver.get(piece.entry.name, piece.offset, piece.size, token=None, deadline=self._deadline())
        except ObjectNotFound:
            return False
        got, wanted = 0, True
        with body:
            while got < piece.size and wanted:
                count = body.readinto(buffer[: piece.size - got])
                if not count:
                    break
                got += count
                wanted = go_on(count)
        return got == piece.size

    def let_go(self) -> None:
        """Connections stay open, as a mount keeps them."""

    def forget(self, entries: Iterable[Entry]) -> None:
        """Nobody between us and the storage keeps anything."""

    def _deadline(self) -> Deadline:
        return Deadline.after(REQUEST_SECONDS, self._clock)


@final
class DirectoryTarget:
    """Below a directory.  ``of_cache``: leave out sparse files, whose holes cost a disk nothing, and have what was just
    cached written to the disk, or it could not be read from there."""

    def __init__(self, path: str, *, of_cache: bool = False) -> None:
        self._path = os.fsencode(path)
        self._of_cache = of_cache
        self._open: dict[tuple[int, bytes], int] = {}
        """By thread and path; each thread touches only its own."""

    def pages(self) -> Iterator[list[Entry]]:
        """A directory at a time, the upper ones first; what vanishes or may not be read meanwhile is left out."""
        with _told(self._path):
            seen = os.stat(self._path)  # noqa: PTH116 - bytes, as names are
            if stat.S_ISREG(seen.st_mode):
                yield [Entry(self._path, seen.st_size)]
                return
            os.scandir(self._path).close()  # says what is wrong, where the walk below passes over it
        left = deque([self._path])
        while left:
            page: list[Entry] = []
            with contextlib.suppress(FileNotFoundError, PermissionError), os.scandir(left.popleft()) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        if entry.is_dir(follow_symlinks=False):
                            # Asking for the device costs a stat, as showing a directory's time would.
                            if entry.stat(follow_symlinks=False).st_dev == seen.st_dev:
                                left.append(entry.path)
                        elif entry.is_file(follow_symlinks=False):
                            page += self._entry(entry.path, entry.stat(follow_symlinks=False))
            yield page

    def _entry(self, path: bytes, seen: os.stat_result) -> list[Entry]:
        if self._of_cache and seen.st_blocks * 512 < seen.st_size * _FULL:
            return []
        return [Entry(path, seen.st_size)]

    def find(self, name: str) -> Entry:
        path = self._path.rstrip(b"/") + b"/" + os.fsencode(name.lstrip("/"))
        with _told(path):
            seen = os.stat(path)  # noqa: PTH116
        if not stat.S_ISREG(seen.st_mode):
            raise UsageError(f"{os.fsdecode(path)!r} is no file; name one to read")
        return Entry(path, seen.st_size)

    def stat(self, entry: Entry) -> bool:
        try:
            os.stat(entry.name, follow_symlinks=False)  # noqa: PTH116
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _translated(entry.name, error) from error
        return True

    def read(self, piece: Piece, buffer: memoryview, go_on: GoOn) -> bool:
        """A whole file is opened for its one read, as small files are; of others each reader keeps its own open."""
        is_whole = piece.size == piece.entry.size
        try:
            descriptor = _open(piece.entry.name) if is_whole else self._keep_open(piece.entry.name)
            try:
                return _read(descriptor, piece, buffer, go_on)
            finally:
                if is_whole:
                    os.close(descriptor)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _translated(piece.entry.name, error) from error

    def _keep_open(self, path: bytes) -> int:
        key = (threading.get_ident(), path)
        descriptor = self._open.get(key)
        if descriptor is None:
            descriptor = self._open[key] = _open(path)
        return descriptor

    def let_go(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def forget(self, entries: Iterable[Entry]) -> None:
        """Pages that are written to or mapped by somebody stay; the rows tell when that mattered."""
        for entry in entries:
            with contextlib.suppress(OSError):
                descriptor = _open(entry.name)
                try:
                    if self._of_cache:
                        os.fdatasync(descriptor)
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(descriptor)


def _open(path: bytes) -> int:
    # O_NONBLOCK: opening a pipe that took a file's place must not wait for a writer; it means nothing for files.
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)


def _read(descriptor: int, piece: Piece, buffer: memoryview, go_on: GoOn) -> bool:
    got, wanted = 0, True
    while got < piece.size and wanted:
        count = os.preadv(descriptor, [buffer[: piece.size - got]], piece.offset + got)
        if not count:
            break
        got += count
        wanted = go_on(count)
    return got == piece.size


@contextlib.contextmanager
def _told(path: bytes) -> Iterator[None]:
    """System call errors as ours, one line each."""
    try:
        yield
    except OSError as error:
        raise _translated(path, error) from error


def _translated(path: bytes, error: OSError) -> JindoError:
    shown = path.decode("utf-8", "backslashreplace")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return UsageError(f"{shown}: {error.strerror}; name a directory, a file or an address such as oss://bucket")
    if isinstance(error, PermissionError):
        return AccessDenied(f"{shown}: permission denied; bench as a user who may read it")
    return Unavailable(f"{shown}: {error.strerror}; a mount's log says why (jindopy status names it)")
