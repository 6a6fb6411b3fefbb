"""Compact table of the inodes and dentries a mount knows: at most 250 bytes an inode, answers without Python objects.

A *node* is one version of one inode under a NodeId.  The first version seen of an inode has ``nodeid == inode``; when
its version changes, ``put`` hands out a new number from 2**63 up, and the old node stays readable until forgotten.  No
number is ever used for two versions, though a version that went and came back may get another number.  A node lives
while the kernel holds it (lookup count), while it is its parent's current child, or while it is held by ``hold``.

Versions are told apart by (inode, version, kind, token).  A directory has one version only and no token: as long as a
name stays the same directory, its number and its children stay.  A directory that loses its name loses its children.

Directories carry the generation and the expiry of what is known of their children; a child expires by itself.  Times
are CLOCK_MONOTONIC nanoseconds given by the caller.  One lock guards the table; no call blocks on anything else.
"""

from typing import final

MISS: int
"""lookup: nothing is known (or it has expired): ask the namespace."""
NEGATIVE: int
"""lookup: a complete, unexpired listing has no such name."""

@final
class NodeAttr:
    """What was known of a node when it was asked for.  A table makes it, in a third of a NamedTuple's time."""

    @property
    def nodeid(self) -> int: ...
    @property
    def inode(self) -> int: ...
    @property
    def parent(self) -> int:
        """nodeid of the directory; the root's is its own, 0: the node has lost its name."""
    @property
    def kind(self) -> int:
        """``base.ident.Kind``"""
    @property
    def perm(self) -> int:
        """Permission bits."""
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def nlink(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def expires_ns(self) -> int:
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

        Known already (same version): attributes and expiry are refreshed, the number stays.  Raises KeyError when
        ``parent`` is unknown or no directory, ValueError on a name of 0 or over 255 bytes, a token of over 1024, an
        unknown kind, an inode that is not 1 to 2**63 - 1.
        """
    def touch_root(self, mtime_ns: int, expires_ns: int) -> None:
        """Attributes of the root, which no ``put`` brings: those of the constructor never expire."""
    def remove(self, parent: int, name: bytes) -> int:
        """Unlink a name; returns the nodeid it had, or 0.  The node lives on while the kernel or ``hold`` keeps it."""
    def lookup(self, parent: int, name: bytes, now_ns: int, count: bool) -> NodeAttr | int:
        """The child's attributes, MISS or NEGATIVE.  With ``count`` a hit raises the lookup count by one."""
    def attr(self, nodeid: int, count: bool = False) -> NodeAttr:
        """The node's attributes, expired or not; ``count`` as in ``lookup``.  Raises KeyError."""
    def name(self, nodeid: int) -> bytes:
        """The node's name in its parent, or the last one it had; the root's is empty.  Raises KeyError."""
    def source(self, nodeid: int) -> tuple[int, bytes]:
        """(mount, token) of a node.  Raises KeyError."""
    def path(self, nodeid: int) -> list[bytes]:
        """Names from the root to the node, by current parents.  Raises KeyError, also when one has lost its name."""
    def hold(self, nodeid: int) -> None:
        """Keep the node until as many ``unhold``, and of a directory all children.  Raises KeyError."""
    def unhold(self, nodeid: int) -> None:
        """Raises KeyError, ValueError when it is not held."""
    def forget(self, nodeid: int, count: int) -> bool:
        """The kernel gives back ``count`` lookups; True when none is left.  An unknown number is True too."""
    def set_dir(self, nodeid: int, generation: int, expires_ns: int, complete: bool) -> list[int]:
        """The children ``put`` since ``begin_dir`` are all there are (``complete``) as of ``generation``.

        Children not put since then are removed; returns their nodeids (for kernel invalidation).  Not ``complete``:
        nothing is removed and no name is answered NEGATIVE.  Raises KeyError.
        """
    def begin_dir(self, nodeid: int) -> None:
        """Start marking children for the next ``set_dir``.  What is known stays answerable meanwhile.

        Begun again without ``set_dir``, the marks start anew.  Raises KeyError.
        """
    def dir_state(self, nodeid: int) -> tuple[int, int, bool]:
        """(generation, expires_ns, complete); (0, 0, False) when never listed.  Raises KeyError."""
    def expire_dir(self, nodeid: int) -> None:
        """Treat what is known of the children, and of their absence, as expired.  Raises KeyError."""
    def children(self, nodeid: int) -> list[int]:
        """nodeids of the current children, in the order their names were first put.  Raises KeyError."""
    def directories_of(self, inode: int) -> list[int]:
        """nodeids under which an inode is known as a directory: news that name an inode concern all of them."""
    def known_by_token(self, token: bytes) -> list[int]:
        """Numbers of files with this token that the kernel has looked up and not forgotten; a walk over all nodes."""
    def trim(self, target_bytes: int, ask_max: int = 0) -> list[int]:
        """Drop children of the least recently used directories, expired or not, until within ``target_bytes``.

        Those stay that the kernel has looked up, that ``hold`` keeps or whose directory it keeps, and directories that
        have children.  Returns nodeids of at most ``ask_max`` files which only the kernel keeps: if it forgets them,
        the next trim can drop them.  None is returned twice unless it is looked up again.
        """
    @property
    def count(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...
