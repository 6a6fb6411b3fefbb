"""Connections to workers: who is left alone for how long, one connection for many, tickets in time."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from jindopy.base.clock import Deadline, SimulatedClock
from jindopy.base.errors import MasterAway, PeerGone, TicketRefused
from jindopy.client import links
from jindopy.client.links import DOWN_SECONDS, DOWN_SECONDS_MAX, Tickets, WorkerLink, WorkerLinks
from jindopy.cluster.membership import WorkerFacts
from jindopy.rpc.channel import Security

A = WorkerFacts("a", "127.0.0.1:1", "127.0.0.1:2", 100)


class Link:
    def __init__(self) -> None:
        self.alive = True
        self.closed = False

    def close(self) -> None:
        self.closed, self.alive = True, False


class Connecting:
    """Stands for ``greeting.connect``."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.made: list[Link] = []

    def __call__(self, address: Any, shown: bytes, deadline: Deadline) -> Link:
        self.calls.append(shown)
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        self.made.append(Link())
        return self.made[-1]


@pytest.fixture
def connecting(monkeypatch: pytest.MonkeyPatch) -> Connecting:
    made = Connecting()
    monkeypatch.setattr(links.greeting, "connect", made)
    return made


def soon() -> Deadline:
    return Deadline.after(10)


def new_link(clock: SimulatedClock) -> WorkerLink:
    return WorkerLink(A, Security(), Tickets(lambda _: (b"ticket", 600.0), clock), clock)


def test_a_failing_worker_is_left_alone_for_longer_each_time(connecting: Connecting) -> None:
    clock = SimulatedClock()
    link = new_link(clock)
    for turn in range(8):
        assert not link.down
        for _ in range(10):  # readers that all waited for the same
            link.failed(PeerGone("x"))
        with pytest.raises(PeerGone, match="a moment ago"):
            link.data(soon())
        wanted = min(DOWN_SECONDS * 2**turn, DOWN_SECONDS_MAX)
        clock.advance(wanted - 0.1)
        assert link.down
        clock.advance(0.2)
    assert connecting.calls == []
    link.data(soon())
    link.answered()
    link.failed(PeerGone("x"))
    clock.advance(DOWN_SECONDS + 0.1)
    assert not link.down


def test_many_wait_for_one_connection_and_for_one_failure(connecting: Connecting) -> None:
    clock = SimulatedClock()
    for error in (None, PeerGone("refused")):
        link = new_link(clock)
        connecting.error, connecting.calls = error, []
        connecting.gate.clear()
        found: list[object] = []

        def ask(link: WorkerLink = link, found: list[object] = found) -> None:
            try:
                found.append(link.data(soon()))
            except PeerGone as gone:
                found.append(str(gone))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        connecting.gate.set()
        for thread in threads:
            thread.join(10)
        assert len(connecting.calls) == 1
        assert len(found) == 8
        if error is None:
            assert set(found) == {connecting.made[-1]}
        else:
            assert set(map(str, found)) <= {"refused", f"{A.data_address}: did not answer a moment ago"}
        assert link.down == (error is not None)


def test_a_connection_that_ended_is_made_anew_and_a_refused_ticket_renewed(connecting: Connecting) -> None:
    clock = SimulatedClock()
    numbers = iter(range(10))
    tickets = Tickets(lambda _: (b"ticket %d" % next(numbers), 600.0), clock)
    link = WorkerLink(A, Security(), tickets, clock)
    first = link.data(soon())
    assert link.data(soon()) is first
    connecting.made[0].alive = False
    assert link.data(soon()) is not first
    link.failed(TicketRefused("not for this mount"))
    assert connecting.made[1].closed
    clock.advance(DOWN_SECONDS + 0.1)
    link.data(soon())
    assert connecting.calls == [b"ticket 0", b"ticket 0", b"ticket 1"]
    link.close()
    with pytest.raises(PeerGone, match="shutting down"):
        link.data(soon())


def test_tickets_are_renewed_at_half_of_their_life_and_kept_while_the_master_is_away() -> None:
    clock = SimulatedClock()
    away = False
    asked = 0

    def fetch(_: Deadline) -> tuple[bytes, float]:
        nonlocal asked
        if away:
            raise MasterAway("away")
        asked += 1
        return b"%d" % asked, 600.0

    tickets = Tickets(fetch, clock)
    assert tickets.current() == tickets.current() == b"1"
    clock.advance(299)
    assert tickets.current() == b"1"
    clock.advance(2)
    assert tickets.current() == b"2"
    away = True
    clock.advance(301)
    assert tickets.current() == b"2"
    with pytest.raises(MasterAway):
        Tickets(fetch, clock).current()


def test_workers_that_go_or_move_lose_their_connections(connecting: Connecting) -> None:
    there = [A, A._replace(id="b")]
    table = WorkerLinks(lambda: there, lambda _: (b"t", 600.0), Security())
    before = table.current()
    for link in before.values():
        link.data(soon())
    there = [A._replace(data_address="127.0.0.1:9", cached_bytes=5)]
    after = table.current()
    assert sorted(after) == ["a"]
    assert after["a"] is not before["a"]
    assert [made.closed for made in connecting.made] == [True, True]
    there = [A._replace(data_address="127.0.0.1:9", cached_bytes=77)]
    assert table.current()["a"] is after["a"]
    table.close()


def test_a_worker_beyond_the_loopback_interface_needs_leave_to_be_read_in_plain_text(connecting: Connecting) -> None:
    from jindopy.base.errors import ConfigError

    far = WorkerLink(
        A._replace(data_address="10.0.0.1:1"), Security(), Tickets(lambda _: (b"t", 1.0), SimulatedClock()),
        SimulatedClock(),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="--plaintext"):
        far.data(soon())
    assert connecting.calls == []
