"""Pins and eviction through the daemon's API, with a real cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from load_fixture import LoadBench, until

from jindopy.base.clock import Deadline
from jindopy.base.errors import NoSuchEntry, Unavailable, UsageError
from jindopy.master import pins

MIB = 1 << 20


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LoadBench]:
    made = LoadBench(tmp_path, request.node.name, quota_bytes=40 * MIB)
    for number in range(20):
        made.put(f"{'ab'[number % 2]}/f{number:02}", bytes([number]) * MIB)
    made.put("top", b"top")
    yield made
    made.stop()


def pinned(bench: LoadBench) -> set[bytes]:
    return set(bench.cache.cids(pinned=True))


def test_evict_frees_what_is_below_the_paths(bench: LoadBench) -> None:
    bench.load()
    done = bench.daemon.evict(["a", "b/f0*"])
    assert (done.files, done.bytes) == (15, 15 * MIB)
    assert bench.cached("a/f02") == bench.cached("b/f01") == 0
    assert bench.cached("b/f11") == MIB
    assert bench.daemon.evict(["a"]).files == 0
    assert bench.load("a").bytes_fetched == 10 * MIB


def test_evict_leaves_pinned_files_and_names_them(bench: LoadBench) -> None:
    bench.load()
    bench.daemon.pin(["a/f02"])
    done = bench.daemon.evict([])
    assert (done.files, done.bytes) == (20, 19 * MIB + 3)
    assert done.messages == ["pinned, not evicted: a/f02"]
    assert bench.cached("a/f02") == MIB


def test_evict_of_nothing_is_told(bench: LoadBench) -> None:
    with pytest.raises(NoSuchEntry, match="nowhere"):
        bench.daemon.evict(["nowhere"])
    assert bench.daemon.evict(["a/*.jpg"]).messages == ["no file matches 'a/*.jpg'"]


def test_pinning_holds_what_is_there_and_what_is_loaded_later(bench: LoadBench) -> None:
    bench.load("a/f00")
    done = bench.daemon.pin(["a"])
    assert (done.files, done.bytes) == (10, 10 * MIB)
    assert "9.0 MiB of it are not cached yet" in done.messages[0]
    bench.load("a")
    assert pinned(bench) == {bench.version(f"a/f{number:02}").cid for number in range(0, 20, 2)}
    assert bench.daemon.stat("a/f04").pinned
    assert not bench.daemon.stat("b/f01").pinned


def test_a_new_version_takes_over_the_pin(bench: LoadBench) -> None:
    bench.load("a")
    bench.daemon.pin(["a"])
    old = bench.version("a/f02").cid
    bench.put("a/f02", b"new")
    bench.load("a")
    new = bench.version("a/f02").cid
    assert new != old
    assert new in pinned(bench)
    assert old not in pinned(bench)


def test_pins_outlive_a_restart(bench: LoadBench) -> None:
    bench.load()
    bench.daemon.pin(["a/f0*"])
    bench.restart()
    assert len(pinned(bench)) == 5
    assert bench.daemon.stat("a/f02").pinned
    assert not bench.daemon.stat("a/f12").pinned


def test_a_set_that_does_not_fit_is_refused_and_nothing_is_pinned(bench: LoadBench) -> None:
    for number in range(20, 40):
        bench.put(f"a/f{number}", bytes([number]) * MIB)
    with pytest.raises(UsageError, match=r"not pinned: 40.0 MiB would be pinned and the cache keeps 32.0 MiB"):
        bench.daemon.pin([])
    bench.daemon.pin(["a"])
    with pytest.raises(UsageError, match=r"40.0 MiB would be pinned"):
        bench.daemon.pin(["b"])
    assert [path for _, path in bench.master.pins()] == [b"a"]


def test_unpin_lets_go(bench: LoadBench) -> None:
    bench.load()
    bench.daemon.pin(["a", "b/f01"])
    with pytest.raises(UsageError, match="'a/f02' is pinned with 'a'"):
        bench.daemon.unpin(["a/f02"])
    done = bench.daemon.unpin(["a"])
    assert (done.files, done.bytes) == (10, 10 * MIB)
    assert pinned(bench) == {bench.version("b/f01").cid}
    assert bench.daemon.unpin(["a"]).messages == ["nothing was pinned there"]
    assert bench.daemon.unpin([]).files == 1
    assert not pinned(bench)


def test_pinning_the_root_covers_everything(bench: LoadBench) -> None:
    bench.load()
    assert bench.daemon.pin([""]).files == 21
    assert bench.daemon.evict([]).files == 0
    assert bench.master.resolve(b"top", deadline=Deadline.after(5)).size == 3
    assert bench.daemon.unpin([""]).files == 21


def test_more_pins_than_rows_are_refused(bench: LoadBench) -> None:
    for number in range(1001):
        bench.put(f"many/{number}", b"")
    with pytest.raises(UsageError, match="pin the directory"):
        bench.daemon.pin(["many/*"])
    assert bench.daemon.pin(["many"]).files == 1001


def test_a_reader_of_a_new_version_finds_it_pinned(bench: LoadBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "SETTLE_SECONDS", 0.05)
    bench.restart()
    bench.daemon.pin(["a"])
    bench.put("a/f02", b"new")
    for _ in bench.master.read_dir(bench.version("a").inode, deadline=Deadline.after(5), refresh=True):
        pass
    until(lambda: bench.version("a/f02").cid in pinned(bench))
    assert bench.read("a/f02") == b"new"
    assert bench.daemon.evict(["a/f02"]).files == 0
    assert len(pinned(bench)) == 10


@pytest.mark.expect_log("pins could not be brought up to date")
def test_pins_stay_when_the_store_does_not_answer_at_the_start(
    bench: LoadBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.load()
    bench.daemon.pin(["a"])

    def fail(operation: str, key: bytes) -> None:
        raise Unavailable("connection refused")

    bench.gate.inner.on_call = fail
    bench.ttl_seconds = 0.0  # even what was listed just now must be asked for
    bench.restart()
    until(lambda: "could not be brought up to date" in caplog.text)
    assert len(pinned(bench)) == 10
    bench.gate.inner.on_call = None
