"""The mount table: which subtree of the one tree is which UFS, and what NULL in a row stands for.

``settle`` runs once at the start: it compares the wanted mounts with the persisted table.  A mount keeps its id, its
root's inode and its rows while path, UFS and prefix stay the same; any other persisted mount is dropped with all its
rows.  Directories that lead to mounts are made where the tree has none.  They and the mounts' roots are *anchors*:
listings neither delete nor replace them, and what the UFS has under such a name is hidden.

A leading directory inside another mount's path belongs to that mount and shows its objects too; one outside all mounts
belongs to none (mount 0) and shows anchors only.

After the start the table never changes, so it is read without a lock.  Keys of directories are kept (bounded): a
directory is never renamed here, so an entry can only outlive it, and its users look their row up first.
"""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, final

from jindopy.base.errors import ConfigError, NoSuchEntry
from jindopy.base.ident import ROOT_INODE, Inode, Kind, MountId
from jindopy.namespace.api import MountInfo, Node
from jindopy.namespace.keys import clean_path, clean_prefix, split_path
from jindopy.namespace.sqlite_rows import MountRow, RowTuple, unsigned
from jindopy.namespace.sqlite_store import SqliteStore
from jindopy.namespace.sqlite_write import Transaction
from jindopy.ufs.base import Driver

DEFAULT_TTL_SECONDS: Final = 60.0

_KEYS_KEPT: Final = 4096
"""Directory keys remembered, about 0.2 kB each; climbing the tree instead costs 15 µs a level."""

_KINDS: Final = (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK)


@dataclass(frozen=True)
class MountRequest:
    """One UFS to show in the tree."""

    path: bytes
    """Where, below the root; empty or ``/``: as the root."""
    uri: str
    """For display, without secrets."""
    driver: Driver
    prefix: bytes = b""
    """Only keys that start with it; a missing last slash is added."""
    ttl_seconds: float = DEFAULT_TTL_SECONDS
    """``inf``: listed once and for ever."""
    read_only: bool = True
    cred_ref: str = ""
    tenant: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    """Driver options to remember, without secrets."""


@dataclass(frozen=True)
class Ownership:
    """Whose the files are and what may be done with them, where a row does not say."""

    uid: int
    gid: int
    file_perm: int = 0o644
    directory_perm: int = 0o755


@dataclass(frozen=True)
class Mounted:
    """A mount at work."""

    info: MountInfo
    driver: Driver
    root: Inode


@final
class MountTable:
    """See the module."""

    def __init__(
        self, store: SqliteStore, requests: Sequence[MountRequest], start_ns: int, ownership: Ownership
    ) -> None:
        self._store = store
        self._start_ns = start_ns
        self._ownership = ownership
        self._mounted: dict[int, Mounted] = {}
        self._anchors: dict[int, dict[bytes, Inode]] = {}
        self._keys: OrderedDict[int, bytes] = OrderedDict()
        self._keys_lock = threading.Lock()
        self._settle(_checked(requests))

    # The start

    def _settle(self, requests: list[MountRequest]) -> None:
        persisted = {(row.path, row.ufs_id, row.prefix): row for row in self._store.mounts()}
        wanted = {(r.path, str(r.driver.ufs_id), r.prefix) for r in requests}
        dropped = [row for identity, row in persisted.items() if identity not in wanted]
        changed = bool(dropped) or len(persisted) != len(wanted)
        with self._store.write() as tx:
            tx.insert_root()
            if changed:
                # Names that anchors hid may show again: every directory on the way is listed anew.
                for row in persisted.values():
                    _forget_way(tx, row.path)
            for row in dropped:
                tx.drop_mount(row.id)
            for request in requests:
                self._attach(tx, request, persisted.get((request.path, str(request.driver.ufs_id), request.prefix)))
            leading = {inode for names in self._anchors.values() for inode in names.values()}
            tx.drop(inode for inode in tx.synthetic_directories() if inode not in leading)

    def _attach(self, tx: Transaction, request: MountRequest, row: MountRow | None) -> None:
        """Make or find the way to a mount and its root; outer mounts come first."""
        mount = row.id if row is not None else tx.draw_mount()
        at, enclosing = ROOT_INODE, 0
        parts = split_path(request.path)
        for depth, part in enumerate(parts):
            enclosing = next((m.info.id for m in self._mounted.values() if m.root == at), enclosing)
            last = depth == len(parts) - 1
            at = self._anchor(tx, at, part, mount if last else enclosing, row.root if last and row else None)
        if not parts:
            found = tx.row(ROOT_INODE)
            if found is not None and found.mount != mount:
                tx.set_mount(ROOT_INODE, mount)
                tx.forget_dir_state(ROOT_INODE)
        endless = math.isinf(request.ttl_seconds)
        tx.save_mount(
            MountRow(
                id=mount,
                path=request.path,
                ufs_id=request.driver.ufs_id,
                uri=request.uri,
                mode="cache",
                prefix=request.prefix,
                root=at,
                options=json.dumps(dict(request.options), sort_keys=True),
                cred_ref=request.cred_ref,
                ttl_ms=None if endless else round(request.ttl_seconds * 1000),
                read_only=int(request.read_only),
                tenant=request.tenant,
            )
        )
        self._mounted[mount] = Mounted(
            info=MountInfo(
                id=MountId(mount),
                path=request.path,
                ufs_id=request.driver.ufs_id,
                uri=request.uri,
                prefix=request.prefix,
                ttl_seconds=request.ttl_seconds,
                read_only=request.read_only,
            ),
            driver=request.driver,
            root=at,
        )

    def _anchor(self, tx: Transaction, parent: Inode, name: bytes, mount: int, root: int | None) -> Inode:
        """Make or find one directory of the way; ``root`` is the inode the mount's root had so far."""
        names = self._anchors.setdefault(parent, {})
        if name in names:
            return names[name]
        found = tx.child(parent, name)
        if found is not None and (found.kind != Kind.DIRECTORY or found.mount != mount):
            tx.drop([found.inode])
            found = None
        if found is None and root is not None and tx.row(root) is not None:
            # The way to it was dropped with another mount: what it holds stays.
            tx.move(root, parent, name)
            inode = Inode(root)
        else:
            inode = tx.insert_directory(parent, name, mount, 0) if found is None else found.inode
        tx.make_permanent(inode)
        names[name] = inode
        return inode

    # At work

    def infos(self) -> list[MountInfo]:
        """The table, by path."""
        return sorted((mounted.info for mounted in self._mounted.values()), key=lambda info: info.path)

    def get(self, mount: int) -> Mounted | None:
        """The mount of that id; None for 0 and for one dropped meanwhile."""
        return self._mounted.get(mount)

    def anchors(self, directory: int) -> dict[bytes, Inode]:
        """Names in a directory that are mounts or lead to one."""
        return self._anchors.get(directory, {})

    def is_anchor(self, parent: int, name: bytes) -> bool:
        return name in self._anchors.get(parent, ())

    def directory_key(self, inode: Inode) -> bytes:
        """What keys of objects in a directory start with; raises NoSuchEntry when its way up is broken."""
        names: list[bytes] = []
        at: int = inode
        while (key := self._kept_key(at)) is None:
            row = self._store.row(at)
            if row is None:
                raise NoSuchEntry(f"no inode {at}")
            mounted = self._mounted.get(row.mount)
            if mounted is None:
                raise NoSuchEntry(f"inode {at} belongs to no mount")
            if mounted.root == at:
                key = mounted.info.prefix
                break
            names.append(row.node[2])
            at = row.node[1]
        for name in reversed(names):
            key += name + b"/"
        with self._keys_lock:
            self._keys[inode] = key
            while len(self._keys) > _KEYS_KEPT:
                self._keys.popitem(last=False)
        return key

    def _kept_key(self, inode: int) -> bytes | None:
        with self._keys_lock:
            key = self._keys.get(inode)
            if key is not None:
                self._keys.move_to_end(inode)
            return key

    def nodes(self, rows: list[RowTuple]) -> list[Node]:
        """Rows as the outside sees them."""
        uid, gid = self._ownership.uid, self._ownership.gid
        perms = (self._ownership.file_perm, self._ownership.directory_perm, self._ownership.file_perm)
        start_ns, kinds = self._start_ns, _KINDS
        # One expression: a page of 1,000 rows is turned into nodes between two pages of a listing.
        return [
            Node(
                Inode(inode),
                Inode(parent),
                name,
                MountId(mount),
                kinds[kind],
                perms[kind] if perm is None else perm,
                uid if own is None else own,
                gid if group is None else group,
                1 if nlink is None else nlink,
                size,
                start_ns if mtime_ns is None else mtime_ns,
                version,
                token,
                None if crc64 is None else unsigned(crc64),
            )
            for (
                inode,
                parent,
                name,
                mount,
                kind,
                perm,
                own,
                group,
                nlink,
                size,
                mtime_ns,
                version,
                token,
                crc64,
            ) in rows
        ]


def _checked(requests: Sequence[MountRequest]) -> list[MountRequest]:
    """Requests with clean paths and prefixes, outer ones first; raises ConfigError."""
    if not requests:
        raise ConfigError("nothing to mount: name at least one UFS")
    clean: dict[bytes, MountRequest] = {}
    for request in requests:
        path = clean_path(request.path)
        if path in clean:
            shown = path.decode("utf-8", "backslashreplace")
            raise ConfigError(f"two UFS at one path: {clean[path].uri} and {request.uri} at /{shown}")
        if math.isnan(request.ttl_seconds) or request.ttl_seconds < 0:
            raise ConfigError(f"{request.uri}: a metadata TTL is 0 or more seconds, not {request.ttl_seconds}")
        clean[path] = replace(request, path=path, prefix=clean_prefix(request.prefix))
    return sorted(clean.values(), key=lambda request: len(split_path(request.path)))


def _forget_way(tx: Transaction, path: bytes) -> None:
    at = ROOT_INODE
    tx.forget_dir_state(at)
    for part in split_path(path):
        row = tx.child(at, part)
        if row is None:
            return
        at = row.inode
        tx.forget_dir_state(at)
