"""Reading without a mount: the same parts, asked from Python instead of by the kernel.

For machines without /dev/fuse, and for whoever wants one file of a dataset through the cache.  It owns the cache
directory while it runs, as a mount would.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from jindopy.base.errors import IsADirectory
from jindopy.base.ident import BLOCK_BYTES, ROOT_INODE, Kind, NodeId
from jindopy.config.settings import MountSettings
from jindopy.modes.parts import open_parts

READ_BYTES: Final = BLOCK_BYTES
"""One block a call: the fill's own unit."""


def read_file(settings: MountSettings, path: bytes) -> Iterator[bytes]:
    """Bytes of the file at ``path`` (slash-separated, below the root), through the cache.

    Raises NoSuchEntry, IsADirectory, NotADirectory, UfsError, CacheBusy.
    """
    with contextlib.ExitStack() as stack:
        vfs = open_parts(settings, stack).vfs
        nodeid = NodeId(ROOT_INODE)
        attr = vfs.getattr(nodeid)
        for name in filter(None, path.split(b"/")):
            attr = vfs.lookup(nodeid, name)
            nodeid = NodeId(attr.nodeid)
        if attr.kind == Kind.DIRECTORY:
            raise IsADirectory(f"{path.decode('utf-8', 'backslashreplace')!r} is a directory")
        vfs.open(nodeid)
        try:
            for offset in range(0, attr.size, READ_BYTES):
                yield vfs.read(nodeid, offset, READ_BYTES)
        finally:
            vfs.release(nodeid)
