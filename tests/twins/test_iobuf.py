"""Block buffers: the two states, the budget, the queue, views, signals."""

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import crc64_twin
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from jindopy._ext import crc64, iobuf
from jindopy.base.clock import RealClock
from jindopy.base.errors import CacheCorrupt
from jindopy.base.ident import BLOCK_BYTES

NOTHING = {"filling": 0, "sealed": 0, "bytes": 0}


_before: dict[str, int] = {}


def live() -> dict[str, int]:
    """What is alive beyond what was before the test: logs of earlier tests may keep errors, and those frames, alive."""
    return {name: count - _before[name] for name, count in iobuf.live_counts().items()}


@pytest.fixture(autouse=True)
def no_leak() -> Iterator[None]:
    gc.collect()
    _before.update(iobuf.live_counts())
    yield
    gc.collect()
    assert live() == NOTHING


def sealed_of(pool: iobuf.BufferPool, data: bytes) -> iobuf.SealedBuffer:
    buffer = pool.acquire(len(data))
    memoryview(buffer)[:] = data
    return buffer.seal()


def test_a_buffer_is_filled_sealed_and_read() -> None:
    pool = iobuf.BufferPool(100)
    buffer = pool.acquire(9)
    assert len(buffer) == 9
    assert live() == {"filling": 1, "sealed": 0, "bytes": 9}
    memoryview(buffer)[:] = b"123456789"
    block = buffer.seal(0x995DC9BBDF1939FA)
    assert live() == {"filling": 0, "sealed": 1, "bytes": 9}
    assert block.crc64 == 0x995DC9BBDF1939FA
    assert bytes(memoryview(block)) == b"123456789"
    assert len(block) == 9
    assert pool.used_bytes == pool.peak_bytes == 9
    block.release()
    assert pool.used_bytes == 0
    assert pool.peak_bytes == 9
    assert pool.budget_bytes == 100


def test_a_wrong_checksum_leaves_the_buffer_filling() -> None:
    pool = iobuf.BufferPool(100)
    buffer = pool.acquire(9)
    memoryview(buffer)[:] = b"123456789"
    with pytest.raises(CacheCorrupt, match="995dc9bbdf1939fa instead of 0000000000000000"):
        buffer.seal(0)
    memoryview(buffer)[0:1] = b"X"
    assert buffer.seal(crc64.crc64(b"X23456789")).slice(0, 1) == b"X"
    with pytest.raises(OverflowError):
        pool.acquire(1).seal(-1)


def test_a_sealed_buffer_cannot_be_written() -> None:
    pool = iobuf.BufferPool(100)
    buffer = pool.acquire(3)
    block = buffer.seal()
    view = memoryview(block)
    assert view.readonly
    with pytest.raises(TypeError):
        view[0] = 1
    assert len(buffer) == 0
    with pytest.raises(ValueError, match="sealed or released"):
        memoryview(buffer)
    with pytest.raises(ValueError, match="sealed or released"):
        buffer.seal()
    buffer.release()  # harmless, and not the sealed one's memory
    assert pool.used_bytes == 3


def test_views_keep_a_filling_buffer_filling() -> None:
    buffer = iobuf.BufferPool(100).acquire(3)
    first, second = memoryview(buffer), memoryview(buffer)
    for call in (buffer.seal, buffer.release):
        with pytest.raises(BufferError, match="alive"):
            call()
    first.release()
    with pytest.raises(BufferError):
        buffer.seal()
    second.release()
    buffer.seal()


def test_release_of_a_sealed_buffer_waits_for_its_views() -> None:
    pool = iobuf.BufferPool(100)
    block = sealed_of(pool, b"abc")
    view = memoryview(block)
    block.release()
    block.release()
    assert pool.used_bytes == 3
    assert bytes(view) == b"abc"
    assert len(block) == 0
    with pytest.raises(ValueError, match="released"):
        memoryview(block)
    with pytest.raises(ValueError, match="released"):
        block.slice(0, 1)
    view.release()
    assert pool.used_bytes == 0


def test_a_view_keeps_a_forgotten_block() -> None:
    pool = iobuf.BufferPool(100)
    view = memoryview(sealed_of(pool, b"abc"))
    gc.collect()
    assert bytes(view) == b"abc"
    view.release()
    assert pool.used_bytes == 0


def test_slice_is_clipped() -> None:
    block = sealed_of(iobuf.BufferPool(100), b"0123456789")
    assert block.slice(0, 10) == b"0123456789"
    assert block.slice(7, 100) == b"789"
    assert block.slice(10, 1) == block.slice(1000, 5) == b""
    assert block.slice(3, sys.maxsize) == b"3456789"
    for offset, size in ((-1, 1), (0, -1)):
        with pytest.raises(ValueError, match="slice"):
            block.slice(offset, size)


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="budget"):
        iobuf.BufferPool(0)
    pool = iobuf.BufferPool(100)
    for size in (0, -1, 101):
        with pytest.raises(ValueError, match="budget of 100"):
            pool.acquire(size)


def test_buffers_are_not_made_by_hand() -> None:
    kinds: tuple[type[iobuf.FillingBuffer | iobuf.SealedBuffer], ...] = (iobuf.FillingBuffer, iobuf.SealedBuffer)
    for kind in kinds:
        with pytest.raises(TypeError, match="buffers come from"):
            kind()
        empty = kind.__new__(kind)
        empty.release()
        assert len(empty) == 0
        with pytest.raises(ValueError, match="released"):
            memoryview(empty)


def test_timeouts() -> None:
    pool = iobuf.BufferPool(100)
    held = pool.acquire(60)
    with pytest.raises(TimeoutError, match="no room for 50 bytes: 60 of 100"):
        pool.acquire(50, 0)
    clock = RealClock()
    before = clock.monotonic()
    with pytest.raises(TimeoutError):
        pool.acquire(50, 0.15)
    assert 0.15 <= clock.monotonic() - before < 5
    assert len(pool.acquire(40, 0)) == 40
    held.release()
    assert len(pool.acquire(100, 0)) == 100


def start_acquire(pool: iobuf.BufferPool, size: int, order: list[int]) -> threading.Thread:
    def run() -> None:
        buffer = pool.acquire(size, 30)
        order.append(size)
        buffer.release()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_requests_are_served_in_order_and_nobody_overtakes() -> None:
    pool = iobuf.BufferPool(100)
    held = pool.acquire(50)
    order: list[int] = []
    clock = RealClock()
    threads = []
    for size in (100, 99, 98):
        threads.append(start_acquire(pool, size, order))
        clock.sleep(0.05)  # so that they queue in this order
    with pytest.raises(TimeoutError):
        pool.acquire(1, 0)  # it would fit, but others came first
    assert order == []
    held.release()
    for thread in threads:
        thread.join(10)
    assert order == [100, 99, 98]
    assert pool.used_bytes == 0


def test_a_waiter_that_gives_up_lets_the_next_ones_pass() -> None:
    pool = iobuf.BufferPool(100)
    held = pool.acquire(50)
    order: list[int] = []
    failed: list[BaseException] = []

    def impatient() -> None:
        try:
            pool.acquire(100, 0.3)
        except TimeoutError as error:
            failed.append(error)

    first = threading.Thread(target=impatient)
    first.start()
    RealClock().sleep(0.05)
    second = start_acquire(pool, 10, order)
    first.join(10)
    second.join(10)
    assert len(failed) == 1
    assert order == [10]
    held.release()
    assert len(pool.acquire(100, 0)) == 100


def test_blocks_are_reused_within_the_budget() -> None:
    pool = iobuf.BufferPool(4 * BLOCK_BYTES)
    first = pool.acquire(BLOCK_BYTES)
    with memoryview(first) as view:
        view[100:104] = b"mark"
    first.release()
    again = pool.acquire(BLOCK_BYTES)
    with memoryview(again) as view:
        assert (
            bytes(view[100:104]) == b"mark"
        )  # the same memory: nothing was given back to the system and fetched again
    again.release()
    blocks = [pool.acquire(BLOCK_BYTES) for _ in range(4)]
    for block in blocks:
        block.release()
    assert len(pool.acquire(4 * BLOCK_BYTES, 0)) == 4 * BLOCK_BYTES  # spares make room


def test_a_signal_interrupts_the_wait() -> None:
    code = """
import os, signal, threading
from jindopy._ext import iobuf
pool = iobuf.BufferPool(10)
held = pool.acquire(10)
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    pool.acquire(10)
except KeyboardInterrupt:
    held.release()
    print("interrupted", pool.used_bytes, len(pool.acquire(10, 0)))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=20)
    assert done.stdout.split() == ["interrupted", "0", "10"]


def test_a_signal_handler_that_returns_does_not_end_the_wait() -> None:
    pool = iobuf.BufferPool(10)
    held = [pool.acquire(10)]
    seen: list[int] = []

    def give_back(number: int, frame: object) -> None:
        seen.append(number)
        held.pop().release()

    old = signal.signal(signal.SIGUSR1, give_back)
    try:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert len(pool.acquire(10, 20)) == 10
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert seen == [signal.SIGUSR1]


def test_stress_never_exceeds_the_budget() -> None:
    """Four threads take and give for a second; every block they see is their own."""
    pool = iobuf.BufferPool(3 * BLOCK_BYTES)
    clock = RealClock()
    end = clock.monotonic() + 1.0
    wrong: list[str] = []
    rounds = [0] * 4

    def run(number: int) -> None:
        sizes = [BLOCK_BYTES, 1000 + number, 2 * BLOCK_BYTES, 4096]
        while clock.monotonic() < end:
            size = sizes[rounds[number] % 4]
            rounds[number] += 1
            try:
                buffer = pool.acquire(size, 0.001 if rounds[number] % 3 else -1)
            except TimeoutError:
                continue
            with memoryview(buffer) as view:
                view[:] = bytes([number]) * size
            block = buffer.seal()
            if block.slice(size - 5, 5) != bytes([number]) * 5 or pool.used_bytes > pool.budget_bytes:
                wrong.append(f"thread {number} size {size}")
            block.release()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert min(rounds) > 10
    assert pool.used_bytes == 0
    assert pool.peak_bytes <= pool.budget_bytes


class Buffers(RuleBasedStateMachine):
    """Any order of calls on one thread: budget, contents and refusals as a few lines of Python predict them."""

    filling = Bundle("filling")
    sealed = Bundle("sealed")
    budget = 1000

    def __init__(self) -> None:
        super().__init__()
        self.pool = iobuf.BufferPool(self.budget)
        self.used = 0
        self.peak = 0

    @rule(target=filling, data=st.binary(min_size=1, max_size=400))
    def acquire(self, data: bytes) -> tuple[iobuf.FillingBuffer | None, bytes]:
        if self.used + len(data) > self.budget:
            with pytest.raises(TimeoutError):
                self.pool.acquire(len(data), 0)
            return None, data
        buffer = self.pool.acquire(len(data), 0)
        memoryview(buffer)[:] = data
        self.used += len(data)
        self.peak = max(self.peak, self.used)
        return buffer, data

    @rule(target=sealed, item=consumes(filling))
    def seal(self, item: tuple[iobuf.FillingBuffer | None, bytes]) -> tuple[iobuf.SealedBuffer | None, bytes]:
        buffer, data = item
        return (buffer.seal(crc64_twin.crc64(data)) if buffer else None), data

    @rule(item=consumes(filling) | consumes(sealed))
    def release(self, item: tuple[iobuf.FillingBuffer | iobuf.SealedBuffer | None, bytes]) -> None:
        buffer, data = item
        if buffer:
            buffer.release()
            buffer.release()
            self.used -= len(data)

    @rule(item=sealed, offset=st.integers(0, 500), size=st.integers(0, 500))
    def read(self, item: tuple[iobuf.SealedBuffer | None, bytes], offset: int, size: int) -> None:
        block, data = item
        if block:
            assert block.slice(offset, size) == data[offset : offset + size]

    @invariant()
    def accounts_agree(self) -> None:
        assert (self.pool.used_bytes, self.pool.peak_bytes) == (self.used, self.peak)


TestBuffers = Buffers.TestCase
