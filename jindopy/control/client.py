"""The command line's end of the control socket: find the mount, ask it, never wait for ever.

A mount is found by a path inside it or by its id.  The socket stands where the mount's user keeps sockets: for root
asking about a user's mount that is the user's directory, told by the ``user_id`` option of the mount itself.

``ControlClient`` implements ``DaemonApi``.  One connection a call; an answer, or the next item of a stream, must come
within ``ANSWER_SECONDS``.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from jindopy.base import mountinfo
from jindopy.base.errors import DeadlineExceeded, MountPointError
from jindopy.base.ident import mount_point_id
from jindopy.base.mountinfo import MountEntry
from jindopy.control import protocol
from jindopy.control.api import (
    DaemonStatus,
    EntryInfo,
    LoadProgress,
    LoadRequest,
    PathsResult,
    ScrubProgress,
)
from jindopy.control.server import address_of, peer

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 120.0
"""Evicting or pinning a million files takes tens of seconds; a listing may wait for slow storage."""

_MOUNT_ID = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class Located:
    """A running mount, and what of the path lies below it."""

    mount_id: str
    socket_path: Path
    mount_point: str
    """Empty when only the id is known."""
    inner_path: str
    """Without leading slash; empty is the mount's root."""


@final
class ControlClient:
    """Asks the daemon behind one socket."""

    def __init__(self, socket_path: Path, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._path = socket_path
        self._answer_seconds = answer_seconds

    def status(self) -> DaemonStatus:
        result: DaemonStatus = self._call("status")
        return result

    def list_dir(self, path: str) -> list[EntryInfo]:
        return list(self._stream("list_dir", path=path))

    def stat(self, path: str) -> EntryInfo:
        result: EntryInfo = self._call("stat", path=path)
        return result

    def load(self, request: LoadRequest) -> Iterator[LoadProgress]:
        return self._stream("load", request=request)

    def cancel_load(self, job: str) -> bool:
        return bool(self._call("cancel_load", job=job))

    def evict(self, paths: list[str]) -> PathsResult:
        result: PathsResult = self._call("evict", paths=paths)
        return result

    def pin(self, paths: list[str]) -> PathsResult:
        result: PathsResult = self._call("pin", paths=paths)
        return result

    def unpin(self, paths: list[str]) -> PathsResult:
        result: PathsResult = self._call("unpin", paths=paths)
        return result

    def scrub(self) -> Iterator[ScrubProgress]:
        return self._stream("scrub")

    def skipped_keys(self) -> list[tuple[str, str]]:
        return list(self._stream("skipped_keys"))

    def shutdown(self, drain_seconds: float) -> None:
        self._call("shutdown", drain_seconds=drain_seconds)

    def daemon_pid(self) -> int:
        """The process that listens, asked of the kernel: it is told even when that process answers nothing."""
        with self._connect() as connection:
            return peer(connection)[0]

    def _call(self, operation: str, **arguments: Any) -> Any:
        with self._connect() as connection:
            for line in self._lines(connection, operation, arguments):
                return protocol.decode_answer(operation, line)
        raise self._gone()

    def _stream(self, operation: str, **arguments: Any) -> Iterator[Any]:
        with self._connect() as connection:
            for line in self._lines(connection, operation, arguments):
                item = protocol.decode_answer(operation, line)
                if item is protocol.End:
                    return
                yield item
        raise self._gone()

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(CONNECT_SECONDS)
        try:
            with address_of(self._path) as address:
                connection.connect(address)
        except PermissionError:
            connection.close()
            raise MountPointError(
                f"{self._path}: this mount belongs to another user; ask as that user or root"
            ) from None
        except OSError:
            connection.close()
            raise MountPointError(
                f"no mount answers at {self._path}; jindopy status lists those that run, jindopy mount starts one"
            ) from None
        if os.geteuid() != 0 and peer(connection)[1] not in (0, os.geteuid()):
            connection.close()
            raise MountPointError(f"{self._path}: another user listens there; remove it, it is none of our mounts")
        return connection

    def _lines(self, connection: socket.socket, operation: str, arguments: dict[str, Any]) -> Iterator[bytes]:
        def chunks() -> Iterator[bytes]:
            while chunk := connection.recv(65536):
                yield chunk

        try:
            # A mount that refuses who asks, or has no place left, closes without reading: its reason waits here.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(protocol.encode_request(operation, arguments))
            connection.settimeout(self._answer_seconds)
            yield from protocol.lines(chunks(), protocol.ANSWER_BYTES_MAX, "the mount's answer")
        except TimeoutError:
            raise DeadlineExceeded(
                f"the mount did not answer {operation} within {self._answer_seconds:.0f} s; its log may say why, and"
                " jindopy umount --force ends one that hangs"
            ) from None
        except OSError as error:
            raise self._gone(f" ({error.strerror})") from None

    def _gone(self, why: str = "") -> MountPointError:
        return MountPointError(f"the mount behind {self._path} ended before it answered{why}; see its log")


def locate(path: str, run_dirs: Sequence[Path], entries: Sequence[MountEntry] | None = None) -> Located:
    """The running mount of a path or id; raises MountPointError."""
    if _MOUNT_ID.fullmatch(path) and not Path(path).exists():
        for run_dir in run_dirs:
            if (run_dir / f"{path}.sock").exists():
                return Located(path, run_dir / f"{path}.sock", "", "")
        raise MountPointError(f"no running mount has the id {path}; jindopy status lists them")
    mounts = mountinfo.read() if entries is None else entries
    real, entry = resolve(path, mounts)
    if entry is None or not entry.ours:
        raise MountPointError(f"{path}: not below a jindopy mount; jindopy status lists the mounts")
    identity = mount_point_id(entry.mount_point)
    candidates = [run_dir / f"{identity}.sock" for run_dir in (*run_dirs, *run_dirs_of(entry))]
    found = next((candidate for candidate in candidates if candidate.exists()), None)
    if found is None:
        looked = ", ".join(sorted({str(candidate.parent) for candidate in candidates}))
        raise MountPointError(
            f"{entry.mount_point}: its daemon has no control socket (looked in {looked}); if it is dead, the next"
            f" jindopy mount cleans up, or jindopy umount {entry.mount_point}"
        )
    return Located(identity, found, entry.mount_point, real[len(entry.mount_point) :].lstrip("/"))


def resolve(path: str, entries: Sequence[MountEntry]) -> tuple[str, MountEntry | None]:
    """The path without links and its mount.  A mount point itself is not touched: its daemon may be stuck or dead."""
    plain = os.path.abspath(path)  # noqa: PTH100 - Path.resolve would ask the file system
    entry = mountinfo.at(plain, entries)
    if entry is None:
        plain = os.path.realpath(path)
        entry = mountinfo.find(plain, entries)
    return plain, entry


def run_dirs_of(entry: MountEntry) -> list[Path]:
    """Where the user who made a mount keeps sockets."""
    if entry.user_id == 0:
        return [Path("/run/jindopy")]
    return [
        Path(f"/run/user/{entry.user_id}/jindopy"),
        Path(f"/tmp/jindopy-{entry.user_id}"),  # noqa: S108 - the documented place
    ]


def sockets(run_dirs: Sequence[Path]) -> list[Path]:
    """Every control socket there is, sorted; some may answer nobody."""
    found = []
    for run_dir in run_dirs:
        if run_dir.is_dir():
            found += [path for path in run_dir.glob("*.sock") if _MOUNT_ID.fullmatch(path.stem)]
    return sorted(set(found))
