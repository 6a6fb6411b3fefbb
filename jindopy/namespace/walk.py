"""Every file below a directory as the store knows it, in constant memory.

Depth first, a page of rows at a time: a frame a level holds what is left of its page, so memory grows with depth only.
Each page is read on its own, so a walk sees changes that happen meanwhile; what a listing found gone is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from jindopy.base.ident import Inode, Kind
from jindopy.namespace.api import Node
from jindopy.namespace.mounts import MountTable
from jindopy.namespace.sqlite_store import SqliteStore

_ROWS: Final = 1000


def walk_files(store: SqliteStore, mounts: MountTable, top: Inode, base: bytes) -> Iterator[tuple[bytes, Node]]:
    """(path, node) of files and symlinks below ``top``, whose own path is ``base``."""
    stack = [_directory(store, mounts, top, base + b"/" if base else b"")]
    while stack:
        step = next(stack[-1], None)
        if step is None:
            stack.pop()
            continue
        path, node = step
        if node.kind is Kind.DIRECTORY:
            stack.append(_directory(store, mounts, node.inode, path + b"/"))
        else:
            yield path, node


def _directory(store: SqliteStore, mounts: MountTable, directory: Inode, prefix: bytes) -> Iterator[tuple[bytes, Node]]:
    after = b""
    while True:
        rows = store.present_children(directory, after, _ROWS)
        for node in mounts.nodes(rows):
            yield prefix + node.name, node
        if len(rows) < _ROWS:
            return
        after = rows[-1][2]
