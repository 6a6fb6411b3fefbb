from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jindopy.base import units
from jindopy.base.errors import EXIT_USAGE, ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1000", 1000),
        ("20G", 20 << 30),
        ("20Gi", 20 << 30),
        ("20GiB", 20 << 30),
        ("20GB", 20 * 10**9),
        ("512m", 512 << 20),
        ("1.5k", 1536),
        ("100MB", 100 * 10**6),
        ("7B", 7),
        (" 4 KiB ", 4096),
        ("2PiB", 2 << 50),
    ],
)
def test_sizes_as_people_write_them(text: str, expected: int) -> None:
    assert units.parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "G", "-1", "1e9", "20 gigs", "20GG", "0x10", "1,5G", "١G"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="not a size") as caught:
        units.parse_size(text)
    assert repr(text) in caught.value.message
    assert "512M" in caught.value.message
    assert caught.value.exit_code == EXIT_USAGE


def test_rates_are_sizes_a_second() -> None:
    assert units.parse_rate("100MB/s") == units.parse_rate("100MB") == 10**8
    assert units.parse_rate("12MB/s") == 12_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("60s", 60), ("5m", 300), ("5min", 300), ("1h", 3600), ("2d", 172800), ("3", 3)],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "ms", "-1s", "1w", "1 hour"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a duration"):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("size_bytes", "people", "fluid"),
    [
        (0, "0 B", "0.00B"),
        (812, "812 B", "812.00B"),
        (1024, "1.0 KiB", "1.00KiB"),
        (220_200_960, "210.0 MiB", "210.00MiB"),
        (180 << 30, "180.0 GiB", "180.00GiB"),
        (3 << 50, "3.0 PiB", "3.00PiB"),
    ],
)
def test_sizes_are_shown_for_people_and_for_fluid(size_bytes: int, people: str, fluid: str) -> None:
    assert units.format_size(size_bytes) == people
    assert units.format_fluid_size(size_bytes) == fluid


@given(st.integers(min_value=0, max_value=1 << 60))
def test_a_shown_size_can_be_read_back(size_bytes: int) -> None:
    assert units.parse_size(units.format_fluid_size(size_bytes)) == pytest.approx(size_bytes, rel=0.01, abs=0.01)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0123, "12 ms"), (18.386, "18.39 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_are_shown(seconds: float, shown: str) -> None:
    assert units.format_duration(seconds) == shown


def test_rates_are_decimal_as_links_are_sold() -> None:
    assert units.format_rate(11_900_000) == "11.9 MB/s"
    assert units.format_rate(2.5e9) == "2.5 GB/s"


def test_nothing_to_do_is_complete() -> None:
    assert units.format_percent(0, 0) == "100.0%"
    assert units.format_percent(42, 100) == "42.0%"
