"""Connections to workers: one of the data plane and one of the control plane to each, opened when first needed.

Tickets  One for all workers, asked of the master when half of its life is over; while the master is away the old one is
         shown as long as it lasts.  What is connected stays connected.
Down     A worker that does not answer is left alone for DOWN_SECONDS, by everybody who would ask it from here.
Locks    ``_lock`` guards the tables; a worker's own lock is held while it is connected to, so that one thread connects
         and the others wait for it, with their deadlines inside ``connect``'s own.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Final, final

import grpc

from jindopy._ext.dataclient import BlockLink
from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import JindoError, TicketRefused
from jindopy.cluster.membership import WorkerFacts
from jindopy.dataplane import greeting
from jindopy.rpc.channel import Metadata, Security, check_secrecy, open_channel, split_address
from jindopy.rpc.v1.gen.worker_pb2_grpc import WorkerStub

DOWN_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 3.0
TICKET_SECONDS: Final = 5.0


@final
class WorkerLink:
    """One worker."""

    def __init__(self, facts: WorkerFacts, security: Security, ticket: Callable[[], bytes], clock: Clock) -> None:
        self.facts = facts
        self._ticket = ticket
        self._clock = clock
        self._security = security
        self._lock = threading.Lock()
        self._data: BlockLink | None = None
        self._channel: grpc.Channel | None = None
        self._control: tuple[WorkerStub, Metadata] | None = None
        self._down_until = 0.0
        self._closed = False

    @property
    def down(self) -> bool:
        """Whether it is left alone now."""
        return self._clock.monotonic() < self._down_until

    def failed(self) -> None:
        """It did not answer."""
        self._down_until = self._clock.monotonic() + DOWN_SECONDS

    def data(self, deadline: Deadline) -> BlockLink:
        """The data connection; raises PeerError, DeadlineExceeded."""
        with self._lock:
            if self._closed:
                raise TicketRefused(f"{self.facts.data_address}: shutting down")
            if self._data is None or not self._data.alive:
                self._drop_data()
                host, port = split_address(self.facts.data_address, "worker")
                check_secrecy(host, f"worker {self.facts.id}", self._security, tls=False)
                limit = Deadline.after(deadline.bounded(CONNECT_SECONDS), self._clock)
                self._data = greeting.connect((_numeric(host), port), self._ticket(), limit)
            return self._data

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
        self._fetch_ticket = ticket
        self._security = security
        self._clock = clock
        self._lock = threading.Lock()
        self._links: dict[str, WorkerLink] = {}
        self._ticket_lock = threading.Lock()
        self._ticket = b""
        self._renew_at = 0.0

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
                    self._links[worker.id] = WorkerLink(worker, self._security, self._shown, self._clock)
            for left in self._links.keys() - {worker.id for worker in facts}:
                gone.append(self._links.pop(left))
            links = dict(self._links)
        for link in gone:
            link.close()
        return links

    def _shown(self) -> bytes:
        with self._ticket_lock:
            now = self._clock.monotonic()
            if now >= self._renew_at:
                try:
                    self._ticket, lifetime_seconds = self._fetch_ticket(Deadline.after(TICKET_SECONDS, self._clock))
                    self._renew_at = now + lifetime_seconds / 2
                except JindoError:
                    if not self._ticket:
                        raise
            return self._ticket

    def close(self) -> None:
        """End all connections."""
        with self._lock:
            links = list(self._links.values())
            self._links.clear()
        for link in links:
            with contextlib.suppress(OSError):
                link.close()
