"""Serves blocks of a block store on connections that somebody else opened and greeted."""

from collections.abc import Iterable
from typing import final

from jindopy._ext.blockstore import BlockStore

REQUESTS_MAX: int
"""Requests in flight on a connection."""

@final
class BlockServer:
    """A native thread a connection, which never takes the GIL."""

    def __init__(self, store: BlockStore) -> None: ...
    def adopt(self, fd: int, owners: Iterable[int]) -> None:
        """Serve on a copy of this connected socket what belongs to these owner tags.

        Raises ValueError after ``close``, OSError when there is no thread for it.
        """
    @property
    def connections(self) -> int:
        """How many are open."""
    def counters(self) -> dict[str, int]:
        """Since start: blocks, bytes, missing (blocks), withdrawn (blocks evicted while they were sent), refused
        (requests that ended in an error), violations (connections ended for what they sent)."""
    def close(self) -> None:
        """End all connections and their threads; before the store's own.  Harmless when repeated."""
