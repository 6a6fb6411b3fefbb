"""The object store of demo and benchmarks: ``jindopy emulator oss`` as a process of its own, outside the memory cgroup.

Objects are plain files below ``root/BUCKET``, so filling a bucket costs no request.
"""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.lib import cgroup
from bench.lib.mounts import COMMAND

BUCKET = "bench"
KEY_ID = "jindopy-demo-id"  # what the emulator knows when it is given no keys
KEY_SECRET = "jindopy-demo-secret"


class Server:
    """A running emulator; use as a context manager."""

    def __init__(self, root: Path, *options: str) -> None:
        self.root = root
        self.bucket = root / BUCKET
        self.bucket.mkdir(parents=True, exist_ok=True)
        command = [COMMAND, "emulator", "oss", "--root", str(root), "--print-json", *options]
        self._log = root.with_suffix(".log")
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                cgroup.outside(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C ends the demo, which ends the server in its turn
            )
        self.endpoint = self._wait_for_endpoint()

    def _wait_for_endpoint(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError(f"the emulator did not start: {self._log.read_text().strip()}")
        endpoint: str = json.loads(line)["endpoint"]
        return endpoint

    def stats(self) -> dict[str, Any]:
        """Its counters of requests and bytes."""
        with urllib.request.urlopen(f"{self.endpoint}/-/emulator/stats", timeout=10) as answer:
            counters: dict[str, Any] = json.load(answer)
        return counters

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
