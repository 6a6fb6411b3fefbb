"""Kinds as CustomResourceDefinitions, and those as text.  P."""

from __future__ import annotations

from typing import Any

from jindopy.kube.api import names
from jindopy.kube.api.fields import by_wire
from jindopy.kube.api.kinds import Column, ResourceKind
from jindopy.kube.api.schema import Schema, shape_schema
from jindopy.kube.api.yamltext import to_yaml


def definition(kind: ResourceKind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    version: dict[str, Any] = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
        "schema": {"openAPIV3Schema": _schema(kind)},
        "subresources": _subresources(kind),
    }
    if not kind.columns:
        del version["additionalPrinterColumns"]
    singular = kind.kind.lower()
    naming = {"kind": kind.kind, "listKind": f"{kind.kind}List", "plural": kind.plural, "singular": singular}
    lists = {"shortNames": list(kind.short_names), "categories": list(kind.categories)}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "names": naming | {name: values for name, values in lists.items() if values},
            "scope": kind.scope,
            "versions": [version],
        },
    }


def _schema(kind: ResourceKind) -> Schema:
    known = by_wire(kind.model)
    return {
        "type": "object",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {"description": known["spec"].doc, **shape_schema(known["spec"].shape)},
            "status": {"description": known["status"].doc, **shape_schema(known["status"].shape)},
        },
    }


def _column(column: Column) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return shown | ({"priority": column.priority} if column.priority else {})


def _subresources(kind: ResourceKind) -> dict[str, Any]:
    subresources: dict[str, Any] = {"status": {}}
    if kind.scale:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.currentWorkerNumberScheduled",
            # Without it a HorizontalPodAutoscaler cannot tell whose pods it looks at; Fluid's JindoRuntime lacks it.
            "labelSelectorPath": ".status.selector",
        }
    return subresources


def manifest(kind: ResourceKind) -> str:
    """The file of a kind."""
    return "# Made by python -m jindopy.kube.api from the classes there.\n" + to_yaml(definition(kind))


def file_name(kind: ResourceKind) -> str:
    """``data.fluid.io_datasets.yaml``."""
    return f"{names.GROUP}_{kind.plural}.yaml"
