"""The fast transport: /dev/fuse read and written by native threads (``_ext.fusesession``).

What is in memory is answered there; this is the rest, a table of translations from requests to the ``Vfs``, and the
threads.  RECEIVERS of them receive; when all are busy in Python or waiting for a store another is hired, which retires
once enough receive again.

The node number names a version, ``st_ino`` the inode, so a changed object keeps its inode number.  Files that are
wholly cached are read by the kernel itself, where it can (``_ext.fuseopen``).  Where it cannot, opening a file is no
request at all; a file that programs have open is told from one they have closed by the kernel alone then, so leases are
kept until it forgets the node, or until a thousand other files were read.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, Final, ParamSpec, TypeVar, final

from jindopy._ext.blockstore import CacheFile
from jindopy._ext.fusesession import Session
from jindopy.base import mountinfo
from jindopy.base.errors import JindoError, MountPointError, NoSuchEntry
from jindopy.base.ident import NodeId
from jindopy.fuse import fusermount
from jindopy.fuse.notices import Notices
from jindopy.fuse.readahead import raise_read_ahead
from jindopy.fuse.refusals import refused
from jindopy.fuse.transport import TransportConfig, safe_option
from jindopy.vfs.handles import DirHandle
from jindopy.vfs.operations import STATFS_BLOCK_BYTES, Vfs

LOG = logging.getLogger("jindopy.fuse")

READ_BYTES_MAX: Final = 1 << 20
"""One request a block; the kernel limits it to 256 pages by default (fs.fuse.max_pages_limit)."""
RECEIVERS: Final = max(2, min(8, (os.cpu_count() or 2) // 2))
"""One may be busy with what nobody waits for (a file was closed) when the next request comes.  More on a machine of 2
processors only spread the work: 5,000 cached files of 100 kB took 105-131 us each with 1 or 2, 123-177 with 4."""

P = ParamSpec("P")
R = TypeVar("R")


def _told(method: Callable[Concatenate[_Handlers, P], R]) -> Callable[Concatenate[_Handlers, P], R | int]:
    """Turn JindoErrors into negative errnos."""

    @wraps(method)
    def handler(self: _Handlers, /, *args: P.args, **kwargs: P.kwargs) -> R | int:
        try:
            return method(self, *args, **kwargs)
        except JindoError as error:
            return -refused(method.__name__, error)

    return handler


@final
class _Handlers:
    """What ``fusesession.Handlers`` asks for."""

    def __init__(self, vfs: Vfs, hire: Callable[[], None], not_passed: Callable[[int], None]) -> None:
        self._vfs = vfs
        self.hire = hire
        self.not_passed = not_passed

    def failed(self, error: BaseException) -> None:
        LOG.error("a request failed unexpectedly; who waited for it got EIO", exc_info=error)

    @_told
    def lookup(self, directory: int, name: bytes) -> int:
        try:
            return self._vfs.lookup(NodeId(directory), name).nodeid
        except NoSuchEntry:
            return -errno.ENOENT

    def absent_ns(self, directory: int) -> int:
        return int(self._vfs.negative_seconds(NodeId(directory)) * 1e9)

    @_told
    def refresh(self, nodeid: int) -> int:
        self._vfs.getattr(NodeId(nodeid))
        return 0

    @_told
    def open(self, nodeid: int) -> CacheFile:
        self._vfs.open(NodeId(nodeid))
        file = self._vfs.open_file(NodeId(nodeid))
        if file is None:
            raise NoSuchEntry("closed while it was opened")
        return file.lease

    @_told
    def read(self, nodeid: int, offset: int, size_bytes: int) -> bytes:
        return self._vfs.read(NodeId(nodeid), offset, size_bytes)

    def ahead(self, nodeid: int, offset: int, size_bytes: int) -> None:
        self._vfs.reads_on(NodeId(nodeid), offset, size_bytes)

    def release(self, nodeid: int) -> None:
        self._vfs.release(NodeId(nodeid))

    @_told
    def opendir(self, nodeid: int) -> int:
        return self._vfs.opendir(NodeId(nodeid))

    def listing(self, handle: int) -> DirHandle:
        return self._vfs.listing(handle)

    def name(self, nodeid: int) -> bytes | None:
        try:
            return self._vfs.table.name(nodeid)
        except KeyError:
            return None

    def releasedir(self, handle: int) -> int:
        self._vfs.releasedir(handle)
        return 0

    @_told
    def readlink(self, nodeid: int) -> bytes:
        return self._vfs.readlink(NodeId(nodeid))

    @_told
    def statfs(self) -> tuple[int, int, int]:
        figures = self._vfs.statfs()
        return STATFS_BLOCK_BYTES, -(-figures.size // STATFS_BLOCK_BYTES), figures.files

    @_told
    def listxattr(self, nodeid: int) -> bytes:
        return b"".join(name + b"\0" for name in self._vfs.listxattr(NodeId(nodeid)))

    @_told
    def getxattr(self, nodeid: int, name: bytes) -> bytes:
        return self._vfs.getxattr(NodeId(nodeid), name)


@final
class NativeTransport:
    """One mount."""

    name = "native"

    def __init__(self, vfs: Vfs, config: TransportConfig) -> None:
        self._vfs = vfs
        self._config = config
        self._session: Session | None = None
        self._notices: Notices | None = None
        self._ended = threading.Event()
        self._threads_lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self.notes: list[str] = []

    @property
    def requests(self) -> int:
        """Requests of the kernel taken up since the mount began."""
        return self._session.requests if self._session is not None else 0

    @property
    def request_threads(self) -> int:
        """Threads that read and answer requests now."""
        with self._threads_lock:
            return len(self._threads)

    def mount(self) -> None:
        """Attach to the mount point; raises MountPointError."""
        options = [
            f"fsname={safe_option(self._config.source)}",
            "subtype=jindopy",
            "ro",
            "default_permissions",
            f"max_read={READ_BYTES_MAX}",
        ]
        if self._config.allow_other:
            options.append("allow_other")
        descriptor = fusermount.attach(self._config.mount_point, options)
        threads_max = max(RECEIVERS + 1, self._config.request_threads_max)
        session = Session(
            descriptor,
            self._vfs.known_files(),
            _Handlers(self._vfs, self._hire, self._not_passed),
            RECEIVERS,
            threads_max,
            passes=self._config.passthrough,
        )
        self._session = session
        self._vfs.opens_elsewhere(
            watching=lambda watching: setattr(session, "tells", watching), count=lambda: session.file_count
        )
        self._notices = Notices(entry=session.forget_name, content=session.forget_content)
        self._vfs.notify_through(self._notices)

    def set_read_ahead(self) -> None:
        """Raise the kernel's read-ahead of this mount, which needs root; a note says when it could not be done."""
        self.notes += raise_read_ahead(self._config.mount_point, self._config.kernel_read_ahead_bytes)

    def serve(self) -> None:
        """Answer requests until the mount is detached or its connection aborted."""
        for _ in range(RECEIVERS):
            self._hire()
        self._ended.wait()
        while True:
            with self._threads_lock:
                left = next(iter(self._threads), None)
            if left is None:
                return
            left.join()

    def _not_passed(self, error: int) -> None:
        """Say why cached files are not passed to the kernel."""
        note = f"what is cached is not passed to the kernel to read by itself: {os.strerror(error)}"
        if error == errno.EPERM:
            note = "what is cached is not passed to the kernel to read by itself: that takes CAP_SYS_ADMIN"
        elif error == errno.ELOOP:
            note = (
                "what is cached is not passed to the kernel to read by itself: the cache directory lies on a stacked"
                " file system (overlay); one on a disk would be faster"
            )
        LOG.info("%s", note)
        self.notes.append(note)

    def _hire(self) -> None:
        """One more thread in the session's loop."""
        thread = threading.Thread(target=self._receive, name="fuse", daemon=True)
        with self._threads_lock:
            self._threads.add(thread)
        thread.start()

    def _receive(self) -> None:
        assert self._session is not None
        try:
            if self._session.serve():
                self._ended.set()
        finally:
            with self._threads_lock:
                self._threads.discard(threading.current_thread())

    def close(self) -> None:
        """Detach if still attached and free the session, after ``serve`` has returned; harmless when repeated."""
        if self._notices is not None:
            self._notices.close()
            self._notices = None
        if self._session is None:
            return
        session, self._session = self._session, None
        entry = mountinfo.at(self._config.mount_point, mountinfo.read())
        if entry is not None and entry.fs_type == mountinfo.FS_TYPE:
            try:
                mountinfo.unmount(self._config.mount_point, lazy=True)
            except (OSError, MountPointError) as error:
                LOG.warning("%s", error)
        session.close()
