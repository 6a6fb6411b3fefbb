"""The native client against servers that do what the test tells them to, honest and not."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from emulator_fixture import certificate

from jindopy._ext.httpcrew import libcurl_version
from jindopy._ext.httpget import DownloadLimit, Getter, Stream

Serve = Callable[[socket.socket, bytes], bool]
"""Told the request, answers it; whether the connection stays."""

PARTIAL, RESET = 18, 56


class Peer:
    """A server of one answer."""

    def __init__(self, serve: Serve, context: ssl.SSLContext | None = None) -> None:
        self.serve = serve
        self.requests: list[bytes] = []
        self.connections = 0
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads.append(threading.Thread(target=self._accept))
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._talk, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            self._open.append(connection)
            while True:
                request = b""
                while b"\r\n\r\n" not in request:
                    if not (part := connection.recv(65536)):
                        return
                    request += part
                self.requests.append(request)
                if not self.serve(connection, request):
                    connection.close()
                    return

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)
        for connection in self._open:
            connection.close()


@pytest.fixture
def peers() -> Iterator[Callable[..., Peer]]:
    made: list[Peer] = []

    def make(serve: Serve, context: ssl.SSLContext | None = None) -> Peer:
        made.append(Peer(serve, context))
        return made[-1]

    yield make
    for peer in made:
        peer.close()


@contextlib.contextmanager
def getter(
    connections: int = 4, *, connect_seconds: float = 2, silence_seconds: float = 5, **more: str
) -> Iterator[Getter]:
    made = Getter(connections, connect_seconds=connect_seconds, silence_seconds=silence_seconds, **more)
    try:
        yield made
    finally:
        made.close()


def answer(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers, "", ""]).encode() + body


def says(text: bytes, *, stays: bool = True) -> Serve:
    def serve(connection: socket.socket, _: bytes) -> bool:
        connection.sendall(text)
        return stays

    return serve


def everything(stream: Stream, room: int = 1 << 20) -> bytes:
    target = bytearray(room)
    return bytes(target[: stream.readinto(memoryview(target))])


def ended(stream: Stream, seconds: float = 10) -> str:
    until = time.monotonic() + seconds
    while stream.ending is None and time.monotonic() < until:
        time.sleep(0.01)
    assert stream.ending is not None
    return stream.ending.outcome


def test_the_library_says_who_it_is() -> None:
    assert libcurl_version().startswith("libcurl/")


def test_bodies_in_pieces_of_any_size(peers: Callable[..., Peer]) -> None:
    body = random.Random(1).randbytes(3_000_000)
    peer = peers(says(answer(body, 'ETag: "tag"', "X-Twice: a", "x-twice: b")))
    with getter() as client:
        for piece in (1 << 20, 100_001, 4_000_000):
            stream = client.open(f"{peer.url}/a%20b?c=d", {"X-Own": "1", "X-Empty": ""}, 20)
            assert stream.wait_head()
            assert (stream.status, stream.length, stream.headers["etag"]) == (200, len(body), '"tag"')
            assert stream.headers["x-twice"] == "a, b"
            parts = []
            while part := everything(stream, piece):
                parts.append(part)
            assert b"".join(parts) == body
            assert ended(stream) == "done"
    assert peer.connections == 1, "a connection that was read to its end is kept"
    assert peer.requests[0].startswith(b"GET /a%20b?c=d HTTP/1.1\r\n")
    assert b"\r\nX-Own: 1\r\nX-Empty:\r\n" in peer.requests[0]
    assert b"Accept-Encoding" not in peer.requests[0]


def test_connections_are_bounded(peers: Callable[..., Peer]) -> None:
    def serve(connection: socket.socket, _: bytes) -> bool:
        time.sleep(0.02)
        connection.sendall(answer(b"x" * 1000))
        return True

    peer = peers(serve)
    with getter(3) as client:
        streams = [client.open(peer.url, {}, 20) for _ in range(30)]
        # In this order: a body that nobody reads keeps its connection.
        assert {everything(stream) for stream in streams} == {b"x" * 1000}
        assert client.connections == 3
    assert peer.connections <= 3


def test_a_kept_connection_that_died_is_noticed(peers: Callable[..., Peer]) -> None:
    peer = peers(says(answer(b"whole"), stays=False))
    with getter() as client:
        for _ in range(5):
            stream = client.open(peer.url, {}, 20)
            assert stream.wait_head()
            assert everything(stream) == b"whole"
    assert peer.connections == 5


@pytest.mark.parametrize(
    ("head", "sent", "code"),
    [(1_000_000, 400_000, PARTIAL), (10, 0, PARTIAL)],
)
def test_a_short_body_is_told(peers: Callable[..., Peer], head: int, sent: int, code: int) -> None:
    peer = peers(says(answer(b"x" * sent, length=head), stays=False))
    with getter() as client:
        stream = client.open(peer.url, {}, 20)
        assert stream.wait_head()
        assert len(everything(stream, head)) == sent
        assert ended(stream) == "failed"
        assert stream.ending is not None
        assert stream.ending.code == code


def test_a_reset_in_a_body_is_told(peers: Callable[..., Peer]) -> None:
    def serve(connection: socket.socket, _: bytes) -> bool:
        connection.sendall(answer(b"x" * 1000, length=5000))
        time.sleep(0.2)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    peer = peers(serve)
    with getter() as client:
        stream = client.open(peer.url, {}, 20)
        assert len(everything(stream, 5000)) == 1000
        assert stream.ending is not None
        assert (stream.ending.outcome, stream.ending.code) == ("failed", RESET)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-", answer(b"x" * 10, length=1000)])
def test_silence_ends_a_transfer(peers: Callable[..., Peer], head: bytes) -> None:
    def serve(connection: socket.socket, _: bytes) -> bool:
        connection.sendall(head)
        time.sleep(3)
        return False

    peer = peers(serve)
    with getter(silence_seconds=0.4) as client:
        began = time.monotonic()
        stream = client.open(peer.url, {}, 20)
        if stream.wait_head():
            assert len(everything(stream, 1000)) == 10
        assert ended(stream) == "silent"
        assert 0.3 < time.monotonic() - began < 2.5


def test_a_slow_but_steady_body_is_no_silence(peers: Callable[..., Peer]) -> None:
    def serve(connection: socket.socket, _: bytes) -> bool:
        connection.sendall(answer(b"", length=10))
        for _ in range(10):
            time.sleep(0.1)
            connection.sendall(b"x")
        return True

    peer = peers(serve)
    with getter(silence_seconds=0.5) as client:
        assert everything(client.open(peer.url, {}, 20), 10) == b"x" * 10


def test_the_deadline_ends_everything(peers: Callable[..., Peer]) -> None:
    def serve(connection: socket.socket, _: bytes) -> bool:
        connection.sendall(answer(b"", length=1000))
        for _ in range(30):
            time.sleep(0.1)
            connection.sendall(b"x")
        return False

    peer = peers(serve)
    with getter() as client:
        began = time.monotonic()
        stream = client.open(peer.url, {}, 0.5)
        assert len(everything(stream, 1000)) < 10
        assert ended(stream) == "deadline"
        assert time.monotonic() - began < 2


def test_waiting_for_a_connection_counts(peers: Callable[..., Peer]) -> None:
    def serve(connection: socket.socket, _: bytes) -> bool:
        time.sleep(1.5)
        connection.sendall(answer(b"late"))
        return True

    peer = peers(serve)
    with getter(1) as client:
        first = client.open(peer.url, {}, 20)
        second = client.open(peer.url, {}, 0.3)
        assert not second.wait_head()
        assert ended(second) == "deadline"
        assert everything(first, 4) == b"late"


def test_closing_a_stream_ends_its_transfer_at_once(peers: Callable[..., Peer]) -> None:
    def serve(connection: socket.socket, _: bytes) -> bool:
        connection.recv(1)
        return False

    peer = peers(serve)
    with getter() as client:
        stream = client.open(peer.url, {}, 60)
        time.sleep(0.2)
        began = time.monotonic()
        stream.close()
        assert ended(stream) == "cancelled"
        assert time.monotonic() - began < 1


def test_closing_the_getter_ends_all(peers: Callable[..., Peer]) -> None:
    def serve(connection: socket.socket, _: bytes) -> bool:
        connection.recv(1)
        return False

    peer = peers(serve)
    with getter(2) as client:
        streams = [client.open(peer.url, {}, 60) for _ in range(5)]
        time.sleep(0.2)
        began = time.monotonic()
        client.close()
        assert time.monotonic() - began < 2
        assert [ended(stream) for stream in streams] == ["cancelled"] * 5
        with pytest.raises(ValueError, match="closed"):
            client.open(peer.url, {}, 1)


def test_a_body_nobody_reads_holds_the_server_back(peers: Callable[..., Peer]) -> None:
    sent = 0

    def serve(connection: socket.socket, _: bytes) -> bool:
        nonlocal sent
        connection.sendall(answer(b"", length=64 << 20))
        for _ in range(1024):
            connection.sendall(bytes(65536))
            sent += 65536
        return True

    peer = peers(serve)
    with getter() as client:
        stream = client.open(peer.url, {}, 30)
        assert stream.wait_head()
        time.sleep(1)
        assert sent < 24 << 20, "what sockets hold, and no more"
        total = 0
        while part := everything(stream):
            total += len(part)
        assert total == 64 << 20


def test_a_redirect_is_an_answer_and_nothing_goes_elsewhere(peers: Callable[..., Peer]) -> None:
    elsewhere = peers(says(answer(b"stolen")))
    peer = peers(says(answer(b"", f"Location: {elsewhere.url}/", status="302 Found")))
    with getter() as client:
        stream = client.open(peer.url, {"Authorization": "OSS secret"}, 10)
        assert stream.wait_head()
        assert stream.status == 302
        assert stream.headers["location"] == f"{elsewhere.url}/"
        assert ended(stream) == "done"
    assert elsewhere.connections == 0


def test_endless_headers_end_the_transfer(peers: Callable[..., Peer]) -> None:
    line = b"a: " + b"b" * 30_000 + b"\r\n"
    peer = peers(says(b"HTTP/1.1 200 OK\r\n" + 3 * line, stays=False))
    with getter() as client:
        stream = client.open(peer.url, {}, 10)
        assert not stream.wait_head()
        assert ended(stream) == "head"


def test_headers_that_break_off_are_no_answer(peers: Callable[..., Peer]) -> None:
    peer = peers(says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", stays=False))
    with getter() as client:
        stream = client.open(peer.url, {}, 10)
        assert not stream.wait_head()
        assert stream.status == 0


def test_contradicting_lengths_are_no_length(peers: Callable[..., Peer]) -> None:
    peer = peers(says(answer(b"x" * 10, "Content-Length: 11"), stays=False))
    with getter() as client:
        stream = client.open(peer.url, {}, 10)
        assert not stream.wait_head() or stream.length == -1


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://127.0.0.1/a\r\nX: y", {}),
        ("http://127.0.0.1/\x00", {}),
        ("http://127.0.0.1/ä", {}),
        ("http://127.0.0.1/", {"A": "b\r\nC: d"}),
        ("http://127.0.0.1/", {"A\n": "b"}),
    ],
)
def test_nothing_is_smuggled_into_a_request(url: str, headers: dict[str, str]) -> None:
    with getter() as client, pytest.raises(ValueError, match="no request line"):
        client.open(url, headers, 1)


def test_other_protocols_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    with getter() as client:
        stream = client.open(f"file://{secret}", {}, 5)
        assert not stream.wait_head()
        assert ended(stream) == "failed"


def tls(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    authority, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, key)
    return context, authority


def test_certificates_are_checked(peers: Callable[..., Peer], tmp_path: Path) -> None:
    context, authority = tls(tmp_path)
    (tmp_path / "other").mkdir()
    _, stranger = tls(tmp_path / "other")
    peer = peers(says(answer(b"x" * 500_000)), context)
    with getter(ca_file=str(authority)) as client:
        for _ in range(3):
            assert everything(client.open(peer.url, {}, 20)) == b"x" * 500_000
    # A thread is back a moment after its body was read; until then the next GET has another, with its own connection.
    assert peer.connections < 3
    with getter(ca_file=str(authority)) as client:
        wrong_name = client.open(peer.url.replace("127.0.0.1", "localhost"), {}, 20)
        assert not wrong_name.wait_head()
        assert wrong_name.ending is not None
        assert wrong_name.ending.code == 60
    for trusted in ({"ca_file": str(stranger)}, {}):
        with getter(**trusted) as client:
            stream = client.open(peer.url, {}, 20)
            assert not stream.wait_head()
            assert stream.ending is not None
            assert stream.ending.code == 60
    assert len(peer.requests) == 3, "nothing was asked of a server that is not trusted"


def test_a_limit_is_shared(peers: Callable[..., Peer]) -> None:
    peer = peers(says(answer(bytes(1_000_000))))
    limit = DownloadLimit(2_000_000)
    with getter() as one, getter() as other:
        one.share(limit)
        other.share(limit)
        began = time.monotonic()
        streams = [client.open(peer.url, {}, 30) for client in (one, other, one, other)]
        assert [len(everything(stream)) for stream in streams] == [1_000_000] * 4
        seconds = time.monotonic() - began
    assert 1.7 < seconds < 6, "4 MB at 2 MB/s"
    with pytest.raises(ValueError, match="above 0"):
        DownloadLimit(0)


def test_changed_bytes_never_hang_or_crash(peers: Callable[..., Peer]) -> None:
    chance = random.Random(5)
    good = answer(b"x" * 300, 'ETag: "tag"', "Content-Range: bytes 0-299/300", "Connection: keep-alive")

    def serve(connection: socket.socket, _: bytes) -> bool:
        text = bytearray(good)
        for _ in range(chance.randint(1, 8)):
            match chance.randrange(3):
                case 0:
                    text[chance.randrange(len(text))] = chance.randrange(256)
                case 1:
                    del text[chance.randrange(len(text))]
                case _:
                    text.insert(chance.randrange(len(text)), chance.choice(b"\r\n:0 \x00"))
        connection.sendall(bytes(text))
        return False

    peer = peers(serve)
    with getter(8, silence_seconds=2) as client:
        for _ in range(150):
            stream = client.open(peer.url, {}, 10)
            if stream.wait_head():
                assert len(everything(stream)) <= 1 << 20
            stream.close()
            ended(stream)
    assert len(peer.requests) >= 150


HANGING_RESOLVER = """
#include <unistd.h>
struct addrinfo;
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    sleep(30);
    return -2;
}
"""
ASKS = """
import time
from jindopy._ext.httpget import Getter
began = time.monotonic()
client = Getter(2, connect_seconds=0.5, silence_seconds=5)
stream = client.open("http://oss.example.com/", {}, 20)
assert not stream.wait_head(), stream.status
print(stream.ending.code, stream.ending.text, flush=True)
client.close()
assert time.monotonic() - began < 5, time.monotonic() - began
import os
os._exit(0)  # the resolver's own thread still sleeps
"""


def test_a_resolver_that_hangs_is_left_to_itself(tmp_path: Path) -> None:
    source, library = tmp_path / "hanging.c", tmp_path / "hanging.so"
    source.write_text(HANGING_RESOLVER)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    environment = {"LD_PRELOAD": str(library)}
    done = subprocess.run(
        [sys.executable, "-c", ASKS], check=False, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("28 "), done.stdout
    assert "esolving timed out" in done.stdout
