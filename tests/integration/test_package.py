"""What is published works: a source archive that builds a wheel, a wheel that runs without the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        check=False,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_wheel_made_from_the_source_archive_runs_by_itself(tmp_path: Path) -> None:
    # From a copy of the committed and new files: a build in the tree would leave its traces there.
    listing = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\n")
    for name in filter(None, listing):
        if (ROOT / name).is_file():
            target = tmp_path / "tree" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(tmp_path), cwd=tmp_path / "tree")
    archive = next(tmp_path.glob("jindopy-*.tar.gz"))
    pip = [sys.executable, "-m", "pip", "-q", "--no-input"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(archive), cwd=tmp_path)
    wheel = next(tmp_path.glob("jindopy-*.whl"))

    names = zipfile.ZipFile(wheel).namelist()
    for source in sorted((ROOT / "ext").glob("*.pyx")):
        assert any(name.startswith(f"jindopy/_ext/{source.stem}.") and name.endswith(".so") for name in names)
        assert f"jindopy/_ext/{source.stem}.pyi" in names
    assert "jindopy/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "bench/", "ext/"))]

    installed = tmp_path / "installed"
    run(*pip, "install", "--no-deps", "--target", str(installed), str(wheel), cwd=tmp_path)
    code = "import jindopy._ext.crc64 as c; print(c.__file__, c.crc64(b'123456789') == 0x995DC9BBDF1939FA)"
    told = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed))
    assert told.startswith(str(installed))
    assert told.rstrip().endswith("True")
    assert "mount" in run(str(installed / "bin" / "jindopy"), "--help", cwd=tmp_path, PYTHONPATH=str(installed))
