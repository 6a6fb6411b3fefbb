"""Frozen dataclasses as JSON and back, strictly.  P: no I/O.

The dataclass is the schema: ``decode`` refuses unknown and missing fields, and values of another type, naming the
place (``tiers[0].quota_bytes: an integer is due, not '20G'``).  Used wherever two processes of one release speak JSON:
the settings a daemon is started with, and the control socket.

Understood types: bool, int, float, str, ``T | None``, ``list[T]``, ``tuple[T, ...]``, ``tuple[A, B]``, ``dict[str, T]``
and dataclasses of these.  A field with a default may be left out, so that a newer end can add one.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


class RecordError(ValueError):
    """JSON that does not fit the dataclass; the message names the field."""


def encode(value: object) -> Any:
    """Turn a dataclass (or a list, tuple, dict or scalar) into what ``json.dumps`` takes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    return value


def decode(kind: type[T], data: object, where: str = "") -> T:
    """Build a ``kind`` from parsed JSON; raises RecordError."""
    decoded: T = _decode(kind, data, where or "value")
    return decoded


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


_SCALARS: dict[Any, str] = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}


def _decode(kind: Any, data: object, where: str) -> Any:
    if kind in _SCALARS:
        return _decode_scalar(kind, data, where)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(typing.cast("type", kind), data, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if data is None and type(None) in arguments:
            return None
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _decode(inner, data, where)
    if origin in (list, tuple):
        return _decode_sequence(origin, arguments, data, where)
    if origin is dict:
        if not isinstance(data, dict):
            raise RecordError(f"{where}: an object is due, not {data!r:.40}")
        return {key: _decode(arguments[1], item, f"{where}.{key}") for key, item in data.items()}
    raise TypeError(f"{where}: records cannot hold {kind!r}")


def _decode_scalar(kind: Any, data: object, where: str) -> Any:
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    # bool is a subclass of int, but true is no number.
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise RecordError(f"{where}: {_SCALARS[kind]} is due, not {data!r:.40}")
    return data


def _decode_sequence(origin: Any, arguments: tuple[Any, ...], data: object, where: str) -> Any:
    if not isinstance(data, list):
        raise RecordError(f"{where}: a list is due, not {data!r:.40}")
    if origin is list or arguments[-1] is Ellipsis:
        return origin(_decode(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(data))
    if len(data) != len(arguments):
        raise RecordError(f"{where}: {len(arguments)} items are due, not {len(data)}")
    return tuple(
        _decode(argument, item, f"{where}[{index}]")
        for index, (argument, item) in enumerate(zip(arguments, data, strict=True))
    )


def _decode_dataclass(kind: type, data: object, where: str) -> Any:
    if not isinstance(data, dict):
        raise RecordError(f"{where}: an object is due, not {data!r:.40}")
    hints, values, missing = _hints(kind), {}, []
    for field in dataclasses.fields(kind):
        if field.name in data:
            values[field.name] = _decode(hints[field.name], data[field.name], f"{where}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            missing.append(field.name)
    unknown = sorted(set(data) - set(hints))
    if unknown or missing:
        told = [f"unknown: {', '.join(unknown)}"] * bool(unknown) + [f"missing: {', '.join(missing)}"] * bool(missing)
        raise RecordError(f"{where}: {'; '.join(told)}")
    return kind(**values)
