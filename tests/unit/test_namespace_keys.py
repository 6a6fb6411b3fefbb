"""Keys that are paths and keys that are none."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jindopy.base.errors import ConfigError
from jindopy.namespace import keys


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (b"", keys.EMPTY),
        (b".", keys.DOT),
        (b"..", keys.DOTDOT),
        (b"a\0b", keys.NUL),
        (b"\0", keys.NUL),
        (b"x" * 256, keys.TOO_LONG),
        (b"x" * 255, None),
        (b"...", None),
        (b".a", None),
        (b"..a", None),
        (b"\xff\xfe", None),
        (b" ", None),
        (b"a\nb", None),
    ],
)
def test_name_fault(name: bytes, fault: str | None) -> None:
    assert keys.name_fault(name) == fault
    assert fault is None or fault in keys.REASONS


def test_mount_paths() -> None:
    assert keys.clean_path(b"/a//b/") == b"a/b"
    assert keys.clean_path(b"/") == b""
    for bad in (b"a/../b", b"./a", b"x" * 256, b"a\0"):
        with pytest.raises(ConfigError):
            keys.clean_path(bad)


def test_prefixes() -> None:
    assert keys.clean_prefix(b"") == b""
    assert keys.clean_prefix(b"a") == b"a/"
    assert keys.clean_prefix(b"a/") == b"a/"


COMPONENT = st.sampled_from([b"a", b"b", b"c", b"dd"])
PATH = st.lists(COMPONENT, min_size=1, max_size=5).map(b"/".join)


@given(PATH, PATH)
def test_a_link_leads_where_it_should(link: bytes, target: bytes) -> None:
    answer = keys.relative_link(link, target)
    assert answer
    assert not answer.startswith(b"/")
    assert os.path.normpath(os.path.join(os.path.dirname(link), answer)) == target


@pytest.mark.parametrize("target", [b"", b"/", b"/a", b"a//b", b"../a", b"a/./b", b"a\0"])
def test_a_target_that_is_no_path(target: bytes) -> None:
    assert keys.relative_link(b"l", target) is None
