"""The generated part of the manual is fresh, and the check for that can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from jindopy.config.params import PARAMS

ROOT = Path(__file__).parents[2]
MANUAL = ROOT / "docs/CONFIGURATION.md"


def _script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/configuration.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_manual_is_fresh() -> None:
    done = _script("--check")
    assert done.returncode == 0, done.stderr


def test_a_stale_manual_is_noticed_and_mended(tmp_path: Path) -> None:
    copy = tmp_path / "c.md"
    copy.write_text(MANUAL.read_text().replace("`JINDOPY_QUOTA`", "`JINDOPY_QUOTE`"))
    stale = _script("--check", str(copy))
    assert (stale.returncode, stale.stderr) == (1, f"{copy} is stale: run python scripts/configuration.py\n")
    assert _script(str(copy)).returncode == 0
    assert copy.read_text() == MANUAL.read_text()


def test_every_setting_is_in_it() -> None:
    text = MANUAL.read_text()
    for param in PARAMS:
        for name in (param.name, param.flag, param.env, *param.jindo):
            assert f"`{name}`" in text


def test_a_file_without_the_comments_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.md").write_text("# nothing")
    assert _script(str(tmp_path / "c.md")).returncode != 0
    assert (tmp_path / "c.md").read_text() == "# nothing"
