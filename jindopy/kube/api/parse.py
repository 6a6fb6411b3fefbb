"""Mappings, as YAML or the API server gives them, into models and back.  P.

``parse`` follows the model, never the input: it takes what the model knows, so its depth is the model's, and reports
the rest.  Everything wrong is collected and raised at once as ``ResourceInvalid``, each problem with the path of its
field and what would be right.  Fields no model knows are no error, since the API server drops them with a warning too:
they come back as ``Parsed.warnings`` with the name that may have been meant.  A null is an absent field, as there.

Messages quote only values of fields that cannot hold a secret: numbers, choices and quantities.  Text is never quoted,
for keys are sometimes written into options.  Quotes are short, and at most ``PROBLEMS_MAX`` problems are told.

``to_mapping`` leaves out what is at its empty default; what is required or has a default in the schema is always there.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from jindopy.base.errors import UsageError
from jindopy.kube.api.fields import Kind, Member, Shape, by_wire, members

T = TypeVar("T")

PROBLEMS_MAX = 50  # a list of a million wrong items needs no million lines
_QUOTE_MAX = 40  # characters of a value or name in a message
_SAFE_INTEGER = 1 << 64  # beyond it an integer is not quoted: Python refuses to print those of thousands of digits
_RANGES = {
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    None: (-(1 << 63), (1 << 63) - 1),
}
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Problem:
    """Where something is wrong, and what would be right there."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ResourceInvalid(UsageError):
    """A custom resource that cannot be used, with everything that is wrong in it."""

    def __init__(self, what: str, problems: tuple[Problem, ...], left_out: int) -> None:
        self.problems = problems
        lines = [str(problem) for problem in problems]
        if left_out:
            lines.append(f"and {left_out} more")
        super().__init__(f"{what}: " + "; ".join(lines))


@dataclass(frozen=True, slots=True)
class Parsed(Generic[T]):
    """A model, and what of the input it has no place for."""

    resource: T
    warnings: tuple[Problem, ...]


class _Wrong:
    """In place of a value that has been reported."""


_WRONG = _Wrong()


def parse(model: type[T], source: object, what: str = "") -> Parsed[T]:
    """``source`` as a ``model``; ResourceInvalid with every problem when it is none."""
    reader = _Reader()
    value = reader.read_object(model, source, "")
    if reader.problems:
        left_out = reader.problem_count - len(reader.problems)
        raise ResourceInvalid(what or model.__name__, tuple(reader.problems), left_out)
    return Parsed(value, tuple(reader.warnings))


class _Reader:
    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.problem_count = 0
        self.warnings: list[Problem] = []

    def wrong(self, path: str, message: str) -> _Wrong:
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(path, message))
        return _WRONG

    def read_value(self, shape: Shape, value: object, path: str) -> Any:
        if shape.kind is Kind.OBJECT:
            assert shape.model is not None
            return self.read_object(shape.model, value, path)
        return _READERS[shape.kind](self, shape, value, path)

    def read_object(self, model: type, value: object, path: str) -> Any:
        if not isinstance(value, Mapping):
            return self.wrong(path, f"expected a mapping, got {_kind_of(value)}")
        known = by_wire(model)
        self.unknown(model, value, path)
        arguments: dict[str, Any] = {}
        for wire, member in known.items():
            given = value.get(wire)
            if given is not None:
                arguments[member.attribute] = self.read_value(member.shape, given, _joined(path, wire))
            elif member.required:
                self.wrong(_joined(path, wire), f"required, expected {_expected(member.shape)}")
                arguments[member.attribute] = _WRONG
        if any(argument is _WRONG for argument in arguments.values()):
            return _WRONG
        return model(**arguments)

    def unknown(self, model: type, value: Mapping[Any, object], path: str) -> None:
        known = by_wire(model)
        if getattr(model, "open_ended", False):
            return
        for name in value:
            if len(self.warnings) >= PROBLEMS_MAX:
                return
            if not isinstance(name, str):
                self.warnings.append(Problem(path, f"the name of a field is text, not {_kind_of(name)}"))
            elif name not in known:
                meant = _meant(name[:_QUOTE_MAX], tuple(known))
                hint = f"; did you mean {meant}?" if meant else ""
                self.warnings.append(Problem(_joined(path, _cut(name)), f"unknown field, ignored{hint}"))

    def read_map(self, shape: Shape, value: object, path: str) -> Any:
        if not isinstance(value, Mapping):
            return self.wrong(path, f"expected {_expected(shape)}, got {_kind_of(value)}")
        read: dict[str, Any] = {}
        for name, item in value.items():
            if not isinstance(name, str):
                self.wrong(path, f"the name of an entry is text, not {_kind_of(name)}")
            elif item is not None:
                read[name] = self.read_value(shape.each, item, f"{path}[{_cut(name)}]")
        return read if all(item is not _WRONG for item in read.values()) else _WRONG

    def read_list(self, shape: Shape, value: object, path: str) -> Any:
        if not isinstance(value, (list, tuple)):
            return self.wrong(path, f"expected {_expected(shape)}, got {_kind_of(value)}")
        least = shape.rule.min_items
        if least is not None and len(value) < least:
            return self.wrong(path, f"expected {_expected(shape)}, got {len(value)}")
        read = [self.read_value(shape.each, item, f"{path}[{index}]") for index, item in enumerate(value)]
        return tuple(read) if all(item is not _WRONG for item in read) else _WRONG

    def read_integer(self, shape: Shape, value: object, path: str) -> Any:
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # 2.0 is an integer in JSON
        low, high = _RANGES[shape.rule.format]
        if shape.rule.minimum is not None:
            low = shape.rule.minimum
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            return self.wrong(path, f"expected {_expected(shape)}, got {_shown(value)}")
        if value > high:
            return self.wrong(path, f"expected {_expected(shape)} of at most {high}, got {_shown(value)}")
        return value

    def read_int_or_string(self, shape: Shape, value: object, path: str) -> Any:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, str):
            if _keeps_to(shape.rule.pattern, value):
                return value
        elif isinstance(value, int) and not isinstance(value, bool) and abs(value) < _SAFE_INTEGER:
            return value
        # cpu: 0.5 is a quantity in a pod, which the API server decodes itself, and none in a custom resource.
        quotes = _quotes_help(value) if isinstance(value, float) else ""
        return self.wrong(path, f"expected {_expected(shape)}, got {_shown(value)}{quotes}")

    def read_boolean(self, shape: Shape, value: object, path: str) -> Any:
        return (
            value if isinstance(value, bool) else self.wrong(path, f"expected {_expected(shape)}, got {_shown(value)}")
        )

    def read_string(self, shape: Shape, value: object, path: str) -> Any:
        if not isinstance(value, str):
            return self.wrong(path, f"expected {_expected(shape)}, got {_kind_of(value)}{_quotes_help(value)}")
        rule = shape.rule
        if shape.enum and value not in shape.enum:
            return self.wrong(path, f"expected {_expected(shape)}, got {_shown(value)}")
        if rule.min_length is not None and len(value) < rule.min_length:
            return self.wrong(path, f"expected {_expected(shape)}, got {len(value)}")
        if not _keeps_to(rule.pattern, value) or (rule.format == "date-time" and not _TIME.fullmatch(value)):
            return self.wrong(path, f"expected {_expected(shape)}, got {_shown(value)}")
        return value


_READERS: dict[Kind, Callable[[_Reader, Shape, object, str], Any]] = {
    Kind.MAP: _Reader.read_map,
    Kind.LIST: _Reader.read_list,
    Kind.BOOLEAN: _Reader.read_boolean,
    Kind.INTEGER: _Reader.read_integer,
    Kind.INT_OR_STRING: _Reader.read_int_or_string,
    Kind.STRING: _Reader.read_string,
}


def _keeps_to(pattern: str | None, text: str) -> bool:
    return pattern is None or _compiled(pattern).search(text) is not None


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    # The API server's "$" is the end of the text; Python's also matches before a last line feed.
    return re.compile(pattern.removesuffix("$") + r"\Z", re.ASCII)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _expected(shape: Shape) -> str:
    rule = shape.rule
    if shape.enum:
        return "one of " + ", ".join(repr(choice) for choice in shape.enum)
    if rule.pattern:
        return "a quantity such as 100Gi" if shape.kind is Kind.INT_OR_STRING else "quantities such as 100Gi,50Gi"
    if rule.format == "date-time":
        return "a time such as 2006-01-02T15:04:05Z"
    text = _EXPECTED[shape.kind]
    if rule.minimum is not None:
        return f"{text} >= {rule.minimum}"
    if rule.min_length:
        return f"{text} of {rule.min_length} or more characters"
    return f"{text} of {rule.min_items} or more" if rule.min_items else text


_EXPECTED = {
    Kind.STRING: "a string",
    Kind.INTEGER: "an integer",
    Kind.BOOLEAN: "true or false",
    Kind.INT_OR_STRING: "a number or a string",
    Kind.LIST: "a list",
    Kind.MAP: "a mapping",
    Kind.OBJECT: "a mapping",
}
_NAMES = {str: "a string", bool: "true or false", int: "an integer", float: "a number", type(None): "null"}


def _kind_of(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return _NAMES.get(type(value), f"a value of type {_cut(type(value).__name__)}")


def _quotes_help(value: object) -> str:
    return " (put it in quotes)" if isinstance(value, (bool, int, float)) else ""


def _shown(value: object) -> str:
    """A value that is no secret, short; of containers only what they are."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(_cut(value))
    if isinstance(value, int):
        return str(value) if abs(value) < _SAFE_INTEGER else "an integer of more than 64 bits"
    return str(value) if isinstance(value, float) else _kind_of(value)


def _cut(text: str) -> str:
    return text if len(text) <= _QUOTE_MAX else text[: _QUOTE_MAX - 3] + "..."


@functools.lru_cache(maxsize=256)
def _meant(name: str, known: tuple[str, ...]) -> str:
    for candidate in known:
        if candidate.casefold() == name.casefold():
            return candidate
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return close[0] if close else ""


def to_mapping(model: object) -> dict[str, Any]:
    """A model as the mapping to send or write."""
    written: dict[str, Any] = {}
    for member in members(type(model)):
        value = getattr(model, member.attribute)
        if value is not None and _is_written(member, value):
            written[member.wire] = _plain(member.shape, value)
    return written


def _is_written(member: Member, value: object) -> bool:
    if member.required or member.defaulted:
        return True
    return member.default is None or value != member.default


def _plain(shape: Shape, value: Any) -> Any:
    if shape.kind is Kind.OBJECT:
        return to_mapping(value)
    if shape.kind is Kind.LIST:
        return [_plain(shape.each, item) for item in value]
    if shape.kind is Kind.MAP:
        return {name: _plain(shape.each, item) for name, item in value.items()}
    return value
