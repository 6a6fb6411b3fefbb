"""ali-oss for Node.js, a client others wrote, runs its round against the emulator with both signatures."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from emulator_fixture import Emulator, running_emulator

NODE = Path(__file__).parent / "node"
INSTALL_SECONDS = 100
ROUND_SECONDS = 60

pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(shutil.which("npm") is None, reason="node and npm are not installed"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "round.js"):
        shutil.copy(NODE / name, folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    done = subprocess.run(command, cwd=folder, timeout=INSTALL_SECONDS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with running_emulator(tmp_path_factory.mktemp("oss")) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v4"])
def test_a_round(project: Path, emulator: Emulator, version: str) -> None:
    keys = {"ACCESS_KEY_ID": emulator.access_key_id, "ACCESS_KEY_SECRET": emulator.access_key_secret}
    done = subprocess.run(
        ["node", "round.js", emulator.endpoint, version],
        cwd=project,
        env=os.environ | keys,
        timeout=ROUND_SECONDS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["ok"]), done.stderr
