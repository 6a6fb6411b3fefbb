"""The daemon's end of the control socket.

    accept thread ──▶ one thread a connection: who is it (SO_PEERCRED) · one request · DaemonApi · answers · close

Only the daemon's own user and root are answered.  The socket is made with mode 0600 in a directory that nobody else may
write to.  Bounds: 16 connections, 8 of them streams, so that ``status`` is answered while loads run; a request must
arrive within 5 s and each answer be taken within 10 s, else the connection is dropped.  A client that goes away closes
the iterator of its stream, which leaves a load running.

Threads: the accept thread and the connections' own; ``_lock`` guards the set of connections.  Nothing a client does is
the daemon's trouble: every failure ends one connection and is at most a line in the log.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, final

from jindopy.base.clock import Deadline
from jindopy.base.errors import CacheBusy, ConfigError, JindoError
from jindopy.control import protocol
from jindopy.control.api import DaemonApi

LOG = logging.getLogger("jindopy.control")

CONNECTIONS_MAX: Final = 16
STREAMS_MAX: Final = 8
REQUEST_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 2.0

# sun_path holds 108 bytes with its end; longer paths go through a descriptor of their directory.
_SUN_PATH_MAX: Final = 107
_UCRED = struct.Struct("=iII")
_ITEMS_A_SEND: Final = 200


@contextlib.contextmanager
def address_of(path: Path) -> Iterator[str]:
    """The address to bind or connect to; valid inside the block."""
    if len(os.fsencode(path)) <= _SUN_PATH_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def peer(connection: socket.socket) -> tuple[int, int]:
    """Process and effective user at the other end: of a client when it connected, of a server when it listened."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(raw)
    return pid, uid


def remove_stale(path: Path) -> bool:
    """Remove a socket that answers nobody, such as a killed daemon leaves behind; False when somebody listens."""
    if not path.exists():
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.settimeout(1.0)
        try:
            with address_of(path) as address:
                other.connect(address)
        except OSError:
            path.unlink(missing_ok=True)
            return True
    return False


@final
class ControlServer:
    """Serves one ``DaemonApi`` at one path."""

    def __init__(self, path: Path, api: DaemonApi) -> None:
        self._path = path
        self._api = api
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._streams = threading.BoundedSemaphore(STREAMS_MAX)
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None

    def start(self) -> None:
        """Listen.  Raises ConfigError (directory), CacheBusy (another daemon answers there)."""
        prepare_directory(self._path.parent)
        if not remove_stale(self._path):
            raise CacheBusy(f"{self._path}: another daemon of this mount point is running; see: jindopy status")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with address_of(self._path) as address:
                listener.bind(address)
            self._path.chmod(0o600)  # before listen: nobody can have connected yet
            listener.listen(CONNECTIONS_MAX)
        except OSError as error:
            listener.close()
            raise ConfigError(f"control socket {self._path}: {error.strerror}; choose another --run-dir") from None
        self._listener = listener
        self._acceptor = threading.Thread(target=self._accept, name="control-accept", daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """Stop answering and remove the socket.  Harmless when repeated or never started."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        listener.close()
        with self._lock:
            left = dict(self._connections)
        for connection in left:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        deadline = Deadline.after(CLOSE_SECONDS)
        for thread in (self._acceptor, *left.values()):
            if thread is not None and thread is not threading.current_thread():
                thread.join(deadline.remaining())

    def _accept(self) -> None:
        listener = self._listener
        while listener is not None and self._listener is listener:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # closed
            with self._lock:
                full = len(self._connections) >= CONNECTIONS_MAX
                if not full:
                    thread = threading.Thread(
                        target=self._converse, args=(connection,), name="control-client", daemon=True
                    )
                    self._connections[connection] = thread
            if full:
                self._refuse(connection)
            else:
                thread.start()

    @staticmethod
    def _refuse(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(0.1)
            busy = JindoError(f"the mount already serves {CONNECTIONS_MAX} commands; try again in a moment")
            connection.sendall(protocol.encode_error(busy))

    def _converse(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._answer(connection)
        except OSError as error:
            LOG.debug("a client of the control socket went away: %s", error)
        finally:
            with self._lock:
                self._connections.pop(connection, None)

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(REQUEST_SECONDS)
        try:
            _, uid = peer(connection)
            if uid not in (0, os.geteuid()):
                raise ConfigError(f"this mount belongs to user {os.geteuid()}; only that user and root may ask it")
            chunks = iter(lambda: connection.recv(65536), b"")
            line = next(protocol.lines(chunks, protocol.REQUEST_BYTES_MAX, "the request"), None)
            if line is None:
                return
            request = protocol.decode_request(line)
            connection.settimeout(ANSWER_SECONDS)
            if protocol.OPERATIONS[request.operation].stream:
                self._stream(connection, request)
            else:
                result = getattr(self._api, request.operation)(**request.arguments)
                connection.sendall(protocol.encode_result(result))
        except JindoError as error:
            connection.sendall(protocol.encode_error(error))
        except OSError:
            raise
        except Exception as error:
            LOG.exception("a command could not be answered")
            told = JindoError(f"internal error in the mount ({type(error).__name__}); its log has the details")
            connection.sendall(protocol.encode_error(told))

    def _stream(self, connection: socket.socket, request: protocol.Request) -> None:
        if not self._streams.acquire(blocking=False):
            raise JindoError(f"the mount already serves {STREAMS_MAX} loads and listings; try again in a moment")
        try:
            items = getattr(self._api, request.operation)(**request.arguments)
            with contextlib.closing(_Items(items)) as source:
                for batch in source.batches():
                    connection.sendall(batch)
            connection.sendall(protocol.encode_end())
        finally:
            self._streams.release()


@final
class _Items:
    """A list in batches, or an iterator item by item, closed at the end whatever happens."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def batches(self) -> Iterator[bytes]:
        if isinstance(self._items, list):
            for first in range(0, len(self._items), _ITEMS_A_SEND):
                yield b"".join(map(protocol.encode_item, self._items[first : first + _ITEMS_A_SEND]))
        else:
            yield from map(protocol.encode_item, self._items)

    def close(self) -> None:
        close = getattr(self._items, "close", None)
        if close is not None:
            close()


def prepare_directory(path: Path) -> None:
    """Make the directory of sockets, or refuse one where others could plant theirs."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o755 if os.geteuid() == 0 else 0o700)
        seen = path.stat()
    except OSError as error:
        raise ConfigError(f"directory of control sockets {path}: {error.strerror}; choose another --run-dir") from None
    others_write = seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if seen.st_uid not in (0, os.geteuid()) or others_write:
        raise ConfigError(
            f"directory of control sockets {path}: others may write to it (owner {seen.st_uid}, mode"
            f" {seen.st_mode & 0o777:04o}); choose another --run-dir"
        )
