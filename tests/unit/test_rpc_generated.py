"""The code of the control plane is what its ``.proto`` files say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = "jindopy/rpc/v1/gen"


def generated(out: Path) -> dict[str, bytes]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/generate.py"), str(out)],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in (out / GENERATED).iterdir()}


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    fresh = generated(tmp_path)
    committed = {
        path.name: path.read_bytes() for path in (ROOT / GENERATED).iterdir() if path.is_file() and path.stat().st_size
    }
    assert sorted(fresh) == sorted(committed)
    stale = [name for name, code in fresh.items() if committed[name] != code]
    assert not stale, "run make generate"
