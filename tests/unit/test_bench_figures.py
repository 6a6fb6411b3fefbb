"""The frame of the benchmarks: bars, void figures, results that keep what was not measured anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.lib import figures, pagecache
from bench.lib.pairs import median_ratio

RATIO = figures.Figure("x", "read", "ratio", "<= 1.3", "raw", "uncached", "what")


@pytest.mark.parametrize(
    ("bar", "value", "holds"), [("<= 1.3", 1.3, True), ("<= 1.3", 1.31, False), (">= 0.9", 0.89, False)]
)
def test_bars(bar: str, value: float, holds: bool) -> None:
    assert figures.Figure("x", "g", "u", bar, "b", "s", "w").holds(value) is holds


def test_a_stated_figure_has_no_verdict() -> None:
    assert figures.Figure("x", "g", "u", "stated", "b", "s", "w").holds(9e9) is None


def test_every_figure_has_a_readable_bar_and_a_scenario_file() -> None:
    for figure in figures.load_table().values():
        assert (figures.ROOT / "bench" / "scenarios" / f"test_{figure.group}.py").exists(), figure.name


def test_a_figure_may_need_a_module_or_a_program() -> None:
    fields = {"name": "x", "group": "g", "unit": "u", "bar": "stated", "beside": "b", "state": "s", "what": "w"}
    assert figures.Figure(**fields).can_be_measured
    assert figures.Figure(**fields, needs="json").can_be_measured
    assert figures.Figure(**fields, needs="sh").can_be_measured
    assert not figures.Figure(**fields, needs="no_such_module").can_be_measured


def test_a_figure_against_a_slow_server_is_void() -> None:
    row = figures.result(RATIO, 1.0, {"server_factor": 1.4})
    assert row["holds"] is None
    assert "1.4" in row["void"]
    assert figures.result(RATIO, 1.0, {"server_factor": 2.5})["holds"] is True


def test_results_keep_what_was_not_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"commit": "old", "machine": {}, "figures": {"idle_mb": {"value": 80}}}))
    monkeypatch.setattr(figures, "RESULTS", path)
    monkeypatch.setattr(figures, "commit", lambda: "new")
    figures.store_results({"warm_uncached_vs_raw": figures.result(RATIO, 1.07, {})})
    stored = json.loads(path.read_text())
    assert stored["commit"] == "new"
    assert stored["figures"]["idle_mb"] == {"commit": "old", "value": 80}
    assert stored["figures"]["warm_uncached_vs_raw"]["holds"] is True


def test_the_ratio_is_of_pairs() -> None:
    assert median_ratio([2.0, 40.0, 3.0], [1.0, 10.0, 1.0]) == 3.0


def test_dropping_pages_is_proved(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"x" * (1 << 20))
    if pagecache.resident_pages([file]) == 0:
        pytest.fail("a file just written should be in the page cache")
    assert pagecache.drop_and_check([file]) == 0
