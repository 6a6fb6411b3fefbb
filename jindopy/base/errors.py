"""The tree of errors; each knows its consequences.

    JindoError
    ├── UsageError                what the user gave is wrong: one line, with the fix
    │   ├── ConfigError           a flag, file or environment value
    │   └── MountPointError       missing, not empty, busy, dead
    ├── UfsError                  the storage behind the cache; names endpoint and key
    │   ├── ObjectNotFound        404 on a key
    │   ├── BucketNotFound        404 on the bucket
    │   ├── AccessDenied          403
    │   │   ├── BadCredentials    wrong key id or secret, expired token: worth one try with fresh keys
    │   │   ├── ClockSkewed       the request's time is refused
    │   │   └── NotRestored       archived object that was never restored
    │   ├── VersionChanged        412: the object is no longer the version asked for
    │   ├── KeyRefused            a key this driver cannot address byte for byte
    │   ├── Throttled             429, 503 SlowDown
    │   ├── Unavailable           5xx, refused or reset connections, timeouts
    │   │   └── ShortBody         fewer bytes than announced
    │   └── BadAnswer             the peer sent what the protocol does not allow
    ├── DeadlineExceeded          the time given at the edge ran out
    ├── PeerError                 another process of the cluster; names it
    │   ├── PeerGone              refused, reset or ended connections
    │   │   └── MasterAway        the master cannot be asked now
    │   ├── TicketRefused         the ticket is bad, expired, or not for this mount
    │   ├── BadFrame              the peer sent what the protocol does not allow
    │   └── BlockDamaged          a block's bytes are not those its checksum is of
    ├── CacheError                the block store
    │   ├── CacheBusy             another process owns the directory
    │   ├── CacheFull             no block fits, nothing can be evicted
    │   ├── CacheCorrupt          a block failed its checksum
    │   ├── ObjectCorrupt         the blocks of an object did, all together
    │   └── FormatTooNew          written by a newer release
    └── NamespaceError
        ├── NoSuchEntry, NameTooLong, NotADirectory, IsADirectory
        ├── StaleVersion          the version is neither cached nor in the UFS any more
        ├── ReadOnly
        └── NamespaceCorrupt      SQLite says the file is damaged

``errno``      what a FUSE request answers.
``exit_code``  what the command line exits with (the table is in docs/CONFIGURATION.md).
``retryable``  the same request may succeed later without anyone doing anything.
``fault``      whose mistake it is: decides log level and wording.

Translations happen once at each edge: errno in ``fuse/``, exit code in ``cli/``.  Messages never hold secrets: the
code that raises passes only endpoint, key and a cause that went through ``redact``.
"""

from __future__ import annotations

import enum
import errno as _errno
import re
from typing import ClassVar

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_ACCESS = 3
EXIT_UNREACHABLE = 4
EXIT_DATA = 5
EXIT_INTERRUPTED = 130

# Query parameters, headers and options whose values must never be shown.
_SECRET = re.compile(
    r"(?i)((?:signature|x-oss-signature|security-token|x-oss-security-token|x-oss-credential|authorization"
    r"|accesskeysecret|accesskeyid|ossaccesskeyid|access[_-]?key[_-]?secret|password|token)[\"']?\s*[=:]\s*[\"']?)"
    r"(?:OSS4-HMAC-SHA256\s+|OSS\s+)?[^\s&,\"'<>;]+"
)


def redact(text: str) -> str:
    """Return ``text`` with the values of anything that looks like a credential replaced by ``***``."""
    return _SECRET.sub(r"\1***", text)


class Fault(enum.Enum):
    """Whose mistake an error is."""

    USER = "user"
    PEER = "peer"
    US = "us"


class JindoError(Exception):
    """Root of everything jindopy raises on purpose."""

    errno: ClassVar[int] = _errno.EIO
    exit_code: ClassVar[int] = EXIT_FAILURE
    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = Fault.US

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))

    @property
    def message(self) -> str:
        """The one line to show."""
        return str(self)


class UsageError(JindoError):
    """What the user gave is wrong; the message says how to mend it."""

    errno = _errno.EINVAL
    exit_code = EXIT_USAGE
    fault = Fault.USER


class ConfigError(UsageError):
    """A flag, a configuration file or an environment value."""


class MountPointError(UsageError):
    """The mount point is missing, not empty, busy or dead."""


class UfsError(JindoError):
    """The storage behind the cache failed a request.

    ``endpoint`` and ``key`` say where; ``request_id`` is the server's, for its support.
    """

    fault = Fault.PEER

    def __init__(
        self, message: str, *, endpoint: str = "", key: bytes | str = b"", request_id: str = "", status: int = 0
    ) -> None:
        self.endpoint = endpoint
        self.key = key.encode("utf-8", "surrogateescape") if isinstance(key, str) else key
        self.request_id = request_id
        self.status = status
        where = " ".join(
            part
            for part in (
                endpoint,
                repr(self.key.decode("utf-8", "backslashreplace")) if self.key else "",
                f"(request {request_id})" if request_id else "",
            )
            if part
        )
        super().__init__(f"{where}: {message}" if where else message)


class ObjectNotFound(UfsError):
    """No object of that key."""

    errno = _errno.ENOENT


class BucketNotFound(UfsError):
    """No bucket, share or root directory of that name."""

    errno = _errno.ENOENT
    exit_code = EXIT_ACCESS
    fault = Fault.USER


class AccessDenied(UfsError):
    """The credentials are good but do not allow this."""

    errno = _errno.EACCES
    exit_code = EXIT_ACCESS
    fault = Fault.USER


class BadCredentials(AccessDenied):
    """Unknown key id, wrong secret or expired token; one try with freshly read keys is worth it."""


class ClockSkewed(AccessDenied):
    """The server refuses the request's time: this machine's clock is wrong."""


class NotRestored(AccessDenied):
    """An archived object must be restored before it can be read."""

    errno = _errno.EIO


class VersionChanged(UfsError):
    """The object is not, or no longer, the version that was asked for."""

    errno = _errno.ESTALE


class KeyRefused(UfsError):
    """The driver cannot address this key byte for byte."""

    errno = _errno.EINVAL
    fault = Fault.USER


class Throttled(UfsError):
    """The server asks for fewer requests."""

    errno = _errno.EAGAIN
    retryable = True
    exit_code = EXIT_UNREACHABLE


class Unavailable(UfsError):
    """5xx, refused or reset connection, timeout."""

    retryable = True
    exit_code = EXIT_UNREACHABLE


class ShortBody(Unavailable):
    """Fewer body bytes than the headers announced."""


class BadAnswer(UfsError):
    """The peer's answer is not what the protocol allows."""


class DeadlineExceeded(JindoError):
    """The time given at the edge ran out."""

    errno = _errno.ETIMEDOUT
    exit_code = EXIT_UNREACHABLE
    fault = Fault.PEER


class PeerError(JindoError):
    """Another process of the cluster cannot do what is asked."""

    exit_code = EXIT_UNREACHABLE
    fault = Fault.PEER


class PeerGone(PeerError):
    """Refused, reset or ended connection."""

    retryable = True


class MasterAway(PeerGone):
    """The master cannot be asked now: what is known is believed meanwhile, what is not has to wait."""


class TicketRefused(PeerError):
    """The ticket is bad, expired, or not for this mount."""

    errno = _errno.EACCES
    exit_code = EXIT_ACCESS


class BadFrame(PeerError):
    """The peer sent what the protocol does not allow."""


class BlockDamaged(PeerError):
    """A block arrived with other bytes than its checksum is of."""

    retryable = True


class CacheError(JindoError):
    """The block store cannot do what is asked."""

    exit_code = EXIT_DATA


class CacheBusy(CacheError):
    """Another process owns the cache directory."""

    errno = _errno.EBUSY
    exit_code = EXIT_USAGE
    fault = Fault.USER


class CacheFull(CacheError):
    """No room: everything is pinned or in use, or the disk is full."""

    errno = _errno.ENOSPC


class CacheCorrupt(CacheError):
    """A block failed its checksum; it has been dropped."""


class ObjectCorrupt(CacheError):
    """The blocks of an object, each as it arrived, are together not what the store has; all were dropped."""


class FormatTooNew(CacheError):
    """Written by a newer release; this one must not touch it."""

    exit_code = EXIT_USAGE
    fault = Fault.USER


class NamespaceError(JindoError):
    """The tree of names."""


class NoSuchEntry(NamespaceError):
    """No such name."""

    errno = _errno.ENOENT
    fault = Fault.USER


class NameTooLong(NamespaceError):
    """A path component of more than 255 bytes."""

    errno = _errno.ENAMETOOLONG
    fault = Fault.USER


class NotADirectory(NamespaceError):
    """A directory is due here."""

    errno = _errno.ENOTDIR
    fault = Fault.USER


class IsADirectory(NamespaceError):
    """A file is due here."""

    errno = _errno.EISDIR
    fault = Fault.USER


class StaleVersion(NamespaceError):
    """The version is neither cached nor in the UFS any more."""

    errno = _errno.ESTALE
    fault = Fault.PEER


class ReadOnly(NamespaceError):
    """This mount does not write."""

    errno = _errno.EROFS
    fault = Fault.USER


class NamespaceCorrupt(NamespaceError):
    """The namespace file is damaged; a new one lists the tree again, pins and unfinished loads are lost."""

    exit_code = EXIT_DATA
