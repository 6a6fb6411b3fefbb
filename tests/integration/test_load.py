"""Loads over a real namespace, a real cache and a UFS that fails, changes and waits on demand."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from load_fixture import LoadBench, until

from jindopy.base.errors import BucketNotFound, NoSuchEntry, Unavailable, UsageError
from jindopy.control.api import LoadProgress, LoadRequest

MIB = 1 << 20


def content(number: int, size: int = 10_000) -> bytes:
    return (number.to_bytes(8, "little") * (size // 8 + 1))[:size]


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LoadBench]:
    made = LoadBench(tmp_path, request.node.name)
    for number in range(60):
        made.put(f"{'abc'[number % 3]}/f{number:03}", content(number))
    yield made
    made.gate.open.set()
    made.stop()


def failures(progress: LoadProgress) -> dict[str, str]:
    return {failure.path: failure.error for failure in progress.failures}


def test_a_load_brings_everything_and_later_reads_ask_nobody(bench: LoadBench) -> None:
    bench.put("big", content(7, 21 * MIB + 5))
    bench.put("empty", b"")
    last = bench.load()
    assert last.phase == "complete"
    assert (last.files_total, last.files_done) == (62, 62)
    assert last.bytes_total == last.bytes_done == last.bytes_fetched == 60 * 10_000 + 21 * MIB + 5
    gets = len(bench.gate.gets)
    assert gets == 60 + 6
    assert all(bench.read(f"{'abc'[number % 3]}/f{number:03}") == content(number) for number in range(60))
    assert bench.read("big") == content(7, 21 * MIB + 5)
    assert len(bench.gate.gets) == gets


def test_a_second_load_fetches_nothing(bench: LoadBench) -> None:
    bench.load("a")
    again = bench.load("a")
    assert (again.phase, again.files_done, again.bytes_fetched) == ("complete", 20, 0)
    assert len(bench.gate.gets) == 20


def test_progress_comes_while_it_loads(bench: LoadBench) -> None:
    bench.gate.open.clear()
    stream = bench.daemon.load(LoadRequest([]))
    seen = [next(stream) for _ in range(3)]
    assert not any(progress.done for progress in seen)
    bench.gate.open.set()
    assert list(stream)[-1].phase == "complete"


def test_ending_the_stream_leaves_the_load_running(bench: LoadBench) -> None:
    bench.gate.open.clear()
    stream = bench.daemon.load(LoadRequest([]))
    first = next(stream)
    stream.close()
    joined = bench.daemon.load(LoadRequest(["b"]))
    assert next(joined).job == first.job
    bench.gate.open.set()
    assert list(joined)[-1].files_done == 60


def test_a_load_of_other_paths_does_not_join(bench: LoadBench) -> None:
    bench.gate.open.clear()
    first, second = (bench.daemon.load(LoadRequest([path])) for path in ("a", "b"))
    jobs = {next(first).job, next(second).job}
    bench.gate.open.set()
    assert len(jobs) == 2
    assert list(first)[-1].files_done == list(second)[-1].files_done == 20


def test_files_that_fail_are_named_and_stop_no_others(bench: LoadBench) -> None:
    bad = re.compile(rb"f0[03]1")
    bench.gate.fail = lambda key: Unavailable("503", key=key) if bad.search(key) else None
    last = bench.load()
    assert last.phase == "failed"
    assert set(failures(last)) == {"b/f001", "b/f031"}
    assert "503" in failures(last)["b/f001"]
    assert (last.failure_count, last.files_done, last.files_total) == (2, 58, 60)
    assert last.bytes_done == 58 * 10_000
    bench.gate.fail = lambda key: None
    assert bench.load().bytes_fetched == 2 * 10_000


def test_a_file_that_fails_once_is_tried_again(bench: LoadBench) -> None:
    failed = set()

    def once(key: bytes) -> Unavailable | None:
        if key in failed or not key.startswith(b"c/"):
            return None
        failed.add(key)
        return Unavailable("reset")

    bench.gate.fail = once
    last = bench.load()
    assert len(failed) == 20
    assert (last.phase, last.files_done, last.bytes_done) == ("complete", 60, 600_000)


def test_an_object_overwritten_during_the_load_is_loaded_as_it_is_now(bench: LoadBench) -> None:
    def overwrite(operation: str, key: bytes) -> None:
        if operation == "get" and key == b"a/f003":
            bench.gate.inner.on_call = None
            bench.put("a/f003", content(99, 12_345))

    bench.gate.inner.on_call = overwrite
    last = bench.load("a")
    assert last.phase == "complete"
    assert last.bytes_total == last.bytes_done == 19 * 10_000 + 12_345
    gets = len(bench.gate.gets)
    assert bench.read("a/f003") == content(99, 12_345)
    assert len(bench.gate.gets) == gets


def test_an_object_that_vanishes_during_the_load_is_named(bench: LoadBench) -> None:
    def delete(operation: str, key: bytes) -> None:
        if operation == "get" and key == b"a/f003":
            bench.gate.inner.on_call = None
            bench.store.delete(b"a/f003")

    bench.gate.inner.on_call = delete
    last = bench.load("a")
    assert last.phase == "failed"
    assert failures(last) == {"a/f003": "vanished from the store during the load"}
    assert (last.files_total, last.files_done) == (20, 19)


def test_a_missing_bucket_ends_the_load_with_its_error(bench: LoadBench) -> None:
    bench.gate.fail = lambda key: BucketNotFound("no bucket of that name")
    last = bench.load()
    assert last.phase == "failed"
    assert "no bucket of that name" in failures(last)[""]


def test_a_store_that_went_away_ends_the_load_soon(bench: LoadBench) -> None:
    for number in range(1000):
        bench.put(f"many/{number}", b"x")
    bench.gate.fail = lambda key: Unavailable("connection refused")
    last = bench.load()
    assert last.phase == "failed"
    assert "connection refused" in failures(last)[""]
    assert len(bench.gate.gets) < 300


def test_cancelling_stops_the_requests(bench: LoadBench) -> None:
    bench.put("big", content(1, 300 * MIB))
    bench.gate.open.clear()
    stream = bench.daemon.load(LoadRequest(["big"]))
    job = next(stream).job
    assert bench.gate.waiting.wait(10)
    assert bench.daemon.cancel_load(job)
    last = list(stream)[-1]
    assert (last.phase, last.failure_count) == ("cancelled", 0)
    running = len(bench.gate.gets)
    bench.gate.open.set()
    assert bench.load("a").phase == "complete"
    assert len([key for key in bench.gate.gets if key == b"big"]) == running <= 16
    assert not bench.daemon.cancel_load(job)
    with pytest.raises(UsageError, match="no load"):
        bench.daemon.cancel_load("nonsense")


def test_a_load_goes_on_after_a_restart(bench: LoadBench) -> None:
    let_pass = threading.Semaphore(25)
    bench.gate.fail = lambda key: None if let_pass.acquire(timeout=0.2) else Unavailable("cut off by the restart")
    stream = bench.daemon.load(LoadRequest([]))
    job = next(stream).job
    until(lambda: bench.cache.owner_bytes(bench.gate.ufs_id)[1] >= 20)
    bench.stop()
    with pytest.raises(Exception, match="shutting down"):
        list(stream)
    loaded = set(bench.gate.gets)
    bench.gate.fail = lambda key: None
    bench.gate.gets.clear()
    bench.start()
    resumed = bench.daemon.load(LoadRequest([]))
    last = list(resumed)[-1]
    assert last.job == job
    assert (last.phase, last.files_done) == ("complete", 60)
    assert loaded and len(bench.gate.gets) <= 40
    bench.restart()
    assert bench.load().job != job  # a finished one is not taken up again


@pytest.mark.expect_log("the load needs")
def test_a_load_larger_than_the_cache_fetches_what_fits_and_names_the_rest(tmp_path: Path) -> None:
    bench = LoadBench(tmp_path, "small-cache", quota_bytes=50 * MIB)
    try:
        for number in range(80):
            bench.put(f"f{number:02}", content(number, MIB))
        last = bench.load()
        assert last.phase == "failed"
        assert last.files_done == 40 == len(bench.gate.gets)
        assert last.failure_count == 40
        (note,) = last.notes
        assert note.startswith("the load needs 80.0 MiB and the cache keeps 40.0 MiB")
        assert "does not fit" in failures(last)["f79"]
        assert all(bench.cached(f"f{number:02}") == MIB for number in range(40))
    finally:
        bench.stop()


@pytest.mark.expect_log("damaged")
def test_damaged_blocks_are_found_and_fetched_again(bench: LoadBench) -> None:
    bench.put("big", content(3, 5 * MIB))
    bench.load()
    cid = bench.version("big").cid.hex()
    bench.stop()
    (path,) = (bench.root / "cache").rglob(cid)
    with path.open("r+b") as stream:
        stream.seek(2 * MIB + 77)
        stream.write(b"\xff")
    bench.start()
    last = bench.load()
    assert (last.phase, last.bytes_fetched) == ("complete", MIB)
    assert bench.read("big") == content(3, 5 * MIB)


def test_memory_stays_within_the_pool(tmp_path: Path) -> None:
    bench = LoadBench(tmp_path, "small-pool", pool_bytes=6 * MIB)
    try:
        for number in range(8):
            bench.put(f"f{number}", content(number, 9 * MIB))
        assert bench.load().phase == "complete"
        assert bench.pool.peak_bytes <= 6 * MIB
        assert bench.read("f5") == content(5, 9 * MIB)
    finally:
        bench.stop()


def test_globs_select(bench: LoadBench) -> None:
    bench.put("a/deep/er/f100", b"1")
    bench.put("a[1].txt", b"2")
    assert bench.load("?/f00*").files_done == 10
    assert bench.load("**/er").files_done == 1
    assert bench.load("a[1].txt").files_done == 1
    assert bench.load("[ab]/f00?", "a").files_done == 21 + 3
    assert bench.load("memory://" + bench.name + "/b/*9").files_done == 2


def test_paths_that_match_nothing_are_errors(bench: LoadBench) -> None:
    with pytest.raises(NoSuchEntry, match="nowhere"):
        bench.load("a", "nowhere")
    last = bench.load("a/*.jpg", "b/f001")
    assert failures(last) == {"a/*.jpg": "no file matches"}
    assert last.files_done == 1
    with pytest.raises(UsageError, match="not inside this mount"):
        bench.load("oss://elsewhere/x")
    with pytest.raises(UsageError, match="neither"):
        bench.load(metadata=False, data=False)


def test_metadata_alone_shows_what_is_new_and_fetches_nothing(bench: LoadBench) -> None:
    bench.load("a", data=False)
    bench.put("a/new", b"new")
    last = bench.load("a", data=False)
    assert (last.phase, last.files_total, last.bytes_fetched) == ("complete", 21, 0)
    assert bench.gate.gets == []
    assert bench.read("a/new") == b"new"


def test_a_dry_run_tells_what_is_missing(bench: LoadBench) -> None:
    bench.load("a")
    gets = len(bench.gate.gets)
    last = bench.load(dry_run=True)
    assert (last.phase, last.files_total, last.bytes_total) == ("complete", 60, 600_000)
    assert (last.files_done, last.bytes_done) == (20, 200_000)
    assert len(bench.gate.gets) == gets


def test_a_named_file_that_is_gone_since_the_listing_is_an_error(bench: LoadBench) -> None:
    bench.load("a", data=False)
    bench.store.delete(b"a/f003")
    last = bench.load("a/f003", "a/f000")
    assert last.phase == "failed"
    assert failures(last) == {"a/f003": "no such file or directory any more"}
    assert last.files_done == 1


def test_many_files_named_one_by_one_cost_a_listing_not_a_request_each(bench: LoadBench) -> None:
    for number in range(100, 200):
        bench.put(f"a/f{number}", b"old")
    bench.load("a", data=False)
    bench.put("a/f150", b"newer")
    calls: list[str] = []
    bench.gate.inner.on_call = lambda operation, key: calls.append(operation)
    last = bench.load(*[f"a/f{number}" for number in range(100, 200)])
    assert (last.phase, last.files_done, last.bytes_done) == ("complete", 100, 302)
    assert calls.count("list") == 1
    assert calls.count("stat") == 0
    assert bench.read("a/f150") == b"newer"


def test_an_overwritten_file_is_seen_at_once_after_a_metadata_load(bench: LoadBench) -> None:
    assert bench.read("a/f003") == content(3)
    bench.put("a/f003", content(4))
    bench.load("a", data=False)
    assert bench.read("a/f003") == content(4)


def test_readers_go_first(bench: LoadBench) -> None:
    for number in range(100, 400):
        bench.put(f"many/f{number}", b"x" * 1000)
    bench.load(data=False)
    bench.gate.open.clear()
    stream = bench.daemon.load(LoadRequest(["many"]))
    next(stream)
    until(lambda: len(bench.gate.gets) == 14)
    reader = threading.Thread(target=bench.read, args=("a/f000",))
    reader.start()
    until(lambda: b"a/f000" in bench.gate.gets)
    assert len(bench.gate.gets) == 15
    bench.gate.open.set()
    reader.join(10)
    assert list(stream)[-1].phase == "complete"
