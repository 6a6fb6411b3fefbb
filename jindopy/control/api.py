"""What a running mount can be asked, as types.  P: shared by the daemon, the socket's two ends and the command line.

Everything here is turned into JSON by ``control.protocol``: fields are numbers, strings, lists and other dataclasses
of this file.  Paths are ``str`` with surrogateescape for bytes that are no UTF-8; sizes are bytes, times seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

PROTOCOL_VERSION = 1
"""Rises when a request or answer changes its meaning; both ends name theirs and refuse what they do not speak."""


@dataclass(frozen=True)
class MountStatus:
    """One UFS of the mount."""

    path: str
    uri: str
    endpoint: str
    consistency: str
    """``strong`` (etags) or ``weak`` (size and time only)."""
    files: int
    """Files the namespace knows."""
    size_bytes: int
    """Their sum."""
    cached_bytes: int
    cached_files: int
    ttl_seconds: float


@dataclass(frozen=True)
class TierStatus:
    """One cache tier."""

    name: str
    path: str
    quota_bytes: int
    used_bytes: int
    cached_bytes: int
    pinned_bytes: int
    files: int
    high: float
    low: float
    state: str
    """``normal``, ``unstable`` or ``down``."""
    evicted_bytes: int


@dataclass(frozen=True)
class TrafficStatus:
    """What was read since the mount started."""

    read_bytes: int
    cache_read_bytes: int
    """Of these, from the local cache."""
    hit_ratio: float
    """By bytes; 1.0 when nothing was read."""
    ufs_gets: int
    ufs_lists: int
    ufs_heads: int
    ufs_bytes: int
    saved_bytes: int
    """Bytes answered without asking the UFS."""
    retries: int
    crc_failures: int
    stale_reads: int
    fuse_requests: int = 0
    """Requests of the kernel answered, of every kind: what it answers from its own caches is not among them."""
    saved_gets: int = 0
    """Reads answered from the cache: without one, each is a request to the UFS."""
    bad_objects: int = 0
    """Objects of several blocks whose checksum as a whole was wrong: dropped, and taken back from the kernel."""
    passed_opens: int = 0
    """Cached files opened that the kernel reads by itself.  What it reads of them is in no other figure here."""
    passed_bytes: int = 0
    """Their sizes, each as often as it was opened: the most that can have been read so by one program each."""


@dataclass(frozen=True)
class MemoryPart:
    """What takes memory, and how much it may."""

    name: str
    """``buffers``, ``names`` (tree and index of the cache) or ``requests``."""
    used_bytes: int
    budget_bytes: int


@dataclass(frozen=True)
class DaemonStatus:
    """Answer to ``status``."""

    mount_id: str
    mount_point: str
    pid: int
    version: str
    transport: str
    uptime_seconds: float
    mounts: list[MountStatus]
    tiers: list[TierStatus]
    traffic: TrafficStatus
    open_files: int
    """Files with a lease; with the native transport, which is not told of opens and closes, those read last."""
    memory_bytes: int
    """Resident memory of the daemon."""
    skipped_keys: int
    notes: list[str] = field(default_factory=list)
    """What the user should know: read-ahead not set, weak consistency, unstable disk ..."""
    memory_budget_bytes: int = 0
    """What ``--memory`` gives the process; 0: not told."""
    memory: list[MemoryPart] = field(default_factory=list)
    """Its largest parts; what the program itself takes is not among them."""


@dataclass(frozen=True)
class EntryInfo:
    """One file or directory as ``ls`` and ``stat`` show it."""

    path: str
    kind: str
    """``file``, ``directory``, ``symlink``"""
    size_bytes: int
    mtime_ns: int
    etag: str
    crc64: int | None
    cached_bytes: int
    pinned: bool
    ufs: str
    """URI of the object."""
    inode: int


@dataclass(frozen=True)
class LoadRequest:
    """What to load."""

    paths: list[str]
    """Paths below the mount point, globs allowed; empty: everything."""
    metadata: bool = True
    data: bool = True
    dry_run: bool = False


@dataclass(frozen=True)
class LoadFailure:
    """A file that could not be loaded."""

    path: str
    error: str


@dataclass(frozen=True)
class LoadProgress:
    """State of a load, sent several times a second; the last one has ``done``."""

    job: str
    phase: str
    """``listing``, ``loading``, ``complete``, ``failed``, ``cancelled``"""
    done: bool
    directories: int
    files_total: int
    files_done: int
    bytes_total: int
    bytes_done: int
    """Verified resident."""
    bytes_fetched: int
    """Of these, fetched by this load."""
    failures: list[LoadFailure] = field(default_factory=list)
    """At most 1,000; only on the last message."""
    failure_count: int = 0
    notes: list[str] = field(default_factory=list)
    """What the user should know before the load is over; none is ever taken back."""


@dataclass(frozen=True)
class PathsResult:
    """What evict, pin or unpin did."""

    files: int
    bytes: int
    messages: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ScrubProgress:
    """State of a check of the cache."""

    done: bool
    files_total: int
    files_checked: int
    blocks_checked: int
    blocks_bad: int
    bad_files: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class OpenFileInfo:
    """A file a process keeps open below the mount point."""

    pid: int
    command: str
    path: str


class DaemonApi(Protocol):
    """What a mount's daemon offers over its control socket.  Raises the JindoError family."""

    def status(self) -> DaemonStatus: ...

    def list_dir(self, path: str) -> list[EntryInfo]:
        """Children of a directory, sorted by name; a file gives itself."""
        ...

    def stat(self, path: str) -> EntryInfo: ...

    def load(self, request: LoadRequest) -> Iterator[LoadProgress]:
        """Run or join a load; closing the iterator leaves the load running."""
        ...

    def cancel_load(self, job: str) -> bool: ...

    def evict(self, paths: list[str]) -> PathsResult: ...

    def pin(self, paths: list[str]) -> PathsResult: ...

    def unpin(self, paths: list[str]) -> PathsResult: ...

    def scrub(self) -> Iterator[ScrubProgress]: ...

    def skipped_keys(self) -> list[tuple[str, str]]:
        """(object URI, reason) of listed keys that no path can hold."""
        ...

    def shutdown(self, drain_seconds: float) -> None:
        """Finish running requests, unmount, exit; returns at once."""
        ...
