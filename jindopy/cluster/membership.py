"""Who is in the cluster.  P: a state machine that is told the time.

    heartbeat ──▶ present ──no heartbeat for LOST_SECONDS──▶ gone
                     └──leave──────────────────────────────▶ gone

A worker is named by an id it keeps with its cache, so that one that starts again gets back what it holds.  Two
processes that claim one id are a mistake (a copied cache directory): the newer address wins, and the log says so.
Weights are capacities: a worker with twice the room gets twice the extents.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple, final

from jindopy.base.errors import UsageError

HEARTBEAT_SECONDS: Final = 2.0
LOST_SECONDS: Final = 10.0
"""Five heartbeats: a master that lists a large directory, or a worker that swaps, is late by seconds."""
WORKERS_MAX: Final = 4096
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ADDRESS = re.compile(r"[A-Za-z0-9_.\[\]:-]{1,255}:[0-9]{1,5}")


class WorkerFacts(NamedTuple):
    """What a worker says of itself."""

    id: str
    data_address: str
    rpc_address: str
    capacity_bytes: int
    cached_bytes: int = 0
    files: int = 0

    def checked(self) -> WorkerFacts:
        """Itself; UsageError when no honest worker would say this."""
        if not _ID.fullmatch(self.id):
            raise UsageError("a worker's id is 1 to 64 letters, digits, dots, dashes and underscores")
        for address in (self.data_address, self.rpc_address):
            if not _ADDRESS.fullmatch(address) or int(address.rpartition(":")[2]) > 65535:
                raise UsageError(f"worker {self.id}: an address is HOST:PORT")
        if not 0 < self.capacity_bytes < 1 << 60:
            raise UsageError(f"worker {self.id}: a capacity is more than 0 and less than 1 EiB")
        return self

    @property
    def place(self) -> tuple[str, str, str, int]:
        """What placement depends on: others must be told when it changes."""
        return self.id, self.data_address, self.rpc_address, self.capacity_bytes


@dataclass
class _Present:
    facts: WorkerFacts
    seen_at: float


@final
class Membership:
    """The workers that are there.  Not locked: its owner calls from one thread at a time."""

    def __init__(self, lost_seconds: float = LOST_SECONDS) -> None:
        self._lost_seconds = lost_seconds
        self._present: dict[str, _Present] = {}

    def heartbeat(self, facts: WorkerFacts, now: float) -> bool:
        """A sign of life; True when others must be told.  Raises UsageError when there are too many workers."""
        known = self._present.get(facts.id)
        if known is None and len(self._present) >= WORKERS_MAX:
            raise UsageError(f"{WORKERS_MAX} workers are in the cluster, no more can join")
        self._present[facts.id] = _Present(facts, now)
        return known is None or known.facts.place != facts.place

    def leave(self, worker: str) -> bool:
        """It goes, in order; True when it was there."""
        return self._present.pop(worker, None) is not None

    def expire(self, now: float) -> list[str]:
        """Those that have been silent for too long, now gone."""
        lost = [worker for worker, one in self._present.items() if now - one.seen_at > self._lost_seconds]
        for worker in lost:
            del self._present[worker]
        return lost

    def workers(self) -> list[WorkerFacts]:
        """Who is there, by id."""
        return [self._present[worker].facts for worker in sorted(self._present)]


def weights(workers: list[WorkerFacts]) -> dict[str, float]:
    """For ``placement.rank``."""
    return {worker.id: float(worker.capacity_bytes) for worker in workers}
