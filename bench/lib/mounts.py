"""A mount as a user makes it: the command line, its own cache, state and sockets below one folder."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.lib import pagecache

ROOT = Path(__file__).parents[2]
COMMAND = str(Path(sys.executable).with_name("jindopy"))
COMMAND_TIMEOUT_SECONDS = 1200


class CommandFailed(Exception):
    """A command of ours ended with an error; the message is what it printed."""


class Client:
    """The command line with an environment of its own."""

    def __init__(self, work: Path, environment: dict[str, str]) -> None:
        self.work = work
        self.cache_dir = work / "cache"
        self.mount_point = work / "mnt"
        self.mount_point.mkdir(parents=True, exist_ok=True)
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("JINDOPY_", "OSS_"))},
            "JINDOPY_CACHE_DIR": str(self.cache_dir),
            "JINDOPY_STATE_DIR": str(work / "state"),
            "JINDOPY_RUN_DIR": str(work / "run"),
            "JINDOPY_LOG_FILE": str(work / "mount.log"),
            **environment,
        }

    def run(self, *arguments: str) -> str:
        """Run a command and return what it printed; raises CommandFailed."""
        return self._run(f"jindopy {arguments[0]}", [COMMAND, *arguments])

    def python(self, module: str, *arguments: str) -> str:
        """The same for a Python module."""
        return self._run(module, [sys.executable, "-m", module, *arguments])

    def _run(self, what: str, command: list[str]) -> str:
        done = subprocess.run(
            command,
            check=False,
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
        )
        if done.returncode != 0:
            raise CommandFailed(f"{what}: exit {done.returncode}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def mount(self, uri: str, *options: str) -> None:
        """Mount; returns when the mount answers."""
        self.run("mount", uri, str(self.mount_point), *options)

    def umount(self) -> None:
        """Unmount, waiting for the daemon."""
        self.run("umount", "--wait", "30s", str(self.mount_point))

    @contextlib.contextmanager
    def mounted(self, uri: str, *options: str) -> Iterator[Path]:
        """A new mount for the length of a with block."""
        self.mount(uri, *options)
        try:
            yield self.mount_point
        finally:
            self.umount()

    def status(self) -> dict[str, Any]:
        """What the daemon tells of itself."""
        told = json.loads(self.run("status", "--json", str(self.mount_point)))
        only: dict[str, Any] = told[0] if isinstance(told, list) else told
        return only

    def cache_files(self) -> list[Path]:
        """Files that hold cached bytes."""
        return [path for path in pagecache.files_below(self.cache_dir) if path.parent.parent.parent.name == "v1"]

    def end(self) -> None:
        """Take the mount away whatever state it is in; never fails."""
        if not os.path.ismount(self.mount_point):
            with contextlib.suppress(OSError):
                self.mount_point.stat()
                return
        for command in (
            [COMMAND, "umount", "--force", str(self.mount_point)],
            ["fusermount3", "-u", "-z", str(self.mount_point)],
        ):
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                done = subprocess.run(command, check=False, env=self._environment, capture_output=True, timeout=60)
                if done.returncode == 0:
                    return
