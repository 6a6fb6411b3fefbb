"""The generated part of the manual is fresh, and the check for that can fail."""

from pathlib import Path

import pytest

from jindopy.config.docs import main, refreshed, render
from jindopy.config.params import PARAMS

MANUAL = Path(__file__).parents[2] / "docs/CONFIGURATION.md"


def test_the_manual_is_fresh() -> None:
    assert main(["--check", str(MANUAL)]) == 0, "run: python -m jindopy.config.docs docs/CONFIGURATION.md"


def test_a_stale_manual_is_noticed_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "c.md"
    copy.write_text(MANUAL.read_text().replace("`JINDOPY_QUOTA`", "`JINDOPY_QUOTE`"))
    assert main(["--check", str(copy)]) == 1
    assert "is stale" in capsys.readouterr().err
    assert main([str(copy)]) == 0
    assert copy.read_text() == MANUAL.read_text()


def test_every_setting_is_in_it() -> None:
    text = render()
    for param in PARAMS:
        for name in (param.name, param.flag, param.env, *param.jindo):
            assert f"`{name}`" in text


def test_a_file_without_the_comments_is_refused() -> None:
    with pytest.raises(ValueError, match="settings: made by"):
        refreshed("# nothing")
