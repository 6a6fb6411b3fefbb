"""How fast the server lists for a client that does nothing with the answers: what a metadata load is measured against.

Requests are signed beforehand by presigned URLs, sent over one kept connection a process, and the bodies thrown away.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import re
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

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
    import oss2

    signer = oss2.Bucket(
        oss2.AuthV4(KEY_ID, KEY_SECRET), endpoint, bucket, region="cn-hangzhou", is_path_style=True, enable_crc=False
    )
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=60)
    count = 0
    for prefix in prefixes:
        token = ""
        while True:
            parameters = {"list-type": "2", "prefix": prefix, "max-keys": str(PAGE), "encoding-type": "url"}
            if token:
                parameters["continuation-token"] = token
            url = urlsplit(signer.sign_url("GET", "/", 600, params=parameters))
            connection.request("GET", f"/{bucket}/?{url.query}")
            body = connection.getresponse().read()
            count += body.count(b"<Contents>")
            found = _NEXT.search(body)
            if found is None:
                break
            token = found.group(1).decode()
    connection.close()
    return count
