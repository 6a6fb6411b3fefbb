"""From a node to what is cached of it: for native callers; made once for a mount."""

from collections.abc import Sequence
from typing import final

from jindopy._ext.blockstore import BlockStore
from jindopy._ext.inodes import InodeTable

@final
class KnownFiles:
    """Which cache entry holds a node's version."""

    def __init__(
        self, table: InodeTable, blocks: BlockStore, mounts: Sequence[tuple[int, bytes, bytes, bytes, int]]
    ) -> None:
        """``mounts``: (id, path in the tree without slashes around it, prefix of keys, ufs_id, owner tag) of each."""
    def cid(self, nodeid: int) -> bytes | None:
        """Of the version that a node stands for; None when it is no file of a known mount, or has no name any more."""
