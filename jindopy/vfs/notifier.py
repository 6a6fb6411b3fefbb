"""What the vfs tells the kernel, as a Protocol: a transport plugs in how."""

from __future__ import annotations

from typing import Protocol, final

from jindopy.base.ident import NodeId


class KernelNotifier(Protocol):
    """Takes back what the kernel has cached.  Must not block: the work is done by a thread that serves no requests."""

    def entry_changed(self, directory: NodeId, name: bytes) -> None:
        """The name now means another file, or none."""
        ...

    def content_changed(self, nodeid: NodeId) -> None:
        """What was answered to reads of this node may have been wrong."""
        ...


@final
class SilentNotifier:
    """For a vfs without a kernel."""

    def entry_changed(self, directory: NodeId, name: bytes) -> None:
        """Nobody caches anything."""

    def content_changed(self, nodeid: NodeId) -> None:
        """Likewise."""
