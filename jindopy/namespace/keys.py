"""Key ↔ path: which keys can be paths, and why the others can't.  P.

An object key is any string of bytes; a path is components of 1 to 255 bytes joined by single slashes.  A key maps to
the path of the same bytes below its mount's prefix, or to none: it is then *skipped*, with a reason from the table
below, and never breaks a walk.  Bytes that are no UTF-8 are as good as any.  A key that ends in ``/`` is the marker of
a directory.

Skipping is decided at the first bad component, and what is recorded is the key up to there: a listing by delimiter
meets ``a//`` once and never sees what lies below, so a flat listing must record the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from jindopy.base.errors import ConfigError

NAME_BYTES_MAX: Final = 255
"""NAME_MAX of Linux."""

EMPTY: Final = "empty-component"
DOT: Final = "dot"
DOTDOT: Final = "dotdot"
NUL: Final = "nul"
TOO_LONG: Final = "too-long"
CLASH: Final = "clash"
"""A file and a directory of one name: the directory wins.  A mount wins over both."""

REASONS: Final = (EMPTY, DOT, DOTDOT, NUL, TOO_LONG, CLASH)


def name_fault(name: bytes) -> str | None:
    """Why ``name`` (without slashes) cannot be a path component, or None."""
    if not name:
        return EMPTY
    if len(name) > NAME_BYTES_MAX:
        return TOO_LONG
    if 0 in name:
        return NUL
    if name[0] == 0x2E and len(name) <= 2:
        if name == b".":
            return DOT
        if name == b"..":
            return DOTDOT
    return None


def split_path(path: bytes) -> list[bytes]:
    """Components of a path as users write it: slashes at the ends and doubled ones mean nothing."""
    return [part for part in path.split(b"/") if part]


def clean_path(path: bytes) -> bytes:
    """The one spelling of a mount path; raises ConfigError on a component no directory can have."""
    parts = split_path(path)
    for part in parts:
        fault = name_fault(part)
        if fault is not None:
            raise ConfigError(f"not a mount path: {path!r} ({fault})")
    return b"/".join(parts)


def clean_prefix(prefix: bytes) -> bytes:
    """A mount's prefix, empty or ending in one slash."""
    return prefix if not prefix or prefix.endswith(b"/") else prefix + b"/"


def parents(name: bytes) -> Iterable[bytes]:
    """The proper prefixes of ``name``, shortest first, and ``name`` itself."""
    return (name[:end] for end in range(1, len(name) + 1))


def relative_link(link: bytes, target: bytes) -> bytes | None:
    """What readlink answers for ``link`` → ``target``, both below one directory; None if ``target`` is no path."""
    target_parts = target.rstrip(b"/").split(b"/")
    if any(name_fault(part) is not None for part in target_parts):
        return None
    base = link.split(b"/")[:-1]
    common = 0
    # The target's last component is never shared: a link to its own directory would else be empty.
    while common < min(len(base), len(target_parts) - 1) and base[common] == target_parts[common]:
        common += 1
    return b"/".join([b".."] * (len(base) - common) + target_parts[common:])
