"""Sizes, durations and ratios as people write them, both ways.

Sizes: ``k M G T`` and ``KB MB GB TB`` as well as ``Ki Mi Gi`` are accepted.  Decimal (``MB``, ``kB``) is powers of
1000, binary (``Mi``, ``MiB``) powers of 1024, and a bare letter (``20G``) is binary, as JindoRuntime and most caches
mean it.
"""

from __future__ import annotations

import re

from jindopy.base.errors import ConfigError

_SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([kKmMgGtTpP]?)(i?)([bB]?)\s*$")
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_DURATION = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*(ns|us|ms|s|m|min|h|d)?\s*$")
_SECONDS = {None: 1.0, "ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str) -> int:
    """``"20G"`` → bytes; raises ConfigError naming what is accepted."""
    match = _SIZE.match(text)
    if match is None:
        raise ConfigError(f"not a size: {text!r} (write 512M, 20GiB, 100MB or plain bytes)")
    number, letter, binary, byte = match.groups()
    base = 1000 if byte and letter and not binary else 1024
    power: int = _POWER[letter.lower()]
    return round(float(number) * float(base**power))


def parse_rate(text: str) -> int:
    """``"100MB/s"`` → bytes per second; the ``/s`` may be left out."""
    return parse_size(text.removesuffix("/s"))


def parse_duration(text: str) -> float:
    """``"20ms"`` → seconds; a bare number is seconds."""
    match = _DURATION.match(text)
    if match is None:
        raise ConfigError(f"not a duration: {text!r} (write 500ms, 60s, 5m or 1h)")
    return float(match.group(1)) * _SECONDS[match.group(2)]


def format_size(size_bytes: float) -> str:
    """Bytes for people: ``210.0 MiB``, ``812 B``."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} PiB"


def format_fluid_size(size_bytes: int) -> str:
    """Bytes as Fluid's status fields write them: ``210.00MiB``, ``0.00B``."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024:
            return f"{value:.2f}{unit}"
        value /= 1024
    return f"{value:.2f}PiB"


def format_rate(bytes_per_second: float) -> str:
    """``11.9 MB/s``: rates are decimal, as links are sold."""
    value = float(bytes_per_second)
    for unit in ("B/s", "kB/s", "MB/s"):
        if abs(value) < 1000:
            return f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB/s"


def format_duration(seconds: float) -> str:
    """``0.12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def format_percent(part: float, whole: float) -> str:
    """``42.0%``; an empty whole is complete."""
    return f"{100.0 * part / whole:.1f}%" if whole else "100.0%"
