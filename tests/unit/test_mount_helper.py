"""fstab and systemd: the helper passes on what mount(8) gives it, and the unit is well formed."""

from __future__ import annotations

import configparser
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "manifests/systemd"
HELPER = SYSTEMD / "mount.jindopy"


@pytest.fixture
def command(tmp_path: Path) -> Path:
    command = tmp_path / "jindopy"
    command.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nprintf "key=%s\\n" "${OSS_ACCESS_KEY_ID:-}"\n')
    command.chmod(0o755)
    return command


def _call(tmp_path: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    settings = {"JINDOPY_DEFAULTS": str(tmp_path / "defaults"), "JINDOPY": str(tmp_path / "jindopy"), **environ}
    return subprocess.run([HELPER, *arguments], env=settings, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        (["oss://b/p", "/mnt/a b"], ["mount", "--", "oss://b/p", "/mnt/a b"]),
        (["oss://b", "/m", "-o", "rw,ttl=once"], ["mount", "-o", "rw,ttl=once", "--", "oss://b", "/m"]),
        (["oss://a=/a;oss://b/*=/b", "/m"], ["mount", "--", "oss://a=/a", "oss://b/*=/b", "/m"]),
        (
            ["oss://b", "/m", "-s", "-n", "-v", "-t", "jindopy", "-o", "rw"],
            ["mount", "-o", "rw", "--", "oss://b", "/m"],
        ),
    ],
)
def test_what_is_passed_on(tmp_path: Path, command: Path, arguments: list[str], passed: list[str]) -> None:
    done = _call(tmp_path, *arguments)
    assert done.stdout.splitlines() == [*passed, "key="]
    assert done.returncode == 0


def test_defaults_are_read(tmp_path: Path, command: Path) -> None:
    (tmp_path / "defaults").write_text(f"JINDOPY={command}\nOSS_ACCESS_KEY_ID=id\n")
    assert _call(tmp_path, "oss://b", "/m", JINDOPY="").stdout.splitlines()[-1] == "key=id"


def test_a_fake_mount_does_nothing(tmp_path: Path, command: Path) -> None:
    done = _call(tmp_path, "oss://b", "/m", "-f")
    assert (done.returncode, done.stdout) == (0, "")


def test_too_few_arguments(tmp_path: Path) -> None:
    done = _call(tmp_path, "oss://b")
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_the_unit_is_well_formed() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string((SYSTEMD / "jindopy@.service").read_text())
    assert unit.sections() == ["Unit", "Service", "Install"]
    assert unit["Service"]["Type"] == "forking"
    assert unit["Service"]["ExecStart"].split()[1:3] == ["jindopy", "mount"]
