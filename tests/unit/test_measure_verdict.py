"""What limits a rate: judged from figures alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jindopy.measure import verdict
from jindopy.measure.verdict import Known, Limit, Row

MB = 1_000_000

ROW = Row(
    test="sequential",
    state="first",
    readers=1,
    operations=100,
    requests=100,
    bytes=100 * MB,
    seconds=1.0,
    median_seconds=0.01,
    p99_seconds=0.02,
    cpu_seconds=0.1,
)
STORE = Known(latency_seconds=0.002)


def limit(row: Row, known: Known = STORE) -> Limit:
    return verdict.judge(row, known).limit


def test_the_link_limits_who_fills_it() -> None:
    judged = verdict.judge(ROW, Known(latency_seconds=0.002, link_bytes_per_second=105 * MB))
    assert judged.limit is Limit.LINK
    assert judged.shares[Limit.LINK] == pytest.approx(0.952, abs=0.001)
    assert judged.shares[Limit.LATENCY] == pytest.approx(0.2)


def test_the_latency_limits_small_requests() -> None:
    small = replace(ROW, readers=16, operations=700, requests=700, bytes=700 * 4096)
    judged = verdict.judge(small, Known(latency_seconds=0.02, link_bytes_per_second=100 * MB))
    assert judged.limit is Limit.LATENCY
    assert judged.shares[Limit.LATENCY] == pytest.approx(700 * 0.02 / 16)


def test_the_cpu_limits_whoever_has_none_left() -> None:
    assert limit(replace(ROW, cpu_seconds=0.9)) is Limit.CPU


def test_one_reader_waits_for_its_daemon_and_many_keep_both_busy() -> None:
    both = replace(ROW, cpu_seconds=0.4, daemon_cpu_seconds=0.5)
    assert both.cpu_share == pytest.approx(0.9)
    assert replace(both, readers=8).cpu_share == pytest.approx(0.5)


def test_a_process_with_many_threads_has_no_more_than_all_of_the_time() -> None:
    assert replace(ROW, readers=8, cpu_seconds=1.7).cpu_share == 1.0


def test_nothing_that_explains_half_of_the_time_is_called_mixed() -> None:
    judged = verdict.judge(replace(ROW, cpu_seconds=0.4), Known(latency_seconds=0.0045))
    assert judged.limit is Limit.MIXED
    assert judged.shares[Limit.LATENCY] == pytest.approx(0.45)


def test_an_answer_without_bytes_can_only_have_been_waited_for() -> None:
    listing = replace(ROW, test="list", operations=1000, requests=1, bytes=0, cpu_seconds=0.2)
    assert limit(listing) is Limit.LATENCY
    assert limit(replace(listing, cpu_seconds=0.8)) is Limit.CPU


def test_a_connection_limits_when_several_bring_more() -> None:
    known = Known(latency_seconds=0.0001, connection_bytes_per_second=100 * MB)
    assert limit(ROW, known) is Limit.CONNECTION
    assert limit(replace(ROW, readers=4), known) is Limit.MIXED


def test_on_a_mount_what_was_not_cached_waits_for_the_storage() -> None:
    cold = replace(ROW, store_bytes=110 * MB, served_bytes=100 * MB, disk_bytes=0)
    assert limit(cold, Known()) is Limit.STORE
    listed = replace(cold, bytes=0, store_bytes=0, served_bytes=0, store_requests=3)
    assert limit(listed, Known()) is Limit.STORE
    assert limit(replace(listed, store_requests=0), Known()) is Limit.MIXED


def test_on_a_mount_the_cache_disk_is_judged_by_its_own_rate() -> None:
    warm = replace(ROW, store_bytes=0, served_bytes=100 * MB, disk_bytes=100 * MB)
    slow = Known(raw={"sequential x1": 110.0 * MB})
    fast = Known(raw={"sequential x1": 1000.0 * MB})
    assert limit(warm, slow) is Limit.DISK
    assert verdict.judge(warm, fast).shares[Limit.DISK] == pytest.approx(0.1)
    assert limit(warm, fast) is Limit.MIXED


def test_what_another_program_serves_is_waited_for() -> None:
    assert limit(ROW, Known(served=True)) is Limit.SERVER
    assert limit(replace(ROW, cpu_seconds=0.8), Known(served=True)) is Limit.CPU


def test_the_disk_limits_a_plain_directory_that_comes_from_it() -> None:
    assert limit(replace(ROW, disk_bytes=100 * MB), Known()) is Limit.DISK


@pytest.mark.parametrize(
    "counted",
    [
        {"disk_bytes": 5 * MB},
        {"store_bytes": 0, "served_bytes": 2 * MB},
    ],
    ids=["directory", "mount"],
)
def test_the_page_cache_is_named_whatever_else_was_busy(counted: dict[str, int]) -> None:
    assert limit(replace(ROW, cpu_seconds=0.99, **counted), Known()) is Limit.MEMORY


def test_what_cannot_be_known_is_not_concluded() -> None:
    assert verdict.from_memory(ROW) == 0.0
    assert verdict.from_memory(replace(ROW, bytes=0, disk_bytes=0)) == 0.0
    assert Limit.DISK not in verdict.judge(ROW, Known()).shares


def ramp(*rates_mb: int, cpu: float = 0.1) -> list[Row]:
    return [replace(ROW, readers=4**step, bytes=rate * MB, cpu_seconds=cpu) for step, rate in enumerate(rates_mb)]


@pytest.mark.parametrize(
    ("rows", "link", "connection"),
    [
        (ramp(99, 100, 98), 100 * MB, None),
        (ramp(30, 100, 101), 101 * MB, 30 * MB),
        (ramp(10, 40, 160), None, 10 * MB),
        (ramp(30, 100, 101, cpu=0.95), None, None),
        (ramp(100), None, None),
        (ramp(0, 0, 0), None, None),
    ],
    ids=["full at once", "full with four", "never full", "no CPU left", "one step", "nothing arrived"],
)
def test_the_link_shows_where_more_connections_bring_no_more(
    rows: list[Row], link: float | None, connection: float | None
) -> None:
    assert verdict.link_of(rows) == (link, connection)


def test_latency_is_what_is_left_when_asking_is_paid_for() -> None:
    probes = replace(ROW, requests=10, operations=10, median_seconds=0.021, cpu_seconds=0.01)
    assert verdict.latency_of(probes) == pytest.approx(0.020)
    assert verdict.latency_of(replace(probes, cpu_seconds=5.0)) == 0.0
    assert verdict.latency_of(replace(probes, requests=0)) == 0.0


def test_every_limit_has_an_advice() -> None:
    assert all(verdict.advice(name) for name in Limit)
