"""A ``DaemonApi`` without a mount, for tests of the control socket and the command line.

It keeps a small tree, answers with fixed figures, counts calls, and can be told to fail, to be slow or to block.
"""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Iterator
from dataclasses import replace

from jindopy.base.errors import JindoError, NoSuchEntry
from jindopy.control.api import (
    DaemonStatus,
    EntryInfo,
    LoadFailure,
    LoadProgress,
    LoadRequest,
    MountStatus,
    PathsResult,
    ScrubProgress,
    TierStatus,
    TrafficStatus,
)

STATUS = DaemonStatus(
    mount_id="0123456789ab",
    mount_point="/mnt/data",
    pid=4242,
    version="0.1.0",
    transport="llfuse",
    uptime_seconds=3725.0,
    mounts=[MountStatus("", "oss://b/p", "http://oss", "strong", 3, 3 << 20, 1 << 20, 1, 60.0)],
    tiers=[TierStatus("SSD", "/c", 10 << 30, 2 << 30, 1 << 30, 0, 1, 0.95, 0.8, "normal", 0)],
    traffic=TrafficStatus(4 << 20, 3 << 20, 0.75, 7, 2, 1, 1 << 20, 3 << 20, 0, 0, 0, 12, 24),
    open_files=1,
    memory_bytes=90 << 20,
    skipped_keys=1,
    notes=["read-ahead not set"],
)


def entry(path: str, kind: str = "file", size: int = 1 << 20, cached: int = 0, pinned: bool = False) -> EntryInfo:
    """An entry of the fake tree."""
    etag = "e" + path[-1:] if kind == "file" else ""
    ufs = f"oss://b/p/{path}"
    return EntryInfo(path, kind, size, 1_700_000_000_000_000_000, etag, 0xABC if size else None, cached, pinned, ufs, 7)


class FakeDaemon:
    """See the module."""

    def __init__(self, mount_point: str = "/mnt/data", mount_id: str = "0123456789ab") -> None:
        self.status_value = replace(STATUS, mount_point=mount_point, mount_id=mount_id)
        self.entries = {
            info.path: info
            for info in (
                entry("", "directory", 0),
                entry("a", cached=1 << 20),
                entry("d", "directory", 0),
                entry("d/b\udcff c"),
            )
        }
        self.calls: list[tuple[object, ...]] = []
        self.error: Exception | None = None
        self.gate = threading.Event()
        """Streams wait here between items while ``blocked``."""
        self.blocked = False
        self.streams_closed = threading.Semaphore(0)
        self.load_failures: list[LoadFailure] = []
        self.bad_blocks = 0

    def _note(self, *call: object) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error

    def status(self) -> DaemonStatus:
        self._note("status")
        return self.status_value

    def list_dir(self, path: str) -> list[EntryInfo]:
        self._note("list_dir", path)
        found = self.stat(path)
        if found.kind != "directory":
            return [found]
        prefix = f"{path}/" if path else ""
        return [
            info for name, info in sorted(self.entries.items()) if name.startswith(prefix) and name not in ("", path)
            and "/" not in name[len(prefix) :]
        ]  # fmt: skip

    def stat(self, path: str) -> EntryInfo:
        self._note("stat", path)
        if path not in self.entries:
            raise NoSuchEntry(f"/{path}: no such file or directory")
        return self.entries[path]

    def load(self, request: LoadRequest) -> Iterator[LoadProgress]:
        self._note("load", request)
        return self._load(request)

    def _load(self, request: LoadRequest) -> Iterator[LoadProgress]:
        try:
            total = sum(info.size_bytes for info in self.entries.values())
            start = LoadProgress("job-1", "listing", False, 1, 0, 0, 0, 0, 0)
            yield start
            if self.blocked:
                self.gate.wait(10)
            yield replace(start, phase="loading", files_total=2, files_done=1, bytes_total=total, bytes_done=total // 2)
            failed = bool(self.load_failures)
            yield replace(
                start,
                phase="failed" if failed else "complete",
                done=True,
                files_total=2,
                files_done=max(0, 2 - len(self.load_failures)),
                bytes_total=total,
                bytes_done=0 if request.dry_run else total,
                bytes_fetched=0 if request.dry_run else total // 2,
                failures=self.load_failures,
                failure_count=len(self.load_failures),
            )
        finally:
            self.streams_closed.release()

    def cancel_load(self, job: str) -> bool:
        self._note("cancel_load", job)
        return job == "job-1"

    def _paths(self, verb: str, paths: list[str]) -> PathsResult:
        self._note(verb, paths)
        found = [info for name, info in self.entries.items() if any(fnmatch.fnmatch(name, path) for path in paths)]
        messages = [f"{path}: nothing matches" for path in paths if not fnmatch.filter(self.entries, path)]
        return PathsResult(len(found), sum(info.size_bytes for info in found), messages)

    def evict(self, paths: list[str]) -> PathsResult:
        return self._paths("evict", paths)

    def pin(self, paths: list[str]) -> PathsResult:
        return self._paths("pin", paths)

    def unpin(self, paths: list[str]) -> PathsResult:
        return self._paths("unpin", paths)

    def scrub(self) -> Iterator[ScrubProgress]:
        self._note("scrub")
        yield ScrubProgress(False, 2, 1, 1, 0)
        yield ScrubProgress(True, 2, 2, 3, self.bad_blocks, ["oss://b/p/a"] if self.bad_blocks else [])

    def skipped_keys(self) -> list[tuple[str, str]]:
        self._note("skipped_keys")
        return [("oss://b/p/x//y", "empty-component")]

    def shutdown(self, drain_seconds: float) -> None:
        self._note("shutdown", drain_seconds)


class SomethingElse(JindoError):
    """A class that only the daemon's side knows."""

    exit_code = 5
