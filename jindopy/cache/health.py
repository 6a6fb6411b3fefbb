"""Disk states of a cache tier and what moves between them.  P: told the time and the outcomes, decides only.

    normal ──error──▶ unstable ──5 errors in a row──▶ down
      ▲                  │  ▲                          │
      └──20 good writes──┘  └──── after 30 s, one try ─┘

Unstable still takes data (an error now and then is a bad sector or a full journal); down takes none, so that readers
stop paying for a dead disk, and is tried again now and then because controllers and network disks come back.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

ERRORS_TO_DOWN = 5
"""A disk that refuses five writes in a row is gone, not unlucky."""
SUCCESSES_TO_NORMAL = 20
"""About as many blocks as one small read burst writes: one good write proves little."""
RETRY_SECONDS = 30.0
"""One try every 30 s costs nothing and finds a re-attached disk within the minute."""


class DiskState(enum.Enum):
    """How far a disk is trusted."""

    NORMAL = "normal"
    UNSTABLE = "unstable"
    DOWN = "down"


@dataclass
class DiskHealth:
    """State of one disk.  Not locked: belongs to whoever owns the tier."""

    state: DiskState = DiskState.NORMAL
    errors_in_row: int = 0
    successes_in_row: int = 0
    down_since: float = 0.0

    def may_write(self, now: float) -> bool:
        """Whether to try a write at ``now``; when down, one try every RETRY_SECONDS."""
        if self.state is not DiskState.DOWN:
            return True
        if now - self.down_since < RETRY_SECONDS:
            return False
        self.down_since = now
        return True

    def succeeded(self) -> None:
        """A write went well."""
        self.errors_in_row = 0
        self.successes_in_row += 1
        if self.state is DiskState.DOWN:
            self.state = DiskState.UNSTABLE
        elif self.state is DiskState.UNSTABLE and self.successes_in_row >= SUCCESSES_TO_NORMAL:
            self.state = DiskState.NORMAL

    def failed(self, now: float) -> None:
        """A write failed for a reason other than lack of room."""
        self.successes_in_row = 0
        self.errors_in_row += 1
        if self.errors_in_row >= ERRORS_TO_DOWN:
            self.state = DiskState.DOWN
            self.down_since = now
        elif self.state is DiskState.NORMAL:
            self.state = DiskState.UNSTABLE
