"""Placement: everybody computes the same order, shares follow weights, and only the moved share moves."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jindopy.base.ident import EXTENT_BYTES, Cid
from jindopy.cluster import placement

NAMES = st.lists(st.text("abcdef0123456789", min_size=1, max_size=8), min_size=1, max_size=8, unique=True)
CIDS = st.binary(min_size=16, max_size=16).map(Cid)


def cids(count: int) -> list[Cid]:
    return [Cid(hashlib.blake2b(str(number).encode(), digest_size=16).digest()) for number in range(count)]


def owners(weights: dict[str, float], count: int = 4000) -> list[str]:
    return [placement.rank(cid, 0, weights, 1)[0] for cid in cids(count)]


@given(NAMES, CIDS, st.integers(0, 1 << 40))
def test_the_order_is_of_all_workers_and_does_not_depend_on_how_they_are_told(
    names: list[str], cid: Cid, extent: int
) -> None:
    weights = {name: 1.0 + index for index, name in enumerate(names)}
    order = placement.rank(cid, extent, weights)
    assert sorted(order) == sorted(names)
    assert placement.rank(cid, extent, dict(reversed(weights.items()))) == order
    assert placement.rank(cid, extent, weights, 2) == order[:2]


@given(NAMES, CIDS, st.integers(0, 1 << 20), st.data())
def test_a_worker_that_goes_moves_nothing_else(names: list[str], cid: Cid, extent: int, data: st.DataObject) -> None:
    weights = {name: 1.0 + index for index, name in enumerate(names)}
    gone = data.draw(st.sampled_from(names))
    left = {name: weight for name, weight in weights.items() if name != gone}
    order = placement.rank(cid, extent, weights)
    assert placement.rank(cid, extent, left) == [name for name in order if name != gone]


def test_a_worker_that_comes_takes_its_share_and_no_other_extent_moves() -> None:
    before, after = owners({"a": 1, "b": 1, "c": 1}), owners({"a": 1, "b": 1, "c": 1, "d": 1})
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {"d"}
    assert len(moved) / len(before) == pytest.approx(0.25, abs=0.03)


def test_shares_are_as_the_weights() -> None:
    found = owners({"small": 1, "large": 3})
    assert found.count("large") / len(found) == pytest.approx(0.75, abs=0.03)
    grown = owners({"small": 1, "large": 6})
    # Growing takes from others and gives nothing away.
    assert all(new == "large" for old, new in zip(found, grown, strict=True) if old == "large")


def test_who_has_no_room_gets_nothing() -> None:
    assert set(owners({"a": 1, "full": 0}, 100)) == {"a"}
    assert placement.rank(cids(1)[0], 0, {}) == []


def test_extents_of_a_file_are_spread() -> None:
    cid = cids(1)[0]
    found = {placement.rank(cid, extent, {"a": 1, "b": 1}, 1)[0] for extent in range(64)}
    assert found == {"a", "b"}
    last = EXTENT_BYTES // placement.BLOCKS_AN_EXTENT
    assert last == 1 << 20
    assert [placement.extent_of(block) for block in (0, 255, 256, 600)] == [0, 0, 1, 2]
