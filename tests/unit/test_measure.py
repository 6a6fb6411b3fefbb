"""The loop, the sample and the tests of a bench, over files and a store in memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jindopy.base.clock import REAL_CLOCK
from jindopy.base.errors import UsageError
from jindopy.base.ident import Kind
from jindopy.measure.loop import Budget, GoOn, run
from jindopy.measure.meters import Counts, ProcessMeter, busy_seconds, cpu_seconds, disk_bytes
from jindopy.measure.sample import LARGE_MAX, SMALL_MAX, Entry, Piece, Sample, at_random, in_order, whole
from jindopy.measure.suite import TESTS, Plan, Suite
from jindopy.measure.targets import DirectoryTarget, StorageTarget
from jindopy.ufs import memory
from jindopy.ufs.registry import open_driver

MIB = 1 << 20
BUDGET = Budget(32 * MIB, 5.0)
METER = ProcessMeter(on_disk=True)


def silent(_test: str, _done: float) -> None:
    pass


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_a_loop_ends_when_the_bytes_are_used() -> None:
    def read(_item: int, _buffer: memoryview, go_on: GoOn) -> bool:
        go_on(MIB)
        return True

    row = run("x", iter(int, 1), read, readers=4, budget=Budget(20 * MIB, 60.0), meter=METER, watch=silent)
    assert 20 <= row.operations <= 24
    assert row.bytes == row.operations * MIB


def test_a_loop_ends_in_the_middle_of_an_answer_when_the_time_is_over() -> None:
    def endless(_item: int, _buffer: memoryview, go_on: GoOn) -> bool:
        while go_on(1000):
            REAL_CLOCK.sleep(0.01)
        return False

    seen: list[float] = []
    row = run(
        "x",
        iter(int, 1),
        endless,
        readers=2,
        budget=Budget(1 << 40, 0.3),
        meter=METER,
        watch=lambda _test, done: seen.append(done),
    )
    assert row.operations == 0
    assert row.bytes >= 2000
    assert 0.25 < row.seconds < 5
    assert seen and seen == sorted(seen) and seen[-1] <= 1.0


def test_the_first_error_ends_a_loop_and_is_told() -> None:
    def fails(item: int, _buffer: memoryview, _go_on: GoOn) -> bool:
        if item == 3:
            raise UsageError("no such thing")
        return True

    with pytest.raises(UsageError, match="no such thing"):
        run("x", range(1_000_000_000), fails, readers=3, budget=BUDGET, meter=METER, watch=silent)


def test_an_interrupt_leaves_readers_behind_that_hang() -> None:
    hang = threading.Event()

    def hangs(_item: int, _buffer: memoryview, _go_on: GoOn) -> bool:
        hang.wait(30)
        return True

    def interrupt(_test: str, _done: float) -> None:
        raise KeyboardInterrupt

    started = REAL_CLOCK.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run("x", [1], hangs, readers=1, budget=BUDGET, meter=METER, watch=interrupt)
    assert REAL_CLOCK.monotonic() - started < 10
    hang.set()


def test_an_operation_may_cost_more_than_it_returns() -> None:
    def read(_item: int, _buffer: memoryview, go_on: GoOn) -> bool:
        go_on(4096)
        return True

    row = run("x", iter(int, 1), read, readers=1, budget=BUDGET, meter=METER, watch=silent, cost_bytes=MIB)
    assert row.operations == 32


def test_what_was_counted_before_is_taken_off() -> None:
    class Steps:
        def __init__(self) -> None:
            self._all = iter([Counts(1.0, 2.0, 10, 20, 3, None), Counts(1.5, 4.0, 15, 40, 5, None)])

        def counts(self) -> Counts:
            return next(self._all)

    row = run("x", [1], lambda *_: True, readers=1, budget=BUDGET, meter=Steps(), watch=silent)
    assert (row.cpu_seconds, row.daemon_cpu_seconds, row.disk_bytes) == (0.5, 2.0, 5)
    assert (row.store_bytes, row.store_requests, row.served_bytes) == (20, 2, None)


def test_the_kernel_counts_time_and_disk() -> None:
    before = cpu_seconds(os.getpid()), METER.counts().cpu_seconds, busy_seconds()
    end = METER.counts().cpu_seconds + 0.1
    while METER.counts().cpu_seconds < end:
        sum(range(10_000))
    after = cpu_seconds(os.getpid()), METER.counts().cpu_seconds, busy_seconds()
    assert all(late - early > 0.05 for early, late in zip(before, after, strict=True))
    assert disk_bytes(os.getpid()) is not None
    assert cpu_seconds(2**22 + 1) == 0.0
    assert disk_bytes(2**22 + 1) is None


# --- the sample -------------------------------------------------------------------------------------------------------


def test_the_largest_are_kept_and_not_too_many_small() -> None:
    sample = Sample()
    sample.add([Entry(b"large%d" % number, (8 + number) * MIB) for number in range(20)])
    sample.add([Entry(b"small%d" % number, 100) for number in range(SMALL_MAX + 10)])
    sample.add([Entry(b"empty", 0), Entry(b"between", 3 * MIB)])
    assert [entry.size // MIB for entry in sample.large] == list(range(27, 27 - LARGE_MAX, -1))
    assert len(sample.small) == SMALL_MAX
    assert sample.small == sample.small != sorted(sample.small)
    assert {entry.name[:5] for entry in sample.small} == {b"small"}


A, B = Entry(b"a", 10), Entry(b"b", 7)


def test_pieces_in_order_cover_each_byte_once() -> None:
    pieces = list(in_order([A, B], 4, 1000))
    assert pieces == [Piece(A, 0, 4), Piece(A, 4, 4), Piece(A, 8, 2), Piece(B, 0, 4), Piece(B, 4, 3)]
    assert sum(piece.size for piece in in_order([A, B], 4, 8)) == 8


@pytest.mark.parametrize("skip", [0, 1, 4, 9, 10, 13, 16, 17, 30])
def test_pieces_that_begin_elsewhere_cover_each_byte_once_too(skip: int) -> None:
    pieces = list(in_order([A, B], 4, 1000, skip))
    assert sorted(pieces) == sorted(in_order([A, B], 4, 1000))
    assert len(pieces) == 5


def test_pieces_begin_where_another_test_ended() -> None:
    first = next(in_order([Entry(b"x", 100)], 10, 1000, 35))
    assert first.offset == 40


def test_random_pieces_are_aligned_within_and_never_twice() -> None:
    pieces = list(at_random([A, B, Entry(b"c", 3)], 4, seed=1))
    assert sorted(pieces) == [Piece(A, 0, 4), Piece(A, 4, 4), Piece(B, 0, 4)]
    assert pieces == list(at_random([A, B], 4, seed=1))
    assert list(at_random([Entry(b"c", 3)], 4, seed=1)) == []


def test_random_pieces_of_a_huge_file_have_no_end() -> None:
    huge = [Entry(b"x", 1 << 50)]
    some = [piece for piece, _ in zip(at_random(huge, 4096, seed=1), range(1000), strict=False)]
    assert len({piece.offset for piece in some}) > 990
    assert all(piece.offset % 4096 == 0 and piece.offset < 1 << 50 for piece in some)


# --- targets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "big").write_bytes(os.urandom(12 * MIB + 5))
    for number in range(30):
        (tmp_path / f"d/e/f{number}").write_bytes(os.urandom(1000 + number))
    (tmp_path / "d/link").symlink_to("/etc/passwd")
    (tmp_path / "up").symlink_to("..")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def names(target: DirectoryTarget | StorageTarget) -> dict[bytes, int]:
    return {entry.name: entry.size for page in target.pages() for entry in page}


def test_a_directory_shows_its_files_and_nothing_else(folder: Path) -> None:
    found = names(DirectoryTarget(str(folder)))
    assert len(found) == 31
    assert found[os.fsencode(folder / "big")] == 12 * MIB + 5
    assert names(DirectoryTarget(str(folder / "big"))) == {os.fsencode(folder / "big"): 12 * MIB + 5}


def test_a_cache_directory_leaves_out_files_with_holes(folder: Path) -> None:
    with (folder / "sparse").open("wb") as file:
        file.truncate(20 * MIB)
    assert os.fsencode(folder / "sparse") in names(DirectoryTarget(str(folder)))
    assert os.fsencode(folder / "sparse") not in names(DirectoryTarget(str(folder), of_cache=True))


@pytest.mark.parametrize("name", ["nothing", "d"])
def test_a_file_that_cannot_be_read_is_told(folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        DirectoryTarget(str(folder)).find(name)


def test_a_file_that_vanished_is_passed_over(folder: Path) -> None:
    target = DirectoryTarget(str(folder))
    gone = Entry(os.fsencode(folder / "gone"), 10)
    assert target.read(Piece(gone, 0, 10), memoryview(bytearray(10)), lambda _: True) is False
    assert target.stat(gone) is False
    target.forget([gone])


def test_files_kept_open_are_closed_between_tests(folder: Path) -> None:
    target = DirectoryTarget(str(folder))
    big = target.find("big")
    before = len(os.listdir("/proc/self/fd"))
    buffer = memoryview(bytearray(4096))
    for offset in (0, MIB):
        assert target.read(Piece(big, offset, 4096), buffer, lambda _: True)
    assert bytes(buffer) == (folder / "big").read_bytes()[MIB : MIB + 4096]
    assert len(os.listdir("/proc/self/fd")) == before + 1
    target.let_go()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def store() -> Iterator[memory.MemoryStore]:
    made = memory.store("measure")
    yield made
    memory.forget("measure")


def test_storage_shows_its_files_below_the_prefix(store: memory.MemoryStore) -> None:
    store.put(b"p/a", b"x" * 10)
    store.put(b"p/d/b", b"y" * 20)
    store.put(b"p/d/", b"", Kind.DIRECTORY)
    store.put(b"q/c", b"z")
    driver, prefix = open_driver("memory://measure/p")
    target = StorageTarget(driver, prefix)
    assert names(target) == {b"p/a": 10, b"p/d/b": 20}
    assert target.find("d/b") == Entry(b"p/d/b", 20)
    assert target.read(Piece(Entry(b"p/gone", 3), 0, 3), memoryview(bytearray(3)), lambda _: True) is False
    assert target.stat(Entry(b"p/gone", 3)) is False
    assert target.stat(Entry(b"p/a", 10)) is True


# --- the suite --------------------------------------------------------------------------------------------------------


def test_a_directory_is_measured_by_every_test(folder: Path) -> None:
    found = Suite(DirectoryTarget(str(folder)), Plan(BUDGET, 4), METER, silent).run(probe=False)
    assert [(row.test, row.readers) for row in found.rows] == [
        ("list", 1),
        ("sequential", 1),
        ("sequential", 4),
        ("random 1 MiB", 4),
        ("random 4 KiB", 4),
        ("small files", 1),
        ("small files", 4),
        ("stat", 1),
        ("stat", 4),
    ]
    by_name = {(row.test, row.readers): row for row in found.rows}
    assert by_name["list", 1].operations == found.entries == 31
    assert by_name["sequential", 1].bytes == 12 * MIB + 5
    assert by_name["random 1 MiB", 4].operations == 12
    assert by_name["small files", 1].operations == by_name["small files", 4].operations == 15
    assert by_name["stat", 4].operations == 31
    assert not found.skipped
    assert found.complete


def test_only_what_was_asked_for_is_done(folder: Path) -> None:
    plan = Plan(BUDGET, 2, tests=["small"], entries_max=10)
    found = Suite(DirectoryTarget(str(folder)), plan, METER, silent).run(probe=False)
    assert {row.test for row in found.rows} == {"small files"}
    plan = Plan(BUDGET, 1, tests=["random"], file="d/e/f1")
    found = Suite(DirectoryTarget(str(folder)), plan, METER, silent).run(probe=False)
    assert not found.rows
    assert found.skipped == ["random 1 MiB: the file is smaller", "random 4 KiB: the file is smaller"]


def test_a_listing_ends_when_enough_was_seen(store: memory.MemoryStore) -> None:
    for number in range(2500):
        store.put(b"%05d" % number, b"x")
    driver, prefix = open_driver("memory://measure")
    found = Suite(StorageTarget(driver, prefix), Plan(BUDGET, 1, entries_max=1500), METER, silent).run(probe=True)
    assert found.entries == 2000
    assert not found.complete
    assert found.probes is not None and found.probes.requests == 29
    assert found.skipped[0].startswith("sequential: no file of 8 MiB")


def test_no_test_takes_more_than_its_budget(folder: Path) -> None:
    plan = Plan(Budget(3 * MIB, 5.0), 2)
    found = Suite(DirectoryTarget(str(folder)), plan, METER, silent).run(probe=False)
    assert all(row.bytes <= 4 * MIB for row in found.rows)
    assert TESTS[0] == "list"


def test_whole_files_are_read_at_once() -> None:
    assert list(whole([A, B])) == [Piece(A, 0, 10), Piece(B, 0, 7)]
