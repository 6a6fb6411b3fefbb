"""Compact table of the inodes and dentries a mount knows: at most 250 bytes an inode, answers without Python objects.

A *node* is one version of one inode under a NodeId.  The first version seen of an inode has ``nodeid == inode``; when
its version changes, ``put`` hands out a new number from 2**63 up, and the old node stays readable until forgotten.  No
number is ever used for two versions.  A node lives while the kernel holds it (lookup count), while it is its parent's
current child, or while it is held by ``hold``.

Directories carry the generation and the expiry of what is known of their children.  Times are CLOCK_MONOTONIC
nanoseconds given by the caller.  One lock guards the table; no call blocks on anything else.
"""

from typing import NamedTuple, final

MISS: int
"""lookup: nothing is known (or it has expired): ask the namespace."""
NEGATIVE: int
"""lookup: a complete, unexpired listing has no such name."""

class NodeAttr(NamedTuple):
    """What is known of a node."""

    nodeid: int
    inode: int
    parent: int
    """nodeid of the directory."""
    kind: int
    """``base.ident.Kind``"""
    perm: int
    """Permission bits."""
    uid: int
    gid: int
    nlink: int
    size: int
    mtime_ns: int
    version: int
    expires_ns: int
    """Until when the kernel may keep this answer."""

@final
class InodeTable:
    """The table.  ``root`` is created with nodeid 1."""

    def __init__(self, root_uid: int, root_gid: int, root_perm: int, root_mtime_ns: int) -> None: ...
    def put(
        self,
        parent: int,
        name: bytes,
        inode: int,
        version: int,
        kind: int,
        perm: int,
        uid: int,
        gid: int,
        nlink: int,
        size: int,
        mtime_ns: int,
        mount: int,
        token: bytes,
        expires_ns: int,
    ) -> int:
        """Make (parent, name) → this version the current child; returns its nodeid.

        Known already (same inode and version): attributes and expiry are refreshed, the number stays.
        Raises KeyError when ``parent`` is unknown or no directory, ValueError on a name of 0 or over 255 bytes.
        """
    def remove(self, parent: int, name: bytes) -> int:
        """Unlink a name; returns the nodeid it had, or 0.  The node lives on while the kernel or ``hold`` keeps it."""
    def lookup(self, parent: int, name: bytes, now_ns: int, count: bool) -> NodeAttr | int:
        """The child's attributes, MISS or NEGATIVE.  With ``count`` a hit raises the lookup count by one."""
    def attr(self, nodeid: int) -> NodeAttr:
        """Raises KeyError."""
    def name(self, nodeid: int) -> bytes:
        """The node's name in its parent; the root's is empty.  Raises KeyError."""
    def source(self, nodeid: int) -> tuple[int, bytes]:
        """(mount, token) of a node.  Raises KeyError."""
    def path(self, nodeid: int) -> list[bytes]:
        """Names from the root to the node, by current parents.  Raises KeyError."""
    def hold(self, nodeid: int) -> None: ...
    def unhold(self, nodeid: int) -> None: ...
    def forget(self, nodeid: int, count: int) -> None:
        """The kernel gives back ``count`` lookups."""
    def set_dir(self, nodeid: int, generation: int, expires_ns: int, complete: bool) -> list[int]:
        """The children ``put`` since ``begin_dir`` are all there are (``complete``) as of ``generation``.

        Children not put since then are removed; returns their nodeids (for kernel invalidation).
        """
    def begin_dir(self, nodeid: int) -> None:
        """Start marking children for the next ``set_dir``.  What is known stays answerable meanwhile."""
    def dir_state(self, nodeid: int) -> tuple[int, int, bool]:
        """(generation, expires_ns, complete); (0, 0, False) when never listed.  Raises KeyError."""
    def expire_dir(self, nodeid: int) -> None:
        """Treat what is known of the children as expired."""
    def children(self, nodeid: int) -> list[int]:
        """nodeids of the current children, in the order they were first put.  Raises KeyError."""
    def trim(self, target_bytes: int, now_ns: int) -> int:
        """Drop expired directories' children that nobody holds until below ``target_bytes``; returns bytes freed."""
    @property
    def count(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...
