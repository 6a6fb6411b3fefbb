"""References to other objects and amounts of resources: core/v1 as far as custom resources hold it.  P."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from jindopy.kube.api.fields import Int32, Quantity, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalObjectReference:
    """An object of the same namespace, by name."""

    atomic: ClassVar[bool] = True
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySelector:
    """One key of a ConfigMap or Secret of the same namespace."""

    atomic: ClassVar[bool] = True
    key: str
    name: str | None = None
    optional: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSelector:
    """A field of the pod itself."""

    atomic: ClassVar[bool] = True
    field_path: str
    api_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceFieldSelector:
    """A limit or request of a container."""

    atomic: ClassVar[bool] = True
    resource: str
    container_name: str | None = None
    divisor: Quantity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyToPath:
    """The file that a key becomes."""

    key: str
    path: str
    mode: Int32 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceClaim:
    """A claim of the pod that a container uses."""

    name: str
    request: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRequirements:
    """What a container may use at most, and what it is promised."""

    claims: Annotated[tuple[ResourceClaim, ...], Rule(list_keys=("name",))] = ()
    limits: Mapping[str, Quantity] = field(default_factory=dict)
    requests: Mapping[str, Quantity] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeResourceRequirements:
    """How much a claim asks for."""

    limits: Mapping[str, Quantity] = field(default_factory=dict)
    requests: Mapping[str, Quantity] = field(default_factory=dict)
