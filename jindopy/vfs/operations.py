"""What the tree means, for any transport.

Every operation comes as a pair where it may have to wait: ``x_now`` answers from memory (or says that it cannot), ``x``
may ask the master or the UFS.  A transport with a global lock calls the first under it and the second without.

Answers are small tuples, errors are JindoErrors that know their errno.  A node number names one version of one file,
so attributes of files never change: freshness is decided by lookup alone.

Threads: any number; the inode table, the open files and the directories have their own locks, none is held across a
call into another.
"""

from __future__ import annotations

import errno
import logging
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

from jindopy._ext.fuseknown import KnownFiles
from jindopy._ext.inodes import InodeTable, NodeAttr
from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import (
    IsADirectory,
    JindoError,
    MasterAway,
    NamespaceError,
    NoSuchEntry,
    NotADirectory,
    ReadOnly,
)
from jindopy.base.ident import ROOT_INODE, FileVersion, Inode, Kind, MountId, NodeId
from jindopy.cache.store import Cache, owner_tag
from jindopy.namespace.api import MasterApi, MountInfo
from jindopy.read.neighbours import Sibling
from jindopy.read.path import OpenFile, ReadPath
from jindopy.read.prefetch import Prefetcher
from jindopy.vfs.directories import Directories, expiry_ns
from jindopy.vfs.handles import DirHandle, OpenDirs, OpenFiles
from jindopy.vfs.nodekeeper import NodeKeeper
from jindopy.vfs.notifier import KernelNotifier, SilentNotifier

LOG = logging.getLogger("jindopy.vfs")

XATTR_PREFIX = b"user.jindo."
ROOT_NODE = NodeId(ROOT_INODE)
STATFS_BLOCK_BYTES = 4096
STATFS_TTL_SECONDS = 60.0
"""Sums over a million rows take a second: not for every ``df``."""

FILE_TYPE = {Kind.FILE: stat.S_IFREG, Kind.DIRECTORY: stat.S_IFDIR, Kind.SYMLINK: stat.S_IFLNK}


class NoSuchAttribute(NamespaceError):
    """The node has no such extended attribute, or its value is not known."""

    errno = errno.ENODATA


class DirEntry(NamedTuple):
    """One name of a directory."""

    name: bytes
    nodeid: int
    kind: int
    cookie: int
    """Give it to ``readdir`` to go on behind this entry."""


class FsStat(NamedTuple):
    """Figures of the whole tree."""

    size: int
    """Bytes of all files the namespace knows."""
    files: int


@dataclass(frozen=True)
class VfsConfig:
    """Bounds of one operation."""

    request_seconds_max: float = 60.0
    """Longest wait for metadata before the caller gets EIO."""
    names_bytes_max: int = 256 << 20
    """Memory for the inode table and the cache's index together; the index cannot be less than what is cached."""


@final
class Vfs:
    """The mounted tree."""

    def __init__(
        self,
        master: MasterApi,
        reads: ReadPath,
        cache: Cache,
        config: VfsConfig | None = None,
        *,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._master = master
        self._reads = reads
        self._cache = cache
        self._config = config or VfsConfig()
        self._clock = clock
        root = master.root()
        self._table = InodeTable(root.uid, root.gid, root.perm, root.mtime_ns)
        self._keeper = NodeKeeper(self._table, self._table_bytes_max)
        self._directories = Directories(self._table, master, self._keeper, clock)
        self._files = OpenFiles(self._table, reads)
        self._dirs = OpenDirs()
        self._prefetcher: Prefetcher | None = None
        self._count_files: Callable[[], int] = lambda: len(self._files)
        self._notifier: KernelNotifier = SilentNotifier()
        self._mounts = {mount.id: mount for mount in master.mounts()}
        self._statfs: tuple[float, FsStat] = (float("-inf"), FsStat(0, 0))
        self._refresh_root()

    def notify_through(self, notifier: KernelNotifier) -> None:
        """Tell ``notifier`` when a name the kernel may have cached changes."""
        self._notifier = notifier
        self._directories.notify_through(notifier)
        self._keeper.notify_through(notifier)

    def fetch_ahead_by(self, prefetcher: Prefetcher) -> None:
        """Have ``prefetcher`` told of opens; it asks ``siblings`` and ``current_version`` in its turn."""
        self._prefetcher = prefetcher

    def known_files(self) -> KnownFiles:
        """For a transport that finds cached files natively."""
        mounts = [
            (mount.id, mount.path, mount.prefix, mount.ufs_id.encode(), owner_tag(mount.ufs_id))
            for mount in self._mounts.values()
        ]
        return KnownFiles(self._table, self._cache.blocks, mounts)

    def opens_elsewhere(self, watching: Callable[[bool], None], count: Callable[[], int]) -> None:
        """A transport opens cached files natively: it counts them, and is told when to do that through ``open``."""
        self._count_files = count
        if self._prefetcher is not None:
            self._prefetcher.tell_watching(watching)

    # Metadata

    def lookup_now(self, parent: NodeId, name: bytes) -> NodeAttr | None:
        """The entry from memory, its lookup count raised; None: call ``lookup``.  Raises NoSuchEntry."""
        return self._directories.lookup_known(parent, name)

    def lookup(self, parent: NodeId, name: bytes) -> NodeAttr:
        """The entry, its lookup count raised; raises NoSuchEntry, NotADirectory and what the UFS says."""
        return self._directories.lookup(parent, name, self._deadline())

    def negative_seconds(self, parent: NodeId) -> float:
        """How long the absence of a name may be believed."""
        try:
            _, expires_ns, complete = self._table.dir_state(parent)
        except KeyError:
            return 0.0
        return self.seconds_until(expires_ns) if complete else 0.0

    def seconds_until(self, expires_ns: int) -> float:
        """How long the kernel may keep an answer."""
        return max(0.0, (expires_ns - self._directories.now_ns()) / 1e9)

    def getattr_now(self, nodeid: NodeId) -> NodeAttr | None:
        """Attributes from memory; None for a root whose time is over.  Raises NoSuchEntry."""
        try:
            attr = self._table.attr(nodeid)
        except KeyError:
            raise NoSuchEntry("no such inode") from None
        expired = nodeid == ROOT_NODE and attr.expires_ns <= self._directories.now_ns()
        return None if expired else attr

    def getattr(self, nodeid: NodeId) -> NodeAttr:
        """Attributes of a node; raises NoSuchEntry (ESTALE for the kernel's purposes cannot happen: it holds it)."""
        attr = self.getattr_now(nodeid)
        if attr is None:
            try:
                self._refresh_root()
            except MasterAway:
                LOG.debug("the root's time is an old one: the master is away")
            return self._table.attr(nodeid)
        return attr

    def _refresh_root(self) -> None:
        """Take the root's time from the namespace, which no listing of a parent does: a row, no request."""
        ttl_seconds = min((mount.ttl_seconds for mount in self._mounts.values()), default=float("inf"))
        self._table.touch_root(self._master.root().mtime_ns, expiry_ns(self._clock, ttl_seconds))

    def forget(self, nodeid: NodeId, count: int) -> None:
        """The kernel gives back lookups."""
        self._table.forget(nodeid, count)

    def opendir(self, directory: NodeId) -> int:
        """List a directory wholly and return a handle on that one generation."""
        attr = self.getattr(directory)
        if attr.kind != Kind.DIRECTORY:
            raise NotADirectory("not a directory")
        # Held until releasedir: what has been listed must not be trimmed before it is read.
        self._table.hold(directory)
        try:
            self._directories.ensure(directory, self._deadline())
            children = self._table.children(directory)
        except BaseException:
            self._table.unhold(directory)
            raise
        return self._dirs.add(DirHandle(directory, NodeId(attr.parent or directory), children))

    def readdir(self, handle: int, cookie: int) -> Iterator[DirEntry]:
        """Entries behind ``cookie`` (0: from the start), ``.`` and ``..`` first."""
        listing = self._dirs.get(handle)
        if cookie < 1:
            yield DirEntry(b".", listing.directory, Kind.DIRECTORY, 1)
        if cookie < 2:
            yield DirEntry(b"..", listing.parent, Kind.DIRECTORY, 2)
        for index in range(max(cookie - 2, 0), len(listing.children)):
            nodeid = listing.children[index]
            try:
                name, kind = self._table.name(nodeid), self._table.attr(nodeid).kind
            except KeyError:
                continue  # vanished since opendir, and nobody holds it
            yield DirEntry(name, nodeid, kind, index + 3)

    def listing(self, handle: int) -> DirHandle:
        """What ``opendir`` found; raises KeyError."""
        return self._dirs.get(handle)

    def releasedir(self, handle: int) -> None:
        """End a directory handle."""
        self._table.unhold(self._dirs.drop(handle).directory)
        self._keeper.grown()

    def readlink(self, nodeid: NodeId) -> bytes:
        """Target of a symbolic link, relative to its directory."""
        attr = self.getattr(nodeid)
        if attr.kind != Kind.SYMLINK:
            raise NamespaceError("not a symbolic link")
        return self._master.read_link(Inode(attr.inode), deadline=self._deadline())

    def statfs(self) -> FsStat:
        """Sums over the whole tree, at most a minute old."""
        now = self._clock.monotonic()
        if now - self._statfs[0] > STATFS_TTL_SECONDS:
            try:
                count = self._master.count(self._master.root().inode)
            except MasterAway:
                return self._statfs[1]
            self._statfs = (now, FsStat(count.size, count.files + count.directories))
        return self._statfs[1]

    # Data

    def open_now(self, nodeid: NodeId) -> bool:
        """Open a node that is open already; False: call ``open``."""
        return self._files.join(nodeid)

    def open(self, nodeid: NodeId, write: bool = False) -> None:
        """Open a file for reading; the node number is the handle."""
        attr = self.getattr(nodeid)
        if attr.kind == Kind.DIRECTORY:
            raise IsADirectory("is a directory")
        if write:
            raise ReadOnly("this mount is read-only")
        if not self._files.join(nodeid):
            file = self._files.add(nodeid, self.version_of(nodeid, attr))
            if self._prefetcher is not None:
                self._prefetcher.opened(NodeId(attr.parent), nodeid, attr.size, file.complete)

    def read_now(self, nodeid: NodeId, offset: int, size_bytes: int) -> bytes | None:
        """Bytes that are in memory; None: call ``read``."""
        file = self._files.get(nodeid)
        return None if file is None else self._reads.read_cached(file, offset, size_bytes)

    def read(self, nodeid: NodeId, offset: int, size_bytes: int) -> bytes:
        """Bytes of an open file, clipped to its end."""
        file = self._files.get(nodeid)
        if file is None:
            raise NoSuchEntry("read of a file that is not open")
        if offset == 0 and self._prefetcher is not None:
            self._tell_of_reading_again(nodeid, file, self._prefetcher)
        try:
            return self._reads.read(file, offset, size_bytes)
        except JindoError as error:
            if error.errno == errno.ESTALE:
                self._look_again(nodeid)
            raise

    def _tell_of_reading_again(self, nodeid: NodeId, file: OpenFile, prefetcher: Prefetcher) -> None:
        """Where opening is no request, only this shows that a file whose blocks were evicted is read once more."""
        if not (file.begun or file.complete):
            file.begun = True  # the read that follows the open, which was told
        elif not file.lease.complete:
            attr = self.getattr(nodeid)
            prefetcher.opened(NodeId(attr.parent), nodeid, attr.size, False)

    def reads_on(self, nodeid: NodeId, offset: int, size_bytes: int) -> None:
        """A sequential reader of an open file, which a transport answers by itself, got here."""
        file = self._files.get(nodeid)
        if file is not None:
            self._reads.reads_on(file, offset, size_bytes)

    def take_back(self, version: FileVersion) -> None:
        """Wrong bytes of this version may have been answered: have the kernel forget what it keeps of them.

        Told by token, which several nodes may share: to forget right bytes as well costs a request, nothing else.
        """
        for nodeid in self._table.known_by_token(version.token):
            self._notifier.content_changed(NodeId(nodeid))

    def forget_content(self, path: bytes) -> None:
        """The cache no longer has the file at ``path``: have the kernel drop its pages, or reads would not ask anew."""
        nodeid = ROOT_NODE
        for name in path.split(b"/"):
            attr = self._table.lookup(nodeid, name, 0, False)  # time 0: nothing has expired
            if not isinstance(attr, NodeAttr):
                return  # nobody has asked for it yet
            nodeid = NodeId(attr.nodeid)
        self._notifier.content_changed(nodeid)

    def release(self, nodeid: NodeId) -> None:
        """One open less."""
        self._files.drop(nodeid)

    def _look_again(self, nodeid: NodeId) -> None:
        """A version is gone: have the master ask the UFS, so that the next open finds the new one."""
        inode = Inode(self.getattr(nodeid).inode)
        try:
            self._master.revalidate(inode, deadline=self._deadline())
        except JindoError as error:
            LOG.info("could not ask about changed inode %d: %s", inode, error)

    def version_of(self, nodeid: NodeId, attr: NodeAttr) -> FileVersion:
        """Key, token and size of a file's node."""
        mount, key = self._key(nodeid)
        _, token = self._table.source(nodeid)
        return FileVersion.of(mount.id, mount.ufs_id, key, token, attr.size, Inode(attr.inode), attr.version)

    def siblings(self, directory: NodeId) -> Iterator[Sibling] | None:
        """Files of a directory in the order of its listing, from memory; None while that is not complete."""
        try:
            if not self._table.dir_state(directory)[2]:
                return None
            children = self._table.children(directory)
        except KeyError:
            return None
        return self._files_among(children)

    def _files_among(self, nodeids: list[int]) -> Iterator[Sibling]:
        for nodeid in nodeids:
            try:
                attr = self._table.attr(nodeid)
                if attr.kind == Kind.FILE:
                    yield Sibling(nodeid, self._table.name(nodeid), attr.size)
            except KeyError:
                continue  # a newer listing has left it out

    def current_version(self, nodeid: NodeId) -> FileVersion | None:
        """What a node stands for; None when it is gone."""
        try:
            return self.version_of(nodeid, self._table.attr(nodeid))
        except (KeyError, NoSuchEntry):
            return None

    def _key(self, nodeid: NodeId) -> tuple[MountInfo, bytes]:
        mount_id, _ = self._table.source(nodeid)
        mount = self._mounts.get(MountId(mount_id))
        if mount is None:
            # A master that is another process may have got another mount table.
            self._mounts = {known.id: known for known in self._master.mounts()}
            mount = self._mounts.get(MountId(mount_id))
        if mount is None:
            raise NoSuchEntry("not inside any mounted store")
        names = self._table.path(nodeid)
        depth = len(mount.path.split(b"/")) if mount.path else 0
        return mount, mount.prefix + b"/".join(names[depth:])

    # Extended attributes

    def listxattr(self, nodeid: NodeId) -> list[bytes]:
        """Names that ``getxattr`` knows for this node."""
        kind = self.getattr(nodeid).kind
        names = [b"ufs"] if kind == Kind.DIRECTORY else [b"etag", b"crc64", b"cached", b"ufs"]
        return [XATTR_PREFIX + name for name in names]

    def getxattr_now(self, nodeid: NodeId, name: bytes) -> bytes | None:
        """``user.jindo.etag``, ``.cached`` (bytes), ``.ufs`` (URI); None for ``.crc64``.  Raises NoSuchAttribute."""
        attr = self.getattr(nodeid)
        field = name.removeprefix(XATTR_PREFIX)
        if field == name or name not in self.listxattr(nodeid):
            raise NoSuchAttribute("no such attribute")
        if field == b"ufs":
            mount, key = self._key(nodeid)
            return str(mount.ufs_id).encode() + b"/" + key
        version = self.version_of(nodeid, attr)
        if field == b"etag":
            return version.token
        if field == b"cached":
            known = self._cache.peek(version.cid)
            return str(known.cached_bytes if known else 0).encode()
        return None

    def getxattr(self, nodeid: NodeId, name: bytes) -> bytes:
        """Any of them: the namespace keeps ``.crc64``; raises NoSuchAttribute."""
        value = self.getxattr_now(nodeid, name)
        if value is not None:
            return value
        node = self._master.node(Inode(self.getattr(nodeid).inode))
        if node.crc64 is None or node.token != self._table.source(nodeid)[1]:
            raise NoSuchAttribute("the checksum is not known before the first read")
        return b"%016x" % node.crc64

    # Life

    def _table_bytes_max(self) -> int:
        """The inode table's share now: what the cache's index leaves of it, and an eighth in any case."""
        share = self._config.names_bytes_max
        return max(share - self._cache.index_bytes(), share // 8)

    def _deadline(self) -> Deadline:
        return Deadline.after(self._config.request_seconds_max, self._clock)

    @property
    def open_files(self) -> int:
        """Files that are open."""
        return self._count_files()

    @property
    def table(self) -> InodeTable:
        """The inode table, for a transport that answers from it directly."""
        return self._table

    def open_file(self, nodeid: NodeId) -> OpenFile | None:
        """The open file of a node, for a transport that reads from it directly."""
        return self._files.get(nodeid)

    def close(self) -> None:
        """End listings and leases."""
        self._keeper.close()
        self._directories.close()
        self._files.close()
