"""Mappings as YAML text, the same bytes on every machine and with every YAML library.  P.

Only what manifests are made of: mappings, lists, text, integers and truth values.  Text stands bare where no reader of
YAML could take it for anything else, and in single quotes otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Starts with a letter, or a dot and a letter, and holds neither ": " nor " #"; words YAML 1.1 takes for truth or null
# are told apart below.
_BARE = re.compile(r"\.?[A-Za-z][\w./\-]*(?: [\w./()\-][\w./()\-]*)*,?", re.ASCII)
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n", ".nan", ".inf"}


def to_yaml(value: Mapping[str, Any]) -> str:
    """One document."""
    return "\n".join(_mapping(value, "")) + "\n"


def _mapping(value: Mapping[str, Any], indent: str) -> list[str]:
    lines: list[str] = []
    for name, item in value.items():
        lines += _entry(f"{indent}{_scalar(name)}:", item, indent)
    return lines


def _entry(head: str, item: Any, indent: str) -> list[str]:
    if isinstance(item, Mapping) and item:
        return [head, *_mapping(item, indent + "  ")]
    if isinstance(item, (list, tuple)) and item:
        return [head, *_list(item, indent)]
    return [f"{head} {_scalar(item)}"]


def _list(items: list[Any] | tuple[Any, ...], indent: str) -> list[str]:
    lines: list[str] = []
    for item in items:
        if isinstance(item, Mapping) and item:
            first, *rest = _mapping(item, indent + "  ")
            lines += [f"{indent}- {first.lstrip()}", *rest]
        elif isinstance(item, (list, tuple)) and item:
            raise TypeError("a list within a list: no manifest has one")
        else:
            lines.append(f"{indent}- {_scalar(item)}")
    return lines


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        if _BARE.fullmatch(value) and value.casefold() not in _WORDS:
            return value
        if not value.isprintable():
            raise ValueError("text with control characters or line breaks: no manifest has it")
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, (list, tuple)):
        return "[]"
    raise TypeError(f"no YAML for {type(value).__name__}")
