"""The portable transport: libfuse 2.9 through llfuse.  A table of translations, nothing else.

llfuse calls a handler with its one global lock held; whatever may wait is done with the lock released and another
thread receiving (``_waiting``, ``fuse.crew``).  Handlers first try the answer from memory.  An exception other than
FUSEError would end the whole mount, so every handler goes through ``_translated`` or does what it does.

llfuse cannot tell node numbers from inode numbers: ``st_ino`` is the node number here, so a changed object shows
another inode number.  Its ``keep_cache`` is fixed to on, which is right because a node is one version.

What the kernel keeps is taken back through ``fuse.notices``; llfuse has threads of its own for the calls.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, final

import llfuse

from jindopy.base.errors import JindoError, MountPointError, NoSuchEntry, ReadOnly
from jindopy.base.ident import Kind, NodeId
from jindopy.fuse.crew import Crew
from jindopy.fuse.notices import Notices
from jindopy.fuse.readahead import raise_read_ahead
from jindopy.fuse.refusals import refused
from jindopy.fuse.transport import TransportConfig, safe_option
from jindopy.vfs.operations import FILE_TYPE, STATFS_BLOCK_BYTES, Vfs

LOG = logging.getLogger("jindopy.fuse")

BACKGROUND_MAX = 64
"""Read-ahead requests the kernel keeps in flight: 8 MiB; its default of 12 is 1.5 MiB, less than one block ahead."""

P = ParamSpec("P")
R = TypeVar("R")

READ_BYTES_MAX = 131072
"""The largest READ libfuse 2.9 understands (32 pages)."""


def _translated(
    method: Callable[Concatenate[_Operations, P], R],
) -> Callable[Concatenate[_Operations, P], R]:
    """Count requests; turn JindoErrors into errnos, and bugs into EIO with a trace in the log."""

    @wraps(method)
    def handler(self: _Operations, /, *args: P.args, **kwargs: P.kwargs) -> R:
        self.requests += 1  # llfuse's lock is held
        try:
            return method(self, *args, **kwargs)
        except llfuse.FUSEError:
            raise
        except JindoError as error:
            raise llfuse.FUSEError(refused(method.__name__, error)) from None
        except Exception:
            LOG.exception("%s failed unexpectedly; the caller got EIO", method.__name__)
            raise llfuse.FUSEError(errno.EIO) from None

    return handler


class _BenchingBytes(bytes):
    """An answer to a read; the thread that drops it, after the reply was sent, may have to sit down."""

    crew: Crew

    def __del__(self) -> None:
        self.crew.bench()


class _BenchingEntry(llfuse.EntryAttributes):  # type: ignore[misc]  # llfuse has no types
    """An answer to a lookup, likewise."""

    crew: Crew

    def __del__(self) -> None:
        self.crew.bench()


@final
class _Operations(llfuse.Operations):  # type: ignore[misc]  # llfuse has no types
    """The handlers, named by llfuse."""

    def __init__(self, vfs: Vfs, crew: Crew) -> None:
        super().__init__()
        self._vfs = vfs
        self._crew = crew
        self.requests = 0

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        """Around what may wait: lock released, and somebody else receives."""
        with self._crew.waiting(), llfuse.lock_released:
            yield

    def _entry(self, attr: Any) -> llfuse.EntryAttributes:
        if self._crew.surplus:
            entry = _BenchingEntry()
            entry.crew = self._crew
        else:
            entry = llfuse.EntryAttributes()
        kind = attr.kind
        size = attr.size
        mtime_ns = attr.mtime_ns
        seconds = self._vfs.seconds_until(attr.expires_ns)
        entry.st_ino = attr.nodeid
        entry.st_mode = FILE_TYPE[kind] | attr.perm
        entry.st_nlink = attr.nlink
        entry.st_uid = attr.uid
        entry.st_gid = attr.gid
        entry.st_size = size
        entry.st_blocks = -(-size // 512)
        entry.st_mtime_ns = mtime_ns
        entry.st_ctime_ns = mtime_ns
        entry.st_atime_ns = mtime_ns
        entry.entry_timeout = seconds
        entry.attr_timeout = seconds
        return entry

    @_translated
    def lookup(self, parent: int, name: bytes, ctx: Any) -> llfuse.EntryAttributes:
        vfs = self._vfs
        try:
            attr = vfs.lookup_now(NodeId(parent), name)
            if attr is None:
                with self._waiting():
                    attr = vfs.lookup(NodeId(parent), name)
        except NoSuchEntry:
            # Node number 0 is a negative answer that the kernel may keep.
            absent = llfuse.EntryAttributes()
            absent.st_ino = 0
            absent.entry_timeout = vfs.negative_seconds(NodeId(parent))
            return absent
        return self._entry(attr)

    @_translated
    def getattr(self, nodeid: int, ctx: Any) -> llfuse.EntryAttributes:
        attr = self._vfs.getattr_now(NodeId(nodeid))
        if attr is None:
            with self._waiting():
                attr = self._vfs.getattr(NodeId(nodeid))
        return self._entry(attr)

    @_translated
    def forget(self, forgotten: list[tuple[int, int]]) -> None:
        for nodeid, count in forgotten:
            self._vfs.forget(NodeId(nodeid), count)

    @_translated
    def opendir(self, nodeid: int, ctx: Any) -> int:
        with self._waiting():
            return self._vfs.opendir(NodeId(nodeid))

    def readdir(self, handle: int, cookie: int) -> Iterator[tuple[bytes, llfuse.EntryAttributes, int]]:
        # A generator fails where it is read, which a wrapper around the call would not see.
        self.requests += 1
        try:
            for entry in self._vfs.readdir(handle, cookie):
                attributes = llfuse.EntryAttributes()
                attributes.st_ino = entry.nodeid
                attributes.st_mode = FILE_TYPE[Kind(entry.kind)]
                yield entry.name, attributes, entry.cookie
        except JindoError as error:
            raise llfuse.FUSEError(refused("readdir", error)) from None
        except Exception:
            LOG.exception("readdir failed unexpectedly; the caller got EIO")
            raise llfuse.FUSEError(errno.EIO) from None

    @_translated
    def releasedir(self, handle: int) -> None:
        self._vfs.releasedir(handle)

    @_translated
    def open(self, nodeid: int, flags: int, ctx: Any) -> int:
        if (flags & os.O_ACCMODE) != os.O_RDONLY:
            raise ReadOnly("this mount is read-only")
        if not self._vfs.open_now(NodeId(nodeid)):
            self._vfs.open(NodeId(nodeid))
        return nodeid

    @_translated
    def read(self, handle: int, offset: int, size: int) -> bytes:
        data = self._vfs.read_now(NodeId(handle), offset, size)
        if data is None:
            with self._waiting():
                data = self._vfs.read(NodeId(handle), offset, size)
        if self._crew.surplus:
            last = _BenchingBytes(data)
            last.crew = self._crew
            return last
        return data

    @_translated
    def flush(self, handle: int) -> None:
        # ENOSYS tells the kernel never to ask again: nothing is ever dirty here, and each close saves a request.
        raise llfuse.FUSEError(errno.ENOSYS)

    @_translated
    def release(self, handle: int) -> None:
        self._vfs.release(NodeId(handle))

    @_translated
    def readlink(self, nodeid: int, ctx: Any) -> bytes:
        with self._waiting():
            return self._vfs.readlink(NodeId(nodeid))

    @_translated
    def access(self, nodeid: int, mode: int, ctx: Any) -> bool:
        if mode & os.W_OK:
            raise ReadOnly("this mount is read-only")
        return True  # default_permissions: the kernel has checked the rest

    @_translated
    def getxattr(self, nodeid: int, name: bytes, ctx: Any) -> bytes:
        value = self._vfs.getxattr_now(NodeId(nodeid), name)
        if value is None:
            with self._waiting():
                value = self._vfs.getxattr(NodeId(nodeid), name)
        return value

    @_translated
    def listxattr(self, nodeid: int, ctx: Any) -> list[bytes]:
        return self._vfs.listxattr(NodeId(nodeid))

    @_translated
    def statfs(self, ctx: Any) -> llfuse.StatvfsData:
        with self._waiting():
            figures = self._vfs.statfs()
        data = llfuse.StatvfsData()
        data.f_bsize = data.f_frsize = STATFS_BLOCK_BYTES
        data.f_blocks = -(-figures.size // STATFS_BLOCK_BYTES)
        data.f_bfree = data.f_bavail = 0
        data.f_files = figures.files
        data.f_ffree = data.f_favail = 0
        data.f_namemax = 255
        return data


@final
class LlfuseTransport:
    """One mount by llfuse; a process can hold only one (llfuse keeps it in module state)."""

    name = "llfuse"

    def __init__(self, vfs: Vfs, config: TransportConfig) -> None:
        self._vfs = vfs
        self._config = config
        self._mounted = False
        self._crew = Crew(self._hire, config.request_threads_max)
        self._operations = _Operations(vfs, self._crew)
        self._notices: Notices | None = None
        self._hired: list[threading.Thread] = []
        self.notes: list[str] = []

    @property
    def requests(self) -> int:
        """Requests of the kernel taken up since the mount began."""
        return self._operations.requests

    @property
    def request_threads(self) -> int:
        """Threads of the crew."""
        return len(self._crew)

    def mount(self) -> None:
        """Attach to the mount point; raises MountPointError."""
        options = {
            f"fsname={safe_option(self._config.source)}",
            "subtype=jindopy",
            "ro",
            "default_permissions",
            f"max_read={READ_BYTES_MAX}",
            f"max_background={BACKGROUND_MAX}",
        }
        if self._config.allow_other:
            options.add("allow_other")
        try:
            llfuse.init(self._operations, self._config.mount_point, options)
        except RuntimeError as error:
            raise MountPointError(
                f"cannot mount at {self._config.mount_point}: {error}; run 'jindopy doctor' to see what is missing"
            ) from None
        self._mounted = True
        self._notices = Notices(entry=llfuse.invalidate_entry, content=llfuse.invalidate_inode)
        self._vfs.notify_through(self._notices)

    def set_read_ahead(self) -> None:
        """Raise the kernel's read-ahead of this mount, which needs root; a note says when it could not be done."""
        self.notes += raise_read_ahead(self._config.mount_point, self._config.kernel_read_ahead_bytes)

    def serve(self) -> None:
        """Answer requests until the mount is detached or its connection aborted."""
        try:
            self._receive()
        finally:
            for thread in self._hired:
                thread.join()

    def _hire(self) -> None:
        """One more thread in llfuse's loop on the same session."""
        thread = threading.Thread(target=self._receive, name="fuse", daemon=True)
        self._hired.append(thread)
        thread.start()

    def _receive(self) -> None:
        try:
            llfuse.main(workers=1, handle_signals=False)
        finally:
            # The session has ended: whoever sits on the bench, maybe the main thread, must see it too.
            self._crew.dismiss()

    def close(self) -> None:
        """Detach if still attached and free the session, after ``serve`` has returned; harmless when repeated."""
        if self._notices is not None:
            self._notices.close()
        if self._mounted:
            self._mounted = False
            llfuse.close(unmount=True)
