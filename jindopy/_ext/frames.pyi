"""The data plane's frames as bytes (docs/FORMATS.md): a parser that is fed in any cuts and does no I/O."""

from typing import final

@final
class FrameParser:
    """Takes bytes, returns frames.  ``server``: it reads what clients send, else what servers do."""

    def __init__(self, server: bool, greeted: bool = False) -> None:
        """``greeted``: the opening frame was read by somebody else."""
    def feed(self, data: bytes) -> list[tuple[int, int, int, tuple[int, ...], bytes]]:
        """Frames that are complete now: kind, request, code, numbers, bytes, as ``dataplane.frames.Frame`` names them.

        After a violation no more come, and ``fault`` names it.
        """
    @property
    def fault(self) -> str:
        """Empty, or: ``kind``, ``size``, ``zero``, ``id``, ``field``, ``order``."""
    @property
    def idle(self) -> bool:
        """Whether what was fed ended with a frame's end."""
