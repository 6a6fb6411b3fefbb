"""How a dataclass says what a custom resource accepts, and how schema, parser and writer read it.  P.

A model is a frozen dataclass whose annotations carry everything a field needs:

    mount_point: Annotated[str, Rule(min_length=5), "Address of the storage."]      # no default: required
    policy: Annotated[Literal["Once", "Cron"], DEFAULTED, "..."] = "Once"           # the API server fills it in
    replicas: Annotated[Int32 | None, "..."] = None

A plain string in ``Annotated`` is the description, a ``Rule`` what values must keep to; several are merged.  Names are
snake_case here and camelCase on the wire, ``Rule(wire=...)`` where that does not lead there (``volumeID``).  ``tuple[X,
...]`` is a list, ``Mapping[str, X]`` a map, another model an object; absent is None where absent and empty differ, else
the empty value.

Fields where users may write keys in plain text (options, environment, annotations) have ``repr=False``: whoever logs a
model logs no secret.

``members(model)`` turns that into ``Member``s with a ``Shape`` each, once per model.  Models never contain themselves,
so whatever follows shapes ends at the depth of the deepest model, whatever the input.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints


@dataclass(frozen=True, slots=True)
class Rule:
    """What a field's values must keep to, and how its schema differs from what its type says."""

    wire: str | None = None
    format: str | None = None
    pattern: str | None = None
    min_length: int | None = None
    minimum: int | None = None
    min_items: int | None = None
    atomic: bool | None = None  # server-side apply replaces the list or map as a whole
    list_keys: tuple[str, ...] | None = None  # the list is a map by these fields
    required: bool | None = None  # although the class has a default: a status is always written whole
    defaulted: bool | None = None  # the class's default is the schema's, so the API server writes it down

    def merged(self, other: Rule) -> Rule:
        """Both together; ``other`` wins."""
        given = {name: value for name in RULE_NAMES if (value := getattr(other, name)) is not None}
        return dataclasses.replace(self, **given)


RULE_NAMES = tuple(field.name for field in dataclasses.fields(Rule))
NO_RULE = Rule()
REQUIRED = Rule(required=True)
DEFAULTED = Rule(defaulted=True)
ATOMIC = Rule(atomic=True)

_NUMBER = r"(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
_SUFFIX = rf"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?{_NUMBER}))"
_QUANTITY = rf"(\+|-)?{_NUMBER}{_SUFFIX}"
QUANTITY_PATTERN = rf"^{_QUANTITY}?$"
# Fluid's own: each but the last needs a suffix ("100Gi,200Gi").
QUANTITY_LIST_PATTERN = rf"^({_QUANTITY},)+({_QUANTITY}?)$"

Int32 = Annotated[int, Rule(format="int32")]
Int64 = Annotated[int, Rule(format="int64")]
Time = Annotated[str, Rule(format="date-time")]
IntOrString = int | str
Quantity = Annotated[int | str, Rule(pattern=QUANTITY_PATTERN)]


class Kind(enum.Enum):
    """What a value is, in the words of JSON."""

    STRING = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    INT_OR_STRING = "int-or-string"
    LIST = "array"
    MAP = "map"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class Shape:
    """What one value may be."""

    kind: Kind
    rule: Rule = NO_RULE
    enum: tuple[str, ...] = ()
    items: Shape | None = None  # of a list, or the values of a map
    model: type | None = None

    @property
    def each(self) -> Shape:
        """The shape of what a list or map holds."""
        assert self.items is not None
        return self.items


@dataclass(frozen=True, slots=True)
class Member:
    """One field of a model."""

    attribute: str
    wire: str
    shape: Shape
    required: bool
    doc: str
    default: Any = dataclasses.MISSING  # a value; MISSING only where the class demands one

    @property
    def defaulted(self) -> bool:
        """Whether the schema has the default too."""
        return bool(self.shape.rule.defaulted)


def wire_name(attribute: str) -> str:
    """``mount_point`` → ``mountPoint``."""
    head, *rest = attribute.split("_")
    return head + "".join(part.capitalize() for part in rest)


_BY_WIRE: dict[type, Mapping[str, Member]] = {}


def by_wire(model: type) -> Mapping[str, Member]:
    """The fields of a model by the names users write, in the order of the class; found out once per model."""
    known = _BY_WIRE.get(model)
    if known is None:
        hints = get_type_hints(model, include_extras=True)
        fields = [_member(field, hints[field.name]) for field in dataclasses.fields(cast(Any, model))]
        known = _BY_WIRE[model] = {member.wire: member for member in fields}
    return known


def members(model: type) -> tuple[Member, ...]:
    """The fields of a model in the order of the class."""
    return tuple(by_wire(model).values())


def _member(field: dataclasses.Field[Any], hint: object) -> Member:
    shape, doc = _shape(hint)
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    rule = shape.rule
    required = default is dataclasses.MISSING or bool(rule.required)
    return Member(field.name, rule.wire or wire_name(field.name), shape, required, doc, default)


def _shape(hint: object) -> tuple[Shape, str]:
    rule, doc = NO_RULE, ""
    while get_origin(hint) in (Annotated, Union, types.UnionType):
        if get_origin(hint) is Annotated:
            hint, *extras = get_args(hint)
            for extra in extras:
                if isinstance(extra, Rule):
                    rule = rule.merged(extra)
                elif isinstance(extra, str):
                    doc = doc or extra
        else:
            choices = [choice for choice in get_args(hint) if choice is not type(None)]
            if set(choices) == {int, str}:
                return Shape(Kind.INT_OR_STRING, rule), doc
            (hint,) = choices
            # What stands outside the union speaks for the field, and so wins over what its type brings along.
            inner, inner_doc = _shape(hint)
            return dataclasses.replace(inner, rule=inner.rule.merged(rule)), doc or inner_doc
    return _plain(hint, rule), doc


_SCALARS = {str: Kind.STRING, int: Kind.INTEGER, bool: Kind.BOOLEAN}


def _plain(hint: object, rule: Rule) -> Shape:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return Shape(Kind.STRING, rule, enum=args)
    if origin is tuple:
        return Shape(Kind.LIST, rule, items=_shape(args[0])[0])
    if origin is Mapping:
        return Shape(Kind.MAP, rule, items=_shape(args[1])[0])
    if isinstance(hint, type):
        kind = _SCALARS.get(hint)
        if kind is not None:
            return Shape(kind, rule)
        if dataclasses.is_dataclass(hint):
            if getattr(hint, "atomic", False):
                rule = ATOMIC.merged(rule)
            return Shape(Kind.OBJECT, rule, model=hint)
    raise TypeError(f"no schema for {hint!r}")
