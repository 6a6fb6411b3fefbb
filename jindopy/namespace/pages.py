"""A page of a listing by delimiter → names in its directory.  P.

What a driver sends is checked here: keys start with the prefix asked for, no key comes twice or goes backwards.  Names
that no path can hold are set aside with their reason, so are files under the name of a mount.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from jindopy.base.errors import BadAnswer
from jindopy.base.ident import Kind
from jindopy.namespace.diff import EntryTuple
from jindopy.namespace.keys import CLASH, name_fault
from jindopy.ufs.base import ListPage


class Names(NamedTuple):
    """What a page says of one directory."""

    files: list[EntryTuple]
    directories: list[bytes]
    skipped: list[tuple[bytes, str]]
    """(key up to the bad component, reason)."""
    marker_mtime_ns: int | None
    """Of the directory's own marker object, when the page has it."""
    bound: bytes
    """The last key below the directory; ``after`` when the page is empty."""


def names_of(page: ListPage, prefix: bytes, after: bytes, hidden: Container[bytes]) -> Names:
    """Take a page apart; ``after`` is the bound of the page before, ``hidden`` the names of mounts."""
    start = len(prefix)
    files: list[EntryTuple] = []
    directories: list[bytes] = []
    skipped: list[tuple[bytes, str]] = []
    marker_mtime_ns: int | None = None
    bound = after
    last = after
    for key, size, mtime_ns, token, kind, crc64, _ in page.objects:
        name = key[start:]
        if name <= last or not key.startswith(prefix):
            if key == prefix and not after:
                marker_mtime_ns = mtime_ns
                continue
            raise BadAnswer("the listing is out of order or outside its prefix", key=key)
        last = name
        # The usual name passes these tests only: a call for each would cost a tenth of all that a listed key costs.
        if len(name) < 256 and name[0] != 0x2E and 0 not in name and name not in hidden:
            files.append((name, 0 if kind is Kind.FILE else int(kind), size, mtime_ns, token, crc64))
            continue
        fault = CLASH if name in hidden else name_fault(name)
        if fault is None:
            files.append((name, int(kind), size, mtime_ns, token, crc64))
        else:
            skipped.append((key, fault))
    bound = max(bound, last)
    last = after
    for key in page.prefixes:
        below = key[start:]
        if below <= last or not key.startswith(prefix) or below.find(b"/") != len(below) - 1:
            raise BadAnswer("the listing is out of order or outside its prefix", key=key)
        last = below
        name = below[:-1]
        fault = name_fault(name)
        if fault is not None:
            skipped.append((key, fault))
        elif name not in hidden:
            directories.append(name)
    bound = max(bound, last)
    if b"/" in bound[:-1]:
        raise BadAnswer("the listing goes below its delimiter", key=prefix + bound)
    return Names(files, directories, skipped, marker_mtime_ns, bound)
