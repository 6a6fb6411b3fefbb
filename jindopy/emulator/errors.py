"""Refusals in the words of the real service: HTTP status, code and XML body.  P.

Handlers raise ``Refused``; the server turns it into an answer and, where the request's body cannot be skipped any
more, closes the connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape

XML_HEAD = b'<?xml version="1.0" encoding="UTF-8"?>\n'

STATUS_REASONS = {
    100: "Continue",
    200: "OK",
    202: "Accepted",
    203: "Non-Authoritative Information",
    204: "No Content",
    206: "Partial Content",
    304: "Not Modified",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    411: "Length Required",
    412: "Precondition Failed",
    413: "Payload Too Large",
    416: "Requested Range Not Satisfiable",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


class Refused(Exception):
    """A request the service answers with an error.

    ``details`` become further elements of the XML body, ``headers`` further response headers; ``close`` ends the
    connection behind the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: tuple[tuple[str, str], ...] = (),
        headers: tuple[tuple[str, str], ...] = (),
        close: bool = False,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.headers = headers
        self.close = close

    def body(self, request_id: str, host: str) -> bytes:
        """The XML document the service sends."""
        fields = (("Code", self.code), ("Message", self.message), ("RequestId", request_id), ("HostId", host))
        inner = "".join(f"  <{name}>{xml_text(value)}</{name}>\n" for name, value in (*fields, *self.details))
        return XML_HEAD + f"<Error>\n{inner}</Error>\n".encode("utf-8", "replace")


def xml_text(text: str) -> str:
    """Escape for element content; what XML 1.0 cannot hold becomes a numeric reference, as the service does."""
    escaped = escape(text)
    if escaped.isprintable():
        return escaped
    return "".join(
        char if char.isprintable() or char in "\t\n" else "�" if 0xD800 <= ord(char) < 0xE000 else f"&#{ord(char)};"
        for char in escaped
    )


def decimal(text: str, least: int, most: int) -> int | None:
    """The number that ``text`` is, None when it is none of that range; digits beyond a 64-bit number are never one."""
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        return None
    value = int(text)
    return value if least <= value <= most else None


def no_such_bucket(bucket: str) -> Refused:
    """404: the bucket is not there."""
    return Refused(404, "NoSuchBucket", "The specified bucket does not exist.", details=(("BucketName", bucket),))


def no_such_key(key: bytes) -> Refused:
    """404: the object is not there."""
    return Refused(
        404, "NoSuchKey", "The specified key does not exist.", details=(("Key", key.decode("utf-8", "replace")),)
    )


def no_such_upload(upload_id: str) -> Refused:
    """404: the multipart upload is not, or no longer, there."""
    return Refused(
        404,
        "NoSuchUpload",
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or "
        "completed.",
        details=(("UploadId", upload_id),),
    )


def invalid_argument(message: str, name: str, value: str) -> Refused:
    """400: a parameter or header has a value that is not allowed."""
    return Refused(400, "InvalidArgument", message, details=(("ArgumentName", name), ("ArgumentValue", value)))


def number_parameter(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """A query parameter from 0 to ``most``; raises Refused."""
    text = query.get(name, "")
    if not text:
        return default
    value = decimal(text, 0, most)
    if value is None:
        raise invalid_argument(f"A number from 0 to {most} is due.", name, text)
    return value
