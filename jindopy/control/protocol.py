"""The control socket's language: one request a connection, as newline JSON.  P: bytes in, bytes out.

    → {"v": 1, "op": "stat", "args": {"path": "a/b"}}
    ← {"v": 1, "result": {...}}                                   most operations
    ← {"v": 1, "item": {...}} ... {"v": 1, "end": true}           streams and long lists
    ← {"v": 1, "error": {"kind": "NoSuchEntry", "message": "...", "exit_code": 1}}

Bounds: a request line is at most 1 MiB, an answer line at most 16 MiB; both ends stop reading there.  Either end
refuses another protocol version in one line.  Values are the dataclasses of ``control.api``, decoded strictly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from jindopy.base import errors
from jindopy.base.errors import JindoError
from jindopy.base.records import RecordError, decode, encode
from jindopy.control.api import (
    PROTOCOL_VERSION,
    DaemonStatus,
    EntryInfo,
    LoadProgress,
    LoadRequest,
    PathsResult,
    ScrubProgress,
)

REQUEST_BYTES_MAX: Final = 1 << 20
ANSWER_BYTES_MAX: Final = 16 << 20


@dataclass(frozen=True)
class Operation:
    """What a call of ``DaemonApi`` takes and gives."""

    parameters: dict[str, Any]
    result: Any
    """Type of the result; of each item with ``stream``."""
    stream: bool = False


OPERATIONS: Final[dict[str, Operation]] = {
    "status": Operation({}, DaemonStatus),
    "list_dir": Operation({"path": str}, EntryInfo, stream=True),
    "stat": Operation({"path": str}, EntryInfo),
    "load": Operation({"request": LoadRequest}, LoadProgress, stream=True),
    "cancel_load": Operation({"job": str}, bool),
    "evict": Operation({"paths": list[str]}, PathsResult),
    "pin": Operation({"paths": list[str]}, PathsResult),
    "unpin": Operation({"paths": list[str]}, PathsResult),
    "scrub": Operation({}, ScrubProgress, stream=True),
    "skipped_keys": Operation({}, tuple[str, str], stream=True),
    "shutdown": Operation({"drain_seconds": float}, None),
}


class ProtocolError(JindoError):
    """The other end does not speak this protocol."""

    exit_code = errors.EXIT_USAGE


@dataclass(frozen=True)
class Request:
    """A checked request."""

    operation: str
    arguments: dict[str, Any]


def encode_request(operation: str, arguments: dict[str, Any]) -> bytes:
    """One line."""
    line = _line({"op": operation, "args": encode(arguments)})
    if len(line) > REQUEST_BYTES_MAX:
        raise ProtocolError("too many paths for one request; give fewer, or a directory that holds them")
    return line


def decode_request(line: bytes) -> Request:
    """Check everything that came in; raises ProtocolError."""
    document = _document(line, "the request")
    name = document.get("op")
    operation = OPERATIONS.get(name) if isinstance(name, str) else None
    if operation is None:
        raise ProtocolError(f"this mount knows no operation {name!r:.40}")
    given = document.get("args")
    if not isinstance(given, dict) or set(given) != set(operation.parameters):
        raise ProtocolError(f"{name} takes exactly these arguments: {', '.join(operation.parameters) or 'none'}")
    try:
        arguments = {key: decode(kind, given[key], key) for key, kind in operation.parameters.items()}
    except RecordError as error:
        raise ProtocolError(f"{name}: {error}") from None
    return Request(str(name), arguments)


def encode_result(value: object) -> bytes:
    """The line of a single answer."""
    return _line({"result": encode(value)})


def encode_item(value: object) -> bytes:
    """The line of one of many answers."""
    return _line({"item": encode(value)})


def encode_end() -> bytes:
    """The line after the last item."""
    return _line({"end": True})


def encode_error(error: JindoError) -> bytes:
    """The line of a failure."""
    facts = {"kind": type(error).__name__, "message": error.message, "exit_code": error.exit_code}
    return _line({"error": facts})


class End:
    """Stands for the line after the last item."""


def decode_answer(operation: str, line: bytes) -> Any:
    """The result or item, ``End``, or raise the error that the daemon met; ProtocolError for anything else."""
    document = _document(line, "the mount's answer")
    if "error" in document:
        raise rebuild_error(document["error"])
    if "end" in document:
        return End
    kind = OPERATIONS[operation].result
    value = document.get("item", document.get("result"))
    if kind is None:
        return None
    try:
        return decode(kind, value, operation)
    except RecordError as error:
        raise ProtocolError(f"the mount's answer makes no sense: {error}") from None


class RemoteError(JindoError):
    """An error another process met, known by message and exit code alone."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # one instance's, where other classes have one for all


def rebuild_error(facts: object) -> JindoError:
    """The daemon's exception, in its own class where that can be made from a message alone."""
    if not isinstance(facts, dict):
        return ProtocolError("the mount's answer makes no sense: error is no object")
    message, exit_code = str(facts.get("message", "")), facts.get("exit_code")
    kind = _error_classes().get(str(facts.get("kind")))
    if kind is not None:
        return kind(message)
    return RemoteError(message, exit_code if isinstance(exit_code, int) else errors.EXIT_FAILURE)


def _error_classes() -> dict[str, type[JindoError]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, JindoError)
    }  # fmt: skip


def _line(document: dict[str, Any]) -> bytes:
    # ASCII only: paths that are no UTF-8 travel as lone surrogates, which json escapes and restores.
    return json.dumps({"v": PROTOCOL_VERSION, **document}, separators=(",", ":")).encode("ascii") + b"\n"


def _document(line: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise ProtocolError(f"{what} is no JSON") from None
    if not isinstance(document, dict) or "v" not in document:
        raise ProtocolError(f"{what} names no protocol version")
    if document["v"] != PROTOCOL_VERSION:
        raise ProtocolError(
            f"the mount and this command are of different releases (control protocol {PROTOCOL_VERSION} here,"
            f" {document['v']!r:.20} there); use the jindopy that started the mount, or mount again"
        )
    return document


def lines(chunks: Iterator[bytes], limit_bytes: int, what: str) -> Iterator[bytes]:
    """Cut a stream into lines; raises ProtocolError for one that is too long or has no end."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while (end := buffer.find(b"\n")) >= 0:
            yield bytes(buffer[:end])
            del buffer[: end + 1]
        if len(buffer) > limit_bytes:
            raise ProtocolError(f"{what} is longer than {limit_bytes} bytes")
    if buffer:
        raise ProtocolError(f"{what} ended in the middle of a line")
