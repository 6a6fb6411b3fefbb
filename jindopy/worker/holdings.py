"""What a worker tells of its cache: differences since it was last heard.

The cache is looked at every LOOK_SECONDS, by sums for each version (its first extent stands for a version that has
one), so a worker with a million files sends changes, not a million lines every two seconds.

Threads: called by the heart's alone.
"""

from __future__ import annotations

from typing import Final, final

from jindopy.base.clock import REAL_CLOCK, Clock
from jindopy.base.ident import EXTENT_BYTES, Cid
from jindopy.cache.store import Cache
from jindopy.cluster.cachemap import Held

LOOK_SECONDS: Final = 10.0
"""A look at a million files takes a second of CPU."""
NEWS_MAX: Final = 20_000
"""In one heartbeat, about 0.6 MB; the rest goes with the next."""


@final
class Holdings:
    """See the module."""

    def __init__(self, cache: Cache, clock: Clock = REAL_CLOCK) -> None:
        self._cache = cache
        self._clock = clock
        self._told: dict[Cid, int] = {}
        self._everything = True
        self._look_at = 0.0
        self._more = False

    def news(self) -> tuple[list[Held], list[Held], bool]:
        """Added or changed, removed, and whether that is to replace all that was told before."""
        now = self._clock.monotonic()
        if not self._everything and not self._more and now < self._look_at:
            return [], [], False
        self._look_at = now + LOOK_SECONDS
        replaces, self._everything, self._more = self._everything, False, False
        if replaces:
            self._told.clear()
        present = self._present()
        removed = [Held(cid, 0, 0) for cid in self._told.keys() - present.keys()]
        changed = [Held(cid, 0, size) for cid, size in present.items() if self._told.get(cid) != size]
        self._more = len(changed) + len(removed) > NEWS_MAX
        removed = removed[:NEWS_MAX]
        changed = changed[: NEWS_MAX - len(removed)]
        for held in removed:
            del self._told[held.cid]
        for held in changed:
            self._told[held.cid] = held.cached_bytes
        return changed, removed, replaces

    def _present(self) -> dict[Cid, int]:
        present = {}
        for cid in self._cache.cids():
            known = self._cache.peek(cid)
            if known is not None and known.cached_bytes and known.size <= EXTENT_BYTES:
                present[cid] = known.cached_bytes
        return present

    def unsent(self) -> None:
        """The last news did not arrive, or the master knows nothing: tell everything with the next."""
        self._everything = True
