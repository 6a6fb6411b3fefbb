"""The keys the server knows: given ones, and those of a file that is read again when it changes.

The file is JSON, a list of objects: ``access_key_id``, ``access_key_secret``, and for temporary keys ``security_token``
and ``expires`` (seconds since 1970).  It holds secrets, so it must not be readable by others.  A file that cannot be
read any more keeps the keys last read, and the log says so.
"""

from __future__ import annotations

import json
import logging
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from jindopy.base.errors import ConfigError
from jindopy.emulator.signature import Credential

DEMO_ACCESS_KEY_ID: Final = "jindopy-demo-id"
DEMO_ACCESS_KEY_SECRET: Final = "jindopy-demo-secret"  # noqa: S105 (a public default for demos)

CHECK_SECONDS: Final = 0.2
"""How long a look at the file's state is good for; a stat costs 2 µs, too much for each request."""

_LOG = logging.getLogger(__name__)


class CredentialTable:
    """Finds keys by id."""

    def __init__(self, fixed: Iterable[Credential], file: Path | None, monotonic: Callable[[], float]) -> None:
        self._fixed = {credential.access_key_id: credential for credential in fixed}
        self._file = file
        self._monotonic = monotonic
        self._known = dict(self._fixed)
        self._checked_at = float("-inf")
        self._state: tuple[int, int, int] | None = None
        if file is not None:
            self._state = _state(file)
            self._known |= _read(file)

    def find(self, access_key_id: str) -> Credential | None:
        """The key of that id."""
        if self._file is not None and self._monotonic() - self._checked_at > CHECK_SECONDS:
            self._checked_at = self._monotonic()
            self._refresh(self._file)
        return self._known.get(access_key_id)

    def _refresh(self, file: Path) -> None:
        try:
            state = _state(file)
            if state != self._state:
                self._known = self._fixed | _read(file)
                self._state = state
        except ConfigError as error:
            _LOG.warning("%s; the keys read before stay valid", error)


def _state(file: Path) -> tuple[int, int, int]:
    try:
        status = file.stat()
    except OSError as error:
        raise ConfigError(f"--credentials-file {file}: {error.strerror}") from error
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigError(f"--credentials-file {file}: others may read it; run: chmod 600 {file}")
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(file: Path) -> dict[str, Credential]:
    try:
        entries = json.loads(file.read_bytes())
        credentials = [
            Credential(
                str(entry["access_key_id"]),
                str(entry["access_key_secret"]),
                str(entry.get("security_token", "")),
                float(entry.get("expires", "inf")),
            )
            for entry in entries
        ]
    except OSError as error:
        raise ConfigError(f"--credentials-file {file}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError):
        # The cause may quote the file, and with it a secret.
        raise ConfigError(
            f"--credentials-file {file}: a JSON list of objects with access_key_id and access_key_secret is due"
        ) from None
    return {credential.access_key_id: credential for credential in credentials}
