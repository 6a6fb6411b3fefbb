"""HTTP to one OSS endpoint: a pool of connections, timeouts from deadlines, bodies without copies.

``Transport.send`` sends one request on a kept connection and returns when the headers are there; ``Stream`` reads the
body.  Bytes go from the socket straight into the caller's memory: the buffered reader below http.client hands any
read larger than its 8 KiB to recv_into.  Measured over loopback, 2 cores: 0.2-0.3 CPU-s/GB in long bodies (through
oss2's, which copies each byte more often, 1.1-2.4) and 0.3 ms of CPU for a small GET (oss2 0.9-1.3).

Bounds: connecting takes at most ``connect_seconds``, silence at most ``silence_seconds``, both less when the deadline
is nearer; the deadline is looked at between two reads of the socket.  The pool keeps ``connections`` open and opens
more when all are busy (``layers.Limited`` bounds those).  A connection goes back to the pool only behind a fully read
body.  Redirects are never followed: a signed request belongs to one host.  A proxy (``oss_proxy``) sees plain requests
whole and of encrypted ones the host's name.

Every failure below HTTP becomes Unavailable with what to check; nothing here retries.
"""

from __future__ import annotations

import http.client
import logging
import ssl
from collections.abc import Mapping
from typing import final

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from jindopy.base.clock import Deadline
from jindopy.base.errors import BadAnswer, ConfigError, JindoError, ShortBody, Unavailable, redact
from jindopy.ufs.bodies import Closing
from jindopy.ufs.oss_options import OssOptions
from jindopy.ufs.oss_troubles import Trouble, trouble_error

# The pool logs every connection it opens or drops; the errors raised here say the same with their consequences.
logging.getLogger("urllib3").setLevel(logging.ERROR)

DOCUMENT_BYTES_MAX = 16 << 20


@final
class Stream(Closing):
    """One answer: status and headers known, body still coming.  Belongs to one thread."""

    def __init__(
        self,
        answer: urllib3.HTTPResponse,
        *,
        bodiless: bool,
        endpoint: str,
        silence_seconds: float,
        deadline: Deadline,
    ) -> None:
        self._answer = answer
        self._endpoint = endpoint
        self._silence_seconds = silence_seconds
        self._deadline = deadline
        self.status = answer.status
        self.headers: Mapping[str, str] = answer.headers
        length = answer.headers.get("content-length")
        self.announced = int(length) if length is not None and length.isascii() and length.isdigit() else None
        """Body bytes announced; None: the answer has no length."""
        self._left = 0 if bodiless else self.announced
        # Below urllib3's response, whose readinto() goes through read(): two copies and an allocation for each block.
        message = answer._fp
        if message is None or message.fp is None:
            raise BadAnswer("an answer without a stream", endpoint=endpoint)
        self._message = message
        self._reader = message.fp
        self._open = True

    @property
    def request_id(self) -> str:
        """The server's number of this request."""
        return self.headers.get("x-oss-request-id", "")

    def readinto(self, target: memoryview) -> int:
        """Fill ``target`` or what is left of the announced body; raises ShortBody, Unavailable, DeadlineExceeded."""
        if self._left is None:
            raise BadAnswer("an answer without Content-Length", endpoint=self._endpoint, request_id=self.request_id)
        wanted = min(len(target), self._left)
        done = 0
        try:
            while done < wanted:
                self._arm()
                count = self._reader.readinto1(target[done:wanted])
                if count == 0:
                    raise ShortBody(
                        f"the connection ended {self._left - done} bytes early",
                        endpoint=self._endpoint,
                        request_id=self.request_id,
                    )
                done += count
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._drop()
            self._deadline.check(f"{self._endpoint}: reading a body")
            raise Unavailable(
                f"the connection broke while a body was read ({_cause(error)})",
                endpoint=self._endpoint,
                request_id=self.request_id,
            ) from None
        except JindoError:
            self._drop()
            raise
        self._left -= done
        if self._left == 0:
            self._give_back()
        return done

    def read(self) -> bytes:
        """The whole body of a document, which is bounded; closes the stream."""
        with self:
            if self.announced is not None:
                if self.announced > DOCUMENT_BYTES_MAX:
                    raise BadAnswer(f"a document of {self.announced} bytes", endpoint=self._endpoint)
                document = bytearray(self.announced)
                self.readinto(memoryview(document))
                return bytes(document)
            try:
                self._arm()
                text = self._answer.read(DOCUMENT_BYTES_MAX + 1, decode_content=False)
            except (HTTPError, OSError) as error:
                raise Unavailable(f"the connection broke ({_cause(error)})", endpoint=self._endpoint) from None
            if len(text) > DOCUMENT_BYTES_MAX:
                raise BadAnswer("a document without end", endpoint=self._endpoint)
            return text

    def close(self) -> None:
        """Give the connection back, or drop it when body bytes are left."""
        if self._open:
            if self._left == 0:
                self._give_back()
            else:
                self._drop()

    def _arm(self) -> None:
        self._deadline.check(f"{self._endpoint}: reading a body")
        seconds = self._deadline.bounded(self._silence_seconds)
        if seconds < self._silence_seconds:
            self._reader.raw._sock.settimeout(max(seconds, 0.001))  # type: ignore[attr-defined]

    def _give_back(self) -> None:
        self._open = False
        self._message.close()  # of this answer only: the connection keeps its socket
        self._answer.release_conn()

    def _drop(self) -> None:
        self._open = False
        self._answer.close()
        self._answer.release_conn()


@final
class Transport:
    """Connections to one endpoint; safe for threads."""

    def __init__(self, options: OssOptions) -> None:
        self._options = options
        self._pool = self._new_pool()
        # A proxy is told the whole address of what is plain; what is encrypted goes through a tunnel.
        host = f"[{options.request_host}]" if ":" in options.request_host else options.request_host
        self._before_path = f"http://{host}:{options.port}" if options.proxy and not options.secure else ""

    def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: Deadline,
    ) -> Stream:
        """One request, one answer, no retry; ``target`` is path and query, already percent-encoded."""
        options = self._options
        deadline.check(f"{options.endpoint}: {method}")
        timeout = urllib3.Timeout(
            connect=max(deadline.bounded(options.connect_seconds), 0.001),
            read=max(deadline.bounded(options.silence_seconds), 0.001),
        )
        try:
            answer = self._pool.urlopen(
                method,
                self._before_path + target,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                assert_same_host=False,  # to a proxy, the address is another host's
                timeout=timeout,
                preload_content=False,
                decode_content=False,
            )
        except (HTTPError, OSError, http.client.HTTPException) as error:
            deadline.check(f"{options.endpoint}: {method}")
            raise self._failure(error) from None
        assert isinstance(answer, urllib3.HTTPResponse)
        return Stream(
            answer,
            bodiless=method == "HEAD" or answer.status in {204, 304},
            endpoint=options.endpoint,
            silence_seconds=options.silence_seconds,
            deadline=deadline,
        )

    def close(self) -> None:
        """Drop idle connections; those in use end with their bodies."""
        self._pool.close()

    def _new_pool(self) -> urllib3.HTTPConnectionPool:
        options = self._options
        context: ssl.SSLContext | None = None
        if options.secure:
            try:
                context = ssl.create_default_context(cafile=options.ca_file or None)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"fs.oss.ca.file={options.ca_file}: {_cause(error)}; it must hold PEM certificates"
                ) from None
        if options.proxy is not None:
            authorization = options.proxy.authorization
            return urllib3.ProxyManager(
                options.proxy.url,
                proxy_headers={"Proxy-Authorization": authorization} if authorization else None,
                maxsize=options.connections,
                ssl_context=context,
            ).connection_from_host(options.request_host, options.port, "https" if options.secure else "http")
        if context is None:
            return urllib3.HTTPConnectionPool(options.request_host, options.port, maxsize=options.connections)
        return urllib3.HTTPSConnectionPool(
            options.request_host, options.port, maxsize=options.connections, ssl_context=context
        )

    def _failure(self, error: Exception) -> JindoError:
        if isinstance(error, NameResolutionError):
            trouble = Trouble.NAME
        elif isinstance(error, ProxyError) and self._options.proxy is not None:
            trouble = Trouble.PROXY
        elif isinstance(error, NewConnectionError):
            trouble = Trouble.REFUSED
        elif isinstance(error, ConnectTimeoutError):
            trouble = Trouble.CONNECT_TIMEOUT
        elif isinstance(error, ReadTimeoutError):
            trouble = Trouble.SILENCE
        elif isinstance(error, SSLError):
            trouble = Trouble.CERTIFICATE if "CERTIFICATE_VERIFY_FAILED" in str(error) else Trouble.TLS
        else:
            trouble = Trouble.BROKEN
        return trouble_error(trouble, _cause(error), self._options)


def _cause(error: BaseException) -> str:
    """The innermost reason, short and without addresses of objects."""
    inner: BaseException = error
    while (below := inner.__cause__ or inner.__context__) is not None:
        inner = below
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return redact(str(inner) or type(inner).__name__)[:200]
