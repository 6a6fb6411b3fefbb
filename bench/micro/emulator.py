"""What the emulator costs: CPU of a small GET and of a listed page, CPU and rate of long bodies, plain and with TLS.

    python -m bench.micro.emulator [--json]

The emulator runs as it does for a benchmark, one process a core.  Its own CPU time is told, not the client's: a client
that sends one V4 request again and again and throws the answers away, with a process a core for long bodies.
Rates are those of server and client on the same cores.  On a busy machine even the CPU time of a small GET doubles.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import socket
import ssl
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import oss2
import oss2.http

from bench.lib.content import write_file
from bench.lib.processes import cpu_seconds
from tests.emulator_fixture import Emulator, certificate, running_emulator

BUCKET = "bench"
SMALL_BYTES, SMALL_GETS = 100_000, 10_000
LARGE_BYTES, LARGE_GETS = 256 << 20, 8
PAGE_KEYS, PAGES = 1000, 1000
PROCESSES = os.cpu_count() or 1


def connect(endpoint: str, trusted: str) -> socket.socket:
    """A connection to the emulator."""
    parts = urlsplit(endpoint)
    sock = socket.create_connection((parts.hostname, parts.port), timeout=60)
    if parts.scheme == "http":
        return sock
    return ssl.create_default_context(cafile=trusted).wrap_socket(sock, server_hostname=parts.hostname)


def repeat(endpoint: str, trusted: str, request: bytes, count: int) -> tuple[float, float]:
    """Ask ``count`` times; returns when it began and ended."""
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)
    with connect(endpoint, trusted) as sock:
        begun = time.monotonic()
        for _ in range(count):
            sock.sendall(request)
            got = sock.recv_into(view)
            while (end := buffer.find(b"\r\n\r\n", 0, got)) < 0:
                got += sock.recv_into(view[got:])
            head = bytes(view[:end]).lower()
            if not head.startswith(b"http/1.1 200"):
                raise RuntimeError(f"refused: {head[:200]!r}")
            left = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]) - (got - end - 4)
            while left:
                left -= sock.recv_into(view[: min(left, len(view))])
        return begun, time.monotonic()


def signed(emulator: Emulator, key: str, **query: str) -> bytes:
    """A whole GET request."""
    made = oss2.http.Request("GET", "", params=query, headers={}, region="cn-hangzhou", product="oss")
    oss2.AuthV4(*emulator.keys)._sign_request(made, BUCKET, key)
    headers = "".join(f"{name}: {value}\r\n" for name, value in made.headers.items() if value is not None)
    target = f"/{BUCKET}/{key}" + (f"?{urlencode(query)}" if query else "")
    return f"GET {target} HTTP/1.1\r\nHost: {urlsplit(emulator.endpoint).netloc}\r\n{headers}\r\n".encode()


def cost(emulator: Emulator, trusted: str, request: bytes, count: int) -> float:
    """CPU seconds of the emulator a request, one connection."""
    repeat(emulator.endpoint, trusted, request, 20)
    before = cpu_seconds(emulator.pid)
    repeat(emulator.endpoint, trusted, request, count)
    return (cpu_seconds(emulator.pid) - before) / count


def measure(root: Path, tls: bool) -> dict[str, float]:
    """All rows of one transport."""
    for index in range(PAGE_KEYS):
        write_file(root / BUCKET / "page" / f"object-{index:06d}", 10)
    write_file(root / BUCKET / "small", SMALL_BYTES)
    write_file(root / BUCKET / "large", LARGE_BYTES)
    options: dict[str, object] = {"buckets": [BUCKET], "processes": PROCESSES}
    trusted = ""
    if tls:
        authority, key = certificate(root.parent)
        options |= {"tls_cert": authority, "tls_key": key}
        trusted = str(authority)
    with running_emulator(root, **options) as emulator:
        rows = {
            "get_100kb_cpu_us": 1e6 * cost(emulator, trusted, signed(emulator, "small"), SMALL_GETS),
            "page_cpu_us": 1e6
            * cost(emulator, trusted, signed(emulator, "", prefix="page/", **{"max-keys": str(PAGE_KEYS)}), PAGES),
        }
        before = cpu_seconds(emulator.pid)
        with concurrent.futures.ProcessPoolExecutor(PROCESSES) as pool:
            request = signed(emulator, "large")
            each = LARGE_GETS // PROCESSES
            jobs = [pool.submit(repeat, emulator.endpoint, trusted, request, each) for _ in range(PROCESSES)]
            spans = [job.result() for job in jobs]
        sent = each * PROCESSES * LARGE_BYTES
        rows["large_cpu_s_per_gb"] = (cpu_seconds(emulator.pid) - before) / (sent / 1e9)
        rows["large_gb_per_s"] = sent / 1e9 / (max(end for _, end in spans) - min(begun for begun, _ in spans))
    return {name: float(f"{value:.3g}") for name, value in rows.items()}


def main() -> None:
    """Print a table, or with ``--json`` one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    as_json = parser.parse_args().json
    told = {}
    for transport in ("plain", "tls"):
        with tempfile.TemporaryDirectory(prefix="jindopy-bench-", dir="/var/tmp") as directory:
            told[transport] = measure(Path(directory) / "root", transport == "tls")
    if as_json:
        print(json.dumps(told))
        return
    for name in told["plain"]:
        print(f"{name:20} {told['plain'][name]:10} plain {told['tls'][name]:10} with TLS")


if __name__ == "__main__":
    main()
