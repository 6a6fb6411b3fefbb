"""How fast the server lists for a client that does nothing with the answers: what a metadata load is measured against.

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

from bench.lib.server import KEY_ID, KEY_SECRET, Server

PROCESSES = 2
PAGE = 1000
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
            connection.request("GET", _presigned(bucket, prefix, token))
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


def _presigned(bucket: str, prefix: str, token: str) -> str:
    """Signature V1 in the URL: one HMAC, and of the parameters only the token is signed."""
    query = {"list-type": "2", "prefix": prefix, "max-keys": str(PAGE), "encoding-type": "url"}
    resource = f"/{bucket}/"
    if token:
        query["continuation-token"] = token
        resource += f"?continuation-token={token}"
    expires = str(int(time.time()) + 600)
    mac = hmac.digest(KEY_SECRET.encode(), f"GET\n\n\n{expires}\n{resource}".encode(), "sha1")
    signed = {"OSSAccessKeyId": KEY_ID, "Expires": expires, "Signature": base64.b64encode(mac).decode()}
    return f"/{bucket}/?{urlencode(query | signed)}"
