"""What every object has: who it is and whom it belongs to.  P.

The API server checks metadata itself, so no schema of ours speaks of it, and what is not listed here (``managedFields``
and the like) is passed over in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from jindopy.kube.api.fields import REQUIRED, Int64, Time
from jindopy.kube.api.names import API_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerReference:
    """The object with which this one goes."""

    api_version: str
    kind: str
    name: str
    uid: str
    block_owner_deletion: bool | None = None
    controller: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMeta:
    """Identity, labels and lifetime of an object."""

    open_ended: ClassVar[bool] = True
    annotations: Mapping[str, str] = field(default_factory=dict, repr=False)
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    finalizers: tuple[str, ...] = ()
    generate_name: str = ""
    generation: Int64 | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    namespace: str = ""
    owner_references: tuple[OwnerReference, ...] = ()
    resource_version: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What all kinds of this group begin with; each adds its kind, spec and status."""

    api_version: Annotated[Literal["data.fluid.io/v1alpha1"], REQUIRED] = API_VERSION
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
