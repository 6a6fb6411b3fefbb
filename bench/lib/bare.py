"""How fast the server is for a client that does nothing with the answers: what a figure must stay well below.

Requests carry a signature in the URL, go over one kept connection a process, and the bodies are thrown away.
"""

from __future__ import annotations

import base64
import concurrent.futures
import hmac
import http.client
import re
import time
from collections.abc import Sequence
from urllib.parse import urlencode, urlsplit

from bench.lib.server import BUCKET, KEY_ID, KEY_SECRET, Server

PROCESSES = 2
PAGE = 1000
RANGE_BYTES = 8 << 20
BUFFER_BYTES = 4 << 20
_NEXT = re.compile(rb"<NextContinuationToken>([^<]+)</NextContinuationToken>")


def bare_objects_per_second(server: Server, bucket: str, prefixes: Sequence[str]) -> float:
    """Objects a second over all pages of these prefixes (none: the whole bucket)."""
    parts = [list(prefixes[start::PROCESSES]) for start in range(PROCESSES)] if prefixes else [[""]]
    start = time.perf_counter()
    with concurrent.futures.ProcessPoolExecutor(len(parts)) as pool:
        counts = list(pool.map(_list_all, [server.endpoint] * len(parts), [bucket] * len(parts), parts))
    return sum(counts) / (time.perf_counter() - start)


def _list_all(endpoint: str, bucket: str, prefixes: list[str]) -> int:
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=60)
    count = 0
    for prefix in prefixes:
        token = ""
        while True:
            connection.request("GET", _presigned_listing(bucket, prefix, token))
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"listing refused: {body[:500]!r}")
            count += body.count(b"<Contents>")
            found = _NEXT.search(body)
            if found is None:
                break
            token = found.group(1).decode()
    connection.close()
    return count


def bare_bytes_per_second(server: Server, bucket: str, key: str, size_bytes: int) -> float:
    """Bytes a second of one object fetched in ranges of 8 MiB by all processes together."""
    ranges = [(start, min(start + RANGE_BYTES, size_bytes) - 1) for start in range(0, size_bytes, RANGE_BYTES)]
    with concurrent.futures.ProcessPoolExecutor(PROCESSES) as pool:
        jobs = [pool.submit(_get_all, server.endpoint, bucket, key, ranges[n::PROCESSES]) for n in range(PROCESSES)]
        spans = [job.result() for job in jobs]
    return size_bytes / (max(end for _, end in spans) - min(start for start, _ in spans))


def discarded_bytes_per_second(server: Server, key: str, size_bytes: int, connections: int) -> float:
    """Bytes a second of one object by so many connections, each reading ranges of 4 MiB into one buffer."""
    ranges = [(start, min(start + BUFFER_BYTES, size_bytes) - 1) for start in range(0, size_bytes, BUFFER_BYTES)]
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(connections) as pool:
        jobs = [
            pool.submit(_get_all, server.endpoint, BUCKET, key, ranges[n::connections], BUFFER_BYTES)
            for n in range(connections)
        ]
        for job in jobs:
            job.result()
    return size_bytes / (time.monotonic() - start)


def bare_gets_per_second(server: Server, bucket: str, keys: Sequence[str], processes: int = PROCESSES) -> float:
    """Whole objects a second, each process asking for one after the other."""
    with concurrent.futures.ProcessPoolExecutor(processes) as pool:
        jobs = [pool.submit(_get_each, server.endpoint, bucket, keys[n::processes]) for n in range(processes)]
        spans = [job.result() for job in jobs]
    return len(keys) / (max(end for _, end in spans) - min(start for start, _ in spans))


def _get_each(endpoint: str, bucket: str, keys: Sequence[str]) -> tuple[float, float]:
    start = time.monotonic()
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=60)
    for key in keys:
        connection.request("GET", _signed(f"/{bucket}/{key}", {}, ""))
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"GET refused: {body[:500]!r}")
    connection.close()
    return start, time.monotonic()


def _get_all(
    endpoint: str, bucket: str, key: str, ranges: list[tuple[int, int]], buffer_bytes: int = 1 << 20
) -> tuple[float, float]:
    start = time.monotonic()
    buffer = bytearray(buffer_bytes)
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=60)
    for first, last in ranges:
        connection.request("GET", _signed(f"/{bucket}/{key}", {}, ""), headers={"Range": f"bytes={first}-{last}"})
        answer = connection.getresponse()
        if answer.status != 206:
            raise RuntimeError(f"GET refused: {answer.read(500)!r}")
        while answer.readinto(buffer):
            pass
    connection.close()
    return start, time.monotonic()


def _presigned_listing(bucket: str, prefix: str, token: str) -> str:
    query = {"list-type": "2", "prefix": prefix, "max-keys": str(PAGE), "encoding-type": "url"}
    if token:
        query["continuation-token"] = token
    return _signed(f"/{bucket}/", query, f"?continuation-token={token}" if token else "")


def _signed(path: str, query: dict[str, str], subresource: str) -> str:
    """Signature V1 in the URL: one HMAC, and of the parameters only the token is signed."""
    expires = str(int(time.time()) + 600)
    mac = hmac.digest(KEY_SECRET.encode(), f"GET\n\n\n{expires}\n{path}{subresource}".encode(), "sha1")
    signed = {"OSSAccessKeyId": KEY_ID, "Expires": expires, "Signature": base64.b64encode(mac).decode()}
    return f"{path}?{urlencode(query | signed)}"
