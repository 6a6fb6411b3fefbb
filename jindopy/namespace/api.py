"""What the rest of the program sees of the namespace.  P: types and Protocols, no I/O.

``MasterApi`` is the whole conversation between whoever serves files and whoever keeps the tree.  The embedded master
(``namespace.service``) implements it in process, one over RPC would be another.  Metadata travels a directory at a
time: ``read_dir`` is a stream of pages, so that a caller can answer a lookup once the page holding the name passed.

Freshness is a duration, not a moment: answers carry how long they may still be believed (``ttl_seconds``), so clocks
of two machines never need to agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from jindopy.base.clock import Deadline
from jindopy.base.ident import Inode, Kind, MountId, UfsId


class Node(NamedTuple):
    """One row of the tree."""

    inode: Inode
    parent: Inode
    name: bytes
    """One path component of 1 to 255 bytes; empty for the root."""
    mount: MountId
    """0 for directories that exist only to hold mounts."""
    kind: Kind
    perm: int
    uid: int
    gid: int
    nlink: int
    size: int
    """Bytes; 0 for directories."""
    mtime_ns: int
    version: int
    """Counts the tokens this inode has had, from 1."""
    token: bytes
    """Token of the current version (``ufs.base.ObjectStat.token``); empty for directories."""
    crc64: int | None
    """CRC-64/XZ of the whole object once a HEAD or GET told it."""


class Answer(NamedTuple):
    """Answer to a lookup."""

    node: Node | None
    """None: there is no such name (known from a complete listing or asked just now)."""
    ttl_seconds: float
    """How long this may be believed; ``inf`` when the mount's metadata never expires."""


class DirPage(NamedTuple):
    """A part of a directory stream."""

    nodes: list[Node]
    last: bool
    generation: int
    """Higher with every listing of this directory; one stream shows one generation."""
    ttl_seconds: float
    """How long the nodes may be believed; on the last page also for the absence of other names."""


class MountInfo(NamedTuple):
    """A row of the mount table."""

    id: MountId
    path: bytes
    """Where it shows in the tree, without leading or trailing slash; empty is the root."""
    ufs_id: UfsId
    uri: str
    """As the user gave it, without secrets."""
    prefix: bytes
    """Keys of this mount start with it; empty or ending in ``/``."""
    ttl_seconds: float
    """``inf``: listed once and for ever."""
    read_only: bool


class TreeCount(NamedTuple):
    """Sums over files under a directory."""

    files: int
    directories: int
    size: int
    """Bytes."""


class SkippedKey(NamedTuple):
    """A listed key that no path can hold."""

    mount: MountId
    key: bytes
    reason: str
    """``dotdot``, ``dot``, ``empty-component``, ``nul``, ``too-long``, ``clash`` ..."""


class Listener(Protocol):
    """Told when what was answered before is no longer true.  Called without locks held; must not block."""

    def directory_changed(self, directory: Inode, generation: int) -> None:
        """Children of this directory appeared, vanished or changed."""
        ...

    def everything_changed(self) -> None:
        """News may have been missed: nothing that was answered before holds any more."""
        ...


class SyncProgress(Protocol):
    """Told as a tree is listed; called from several threads."""

    def listed(self, directories: int, entries: int) -> None:
        """So many more are in the store."""
        ...


class MasterApi(Protocol):
    """The namespace as its users see it.

    Raises NamespaceError and UfsError families, DeadlineExceeded, and MasterAway where it is another process.
    """

    @property
    def away(self) -> bool:
        """Whether it cannot be asked now; calls raise MasterAway at once then."""
        ...

    def wait_back(self, deadline: Deadline) -> bool:
        """Wait until it can be asked; False when the time is over."""
        ...

    def mounts(self) -> list[MountInfo]:
        """The mount table."""
        ...

    def root(self) -> Node:
        """The root directory."""
        ...

    def node(self, inode: Inode) -> Node:
        """What the store holds of an inode, asking nobody.  Raises NoSuchEntry."""
        ...

    def lookup(self, parent: Inode, name: bytes, *, deadline: Deadline) -> Answer:
        """One name, without listing the directory: from a fresh listing if there is one, else by asking the UFS."""
        ...

    def read_dir(self, inode: Inode, *, deadline: Deadline, refresh: bool = False) -> Iterator[DirPage]:
        """Stream of a directory: from the store while it is fresh, else from the UFS as pages arrive.

        Callers that come while a listing runs join it.  ``refresh`` lists anew even when fresh.  Names come in no
        promised order.  An error ends the stream; what was answered before it is not a complete listing.
        """
        ...

    def resolve(self, path: bytes, *, deadline: Deadline) -> Node:
        """Node of a slash-separated path below the root; raises NoSuchEntry, NotADirectory."""
        ...

    def object_key(self, inode: Inode) -> tuple[MountInfo, bytes]:
        """Mount and key of a file or directory (a directory's key ends in ``/``); raises NoSuchEntry."""
        ...

    def read_link(self, inode: Inode, *, deadline: Deadline) -> bytes:
        """Target of a symbolic link, as a path relative to the link's directory."""
        ...

    def revalidate(self, inode: Inode, *, deadline: Deadline) -> Answer:
        """A reader found the version gone or changed: ask the UFS now, record what it says."""
        ...

    def note_crc64(self, inode: Inode, version: int, crc64: int) -> None:
        """A HEAD or GET told the CRC of this version."""
        ...

    def note_crc64s(self, told: Sequence[tuple[Inode, int, int]]) -> None:
        """The same for many (inode, version, CRC) at once; what is gone or has changed meanwhile is passed over."""
        ...

    def sync_tree(
        self, inode: Inode, *, deadline: Deadline, progress: SyncProgress | None = None, refresh: bool = True
    ) -> TreeCount:
        """List a whole subtree into the store, in parallel; resumes where an interrupted one stopped."""
        ...

    def walk(self, inode: Inode) -> Iterator[tuple[bytes, Node]]:
        """(path below the root, node) of every file and symlink under a directory, as the store knows them."""
        ...

    def count(self, inode: Inode) -> TreeCount:
        """Sums under a directory, as the store knows them."""
        ...

    def skipped(self, limit: int = 1000) -> list[SkippedKey]:
        """Keys that no path can hold, as met by listings so far."""
        ...

    def pins(self) -> list[tuple[MountId, bytes]]:
        """Pinned (mount, path prefix) pairs."""
        ...

    def set_pin(self, mount: MountId, path: bytes, pinned: bool) -> None:
        """Remember or forget a pin; it holds for later versions too."""
        ...

    def subscribe(self, listener: Listener) -> None:
        """Have ``listener`` told of changes from now on."""
        ...
