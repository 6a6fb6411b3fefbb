"""ListObjects: pages cut from sorted directories, rows from templates.

A *directory* is the sorted list of one directory's children, those that are directories with ``/`` behind the name.
Sorted so, a walk that descends where it meets a directory visits keys in byte order, and no key list of the whole
bucket is ever built.  A page is made of *segments*: runs of neighbouring files of one directory, and common prefixes.
Rows of XML are rendered once per block of 1,000 and kept with the directory, so that a page is a join of ready bytes.

Directories of disk buckets are cached and checked by the directory's mtime at every use; one whose mtime is so close
to the scan that a change could hide behind it is scanned again.  Files overwritten in place by hand do not move it:
a scan is trusted for 2 s at most.  Everything runs on the event loop, in one thread.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple, Protocol
from urllib.parse import quote
from xml.sax.saxutils import escape

from jindopy.emulator.errors import Refused
from jindopy.emulator.metadata import ObjectRow
from jindopy.emulator.names import check_key, component_of, disk_name
from jindopy.emulator.objects import ObjectInfo, Store, info_of

PAGE_KEYS_MAX: Final = 1000
BLOCK_ROWS: Final = 1000
RESCAN_SECONDS: Final = 2.0

MTIME_GRAIN_NS: Final = 20_000_000
"""Kernels before 6.13 stamp files with the time of the last timer tick: 10 ms at 100 Hz, doubled for safety."""

CACHED_ENTRIES_MAX: Final = 1_000_000

OWNER = "<Owner><ID>1000000000000000</ID><DisplayName>1000000000000000</DisplayName></Owner>"


class Variant(NamedTuple):
    """What rows look different for."""

    url_encoded: bool
    with_owner: bool


class Directory:
    """One directory's children in key order."""

    __slots__ = ("_blocks", "_info_at", "directories", "key", "names", "scanned_at", "scanned_ns", "state")

    def __init__(self, key: bytes, names: list[bytes], info_at: Callable[[int], ObjectInfo]) -> None:
        self.key = key
        """The directory's own key: empty, or ending in ``/``."""
        self.names = names
        self.directories = [index for index, name in enumerate(names) if name.endswith(b"/")]
        """Indexes of the names that are directories."""
        self.state: tuple[object, ...] = ()
        self.scanned_at = 0.0
        self.scanned_ns = 0
        self._info_at = info_at
        self._blocks: dict[tuple[Variant, int], list[bytes]] = {}

    def rows(self, variant: Variant, low: int, high: int) -> list[bytes]:
        """XML of the files with index low to high; no directory is among them."""
        found: list[bytes] = []
        while low < high:
            block = low // BLOCK_ROWS
            start = block * BLOCK_ROWS
            rows = self._blocks.get((variant, block))
            if rows is None:
                rows = self._render(variant, start, min(start + BLOCK_ROWS, len(self.names)))
                self._blocks[variant, block] = rows
            found += rows[low - start : high - start]
            low = start + BLOCK_ROWS
        return found

    def size_bytes(self) -> int:
        """Sum over the files."""
        return sum(self._info_at(index).size for index, name in enumerate(self.names) if not name.endswith(b"/"))

    def _render(self, variant: Variant, low: int, high: int) -> list[bytes]:
        encode = key_encoder(variant.url_encoded)
        prefix = encode(self.key)
        owner = OWNER if variant.with_owner else ""
        rows = []
        for index in range(low, high):
            name = self.names[index]
            if name.endswith(b"/"):
                rows.append(b"")
                continue
            info = self._info_at(index)
            rows.append(
                (
                    f"<Contents><Key>{prefix}{encode(name)}</Key><LastModified>{iso_time(info.mtime_ns // 10**9)}"
                    f'</LastModified><ETag>"{info.etag}"</ETag><Type>{info.kind}</Type><Size>{info.size}</Size>'
                    f"<StorageClass>{info.storage_class}</StorageClass>{owner}</Contents>"
                ).encode()
            )
        return rows


class Directories(Protocol):
    """Where directories come from: a disk, a formula."""

    def directory(self, bucket: str, key: bytes) -> Directory | None:
        """The directory of that key (empty, or ending in ``/``); None when there is none."""
        ...

    def has_objects(self, bucket: str, key: bytes) -> bool:
        """Whether any object lies below a directory."""
        ...


class Segment(NamedTuple):
    """A run of files of one directory, or a common prefix."""

    directory: Directory | None
    low: int
    high: int
    prefix: bytes = b""


class Page(NamedTuple):
    """One page."""

    rows: list[bytes]
    prefixes: list[bytes]
    truncated: bool
    last: bytes
    """Last key or common prefix of the page: where the next one goes on."""


def page(
    source: Directories, bucket: str, prefix: bytes, delimiter: bytes, after: bytes, limit: int, variant: Variant
) -> Page:
    """The first ``limit`` keys and common prefixes behind ``after``."""
    if delimiter == b"/":
        segments = _one_level(source, bucket, prefix, after)
    elif delimiter:
        segments = _grouped(source, bucket, prefix, delimiter, after)
    else:
        segments = _flat(source, bucket, prefix, after)
    rows: list[bytes] = []
    prefixes: list[bytes] = []
    last = b""
    room = limit
    for segment in segments:
        if room == 0:
            return Page(rows, prefixes, limit > 0, last)
        directory = segment.directory
        if directory is None:
            prefixes.append(segment.prefix)
            last = segment.prefix
            room -= 1
            continue
        high = min(segment.high, segment.low + room)
        rows += directory.rows(variant, segment.low, high)
        last = directory.key + directory.names[high - 1]
        room -= high - segment.low
        if high < segment.high:
            return Page(rows, prefixes, True, last)
    return Page(rows, prefixes, False, last)


def _bounds(directory: Directory, prefix: bytes, after: bytes) -> tuple[int, int]:
    """Indexes of the children that can hold keys with ``prefix`` behind ``after``."""
    names, key = directory.names, directory.key
    rest = prefix[len(key) :]
    low, high = 0, len(names)
    if rest:
        low = bisect_left(names, rest)
        # No valid UTF-8 holds 0xff, so this is behind every name that begins with the rest.
        high = bisect_left(names, rest + b"\xff", lo=low)
    if after.startswith(key):
        relative = after[len(key) :]
        behind = bisect_right(names, relative)
        # A directory whose name leads to ``after`` may hold more keys behind it.
        if behind and names[behind - 1].endswith(b"/") and relative.startswith(names[behind - 1]):
            behind -= 1
        low = max(low, behind)
    elif after > key:
        low = high
    return low, max(low, high)


def _segments(directory: Directory, low: int, high: int) -> Iterator[Segment]:
    """Runs of files between directories; a directory is a segment with its key as prefix."""
    index = low
    for place in range(bisect_left(directory.directories, low), len(directory.directories)):
        at = directory.directories[place]
        if at >= high:
            break
        if index < at:
            yield Segment(directory, index, at)
        yield Segment(None, at, at + 1, directory.key + directory.names[at])
        index = at + 1
    if index < high:
        yield Segment(directory, index, high)


def _one_level(source: Directories, bucket: str, prefix: bytes, after: bytes) -> Iterator[Segment]:
    directory = source.directory(bucket, prefix[: prefix.rfind(b"/") + 1])
    if directory is None:
        return
    for segment in _segments(directory, *_bounds(directory, prefix, after)):
        if segment.directory is None and (segment.prefix == after or not source.has_objects(bucket, segment.prefix)):
            continue
        yield segment


def _flat(source: Directories, bucket: str, prefix: bytes, after: bytes) -> Iterator[Segment]:
    # An own stack: keys may be 500 directories deep, deeper than generators nest well.
    top = source.directory(bucket, prefix[: prefix.rfind(b"/") + 1])
    if top is None:
        return
    stack = [_segments(top, *_bounds(top, prefix, after))]
    while stack:
        segment = next(stack[-1], None)
        if segment is None:
            stack.pop()
        elif segment.directory is not None:
            yield segment
        else:
            child = source.directory(bucket, segment.prefix)
            if child is not None:
                stack.append(_segments(child, *_bounds(child, segment.prefix, after)))


def _grouped(source: Directories, bucket: str, prefix: bytes, delimiter: bytes, after: bytes) -> Iterator[Segment]:
    """Any delimiter but ``/``: key by key, which is slow and rare."""
    while True:
        for segment in _flat(source, bucket, prefix, after):
            directory = segment.directory
            assert directory is not None
            group = b""
            for index in range(segment.low, segment.high):
                key = directory.key + directory.names[index]
                end = key.find(delimiter, len(prefix))
                if end >= 0:
                    group = key[: end + len(delimiter)]
                    break
                yield Segment(directory, index, index + 1)
            if group:
                break
        else:
            return
        if group != after:
            yield Segment(None, 0, 0, group)
        after = group + b"\xff"


class DiskDirectories:
    """Directories of a store, cached."""

    def __init__(self, store: Store, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._cache: dict[tuple[str, bytes], Directory] = {}
        self._entries = 0
        self._with_file: dict[bytes, int] = {}

    def directory(self, bucket: str, key: bytes) -> Directory | None:
        """The directory, scanned when it is new or may have changed."""
        path = self._path(bucket, key)
        try:
            mtime_ns = os.stat(path, follow_symlinks=False).st_mtime_ns
        except OSError:
            self._forget(bucket, key)
            return None
        known = self._cache.get((bucket, key))
        if (
            known is not None
            and known.scanned_ns > mtime_ns + MTIME_GRAIN_NS
            and known.state[0] == mtime_ns
            and self._monotonic() - known.scanned_at < RESCAN_SECONDS
        ):
            return known
        return self._scan(bucket, key, path, mtime_ns, known)

    def _path(self, bucket: str, key: bytes) -> bytes:
        path = self._store.bucket_path(bucket)
        if key:
            path += b"/" + b"/".join([disk_name(part) for part in key[:-1].split(b"/")])
        return path

    def _forget(self, bucket: str, key: bytes) -> None:
        known = self._cache.pop((bucket, key), None)
        if known is not None:
            self._entries -= len(known.names)

    def _scan(self, bucket: str, key: bytes, path: bytes, mtime_ns: int, known: Directory | None) -> Directory | None:
        scanned_ns, scanned_at = self._store.now_ns(), self._monotonic()
        found: list[tuple[bytes, int, int, int]] = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    name = component_of(entry.name, self._store.metadata.find_component)
                    if name is None:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        found.append((name + b"/", 0, 0, 0))
                    elif entry.is_file(follow_symlinks=False) and _is_key(key + name):
                        status = entry.stat(follow_symlinks=False)
                        found.append((name, status.st_ino, status.st_size, status.st_mtime_ns))
        except OSError:
            self._forget(bucket, key)
            return None
        found.sort()
        if known is None or known.state[1] != found:
            self._forget(bucket, key)
            rows = self._store.metadata.find_directory(bucket, key)
            known = Directory(key, [item[0] for item in found], _infos(key, found, rows))
            while self._cache and self._entries + len(found) > CACHED_ENTRIES_MAX:
                self._forget(*next(iter(self._cache)))
            self._cache[bucket, key] = known
            self._entries += len(found)
        known.state = (mtime_ns, found)
        known.scanned_ns, known.scanned_at = scanned_ns, scanned_at
        return known

    def has_objects(self, bucket: str, key: bytes) -> bool:
        """Whether a directory holds an object, at any depth; stops at the first."""
        return self._holds_file(self._path(bucket, key))

    def _holds_file(self, path: bytes) -> bool:
        try:
            mtime_ns = os.stat(path, follow_symlinks=False).st_mtime_ns
            if self._with_file.get(path) == mtime_ns:
                return True
            deeper = []
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False):
                        if len(self._with_file) >= CACHED_ENTRIES_MAX:
                            self._with_file.clear()
                        self._with_file[path] = mtime_ns
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        deeper.append(entry.path)
        except OSError:
            return False
        return any(self._holds_file(child) for child in deeper)


def _is_key(key: bytes) -> bool:
    try:
        check_key(key)
    except Refused:
        return False
    return True


def _infos(
    key: bytes, found: list[tuple[bytes, int, int, int]], rows: dict[tuple[bytes, int, int], ObjectRow]
) -> Callable[[int], ObjectInfo]:
    def info_at(index: int) -> ObjectInfo:
        name, inode, size, mtime_ns = found[index]
        return info_of(rows.get((name, inode, mtime_ns)), key + name, inode, size, mtime_ns)

    return info_at


def key_encoder(url_encoded: bool) -> Callable[[bytes], str]:
    """How keys are written into XML."""
    if url_encoded:
        return lambda key: quote(key, safe="/")
    return lambda key: escape(key.decode("utf-8", "replace"))


@lru_cache(maxsize=4096)
def iso_time(seconds: int) -> str:
    """Time as the service's XML has it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
