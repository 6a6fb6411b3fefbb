"""How a connection opens: HELLO with a ticket, WELCOME or a reason; then native threads have it.

Flow     ``BlockService`` accepts on one thread and greets each client on a thread of its own, so that one who says
         nothing keeps nobody waiting; ``connect`` is the other side of it.
Bounds   ``GREETINGS_MAX`` clients are being greeted and ``connections_max`` served at once; more are closed unheard.  A
         greeting takes ``GREETING_SECONDS`` in all.  Its frames are read to their announced, limited length and no
         further.
Failure  Who is turned away gets one ERROR with a reason that says nothing of keys.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Final

from jindopy._ext.blockstore import BlockStore
from jindopy._ext.dataclient import BlockLink
from jindopy._ext.dataserver import REQUESTS_MAX, BlockServer
from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import BadFrame, DeadlineExceeded, PeerGone, TicketRefused
from jindopy.dataplane import frames, ticket

log = logging.getLogger(__name__)

GREETING_SECONDS: Final = 5.0
GREETINGS_MAX: Final = 16
PARTING_SECONDS: Final = 1.0
PARTING_BYTES: Final = 65536

Address = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""


class _Ended(Exception):
    """The other side left before its frame was whole."""


class _Unreadable(Exception):
    """What came is no frame, or none that may come now."""


class BlockService:
    """Serves a block store on a listening socket, TCP or Unix, to who shows a ticket."""

    def __init__(
        self,
        store: BlockStore,
        listener: socket.socket,
        keys: Callable[[], Mapping[str, bytes]],
        *,
        connections_max: int = 256,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._server = BlockServer(store)
        self._listener = listener
        self._keys = keys
        self._connections_max = connections_max
        self._clock = clock
        self._places = threading.BoundedSemaphore(GREETINGS_MAX)
        self._closing = False
        self._thread = threading.Thread(target=self._accept, name="data-accept", daemon=True)
        self._thread.start()

    @property
    def connections(self) -> int:
        """Open ones."""
        return self._server.connections

    def counters(self) -> dict[str, int]:
        """What was served since the start."""
        return self._server.counters()

    def close(self) -> None:
        """Accept nobody any more and end all connections; before the store is closed."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for _ in range(GREETINGS_MAX):  # greetings under way end within their seconds
            self._places.acquire()
        self._server.close()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError as error:
                if not self._closing:
                    log.warning("data plane: accepting failed: %s", error.strerror)
                    self._clock.sleep(0.1)  # out of descriptors: not in a circle at full speed
                continue
            if self._server.connections >= self._connections_max or not self._places.acquire(blocking=False):
                client.close()
                continue
            threading.Thread(target=self._greet, args=(client,), name="data-greet", daemon=True).start()

    def _greet(self, client: socket.socket) -> None:
        try:
            with client:
                self._welcome(client)
        except (OSError, _Ended, ValueError) as error:
            log.debug("data plane: a client left while it was greeted: %s", error)
        finally:
            self._places.release()

    def _welcome(self, client: socket.socket) -> None:
        try:
            hello = _read_frame(client, Deadline.after(GREETING_SECONDS, self._clock), server=True)
            if hello.kind != frames.HELLO:
                raise _Unreadable
        except _Unreadable:
            _turn_away(client, frames.UNREADABLE, "this is not the data protocol")
            return
        newest, oldest = hello.numbers
        if oldest > frames.VERSION or newest < frames.MIN_VERSION:
            text = f"data protocol {frames.MIN_VERSION} to {frames.VERSION} is spoken here, not {oldest} to {newest}"
            _turn_away(client, frames.UNREADABLE, text)
            return
        try:
            shown = ticket.check(hello.data, self._keys(), self._clock.wall_ns() / 1e9)
        except TicketRefused as error:
            _turn_away(client, frames.REFUSED, error.message)
            return
        _tune(client)
        client.sendall(frames.welcome(min(newest, frames.VERSION), REQUESTS_MAX))
        self._server.adopt(client.fileno(), shown.mounts)


def connect(address: Address, shown: bytes, deadline: Deadline) -> BlockLink:
    """A connection that was welcomed; raises PeerGone, TicketRefused, BadFrame, DeadlineExceeded."""
    name = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as server:
            server.settimeout(_seconds(deadline))
            server.connect(address)
            _tune(server)
            server.sendall(frames.hello(shown))
            answer = _read_frame(server, deadline, server=False)
            if answer.kind == frames.ERROR:
                text = answer.data.decode("utf-8", "backslashreplace")
                raise (TicketRefused if answer.code == frames.REFUSED else BadFrame)(f"{name}: {text}")
            if answer.kind != frames.WELCOME or answer.numbers[0] != frames.VERSION:
                raise BadFrame(f"{name}: answered with a version that was not offered")
            server.settimeout(None)
            return BlockLink(server.fileno(), name, answer.numbers[1])
    except TimeoutError:
        raise DeadlineExceeded(f"{name}: no answer in time") from None
    except _Ended:
        raise PeerGone(f"{name}: the connection ended while it was greeted") from None
    except _Unreadable:
        raise BadFrame(f"{name}: what came is not the data protocol") from None
    except OSError as error:
        raise PeerGone(f"{name}: {error.strerror or error}") from None


def _turn_away(client: socket.socket, code: int, text: str) -> None:
    client.sendall(frames.error(0, code, text))
    client.shutdown(socket.SHUT_WR)
    # What it sent already is read, or the kernel would reset the connection and the reason be lost.
    client.settimeout(PARTING_SECONDS)
    client.recv(PARTING_BYTES)


def _tune(connection: socket.socket) -> None:
    if connection.family != socket.AF_UNIX:
        # Frames are sent whole, their ends never held back (MSG_MORE joins what belongs together).
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _seconds(deadline: Deadline) -> float:
    left = deadline.bounded(GREETING_SECONDS)
    if left <= 0:
        raise TimeoutError
    return left


def _read_frame(connection: socket.socket, deadline: Deadline, *, server: bool) -> frames.Frame:
    """One frame of a greeting, and no byte behind it."""
    stream = _read(connection, frames.HEAD.size, deadline)
    if frames.parse(stream, server)[1]:
        raise _Unreadable
    size = frames.HEAD.unpack(stream)[0]
    stream += _read(connection, size, deadline)
    found, fault = frames.parse(stream, server)
    if fault or len(found) != 1:
        raise _Unreadable
    return found[0]


def _read(connection: socket.socket, size: int, deadline: Deadline) -> bytes:
    got = b""
    while len(got) < size:
        connection.settimeout(_seconds(deadline))
        part = connection.recv(size - len(got))
        if not part:
            raise _Ended
        got += part
    return got
