"""Transports behind one interface, and the choice between them.

A transport carries the kernel's requests to a ``Vfs``.  ``auto`` takes the first of TRANSPORTS that can run here and
keeps the reasons why others could not, for ``doctor``; a transport asked for by name is a demand.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol

from jindopy.base.errors import ConfigError
from jindopy.vfs.operations import Vfs


@dataclass(frozen=True)
class TransportConfig:
    """What every transport is told."""

    mount_point: str
    source: str
    """Shown as the mount's device in /proc/mounts."""
    allow_other: bool
    kernel_read_ahead_bytes: int
    """0 leaves the kernel's default."""
    passthrough: bool = True
    """Let the kernel read complete cache files by itself, where transport and kernel can."""
    request_threads_max: int = 64
    """Requests that may wait for the store at a time; others queue in the kernel behind them."""


class Transport(Protocol):
    """One mount."""

    name: str
    notes: list[str]
    """What the user should know, such as read-ahead that could not be set."""

    @property
    def requests(self) -> int:
        """Requests of the kernel taken up since the mount began."""
        ...

    @property
    def request_threads(self) -> int:
        """Threads there are for them."""
        ...

    def mount(self) -> None:
        """Attach to the mount point; raises MountPointError."""
        ...

    def set_read_ahead(self) -> None:
        """Raise the kernel's read-ahead of this mount where permitted; the mount must be answering."""
        ...

    def serve(self) -> None:
        """Answer requests until the mount is detached or its connection aborted (``fuse.mounting``)."""
        ...

    def close(self) -> None:
        """Detach if still attached and free the session, after ``serve`` has returned; harmless when repeated."""
        ...


TRANSPORTS: dict[str, tuple[str, str]] = {
    # name: (module:class, what to do when it cannot be imported)
    "native": (
        "jindopy.fuse.native_transport:NativeTransport",
        "build the native modules again (pip install)",
    ),
    "llfuse": (
        "jindopy.fuse.llfuse_transport:LlfuseTransport",
        "install libfuse2 (apt-get install libfuse2 fuse3) and the llfuse package",
    ),
}


def safe_option(text: str) -> str:
    """A mount option holds neither commas nor control characters."""
    return "".join(char if char.isascii() and char.isprintable() and char not in ",\\ " else "_" for char in text)


def make_transport(name: str, vfs: Vfs, config: TransportConfig) -> Transport:
    """The transport called ``name``, or the first that can run for ``auto``; raises ConfigError with every reason."""
    if name != "auto" and name not in TRANSPORTS:
        raise ConfigError(f"no transport {name!r}; there are: auto, {', '.join(TRANSPORTS)}")
    reasons = []
    for candidate, (target, hint) in TRANSPORTS.items():
        if name not in ("auto", candidate):
            continue
        module, _, attribute = target.partition(":")
        try:
            made: Transport = getattr(importlib.import_module(module), attribute)(vfs, config)
        except ImportError as error:
            reasons.append(f"{candidate}: {error}; {hint}")
            continue
        return made
    raise ConfigError("no FUSE transport can run here: " + "; ".join(reasons))
