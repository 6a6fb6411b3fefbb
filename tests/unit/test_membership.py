"""The roll of workers as a state machine, and the map of what they hold."""

from __future__ import annotations

import pytest

from jindopy.base.errors import UsageError
from jindopy.base.ident import Cid
from jindopy.cluster.cachemap import CacheMap, Held
from jindopy.cluster.membership import LOST_SECONDS, Membership, WorkerFacts, weights

A = WorkerFacts("a", "h:1", "h:2", 100)
B = WorkerFacts("b", "h:3", "h:4", 300)
ONE, TWO = Cid(b"1" * 16), Cid(b"2" * 16)


def test_others_are_told_only_of_what_changes_placement() -> None:
    roll = Membership()
    assert roll.heartbeat(A, 0)
    assert not roll.heartbeat(A._replace(cached_bytes=50, files=2), 1)
    assert roll.workers() == [A._replace(cached_bytes=50, files=2)]
    assert roll.heartbeat(A._replace(capacity_bytes=200), 2)
    assert roll.heartbeat(A._replace(data_address="h:9"), 3)
    assert roll.heartbeat(B, 3)
    assert [worker.id for worker in roll.workers()] == ["a", "b"]
    assert weights(roll.workers()) == {"a": 100.0, "b": 300.0}


def test_the_silent_are_lost_and_may_come_back() -> None:
    roll = Membership()
    roll.heartbeat(A, 0)
    roll.heartbeat(B, 5)
    assert roll.expire(LOST_SECONDS) == []
    assert roll.expire(LOST_SECONDS + 1) == ["a"]
    assert roll.expire(LOST_SECONDS + 1) == []
    assert roll.heartbeat(A, LOST_SECONDS + 2)
    assert roll.leave("b")
    assert not roll.leave("b")
    assert [worker.id for worker in roll.workers()] == ["a"]


@pytest.mark.parametrize(
    "facts",
    [
        A._replace(id=""),
        A._replace(id="../x"),
        A._replace(id="x" * 65),
        A._replace(data_address="h"),
        A._replace(data_address="h:99999"),
        A._replace(rpc_address="h h:1"),
        A._replace(capacity_bytes=0),
        A._replace(capacity_bytes=1 << 61),
    ],
)
def test_what_no_honest_worker_says_is_refused(facts: WorkerFacts) -> None:
    with pytest.raises(UsageError):
        facts.checked()


def test_the_map_follows_differences_and_forgets_the_gone() -> None:
    held = CacheMap()
    assert not held.knows("a")
    held.told("a", [Held(ONE, 0, 10), Held(TWO, 3, 5)], [], everything=True)
    held.told("b", [Held(ONE, 0, 20)], [], everything=True)
    assert held.knows("a")
    assert held.holders(ONE, 0) == ["b", "a"]
    held.told("b", [Held(ONE, 0, 1)], [], everything=False)
    assert held.holders(ONE, 0) == ["a", "b"]
    held.told("a", [], [Held(ONE, 0, 0), Held(ONE, 7, 0)], everything=False)
    assert (held.holders(ONE, 0), held.holders(TWO, 3), len(held)) == (["b"], ["a"], 2)
    held.told("a", [Held(ONE, 1, 1)], [], everything=True)
    assert (held.holders(TWO, 3), held.holders(ONE, 1)) == ([], ["a"])
    held.gone("a")
    held.gone("b")
    assert (len(held), held.knows("a")) == (0, False)


def test_the_map_is_bounded() -> None:
    held = CacheMap(extents_max=2)
    held.told("a", [Held(ONE, number, 1) for number in range(5)], [], everything=True)
    assert len(held) == 2
    held.told("a", [], [Held(ONE, number, 0) for number in range(5)], everything=False)
    assert len(held) == 0
