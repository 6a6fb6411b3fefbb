"""HTTP/1.1 requests as bytes in, values out.  P: owns no socket, so a fuzzer calls it bare.

``parse_head`` looks at what has arrived and returns nothing (more is needed), a ``Request`` with the length of its
head, or raises ``Refused``.  ``BodyDecoder`` then takes the body apart from whatever follows it: by Content-Length or
by chunks.  Bytes behind the body (a pipelined request) stay with the caller.

Bounds: a head of 32 KiB and 100 fields, a chunk line of 256 bytes, a body of 48.8 TB (the service's largest object).
Text is latin-1, which keeps every byte; the path and the query are percent-decoded to bytes and text.
A field that would let two servers disagree on where a request ends (both lengths, two lengths, folded or blank names)
is refused and the connection closed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote_plus, unquote_to_bytes

from jindopy.emulator.errors import Refused

HEAD_BYTES_MAX: Final = 32 << 10
FIELDS_MAX: Final = 100
CHUNK_LINE_BYTES_MAX: Final = 256
BODY_BYTES_MAX: Final = 10_000 * (5 << 30)

_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"})
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# What no line may hold: control characters but tabs; CR and LF alone among them, which others may read as line ends.
_BAD_LINE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BAD_TARGET = re.compile(r"[\x00-\x20\x7f]")
_DIGITS = re.compile(r"[0-9]{1,18}")
_HEX = re.compile(rb"[0-9a-fA-F]{1,15}")


class Request(NamedTuple):
    """One request's head."""

    method: str
    path: bytes
    """Percent-decoded, without the query; begins with ``/``."""
    query: dict[str, str]
    """Percent-decoded; a parameter without ``=`` has an empty value, of repeated ones the last counts."""
    headers: dict[str, str]
    """Names in lower case; repeated fields are joined by commas."""
    keep_alive: bool
    body_bytes: int
    """Announced length; -1 when the body comes in chunks."""


def _bad(message: str, status: int = 400, code: str = "MalformedRequest") -> Refused:
    return Refused(status, code, message, close=True)


def parse_head(data: bytes | bytearray, end_hint: int = 0) -> tuple[Request, int] | None:
    """Parse one head at the start of ``data``; returns it and its length, or None while incomplete.

    ``end_hint``: bytes already searched for the end in an earlier call.
    """
    end = data.find(b"\r\n\r\n", max(0, end_hint - 3))
    if end < 0:
        if len(data) > HEAD_BYTES_MAX:
            raise _bad("The request's head is too large.", 431)
        return None
    if end > HEAD_BYTES_MAX:
        raise _bad("The request's head is too large.", 431)
    lines = data[:end].decode("latin-1").split("\r\n")
    joined = "".join(lines)
    # isprintable first: 1 µs against 2 for the search, and true of nearly every head.
    if not joined.isprintable() and _BAD_LINE.search(joined):
        raise _bad("The request's head holds control characters.")
    method, path, query, version = _request_line(lines[0])
    headers = _fields(lines)
    if "transfer-encoding" in headers:
        if "content-length" in headers:
            raise _bad("Content-Length and Transfer-Encoding exclude each other.")
        if headers["transfer-encoding"].lower() != "chunked":
            raise _bad("Only the chunked transfer encoding is supported.", 501, "NotImplemented")
        body_bytes = -1
    else:
        length = headers.get("content-length", "0")
        if not _DIGITS.fullmatch(length):
            raise _bad("Content-Length is not a number.")
        body_bytes = int(length)
        if body_bytes > BODY_BYTES_MAX:
            raise _bad("The body is larger than any object may be.", 400, "EntityTooLarge")
    connection = headers.get("connection", "").lower()
    keep_alive = connection != "close" if version == "HTTP/1.1" else connection == "keep-alive"
    return Request(method, path, query, headers, keep_alive, body_bytes), end + 4


def _request_line(line: str) -> tuple[str, bytes, dict[str, str], str]:
    words = line.split(" ")
    if len(words) != 3:
        raise _bad("The request line is malformed.")
    method, target, version = words
    if method not in _METHODS:
        raise _bad("The method is not known.", 405, "MethodNotAllowed")
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise _bad("Only HTTP/1.1 is spoken here.", 505)
    if target.startswith(("http://", "https://")):
        rest = target.partition("://")[2]
        slash = rest.find("/")
        target = rest[slash:] if slash >= 0 else "/"
    if not target.startswith("/") or _BAD_TARGET.search(target):
        raise _bad("The request target is malformed.")
    raw_path, _, raw_query = target.partition("?")
    return method, unquote_to_bytes(raw_path.encode("latin-1")), parse_query(raw_query), version


def parse_query(raw: str) -> dict[str, str]:
    """``a=1&b`` → ``{"a": "1", "b": ""}``; bytes that are no UTF-8 become surrogates and match no signature."""
    if not raw:
        return {}
    query = {}
    for pair in raw.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            if "%" in pair or "+" in pair:
                name = unquote_plus(name, errors="surrogateescape")
                value = unquote_plus(value, errors="surrogateescape")
            query[name] = value
    return query


@lru_cache(maxsize=1024)
def _lower_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise _bad("A header field is malformed.")
    return name.lower()


def _fields(lines: list[str]) -> dict[str, str]:
    if len(lines) > FIELDS_MAX + 1:
        raise _bad("The request has too many header fields.", 431)
    headers: dict[str, str] = {}
    for index in range(1, len(lines)):
        raw_name, colon, value = lines[index].partition(":")
        if not colon:
            raise _bad("A header field is malformed.")
        name = _lower_name(raw_name)
        value = value.strip(" \t")
        if name in headers:
            if name in ("content-length", "transfer-encoding", "host", "authorization"):
                raise _bad(f"The header field {name} is repeated.")
            value = f"{headers[name]},{value}"
        headers[name] = value
    return headers


class BodyDecoder:
    """Tells the bytes of one body from what surrounds and follows them."""

    __slots__ = ("_line", "_remaining", "_state", "finished")

    _COUNTED, _SIZE_LINE, _DATA, _DATA_END, _TRAILER = range(5)

    def __init__(self, body_bytes: int) -> None:
        self._state = self._SIZE_LINE if body_bytes < 0 else self._COUNTED
        self._remaining = max(0, body_bytes)
        self._line = b""
        self.finished = body_bytes == 0

    def feed(self, data: bytes | memoryview) -> tuple[list[memoryview], int]:
        """Take ``data``; returns its body parts and how many bytes were used (fewer only behind the body's end)."""
        view = memoryview(data)
        parts: list[memoryview] = []
        used = 0
        while used < len(view) and not self.finished:
            if self._state in (self._COUNTED, self._DATA):
                part = view[used : used + self._remaining]
                parts.append(part)
                used += len(part)
                self._remaining -= len(part)
                if self._remaining == 0:
                    if self._state == self._COUNTED:
                        self.finished = True
                    else:
                        self._state = self._DATA_END
            else:
                used += self._take_line(view[used:])
        return parts, used

    def _take_line(self, view: memoryview) -> int:
        piece = bytes(view[:CHUNK_LINE_BYTES_MAX])
        newline = piece.find(b"\n")
        used = newline + 1 if newline >= 0 else len(piece)
        self._line += piece[:used]
        if len(self._line) > CHUNK_LINE_BYTES_MAX:
            raise _bad("A chunk's size line is too long.")
        if newline >= 0:
            line, self._line = self._line, b""
            if not line.endswith(b"\r\n"):
                raise _bad("A chunk's line ends wrongly.")
            self._line_done(line[:-2])
        return used

    def _line_done(self, line: bytes) -> None:
        if self._state == self._DATA_END:
            if line:
                raise _bad("A chunk is longer than announced.")
            self._state = self._SIZE_LINE
        elif self._state == self._SIZE_LINE:
            size = line.partition(b";")[0].strip(b" \t")
            if not _HEX.fullmatch(size):
                raise _bad("A chunk's size is malformed.")
            self._remaining = int(size, 16)
            self._state = self._DATA if self._remaining else self._TRAILER
        elif not line:
            self.finished = True
