"""A directory as a stream of pages of one generation.

The stream holds a view (``sync``) and a place in the order of names.  Over a complete generation it reads the store
page by page.  Over a running listing it reads up to the listing's bound and waits for more.  Names up to the bound that
are not decided yet (``diff``) are *owed*: they come in a later page, once they are decided.  So pages are in order of
names but for those.

Bounds: one page of nodes, and at most 255 owed names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from jindopy.base.clock import Deadline
from jindopy.base.ident import Inode
from jindopy.namespace.api import DirPage
from jindopy.namespace.diff import undecided_names
from jindopy.namespace.listing import WAIT_SECONDS
from jindopy.namespace.sync import Lister, View

PAGE_NODES: Final = 1000


def dir_pages(lister: Lister, directory: Inode, deadline: Deadline, refresh: bool) -> Iterator[DirPage]:
    """See ``MasterApi.read_dir``."""
    view = lister.open_view(directory, refresh=refresh)
    try:
        yield from _pages(lister, view, deadline)
    finally:
        lister.close_view(view)


def _pages(lister: Lister, view: View, deadline: Deadline) -> Iterator[DirPage]:
    after = b""
    owed: set[bytes] = set()
    while True:
        upto = _bound(view, after, deadline)
        rows = lister.read(view, after, upto, PAGE_NODES)
        if len(rows) == PAGE_NODES:
            after, last = rows[-1][2], False
        else:
            after, last = upto or after, upto is None
        held = undecided_names(upto)
        if held:
            rows = [row for row in rows if row[2] not in held]
        ready = owed - held
        if ready:
            rows += lister.read_named(view, ready)
        owed = (owed & held) | {name for name in held if name <= after}
        if rows or last:
            yield DirPage(lister.mounts.nodes(rows), last, view.generation, lister.left_seconds(view))
        if last:
            return


def _bound(view: View, after: bytes, deadline: Deadline) -> bytes | None:
    """How far the view shows its directory, once that is beyond ``after``; None for all of it."""
    listing = view.listing
    if listing is None:
        return None
    while not listing.wait(lambda: listing.finished or listing.bound > after, deadline.bounded(WAIT_SECONDS)):
        deadline.check("listing a directory")
    return listing.progress()
