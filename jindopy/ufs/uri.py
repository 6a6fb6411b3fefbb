"""UFS URIs as users write them, taken apart and checked.  P: no I/O.

    oss://bucket/prefix            the endpoint comes from options or environment
    oss://bucket.endpoint/prefix   Jindo's long form: everything behind the first dot is the endpoint
    local:///path, file:///path, /path
    memory://name/prefix           for tests

A prefix names a directory: it becomes empty or ends in ``/``.  Percent signs mean themselves: keys are taken as typed.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from jindopy.base.errors import ConfigError

_URI = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):(?://)?(.*)$", re.DOTALL)
_FORMS = "write oss://bucket/prefix, local:///path or /path"


class UfsUri(NamedTuple):
    """A URI in its parts."""

    scheme: str
    authority: str
    """Bucket, or bucket and endpoint, or name; empty for local paths."""
    path: str
    """Absolute path for local; prefix without leading slash otherwise."""

    @property
    def prefix(self) -> bytes:
        """Keys of this mount start with it; empty or ending in ``/``."""
        if self.scheme == "local" or not self.path:
            return b""
        return (self.path if self.path.endswith("/") else self.path + "/").encode("utf-8", "surrogateescape")


def parse(text: str) -> UfsUri:
    """Take ``text`` apart; raises ConfigError with one line that says what to write."""
    if "\x00" in text or "\n" in text:
        raise ConfigError(f"not a UFS: {text!r} holds a control character; {_FORMS}")
    if text.startswith("/"):
        return UfsUri("local", "", _absolute(text))
    match = _URI.match(text)
    if match is None or "://" not in text:
        raise ConfigError(f"not a UFS: {text!r}; {_FORMS}")
    scheme, rest = match[1].lower(), match[2]
    if scheme in {"local", "file"}:
        if not rest.startswith("/"):
            raise ConfigError(f"{text!r} names no absolute path; write {scheme}:///path (three slashes)")
        return UfsUri("local", "", _absolute(rest))
    authority, _, path = rest.partition("/")
    if not authority:
        raise ConfigError(f"{text!r} names no bucket; write {scheme}://bucket/prefix")
    if "@" in authority:
        raise ConfigError(
            f"{scheme}://***: keys do not belong in a URI, where every process list shows them; give them by "
            "--credentials-file or the environment"
        )
    if "?" in authority or "#" in authority:
        raise ConfigError(f"{text!r}: options do not belong in a URI; give them as -o name=value")
    return UfsUri(scheme, authority, path)


def _absolute(path: str) -> str:
    return "/" + "/".join(part for part in path.split("/") if part)
