"""What a handler gives back: an answer, a promise of one, or a sink for the request's body."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from jindopy.emulator.errors import XML_HEAD, Refused
from jindopy.emulator.http import Request

DOCUMENT_BYTES_MAX: Final = 4 << 20
"""Largest XML body of a request: 10,000 parts or 1,000 keys of 1,023 bytes, percent-encoded, fit."""


class Call(NamedTuple):
    """One request, told where it goes."""

    request: Request
    bucket: str
    key: bytes
    now_seconds: float


@dataclass(slots=True)
class FileBody:
    """Bytes of a file; with ``period_bytes`` the file is a tile that repeats, and offsets run through the repetition.

    ``owned``: the descriptor is closed behind the body.
    """

    fd: int
    offset: int
    size: int
    period_bytes: int = 0
    owned: bool = True

    def close(self) -> None:
        """Give the descriptor back; harmless when repeated."""
        if self.owned and self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


@dataclass(slots=True)
class Response:
    """One answer."""

    status: int = 200
    fields: str = ""
    """Further header fields, each ``Name: value\\r\\n``."""
    body: bytes = b""
    file: FileBody | None = None
    announced_bytes: int = -1
    """Content-Length of an answer without a body (HEAD); -1: the body's own length."""
    close: bool = False


@dataclass(slots=True)
class Later:
    """Work too long for the event loop; runs in a worker thread and returns the answer or raises Refused."""

    work: Callable[[], Response]


class Sink(Protocol):
    """Takes a request's body."""

    def write(self, data: memoryview) -> None:
        """The next bytes; raises Refused."""
        ...

    def finish(self) -> Response | Later:
        """The body is complete; raises Refused."""
        ...

    def abort(self) -> None:
        """The body will not be completed, or was refused; harmless when repeated and after ``finish``."""
        ...


Answer = Response | Later | Sink


class DocumentSink:
    """Collects a small body and hands it to ``handle``."""

    def __init__(self, handle: Callable[[bytes], Response | Later]) -> None:
        self._handle = handle
        self._data = bytearray()

    def write(self, data: memoryview) -> None:
        """Collect; raises Refused beyond DOCUMENT_BYTES_MAX."""
        if len(self._data) + len(data) > DOCUMENT_BYTES_MAX:
            raise Refused(400, "MalformedXML", "The XML document is too large.", close=True)
        self._data += data

    def finish(self) -> Response | Later:
        """Handle the document."""
        return self._handle(bytes(self._data))

    def abort(self) -> None:
        """Nothing to undo."""
        self._data.clear()


def fields(*pairs: tuple[str, str]) -> str:
    """Header fields as text; a value with control characters would end the field, so it is refused."""
    text = []
    for name, value in pairs:
        if not value.isprintable() and any(char < " " or char == "\x7f" for char in value):
            raise Refused(400, "InvalidArgument", f"{name} holds control characters.")
        text.append(f"{name}: {value}\r\n")
    return "".join(text)


def xml(body: str, extra_fields: str = "", status: int = 200) -> Response:
    """An XML answer."""
    return Response(
        status, "Content-Type: application/xml\r\n" + extra_fields, XML_HEAD + body.encode("utf-8", "replace")
    )
