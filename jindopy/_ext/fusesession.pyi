"""A FUSE session whose requests are answered from memory without Python, and otherwise by ``Handlers``."""

from collections.abc import Sequence
from typing import Protocol, final, type_check_only

from jindopy._ext.blockstore import CacheFile
from jindopy._ext.fuseknown import KnownFiles
from jindopy._ext.fuseopen import Opener

@type_check_only
class Listing(Protocol):
    """An open directory."""

    @property
    def directory(self) -> int: ...
    @property
    def parent(self) -> int: ...
    @property
    def children(self) -> Sequence[int]: ...

@type_check_only
class Handlers(Protocol):
    """What a session asks.  Answers are values or negative errnos; nothing is raised.  Called by any of its threads."""

    def hire(self) -> None:
        """Have one more thread call ``Session.serve``."""
    def failed(self, error: BaseException) -> None:
        """A handler raised, which is a bug: the caller got EIO."""
    def lookup(self, directory: int, name: bytes) -> int:
        """The node, its lookup count raised."""
    def absent_ns(self, directory: int) -> int:
        """How long the kernel may remember that a name is not there."""
    def refresh(self, nodeid: int) -> int:
        """Have the table know the node's attributes as of now; 0."""
    def open(self, nodeid: int) -> CacheFile | int:
        """The lease that a node's bytes are read from, until ``release``."""
    def read(self, nodeid: int, offset: int, size_bytes: int) -> bytes | int: ...
    def ahead(self, nodeid: int, offset: int, size_bytes: int) -> None:
        """A sequential read that needs no Python: what follows may be brought into memory, or fetched."""
    def release(self, nodeid: int) -> None: ...
    def not_passed(self, error: int) -> None:
        """The kernel refused to read cache files by itself, with this errno; it is asked no more."""
    def opendir(self, nodeid: int) -> int: ...
    def listing(self, handle: int) -> Listing | int: ...
    def name(self, nodeid: int) -> bytes | None:
        """What a child is called; None when it is gone."""
    def releasedir(self, handle: int) -> int: ...
    def readlink(self, nodeid: int) -> bytes | int: ...
    def statfs(self) -> tuple[int, int, int] | int:
        """(bytes a block, blocks, files)."""
    def listxattr(self, nodeid: int) -> bytes | int:
        """Names, each with its NUL."""
    def getxattr(self, nodeid: int, name: bytes) -> bytes | int: ...

@final
class Session(Opener):
    """One mount."""

    def __init__(
        self, fd: int, known: KnownFiles, handlers: Handlers, receivers: int, threads_max: int, passes: bool
    ) -> None:
        """``receivers``: how many threads receive while nobody waits for Python; in all at most ``threads_max``.

        ``passes``: have the kernel read complete cache files by itself, where it can.
        """
    def serve(self) -> bool:
        """Answer requests; False when enough other threads do, True when the session has ended."""
    @property
    def requests(self) -> int:
        """Taken up since the start."""
    def close(self) -> None:
        """Give all leases back; after the last ``serve`` has returned."""
