"""How one budget of memory is shared out.  P: figures in, figures out.

    budget ── base                what a mount takes that has done nothing yet
           ── fetch threads       a connection and a stack each
           ── requests            threads that wait for the store on behalf of the kernel's requests
           ── names               the inode table and the index of the cache
           ── reserve             open files, queues, what the allocator loses
           ── buffers             blocks on their way from the store: all that is left, at least BUFFER_BLOCKS_MIN

Read-ahead of all files together asks for no more than there are buffers, so what is fetched ahead can be held once it
comes, and for no more than a part of the cache, or it would push itself out before it is read.  A small budget has
fewer threads: each GET fills one block at a time, and half of the buffers are for readers and what they are handed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jindopy.base.ident import BLOCK_BYTES

BASE_BYTES: Final = 46 << 20
"""45.7 MiB of anonymous memory after the start with Python 3.11 (bench/scenarios/test_read_memory.py tells it)."""
FETCH_THREAD_BYTES: Final = 256 << 10
"""Stack, connection and what Python keeps of it."""
REQUEST_THREAD_BYTES: Final = 320 << 10
"""132 KiB for the request, 128 for its answer, two stacks: 56 threads that all had read cost 16 MiB."""
REQUEST_THREADS_MAX: Final = 64
"""Requests that may wait for a store at a time before others queue behind them: 5 times what the kernel keeps in flight
for one sequential reader."""
REQUEST_THREADS_MIN: Final = 8
BUFFER_BLOCKS_MIN: Final = 8
REQUESTS_OF_REST: Final = 8
NAMES_OF_REST: Final = 4
RESERVE_OF_REST: Final = 8
AHEAD_OF_QUOTA: Final = 4
RECENT_OF_BUFFERS: Final = 8
RECENT_BYTES_MAX: Final = 8 * BLOCK_BYTES


@dataclass(frozen=True)
class MemoryShares:
    """Who gets how much."""

    budget_bytes: int
    request_threads: int
    fetch_threads: int
    names_bytes: int
    buffer_bytes: int
    recent_bytes: int
    """Of the buffers: blocks that could not be cached, kept for the reader's next request."""
    ahead_bytes: int
    """Windows of all files that read ahead, together."""


def share_memory(budget_bytes: int, fetch_threads: int, quota_bytes: int) -> MemoryShares:
    """The shares of a budget, for at most so many fetch threads and a cache of ``quota_bytes``."""
    while fetch_threads > 1 and fetch_threads > _buffer_blocks(budget_bytes, fetch_threads) // 2:
        fetch_threads -= 1
    rest = _rest(budget_bytes, fetch_threads)
    buffers = _buffer_blocks(budget_bytes, fetch_threads) * BLOCK_BYTES
    request_threads = rest // REQUESTS_OF_REST // REQUEST_THREAD_BYTES
    return MemoryShares(
        budget_bytes=budget_bytes,
        request_threads=max(REQUEST_THREADS_MIN, min(REQUEST_THREADS_MAX, request_threads)),
        fetch_threads=fetch_threads,
        names_bytes=rest // NAMES_OF_REST,
        buffer_bytes=buffers,
        recent_bytes=min(RECENT_BYTES_MAX, buffers // RECENT_OF_BUFFERS),
        ahead_bytes=min(buffers, quota_bytes // AHEAD_OF_QUOTA),
    )


def _rest(budget_bytes: int, fetch_threads: int) -> int:
    """What is left to share out."""
    return max(0, budget_bytes - BASE_BYTES - fetch_threads * FETCH_THREAD_BYTES)


def _buffer_blocks(budget_bytes: int, fetch_threads: int) -> int:
    rest = _rest(budget_bytes, fetch_threads)
    requests = min(rest // REQUESTS_OF_REST, REQUEST_THREADS_MAX * REQUEST_THREAD_BYTES)
    left = rest - requests - rest // NAMES_OF_REST - rest // RESERVE_OF_REST
    return max(BUFFER_BLOCKS_MIN, left // BLOCK_BYTES)
