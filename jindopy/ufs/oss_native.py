"""GETs from one OSS endpoint by the native threads of ``_ext.httpget``: the same shape as ``oss_http``, less CPU.

``NativeTransport.send`` sends one signed GET and returns when the headers are there; ``NativeStream`` reads the body
into the caller's memory.  Neither holds the GIL while it waits.  What ended a transfer early is told in the words of
``oss_troubles``, whichever library found out.

Bounds: connecting (names included) takes at most ``connect_seconds``, silence at most ``silence_seconds``, all of it
the deadline; ``connections`` threads at most, each with one kept connection.  A caller stops waiting at its deadline
even if a thread hangs in a resolver.  Redirects are not followed.  A body that nobody reads holds its server back by
TCP.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Final, final

from jindopy._ext.httpblocks import BlockGet
from jindopy._ext.httpcrew import Ending
from jindopy._ext.httpget import DownloadLimit, Getter, Stream
from jindopy.base.clock import Deadline
from jindopy.base.errors import BadAnswer, DeadlineExceeded, JindoError, ShortBody, Unavailable, redact
from jindopy.ufs.base import Rate
from jindopy.ufs.bodies import Closing
from jindopy.ufs.oss_options import OssOptions
from jindopy.ufs.oss_troubles import Trouble, trouble_error

DOCUMENT_BYTES_MAX: Final = 1 << 20
"""Only error documents are read whole here."""
SECONDS_MAX: Final = 1e9

PARTIAL_BODY: Final = 18
_RESOLVE_PROXY: Final = 5
_CONNECT: Final = 7
_TIMED_OUT: Final = 28
_TROUBLES: Final = {
    _RESOLVE_PROXY: Trouble.PROXY,
    6: Trouble.NAME,
    _CONNECT: Trouble.REFUSED,
    _TIMED_OUT: Trouble.CONNECT_TIMEOUT,
    35: Trouble.TLS,
    60: Trouble.CERTIFICATE,
    97: Trouble.PROXY,
}
"""libcurl's codes; what is not named here broke on the way."""
_WORDS: Final = {
    "done": "the connection ended before the headers did",
    "cancelled": "the request was given up",
    "memory": "no memory for a transfer",
}


def system_authorities() -> tuple[str, str]:
    """File and directory of the certificates this system trusts; SSL_CERT_FILE and SSL_CERT_DIR may name others."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or "", paths.capath or ""


def ending_error(ending: Ending, options: OssOptions) -> JindoError:
    """Why a transfer ended before its body did."""
    match ending.outcome:
        case "deadline":
            return DeadlineExceeded(f"{options.endpoint}: GET: no answer in time")
        case "silent":
            return trouble_error(Trouble.SILENCE, "", options)
        case "head":
            return BadAnswer("headers without end", endpoint=options.endpoint)
        case "done" | "cancelled" | "memory":
            return Unavailable(_WORDS[ending.outcome], endpoint=options.endpoint)
    trouble = _TROUBLES.get(ending.code, Trouble.BROKEN)
    words = ending.text
    if options.proxy is not None and (trouble is Trouble.REFUSED or "CONNECT" in words):
        trouble = Trouble.PROXY  # not reached, or it refused the tunnel
    elif trouble is Trouble.CONNECT_TIMEOUT and "esolving" in words:
        trouble = Trouble.NAME
    named = trouble in {Trouble.REFUSED, Trouble.BROKEN, Trouble.PROXY} and ending.system_error
    return trouble_error(trouble, os.strerror(ending.system_error) if named else redact(words)[:200], options)


@final
class NativeStream(Closing):
    """One answer: status and headers known, body still coming.  Belongs to one thread."""

    def __init__(self, stream: Stream, options: OssOptions) -> None:
        self._stream = stream
        self._options = options
        self.status = stream.status
        self.headers: Mapping[str, str] = stream.headers
        length = stream.length
        self.announced = length if length >= 0 else None
        """Body bytes announced; None: the answer has no length."""
        self._left = self.announced

    @property
    def request_id(self) -> str:
        """The server's number of this request."""
        return self.headers.get("x-oss-request-id", "")

    def readinto(self, target: memoryview) -> int:
        """Fill ``target`` or what is left of the announced body; raises ShortBody, Unavailable, DeadlineExceeded."""
        if self._left is None:
            raise BadAnswer(
                "an answer without Content-Length", endpoint=self._options.endpoint, request_id=self.request_id
            )
        wanted = min(len(target), self._left)
        with target[:wanted] as part:
            count = self._stream.readinto(part)
        self._left -= count
        if count < wanted:
            raise self._broken()
        return count

    def read(self) -> bytes:
        """The whole body of a document, which is bounded; closes the stream."""
        with self:
            if self.announced is not None and self.announced > DOCUMENT_BYTES_MAX:
                raise BadAnswer(f"a document of {self.announced} bytes", endpoint=self._options.endpoint)
            document = bytearray(self.announced if self.announced is not None else DOCUMENT_BYTES_MAX + 1)
            if self.announced is not None:
                self.readinto(memoryview(document))
                return bytes(document)
            count = self._stream.readinto(memoryview(document))
            if count > DOCUMENT_BYTES_MAX:
                raise BadAnswer("a document without end", endpoint=self._options.endpoint)
            return bytes(document[:count])

    def close(self) -> None:
        """Give the connection back, or drop it when body bytes are left."""
        self._stream.close()

    def _broken(self) -> JindoError:
        options = self._options
        ending = self._stream.ending
        self.close()
        if ending is None or ending.outcome == "done" or ending.code == PARTIAL_BODY:
            return ShortBody(
                f"the connection ended {self._left} bytes early",
                endpoint=options.endpoint,
                request_id=self.request_id,
            )
        return ending_error(ending, options)


@final
class NativeTransport:
    """Connections to one endpoint; safe for threads."""

    def __init__(self, options: OssOptions) -> None:
        self._options = options
        ca_file, ca_path = (options.ca_file, "") if options.ca_file else system_authorities()
        proxy = options.proxy
        self.getter = Getter(
            options.connections,
            connect_seconds=options.connect_seconds,
            silence_seconds=options.silence_seconds,
            ca_file=ca_file,
            ca_path=ca_path,
            proxy=proxy.url if proxy is not None else "",
            proxy_authorization=proxy.authorization if proxy is not None else "",
        )
        host = f"[{options.request_host}]" if ":" in options.request_host else options.request_host
        usual = 443 if options.secure else 80
        port = "" if options.port == usual else f":{options.port}"
        self.before_path = f"{'https' if options.secure else 'http'}://{host}{port}"

    def limit(self, rate: Rate) -> bool:
        """Keep to a rate; only one that native threads can share."""
        if not isinstance(rate, DownloadLimit):
            return False
        self.getter.share(rate)
        return True

    def send(self, target: str, headers: dict[str, str], deadline: Deadline) -> NativeStream:
        """One GET, one answer, no retry; ``target`` is path and query, already percent-encoded."""
        deadline.check(f"{self._options.endpoint}: GET")
        stream = self.getter.open(self.before_path + target, headers, min(deadline.remaining(), SECONDS_MAX))
        if not stream.wait_head():
            ending = stream.ending
            stream.close()
            raise ending_error(ending or Ending("deadline", 0, 0, ""), self._options)
        return NativeStream(stream, self._options)

    def start(self, target: str, headers: dict[str, str], get: BlockGet, deadline: Deadline) -> None:
        """One GET for blocks; returns at once."""
        try:
            self.getter.start(self.before_path + target, headers, min(deadline.remaining(), SECONDS_MAX), get)
        except (OSError, ValueError) as error:
            raise Unavailable(f"no GET can be started ({error})", endpoint=self._options.endpoint) from None

    def close(self) -> None:
        """End what runs, and drop all connections."""
        self.getter.close()
