"""What the processes of a cluster are told at their start, complete and checked.  P.

Made by ``cli.serve`` from files, environment and flags, like a mount's settings; a process takes them as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jindopy.config.memory import MemoryShares, share_memory
from jindopy.config.settings import CacheTier, UfsMount


@dataclass(frozen=True)
class LogSettings:
    """Where a service's log goes."""

    file: str = ""
    """Empty: standard error."""
    format: str = "text"
    level: str = "info"


@dataclass(frozen=True)
class ControlSettings:
    """Who may talk on the control plane, and how secretly; files, never their contents."""

    token_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    authority_file: str = ""
    plaintext: bool = False


@dataclass(frozen=True)
class MasterSettings:
    """A master's."""

    data_dir: str
    """Holds ``namespace.db`` and ``cluster.json``; one master owns it."""
    listen: str
    mounts: tuple[UfsMount, ...]
    ttl_seconds: float
    uid: int
    gid: int
    umask: int
    list_threads: int
    control: ControlSettings
    log: LogSettings = field(default_factory=LogSettings)


@dataclass(frozen=True)
class WorkerSettings:
    """A worker's."""

    master: str
    listen: str
    """Of the data plane."""
    rpc_listen: str
    """Of the control plane."""
    advertise_host: str
    """Where others reach this worker; empty: as it listens."""
    tiers: tuple[CacheTier, ...]
    memory_bytes: int
    fetch_threads: int
    control: ControlSettings
    download_bytes_per_second: int = 0
    log: LogSettings = field(default_factory=LogSettings)

    @property
    def memory_shares(self) -> MemoryShares:
        """The budget shared out."""
        return share_memory(self.memory_bytes, self.fetch_threads, self.capacity_bytes)

    @property
    def capacity_bytes(self) -> int:
        """Of all tiers; weighs the worker in placement."""
        return sum(tier.quota_bytes for tier in self.tiers)


@dataclass(frozen=True)
class ClientSettings:
    """What a FUSE client knows beyond a mount's settings."""

    master: str
    control: ControlSettings
