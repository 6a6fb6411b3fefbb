"""The data plane's frames in plain Python (P): slow, short, and what ``_ext.frames`` has to agree with.

Frames are made here for whatever is sent once a connection; ``parse`` reads a whole stream again from its first byte.
The layout of each kind is in docs/FORMATS.md.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

VERSION: Final = 1
MIN_VERSION: Final = 1
MAGIC: Final = b"JINDODAT"
HELLO, WELCOME, REQUEST, BLOCK, MISSING, ERROR, CANCEL = range(1, 8)

HEAD: Final = struct.Struct("<IBBHQ")
_HELLO = struct.Struct("<8sHHQ")
_WELCOME = struct.Struct("<HHI")
_REQUEST = struct.Struct("<16sIIII")
_BLOCK = struct.Struct("<II")
_TRAILER = struct.Struct("<QII")
_MISSING = struct.Struct("<II")

BODY_BYTES_MAX: Final = 1 << 20
TICKET_BYTES_MAX: Final = 2048
"""A ticket for 240 mounts."""
TEXT_BYTES_MAX: Final = 512
COUNT_MAX: Final = 256
BLOCK_MAX: Final = 0x0FFFFFFF
_AROUND_BODY = _BLOCK.size + _TRAILER.size

SIZES: Final = {
    HELLO: (_HELLO.size + 1, _HELLO.size + TICKET_BYTES_MAX),
    WELCOME: (_WELCOME.size, _WELCOME.size),
    REQUEST: (_REQUEST.size, _REQUEST.size),
    BLOCK: (_AROUND_BODY + 1, _AROUND_BODY + BODY_BYTES_MAX),
    MISSING: (_MISSING.size, _MISSING.size),
    ERROR: (0, TEXT_BYTES_MAX),
    CANCEL: (0, 0),
}
"""Smallest and largest payload of each kind."""

FROM_CLIENT: Final = {HELLO, REQUEST, CANCEL}
FROM_SERVER: Final = {WELCOME, BLOCK, MISSING, ERROR}

# Codes of ERROR frames.
REFUSED, UNREADABLE, TOO_MANY, FORBIDDEN, NO_SUCH_BLOCK, TOO_LATE, CANCELLED, DISK = range(1, 9)


class Frame(NamedTuple):
    """One frame, taken apart."""

    kind: int
    request: int
    code: int
    numbers: tuple[int, ...]
    data: bytes


class _Violation(Exception):
    """The stream is none of ours; holds the fault's name."""


def frame(kind: int, request: int = 0, payload: bytes = b"", code: int = 0) -> bytes:
    """Any frame."""
    return HEAD.pack(len(payload), kind, 0, code, request) + payload


def hello(ticket: bytes, version: int = VERSION, oldest: int = MIN_VERSION) -> bytes:
    """What a client opens with: the newest and the oldest version it speaks, and its ticket."""
    return frame(HELLO, 0, _HELLO.pack(MAGIC, version, oldest, 0) + ticket)


def welcome(version: int, requests_max: int) -> bytes:
    """The server's answer: the version to be spoken, and how many requests may be in flight."""
    return frame(WELCOME, 0, _WELCOME.pack(version, requests_max, 0))


def request(number: int, cid: bytes, first: int, count: int, deadline_ms: int) -> bytes:
    """Ask for ``count`` blocks of a version."""
    return frame(REQUEST, number, _REQUEST.pack(cid, first, count, deadline_ms, 0))


def block(number: int, index: int, body: bytes, crc64: int, state: int = 0) -> bytes:
    """Answer with a block."""
    return frame(BLOCK, number, _BLOCK.pack(index, len(body)) + body + _TRAILER.pack(crc64, state, 0))


def missing(number: int, first: int, count: int) -> bytes:
    """Answer that blocks are not here."""
    return frame(MISSING, number, _MISSING.pack(first, count))


def error(number: int, code: int, text: str) -> bytes:
    """End a request (0: the connection) with a reason."""
    return frame(ERROR, number, text.encode()[:TEXT_BYTES_MAX], code)


def parse(stream: bytes, server: bool, greeted: bool = False) -> tuple[list[Frame], str]:
    """All complete frames of a stream, up to the first fault, and that fault's name."""
    frames: list[Frame] = []
    try:
        while len(stream) >= HEAD.size:
            size, kind, zero, code, number = HEAD.unpack_from(stream)
            _check_head(size, kind, zero, code, number, server=server, greeted=greeted)
            greeted = True
            payload = stream[HEAD.size : HEAD.size + size]
            if kind == BLOCK and len(payload) >= _BLOCK.size:
                _check_block(payload, size)
            if len(payload) < size:
                break
            numbers, data = _take_apart(kind, payload)
            frames.append(Frame(kind, number, code, numbers, data))
            stream = stream[HEAD.size + size :]
    except _Violation as violation:
        return frames, str(violation)
    return frames, ""


def _check_head(size: int, kind: int, zero: int, code: int, number: int, *, server: bool, greeted: bool) -> None:
    greets = kind in (HELLO, WELCOME)
    if kind not in (FROM_CLIENT if server else FROM_SERVER):
        raise _Violation("kind")
    smallest, largest = SIZES[kind]
    if not smallest <= size <= largest:
        raise _Violation("size")
    if zero or bool(code) != (kind == ERROR):
        raise _Violation("zero")
    if kind != ERROR and (number == 0) != greets:
        raise _Violation("id")
    turned_away = not greeted and kind == ERROR and number == 0
    if greeted == greets and not turned_away:
        raise _Violation("order")


def _check_block(payload: bytes, size: int) -> None:
    index, length = _BLOCK.unpack_from(payload)
    if index >= BLOCK_MAX or length != size - _AROUND_BODY:
        raise _Violation("field")


def _take_apart(kind: int, payload: bytes) -> tuple[tuple[int, ...], bytes]:
    numbers: tuple[int, ...] = ()
    data = b""
    zero = 0
    good = True
    if kind == HELLO:
        magic, version, oldest, zero = _HELLO.unpack_from(payload)
        numbers, data = (version, oldest), payload[_HELLO.size :]
        good = magic == MAGIC and version >= oldest > 0
    elif kind == WELCOME:
        version, requests_max, zero = _WELCOME.unpack(payload)
        numbers = (version, requests_max)
        good = version > 0 and requests_max > 0
    elif kind == REQUEST:
        data, first, count, deadline_ms, zero = _REQUEST.unpack(payload)
        numbers = (first, count, deadline_ms)
        good = 1 <= count <= COUNT_MAX and first + count <= BLOCK_MAX and deadline_ms > 0
    elif kind == BLOCK:
        crc64, state, zero = _TRAILER.unpack_from(payload, len(payload) - _TRAILER.size)
        numbers = (*_BLOCK.unpack_from(payload), crc64, state)
        data = payload[_BLOCK.size : -_TRAILER.size]
        good = state <= 1
    elif kind == MISSING:
        numbers = _MISSING.unpack(payload)
        good = 1 <= numbers[1] <= COUNT_MAX and sum(numbers) <= BLOCK_MAX
    elif kind == ERROR:
        data = payload
    if zero or not good:
        raise _Violation("field")
    return numbers, data
