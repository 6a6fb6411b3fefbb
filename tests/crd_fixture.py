"""Schemas as lists of fields, in the form of tests/data/fluid, and what the API server does before it judges."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

DATA = Path(__file__).parent / "data/fluid"


@dataclass
class Listing:
    """One file of tests/data/fluid: header lines and fields."""

    header: dict[str, str] = field(default_factory=dict)
    columns: list[tuple[str, str, str, int]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def listing(plural: str) -> Listing:
    read = Listing()
    head, _, body = (DATA / f"{plural}.txt").read_text().partition("\n\n")
    for line in head.splitlines():
        name, _, value = line.partition(":")
        if name == "column":
            title, kind, path, priority = value.strip().split(" | ")
            read.columns.append((title, kind, path, int(priority.removeprefix("priority="))))
        else:
            read.header[name] = value.strip()
    read.lines = body.strip().splitlines()
    return read


@cache
def core_types() -> dict[str, list[str]]:
    """Section → lines of core-v1.txt; an empty path stands for the type itself."""
    sections: dict[str, list[str]] = {}
    for block in (DATA / "core-v1.txt").read_text().split("\n\n")[1:]:
        head, *lines = block.strip().splitlines()
        name, *rest = head.removeprefix("type: ").split()
        sections[name] = [" ".join([": object", *rest]), *lines]
    return sections


def expanded(lines: list[str]) -> set[str]:
    """Lines with every ``core/v1 X`` replaced by the lines of X."""
    out: set[str] = set()
    for line in lines:
        path, _, what = line.partition(": ")
        before, found, after = what.partition("core/v1 ")
        if not found:
            out.add(canonical(line))
            continue
        name, *rest = after.split(" ")
        head, *fields = core_types()[name]
        of_type = head.removeprefix(": object").strip()
        if before == "[]":
            out.add(canonical(f"{path}: []object {' '.join(rest)}"))
            path += "[]"
            if of_type:
                out.add(f"{path}: object {of_type}")
        else:
            out.add(canonical(f"{path}: object {' '.join([*rest, of_type])}"))
        out |= expanded([f"{path}.{one}" for one in fields])
    return out


def canonical(line: str) -> str:
    """The words after the type in alphabetical order; ``enum=A||B`` and the like stay one word."""
    path, _, what = line.partition(": ")
    kind, *rest = what.split(" ")
    return f"{path}: {' '.join([kind, *sorted(word for word in rest if word)])}"


def fields(schema: dict[str, Any], path: str = "", required: bool = False) -> set[str]:
    """A schema as canonical lines."""
    out: set[str] = set()
    kind, words = _kind(schema), _words(schema)
    if schema.get("type") == "array":
        inner = schema["items"]
        if _words(inner) and _kind(inner) == "object":
            out.add(canonical(f"{path}[]: object {' '.join(_words(inner))}"))
        out |= _below(inner, f"{path}[]")
    out |= _below(schema, path)
    if path:
        out.add(canonical(f"{path}: {' '.join([kind, *words, *(['required'] if required else [])])}"))
    return out


def _below(schema: dict[str, Any], path: str) -> set[str]:
    out: set[str] = set()
    for name, inner in schema.get("properties", {}).items():
        out |= fields(inner, f"{path}.{name}" if path else name, name in schema.get("required", ()))
    return out


def _kind(schema: dict[str, Any]) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity" if "pattern" in schema else "int-or-string"
    if schema["type"] == "array":
        return "[]" + _kind(schema["items"])
    if schema["type"] == "object" and "additionalProperties" in schema:
        return "map[string]" + _kind(schema["additionalProperties"])
    return str(schema["type"])


def _words(schema: dict[str, Any]) -> list[str]:
    words = []
    for word, key in (("default", "default"), ("format", "format"), ("min", "minimum"), ("minLength", "minLength")):
        if key in schema:
            words.append(f"{word}={schema[key]}")
    if "minItems" in schema:
        words.append(f"minItems={schema['minItems']}")
    if "enum" in schema:
        words.append("enum=" + "|".join(schema["enum"]))
    if "pattern" in schema and not schema.get("x-kubernetes-int-or-string"):
        words.append(f"pattern={schema['pattern']}")
    if "x-kubernetes-list-map-keys" in schema:
        words.append("keys=" + ",".join(schema["x-kubernetes-list-map-keys"]))
    elif "atomic" in (schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-map-type")):
        words.append("atomic")
    return words


def admitted(schema: dict[str, Any], value: Any) -> Any:
    """What the API server makes of ``value`` before it validates: no unknown fields, no nulls, defaults filled in."""
    if isinstance(value, list):
        return [admitted(schema["items"], item) for item in value] if "items" in schema else value
    if not isinstance(value, dict) or schema.get("type") != "object":
        return value
    if "additionalProperties" in schema:
        return {
            name: admitted(schema["additionalProperties"], item) for name, item in value.items() if item is not None
        }
    if "properties" not in schema:
        return value
    known = schema["properties"]
    kept = {name: admitted(known[name], value[name]) for name in known if value.get(name) is not None}
    missing = {name: one["default"] for name, one in known.items() if "default" in one and name not in kept}
    return kept | missing


def errors(schema: dict[str, Any], value: Any) -> list[str]:
    """What the API server would say against ``value``."""
    validator = jsonschema.Draft202012Validator(schema)
    found = validator.iter_errors(admitted(schema, value))
    return [f"{'.'.join(str(part) for part in error.absolute_path)}: {error.message}" for error in found]
