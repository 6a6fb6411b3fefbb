"""The OSS driver behind a proxy that alone knows the way: plain requests, tunnels, passwords, refusals."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from contracts.ufs import read_all, soon
from emulator_fixture import Emulator, certificate, running_emulator

from jindopy.base import errors
from jindopy.ufs.base import Driver
from jindopy.ufs.credentials import Credentials, Static
from jindopy.ufs.registry import open_driver

DOMAIN = "oss.example.com"  # nobody but the proxy can say where that is
PASSWORD = "Basic dXNlcjpwQHNz"  # user:p@ss


class Forwarding(BaseHTTPRequestHandler):
    """Sends every host's requests to one port of this machine."""

    protocol_version = "HTTP/1.1"
    timeout = 20
    server: Proxy

    def do_CONNECT(self) -> None:
        if not self._admitted():
            return
        with socket.create_connection(("127.0.0.1", self.server.target_port)) as inner:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=pump, args=(inner, self.connection))
            back.start()
            pump(self.connection, inner)
            back.join()
        self.close_connection = True

    def do_GET(self) -> None:
        if not self._admitted():
            return
        assert self.path.startswith("http://"), self.path
        authority, slash, target = self.path[7:].partition("/")
        assert self.headers["Host"] == authority
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name != "Proxy-Authorization"}
        inner = http.client.HTTPConnection("127.0.0.1", self.server.target_port, timeout=20)
        inner.request(self.command, slash + target, body or None, headers)
        answer = inner.getresponse()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.read())
        inner.close()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _admitted(self) -> bool:
        self.server.seen.append((self.command, self.path))
        if self.server.password and self.headers.get("Proxy-Authorization") != self.server.password:
            self.send_response(407)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return False
        return True

    def log_message(self, *_: object) -> None:
        """Quiet."""


def pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Proxy(ThreadingHTTPServer):
    """See Forwarding."""

    daemon_threads = True

    def __init__(self, target_port: int) -> None:
        super().__init__(("127.0.0.1", 0), Forwarding)
        self.target_port = target_port
        self.password = ""
        self.seen: list[tuple[str, str]] = []
        self.address = f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """Clients that leave early are no news."""


def proxy_before(emulator: Emulator) -> Iterator[Proxy]:
    with Proxy(emulator.port) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Proxy]:
    with running_emulator(tmp_path, buckets=["bucket"], domains=[DOMAIN]) as emulator:
        yield from proxy_before(emulator)


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[tuple[Proxy, Path]]:
    authority, key = certificate(tmp_path)
    with running_emulator(
        tmp_path / "root", buckets=["bucket"], domains=[DOMAIN], tls_cert=authority, tls_key=key
    ) as emulator:
        for proxy in proxy_before(emulator):
            yield proxy, authority


@pytest.fixture(autouse=True)
def _no_other_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def opened(endpoint: str, **options: str) -> Driver:
    given = {"fs.oss.endpoint": endpoint, "fs.oss.region": "cn-hangzhou"}
    given |= {f"fs.oss.{name.replace('_', '.')}": value for name, value in options.items()}
    keys = Credentials("jindopy-demo-id", "jindopy-demo-secret")
    driver, _ = open_driver("oss://bucket", given, Static(keys))
    return driver


def test_plain_requests_go_whole_to_the_proxy(plain: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:p%40ss@{plain.address}")
    plain.password = PASSWORD
    driver = opened(f"http://{DOMAIN}")
    data = os.urandom(2_000_000)
    for key in (b"a key/\xc3\xbc+%41", b"a//b", b"-._~:@!$&'()*,;="):
        made = driver.put(key, data, deadline=soon())
        assert read_all(driver, key, len(data), token=made.token) == data
    assert len(driver.list_page(b"", delimiter=False, deadline=soon()).objects) == 3
    driver.close()
    hosts = {path.removeprefix("http://").partition("/")[0].removesuffix(":80") for _, path in plain.seen}
    assert hosts == {f"bucket.{DOMAIN}"}


def test_encrypted_requests_go_through_a_tunnel(encrypted: tuple[Proxy, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, authority = encrypted
    proxy.password = PASSWORD
    monkeypatch.setenv("HTTPS_PROXY", f"user:p%40ss@{proxy.address}")
    driver = opened(f"https://{DOMAIN}", ca_file=str(authority))
    data = os.urandom(3_000_000)
    made = driver.put(b"key", data, deadline=soon())
    for _ in range(3):
        assert read_all(driver, b"key", len(data), token=made.token) == data
    driver.close()
    assert set(proxy.seen) == {("CONNECT", f"bucket.{DOMAIN}:443")}
    assert len(proxy.seen) == 2, "tunnels are kept: one of those who GET, one of those who do the rest"


def test_a_wrong_password_is_told_and_not_shown(encrypted: tuple[Proxy, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, authority = encrypted
    proxy.password = PASSWORD
    monkeypatch.setenv("https_proxy", f"http://user:hunter2@{proxy.address}")
    driver = opened(f"https://{DOMAIN}", ca_file=str(authority))
    with pytest.raises(errors.Unavailable, match=rf"proxy http://{proxy.address} .*407.*https_proxy") as caught:
        driver.check(deadline=soon())
    driver.close()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy"])
def test_a_proxy_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    driver = opened(f"{name.partition('_')[0]}://{DOMAIN}")
    with pytest.raises(errors.Unavailable, match=rf"proxy http://127\.0\.0\.1:{port} .*refused"):
        driver.check(deadline=soon())
    driver.close()


def test_loopback_needs_no_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with running_emulator(tmp_path, buckets=["bucket"]) as emulator:
        driver = opened(emulator.endpoint)
        driver.check(deadline=soon())
        driver.close()
