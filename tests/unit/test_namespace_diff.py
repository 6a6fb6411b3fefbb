"""Pages of a listing against what is known, compared with a plain comparison of two dictionaries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jindopy.base.errors import BadAnswer
from jindopy.base.ident import Kind
from jindopy.namespace.diff import Changes, EntryTuple, KnownTuple, ListingMerge, decided, undecided_names
from jindopy.namespace.pages import names_of
from jindopy.ufs.base import ListPage, ObjectStat

FILE, DIRECTORY, SYMLINK = int(Kind.FILE), int(Kind.DIRECTORY), int(Kind.SYMLINK)


def entry(name: bytes, token: bytes, kind: int = FILE) -> EntryTuple:
    return (name, kind, len(token), 7, token, None)


def merged(
    known: dict[bytes, KnownTuple], files: list[EntryTuple], directories: list[bytes], page_keys: int
) -> list[Changes]:
    """Run the listing in pages of ``page_keys``, as a driver would send it."""
    keys = sorted([(item[0], item) for item in files] + [(name + b"/", None) for name in directories])
    merge, after, changes = ListingMerge(), b"", []
    steps = [keys[start : start + page_keys] for start in range(0, len(keys), page_keys)] or [[]]
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        bound = step[-1][0] if step else after
        rows = [row for name, row in sorted(known.items()) if name > after and (last or name <= bound)]
        changes.append(
            merge.page(
                [item for _, item in step if item is not None],
                [key[:-1] for key, item in step if item is None],
                None if last else bound,
                rows,
            )
        )
        after = bound
    assert merge.oldest_carried is None
    return changes


# Characters around "/" (0x2f) make names whose order is not that of their directories.
NAME = (
    st.text("-./0a".replace("/", ""), min_size=1, max_size=4).map(str.encode).filter(lambda n: n not in (b".", b".."))
)
TOKEN = st.sampled_from([b"t", b"u", b"vv"])


@st.composite
def rows(draw: st.DrawFn) -> dict[bytes, KnownTuple]:
    found: dict[bytes, KnownTuple] = {}
    for number, name in enumerate(draw(st.sets(NAME, max_size=12))):
        kind = draw(st.sampled_from([FILE, DIRECTORY, SYMLINK]))
        token = b"" if kind == DIRECTORY else draw(TOKEN)
        gone = draw(st.sampled_from([None, None, 3]))
        found[name] = (name, 100 + number, kind, len(token), None if kind == DIRECTORY else 7, token, gone)
    return found


@given(
    rows(),
    st.dictionaries(NAME, st.tuples(TOKEN, st.sampled_from([FILE, SYMLINK])), max_size=12),
    st.sets(NAME, max_size=8),
    st.integers(1, 6),
)
def test_pages_of_any_size_give_what_the_whole_gives(
    known: dict[bytes, KnownTuple], files: dict[bytes, tuple[bytes, int]], directories: set[bytes], page_keys: int
) -> None:
    listed = [entry(name, token, kind) for name, (token, kind) in files.items()]
    steps = merged(known, listed, sorted(directories), page_keys)
    wanted: dict[bytes, int] = {name: kind for name, (_, kind) in files.items()} | dict.fromkeys(directories, DIRECTORY)

    def all_of(field: str) -> list:  # type: ignore[type-arg]
        found = [item for step in steps for item in getattr(step, field)]
        assert len(found) == len(set(found)), f"{field}: said twice"
        return sorted(found)

    same_kind = {name for name, kind in wanted.items() if name in known and known[name][2] == kind}
    turned = {name for name in wanted if name in known} - same_kind
    assert all_of("clashes") == sorted(directories & files.keys())
    assert all_of("gone") == sorted(row[1] for name, row in known.items() if name not in wanted and row[6] is None)
    assert all_of("turned") == sorted(known[name][1] for name in turned)
    assert [item[0] for item in all_of("inserts")] == sorted(
        name for name, kind in wanted.items() if kind != DIRECTORY and name not in same_kind
    )
    assert all_of("new_directories") == sorted(
        name for name, kind in wanted.items() if kind == DIRECTORY and name not in same_kind
    )
    renewed = {n for n in same_kind - directories if files[n][0] != known[n][5]}
    assert all_of("updates") == sorted((known[name][1], entry(name, *files[name]), True) for name in renewed)
    assert all_of("returned") == sorted(known[name][1] for name in same_kind - renewed if known[name][6] is not None)


def test_a_known_version_with_another_time_is_no_new_version() -> None:
    known = {b"a": (b"a", 5, FILE, 1, 6, b"t", None)}
    (changes,) = merged(known, [entry(b"a", b"t")], [], 10)
    assert changes.updates == [(5, entry(b"a", b"t"), False)]


@given(NAME, NAME)
def test_decided_says_when_no_directory_of_the_name_can_come(name: bytes, bound: bytes) -> None:
    assert decided(name, bound) == (name + b"/" <= bound)
    assert decided(name, None)
    if name <= bound:
        assert decided(name, bound) != (name in undecided_names(bound))


# Pages


def stat(key: bytes) -> ObjectStat:
    return ObjectStat(key, 1, 2, b"t")


def test_a_page_is_taken_apart() -> None:
    page = ListPage([stat(b"p/"), stat(b"p/a"), stat(b"p/m"), stat(b"p/n\0")], [b"p/b/", b"p/m2/", b"p//"], "more")
    page = page._replace(prefixes=sorted(page.prefixes))
    names = names_of(page, b"p/", b"", {b"m", b"m2"})
    assert [item[0] for item in names.files] == [b"a"]
    assert names.directories == [b"b"]
    assert names.marker_mtime_ns == 2
    assert names.bound == b"n\0"
    assert names.skipped == [(b"p/m", "clash"), (b"p/n\0", "nul"), (b"p//", "empty-component")]


@pytest.mark.parametrize(
    "page",
    [
        ListPage([stat(b"p/b"), stat(b"p/a")], [], ""),
        ListPage([stat(b"p/b"), stat(b"p/b")], [], ""),
        ListPage([stat(b"p/B")], [], ""),
        ListPage([stat(b"q/c")], [], ""),
        ListPage([stat(b"p/")], [], ""),
        ListPage([stat(b"p/c/d")], [], ""),
        ListPage([], [b"p/c"], ""),
        ListPage([], [b"p/c/d/"], ""),
        ListPage([], [b"p/d/", b"p/c/"], ""),
        ListPage([], [b"q/c/"], ""),
    ],
)
def test_a_listing_that_breaks_its_promises(page: ListPage) -> None:
    with pytest.raises(BadAnswer):
        names_of(page, b"p/", b"a", ())
