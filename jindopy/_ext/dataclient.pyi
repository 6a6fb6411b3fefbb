"""Fetches blocks over a connection that somebody else opened and greeted: many requests in flight, bytes straight into
block buffers, checked on arrival without the GIL."""

from collections.abc import Sequence
from typing import final

from jindopy._ext.iobuf import FillingBuffer, SealedBuffer

@final
class BlockLink:
    """One connection with a native thread that receives.  Safe for threads."""

    def __init__(self, fd: int, endpoint: str, requests_max: int) -> None:
        """On a copy of this connected socket; ``endpoint`` is its name in errors."""
    def start(
        self, cid: bytes, first_block: int, buffers: Sequence[FillingBuffer], timeout_seconds: float
    ) -> BlockRequest:
        """Ask for as many blocks as there are buffers, each of the length its block must have.

        Waits while too many requests are in flight.  Until the request ends the buffers are nobody else's.  Raises
        PeerGone, BadFrame, DeadlineExceeded.
        """
    @property
    def alive(self) -> bool: ...
    def close(self) -> None:
        """End the connection; requests in flight fail with PeerGone.  Harmless when repeated."""

@final
class BlockRequest:
    """What was asked for; one thread waits for it."""

    def wait(self) -> list[SealedBuffer | None]:
        """The blocks; None: the server has it not.  Buffers come back sealed or, of those, released.

        Raises DeadlineExceeded, BlockDamaged, TicketRefused, PeerGone, BadFrame, PeerError (of the server's disk); the
        buffers are the caller's again then, unsealed.
        """
    def cancel(self) -> None:
        """Give up: the buffers are the caller's again when this returns.  Harmless when repeated or too late."""

def live_counts() -> dict[str, int]:
    """``links`` and ``requests`` alive in this process."""
