"""Settings from files, environment and flags, by one precedence.

    /etc/jindopy/config.toml < ~/.config/jindopy/config.toml < --config FILE < JINDOPY_<NAME> < flags < -o key=value

Each layer is a mapping of setting to ``Given`` (raw value and where it came from), so that an error can say *which*
line, variable or flag is wrong.  Driver options (``fs.oss.endpoint`` ...) are settings too where the table knows them;
other names that start with ``fs.`` travel to the drivers untouched, which refuse what they do not know.

Secrets never come this way: their names are refused here with the three places where they may stand.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from jindopy.base.errors import ConfigError
from jindopy.config.params import ENV_PREFIX, PARAMS, Loaded, Settings, find

SYSTEM_FILE = Path("/etc/jindopy/config.toml")
MAX_FILE_BYTES = 1 << 20

_SECRET_NAME = re.compile(r"(?i)(access[._-]?key|secret|security[._-]?token|password|sts[._-]?token)")
_WHERE_KEYS_STAND = (
    "keys are read from the environment (OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET), --credentials-file or"
    " --credentials-dir"
)

# What fstab lines and other FUSE programs' habits bring along; nothing here depends on them (``rw`` stands in every
# fstab line that does not say otherwise, so it is no promise).
_IGNORED_TEXT = """
    defaults ro rw auto noauto nofail _netdev user nouser users dev nodev suid nosuid exec noexec atime noatime relatime
    kernel_cache auto_cache no_symlink negative_timeout metrics_port max_idle_threads default_permissions nonempty
"""
IGNORED_OPTIONS = frozenset(_IGNORED_TEXT.split())


class Given(NamedTuple):
    """A value before it is understood."""

    raw: object
    origin: str


@dataclass
class Layer:
    """What one source says."""

    values: dict[str, Given] = field(default_factory=dict)
    driver: dict[str, str] = field(default_factory=dict)
    """Options for every UFS that knows them, by full name."""
    per_mount: dict[str, dict[str, str]] = field(default_factory=dict)
    """Options for the UFS shown at a path."""

    def update(self, other: Layer) -> None:
        """Let a later source win."""
        self.values |= other.values
        # A setting given later beats an older option of the same meaning, and the other way round.
        self.driver = {key: value for key, value in self.driver.items() if key not in other.driver} | other.driver
        for path, options in other.per_mount.items():
            self.per_mount[path] = self.per_mount.get(path, {}) | options

    def set(self, name: str, raw: object, origin: str) -> None:
        """Take one ``name = value``."""
        if _SECRET_NAME.search(name):
            raise ConfigError(f"secrets may not stand in {origin}; {_WHERE_KEYS_STAND}")
        if name.startswith("fs.") and name not in _known_driver_names():
            self.driver[name] = str(raw)
        else:
            self.values[find(name, origin).name] = Given(raw, origin)


def load(
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
    options: Iterable[str] = (),
    config_file: str | None = None,
    system_file: Path = SYSTEM_FILE,
) -> Loaded:
    """Read all sources; raises ConfigError with one line about the first thing wrong."""
    merged = Layer()
    home = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "/") / ".config")
    for path in (system_file, home / "jindopy" / "config.toml"):
        merged.update(read_file(path, required=False))
    chosen = config_file or environ.get(ENV_PREFIX + "CONFIG")
    if chosen:
        merged.update(read_file(Path(chosen), required=True))
    merged.update(read_environment(environ))
    merged.update(read_flags(flags or {}))
    merged.update(read_options(options))
    return _understand(merged)


def read_file(path: Path, *, required: bool) -> Layer:
    """One TOML file: ``name = value`` lines and an ``[options]`` table of driver options."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: larger than any configuration file; is it the right file?")
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: no such configuration file") from None
        return Layer()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    options = document.pop("options", {})
    if not isinstance(options, dict):
        raise ConfigError(f"{path}: options must be a table: [options]")
    layer = Layer()
    for name, raw in [*_flatten(options), *_flatten(document)]:
        layer.set(name, raw, f"{path}: {name}")
    return layer


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``fs.oss.endpoint = x`` without quotes is three nested tables to TOML; make it one name again."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def read_environment(environ: Mapping[str, str]) -> Layer:
    """``JINDOPY_<NAME>``, and the few variables Alibaba's tools share."""
    layer = Layer()
    for param in PARAMS:
        for name in param.other_env:
            if environ.get(name):
                layer.values[param.name] = Given(environ[name], name)
    known = {param.env: param for param in PARAMS}
    for name, text in environ.items():
        if name in known and text:
            layer.values[known[name].name] = Given(text, name)
        elif name.startswith(ENV_PREFIX) and name not in known:
            # Other programs may use the prefix too; only what looks like a slip of the pen is refused.
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
            if close:
                raise ConfigError(f"{name}: there is no such setting (did you mean {close[0]}?)")
    return layer


def read_flags(flags: Mapping[str, object]) -> Layer:
    """Flags as the command line gives them: setting → text, None and () where not given."""
    layer = Layer()
    flag_of = {param.name: param.flag for param in PARAMS}
    for name, raw in flags.items():
        if raw is not None and raw != ():
            layer.values[name] = Given(list(raw) if isinstance(raw, tuple) else raw, flag_of[name])
    return layer


def read_options(options: Iterable[str]) -> Layer:
    """``-o a=1,b`` as mount(8) writes it; ``-o /path:fs.oss.endpoint=x`` is for the UFS shown at that path alone."""
    layer = Layer()
    for item in (item for text in options for item in text.split(",") if item):
        name, _, raw = item.partition("=")
        origin = f"-o {name}"
        if name in IGNORED_OPTIONS or name.startswith(("x-", "comment")):
            continue
        if name.startswith("/"):
            path, _, option = name.partition(":")
            if not option.startswith("fs.") or _SECRET_NAME.search(option):
                raise ConfigError(f"only driver options (fs.*, no secrets) can be given for one UFS, not {name}")
            layer.per_mount.setdefault(path.strip("/"), {})[option] = raw
        else:
            layer.set(name, raw, origin)
    return layer


def _known_driver_names() -> set[str]:
    return {name for param in PARAMS for name in param.jindo if name.startswith("fs.")}


def _understand(layer: Layer) -> Loaded:
    typed: dict[str, Any] = {}
    for param in PARAMS:
        given = layer.values.get(param.name)
        if given is not None:
            typed[param.name] = param.parse(given.raw, given.origin)
    return Loaded(
        settings=Settings(**typed),
        driver=dict(layer.driver),
        per_mount={path: dict(options) for path, options in layer.per_mount.items()},
        origins={name: given.origin for name, given in layer.values.items()},
    )
