"""What a master keeps beside its namespace: the cluster's name, how often it has started, and the keys of tickets.

One JSON file of mode 0600 in the data directory, written anew (and synced) at each start, before anybody is served:
an epoch is never used twice.  The cluster's name is made with the file; a client that meets another name after a
reconnect knows that inodes mean something else now.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, final

from jindopy.base.errors import FormatTooNew, NamespaceError, UsageError
from jindopy.base.records import RecordError, decode, encode
from jindopy.dataplane import ticket

FILE_NAME: Final = "cluster.json"
FORMAT_VERSION: Final = 1
MIN_READER: Final = 1


@dataclass(frozen=True)
class _Saved:
    format_version: int
    min_reader: int
    cluster: str
    epoch: int
    keys: dict[str, str] = field(default_factory=dict)
    """Key id → secret in hex; the last one signs."""


@final
class Identity:
    """Of this life of the master."""

    def __init__(self, directory: Path) -> None:
        """Read or make it, and count this start.  Raises FormatTooNew, NamespaceError, UsageError."""
        path = directory / FILE_NAME
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            saved = _read(path) if path.exists() else _new()
            saved = replace(saved, epoch=saved.epoch + 1)
            _write(path, saved)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}; choose another --data-dir") from None
        self.cluster = saved.cluster
        self.epoch = saved.epoch
        self._keys = {name: bytes.fromhex(secret) for name, secret in saved.keys.items()}

    def ticket(self, owners: Sequence[int], now_seconds: float) -> bytes:
        """A ticket for these owner tags."""
        name = next(reversed(self._keys))
        return ticket.sign(name, self._keys[name], owners, now_seconds)

    def secrets(self) -> dict[str, bytes]:
        """For workers, who check tickets."""
        return dict(self._keys)


def _new() -> _Saved:
    return _Saved(FORMAT_VERSION, MIN_READER, secrets.token_hex(8), 0, {"k1": secrets.token_hex(32)})


def _read(path: Path) -> _Saved:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(document, dict) and int(document.get("min_reader", 0)) > FORMAT_VERSION:
            raise FormatTooNew(f"{path}: written by a newer release; run that one")
        saved = decode(_Saved, document, FILE_NAME)
        if not saved.keys or any(len(bytes.fromhex(one)) < ticket.KEY_BYTES_MIN for one in saved.keys.values()):
            raise RecordError("no key")
    except (RecordError, ValueError) as error:
        # Nothing of the file is shown: it holds keys.
        raise NamespaceError(
            f"{path}: is damaged ({type(error).__name__}); move it away for a new one, clients have to mount again then"
        ) from None
    return saved


def _write(path: Path, saved: _Saved) -> None:
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(encode(saved), file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
