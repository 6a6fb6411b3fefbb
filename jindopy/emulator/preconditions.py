"""Ranges and ``If-*`` headers as the service understands them.  P.

A range the object cannot satisfy is ignored and the whole object answered with 200, unless the request carries
``x-oss-range-behavior: standard``: then HTTP's own rules hold, with 416 for a start behind the end.  Of several ranges
only the first counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from jindopy.emulator.errors import Refused, invalid_argument

_RANGE = re.compile(r"bytes=\s*([0-9]{0,19})\s*-\s*([0-9]{0,19})\s*(?:,.*)?")


def byte_range(headers: Mapping[str, str], size: int, name: str = "range") -> tuple[int, int] | None:  # noqa: PLR0911 (a table of cases)
    """(offset, length) of the asked range, None for the whole object; raises Refused (416)."""
    text = headers.get(name)
    if text is None:
        return None
    standard = headers.get("x-oss-range-behavior", "") == "standard"
    match = _RANGE.fullmatch(text)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        suffix = int(last)
        if 0 < suffix <= size:
            return size - suffix, suffix
        if standard and suffix > size > 0:
            return 0, size
    else:
        start = int(first)
        stop = int(last) if last else size - 1
        if stop < start:
            # "bytes=9-3" is malformed, unless the end was left open and the start is behind the object.
            if last:
                return None
        elif start < size:
            if stop < size:
                return start, stop - start + 1
            return (start, size - start) if standard else None
    if not standard:
        return None
    raise Refused(
        416,
        "InvalidRange",
        "The requested range cannot be satisfied.",
        details=(("ActualObjectSize", str(size)), ("RangeRequested", text)),
        headers=(("Content-Range", f"bytes */{size}"),),
    )


def check(headers: Mapping[str, str], etag: str, mtime_ns: int, prefix: str = "") -> bool:
    """Whether to answer 304; raises Refused (412).  ``prefix`` names the headers' copy variants."""
    names: Final = (
        (f"{prefix}if-match", f"{prefix}if-none-match", f"{prefix}if-modified-since", f"{prefix}if-unmodified-since")
        if prefix
        else ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
    )
    match, none_match, modified, unmodified = (headers.get(name) for name in names)
    modified_seconds = mtime_ns // 1_000_000_000
    if match is not None and not _matches(match, etag):
        raise _failed("If-Match", match, etag)
    if unmodified is not None:
        limit = _seconds(unmodified, "If-Unmodified-Since")
        if modified_seconds > limit:
            raise _failed("If-Unmodified-Since", unmodified, etag)
    if none_match is not None:
        return _matches(none_match, etag)
    if modified is not None:
        limit = _seconds(modified, "If-Modified-Since")
        return modified_seconds <= limit
    return False


def _matches(wanted: str, etag: str) -> bool:
    if wanted.strip() == "*":
        return True
    return any(part.strip().removeprefix("W/").strip('"') == etag for part in wanted.split(","))


def _seconds(text: str, name: str) -> float:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        raise invalid_argument(f"{name} is no HTTP date.", name, text) from None


def _failed(condition: str, wanted: str, etag: str) -> Refused:
    return Refused(
        412,
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold.",
        details=(("Condition", condition), ("ConditionValue", wanted), ("ETag", etag)),
    )
