"""Short ways to put files and directories into an inode table."""

from __future__ import annotations

from jindopy._ext.inodes import InodeTable, NodeAttr
from jindopy.base.ident import Kind

LATER_NS = 10**12
RENUMBERED = 2**63


def put_file(table: InodeTable, parent: int, name: bytes, inode: int, version: int = 1, token: bytes = b"") -> int:
    return table.put(
        parent, name, inode, version, Kind.FILE, 0o644, 0, 0, 1, 10, 0, 1, token or b"etag%d" % version, LATER_NS
    )


def put_dir(table: InodeTable, parent: int, name: bytes, inode: int) -> int:
    return table.put(parent, name, inode, 1, Kind.DIRECTORY, 0o755, 0, 0, 1, 0, 0, 1, b"", LATER_NS)


def hit(table: InodeTable, parent: int, name: bytes, count: bool = False) -> NodeAttr:
    found = table.lookup(parent, name, 0, count)
    assert isinstance(found, NodeAttr)
    return found
