"""What a mount's daemon is told at its start, complete and checked.  P.

``cli.mount`` builds a ``MountSettings`` from files, environment and flags (``config.load``, ``config.rationalize``) and
starts ``python -m jindopy.modes.mount --settings-fd N --ready-fd M``:

    N   gives the settings as one JSON document, then end of file
    M   takes one JSON line, a ``Readiness``, once the mount answers a stat or has failed; left out with
        ``foreground``, where the caller has become the daemon: it writes ``mounted_line`` to standard error instead

No secret is ever part of the settings: credentials come from the environment the daemon inherits, or from the file or
directory that the options ``credentials.file`` and ``credentials.dir`` name; the daemon reads them itself
(``ufs.credentials``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from jindopy.base.errors import ConfigError
from jindopy.base.records import RecordError, decode, encode
from jindopy.base.units import format_size
from jindopy.config.memory import MemoryShares, share_memory


@dataclass(frozen=True)
class UfsMount:
    """One UFS of the mount."""

    uri: str
    """``oss://bucket/prefix``, ``local:///data``; never with secrets."""
    path: str
    """Where it shows in the tree, without leading or trailing slash; empty is the root."""
    options: dict[str, str] = field(default_factory=dict)
    """What the driver understands: ``fs.oss.endpoint``, ``fs.oss.region``, ``credentials.file`` ..."""


@dataclass(frozen=True)
class CacheTier:
    """One directory of cached blocks; the order of tiers is the order of preference."""

    name: str
    """MEM, SSD or HDD."""
    path: str
    quota_bytes: int
    high: float
    """Eviction starts when use passes ``high * quota_bytes`` ..."""
    low: float
    """... and stops below ``low * quota_bytes``."""
    min_free_bytes: int
    """The file system keeps at least so much free, whatever the quota."""


@dataclass(frozen=True)
class MountSettings:
    """All a daemon needs; every field is final, nothing is derived later."""

    mount_id: str
    """First 12 hex digits of BLAKE2b(real mount point)."""
    mount_point: str
    """Real path."""
    mounts: tuple[UfsMount, ...]
    tiers: tuple[CacheTier, ...]
    state_dir: str
    """Holds ``namespace.db``; of this mount alone."""
    run_dir: str
    """Holds ``<mount_id>.sock`` (``control_socket``); shared by the user's mounts."""
    log_file: str
    """Empty: standard error."""
    log_format: str
    """``text`` (key=value) or ``json``."""
    log_level: str
    """``debug``, ``info``, ``warning`` or ``error``."""
    ttl_seconds: float
    """Metadata is believed so long; ``inf``: listed once and for ever."""
    uid: int
    gid: int
    umask: int
    """Taken from 0666 and 0777; the default 022 gives files 0644 and directories 0755."""
    allow_other: bool
    transport: str
    """``auto`` or the name of one."""
    passthrough: bool
    """Let the kernel read complete cache files by itself, where it can."""
    read_ahead_bytes_max: int
    """Most one open file reads ahead."""
    prefetch_bytes_max: int
    """Most that is fetched ahead of readers of small files and not yet opened; 0: nothing is."""
    kernel_read_ahead_bytes: int
    """For the mount's ``read_ahead_kb``; 0 leaves the kernel's default."""
    memory_bytes: int
    """Budget of the process; what MEM tiers hold is not part of it."""
    fetch_threads: int
    """Concurrent GETs."""
    list_threads: int
    """Concurrent listings."""
    request_timeout_seconds: float
    """Longest one FUSE request may wait for the UFS, tries included."""
    drain_seconds: float
    """SIGTERM waits so long for running requests."""
    foreground: bool
    """Stay attached to the terminal and log to standard error."""
    download_bytes_per_second: int = 0
    """Most that comes from object storage, for all that want it together; 0: no limit."""

    @property
    def memory_shares(self) -> MemoryShares:
        """The budget shared out."""
        return share_memory(self.memory_bytes, self.fetch_threads, sum(tier.quota_bytes for tier in self.tiers))

    @property
    def control_socket(self) -> str:
        """Where the daemon listens for the command line."""
        return f"{self.run_dir}/{self.mount_id}.sock"

    def mounted_line(self, pid: int) -> str:
        """What the user reads when the mount is there."""
        uris = " ".join(f"{mount.uri}=/{mount.path}" if mount.path else mount.uri for mount in self.mounts)
        caches = ", ".join(f"{format_size(tier.quota_bytes)} at {tier.path}" for tier in self.tiers)
        return f"mounted {uris} at {self.mount_point} (pid {pid}, cache {caches})"

    def to_json(self) -> str:
        """One JSON document."""
        return json.dumps(encode(self))

    @classmethod
    def from_json(cls, text: str) -> MountSettings:
        """Strictly the inverse; raises ConfigError."""
        try:
            return decode(cls, json.loads(text), "settings")
        except (RecordError, ValueError) as error:
            raise ConfigError(f"the daemon was started with bad settings: {error}") from None


@dataclass(frozen=True)
class Readiness:
    """The one line the daemon writes when it is ready or has given up."""

    ready: bool
    mount_id: str = ""
    pid: int = 0
    error: str = ""
    """One line with the fix, when not ready."""
    exit_code: int = 1
    notes: list[str] = field(default_factory=list)
    """What the user should know although the mount is there; one line each."""

    def to_line(self) -> str:
        """JSON with a newline at its end."""
        return json.dumps(encode(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Readiness:
        """Strictly the inverse; raises ConfigError."""
        try:
            return decode(cls, json.loads(line), "readiness")
        except (RecordError, ValueError) as error:
            raise ConfigError(f"the daemon's first line makes no sense: {error}") from None
