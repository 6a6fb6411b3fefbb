"""One client: a raw non-blocking socket in callbacks of the event loop.

Flow: head → (body into a sink) → answer (``sending.py``) → next head.  One request at a time; bytes of the next one
wait in the buffer, and reading pauses when too many wait.

Bounds: one buffer of PIPELINE_BYTES_MAX a connection, one receive buffer for all, and no body in memory but XML.  A
connection that makes no progress for STALL_SECONDS is closed by the server's sweep.

Traps this code minds: a timer that fires after its connection is closed (descriptors are reused) is cancelled by
``close``; sendfile answering 0 means that the file was cut under the answer, and only closing tells the client; an
error answer to an upload must not be destroyed by a reset, so the rest of the body is read and dropped for a while.

Threads: the loop's only; ``Later`` work runs in the server's pool, and its result comes back to the loop.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import socket
import ssl
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from jindopy.emulator.answers import Answer, Call, Later, Response, Sink, fields
from jindopy.emulator.errors import STATUS_REASONS, Refused
from jindopy.emulator.faults import FaultRule
from jindopy.emulator.http import BodyDecoder, Request, parse_head
from jindopy.emulator.routing import route
from jindopy.emulator.sending import Outcome, OwnLine, Sending
from jindopy.emulator.service import CONTROL_BUCKET
from jindopy.emulator.shared import SLOT

if TYPE_CHECKING:
    from jindopy.emulator.server import Server

HEAD_RECEIVE_BYTES: Final = 16 << 10
PIPELINE_BYTES_MAX: Final = 64 << 10
DROPPED_BYTES_MAX: Final = 1 << 20
"""A refused body up to this size is read and dropped so that the connection can stay."""

LINGER_SECONDS: Final = 2.0

_BYTES_RECEIVED: Final = SLOT["bytes_received"]
_LOG = logging.getLogger(__name__)


class State(IntEnum):
    """Where a connection is."""

    HANDSHAKE = 0
    HEAD = 1
    BODY = 2
    ANSWER = 3
    LINGER = 4
    CLOSED = 5


class Connection:
    """One client."""

    def __init__(self, server: Server, sock: socket.socket, peer: str) -> None:
        self._server = server
        self._sock = sock
        self._fd = sock.fileno()
        self._peer = peer
        self._loop = server.loop
        self._state = State.HEAD
        self._buffer = bytearray()
        self._searched = 0
        self._reading = False
        self._writing = False
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._request: Request | None = None
        self._request_id = ""
        self._fault: FaultRule | None = None
        self._decoder: BodyDecoder | None = None
        self._sink: Sink | None = None
        self._refused: Refused | None = None
        self._sending: Sending | None = None
        self._own_line = OwnLine(server.clock)
        self._close_after = False
        self.progress_at = self._loop.time()
        self._start()

    def _start(self) -> None:
        self._read(True)

    @property
    def waits_on_purpose(self) -> bool:
        """Whether latency, the line or a worker thread holds the answer back."""
        return self._state == State.ANSWER and (self._timer is not None or self._sending is None)

    # Sockets

    def _read(self, wanted: bool) -> None:
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._loop.add_reader(self._fd, self._readable)
            else:
                self._loop.remove_reader(self._fd)

    def _write(self, wanted: bool) -> None:
        if wanted != self._writing:
            self._writing = wanted
            if wanted:
                self._loop.add_writer(self._fd, self._pump)
            else:
                self._loop.remove_writer(self._fd)

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        def fire() -> None:
            self._timer = None
            if self._state != State.CLOSED:
                then()

        self._timer = self._loop.call_later(seconds, fire)

    def close(self, *, reset: bool = False) -> None:
        """End; harmless when repeated."""
        if self._state == State.CLOSED:
            return
        self._state = State.CLOSED
        self._read(False)
        self._write(False)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sink is not None:
            self._sink.abort()
            self._sink = None
        if self._sending is not None:
            self._sending.close()
            self._sending = None
        if reset:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()
        self._server.connections.discard(self)
        self._server.gone()

    def close_if_idle(self) -> None:
        """Close between requests, else behind the answer under way."""
        if self._state in (State.HEAD, State.HANDSHAKE):
            self.close()
        else:
            self._close_after = True

    # Receiving

    def _readable(self) -> None:
        try:
            if self._state == State.BODY:
                count = self._sock.recv_into(self._server.receive_buffer)
                data: bytes | memoryview = self._server.receive_buffer[:count]
            else:
                data = self._sock.recv(HEAD_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            self.close()
            return
        if not data:
            self._read(False)
            self._ended = True
            if self._state == State.ANSWER and not self._buffer:
                self._close_after = True
            else:
                self.close()
            return
        self.progress_at = self._loop.time()
        self._server.counters[_BYTES_RECEIVED] += len(data)
        if self._state == State.BODY:
            self._take_body(data)
        elif self._state != State.LINGER:
            self._buffer += data
            if self._state == State.HEAD:
                self._advance()
            elif len(self._buffer) > PIPELINE_BYTES_MAX:
                self._read(False)

    def _advance(self) -> None:
        """Begin the next request when its head is complete."""
        if self._state != State.HEAD:
            return
        try:
            parsed = parse_head(self._buffer, self._searched)
        except Refused as refused:
            self._buffer.clear()
            self._answer_refused(refused)
            return
        if parsed is None:
            self._searched = len(self._buffer)
            return
        self._request, used = parsed
        self._searched = 0
        del self._buffer[:used]
        self._begin(self._request)

    def _begin(self, request: Request) -> None:
        self._request_id = self._server.request_id()
        self._close_after = self._close_after or not request.keep_alive or self._server.draining
        self._refused = None
        answer: Answer
        try:
            answer = self._dispatch(request)
        except Refused as refused:
            if request.body_bytes == 0:
                self._answer_refused(refused)
            elif request.headers.get("expect", "").lower() == "100-continue":
                refused.close = True
                self._answer_refused(refused)
            else:
                self._take_to_nothing(request, refused)
            return
        except Exception as error:  # noqa: BLE001 (logged there; no mistake may leave a client waiting)
            self._broken(error)
            return
        if isinstance(answer, Response | Later):
            if request.body_bytes == 0:
                self._answer(answer)
            else:
                self._expect(request, _Ignored(answer))
        else:
            self._expect(request, answer)

    def _dispatch(self, request: Request) -> Answer:
        server = self._server
        self._fault = None
        target = route(request, server.hosts)
        seconds, _ = server.now()
        call = Call(request, target.bucket, target.key, seconds)
        if target.bucket == CONTROL_BUCKET:
            local = self._peer.startswith("127.") or self._peer == "::1"
            return server.service.control(call, peer_is_local=local)
        server.counters[SLOT[target.operation]] += 1
        server.verifier.check(request, target.bucket, target.key, seconds)
        if server.shared.conditions().faults:
            fault = server.pick_fault(target.operation, target.key)
            if fault is not None and fault.kind == "error":
                raise Refused(fault.status, fault.error_code, "A fault was injected; try again later.")
            self._fault = fault
        return server.service.handle(target.operation, call)

    # Bodies of requests

    def _take_to_nothing(self, request: Request, refused: Refused) -> None:
        """Read a refused body, so that the connection and the answer survive; a large one costs the connection."""
        if refused.close or not 0 <= request.body_bytes <= DROPPED_BYTES_MAX:
            refused.close = True
            self._answer_refused(refused)
        else:
            self._expect(request, _Dropped(refused))

    def _expect(self, request: Request, sink: Sink) -> None:
        self._sink = sink
        self._decoder = BodyDecoder(request.body_bytes)
        self._state = State.BODY
        if request.body_bytes != 0 and not self._buffer and request.headers.get("expect", "").lower() == "100-continue":
            with contextlib.suppress(OSError):
                self._sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        waiting, self._buffer = self._buffer, bytearray()
        self._take_body(memoryview(waiting))

    def _take_body(self, data: bytes | memoryview) -> None:
        assert self._sink is not None
        assert self._decoder is not None
        try:
            parts, used = self._decoder.feed(data)
            for part in parts:
                self._sink.write(part)
            if not self._decoder.finished:
                self._hold_back(used)
                return
            self._buffer = bytearray(data[used:])
            sink, self._sink = self._sink, None
            try:
                answer = sink.finish()
            finally:
                sink.abort()
        except Refused as refused:
            if self._sink is not None:
                self._sink.abort()
                self._sink = None
                refused.close = True
            self._answer_refused(refused)
        except Exception as error:  # noqa: BLE001 (as above)
            self._broken(error)
        else:
            self._answer(answer)

    def _hold_back(self, received: int) -> None:
        """Read no faster than the line allows."""
        conditions = self._server.shared.conditions()
        wait_seconds = 0.0
        if conditions.bandwidth_bytes and received:
            wait_seconds = self._server.shared.reserve(received, conditions.bandwidth_bytes, inward=True)
        if conditions.bandwidth_per_client_bytes:
            wait_seconds = max(wait_seconds, self._own_line.reserve(received, conditions.bandwidth_per_client_bytes))
        if wait_seconds > 0.001:
            self._read(False)
            self._wait(wait_seconds, lambda: self._read(True))

    # Answers

    def _broken(self, error: BaseException) -> None:
        # An OSError is the machine's (disk full): one line.  Anything else is a mistake of ours: with its trace.
        trace = None if isinstance(error, OSError) else error
        method = self._request.method if self._request else ""
        _LOG.error("%s %s: %s", self._request_id, method, error, exc_info=trace)
        if self._sink is not None:
            self._sink.abort()
            self._sink = None
        self._answer_refused(
            Refused(500, "InternalError", "We encountered an internal error. Please try again.", close=True)
        )

    def _answer(self, answer: Response | Later) -> None:
        self._state = State.ANSWER
        if isinstance(answer, Response):
            self._send(answer)
            return
        future = self._loop.run_in_executor(self._server.pool, answer.work)
        future.add_done_callback(self._worked)

    def _worked(self, future: asyncio.Future[Response]) -> None:
        error = None if future.cancelled() else future.exception()
        if self._state == State.CLOSED or future.cancelled():
            file = None if future.cancelled() or error is not None else future.result().file
            if file is not None:
                file.close()
        elif error is None:
            self._send(future.result())
        elif isinstance(error, Refused):
            self._answer_refused(error)
        else:
            self._broken(error)

    def _answer_refused(self, refused: Refused) -> None:
        if not self._request_id:
            self._request_id = self._server.request_id()
        host = self._request.headers.get("host", "") if self._request else ""
        document = refused.body(self._request_id, host)
        text = "Content-Type: application/xml\r\n" + fields(*refused.headers)
        if self._request is not None and self._request.method == "HEAD":
            text += f"x-oss-err: {base64.b64encode(document).decode()}\r\n"
        self._state = State.ANSWER
        self._send(Response(refused.status, text, document, close=refused.close))

    def _send(self, response: Response) -> None:
        """Start an answer, after the latency."""
        server = self._server
        request = self._request
        body, file = response.body, response.file
        length = response.announced_bytes
        if length < 0:
            length = file.size if file is not None else len(body)
        if (request is not None and request.method == "HEAD") or response.status == 304:
            body = b""
            if file is not None:
                file.close()
                file = None
        self._close_after = self._close_after or response.close
        _, date = server.now()
        status = response.status
        length_field = "" if status in (204, 304) else f"Content-Length: {length}\r\n"
        connection = "close" if self._close_after else "keep-alive"
        head = (
            f"HTTP/1.1 {status} {STATUS_REASONS.get(status, 'Unknown')}\r\nServer: AliyunOSS\r\nDate: {date}\r\n"
            f"{length_field}Connection: {connection}\r\nx-oss-request-id: {self._request_id}\r\n{response.fields}\r\n"
        ).encode("latin-1", "replace")
        server.counters[SLOT["answers_2xx"] + min(3, status // 100 - 2)] += 1
        self._sending = Sending(
            self._sock, server.shared, server.counters, self._own_line, head, body, file, self._fault
        )
        if self._sending.delay_seconds > 0:
            self._wait(self._sending.delay_seconds, self._pump)
        else:
            self._pump()

    def _pump(self) -> None:
        """Send what can be sent."""
        sending = self._sending
        assert sending is not None
        try:
            outcome = sending.turn()
        except OSError:
            self.close()
            return
        if outcome is Outcome.SENT:
            self._sent(sending)
        elif outcome is Outcome.BLOCKED:
            self.progress_at = self._loop.time()
            self._write(True)
        elif outcome is Outcome.WAIT:
            self._write(False)
            self._wait(sending.wait_seconds, self._pump)
        else:
            self.close(reset=True)

    def _sent(self, sending: Sending) -> None:
        """An answer is out: on to the next request."""
        self._write(False)
        sending.close()
        self._sending = None
        self.progress_at = self._loop.time()
        if sending.cut:
            self.close(reset=sending.cut == "reset")
            return
        if self._close_after:
            self._linger()
            return
        self._state = State.HEAD
        self._request = None
        self._request_id = ""
        self._fault = None
        if self._buffer:
            self._loop.call_soon(self._advance)
        self._read(True)

    def _linger(self) -> None:
        """Close so that the client can read the answer: bytes it still sends are read and dropped for a while."""
        if self._ended:
            self.close()
            return
        self._state = State.LINGER
        self._buffer.clear()
        self._read(True)
        self._wait(LINGER_SECONDS, self.close)
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()


class _Ignored:
    """A body nobody asked for."""

    def __init__(self, answer: Response | Later) -> None:
        self._answer = answer
        self._given = False

    def write(self, data: memoryview) -> None:
        """Drop it."""

    def finish(self) -> Response | Later:
        """The answer that was ready before."""
        self._given = True
        return self._answer

    def abort(self) -> None:
        """Close the file of an answer that nobody will get."""
        if not self._given and isinstance(self._answer, Response) and self._answer.file is not None:
            self._answer.file.close()


class _Dropped:
    """The body of a refused request."""

    def __init__(self, refused: Refused) -> None:
        self._refused = refused

    def write(self, data: memoryview) -> None:
        """Drop it."""

    def finish(self) -> Response | Later:
        """Now refuse."""
        raise self._refused

    def abort(self) -> None:
        """Nothing was kept."""
