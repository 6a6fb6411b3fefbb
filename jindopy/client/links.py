"""Connections to workers: one of the data plane and one of the control plane to each, opened when first needed.

Tickets  One for all workers, asked of the master when half of its life is over; while the master is away the old one is
         shown as long as it lasts.  What is connected stays connected.
Down     A worker that does not answer is left alone for DOWN_SECONDS, twice as long each time that it still does not,
         by everybody who would ask it from here.
Locks    Guard tables and states, never held across a call.  One thread connects to a worker; others who want the same
         wait for what comes of it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, final

import grpc

from jindopy._ext.dataclient import BlockLink
from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import DeadlineExceeded, JindoError, PeerGone, TicketRefused
from jindopy.cluster.membership import WorkerFacts
from jindopy.dataplane import greeting
from jindopy.rpc.channel import Metadata, Security, check_secrecy, open_channel, split_address
from jindopy.rpc.v1.gen.worker_pb2_grpc import WorkerStub

DOWN_SECONDS: Final = 5.0
DOWN_SECONDS_MAX: Final = 80.0
CONNECT_SECONDS: Final = 3.0
TICKET_SECONDS: Final = 5.0


@final
class Tickets:
    """The ticket that is shown to workers."""

    def __init__(self, fetch: Callable[[Deadline], tuple[bytes, float]], clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._ticket = b""
        self._renew_at = 0.0

    def current(self) -> bytes:
        """One that is good, or the last one there was; raises what the master says when there never was one."""
        now = self._clock.monotonic()
        with self._lock:
            if now < self._renew_at:
                return self._ticket
        try:
            ticket, lifetime_seconds = self._fetch(Deadline.after(TICKET_SECONDS, self._clock))
        except JindoError:
            if not self._ticket:
                raise
            return self._ticket
        with self._lock:
            self._ticket = ticket
            self._renew_at = now + lifetime_seconds / 2
        return ticket

    def renew(self) -> None:
        """Ask for another one with the next connection."""
        self._renew_at = 0.0


@final
class WorkerLink:
    """One worker."""

    def __init__(self, facts: WorkerFacts, security: Security, tickets: Tickets, clock: Clock) -> None:
        self.facts = facts
        self._tickets = tickets
        self._clock = clock
        self._security = security
        self._lock = threading.Lock()
        self._data: BlockLink | None = None
        self._coming: Future[BlockLink] | None = None
        """While somebody connects."""
        self._channel: grpc.Channel | None = None
        self._control: tuple[WorkerStub, Metadata] | None = None
        self._down_until = 0.0
        self._failures = 0
        self._closed = False

    @property
    def down(self) -> bool:
        """Whether it is left alone now."""
        return self._clock.monotonic() < self._down_until

    def failed(self, error: JindoError) -> None:
        """It did not answer, or refused."""
        with self._lock:
            if self.down:
                return  # many who asked at a time are one failure
            self._set_down()
            if isinstance(error, TicketRefused):
                # What was shown when this connection opened is not enough: the next one shows a new ticket.
                self._drop_data()
                self._tickets.renew()

    def _set_down(self) -> None:
        seconds = min(DOWN_SECONDS * 2.0 ** min(self._failures, 10), DOWN_SECONDS_MAX)
        self._down_until = self._clock.monotonic() + seconds
        self._failures += 1

    def answered(self) -> None:
        """It did."""
        self._failures = 0

    def data(self, deadline: Deadline) -> BlockLink:
        """The data connection; raises PeerError, DeadlineExceeded."""
        with self._lock:
            if self._closed:
                raise PeerGone(f"{self.facts.data_address}: shutting down")
            if self._data is not None and self._data.alive:
                return self._data
            if self.down:
                raise PeerGone(f"{self.facts.data_address}: did not answer a moment ago")
            coming, mine = self._coming, self._coming is None
            if coming is None:
                coming = self._coming = Future()
        if mine:
            self._connect(coming, deadline)
        try:
            return coming.result(deadline.bounded(CONNECT_SECONDS + TICKET_SECONDS))
        except TimeoutError:
            raise DeadlineExceeded(f"{self.facts.data_address}: no connection in time") from None

    def _connect(self, coming: Future[BlockLink], deadline: Deadline) -> None:
        try:
            data = self._connected(deadline)
        except BaseException as error:  # noqa: BLE001 - raised by all who wait
            with self._lock:
                self._set_down()
                self._coming = None
            coming.set_exception(error)
            return
        with self._lock:
            self._coming = None
            self._drop_data()
            if self._closed:
                data.close()
            else:
                self._data = data
        coming.set_result(data)

    def _connected(self, deadline: Deadline) -> BlockLink:
        host, port = split_address(self.facts.data_address, "worker")
        check_secrecy(host, f"worker {self.facts.id}", self._security, tls=False)
        shown = self._tickets.current()
        limit = Deadline.after(deadline.bounded(CONNECT_SECONDS), self._clock)
        return greeting.connect((_numeric(host), port), shown, limit)

    def control(self) -> tuple[WorkerStub, Metadata]:
        """The control connection."""
        with self._lock:
            if self._control is None:
                self._channel, metadata = open_channel(
                    self.facts.rpc_address, self._security, f"worker {self.facts.id}"
                )
                self._control = WorkerStub(self._channel), metadata
            return self._control

    def _drop_data(self) -> None:
        if self._data is not None:
            self._data.close()
            self._data = None

    def close(self) -> None:
        """End both."""
        with self._lock:
            self._closed = True
            self._drop_data()
            if self._channel is not None:
                self._channel.close()


def _numeric(host: str) -> str:
    return "127.0.0.1" if host == "localhost" else host


@final
class WorkerLinks:
    """All workers."""

    def __init__(
        self,
        workers: Callable[[], list[WorkerFacts]],
        ticket: Callable[[Deadline], tuple[bytes, float]],
        security: Security,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._workers = workers
        self._tickets = Tickets(ticket, clock)
        self._security = security
        self._clock = clock
        self._lock = threading.Lock()
        self._links: dict[str, WorkerLink] = {}

    def current(self) -> dict[str, WorkerLink]:
        """Links of the workers that are there, by id; a worker that moved gets a new one."""
        facts = self._workers()
        gone = []
        with self._lock:
            for worker in facts:
                known = self._links.get(worker.id)
                if known is None or known.facts.place != worker.place:
                    if known is not None:
                        gone.append(known)
                    self._links[worker.id] = WorkerLink(worker, self._security, self._tickets, self._clock)
            for left in self._links.keys() - {worker.id for worker in facts}:
                gone.append(self._links.pop(left))
            links = dict(self._links)
        for link in gone:
            link.close()
        return links

    def close(self) -> None:
        """End all connections."""
        with self._lock:
            links = list(self._links.values())
            self._links.clear()
        for link in links:
            with contextlib.suppress(OSError):
                link.close()
