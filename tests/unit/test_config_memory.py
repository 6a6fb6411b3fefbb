"""How a budget of memory is shared out."""

from __future__ import annotations

from itertools import pairwise

import pytest

from jindopy.base.ident import BLOCK_BYTES
from jindopy.config.memory import (
    BASE_BYTES,
    FETCH_THREAD_BYTES,
    REQUEST_THREAD_BYTES,
    REQUEST_THREADS_MAX,
    MemoryShares,
    share_memory,
)

MIB = 1 << 20
QUOTA = 20 << 30


def promised(shares: MemoryShares) -> int:
    """What all parts may take together."""
    return (
        BASE_BYTES
        + shares.fetch_threads * FETCH_THREAD_BYTES
        + shares.request_threads * REQUEST_THREAD_BYTES
        + shares.names_bytes
        + shares.buffer_bytes
    )


@pytest.mark.parametrize("budget_mib", [64, 65, 80, 100, 128, 200, 256, 512, 1024, 100_000])
@pytest.mark.parametrize("fetch_threads", [1, 4, 16, 32, 64, 256])
def test_no_more_is_promised_than_there_is(budget_mib: int, fetch_threads: int) -> None:
    shares = share_memory(budget_mib * MIB, fetch_threads, QUOTA)
    assert promised(shares) <= shares.budget_bytes == budget_mib * MIB
    assert shares.names_bytes > 2 * MIB


@pytest.mark.parametrize("budget_mib", [64, 128, 256, 1024])
def test_every_get_has_a_block_to_fill_while_others_are_read(budget_mib: int) -> None:
    shares = share_memory(budget_mib * MIB, 256, QUOTA)
    assert shares.buffer_bytes % BLOCK_BYTES == 0
    assert 2 * shares.fetch_threads * BLOCK_BYTES <= shares.buffer_bytes
    assert BLOCK_BYTES <= shares.recent_bytes <= shares.buffer_bytes // 8


def test_nobody_gets_less_of_more() -> None:
    shares = [share_memory(budget * MIB, 32, QUOTA) for budget in range(64, 600)]
    for smaller, larger in pairwise(shares):
        assert smaller.names_bytes <= larger.names_bytes + 2 * MIB  # another fetch thread may cost a little
        assert smaller.request_threads <= larger.request_threads + 1
        assert smaller.fetch_threads <= larger.fetch_threads
    assert shares[0].request_threads < shares[-1].request_threads == REQUEST_THREADS_MAX


def test_what_was_asked_for_is_not_exceeded() -> None:
    assert share_memory(1 << 30, 3, QUOTA).fetch_threads == 3


def test_read_ahead_fits_the_buffers_and_the_cache() -> None:
    assert share_memory(256 * MIB, 32, QUOTA).ahead_bytes == share_memory(256 * MIB, 32, QUOTA).buffer_bytes
    assert share_memory(256 * MIB, 32, 64 * MIB).ahead_bytes == 16 * MIB
