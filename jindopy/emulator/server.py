"""One process of the server: accepts, checks, answers, on raw non-blocking sockets in callbacks of one event loop.

Flow of a connection: head → (body into a sink) → answer → next head.  One request at a time; bytes of the next one
wait in the buffer, and reading pauses when too many wait.  An answer is its head and first bytes in one packet
(``MSG_MORE``), then ``sendfile``, at most TURN_BYTES a turn so that no connection keeps the loop from others.

Bounds: CONNECTIONS_MAX connections, one buffer of PIPELINE_BYTES_MAX each, one receive buffer for all, and no body in
memory but XML.  A connection that makes no progress for STALL_SECONDS is closed by a sweep: one timer for all.

Traps this code minds: a timer that fires after its connection is closed finds the state CLOSED (descriptors are
reused); sendfile answering 0 means that the file was cut under the answer, and only closing tells the client; an error
answer to an upload must not be destroyed by a reset, so the rest of the body is read and dropped for a while.

Threads: the loop's; a small pool runs ``Later`` work, and what it returns comes back to the loop.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import random
import socket
import ssl
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from enum import IntEnum
from typing import Final

from jindopy.base.clock import Clock
from jindopy.emulator.answers import Answer, Call, FileBody, Later, Response, Sink, fields
from jindopy.emulator.errors import STATUS_REASONS, Refused
from jindopy.emulator.faults import FaultRule
from jindopy.emulator.http import BodyDecoder, Request, parse_head
from jindopy.emulator.routing import Hosts, route
from jindopy.emulator.service import CONTROL_BUCKET, Service
from jindopy.emulator.shared import SLOT, Shared, chunk_bytes
from jindopy.emulator.signature import Verifier

CONNECTIONS_MAX: Final = 8192
HEAD_RECEIVE_BYTES: Final = 16 << 10
BODY_RECEIVE_BYTES: Final = 256 << 10
PIPELINE_BYTES_MAX: Final = 64 << 10
TURN_BYTES: Final = 1 << 20
TLS_CHUNK_BYTES: Final = 256 << 10
STALL_SECONDS: Final = 60.0
LINGER_SECONDS: Final = 2.0
DRAIN_SECONDS: Final = 10.0
WORKER_THREADS: Final = 4
ACCEPTS_PER_TURN: Final = 16

_BYTES_SENT: Final = SLOT["bytes_sent"]
_BYTES_RECEIVED: Final = SLOT["bytes_received"]
_OPEN: Final = SLOT["connections_open"]
_LOG = logging.getLogger(__name__)


class State(IntEnum):
    """Where a connection is."""

    HANDSHAKE = 0
    HEAD = 1
    BODY = 2
    ANSWER = 3
    LINGER = 4
    CLOSED = 5


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
        self._clock = clock
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
        self.gone()

    def gone(self) -> None:
        """A connection has ended."""
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
        seconds = self._clock.wall_ns() / 1e9 + self.shared.conditions().clock_offset_seconds
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
        self._out: memoryview | None = None
        self._file: FileBody | None = None
        self._left = 0
        self._granted = 0
        self._own_line_ns = 0
        self._close_after = False
        self._cut = ""
        self._corrupt_at = -1
        self._slow_bytes = 0
        self.progress_at = self._loop.time()
        self._start()

    def _start(self) -> None:
        self._read(True)

    @property
    def waits_on_purpose(self) -> bool:
        """Whether latency, the line or a worker thread holds the answer back."""
        return self._state == State.ANSWER and (self._timer is not None or self._out is None)

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
        if self._file is not None:
            self._file.close()
            self._file = None
        if reset:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()
        self._server.connections.discard(self)
        self._server.counters[_OPEN] -= 1
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
        except OSError as error:
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
            self._fault = server.pick_fault(target.operation, target.key)
            if self._fault is not None and self._fault.kind == "error":
                raise Refused(self._fault.status, self._fault.error_code, "A fault was injected; try again later.")
        return server.service.handle(target.operation, call)

    # Bodies of requests

    def _take_to_nothing(self, request: Request, refused: Refused) -> None:
        """Read a refused body, so that the connection and the answer survive; a large one costs the connection."""
        if refused.close or not 0 <= request.body_bytes <= TURN_BYTES:
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
        except OSError as error:
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
            wait_seconds = max(wait_seconds, self._reserve_own(received, conditions.bandwidth_per_client_bytes))
        if wait_seconds > 0.001:
            self._read(False)
            self._wait(wait_seconds, lambda: self._read(True))

    def _reserve_own(self, size: int, rate_bytes: int) -> float:
        now_ns = round(self._loop.time() * 1e9)
        start_ns = max(self._own_line_ns, now_ns)
        self._own_line_ns = start_ns + size * 1_000_000_000 // rate_bytes
        return (start_ns - now_ns) / 1e9

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
        self._out = None
        future = self._loop.run_in_executor(self._server.pool, answer.work)
        future.add_done_callback(self._worked)

    def _worked(self, future: asyncio.Future[Response]) -> None:
        error = None if future.cancelled() else future.exception()
        if self._state == State.CLOSED or future.cancelled():
            if error is None and not future.cancelled() and future.result().file is not None:
                future.result().file.close()  # type: ignore[union-attr]
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
        text = "Content-Type: application/xml\r\n"
        try:
            text += fields(*refused.headers)
        except Refused:
            text += ""
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
        self._file = file
        self._left = file.size if file is not None else 0
        self._granted = 0
        self._cut = ""
        self._corrupt_at = -1
        self._slow_bytes = 0
        delay_seconds = server.shared.conditions().latency_seconds
        if self._fault is not None:
            body, more_seconds = self._apply_fault(self._fault, body)
            delay_seconds += more_seconds
        rate = server.shared.conditions().bandwidth_bytes
        if rate and body:
            delay_seconds += server.shared.reserve(len(body), rate)
        self._out = memoryview(head + body)
        if delay_seconds > 0:
            self._wait(delay_seconds, self._pump)
        else:
            self._pump()

    def _apply_fault(self, rule: FaultRule, body: bytes) -> tuple[bytes, float]:
        total = self._left or len(body)
        if rule.kind == "slow":
            self._slow_bytes = rule.bytes_per_second
            return body, rule.delay_seconds
        if rule.kind == "corrupt":
            if self._left:
                self._corrupt_at = self._left // 2
            return body, 0.0
        self._cut = rule.kind
        cut = min(total, rule.after_bytes if rule.after_bytes >= 0 else total // 2)
        if self._left:
            self._left = cut
            return body, 0.0
        return body[:cut], 0.0

    def _grant(self) -> float:
        """Reserve the next chunk of the line; returns the seconds until it may go."""
        conditions = self._server.shared.conditions()
        rate = conditions.bandwidth_bytes
        own_rate = conditions.bandwidth_per_client_bytes
        if self._slow_bytes:
            own_rate = min(own_rate, self._slow_bytes) if own_rate else self._slow_bytes
        if not rate and not own_rate:
            self._granted = self._left
            return 0.0
        slowest = min(value for value in (rate, own_rate) if value)
        self._granted = min(self._left, chunk_bytes(slowest))
        wait_seconds = self._server.shared.reserve(self._granted, rate) if rate else 0.0
        if own_rate:
            wait_seconds = max(wait_seconds, self._reserve_own(self._granted, own_rate))
        return wait_seconds

    def _pump(self) -> None:
        """Send what can be sent."""
        room = TURN_BYTES
        counters = self._server.counters
        try:
            while room > 0:
                if self._left and not self._granted:
                    wait_seconds = self._grant()
                    if wait_seconds > 0:
                        self._write(False)
                        self._wait(wait_seconds, self._pump)
                        return
                if self._out:
                    count = self._sock.send(self._out, socket.MSG_MORE if self._left else 0)
                    self._out = self._out[count:]
                elif self._left:
                    count = self._send_file(min(self._granted, room))
                    if count < 0:
                        continue
                    if count == 0:
                        self.close(reset=True)
                        return
                else:
                    self._sent()
                    return
                room -= count
                counters[_BYTES_SENT] += count
        except (BlockingIOError, InterruptedError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except OSError:
            self.close()
            return
        self.progress_at = self._loop.time()
        self._write(True)

    def _send_file(self, size: int) -> int:
        """Send from the file; returns 0 when it has become too short, -1 when bytes were put into ``_out`` instead."""
        file = self._file
        assert file is not None
        at = file.offset
        if file.period_bytes:
            at %= file.period_bytes
            size = min(size, file.period_bytes - at)
        if self._corrupt_at >= 0:
            return self._load(file, at, size)
        count = os.sendfile(self._fd, file.fd, at, size)
        self._moved(file, count)
        return count

    def _load(self, file: FileBody, at: int, size: int) -> int:
        data = os.pread(file.fd, min(size, TLS_CHUNK_BYTES), at)
        if not data:
            return 0
        if 0 <= self._corrupt_at < len(data):
            wrong = bytearray(data)
            wrong[self._corrupt_at] ^= 1
            data = bytes(wrong)
        self._corrupt_at -= len(data)
        self._moved(file, len(data))
        self._out = memoryview(data)
        return -1

    def _moved(self, file: FileBody, count: int) -> None:
        file.offset += count
        self._left -= count
        self._granted -= count

    def _sent(self) -> None:
        """An answer is out: on to the next request."""
        self._write(False)
        self._out = None
        if self._file is not None:
            self._file.close()
            self._file = None
        self.progress_at = self._loop.time()
        if self._cut:
            self.close(reset=self._cut == "reset")
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


class TlsConnection(Connection):
    """The same over TLS: no sendfile, and what the library has already decrypted does not wake the loop."""

    def _start(self) -> None:
        assert self._server.tls is not None
        self._state = State.HANDSHAKE
        self._sock = self._server.tls.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
        self._fd = self._sock.fileno()
        self._read(True)

    def _readable(self) -> None:
        if self._state == State.HANDSHAKE:
            self._shake()
            return
        super()._readable()
        sock = self._sock
        assert isinstance(sock, ssl.SSLSocket)
        while self._reading and self._state != State.CLOSED and sock.pending():
            super()._readable()

    def _shake(self) -> None:
        sock = self._sock
        assert isinstance(sock, ssl.SSLSocket)
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            self._write(False)
        except ssl.SSLWantWriteError:
            self._write(True)
        except OSError:
            self.close()
        else:
            self._write(False)
            self._state = State.HEAD
            self._readable()

    def _pump(self) -> None:
        if self._state == State.HANDSHAKE:
            self._shake()
        else:
            super()._pump()

    def _read(self, wanted: bool) -> None:
        resumed = wanted and not self._reading and self._state in (State.HEAD, State.BODY)
        super()._read(wanted)
        if resumed and isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self._reading and self._state != State.CLOSED:
            self._readable()

    def _send_file(self, size: int) -> int:
        file = self._file
        assert file is not None
        at = file.offset
        if file.period_bytes:
            at %= file.period_bytes
            size = min(size, file.period_bytes - at)
        return self._load(file, at, size)


class _Ignored:
    """A body nobody asked for."""

    def __init__(self, answer: Response | Later) -> None:
        self._answer = answer

    def write(self, data: memoryview) -> None:
        """Drop it."""

    def finish(self) -> Response | Later:
        """The answer that was ready before."""
        return self._answer

    def abort(self) -> None:
        """Nothing was kept but the answer's descriptor."""


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
