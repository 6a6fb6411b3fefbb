"""What limits a measured rate: where the readers' time went.  P: figures in, judgement out.

Each possible limit has a bare loop whose rate is known: requests that bring one byte (the store's latency), many
connections that bring no more than a few (the link), the CPU time of the processes that took part, the same reads from
the cache's own disk.  A limit's *share* is the time its bare loop needs for the same work, divided by the time that
passed: 1.0 means that nothing else cost anything.  The largest share is the limit if it explains at least
``SHARE_MIN``; below that the time went to several things, and the row is called mixed.

Shares of things that go on at the same time (a link that fills while another thread computes) add up to more than 1.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final


class Limit(enum.StrEnum):
    """What a rate may be limited by."""

    LINK = "link"
    LATENCY = "store latency"
    CONNECTION = "one connection"
    STORE = "storage"
    DISK = "disk"
    SERVER = "file system"
    CPU = "CPU"
    MEMORY = "page cache"
    MIXED = "mixed"


@dataclass(frozen=True)
class Row:
    """One test with so many readers."""

    test: str
    state: str
    """``first``, or ``again``: the same reads once more, after a mount fetched what it had not cached."""
    readers: int
    operations: int
    """Finished reads, files, or listed entries."""
    requests: int
    """Times somebody was asked: as many as operations but for listings, whose pages hold many entries."""
    bytes: int
    """Received, unfinished operations included."""
    seconds: float
    median_seconds: float
    p99_seconds: float
    cpu_seconds: float
    """Of this process."""
    daemon_cpu_seconds: float = 0.0
    """Of the mount's daemon."""
    disk_bytes: int | None = None
    """What this process or the daemon had the disk read; None where that cannot be known."""
    store_bytes: int | None = None
    """What the daemon fetched; None without one."""
    store_requests: int = 0
    """How often the daemon asked the storage for anything."""
    served_bytes: int | None = None
    """What the daemon answered: the rest came from the kernel's page cache."""

    @property
    def bytes_per_second(self) -> float:
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def operations_per_second(self) -> float:
        return self.operations / self.seconds if self.seconds else 0.0

    @property
    def cpu_share(self) -> float:
        """Of the time.  Readers of one process share the GIL and, one at a time, wait while the daemon works; many
        keep both busy at once."""
        used = (self.cpu_seconds, self.daemon_cpu_seconds)
        return _share(sum(used) if self.readers == 1 else max(used), self.seconds)


@dataclass(frozen=True)
class Known:
    """What the bare loops said."""

    latency_seconds: float | None = None
    """A store's answer to a request for one byte, without the CPU time of asking; None where no store is asked."""
    link_bytes_per_second: float | None = None
    """None when more connections still brought more."""
    connection_bytes_per_second: float | None = None
    """What a single connection brought; None when nothing was gained by more."""
    served: bool = False
    """A file system on no disk of this machine: a server or a daemon, not ours, answers."""
    raw: dict[str, float] = field(default_factory=dict)
    """Of the cache's own disk, by ``raw_key``: bytes a second."""


@dataclass(frozen=True)
class Judged:
    """A row's limit, and the shares it was chosen from."""

    limit: Limit
    shares: dict[Limit, float]


SHARE_MIN: Final = 0.5
"""Below half of the time, calling one thing the limit would mislead: removing it gains less than the rest costs."""
SATURATED_GROWTH: Final = 1.25
"""Four times the connections that bring less than this have met the link; timing noise stays below."""
CPU_FULL: Final = 0.8
"""A plateau at such a CPU share says nothing about the link."""
FROM_MEMORY: Final = 0.9


def raw_key(test: str, readers: int) -> str:
    """Names a test in ``Known.raw``."""
    return f"{test} x{readers}"


def judge(row: Row, known: Known) -> Judged:
    """What limited this row."""
    shares = {Limit.CPU: row.cpu_share}
    waited = 1.0 - row.cpu_share
    if known.latency_seconds is not None:
        # A listing or stat that waits can wait for nothing but its answer, however long that takes to make.
        asked = max(row.requests, 1)
        bare = _share(asked * known.latency_seconds / row.readers, row.seconds)
        shares[Limit.LATENCY] = bare if row.bytes else waited
    if known.link_bytes_per_second:
        shares[Limit.LINK] = _share(row.bytes / known.link_bytes_per_second, row.seconds)
    if known.served:
        shares[Limit.SERVER] = waited
    if row.store_bytes is not None:
        asked_store = _part(row.store_bytes, row.bytes) if row.bytes else float(row.store_requests > 0)
        shares[Limit.STORE] = asked_store * waited
    if row.disk_bytes is not None:
        from_disk = _part(row.disk_bytes, row.bytes)
        raw = known.raw.get(raw_key(row.test, row.readers))
        shares[Limit.DISK] = from_disk * (_share(row.bytes / raw, row.seconds) if raw else waited)
    if from_memory(row) >= FROM_MEMORY:
        return Judged(Limit.MEMORY, shares)
    limit = max(shares, key=lambda name: shares[name])
    if shares[limit] >= SHARE_MIN:
        return Judged(limit, shares)
    if known.connection_bytes_per_second:
        shares[Limit.CONNECTION] = _share(row.bytes / (row.readers * known.connection_bytes_per_second), row.seconds)
        if shares[Limit.CONNECTION] >= SHARE_MIN:
            return Judged(Limit.CONNECTION, shares)
    return Judged(Limit.MIXED, shares)


def from_memory(row: Row) -> float:
    """Part of the bytes that the kernel had in its page cache, as far as that is known."""
    if not row.bytes:
        return 0.0
    if row.served_bytes is not None:
        return 1.0 - _part(row.served_bytes, row.bytes)
    if row.disk_bytes is not None and row.store_bytes is None:
        return 1.0 - _part(row.disk_bytes, row.bytes)
    return 0.0


def link_of(ramp: Sequence[Row]) -> tuple[float | None, float | None]:
    """From the same reads by more and more connections: the link's rate and a single connection's, where they show."""
    if len(ramp) < 2 or not all(row.bytes for row in ramp):
        return None, None
    rates = [row.bytes_per_second for row in ramp]
    if rates[-1] >= SATURATED_GROWTH * rates[-2]:
        return None, rates[0]
    if ramp[-1].cpu_share >= CPU_FULL or ramp[-2].cpu_share >= CPU_FULL:
        return None, None
    return max(rates), rates[0] if max(rates) >= SATURATED_GROWTH * rates[0] else None


def latency_of(probes: Row) -> float:
    """Seconds that one request waits for the store: the median answer without the CPU time of asking."""
    if not probes.requests:
        return 0.0
    return max(0.0, probes.median_seconds - probes.cpu_seconds / probes.requests)


_ADVICE: Final = {
    Limit.LINK: "more connections bring no more bytes: the line to the store, or the store's own cap, is full",
    Limit.LATENCY: "readers wait for the store's first byte: more requests at one time, larger ones, or a store closer"
    " by; a cache takes this away",
    Limit.CONNECTION: "a single connection brings no more, several do: raise the number of readers",
    Limit.STORE: "not in the cache yet, so the storage was asked: jindopy load brings it before it is read; bench the"
    " storage's address to see what limits that",
    Limit.DISK: "the disk reads no faster",
    Limit.SERVER: "whoever serves this file system, here or elsewhere, answers no faster",
    Limit.CPU: "the processes that took part had no CPU left; a process whose threads share a lock has one core",
    Limit.MEMORY: "the kernel had these bytes in memory: neither disk nor storage was measured",
    Limit.MIXED: "no single thing took half of the time",
}


def advice(limit: Limit) -> str:
    """What the limit means for a user."""
    return _ADVICE[limit]


def _share(seconds: float, passed: float) -> float:
    return min(1.0, seconds / passed) if passed > 0 else 0.0


def _part(some: int, whole: int) -> float:
    return min(1.0, some / whole) if whole else 0.0
