"""What a UFS driver is: a handful of calls on keys, told apart by capability flags.  P: no I/O happens here.

A driver only speaks its protocol.  Retry, limits, metrics and injected faults wrap any driver (``ufs.layers``).  Calls
are safe for threads, take a Deadline, and raise only the UfsError family (``base.errors``).  Bodies stream: ``get``
returns as soon as the headers are there, and the caller reads straight into its block buffers.

One version or an error: ``get`` with a token returns bytes of exactly that version.  Drivers with CONDITIONAL_GET send
``If-Match``; others compare what each answer says of etag, time and length with the token and raise VersionChanged.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, runtime_checkable

from jindopy.base.clock import Deadline
from jindopy.base.ident import Kind, UfsId

if TYPE_CHECKING:
    from jindopy._ext.httpblocks import BlockGet


class Capability(enum.Flag):
    """What a driver can do beyond the plain calls."""

    NONE = 0
    CONDITIONAL_GET = enum.auto()
    """The server itself refuses a GET of another version."""
    STRONG_TOKEN = enum.auto()
    """Tokens change with every change of content (etags), not only with size or time."""
    FLAT_LIST = enum.auto()
    """Lists a whole tree by key order without a delimiter."""
    CRC64 = enum.auto()
    """Stat and get tell the object's CRC-64."""
    SYMLINK = enum.auto()
    """Has symbolic links whose targets are keys."""
    WRITE = enum.auto()
    """put and delete work."""
    MULTIPART = enum.auto()
    """``put`` of a stream of unknown length is sent in parts."""


class ObjectStat(NamedTuple):
    """One object as a listing or a stat shows it."""

    key: bytes
    size: int
    """Bytes."""
    mtime_ns: int
    """Last-Modified, nanoseconds since 1970 UTC."""
    token: bytes
    """The etag as sent without its quotes, else ``b"<size>-<mtime_ns>"``."""
    kind: Kind = Kind.FILE
    crc64: int | None = None
    storage_class: str = ""


class ListPage(NamedTuple):
    """One page of a listing, in ascending byte order of keys."""

    objects: list[ObjectStat]
    prefixes: list[bytes]
    """Common prefixes, each with its delimiter at the end; empty without a delimiter."""
    cursor: str
    """Give it to the next call; empty on the last page."""


class Body(Protocol):
    """The answer to a ``get``: headers already known, bytes still coming."""

    @property
    def token(self) -> bytes:
        """Token of the version these bytes belong to."""
        ...

    @property
    def object_bytes(self) -> int:
        """Size of the whole object."""
        ...

    @property
    def object_crc64(self) -> int | None:
        """CRC of the whole object where the answer tells it."""
        ...

    def readinto(self, target: memoryview) -> int:
        """Fill ``target`` from the stream, fewer bytes only at the end of the range; returns the count.

        Raises ShortBody when the connection ends before the announced length, Unavailable, DeadlineExceeded.
        """
        ...

    def close(self) -> None:
        """Give the connection back; when bytes are left it is dropped."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class Refreshable(Protocol):
    """A driver that can look for other credentials after its last ones were refused."""

    def refresh_credentials(self) -> None:
        """Read them again from where they came from; the next request uses what was found."""
        ...


class BlockGets(Protocol):
    """GETs whose blocks are checked and stored by native threads; one try each, nothing is repeated."""

    def start_get(self, key: bytes, get: BlockGet, *, token: bytes, deadline: Deadline) -> None:
        """Sign and send the GET for ``get``'s range of the version ``token``; returns at once.

        How it went is told by ``get``'s queue.  Raises what asking for credentials or signing raises, KeyRefused.
        """
        ...

    def ended(self, byte_count: int, outcome: str) -> None:
        """Told by whoever started a GET: so many bytes came; ``ok``, or what ended it."""
        ...


class Rate(Protocol):
    """A token bucket that tells how long to wait instead of waiting."""

    def reserve(self, amount: int, /) -> float:
        """Take ``amount`` and return the seconds until it is there."""
        ...


@runtime_checkable
class LimitsDownloads(Protocol):
    """A driver that can keep to a rate by itself, for bodies that no layer sees."""

    def limit_downloads(self, rate: Rate) -> bool:
        """Before the first request; False: this driver cannot keep to this rate, somebody else must."""
        ...


@runtime_checkable
class HasBlockGets(Protocol):
    """A driver, or a layer around one, that may have such GETs."""

    def block_gets(self) -> BlockGets | None:
        """None: not this driver, not this build, or not with this layer."""
        ...


class Driver(Protocol):
    """One UFS: a bucket, an exported directory.  Keys are complete (never relative to a mount's prefix)."""

    @property
    def scheme(self) -> str:
        """``oss``, ``local``, ``memory`` ..."""
        ...

    @property
    def ufs_id(self) -> UfsId:
        """Names the storage, not the way to it: ``oss://bucket`` whatever the endpoint; local: device and path."""
        ...

    @property
    def endpoint(self) -> str:
        """Where requests go; shown in messages."""
        ...

    @property
    def capabilities(self) -> Capability: ...

    def stat(self, key: bytes, *, deadline: Deadline) -> ObjectStat:
        """One object; raises ObjectNotFound.  A directory without a marker object does not exist for object stores."""
        ...

    def list_page(
        self, prefix: bytes, *, delimiter: bool, cursor: str = "", limit: int = 1000, deadline: Deadline
    ) -> ListPage:
        """One page of keys that start with ``prefix``; with ``delimiter`` only up to the next ``/``."""
        ...

    def get(self, key: bytes, offset: int, size_bytes: int, *, token: bytes | None, deadline: Deadline) -> Body:
        """Bytes [offset, offset + size_bytes) of the version ``token`` (None: whatever is current).

        Raises ObjectNotFound, VersionChanged, NotRestored; a range beyond the object's end is BadAnswer.
        """
        ...

    def read_link(self, key: bytes, *, deadline: Deadline) -> bytes:
        """Target key of a symbolic link; only with SYMLINK."""
        ...

    def put(self, key: bytes, data: bytes | Iterator[bytes], *, deadline: Deadline) -> ObjectStat:
        """Write a whole object; only with WRITE."""
        ...

    def delete(self, keys: list[bytes], *, deadline: Deadline) -> None:
        """Delete objects; a missing one is no error; only with WRITE."""
        ...

    def check(self, *, deadline: Deadline) -> None:
        """Cheapest request that proves endpoint, bucket and credentials; raises what is wrong with them."""
        ...

    def close(self) -> None:
        """Drop connections."""
        ...
