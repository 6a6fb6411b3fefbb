"""The one table of settings.  P: names, types, defaults and help; no file or environment is read here.

``Settings`` is the table: one field a setting, in the order of the manual.  Its metadata (``Param``) gives the flag,
the environment variable, the names Jindo and others know it by, and how text becomes a value.  Everything else is
made from it: the flags of the command line (``cli.options``), the keys of configuration files (``config.load``) and
docs/CONFIGURATION.md (``scripts/configuration.py``).

A value of None means *derive it*: ``config.rationalize`` knows how, ``derived`` says so to people.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import functools
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jindopy.base.errors import ConfigError
from jindopy.base.units import parse_duration, parse_rate, parse_size

ENV_PREFIX = "JINDOPY_"
_OCTAL = re.compile(r"0?o?[0-7]{1,4}")
_FOREVER = frozenset({"once", "forever", "inf"})
_BOOLS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


class Kind(enum.Enum):
    """How a setting's text is read; the value is what the manual calls it."""

    SIZE = "size"
    RATE = "size per second"
    DURATION = "duration"
    TTL = "duration or `once`"
    COUNT = "number"
    RATIO = "ratio from 0 to 1"
    BOOL = "true or false"
    TEXT = "text"
    PATH = "path"
    CHOICE = "one of"
    OCTAL = "octal number"
    TIERS = "list of NAME:PATH[:QUOTA[:HIGH[:LOW]]]"


@dataclass(frozen=True)
class Param:
    """What is known of one setting."""

    name: str
    """Key in configuration files and of ``-o``."""
    group: str
    kind: Kind
    default: Any
    help: str
    derived: str
    """What stands for the default where that is None."""
    jindo: tuple[str, ...]
    """Other names accepted by ``-o`` and in files."""
    choices: tuple[str, ...]
    flag_name: str
    driver_option: str
    """Not empty: the name under which drivers of remote storage get it; ``{scheme}`` is filled in."""
    other_env: tuple[str, ...]

    @property
    def flag(self) -> str:
        """``--cache-dir``."""
        return "--" + self.flag_name.replace("_", "-")

    @property
    def env(self) -> str:
        """``JINDOPY_CACHE_DIR``."""
        return ENV_PREFIX + self.name.upper()

    def parse(self, raw: object, origin: str) -> Any:
        """Read a value from text or from a TOML scalar; ConfigError names ``origin`` (a flag, a file's key ...)."""
        if isinstance(raw, list) and self.kind is Kind.TIERS:
            return tuple(str(item) for item in raw)
        if isinstance(raw, list | dict):
            raise ConfigError(f"{origin}: {self._due} is due, not a {type(raw).__name__}")
        try:
            return self._parse_text(str(raw).lower() if isinstance(raw, bool) else str(raw))
        except ConfigError as error:
            raise ConfigError(f"{origin}: {error}") from None
        except ValueError:
            raise ConfigError(f"{origin}: {self._due} is due, not {str(raw)!r}") from None

    @property
    def default_text(self) -> str:
        """The default as people write it; where it is derived, from what."""
        if self.derived:
            return self.derived.replace("`", "")
        match self.kind:
            case Kind.OCTAL:
                return f"{self.default:03o}"
            case Kind.SIZE:
                return f"{self.default >> 20}M"
            case Kind.DURATION | Kind.TTL:
                return f"{self.default:g}s"
            case Kind.BOOL:
                return str(self.default).lower()
            case _:
                return str(self.default)

    @property
    def accepted(self) -> str:
        """What a value looks like."""
        return f"{self.kind.value} {', '.join(self.choices)}" if self.choices else self.kind.value

    @property
    def _due(self) -> str:
        article = "" if self.choices or self.kind is Kind.BOOL else "an " if self.kind is Kind.OCTAL else "a "
        return article + self.accepted

    def _parse_text(self, text: str) -> Any:  # noqa: PLR0911, PLR0912 - a table of kinds
        match self.kind:
            case Kind.SIZE:
                return parse_size(text)
            case Kind.RATE:
                return parse_rate(text)
            case Kind.DURATION:
                return parse_duration(text)
            case Kind.TTL:
                return float("inf") if text.lower() in _FOREVER else parse_duration(text)
            case Kind.COUNT:
                return int(text)
            case Kind.RATIO:
                return _parse_ratio(text)
            case Kind.BOOL:
                if text.lower() not in _BOOLS:
                    raise ValueError(text)
                return _BOOLS[text.lower()]
            case Kind.OCTAL:
                if not _OCTAL.fullmatch(text):
                    raise ValueError(text)
                return int(text.lstrip("0o") or "0", 8)
            case Kind.CHOICE:
                if text not in self.choices:
                    raise ValueError(text)
                return text
            case Kind.TIERS:
                return tuple(text.split())
            case Kind.PATH:
                if text and not posixpath.isabs(text):
                    # The daemon works elsewhere than whoever wrote this.
                    raise ConfigError(f"{text!r} is relative; give the path from the root")
                return text
            case Kind.TEXT:
                return text


def _parse_ratio(text: str) -> float:
    value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


def _param(
    group: str,
    kind: Kind,
    default: Any,
    help: str,
    *,
    derived: str = "",
    jindo: tuple[str, ...] = (),
    choices: tuple[str, ...] = (),
    flag: str = "",
    driver_option: str = "",
    other_env: tuple[str, ...] = (),
) -> Any:
    facts = {
        "group": group,
        "kind": kind,
        "help": help,
        "derived": derived,
        "jindo": jindo,
        "choices": choices,
        "flag_name": flag,
        "driver_option": driver_option,
        "other_env": other_env,
    }
    return dataclasses.field(default=default, metadata=facts)


@dataclass(frozen=True)
class Settings:
    """Every setting, read and typed; None where nothing was given and the value is derived."""

    endpoint: str | None = _param(
        "Storage",
        Kind.TEXT,
        None,
        "Where the bucket is served: a host name or URL.",
        derived="from the address, as in `oss://bucket.endpoint/prefix`",
        jindo=("fs.oss.endpoint", "oss_endpoint"),
        driver_option="fs.{scheme}.endpoint",
        other_env=("OSS_ENDPOINT",),
    )
    region: str | None = _param(
        "Storage",
        Kind.TEXT,
        None,
        "Region that V4 signatures name.",
        derived="from the endpoint's name",
        jindo=("fs.oss.region", "oss_region"),
        driver_option="fs.{scheme}.region",
        other_env=("OSS_REGION",),
    )
    signature: str | None = _param(
        "Storage",
        Kind.CHOICE,
        None,
        "How OSS requests are signed.",
        derived="`v4`",
        jindo=("fs.oss.signer.version",),
        choices=("v4", "v1"),
        driver_option="fs.{scheme}.signer.version",
    )
    credentials_file: str | None = _param(
        "Storage",
        Kind.PATH,
        None,
        "File with the access key (mode 0600 or stricter): ossutil's format or `key=value` lines.",
        derived="environment, then `~/.ossutilconfig`",
        driver_option="credentials.file",
    )
    credentials_dir: str | None = _param(
        "Storage",
        Kind.PATH,
        None,
        "Directory of a mounted Secret, re-read when it changes.",
        derived="none",
        driver_option="credentials.dir",
    )
    fetch_threads: int = _param(
        "Storage",
        Kind.COUNT,
        32,
        "GETs in flight at once, fewer when half of the buffers hold less than a MiB for each; a reader who finds all"
        " of them busy gets one more.",
        jindo=("fs.oss.download.thread.concurrency",),
    )
    list_threads: int = _param("Storage", Kind.COUNT, 16, "Listings in flight at once.")
    request_timeout: float = _param(
        "Storage",
        Kind.DURATION,
        60.0,
        "Longest a read or lookup waits for the storage, all tries together.",
    )
    cache_dir: str | None = _param(
        "Cache",
        Kind.PATH,
        None,
        "Directory of the cache; one mount owns it.",
        derived="root `/var/cache/jindopy`, else `$XDG_CACHE_HOME/jindopy`",
        jindo=("storage.data-dirs",),
    )
    quota: int | None = _param(
        "Cache",
        Kind.SIZE,
        None,
        "Disk space the cache may use.",
        derived="the smaller of 20 GiB and half of the free space",
        jindo=("storage.data-dirs.capacities",),
    )
    high: float = _param(
        "Cache",
        Kind.RATIO,
        0.95,
        "Share of the quota at which eviction starts.",
        jindo=("storage.watermark.high.ratio",),
    )
    low: float = _param(
        "Cache",
        Kind.RATIO,
        0.8,
        "Share of the quota at which eviction stops; pins may not ask for more.",
        jindo=("storage.watermark.low.ratio",),
    )
    min_free: float = _param(
        "Cache", Kind.RATIO, 0.1, "Share of the file system that stays free whatever the quota says."
    )
    tier: tuple[str, ...] = _param(
        "Cache",
        Kind.TIERS,
        (),
        "A cache tier (MEM, SSD or HDD); repeat for more, the first is preferred. Replaces cache_dir and quota.",
        derived="one SSD tier made of the settings above",
    )
    ttl: float = _param(
        "Metadata",
        Kind.TTL,
        60.0,
        "How long listings and attributes are believed; `once` is for ever.",
        jindo=("attr_timeout", "entry_timeout"),
    )
    uid: int | None = _param("Metadata", Kind.COUNT, None, "Owner of all files.", derived="the mounting user")
    gid: int | None = _param("Metadata", Kind.COUNT, None, "Group of all files.", derived="the mounting user's group")
    umask: int = _param("Metadata", Kind.OCTAL, 0o022, "Permission bits taken away from 0666 and 0777.")
    allow_other: bool | None = _param(
        "Mount",
        Kind.BOOL,
        None,
        "Let other users into the mount.",
        derived="root: true, else false",
    )
    transport: str = _param("Mount", Kind.CHOICE, "auto", "How FUSE is spoken.", choices=("auto", "native", "llfuse"))
    passthrough: bool = _param(
        "Mount",
        Kind.BOOL,
        True,
        "Let the kernel read complete cache files by itself, where it can (Linux 6.9, root, transport `native`); "
        "`false` saves re-opening a file the request to us.",
    )
    timeout: float = _param("Mount", Kind.DURATION, 30.0, "How long `mount` waits for the mount to answer.")
    drain: float = _param("Mount", Kind.DURATION, 10.0, "How long running requests may take after SIGTERM.")
    read_ahead: int | None = _param(
        "Reading",
        Kind.SIZE,
        None,
        "Most that one open file reads ahead.",
        derived="the smaller of 64 MiB and a quarter of the memory budget",
        jindo=("fs.oss.read.readahead.prefetch.size.max",),
    )
    prefetch: int | None = _param(
        "Reading",
        Kind.SIZE,
        None,
        "Most that is fetched ahead of readers of small files (up to 4 MiB) and not yet opened; 0 turns that off.",
        derived="the smaller of 4 GiB and a quarter of the cache's quota",
    )
    download_limit: int | None = _param(
        "Reading",
        Kind.RATE,
        None,
        "Most that this mount downloads from object storage a second, e.g. 100MB/s: all reads, read-ahead and loads "
        "together.",
        derived="no limit",
    )
    kernel_read_ahead: int = _param(
        "Reading",
        Kind.SIZE,
        4 << 20,
        "The kernel's read-ahead for this mount (only root can set it); 0 leaves it alone.",
    )
    memory: int | None = _param(
        "Reading",
        Kind.SIZE,
        None,
        "Budget for all of a mount's memory: buffers, read-ahead, names, requests, and the quota of MEM tiers.",
        derived="an eighth of the machine's or cgroup's memory, 64 MiB to 1 GiB",
    )
    state_dir: str | None = _param(
        "Files",
        Kind.PATH,
        None,
        "Parent directory of each mount's namespace.",
        derived="root `/var/lib/jindopy`, else `$XDG_STATE_HOME/jindopy`",
    )
    run_dir: str | None = _param(
        "Files",
        Kind.PATH,
        None,
        "Directory of control sockets.",
        derived="root `/run/jindopy`, else `$XDG_RUNTIME_DIR/jindopy` or `/tmp/jindopy-<uid>`",
    )
    log_file: str | None = _param(
        "Files",
        Kind.PATH,
        None,
        "Log of the daemon.",
        derived="root `/var/log/jindopy/<mount id>.log`, else `<state dir>/<mount id>.log`",
    )
    log_format: str = _param("Files", Kind.CHOICE, "text", "Shape of log lines.", choices=("text", "json"))
    log_level: str = _param(
        "Files", Kind.CHOICE, "info", "Least severe lines logged.", choices=("debug", "info", "warning", "error")
    )


PARAMS: tuple[Param, ...] = tuple(
    Param(
        name=field.name,
        default=field.default,
        **(dict(field.metadata) | {"flag_name": field.metadata["flag_name"] or field.name}),
    )
    for field in dataclasses.fields(Settings)
)


@dataclass(frozen=True)
class Loaded:
    """Settings as the sources gave them, with the options meant for drivers (``config.load`` makes it)."""

    settings: Settings
    driver: Mapping[str, str]
    """``fs.*`` options the table does not know, for every UFS of that scheme."""
    per_mount: Mapping[str, Mapping[str, str]]
    """The same for the UFS shown at a path alone."""
    origins: Mapping[str, str]
    """Setting → where its value came from; absent: the default."""


@functools.cache
def by_name() -> dict[str, Param]:
    """Every accepted name, jindopy's own and others', to its setting."""
    return {name: param for param in PARAMS for name in (param.name, *param.jindo)}


def find(name: str, origin: str) -> Param:
    """The setting called ``name``; a ConfigError suggests what may have been meant."""
    param = by_name().get(name) or by_name().get(name.replace("-", "_"))
    if param is None:
        close = difflib.get_close_matches(name, by_name(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "docs/CONFIGURATION.md lists them"
        raise ConfigError(f"{origin}: there is no setting {name!r} ({hint})")
    return param
