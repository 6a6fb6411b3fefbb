"""Where keys come from: one chain for every driver, re-read when they change, never shown.

The chain takes the first source that has a key pair: options, a credentials file and then a Secret directory that the
settings name, the environment, ``~/.ossutilconfig``; nothing found means anonymous.  ``current`` is called for every
request and must be cheap: files are looked at again at most once a second, by their stat (a Secret directory by its
``..data`` link, which the kubelet swaps in one step, so that a pair is never half old and half new).  ``refresh`` reads
again at once: the retry layer calls it after a 403.

Formats of a credentials file: JSON object, or lines ``name = value`` (quotes allowed, which makes it valid for TOML
too), with Jindo's names or Alibaba's (``fs.oss.accessKeyId``, ``AccessKeyId``, ``access_key_id``).  A file that others
can read is refused with the chmod to run.

Safe for threads: one lock a source, held while a small file is read.
"""

from __future__ import annotations

import configparser
import json
import logging
import os
import stat
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, final

from jindopy.base.clock import REAL_CLOCK, Clock
from jindopy.base.errors import ConfigError

_log = logging.getLogger(__name__)

RECHECK_SECONDS = 1.0
"""Two stats a second are not felt; a rotated key works a second later, or at once after its first 403."""

_FILE_BYTES_MAX = 64 * 1024

_FOLD = str.maketrans("", "", ".-_ ")
_FAMILIES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("accesskeyid", "accesskeysecret", ("securitytoken", "ststoken")),
    ("alibabacloudaccesskeyid", "alibabacloudaccesskeysecret", ("alibabacloudsecuritytoken",)),
    ("ossaccesskeyid", "ossaccesskeysecret", ("osssecuritytoken", "osssessiontoken")),
    ("aliyunaccesskeyid", "aliyunaccesskeysecret", ("aliyunsecuritytoken",)),
)
"""Names of key id, secret and token that belong together, folded; a pair is never put together from two families."""

_EXPIRY_NAMES = ("expiration", "securitytokenexpiration")
_ENVIRONMENT_PREFIXES = ("ALIBABA_CLOUD_", "OSS_", "ALIYUN_")


@final
@dataclass(frozen=True, repr=False)
class Credentials:
    """A key pair, with a token when it is temporary.  Shows nothing of itself."""

    access_key_id: str
    access_key_secret: str
    security_token: str = ""
    expires_ns: int | None = None
    """Wall clock; None: until further notice."""
    origin: str = ""
    """Where it was found, for messages: ``environment``, ``file /etc/keys``."""

    def __repr__(self) -> str:
        kind = "anonymous" if self.anonymous else "STS" if self.security_token else "static"
        return f"<Credentials {kind} from {self.origin or 'nowhere'}>"

    @property
    def anonymous(self) -> bool:
        """Whether requests go unsigned."""
        return not self.access_key_id


ANONYMOUS = Credentials("", "", origin="nowhere")


class CredentialSource(Protocol):
    """Gives the keys to sign with."""

    def current(self) -> Credentials:
        """The keys to use now; ANONYMOUS when there are none."""
        ...

    def refresh(self) -> Credentials:
        """Look again now: the last ones were refused."""
        ...


@final
class Static:
    """Keys that never change, such as those given as options."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def current(self) -> Credentials:
        return self._credentials

    def refresh(self) -> Credentials:
        return self._credentials


@final
class Watched:
    """Keys read from files: read again when ``signature`` says that they changed."""

    def __init__(
        self,
        read: Callable[[], Credentials],
        signature: Callable[[], object],
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._read = read
        self._signature = signature
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._seen: object = None
        self._credentials = ANONYMOUS

    def current(self) -> Credentials:
        now = self._clock.monotonic()
        held = self._credentials
        if now - self._looked_at < RECHECK_SECONDS and not _expired(held, self._clock):
            return held
        with self._lock:
            self._looked_at = now
            seen = self._signature()
            if seen != self._seen or _expired(held, self._clock):
                self._read_again(seen)
            return self._credentials

    def refresh(self) -> Credentials:
        with self._lock:
            self._looked_at = self._clock.monotonic()
            self._read_again(self._signature())
            return self._credentials

    def _read_again(self, seen: object) -> None:
        try:
            self._credentials = self._read()
        except ConfigError as error:
            if self._credentials.anonymous:
                raise
            # A file replaced in place may be half written now: the last good keys serve until it can be read.
            if seen != self._seen:
                _log.warning("keeping the last credentials: %s", error)
        self._seen = seen


@final
class Chain:
    """The first of several sources that has keys."""

    def __init__(self, sources: list[CredentialSource]) -> None:
        self._sources = sources

    def current(self) -> Credentials:
        for source in self._sources:
            found = source.current()
            if not found.anonymous:
                return found
        return ANONYMOUS

    def refresh(self) -> Credentials:
        for source in self._sources:
            found = source.refresh()
            if not found.anonymous:
                return found
        return ANONYMOUS


def default_chain(
    options: Mapping[str, str],
    *,
    bucket: str = "",
    credentials_file: str | Path | None = None,
    secret_dir: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
    clock: Clock = REAL_CLOCK,
) -> Chain:
    """The usual chain; a file or directory that is named must exist, one that is merely usual need not.

    Options: ``fs.oss.accessKeyId``, ``fs.oss.accessKeySecret``, ``fs.oss.securityToken``, each also for one bucket as
    ``fs.oss.bucket.NAME.*``; ``credentials.file`` and ``credentials.dir``, or Jindo's ``fs.oss.provider.endpoint``
    where it is ``secrets:///dir/``.
    """
    env = os.environ if environ is None else environ
    own = f"fs.oss.bucket.{bucket}."
    given = {name.removeprefix("fs.oss."): value for name, value in options.items()}
    given |= {name.removeprefix(own): value for name, value in options.items() if name.startswith(own)}
    provider = given.get("provider.endpoint", "")
    secrets = provider.removeprefix("secrets://") if provider.startswith("secrets://") else ""
    exported = {name: value for name, value in env.items() if name.startswith(_ENVIRONMENT_PREFIXES)}

    # Keys named for this mount beat what the shell happens to have exported for other tools.
    sources: list[CredentialSource] = [Static(_from_names(given, "options"))]
    file = credentials_file or given.get("credentials.file") or env.get("JINDOPY_CREDENTIALS_FILE")
    directory = secret_dir or given.get("credentials.dir") or secrets or env.get("JINDOPY_CREDENTIALS_DIR")
    if file:
        sources.append(from_file(Path(file), clock))
    if directory:
        sources.append(from_secret_dir(Path(directory), clock))
    sources.append(Static(_from_names(exported, "environment")))
    chain = Chain(sources)
    if chain.current().anonymous and (ossutil := (home or _home()) / ".ossutilconfig").is_file():
        chain = Chain([from_file(ossutil, clock)])
    return chain


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a user id without an entry in passwd, usual in containers
        return Path("/nonexistent")


def from_file(path: Path, clock: Clock = REAL_CLOCK) -> Watched:
    """A credentials file, checked now: it must exist, be private and hold a key pair."""
    source = Watched(lambda: _read_file(path), lambda: _signature(path), clock)
    source.refresh()
    return source


def from_secret_dir(path: Path, clock: Clock = REAL_CLOCK) -> Watched:
    """A directory with one file a value, as Kubernetes mounts a Secret; checked now.

    Files are named as Fluid's encryptOptions name them (``fs.oss.accessKeyId``) or as Jindo's ``secrets://`` provider
    does (``AccessKeyId``, ``AccessKeySecret``, ``SecurityToken``).
    """
    source = Watched(lambda: _read_dir(path), lambda: _signature(path), clock)
    source.refresh()
    return source


def _expired(credentials: Credentials, clock: Clock) -> bool:
    return credentials.expires_ns is not None and clock.wall_ns() >= credentials.expires_ns


def _signature(path: Path) -> object:
    """Changes whenever what is read from ``path`` may have: of a directory, its files and the ``..data`` link."""
    try:
        if not path.is_dir():
            return _stamp(path.stat())
        data = path / "..data"
        if data.is_symlink():
            return data.readlink(), _stamp(path.stat())
        return [(entry.name, _stamp(entry.stat())) for entry in sorted(path.iterdir())]
    except OSError:
        return None


def _stamp(seen: os.stat_result) -> tuple[int, int, int]:
    return seen.st_ino, seen.st_size, seen.st_mtime_ns


def _read_small(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_FILE_BYTES_MAX + 1)
    if len(content) > _FILE_BYTES_MAX:
        raise ConfigError(f"{path} is larger than any credentials; check the path")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text") from None


def _read_file(path: Path) -> Credentials:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ConfigError(f"{path} is not a file; a Secret directory is named another way")
        if mode & 0o077:
            raise ConfigError(f"{path} can be read by others (mode {mode & 0o777:04o}); run: chmod 600 {path}")
        text = _read_small(path)
    except OSError as error:
        raise ConfigError(f"credentials file {path}: {error.strerror}") from None
    found = _from_names(_parse(path, text), f"file {path}")
    if found.anonymous:
        raise ConfigError(
            f"{path} holds no key pair; it needs fs.oss.accessKeyId = ... and fs.oss.accessKeySecret = ..."
        )
    return found


def _read_dir(path: Path) -> Credentials:
    data = path / "..data"
    try:
        # Resolved once: the kubelet may swap the link between two reads, and a pair must come from one side of it.
        base = data.resolve(strict=True) if data.is_symlink() else path
        values = {entry.name: _read_small(entry).strip() for entry in base.iterdir() if entry.is_file()}
    except OSError as error:
        raise ConfigError(f"Secret directory {path}: {error.strerror}") from None
    found = _from_names(values, f"Secret {path}")
    if found.anonymous:
        raise ConfigError(f"{path} holds no key pair; it needs files fs.oss.accessKeyId and fs.oss.accessKeySecret")
    return found


def _parse(path: Path, text: str) -> dict[str, str]:
    """Names and values of a credentials file.  Never quotes a line in an error: it may be the secret."""
    if text.lstrip().startswith("{"):
        try:
            values = json.loads(text)
        except ValueError:
            raise ConfigError(f"{path} is no valid JSON") from None
        return {str(name): str(value) for name, value in values.items() if isinstance(value, str | int)}
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#", ";"))
    try:
        parser.read_string(text if text.lstrip().startswith("[") else "[Credentials]\n" + text)
    except configparser.Error:
        raise ConfigError(f"{path}: every line must be name = value, or the whole a JSON object") from None
    section = next((name for name in parser.sections() if name.lower() in {"credentials", "default"}), None)
    if section is None:
        return {}
    return {name.strip("\"'"): value.strip().strip("\"'") for name, value in parser.items(section)}


def _from_names(values: Mapping[str, str], origin: str) -> Credentials:
    """Pick the pair out of ``values``, whose names are compared without case, dots, dashes and underscores."""
    plain = {
        name.lower().removeprefix("fs.oss.").translate(_FOLD): value.strip() for name, value in values.items() if value
    }
    for id_name, secret_name, token_names in _FAMILIES:
        key_id, secret = plain.get(id_name, ""), plain.get(secret_name, "")
        if bool(key_id) != bool(secret):
            missing = "secret" if key_id else "id"
            raise ConfigError(f"{origin}: the access key {missing} is missing; both halves of a key pair are needed")
        if key_id:
            token = next((plain[name] for name in token_names if plain.get(name)), "")
            expiry = next((plain[name] for name in _EXPIRY_NAMES if plain.get(name)), "")
            return Credentials(key_id, secret, token, _expiry_ns(expiry, origin), origin)
    return ANONYMOUS


def _expiry_ns(text: str, origin: str) -> int | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{origin}: the expiration must look like 2030-01-31T12:00:00Z") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 1_000_000_000
