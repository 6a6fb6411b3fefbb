"""The ``jindopy`` command as users run it, with cache, state, sockets and log below one directory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jindopy.base import mountinfo


@dataclass
class Command:
    """``jindopy`` with everything below ``work``."""

    work: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def point(self) -> Path:
        return self.work / "mnt"

    def run(self, *arguments: str, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jindopy", *arguments],
            env={**os.environ, **self.environ, **environ},
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def mount(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return self.run("mount", *arguments, str(self.point), **environ)

    def mounted(self) -> bool:
        return mountinfo.at(str(self.point), mountinfo.read()) is not None

    def processes(self) -> list[int]:
        """Daemons that work in our directories."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and b"jindopy.modes.mount" in (folder / "cmdline").read_bytes():
                    environ = (folder / "environ").read_bytes()
                    found += [int(folder.name)] if f"JINDOPY_RUN_DIR={self.work}/run".encode() in environ else []
            except OSError:
                continue
        return found


@contextlib.contextmanager
def installed_command(work: Path) -> Iterator[Command]:
    """A command whose mounts end with the block."""
    (work / "mnt").mkdir()
    names = {"CACHE_DIR": "cache", "STATE_DIR": "state", "RUN_DIR": "run", "LOG_FILE": "log/mount.log"}
    command = Command(work, {f"JINDOPY_{name}": str(work / place) for name, place in names.items()})
    command.environ |= {"HOME": str(work), "OSS_ENDPOINT": "", "OSS_ACCESS_KEY_ID": "", "OSS_ACCESS_KEY_SECRET": ""}
    try:
        yield command
    finally:
        for pid in command.processes():
            os.kill(pid, signal.SIGKILL)
        while command.mounted():
            mountinfo.unmount(str(command.point), lazy=True)
