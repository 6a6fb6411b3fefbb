"""The object store of demo and benchmarks: ``jindopy emulator oss`` as a process of its own, outside the memory cgroup.

Objects are plain files below ``root/BUCKET``, so filling a bucket costs no request.
"""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.lib import cgroup
from bench.lib.mounts import COMMAND

BUCKET = "bench"
KEY_ID = "bench-key-id"
KEY_SECRET = "bench-key-secret"
START_SECONDS = 30
_URL = re.compile(r"http://127\.0\.0\.1:(\d+)")


class Server:
    """A running emulator; use as a context manager."""

    def __init__(self, root: Path, *options: str) -> None:
        self.root = root
        self.bucket = root / BUCKET
        self.bucket.mkdir(parents=True, exist_ok=True)
        command = [COMMAND, "emulator", "oss", "--root", str(root), "--access-key", f"{KEY_ID}:{KEY_SECRET}", *options]
        self._process = subprocess.Popen(
            cgroup.outside(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C ends the demo, which ends the server in its turn
        )
        self.endpoint = self._wait_for_url()

    def _wait_for_url(self) -> str:
        assert self._process.stdout is not None
        printed = []
        for line in self._process.stdout:
            printed.append(line)
            if found := _URL.search(line):
                return found.group()
        raise RuntimeError(f"the emulator did not start: {''.join(printed).strip()}")

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to know."""
        return {
            "OSS_ENDPOINT": self.endpoint,
            "OSS_REGION": "cn-hangzhou",
            "OSS_ACCESS_KEY_ID": KEY_ID,
            "OSS_ACCESS_KEY_SECRET": KEY_SECRET,
        }

    def stop(self) -> None:
        """End it; harmless when repeated."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(15)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
