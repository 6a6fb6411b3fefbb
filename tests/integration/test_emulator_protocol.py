"""The emulator on bare sockets and under adverse clients: what no library would send, faults, line, TLS, processes."""

from __future__ import annotations

import base64
import hmac
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import psutil
import pytest
from emulator_fixture import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator, certificate, running_emulator

from jindopy._ext.crc64 import crc64

MB = 1 << 20


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    synthetic = ["name=meta,prefixes=2,objects=10,size=3MB"]
    with running_emulator(tmp_path_factory.mktemp("oss"), buckets=["demo"], synthetic=synthetic) as running:
        yield running


@pytest.fixture
def calm(emulator: Emulator) -> Iterator[Emulator]:
    """The emulator, without faults again behind the test."""
    yield emulator
    emulator.control("PUT", "conditions", {})


def signed(
    method: str,
    resource: str,
    target: str = "",
    *,
    body: bytes | None = None,
    headers: tuple[tuple[str, str], ...] = (),
    key_id: str = ACCESS_KEY_ID,
    secret: str = ACCESS_KEY_SECRET,
    at: float | None = None,
) -> bytes:
    """A request signed by V1; ``resource`` is what is signed, ``target`` what is sent (the same if empty)."""
    date = formatdate(at, usegmt=True)
    oss = "".join(f"{name}:{value}\n" for name, value in sorted(headers) if name.startswith("x-oss-"))
    text = f"{method}\n\n\n{date}\n{oss}{resource}"
    signature = base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha1")).decode()
    lines = [f"{method} {target or resource} HTTP/1.1", "Host: 127.0.0.1", f"Date: {date}"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines.append(f"Authorization: OSS {key_id}:{signature}")
    if body is not None and not any(name == "transfer-encoding" for name, _ in headers):
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + (body or b"")


class Client:
    """A bare connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(20)
        self.stream = sock.makefile("rb")

    @classmethod
    def to(cls, emulator: Emulator) -> Client:
        return cls(socket.create_connection(("127.0.0.1", emulator.port)))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.sock.close()

    def answer(self, *, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        line = self.stream.readline()
        if not line:
            raise EOFError
        headers = {}
        while (field := self.stream.readline()) not in (b"\r\n", b""):
            name, _, value = field.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        size = 0 if head_only else int(headers.get("content-length", "0"))
        return int(line.split()[1]), headers, self.stream.read(size)

    def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        self.sock.sendall(request)
        return self.answer()


def put(emulator: Emulator, key: str, data: bytes) -> None:
    path = emulator.root / "demo" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_keep_alive_and_pipelining(emulator: Emulator) -> None:
    put(emulator, "p", b"body")
    with Client.to(emulator) as client:
        requests = signed("GET", "/demo/p") + signed("PUT", "/demo/q", body=b"put") + signed("GET", "/demo/q")
        requests += signed("DELETE", "/demo/q") + signed("GET", "/demo/q")
        for byte in requests[:400]:  # the first one drips in
            client.sock.sendall(bytes([byte]))
        client.sock.sendall(requests[400:])
        answers = [client.answer() for _ in range(5)]
    assert [answer[0] for answer in answers] == [200, 200, 200, 204, 404]
    assert (answers[0][2], answers[2][2]) == (b"body", b"put")
    assert len({answer[1]["x-oss-request-id"] for answer in answers}) == 5


def test_dot_keys_stay_inside(emulator: Emulator) -> None:
    with Client.to(emulator) as client:
        for key in (".", "..", "../..", "a/..", "../demo"):
            target = "/demo/" + key.replace(".", "%2E")
            assert client.ask(signed("PUT", f"/demo/{key}", target, body=key.encode()))[0] == 200
            assert client.ask(signed("GET", f"/demo/{key}", target))[2] == key.encode()
            assert client.ask(signed("DELETE", f"/demo/{key}", target))[0] == 204
    assert {path.name for path in emulator.root.iterdir()} == {"demo", ".jindopy-emulator"}


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"NONSENSE\r\n\r\n", 400, b"MalformedRequest"),
        (b"GET /demo/p HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 403, b"AccessDenied"),
        (signed("GET", "/demo/p", secret="wrong"), 403, b"SignatureDoesNotMatch"),
        (signed("GET", "/demo/p", key_id="nobody"), 403, b"InvalidAccessKeyId"),
        (signed("GET", "/demo/p", at=1_000_000_000), 403, b"RequestTimeTooSkewed"),
        (signed("GET", "/demo/p", "/demo/other"), 403, b"SignatureDoesNotMatch"),
        (signed("GET", "/demo/nothing"), 404, b"NoSuchKey"),
        (signed("GET", "/no-bucket/p"), 404, b"NoSuchBucket"),
        (signed("GET", "/Bad_Bucket/p"), 400, b"InvalidBucketName"),
        (signed("GET", "/demo/?cors"), 501, b"NotImplemented"),
        (signed("PUT", "/demo/k?symlink"), 400, b"InvalidArgument"),
        (signed("GET", "/demo/", "/demo/?max-keys=x"), 400, b"InvalidArgument"),
        (signed("GET", "/demo/", "/demo/?max-keys=" + "9" * 5000), 400, b"InvalidArgument"),
        (signed("PUT", "/demo/k", body=b"", headers=(("x-oss-hash-crc64ecma", "1" * 5000),)), 400, b"InvalidArgument"),
        (signed("POST", "/demo/?delete", body=b"<!DOCTYPE a><Delete/>"), 400, b"MalformedXML"),
    ],
)
def test_error_bodies(emulator: Emulator, request_bytes: bytes, status: int, code: bytes) -> None:
    put(emulator, "p", b"body")
    with Client.to(emulator) as client:
        got, headers, body = client.ask(request_bytes)
    assert (got, code in body, headers["content-type"]) == (status, True, "application/xml")
    assert headers["x-oss-request-id"].encode() in body


def test_truncated_uploads_leave_nothing(emulator: Emulator) -> None:
    before = emulator.stats()["connections_open"]
    request = signed("PUT", "/demo/cut", body=b"x" * MB)
    for size in (len(request) - 1, len(request) - MB, 300):
        with Client.to(emulator) as client:
            client.sock.sendall(request[:size])
            time.sleep(0.05)
    chunked = signed("PUT", "/demo/cut", body=b"5\r\nhello\r\n3\r\nab", headers=(("transfer-encoding", "chunked"),))
    with Client.to(emulator) as client:
        client.sock.sendall(chunked)
        time.sleep(0.05)
    deadline = time.monotonic() + 5
    while emulator.stats()["connections_open"] > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not (emulator.root / "demo/cut").exists()
    assert not any((emulator.root / ".jindopy-emulator/tmp").iterdir())


def test_refused_uploads_are_answered(emulator: Emulator) -> None:
    with Client.to(emulator) as client:
        small = client.ask(signed("PUT", "/nowhere/k", body=b"x" * 1000))
        assert (small[0], small[1]["connection"]) == (404, "keep-alive")
        large = client.ask(signed("PUT", "/nowhere/k", body=b"x" * (8 * MB)))
        assert (large[0], large[1]["connection"]) == (404, "close")
    with Client.to(emulator) as client:
        request = signed("PUT", "/demo/expected", body=b"12345", headers=(("expect", "100-continue"),))
        client.sock.sendall(request[:-5])
        assert client.answer()[0] == 100
        client.sock.sendall(b"12345")
        assert client.answer()[0] == 200


def test_concurrent_puts_leave_one_of_them(emulator: Emulator) -> None:
    bodies = [bytes([65 + number]) * 200_000 for number in range(8)]

    def write(body: bytes) -> None:
        with Client.to(emulator) as client:
            for _ in range(5):
                assert client.ask(signed("PUT", "/demo/raced", body=body))[0] == 200

    def read(_: int) -> None:
        with Client.to(emulator) as client:
            for _ in range(20):
                status, headers, body = client.ask(signed("GET", "/demo/raced"))
                assert status == 404 or (body in bodies and headers["x-oss-hash-crc64ecma"] == str(crc64(body)))

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda work: work(), [lambda b=body: write(b) for body in bodies]))
        list(pool.map(read, range(2)))


def test_large_bodies_are_not_held_in_memory(emulator: Emulator) -> None:
    child = psutil.Process(emulator.pid).children()[0]
    before = child.memory_info().rss
    size = 160 * MB
    block = os.urandom(MB)
    peak = 0
    with Client.to(emulator) as client:
        client.sock.sendall(signed("PUT", "/demo/large", body=b"")[:-4].replace(b"Length: 0", b"Length: %d" % size))
        client.sock.sendall(b"\r\n\r\n")
        for _ in range(size // MB):
            client.sock.sendall(block)
            peak = max(peak, child.memory_info().rss)
        assert client.answer()[0] == 200
        client.sock.sendall(signed("GET", "/demo/large"))
        status, headers, _ = client.answer(head_only=True)
        left = int(headers["content-length"])
        while left:
            got = client.stream.read(min(left, MB))
            assert got
            left -= len(got)
            peak = max(peak, child.memory_info().rss)
    assert status == 200
    assert peak - before < 24 * MB
    (emulator.root / "demo/large").unlink()


def test_slow_readers_do_not_hold_others_up(emulator: Emulator) -> None:
    put(emulator, "wide", os.urandom(8 * MB))
    put(emulator, "p", b"body")
    with Client.to(emulator) as slow, Client.to(emulator) as quick:
        slow.sock.sendall(signed("GET", "/demo/wide"))
        started = time.monotonic()
        for _ in range(50):
            assert quick.ask(signed("GET", "/demo/p"))[2] == b"body"
        assert time.monotonic() - started < 5
        assert len(slow.answer()[2]) == 8 * MB


# Faults


def test_injected_faults(calm: Emulator) -> None:
    data = os.urandom(500_000)
    put(calm, "f", data)
    request = signed("GET", "/demo/f")
    with Client.to(calm) as client:
        calm.set_faults({"kind": "error", "operations": ["GetObject"], "limit": 2})
        answers = [client.ask(request) for _ in range(3)]
        assert [answer[0] for answer in answers] == [503, 503, 200]
        assert b"ServiceUnavailable" in answers[0][2]
        calm.set_faults({"kind": "error", "status": 500, "key_prefix": "f"})
        assert b"InternalError" in client.ask(request)[2]
        calm.set_faults({"kind": "corrupt", "limit": 1})
        status, headers, body = client.ask(request)
        wrong = [index for index in range(len(data)) if body[index] != data[index]]
        assert (status, len(wrong), headers["x-oss-hash-crc64ecma"]) == (200, 1, str(crc64(data)))
        assert client.ask(request)[2] == data
        calm.set_faults({"kind": "slow", "delay_seconds": 0.2, "bytes_per_second": 1_000_000, "limit": 1})
        started = time.monotonic()
        assert client.ask(request)[2] == data
        assert 0.6 < time.monotonic() - started < 2
    calm.set_faults({"kind": "truncate", "after_bytes": 1000, "limit": 1})
    with Client.to(calm) as client:
        client.sock.sendall(request)
        status, headers, body = client.answer()
        assert (status, headers["content-length"], body) == (200, "500000", data[:1000])
    calm.set_faults({"kind": "reset", "limit": 1})
    with Client.to(calm) as client, pytest.raises(ConnectionResetError):
        client.ask(request)
    with pytest.raises(Exception, match="400"):
        calm.set_faults({"kind": "unheard of"})
    assert calm.stats()["faults"] >= 7


def test_line_and_latency(calm: Emulator) -> None:
    calm.set_conditions(latency_seconds=0.05)
    put(calm, "p", b"body")
    with Client.to(calm) as client:
        started = time.monotonic()
        for _ in range(4):
            client.ask(signed("GET", "/demo/p"))
        assert 0.2 <= time.monotonic() - started < 0.5
    put(calm, "l", os.urandom(3 * MB))
    calm.set_conditions(latency_seconds=0, bandwidth_bytes=8_000_000)
    finished: list[float] = []

    def fetch() -> None:
        with Client.to(calm) as client:
            assert len(client.ask(signed("GET", "/demo/l"))[2]) == 3 * MB
        finished.append(time.monotonic() - started)

    started = time.monotonic()
    threads = [threading.Thread(target=fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    due = 2 * 3 * MB / 8e6
    assert due * 0.9 < max(finished) < due * 1.4
    assert min(finished) > due * 0.75  # fair: both end late
    calm.set_conditions(bandwidth_bytes=0, bandwidth_per_client_bytes=6_000_000)
    started = time.monotonic()
    fetch()
    assert 0.9 * 3 * MB / 6e6 < finished[-1] < 1.4 * 3 * MB / 6e6


def test_the_options_of_the_command_line_hold(tmp_path: Path) -> None:
    options = {"latency": "20ms", "bandwidth": "100MB/s", "bandwidth_per_client": "2MB/s", "processes": 2}
    with running_emulator(tmp_path, buckets=["demo"], fail_rate=0.2, fail_seed=5, **options) as emulator:
        conditions = emulator.control("GET", "conditions")
        assert conditions["latency_seconds"] == 0.02
        assert (conditions["bandwidth_bytes"], conditions["bandwidth_per_client_bytes"]) == (100_000_000, 2_000_000)
        put(emulator, "small", b"x")
        put(emulator, "m", os.urandom(MB))

        def ask_all(_: int) -> list[int]:
            with Client.to(emulator) as client:
                return [client.ask(signed("GET", "/demo/small"))[0] for _ in range(50)]

        with ThreadPoolExecutor(8) as pool:
            answers = [status for some in pool.map(ask_all, range(8)) for status in some]
        failed = answers.count(503)
        assert answers.count(200) == 400 - failed
        assert 40 < failed < 120, "a fifth of 400"
        assert emulator.stats()["faults"] == failed
        emulator.set_faults()
        started = time.monotonic()
        ask_all(0)
        assert time.monotonic() - started >= 50 * 0.02
        with Client.to(emulator) as client:
            started = time.monotonic()
            assert len(client.ask(signed("GET", "/demo/m"))[2]) == MB
        assert 0.9 * MB / 2e6 < time.monotonic() - started < 3 * MB / 2e6


def test_requests_and_bytes_are_counted_over_all_processes(tmp_path: Path) -> None:
    with running_emulator(tmp_path, buckets=["demo"], processes=2) as emulator:
        body = os.urandom(300_000)
        for number in range(12):  # a connection each: the kernel spreads them
            with Client.to(emulator) as client:
                assert client.ask(signed("PUT", f"/demo/{number}", body=body))[0] == 200
                assert client.ask(signed("GET", f"/demo/{number}"))[2] == body
                assert client.ask(signed("GET", "/demo/nothing"))[0] == 404
        counted = emulator.stats()
        assert (counted["PutObject"], counted["GetObject"], counted["answers_4xx"]) == (12, 24, 12)
        for name in ("bytes_sent", "bytes_received"):
            assert 12 * len(body) < counted[name] < 12 * (len(body) + 5000), name
        emulator.reset_stats()
        assert emulator.stats()["GetObject"] == 0


def test_synthetic_objects(emulator: Emulator) -> None:
    with Client.to(emulator) as client:
        status, headers, body = client.ask(signed("GET", "/meta/p001/o000009"))
        assert (status, len(body), headers["x-oss-hash-crc64ecma"]) == (200, 3_000_000, str(crc64(body)))
        part = client.ask(signed("GET", "/meta/p001/o000009", headers=(("range", "bytes=1500000-2900000"),)))
        assert (part[0], part[2]) == (206, body[1_500_000:2_900_001])
        listed = client.ask(signed("GET", "/meta/", "/meta/?max-keys=1000"))
        assert listed[2].count(b"<Contents>") == 20
        assert client.ask(signed("PUT", "/meta/k", body=b"x"))[0] == 403


# Keys, TLS, processes


def test_temporary_keys_and_their_end(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"

    def write(expires: float) -> None:
        entry = {"access_key_id": "STS.x", "access_key_secret": "s", "security_token": "token", "expires": expires}
        file.write_text(json.dumps([entry]))
        file.chmod(0o600)

    write(time.time() + 1000)
    with running_emulator(tmp_path / "root", buckets=["demo"], credentials_file=file) as emulator:
        put(emulator, "p", b"body")

        def ask(token: str) -> tuple[int, bytes]:
            headers = (("x-oss-security-token", token),) if token else ()
            with Client.to(emulator) as client:
                status, _, body = client.ask(signed("GET", "/demo/p", key_id="STS.x", secret="s", headers=headers))
            return status, body

        assert ask("token") == (200, b"body")
        assert b"InvalidSecurityToken" in ask("other")[1]
        assert b"InvalidAccessKeyId" in ask("")[1]
        write(time.time() - 1)
        time.sleep(0.3)
        status, body = ask("token")
        assert (status, b"SecurityTokenExpired" in body) == (403, True)


def test_only_the_chosen_signature(tmp_path: Path) -> None:
    with running_emulator(tmp_path, buckets=["demo"], signature="v4") as emulator, Client.to(emulator) as client:
        status, _, body = client.ask(signed("GET", "/demo/p"))
        assert (status, b"AccessDenied" in body) == (403, True)


def test_tls(tmp_path: Path) -> None:
    certificate_file, key_file = certificate(tmp_path)
    data = os.urandom(5 * MB)
    options = {"tls_cert": certificate_file, "tls_key": key_file, "bandwidth": "200MB/s"}
    with running_emulator(tmp_path / "root", buckets=["demo"], **options) as emulator:
        assert emulator.endpoint.startswith("https://")
        context = ssl.create_default_context(cafile=certificate_file)
        plain = socket.create_connection(("127.0.0.1", emulator.port))
        with Client(context.wrap_socket(plain, server_hostname="127.0.0.1")) as client:
            assert client.ask(signed("PUT", "/demo/t", body=data))[0] == 200
            for _ in range(3):
                assert client.ask(signed("GET", "/demo/t"))[2] == data
        # Plain HTTP on the TLS port ends the connection, not the server.
        with Client.to(emulator) as client, pytest.raises((EOFError, ConnectionError, ValueError, IndexError)):
            client.ask(signed("GET", "/demo/t"))


def test_processes_drain_and_die_with_their_parent(tmp_path: Path) -> None:
    with running_emulator(tmp_path, buckets=["demo"], processes=3, bandwidth="2MB/s") as emulator:
        children = psutil.Process(emulator.pid).children()
        assert len(children) == 3
        put(emulator, "d", b"x" * MB)
        with Client.to(emulator) as client:
            client.sock.sendall(signed("GET", "/demo/d"))
            time.sleep(0.1)
            emulator.process.send_signal(signal.SIGTERM)
            assert len(client.answer()[2]) == MB  # what was under way is finished
        assert emulator.process.wait(10) == 0
        assert psutil.wait_procs(children, timeout=5)[1] == []
    with running_emulator(tmp_path, processes=2) as emulator:
        children = psutil.Process(emulator.pid).children()
        emulator.process.kill()
        assert psutil.wait_procs(children, timeout=5)[1] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bucket", "Bad"], "--bucket"),
        (["--tls-cert", "/nonexistent"], "go together"),
        (["--fail-rate", "0.5", "--fail-kind", "odd"], "kind"),
        (["--credentials-file", "/nonexistent"], "credentials-file"),
        (["--access-key-id", "me"], "JINDOPY_EMULATOR_ACCESS_KEY_SECRET"),
        (["--listen", "nowhere"], "address"),
        (["--synthetic", "what=ever"], "--synthetic"),
    ],
)
def test_wrong_options(tmp_path: Path, arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "jindopy.cli.emulator", "oss", "--root", str(tmp_path / "r"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
