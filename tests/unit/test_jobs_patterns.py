"""Paths as users write them."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jindopy.base.errors import UsageError
from jindopy.base.ident import MountId, UfsId
from jindopy.master.patterns import Pattern, parse
from jindopy.namespace.api import MountInfo


def mount(number: int, path: bytes, uri: str, prefix: bytes = b"") -> MountInfo:
    return MountInfo(MountId(number), path, UfsId("x"), uri, prefix, 60.0, True)


MOUNTS = [
    mount(1, b"", "oss://bucket.oss-cn-hangzhou.aliyuncs.com/train/", b"train/"),
    mount(2, b"deep/er", "oss://bucket/train/inner", b"train/inner/"),
    mount(3, b"disk", "/srv/data"),
]


def one(text: str, **options: bool) -> Pattern:
    (pattern,) = parse([text], MOUNTS, **options)
    return pattern


@pytest.mark.parametrize(
    ("text", "path", "selected"),
    [
        ("", b"any/thing", True),
        ("a", b"a", True),
        ("/a/", b"a/b/c", True),
        ("a", b"ab", False),
        ("a//b", b"a/b", True),
        ("./a/./b", b"a/b", True),
        ("*.rec", b"x.rec", True),
        ("*.rec", b"d/x.rec", False),
        ("d/*", b"d/e/f", True),
        ("d/*/f", b"d/e/f", True),
        ("d/*/f", b"d/f", False),
        ("d/?", b"d/\xc3\xa9", True),
        ("d/?", b"d/\xff", True),
        ("part-[0-4]*", b"part-31", True),
        ("part-[!0-4]*", b"part-31", False),
        ("**", b"a", True),
        ("**/x", b"x", True),
        ("**/x", b"a/b/x/deeper", True),
        ("**/x", b"a/b/xx", False),
        ("a/**/b/**/c", b"a/b/c", True),
        ("a/**/b/**/c", b"a/1/b/2/3/c/d", True),
        ("a/**/b/**/c", b"a/1/2/3/c", False),
        ("a/**/**/b", b"a/b", True),
        ("a[1].txt", b"a[1].txt", True),
        ("a[1].txt", b"a1.txt", True),
        ("a[z-a]", b"a[z-a]", True),
        (".*", b".hidden", True),
        ("*", b".hidden", True),
    ],
)
def test_what_a_pattern_selects(text: str, path: bytes, selected: bool) -> None:
    assert one(text).selects(path) is selected


def test_literal_paths_keep_their_wildcards() -> None:
    assert one("a[1]/*", literal=True) == Pattern(b"a[1]/*", ())
    assert not one("a[1]/*", literal=True).selects(b"a[1]/b")


def test_the_base_is_what_needs_no_listing() -> None:
    assert one("a/b/*.rec/c").base == b"a/b"
    assert one("a/b").rest == ()
    assert one("a/b/*.rec/c").text == b"a/b/*.rec/c"
    assert one("*").text == b"*"


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("oss://bucket/train", b""),
        ("oss://bucket/train/x/y", b"x/y"),
        ("oss://bucket.other-endpoint/train/x", b"x"),
        ("oss://bucket/train/inner/x", b"deep/er/x"),
        ("oss://bucket/train/inner*/x", b"inner*/x"),
        ("local:///srv/data/x", b"disk/x"),
        ("file:///srv/data/", b"disk"),
    ],
)
def test_uris_are_found_in_the_innermost_mount(uri: str, path: bytes) -> None:
    assert one(uri).text == path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a/../b", "dotdot"),
        ("..", "dotdot"),
        ("a\0b", "nul"),
        ("x" * 256, "too-long"),
        ("a/" * 3000, "too long"),
        ("\ud800", "no file name can have"),
        ("oss://bucket/elsewhere", "not inside this mount"),
        ("oss://bucket/training", "not inside this mount"),
        ("s3://bucket/train", "not inside this mount"),
        ("oss://", "names no bucket"),
        ("oss://key:secret@bucket/train", "keys do not belong"),
    ],
)
def test_what_no_path_can_be_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse([text], MOUNTS)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_too_many_paths_are_refused() -> None:
    with pytest.raises(UsageError, match="too many"):
        parse([str(number) for number in range(10_001)], MOUNTS)


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        ([], [b""]),
        (["a", "a/"], [b"a"]),
        (["a/b", "a", "a b", "a/b/c"], [b"a", b"a b"]),
        (["a/*", "a/*"], [b"a/*"]),
        (["a/*", "a"], [b"a"]),
        (["", "x", "*"], [b""]),
        (["b", "a/*.x", "a/*.y"], [b"a/*.x", b"a/*.y", b"b"]),
    ],
)
def test_what_another_path_covers_is_left_out(texts: list[str], kept: list[bytes]) -> None:
    assert [pattern.text for pattern in parse(texts, MOUNTS)] == kept


def test_covering() -> None:
    assert one("a").covers(one("a/*.x"))
    assert one("a").covers(one("a/b"))
    assert one("a/*").covers(one("a/*"))
    assert not one("a/*").covers(one("a/b"))
    assert not one("a/b").covers(one("a"))


NAMES = st.text(alphabet="ab.[]*?!-é", min_size=1, max_size=4).filter(lambda name: name not in (".", ".."))


@given(st.lists(NAMES, min_size=1, max_size=4), st.lists(NAMES, min_size=1, max_size=4))
def test_matching_agrees_with_its_definition(pattern: list[str], path: list[str]) -> None:
    assert one("/".join(pattern)).selects("/".join(path).encode()) is _reference(pattern, path)


def _reference(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_reference(pattern[1:], path[count:]) for count in range(len(path) + 1))
    if not path:
        return False
    fits = path[0] == pattern[0] or fnmatch.fnmatchcase(path[0], pattern[0])
    return fits and _reference(pattern[1:], path[1:])
