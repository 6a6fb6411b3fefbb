"""Models as structural OpenAPI schemas, the form the API server enforces.  P.

Structural means: every node says its type once, and nothing but ``properties``, ``items`` and ``additionalProperties``
leads further down.  The one exception the API server knows is a value that is a number or text, which is written as
``anyOf`` beside ``x-kubernetes-int-or-string``.  Properties are in alphabetical order, so that a field moved in its
class changes nothing.
"""

from __future__ import annotations

from typing import Any

from jindopy.kube.api.fields import Kind, Member, Shape, members

Schema = dict[str, Any]


def object_schema(model: type) -> Schema:
    """The schema of a model."""
    fields = sorted(members(model), key=lambda member: member.wire)
    schema: Schema = {"type": "object", "properties": {member.wire: _property(member) for member in fields}}
    required = [member.wire for member in fields if member.required]
    if required:
        schema["required"] = required
    return schema


def _property(member: Member) -> Schema:
    schema = shape_schema(member.shape)
    if member.defaulted:
        schema["default"] = member.default
    return {"description": member.doc, **schema} if member.doc else schema


def shape_schema(shape: Shape) -> Schema:
    """The schema of one value."""
    rule = shape.rule
    schema: Schema
    match shape.kind:
        case Kind.OBJECT:
            assert shape.model is not None
            schema = object_schema(shape.model)
        case Kind.MAP:
            schema = {"type": "object", "additionalProperties": shape_schema(shape.each)}
        case Kind.LIST:
            schema = {"type": "array", "items": shape_schema(shape.each)}
        case Kind.INT_OR_STRING:
            schema = {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
        case _:
            schema = {"type": shape.kind.value}
    limits = {
        "format": rule.format,
        "pattern": rule.pattern,
        "enum": list(shape.enum) or None,
        "minimum": rule.minimum,
        "minLength": rule.min_length,
        "minItems": rule.min_items,
    }
    schema |= {name: value for name, value in limits.items() if value is not None}
    if rule.list_keys:
        schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(rule.list_keys)}
    elif rule.atomic:
        schema["x-kubernetes-list-type" if shape.kind is Kind.LIST else "x-kubernetes-map-type"] = "atomic"
    return schema
