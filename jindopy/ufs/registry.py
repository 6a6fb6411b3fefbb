"""Scheme → driver: an explicit table, imported late, with a sentence to show when the import fails.

Drivers of other packages join through the entry-point group ``jindopy.ufs``: name = scheme, object = a callable
``(UfsUri, options, credentials) -> Driver``.  The table wins, so that no package can take over a scheme of ours.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import NamedTuple, Protocol, cast

from jindopy.base.errors import ConfigError
from jindopy.ufs import uri as uris
from jindopy.ufs.base import Driver
from jindopy.ufs.credentials import CredentialSource

ENTRY_POINT_GROUP = "jindopy.ufs"


class Opener(Protocol):
    """What a driver's module offers: makes a driver without asking the network anything."""

    def __call__(
        self, uri: uris.UfsUri, options: Mapping[str, str], credentials: CredentialSource | None, /
    ) -> Driver: ...


class _Known(NamedTuple):
    target: str
    hint: str


_TABLE: dict[str, _Known] = {
    "oss": _Known("jindopy.ufs.oss:open_uri", "it needs oss2: pip install 'oss2>=2.18,<3'"),
    "local": _Known("jindopy.ufs.local:open_uri", "it needs nothing but Linux: the installation is damaged"),
    "memory": _Known("jindopy.ufs.memory:open_uri", "it needs nothing: the installation is damaged"),
}


def schemes() -> list[str]:
    """Every scheme that can be opened, ours and strangers', sorted."""
    return sorted({*_TABLE, *(point.name for point in metadata.entry_points(group=ENTRY_POINT_GROUP))})


def without_effect(uri: str, names: Iterable[str]) -> set[str]:
    """Those of the ``fs.*`` options that nobody reads for this address: other storage's, or slips of the pen."""
    parsed = uris.parse(uri)
    if parsed.scheme not in _TABLE:
        return set()  # a stranger's driver may read anything
    from jindopy.ufs import layers, oss_options

    known = {f"fs.oss.{name}" for name in layers.NAMES}  # layers are around every driver
    if parsed.scheme == "oss":
        bucket = parsed.authority.partition(".")[0]
        known |= {f"{prefix}{name}" for name in oss_options.NAMES for prefix in ("fs.oss.", f"fs.oss.bucket.{bucket}.")}
    return {name for name in names if name.startswith("fs.")} - known


def open_driver(
    uri: str, options: Mapping[str, str] | None = None, credentials: CredentialSource | None = None
) -> tuple[Driver, bytes]:
    """Driver for ``uri`` and the prefix its mount is limited to.

    ``options`` are under Jindo's names (``fs.oss.endpoint``).  Without ``credentials`` a driver that needs some looks
    them up by the usual chain (``ufs.credentials``).  The driver comes bare: ``ufs.layers.wrap`` adds retry and
    limits.  Raises ConfigError.
    """
    parsed = uris.parse(uri)
    return _opener(parsed.scheme)(parsed, options or {}, credentials), parsed.prefix


def _opener(scheme: str) -> Opener:
    known = _TABLE.get(scheme)
    if known is not None:
        module, _, name = known.target.partition(":")
        try:
            return cast(Opener, getattr(importlib.import_module(module), name))
        except ImportError as error:
            raise ConfigError(f"the driver for {scheme}:// cannot be loaded ({error}); {known.hint}") from error
    for point in metadata.entry_points(group=ENTRY_POINT_GROUP, name=scheme):
        try:
            return cast(Opener, point.load())
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"the driver {point.value} for {scheme}:// cannot be loaded ({error})") from error
    raise ConfigError(f"no driver for {scheme}://; known are {', '.join(schemes())}")
