"""What the processes of one server share: counters, conditions, the line.  An anonymous mapping made before the fork.

Counters: each process writes only its own slots, sums are made by whoever asks, so counting takes no lock.
Conditions: a generation number and a JSON text; a process compares the number at each request and reads the text under
the lock when it moved.
The line: the time until which it is reserved.  A connection asks for one small chunk, is told when it may send it, and
asks again behind all others that wait, which makes the line fair.  A schedule (not a count of tokens) keeps the rate
exact although timers fire up to 1 ms late; BURST_NS is how much lateness may be made up.

The lock is a semaphore shared by the mapping's heirs; nothing blocks while it is held.
"""

from __future__ import annotations

import json
import mmap
import multiprocessing
import struct
from typing import Final

from jindopy.base.clock import Clock
from jindopy.emulator.faults import RULES_MAX, Conditions
from jindopy.emulator.routing import OPERATIONS

CONDITIONS_BYTES_MAX: Final = 64 << 10
BURST_NS: Final = 20_000_000
CHUNK_SECONDS: Final = 0.005
"""Share of the line one connection takes at a time: 60 kB at 12 MB/s, 500 kB at 100 MB/s."""

CHUNK_BYTES_MIN: Final = 16 << 10

COUNTERS: Final = (
    *OPERATIONS,
    "connections",
    "connections_open",
    "bytes_sent",
    "bytes_received",
    "answers_2xx",
    "answers_3xx",
    "answers_4xx",
    "answers_5xx",
    "faults",
)
"""Names of the slots of one process."""

SLOT: Final = {name: index for index, name in enumerate(COUNTERS)}

_GENERATION, _LENGTH, _LINE_OUT, _LINE_IN, _HITS = 0, 1, 2, 3, 4
_HEADER_WORDS: Final = _HITS + RULES_MAX


class Shared:
    """The mapping; make it before the processes."""

    def __init__(self, processes: int, conditions: Conditions, clock: Clock) -> None:
        self._clock = clock
        self._processes = processes
        self._words_bytes = 8 * (_HEADER_WORDS + processes * len(COUNTERS))
        self._map = mmap.mmap(-1, self._words_bytes + CONDITIONS_BYTES_MAX)
        self._words = memoryview(self._map)[: self._words_bytes].cast("Q")
        self._lock = multiprocessing.get_context("fork").Lock()
        self._seen = -1
        self._conditions = conditions
        self.set_conditions(conditions)

    def counters(self, process: int) -> memoryview:
        """The slots of one process."""
        start = _HEADER_WORDS + process * len(COUNTERS)
        return self._words[start : start + len(COUNTERS)]

    def sums(self) -> dict[str, int]:
        """All counters over all processes."""
        slots = [self.counters(process) for process in range(self._processes)]
        return {name: sum(slot[index] for slot in slots) for index, name in enumerate(COUNTERS)}

    def reset_counters(self) -> None:
        """Set all but the open connections to 0.  A request counted at the same moment may survive."""
        for process in range(self._processes):
            slot = self.counters(process)
            for index, name in enumerate(COUNTERS):
                if name != "connections_open":
                    slot[index] = 0

    # Conditions

    def conditions(self) -> Conditions:
        """The current conditions."""
        generation = self._words[_GENERATION]
        if generation != self._seen:
            with self._lock:
                generation = self._words[_GENERATION]
                start = self._words_bytes
                text = self._map[start : start + self._words[_LENGTH]]
            self._conditions = Conditions.from_json(json.loads(text))
            self._seen = generation
        return self._conditions

    def set_conditions(self, conditions: Conditions) -> None:
        """Change them for all processes; raises ValueError when their text is too long."""
        text = json.dumps(conditions.to_json()).encode()
        if len(text) > CONDITIONS_BYTES_MAX:
            raise ValueError("the conditions are too long")
        with self._lock:
            struct.pack_into(f"{len(text)}s", self._map, self._words_bytes, text)
            self._words[_LENGTH] = len(text)
            for rule in range(RULES_MAX):
                self._words[_HITS + rule] = 0
            self._words[_GENERATION] += 1

    def strike(self, rule: int, limit: int) -> bool:
        """Count a rule's strike; False when it has struck often enough."""
        with self._lock:
            if limit and self._words[_HITS + rule] >= limit:
                return False
            self._words[_HITS + rule] += 1
            return True

    def strikes(self) -> list[int]:
        """How often each rule has struck."""
        return list(self._words[_HITS : _HITS + RULES_MAX])

    # The line

    def reserve(self, size: int, rate_bytes: int, *, inward: bool = False) -> float:
        """Reserve the line for ``size`` bytes; returns the seconds until they may go."""
        word = _LINE_IN if inward else _LINE_OUT
        with self._lock:
            now_ns = round(self._clock.monotonic() * 1e9)
            start_ns = max(self._words[word], now_ns - BURST_NS)
            self._words[word] = start_ns + size * 1_000_000_000 // rate_bytes
        return max(0.0, (start_ns - now_ns) / 1e9)


def chunk_bytes(rate_bytes: int) -> int:
    """How much to send at a time on a line of that rate."""
    return max(CHUNK_BYTES_MIN, round(rate_bytes * CHUNK_SECONDS))
