"""The OSS driver: ``oss_signature`` signs, ``oss_native`` GETs, ``oss_http`` sends the rest.

A GET asks for ``If-Match`` and strict ranges, then checks itself: ETag, Content-Range and length of the answer must be
those asked for, whatever the server thinks of the conditions.  HEAD answers have no body, so the reason of a refused
HEAD is asked for by a listing of one key.

Keys are bytes.  OSS names are UTF-8 of at most 1,023 bytes that begin with neither slash; ``.`` and ``..`` between
slashes are folded by proxies and clients on the way.  Such keys are refused here, all others travel percent-encoded.

The cursor of ListObjectsV2 is ``t`` and the server's token; a server that knows only V1 is noticed, its cursor is
``m`` and the marker.  Safe for threads: what a call needs is immutable, but for one flag that only ever goes to False.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, final
from urllib.parse import quote, quote_from_bytes

from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import AccessDenied, BadAnswer, KeyRefused, ObjectNotFound, UfsError, VersionChanged
from jindopy.base.ident import Kind, UfsId
from jindopy.ufs import oss_xml
from jindopy.ufs.base import BlockGets, Capability, ListPage, ObjectStat, Rate
from jindopy.ufs.bodies import ToldBody
from jindopy.ufs.credentials import CredentialSource, default_chain
from jindopy.ufs.oss_errors import error_of
from jindopy.ufs.oss_http import Transport
from jindopy.ufs.oss_options import OssOptions, parse_options
from jindopy.ufs.oss_signature import Signer
from jindopy.ufs.oss_time import http_ns
from jindopy.ufs.uri import UfsUri

if TYPE_CHECKING:
    from jindopy._ext.httpblocks import BlockGet
    from jindopy.ufs.oss_native import NativeTransport

KEY_BYTES_MAX = 1023
LIST_LIMIT_MAX = 1000
DELETE_KEYS_MAX = 1000

PART_BYTES = 8 << 20
PARTS_AT_ONE_SIZE = 1000
"""Parts grow by 8 MiB every 1,000 of the 10,000 that OSS allows: streams up to 430 GiB, 80 MiB of memory at the end."""


class Answer(Protocol):
    """What both ways of sending return: status and headers known, body still coming."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def announced(self) -> int | None: ...
    @property
    def request_id(self) -> str: ...
    def readinto(self, target: memoryview, /) -> int: ...
    def read(self) -> bytes: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@final
class OssBody(ToldBody):
    """Body of a GET; see ``ufs.base.Body``."""

    def __init__(self, stream: Answer, token: bytes, object_bytes: int, crc64: int | None) -> None:
        super().__init__(token, object_bytes, crc64)
        self._stream = stream

    def readinto(self, target: memoryview) -> int:
        return self._stream.readinto(target)

    def close(self) -> None:
        self._stream.close()


@final
class OssDriver:
    """Driver for one bucket."""

    def __init__(self, options: OssOptions, credentials: CredentialSource, clock: Clock = REAL_CLOCK) -> None:
        self._options = options
        self._clock = clock
        self._signer = Signer(options, credentials)
        self._transport = Transport(options)
        self._native = _native_transport(options)
        self._list_v2 = True

    @property
    def scheme(self) -> str:
        return "oss"

    @property
    def ufs_id(self) -> UfsId:
        return UfsId(f"oss://{self._options.bucket}")

    @property
    def endpoint(self) -> str:
        return self._options.endpoint

    @property
    def capabilities(self) -> Capability:
        return ~Capability.NONE

    def refresh_credentials(self) -> None:
        """Look for other keys after a refusal (``base.Refreshable``)."""
        self._signer.refresh()

    def stat(self, key: bytes, *, deadline: Deadline) -> ObjectStat:
        with self._send("HEAD", key, deadline=deadline) as answer:
            headers = answer.headers
            if answer.announced is None:
                raise BadAnswer("a HEAD without Content-Length", endpoint=self.endpoint, key=key)
            found = ObjectStat(
                key,
                answer.announced,
                http_ns(headers.get("last-modified", "")),
                _token(headers),
                Kind.FILE,
                _crc64(headers),
                headers.get("x-oss-storage-class", ""),
            )
        if headers.get("x-oss-object-type") != "Symlink":
            return found
        # Length, ETag and CRC of this HEAD are the target's; a listing shows the link's own.
        with self._send("GET", key, params={"symlink": ""}, deadline=deadline) as answer:
            token, mtime_ns = _token(answer.headers), http_ns(answer.headers.get("last-modified", ""))
        return found._replace(token=token, mtime_ns=mtime_ns, kind=Kind.SYMLINK, crc64=None)

    def list_page(
        self, prefix: bytes, *, delimiter: bool, cursor: str = "", limit: int = 1000, deadline: Deadline
    ) -> ListPage:
        version_2 = cursor.startswith("t") if cursor else self._list_v2
        params = {"encoding-type": "url", "max-keys": str(min(max(limit, 1), LIST_LIMIT_MAX))}
        if prefix:
            params["prefix"] = self._text(prefix)
        if delimiter:
            params["delimiter"] = "/"
        if version_2:
            params["list-type"] = "2"
        if cursor:
            params["continuation-token" if version_2 else "marker"] = cursor[1:]
        try:
            with self._send("GET", b"", params=params, deadline=deadline) as answer:
                listing = oss_xml.parse_listing(answer.read())
        except BadAnswer as error:
            if version_2 and not cursor and error.status in {400, 405, 501}:
                self._list_v2 = False
                return self.list_page(prefix, delimiter=delimiter, limit=limit, deadline=deadline)
            raise
        # Sorted, so all between the first and the last have the prefix if those have.
        for name in (*(entry.key for entry in listing.objects[:: max(1, len(listing.objects) - 1)]), *listing.prefixes):
            if not name.startswith(prefix):
                raise BadAnswer("a listing of other keys than were asked for", endpoint=self.endpoint, key=name)
        return ListPage(listing.objects, listing.prefixes, self._next_cursor(listing))

    def get(self, key: bytes, offset: int, size_bytes: int, *, token: bytes | None, deadline: Deadline) -> OssBody:
        if offset < 0 or size_bytes < 0:
            raise BadAnswer(f"no such range: {offset}+{size_bytes}", endpoint=self.endpoint, key=key)
        headers = _range_headers(offset, size_bytes, token)
        method = "GET" if size_bytes else "HEAD"  # HTTP has no empty range
        stream = self._send(method, key, headers=headers, deadline=deadline)
        try:
            return self._checked_body(stream, key, offset, size_bytes, token)
        except BaseException:
            stream.close()
            raise

    def block_gets(self) -> BlockGets | None:
        """Native GETs, where that client is used."""
        return self if self._native is not None else None

    def limit_downloads(self, rate: Rate) -> bool:
        """See ``base.LimitsDownloads``."""
        return self._native is not None and self._native.limit(rate)

    def start_get(self, key: bytes, get: BlockGet, *, token: bytes, deadline: Deadline) -> None:
        if self._native is None:
            raise BadAnswer("no native client", endpoint=self.endpoint, key=key)
        self._name(key)  # refuses what would not arrive as it is
        headers = _range_headers(get.offset, get.size_bytes, token)
        quoted = quote_from_bytes(key, safe="/~")
        signed = self._signer.get_headers(key, quoted, headers, self._clock.wall_ns() // 10**9)
        self._native.start(self._options.path + quoted, signed, get, deadline)

    def ended(self, byte_count: int, outcome: str) -> None:
        """Nothing to remember here."""

    def read_link(self, key: bytes, *, deadline: Deadline) -> bytes:
        with self._send("GET", key, params={"symlink": ""}, deadline=deadline) as answer:
            target = answer.headers.get("x-oss-symlink-target")
        if not target:
            raise ObjectNotFound("not a symbolic link", endpoint=self.endpoint, key=key)
        return oss_xml.unquote_name(target.encode("latin-1", "replace"))

    def put(self, key: bytes, data: bytes | Iterator[bytes], *, deadline: Deadline) -> ObjectStat:
        if isinstance(data, bytes):
            return self._put_whole(key, data, deadline)
        parts = _parts(data)
        first = next(parts, b"")
        second = next(parts, None)
        if second is None:
            return self._put_whole(key, first, deadline)
        return self._put_parts(key, first, second, parts, deadline)

    def delete(self, keys: list[bytes], *, deadline: Deadline) -> None:
        plain = [key for key in keys if self._name(key).isprintable()]
        for start in range(0, len(plain), DELETE_KEYS_MAX):
            document = oss_xml.delete_document(plain[start : start + DELETE_KEYS_MAX])
            headers = {"Content-MD5": _md5(document), "Content-Type": "application/xml"}
            self._send("POST", b"", params={"delete": ""}, headers=headers, body=document, deadline=deadline).read()
        for key in set(keys).difference(plain):  # XML 1.0 has no control characters
            self._send("DELETE", key, deadline=deadline).close()

    def check(self, *, deadline: Deadline) -> None:
        self._send("GET", b"", params={"encoding-type": "url", "max-keys": "1"}, deadline=deadline).read()

    def close(self) -> None:
        if self._native is not None:
            self._native.close()
        self._transport.close()

    def _send(
        self,
        method: str,
        key: bytes,
        *,
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        deadline: Deadline,
    ) -> Answer:
        """Sign and send; an answer of 300 or more is raised as what it means."""
        asked = params or {}
        signed = self._signer.headers(method, self._name(key) if key else "", asked, headers or {})
        target = self._options.path + quote_from_bytes(key, safe="/~")
        if asked:
            target += "?" + "&".join(
                f"{quote(name, safe='')}={quote(value, safe='')}" if value else quote(name, safe="")
                for name, value in asked.items()
            )
        stream: Answer
        if self._native is not None and method == "GET" and key:
            stream = self._native.send(target, signed, deadline)
        else:
            stream = self._transport.send(method, target, signed, body, deadline)
        if stream.status < 300:
            return stream
        with stream:
            error = self._refusal(stream, key, b"" if method == "HEAD" else stream.read())
        if method == "HEAD" and type(error) is AccessDenied and key:
            self.check(deadline=deadline)  # raises the reason, which a HEAD cannot tell
        raise error

    def _refusal(self, stream: Answer, key: bytes, document: bytes) -> UfsError:
        if not document and (told := stream.headers.get("x-oss-err")):
            document = base64.b64decode(told + "===")
        skew = None
        if date := stream.headers.get("date"):
            skew = (self._clock.wall_ns() - http_ns(date)) / 1e9
        return error_of(
            stream.status,
            oss_xml.parse_fields(document),
            endpoint=self.endpoint,
            bucket=self._options.bucket,
            key=key,
            request_id=stream.request_id,
            skew_seconds=skew,
        )

    def _checked_body(self, stream: Answer, key: bytes, offset: int, size_bytes: int, token: bytes | None) -> OssBody:
        headers = stream.headers
        got = _token(headers)
        if token is not None and got != token:
            raise VersionChanged("the object was overwritten", endpoint=self.endpoint, key=key)
        if stream.announced is None:
            raise BadAnswer("an answer without Content-Length", endpoint=self.endpoint, key=key)
        object_bytes = stream.announced
        if size_bytes:
            if stream.status == 206:
                object_bytes = _total(headers.get("content-range", ""), offset, size_bytes)
            right = object_bytes >= offset + size_bytes if stream.status == 206 else offset == 0
            if not right or stream.announced != size_bytes:
                raise BadAnswer(
                    f"asked for {offset}+{size_bytes} bytes, got {headers.get('content-range') or stream.announced}",
                    endpoint=self.endpoint,
                    key=key,
                    request_id=stream.request_id,
                )
        elif offset > object_bytes:
            raise BadAnswer(f"{offset} is beyond {object_bytes} bytes", endpoint=self.endpoint, key=key)
        return OssBody(stream, got, object_bytes, _crc64(headers))

    def _next_cursor(self, listing: oss_xml.Listing) -> str:
        if not listing.truncated:
            return ""
        if listing.next_token:
            return "t" + listing.next_token
        last = max([*(entry.key for entry in listing.objects[-1:]), *listing.prefixes[-1:]], default=b"")
        marker = listing.next_marker or last
        if not marker:
            raise BadAnswer("a listing that goes on from nowhere", endpoint=self.endpoint)
        return "m" + self._text(marker)

    def _put_whole(self, key: bytes, data: bytes, deadline: Deadline) -> ObjectStat:
        headers = {"Content-MD5": _md5(data), "Content-Type": "application/octet-stream"}
        with self._send("PUT", key, headers=headers, body=data, deadline=deadline) as answer:
            token = _token(answer.headers)
        return self.stat(key, deadline=deadline)._replace(size=len(data), token=token)

    def _put_parts(
        self, key: bytes, first: bytes, second: bytes, rest: Iterator[bytes], deadline: Deadline
    ) -> ObjectStat:
        headers = {"Content-Type": "application/octet-stream"}
        opened = self._send("POST", key, params={"uploads": ""}, headers=headers, body=b"", deadline=deadline)
        upload = oss_xml.parse_fields(opened.read()).get("UploadId", "")
        if not upload:
            raise BadAnswer("a multipart upload without an id", endpoint=self.endpoint, key=key)
        try:
            etags: list[str] = []
            size = 0
            for part in _chained(first, second, rest):
                params = {"partNumber": str(len(etags) + 1), "uploadId": upload}
                part_headers = {"Content-MD5": _md5(part)}
                with self._send(
                    "PUT", key, params=params, headers=part_headers, body=part, deadline=deadline
                ) as answer:
                    etags.append(_token(answer.headers).decode("latin-1"))
                size += len(part)
            document = oss_xml.complete_document(etags)
            done = self._send(
                "POST",
                key,
                params={"uploadId": upload},
                headers={"Content-Type": "application/xml"},
                body=document,
                deadline=deadline,
            )
            token = oss_xml.parse_fields(done.read()).get("ETag", "").strip('"').encode()
        except BaseException:
            # Parts of an unfinished upload cost money until they are aborted; the first error is the one to tell.
            try:
                self._send("DELETE", key, params={"uploadId": upload}, deadline=Deadline.after(5, self._clock)).close()
            except UfsError as error:
                logging.getLogger(__name__).warning("parts of an upload could not be removed: %s", error)
            raise
        return self.stat(key, deadline=deadline)._replace(size=size, token=token)

    def _name(self, key: bytes) -> str:
        """``key`` as text; raises KeyRefused for what would not arrive as it is."""
        text = self._text(key)
        folded = b"." in key and not {b".", b".."}.isdisjoint(key.split(b"/"))
        if len(key) > KEY_BYTES_MAX or key.startswith((b"/", b"\\")) or folded:
            raise KeyRefused(
                "OSS keys have at most 1023 bytes, begin with neither / nor \\, and . or .. between slashes would be "
                "folded on the way",
                endpoint=self.endpoint,
                key=key,
            )
        return text

    def _text(self, key: bytes) -> str:
        try:
            return key.decode()
        except UnicodeDecodeError:
            raise KeyRefused("OSS keys are UTF-8", endpoint=self.endpoint, key=key) from None


def _native_transport(options: OssOptions) -> NativeTransport | None:
    """The native client; None where it is not wanted, or was not built for want of libcurl."""
    if not options.native:
        return None
    try:
        from jindopy.ufs.oss_native import NativeTransport
    except ImportError as error:
        logging.getLogger(__name__).info("GETs go through Python: the native client cannot be loaded (%s)", error)
        return None
    return NativeTransport(options)


def _range_headers(offset: int, size_bytes: int, token: bytes | None) -> dict[str, str]:
    headers = {}
    if token is not None:
        headers["If-Match"] = f'"{token.decode("latin-1")}"'
    if size_bytes:
        headers["Range"] = f"bytes={offset}-{offset + size_bytes - 1}"
        headers["x-oss-range-behavior"] = "standard"  # a range beyond the end is refused, not made the whole object
    return headers


def _token(headers: Mapping[str, str]) -> bytes:
    token = headers.get("etag", "").strip().removeprefix("W/").strip('"')
    if not token:
        raise BadAnswer("an answer without ETag")
    return token.encode("latin-1")


def _crc64(headers: Mapping[str, str]) -> int | None:
    text = headers.get("x-oss-hash-crc64ecma", "")
    return int(text) if text.isascii() and text.isdigit() and int(text) < 1 << 64 else None


def _total(content_range: str, offset: int, size_bytes: int) -> int:
    """Size of the whole object from ``bytes 0-9/100``; -1 unless it is exactly the range asked for."""
    span, _, total = content_range.removeprefix("bytes ").partition("/")
    return int(total) if span == f"{offset}-{offset + size_bytes - 1}" and total.isdigit() else -1


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _parts(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Chunks of any size → parts of the sizes OSS wants; only the last one is smaller."""
    number = 0
    wanted = PART_BYTES
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= wanted:
            yield bytes(buffer[:wanted])
            del buffer[:wanted]
            number += 1
            wanted = PART_BYTES * (1 + number // PARTS_AT_ONE_SIZE)
    if buffer:
        yield bytes(buffer)


def _chained(first: bytes, second: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield second
    yield from rest


def open_uri(uri: UfsUri, options: Mapping[str, str], credentials: CredentialSource | None) -> OssDriver:
    """Driver for ``oss://bucket``; without ``credentials`` the usual chain is asked."""
    parsed = parse_options(uri, options, os.environ)
    return OssDriver(parsed, credentials or default_chain(options, bucket=parsed.bucket))
