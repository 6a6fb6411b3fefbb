"""One process of the server: listener, connections, sweep, drain.

Bounds: CONNECTIONS_MAX connections; one timer for all of them.  Threads: the loop's, and a pool of WORKER_THREADS for
``Later`` work (copies, joins, the CRC of large files).  What a connection does is ``connection.py``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Final

from jindopy.base.clock import Clock
from jindopy.emulator.connection import Connection
from jindopy.emulator.faults import FaultRule
from jindopy.emulator.routing import Hosts
from jindopy.emulator.service import Service
from jindopy.emulator.shared import SLOT, Shared
from jindopy.emulator.signature import Verifier
from jindopy.emulator.tls import TlsConnection

CONNECTIONS_MAX: Final = 8192
BODY_RECEIVE_BYTES: Final = 256 << 10
STALL_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 10.0
WORKER_THREADS: Final = 4
ACCEPTS_PER_TURN: Final = 16

_OPEN: Final = SLOT["connections_open"]
_LOG = logging.getLogger(__name__)


class Server:
    """All connections of one process."""

    def __init__(
        self,
        listener: socket.socket,
        service: Service,
        verifier: Verifier,
        hosts: Hosts,
        shared: Shared,
        process: int,
        clock: Clock,
        tls: ssl.SSLContext | None,
        seed: int | None,
    ) -> None:
        self.listener = listener
        self.service = service
        self.verifier = verifier
        self.hosts = hosts
        self.shared = shared
        self.counters = shared.counters(process)
        self.tls = tls
        self.random = random.Random(None if seed is None else seed + process)  # noqa: S311 (which request fails)
        self.receive_buffer = memoryview(bytearray(BODY_RECEIVE_BYTES))
        self.connections: set[Connection] = set()
        self.pool = ThreadPoolExecutor(WORKER_THREADS, thread_name_prefix="emulator")
        self.draining = False
        self.clock = clock
        self._date_seconds = -1
        self._date = ""
        self._request_number = int.from_bytes(os.urandom(12), "big")
        self._finished = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until ``drain`` has let the last connection go."""
        self.loop = asyncio.get_running_loop()
        self.listener.setblocking(False)
        self.loop.add_reader(self.listener.fileno(), self._accept)
        self._sweep_timer = self.loop.call_later(1.0, self._sweep)
        ready()
        try:
            await self._finished.wait()
        finally:
            self._sweep_timer.cancel()
            for connection in list(self.connections):
                connection.close()
            self.pool.shutdown(wait=True, cancel_futures=True)
            self.service.close()

    def drain(self) -> None:
        """Accept no more; end when the answers under way are out, at the latest after DRAIN_SECONDS."""
        if self.draining:
            self._finished.set()
            return
        self.draining = True
        self.loop.remove_reader(self.listener.fileno())
        self.listener.close()
        self.loop.call_later(DRAIN_SECONDS, self._finished.set)
        for connection in list(self.connections):
            connection.close_if_idle()
        self._end_if_drained()

    def gone(self) -> None:
        """A connection has ended."""
        self.counters[_OPEN] -= 1
        self._end_if_drained()

    def _end_if_drained(self) -> None:
        if self.draining and not self.connections:
            self._finished.set()

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, address = self.listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                _LOG.warning("accept: %s", error)
                return
            if len(self.connections) >= CONNECTIONS_MAX:
                sock.close()
                continue
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            kind = Connection if self.tls is None else TlsConnection
            self.counters[SLOT["connections"]] += 1
            self.counters[_OPEN] += 1
            self.connections.add(kind(self, sock, address[0]))

    def _sweep(self) -> None:
        self._sweep_timer = self.loop.call_later(1.0, self._sweep)
        stalled_before = self.loop.time() - STALL_SECONDS
        for connection in list(self.connections):
            if connection.progress_at < stalled_before and not connection.waits_on_purpose:
                connection.close()

    def now(self) -> tuple[float, str]:
        """The server's time, and the same as a Date header."""
        seconds = self.clock.wall_ns() / 1e9 + self.shared.conditions().clock_offset_seconds
        whole = int(seconds)
        if whole != self._date_seconds:
            self._date_seconds, self._date = whole, formatdate(whole, usegmt=True)
        return seconds, self._date

    def request_id(self) -> str:
        """A new request id, of the service's form."""
        self._request_number = (self._request_number + 1) % (1 << 96)
        return f"{self._request_number:024X}"

    def pick_fault(self, operation: str, key: bytes) -> FaultRule | None:
        """The fault that strikes a request, counted."""
        for index, rule in enumerate(self.shared.conditions().faults):
            struck = rule.matches(operation, key) and (rule.rate >= 1.0 or self.random.random() < rule.rate)
            if struck and self.shared.strike(index, rule.limit):
                self.counters[SLOT["faults"]] += 1
                return rule
        return None
