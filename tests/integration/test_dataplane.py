"""Blocks over real sockets: what arrives, what is refused, and what happens when somebody goes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jindopy._ext import dataclient
from jindopy._ext.blockstore import BlockStore
from jindopy._ext.dataclient import BlockLink
from jindopy._ext.iobuf import BufferPool
from jindopy.base.clock import Deadline
from jindopy.base.errors import BadFrame, BlockDamaged, DeadlineExceeded, PeerGone, TicketRefused
from jindopy.dataplane import frames, ticket
from jindopy.dataplane.greeting import Address, BlockService, connect
from tests.dataplane_fixture import KEYS, MIB, OWNER, cid_of, content, fill, good_ticket, open_store, proxied, serving

SIZE = 3 * MIB + 5000


@pytest.fixture
def pool() -> BufferPool:
    return BufferPool(128 * MIB)


@pytest.fixture
def store(tmp_path: Path, pool: BufferPool) -> Iterator[BlockStore]:
    opened = open_store(tmp_path / "cache")
    fill(opened, pool, 1, SIZE).close()
    yield opened
    opened.close()


@pytest.fixture(params=["tcp", "unix"])
def served(request: pytest.FixtureRequest, store: BlockStore, tmp_path: Path) -> Iterator[tuple[BlockService, Address]]:
    with serving(store, request.param, tmp_path) as pair:
        yield pair


@pytest.fixture
def tcp(store: BlockStore, tmp_path: Path) -> Iterator[tuple[BlockService, tuple[str, int]]]:
    with serving(store, "tcp", tmp_path) as (service, address):
        assert isinstance(address, tuple)
        yield service, address


def open_link(address: Address) -> BlockLink:
    return connect(address, good_ticket(), Deadline.after(10))


def fetch(link: BlockLink, pool: BufferPool, number: int, size: int, seconds: float = 10.0) -> bytes:
    sizes = [min(MIB, size - at) for at in range(0, size, MIB)]
    blocks = link.start(cid_of(number), 0, [pool.acquire(each) for each in sizes], seconds).wait()
    assert all(block is not None for block in blocks)
    return b"".join(bytes(block) for block in blocks if block is not None)


def test_blocks_arrive_as_they_were_stored(served: tuple[BlockService, Address], pool: BufferPool) -> None:
    service, address = served
    link = open_link(address)
    assert fetch(link, pool, 1, SIZE) == content(1, SIZE)
    assert service.counters()["blocks"] == 4
    link.close()
    assert pool.used_bytes == 0
    assert dataclient.live_counts()["requests"] == 0


def test_what_is_sealed_here_can_be_stored_here(
    tcp: tuple[BlockService, Address], pool: BufferPool, tmp_path: Path
) -> None:
    link = open_link(tcp[1])
    (block,) = link.start(cid_of(1), 3, [pool.acquire(5000)], 5).wait()
    other = open_store(tmp_path / "other")
    file = other.open(cid_of(1), SIZE, OWNER)
    assert block is not None
    file.put(3, block)
    file.close()
    assert other.scrub(cid_of(1)).bad_blocks == []
    assert other.scrub(cid_of(1)).checked_blocks == 1
    link.close()
    other.close()


def test_a_block_that_is_not_there_is_missing(
    tcp: tuple[BlockService, Address], store: BlockStore, pool: BufferPool
) -> None:
    file = store.open(cid_of(1), SIZE, OWNER)
    file.drop(1)
    file.close()
    link = open_link(tcp[1])
    blocks = link.start(cid_of(1), 0, [pool.acquire(MIB) for _ in range(3)], 5).wait()
    assert [block is None for block in blocks] == [False, True, False]
    assert link.start(cid_of(99), 0, [pool.acquire(MIB)], 5).wait() == [None]
    link.close()


def test_many_requests_from_many_threads_share_a_connection(
    served: tuple[BlockService, Address], store: BlockStore, pool: BufferPool
) -> None:
    for number in range(2, 8):
        fill(store, pool, number, MIB + number * 1000).close()
    link = open_link(served[1])
    wrong: list[int] = []

    def reader(seed: int) -> None:
        for turn in range(40):
            number = 2 + (seed + turn) % 6
            size = MIB + number * 1000
            if fetch(link, pool, number, size, 60) != content(number, size):
                wrong.append(number)

    threads = [threading.Thread(target=reader, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    # More at once than the server takes: they wait their turn.
    requests = []
    for _ in range(60):
        requests.append(link.start(cid_of(1), 3, [pool.acquire(5000)], 20))
    assert all(request.wait()[0] is not None for request in requests)
    link.close()


@pytest.mark.slow
def test_a_flipped_bit_is_found_and_the_connection_goes_on(
    tcp: tuple[BlockService, tuple[str, int]], pool: BufferPool
) -> None:
    def spoil(offset: int, data: bytes) -> bytes:
        at = 500_000 - offset
        return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :] if 0 <= at < len(data) else data

    with proxied(tcp[1], spoil) as address:
        link = open_link(address)
        with pytest.raises(BlockDamaged, match=rf"{address[0]}:{address[1]}: {cid_of(1).hex()}: block 0"):
            link.start(cid_of(1), 0, [pool.acquire(MIB)], 5).wait()
        assert fetch(link, pool, 1, SIZE) == content(1, SIZE)
        link.close()


def test_an_answer_that_is_cut_or_garbage_ends_the_connection(
    tcp: tuple[BlockService, tuple[str, int]], pool: BufferPool
) -> None:
    with proxied(tcp[1], lambda offset, data: data if offset < 300_000 else None) as address:
        link = open_link(address)
        with pytest.raises(PeerGone, match="lost"):
            link.start(cid_of(1), 0, [pool.acquire(MIB)], 5).wait()
        assert not link.alive
        link.close()
    with proxied(tcp[1], lambda offset, data: data if offset < 20 else b"\xff" * len(data)) as address:
        link = open_link(address)
        with pytest.raises(BadFrame, match="not the data protocol"):
            link.start(cid_of(1), 0, [pool.acquire(MIB)], 5).wait()
        with pytest.raises(BadFrame):
            link.start(cid_of(1), 0, [pool.acquire(MIB)], 5)
        link.close()
    assert pool.used_bytes == 0


def test_a_block_of_another_length_ends_the_connection(tcp: tuple[BlockService, Address], pool: BufferPool) -> None:
    link = open_link(tcp[1])
    buffer = pool.acquire(MIB)
    with pytest.raises(BadFrame, match="not asked"):
        link.start(cid_of(1), 3, [buffer], 5).wait()
    memoryview(buffer)[:] = b"x" * MIB  # the caller's again
    buffer.release()
    link.close()


def test_who_shows_no_good_ticket_is_turned_away(served: tuple[BlockService, Address]) -> None:
    _, address = served
    old = ticket.sign("k1", KEYS["k1"], [OWNER], time.time() - 700)
    forged = ticket.sign("k1", b"\1" * 32, [OWNER], time.time())
    for shown, why in ((old, "expired"), (forged, "no key"), (b"x", "short")):
        with pytest.raises(TicketRefused, match=why):
            connect(address, shown, Deadline.after(5))


def test_a_ticket_opens_its_mounts_only(tcp: tuple[BlockService, Address], pool: BufferPool) -> None:
    link = connect(tcp[1], good_ticket(OWNER + 1), Deadline.after(5))
    with pytest.raises(TicketRefused, match="not for this mount"):
        link.start(cid_of(1), 0, [pool.acquire(MIB)], 5).wait()
    link.close()


def test_a_server_answers_garbage_once_and_closes(tcp: tuple[BlockService, tuple[str, int]]) -> None:
    service, address = tcp
    greeting = frames.hello(good_ticket())
    for stream in (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff" * 64,
        greeting + greeting,
        greeting + frames.request(1, cid_of(1), 0, 257, 100),
        greeting + frames.HEAD.pack(1 << 31, frames.REQUEST, 0, 0, 1),
        frames.hello(good_ticket(), 9, 9),
    ):
        with socket.create_connection(address, 5) as client:
            client.sendall(stream)
            answer = b""
            while part := client.recv(65536):
                answer += part
        found, fault = frames.parse(answer, server=False)
        assert fault == ""
        assert (found[-1].kind, found[-1].request, found[-1].code) == (frames.ERROR, 0, frames.UNREADABLE)
    assert service.counters()["violations"] >= 3


@pytest.mark.slow
def test_cancelled_and_late_requests_leave_at_once(tmp_path: Path, store: BlockStore, pool: BufferPool) -> None:
    with serving(store, "tcp", tmp_path) as (_, address):
        assert isinstance(address, tuple)
        hold = threading.Event()

        def spoil(offset: int, data: bytes) -> bytes:
            if offset + len(data) > 200_000:
                hold.wait(20)
            return data

        with proxied(address, spoil) as through:
            link = open_link(through)
            late = link.start(cid_of(1), 0, [pool.acquire(MIB)], 0.5)
            dropped = link.start(cid_of(1), 1, [pool.acquire(MIB)], 30)
            forgotten = link.start(cid_of(1), 2, [pool.acquire(MIB)], 30)
            begun = time.monotonic()
            with pytest.raises(DeadlineExceeded, match=cid_of(1).hex()):
                late.wait()
            dropped.cancel()
            del forgotten, late, dropped
            assert time.monotonic() - begun < 5
            assert pool.used_bytes == 0
            hold.set()
            # What is still to come for them is thrown away; others get theirs.
            assert fetch(link, pool, 1, SIZE) == content(1, SIZE)
            link.close()


def test_eviction_while_blocks_are_sent_never_yields_other_bytes(tmp_path: Path, pool: BufferPool) -> None:
    store = open_store(tmp_path / "small", 512 * MIB)
    size = 8 * MIB
    data = content(5, size)
    fill(store, pool, 5, size).close()
    seen = {True: 0, False: 0}
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            store.evict(cid_of(5))
            fill(store, pool, 5, size).close()

    with serving(store, "tcp", tmp_path) as (_, address):
        link = open_link(address)
        thread = threading.Thread(target=churn)
        thread.start()
        try:
            end = time.monotonic() + 4
            while time.monotonic() < end:
                blocks = link.start(cid_of(5), 0, [pool.acquire(MIB) for _ in range(8)], 20).wait()
                for index, block in enumerate(blocks):
                    seen[block is not None] += 1
                    assert block is None or bytes(block) == data[index * MIB : (index + 1) * MIB]
        finally:
            stop.set()
            thread.join()
        link.close()
    assert seen[True] > 0
    store.close()


SERVER = """
import socket, sys, time
from pathlib import Path
from tests.dataplane_fixture import *
store, pool = open_store(Path(sys.argv[1])), BufferPool(64 * MIB)
fill(store, pool, 1, 64 * MIB).close()
listener = socket.create_server(("127.0.0.1", 0))
service = BlockService(store, listener, lambda: KEYS)
print(listener.getsockname()[1], flush=True)
time.sleep(60)
"""


def test_a_server_that_is_killed_fails_its_requests_at_once(tmp_path: Path, pool: BufferPool) -> None:
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path / "killed")], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        link = open_link(("127.0.0.1", port))
        requests = [link.start(cid_of(1), index, [pool.acquire(MIB)], 30) for index in range(50)]
        os.kill(server.pid, signal.SIGKILL)
        begun = time.monotonic()
        outcomes = []
        for request in requests:
            try:
                outcomes.append(request.wait()[0] is not None)
            except PeerGone:
                outcomes.append(False)
        assert time.monotonic() - begun < 5
        assert len(outcomes) == 50
        with pytest.raises(PeerGone):
            link.start(cid_of(1), 0, [pool.acquire(MIB)], 5)
        with pytest.raises(PeerGone, match=f"127.0.0.1:{port}"):
            open_link(("127.0.0.1", port))
        link.close()
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def test_clients_that_go_leave_nothing_behind(tcp: tuple[BlockService, Address], pool: BufferPool) -> None:
    service, address = tcp
    for _ in range(20):
        link = open_link(address)
        link.start(cid_of(1), 0, [pool.acquire(MIB)], 5)
        link.close()
    until = time.monotonic() + 10
    while service.connections and time.monotonic() < until:
        time.sleep(0.01)
    assert service.connections == 0
    assert dataclient.live_counts()["requests"] == 0
    assert pool.used_bytes == 0
