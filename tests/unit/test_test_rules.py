"""The rules of ``tests/conftest.py`` are checked: each must be able to fail a test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
MARKERS = ["root: x", "node: x", "soak: x", "expect_log(pattern): x"]


def run_pytest(folder: Path, source: str, **environment: str) -> subprocess.CompletedProcess[str]:
    tests = folder / "tests"
    (tests / "integration").mkdir(parents=True)
    shutil.copy(CONFTEST, tests / "conftest.py")
    (tests / "integration" / "test_inner.py").write_text(source)
    lines = "\n".join(f"    {marker}" for marker in MARKERS)
    (folder / "pytest.ini").write_text(f"[pytest]\nmarkers =\n{lines}\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "--strict-markers", str(tests)],
        check=False,
        cwd=folder,
        # The conftest uses fixtures that stand beside it.
        env={**os.environ, "PYTHONPATH": str(CONFTEST.parents[1]), "JINDOPY_NO_SKIP": "", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


SKIPS = "import pytest\n\ndef test_it():\n    pytest.skip('no such disk')\n"


def test_a_skip_is_allowed_elsewhere_and_says_why(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, SKIPS)
    assert result.returncode == 0
    assert "no such disk" in result.stdout


def test_a_skip_fails_where_nothing_may_be_skipped(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, SKIPS, JINDOPY_NO_SKIP="1")
    assert result.returncode == 1
    assert "skipped where nothing may be: Skipped: no such disk" in result.stdout


def test_a_module_skipped_as_a_whole_fails_too(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, "import pytest\npytest.importorskip('no_such_module')\n", JINDOPY_NO_SKIP="1")
    assert result.returncode != 0
    assert "no_such_module" in result.stdout


WARNS = (
    "import logging, pytest\n\n{mark}def test_it():\n    logging.getLogger('jindopy.cache').warning('disk is slow')\n"
)


def test_an_unannounced_warning_fails(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, WARNS.format(mark=""))
    assert result.returncode == 1
    assert "WARNING jindopy.cache: disk is slow" in result.stdout


def test_an_announced_warning_passes(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, WARNS.format(mark="@pytest.mark.expect_log('is slow')\n"))
    assert result.returncode == 0, result.stdout


LEAKS = "import subprocess\n\ndef test_it():\n    subprocess.Popen(['sleep', '77'], start_new_session=True)\n"


def test_a_process_left_behind_is_ended_named_and_fails_the_run(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, LEAKS)
    assert result.returncode == 1
    assert "sleep 77" in result.stdout
    assert "test_inner.py::test_it" in result.stdout


@pytest.mark.parametrize(("option", "expected"), [([], "2"), (["--soak"], "500")])
def test_rounds_follow_the_soak_option(tmp_path: Path, option: list[str], expected: str) -> None:
    source = f"def test_it(rounds):\n    assert rounds(2, 500) == {expected}\n"
    assert run_pytest(tmp_path, source, PYTEST_ADDOPTS=" ".join(option)).returncode == 0
