"""Object keys ↔ names on disk, each way exact, none outside the bucket's directory.  P.

A key is cut at ``/``: the last component is a file, those before it directories.  Nearly every component is its own
name on disk, so a file dropped in by hand is an object and an object is a file to look at.  What a directory cannot
hold is escaped, and every escape begins with ``%~``:

    component                          name on disk
    empty (``a//b``, ``a/``)           ``%~``
    ``.``  ``..``                      ``%~.``  ``%~..``
    holds NUL, or begins with ``%~``   ``%~`` and the percent-encoded component
    over 255 bytes once encoded        ``%~#`` and its BLAKE2b-128; the store keeps the component by that hash

The object ``x`` beside ``x/y`` cannot be a file of its plain name: it lives at the *aside* name, ``%~=`` and the
encoded component (or ``#`` and the hash).  ``quote`` encodes ``#`` and ``=``, so no two rules meet.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from jindopy.emulator.errors import Refused

KEY_BYTES_MAX: Final = 1023
NAME_BYTES_MAX: Final = 255
ESCAPE: Final = b"%~"

_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


def check_bucket_name(bucket: str) -> None:
    """Raise Refused for what the service takes for no bucket name; what passes is a safe directory name."""
    if not _BUCKET.fullmatch(bucket):
        raise Refused(400, "InvalidBucketName", "The specified bucket is not valid.", details=(("BucketName", bucket),))


def check_key(key: bytes) -> None:
    """Raise Refused for what the service takes for no object name."""
    valid = 0 < len(key) <= KEY_BYTES_MAX and not key.startswith((b"/", b"\\"))
    if valid and not key.isascii():
        try:
            key.decode()
        except UnicodeDecodeError:
            valid = False
    if not valid:
        raise Refused(
            400,
            "InvalidObjectName",
            "The specified object name is not valid: 1 to 1023 bytes of UTF-8 that begin with neither / nor \\.",
            details=(("ObjectName", key.decode("utf-8", "replace")),),
        )


def component_hash(component: bytes) -> bytes:
    """Name, in hexadecimal, of a component too long for a directory entry."""
    return blake2b(component, digest_size=16).hexdigest().encode()


def disk_name(component: bytes) -> bytes:
    """Where a component lives."""
    if (
        component
        and len(component) <= NAME_BYTES_MAX
        and b"\0" not in component
        and not component.startswith(ESCAPE)
        and component not in (b".", b"..")
    ):
        return component
    return _escaped(ESCAPE, component)


def aside_name(component: bytes) -> bytes:
    """Where an object lives whose plain name is taken by a directory."""
    return _escaped(ESCAPE + b"=", component)


def _escaped(mark: bytes, component: bytes) -> bytes:
    name = mark + quote(component, safe="").encode()
    return name if len(name) <= NAME_BYTES_MAX else mark + b"#" + component_hash(component)


def is_hashed(name: bytes) -> bool:
    """Whether the component must be looked up by its hash."""
    return name.startswith((ESCAPE + b"#", ESCAPE + b"=#"))


def component_of(name: bytes, find: Callable[[bytes], bytes | None]) -> bytes | None:
    """The component a name on disk stands for; None for a name no rule above makes.

    ``find`` answers a component by its hash.
    """
    if not name.startswith(ESCAPE):
        return name
    text = name[2:].removeprefix(b"=")
    component = find(text[1:]) if text.startswith(b"#") else unquote_to_bytes(text)
    if component is None or name not in (disk_name(component), aside_name(component)):
        return None
    return component
