"""Who holds which extent, as the workers last said.  Soft state: a new master hears all of it again.

Bounds   EXTENTS_MAX entries, about 150 bytes each; what is told beyond that is not kept, which costs a report its
         completeness and nothing else: reads go by placement, not by this map.
Locks    One, held for dictionary work only.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final, NamedTuple, final

from jindopy.base.ident import Cid

EXTENTS_MAX: Final = 2_000_000


class Held(NamedTuple):
    """An extent of which a worker has something."""

    cid: Cid
    number: int
    cached_bytes: int


@final
class CacheMap:
    """See the module."""

    def __init__(self, extents_max: int = EXTENTS_MAX) -> None:
        self._extents_max = extents_max
        self._lock = threading.Lock()
        self._held: dict[str, dict[tuple[Cid, int], int]] = {}
        self._holders: dict[tuple[Cid, int], set[str]] = {}
        self._count = 0

    def told(self, worker: str, added: Iterable[Held], removed: Iterable[Held], *, everything: bool) -> None:
        """A worker's news; with ``everything`` what it told before is void."""
        with self._lock:
            if everything:
                self._forget(worker)
            held = self._held.setdefault(worker, {})
            for extent in removed:
                self._drop(worker, held, (extent.cid, extent.number))
            for extent in added:
                key = (extent.cid, extent.number)
                if key not in held:
                    if self._count >= self._extents_max:
                        continue
                    self._count += 1
                    self._holders.setdefault(key, set()).add(worker)
                held[key] = extent.cached_bytes

    def knows(self, worker: str) -> bool:
        """Whether it has told anything; False after this map's start: ask for everything."""
        with self._lock:
            return worker in self._held

    def gone(self, worker: str) -> None:
        """What it held cannot be asked for."""
        with self._lock:
            self._forget(worker)
            self._held.pop(worker, None)

    def holders(self, cid: Cid, extent: int) -> list[str]:
        """Workers that have some of an extent, those with most of it first."""
        key = (cid, extent)
        with self._lock:
            found = [(self._held[worker][key], worker) for worker in self._holders.get(key, ())]
        return [worker for _, worker in sorted(found, reverse=True)]

    def __len__(self) -> int:
        return self._count

    def _forget(self, worker: str) -> None:
        held = self._held.get(worker)
        if held is not None:
            for key in list(held):
                self._drop(worker, held, key)

    def _drop(self, worker: str, held: dict[tuple[Cid, int], int], key: tuple[Cid, int]) -> None:
        if held.pop(key, None) is None:
            return
        self._count -= 1
        holders = self._holders[key]
        holders.discard(worker)
        if not holders:
            del self._holders[key]
