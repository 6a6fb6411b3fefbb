"""The embedded master: ``MasterApi`` in the process of a mount, over SQLite.

It owns the state directory's ``namespace.db`` and wires the room: mount table, listings, probes, tree listings.  A
damaged file is refused and left alone: the tree could be listed anew, pins and unfinished loads could not.

Threads: any may call; calls that ask the UFS block their caller for as long as its deadline says.  Locks are those of
the parts.  ``close`` ends listings after their current page, then closes the file; drivers stay open, their owner
closes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, final

from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import NamespaceError, NoSuchEntry, NotADirectory, UsageError
from jindopy.base.ident import ROOT_INODE, Inode, Kind, MountId
from jindopy.namespace.api import Answer, DirPage, Listener, MountInfo, Node, SkippedKey, SyncProgress, TreeCount
from jindopy.namespace.keys import relative_link, split_path
from jindopy.namespace.mounts import MountRequest, MountTable, Ownership
from jindopy.namespace.probe import Prober
from jindopy.namespace.sqlite_rows import Row
from jindopy.namespace.sqlite_store import Job, SqliteStore
from jindopy.namespace.streams import dir_pages
from jindopy.namespace.sync import LIST_THREADS, Lister
from jindopy.namespace.tree_sync import TreeSync
from jindopy.namespace.walk import walk_files

__all__ = ["DATABASE_NAME", "EmbeddedMaster", "MountRequest"]

DATABASE_NAME: Final = "namespace.db"


@final
class EmbeddedMaster:
    """See the module."""

    def __init__(
        self,
        state_directory: Path,
        mounts: Sequence[MountRequest],
        *,
        uid: int | None = None,
        gid: int | None = None,
        umask: int = 0,
        list_threads: int = LIST_THREADS,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        """``uid``, ``gid``: of everything shown, by default this process's; ``umask`` takes from 0644 and 0755."""
        try:
            state_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{state_directory}: {error.strerror}; choose another state directory") from error
        self._clock = clock
        self._list_threads = list_threads
        ownership = Ownership(
            os.getuid() if uid is None else uid,
            os.getgid() if gid is None else gid,
            0o644 & ~umask,
            0o755 & ~umask,
        )
        self._store = SqliteStore(state_directory / DATABASE_NAME)
        try:
            self._mounts = MountTable(self._store, mounts, clock.wall_ns(), ownership)
            self._lister = Lister(self._store, self._mounts, clock, list_threads)
        except BaseException:
            self._store.close()
            raise
        self._prober = Prober(self._lister)
        self._lister.purge_soon()

    def close(self) -> None:
        """Stop listings and close the file."""
        self._lister.close()
        self._store.close()

    @property
    def away(self) -> bool:
        return False

    def wait_back(self, deadline: Deadline) -> bool:
        return True

    # Mounts and single nodes

    def mounts(self) -> list[MountInfo]:
        return self._mounts.infos()

    def root(self) -> Node:
        return self.node(ROOT_INODE)

    def node(self, inode: Inode) -> Node:
        return self._mounts.nodes([self._row(inode).node])[0]

    def _row(self, inode: Inode) -> Row:
        row = self._store.row(inode)
        if row is None:
            raise NoSuchEntry(f"no inode {inode}")
        return row

    def lookup(self, parent: Inode, name: bytes, *, deadline: Deadline) -> Answer:
        return self._prober.lookup(parent, name, deadline)

    def revalidate(self, inode: Inode, *, deadline: Deadline) -> Answer:
        return self._prober.revalidate(inode, deadline)

    def resolve(self, path: bytes, *, deadline: Deadline) -> Node:
        node = self.root()
        for part in split_path(path):
            if node.kind is not Kind.DIRECTORY:
                raise NotADirectory(f"not a directory: {_shown(node.name)}")
            found = self._prober.lookup(node.inode, part, deadline).node
            if found is None:
                raise NoSuchEntry(f"no such file or directory: /{_shown(path)}")
            node = found
        return node

    def object_key(self, inode: Inode) -> tuple[MountInfo, bytes]:
        row = self._row(inode)
        mounted = self._mounts.get(row.mount)
        if mounted is None:
            raise NoSuchEntry(f"inode {inode} belongs to no mount")
        if row.kind == Kind.DIRECTORY:
            return mounted.info, self._mounts.directory_key(inode)
        return mounted.info, self._mounts.directory_key(Inode(row.node[1])) + row.node[2]

    def read_link(self, inode: Inode, *, deadline: Deadline) -> bytes:
        info, key = self.object_key(inode)
        mounted = self._mounts.get(info.id)
        if mounted is None or self._row(inode).kind != Kind.SYMLINK:
            raise NamespaceError(f"inode {inode} is no symbolic link")
        target = mounted.driver.read_link(key, deadline=deadline)
        start = len(info.prefix)
        link = relative_link(key[start:], target[start:]) if target.startswith(info.prefix) else None
        if link is None:
            raise NamespaceError(f"{info.uri}: the link {_shown(key)} points out of the mount, to {_shown(target)}")
        return link

    def note_crc64(self, inode: Inode, version: int, crc64: int) -> None:
        node = self.node(inode)
        if node.version == version and node.crc64 != crc64:
            with self._store.write() as tx:
                tx.set_crc64(inode, version, crc64)

    def note_crc64s(self, told: Sequence[tuple[Inode, int, int]]) -> None:
        with self._store.write() as tx:
            for inode, version, crc64 in told:
                tx.set_crc64(inode, version, crc64)

    # Directories and trees

    def read_dir(self, inode: Inode, *, deadline: Deadline, refresh: bool = False) -> Iterator[DirPage]:
        return dir_pages(self._lister, inode, deadline, refresh)

    def sync_tree(
        self, inode: Inode, *, deadline: Deadline, progress: SyncProgress | None = None, refresh: bool = True
    ) -> TreeCount:
        if self._row(inode).kind != Kind.DIRECTORY:
            raise NotADirectory(f"inode {inode} is no directory")
        TreeSync(self._lister, self._list_threads, progress).run(inode, refresh=refresh, deadline=deadline)
        return self.count(inode)

    def walk(self, inode: Inode) -> Iterator[tuple[bytes, Node]]:
        if self._row(inode).kind != Kind.DIRECTORY:
            raise NotADirectory(f"inode {inode} is no directory")
        return walk_files(self._store, self._mounts, inode, self._path(inode))

    def _path(self, inode: Inode) -> bytes:
        names: list[bytes] = []
        while inode != ROOT_INODE:
            row = self._row(inode)
            names.append(row.node[2])
            inode = Inode(row.node[1])
        return b"/".join(reversed(names))

    def count(self, inode: Inode) -> TreeCount:
        return self._store.count(inode)

    # What is remembered

    def skipped(self, limit: int = 1000) -> list[SkippedKey]:
        return self._store.skipped(limit)

    def pins(self) -> list[tuple[MountId, bytes]]:
        return self._store.pins()

    def set_pin(self, mount: MountId, path: bytes, pinned: bool) -> None:
        self._store.set_pin(mount, path, pinned, self._clock.wall_ns())

    def subscribe(self, listener: Listener) -> None:
        self._lister.subscribe(listener)

    def save_job(self, job: Job) -> None:
        """Write a load job down, new or changed."""
        self._store.save_job(job)

    def load_jobs(self) -> list[Job]:
        """Jobs written down and not deleted, oldest first."""
        return self._store.jobs()

    def delete_job(self, job: str) -> None:
        """Forget a job."""
        self._store.delete_job(job)


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
