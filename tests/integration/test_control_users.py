"""Another user gets no answer from a mount's socket, and is told whose it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jindopy.control.server import ControlServer
from tests.fake_daemon import FakeDaemon

pytestmark = pytest.mark.root

NOBODY = 65534

# Modules are imported before the user is changed: they may lie where nobody cannot read.
AS_NOBODY = f"""
import os, sys
from pathlib import Path
from jindopy.base.errors import JindoError
from jindopy.control.client import ControlClient
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
try:
    print(ControlClient(Path(sys.argv[1])).status().pid)
except JindoError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        (0o600, "this mount belongs to another user; ask as that user or root"),
        (0o666, "this mount belongs to user 0; only that user and root may ask it"),
    ],
)
def test_another_user(mode: int, told: str) -> None:
    directory = Path("/run/jindopy-test-users")
    path = directory / "0123456789ab.sock"
    server = ControlServer(path, FakeDaemon())
    server.start()
    try:
        path.chmod(mode)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(path)], capture_output=True, text=True, check=False, timeout=30
        )
    finally:
        server.close()
        directory.rmdir()
    assert told in done.stdout, done
