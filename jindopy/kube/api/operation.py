"""What all operations on a Dataset have in common: when they run, after what, how far they are.  P."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from jindopy.kube.api.core_scheduling import NodeAffinity
from jindopy.kube.api.fields import REQUIRED, Int32, Time

Policy = Literal["Once", "Cron", "OnEvent"]
OperationKind = Literal["DataLoad", "DataBackup", "DataMigrate", "DataProcess"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationReference:
    """An operation."""

    kind: Annotated[OperationKind, "Its kind."]
    name: Annotated[str, "Its name."]
    api_version: Annotated[str, "Its version of the API."] = ""
    namespace: Annotated[str, "Its namespace; empty means the same one."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """A label of nodes that counts in a node's favour."""

    name: Annotated[str, "Name of the label."]
    weight: Annotated[Int32, "How much it counts."]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A label that nodes must have."""

    name: Annotated[str, "Name of the label."]


@dataclass(frozen=True, slots=True, kw_only=True)
class AffinityStrategy:
    """On which nodes to run, seen from where an operation before ran."""

    depend_on: Annotated[OperationReference | None, "The operation before, if it is not the one to wait for."] = None
    policy: Annotated[str, "Require, Prefer or nothing."] = ""
    prefers: Annotated[tuple[Preference, ...], "Labels in which nodes should be like those of before."] = ()
    requires: Annotated[tuple[Requirement, ...], "Labels in which nodes must be like those of before."] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAfter(OperationReference):
    """The operation to wait for."""

    affinity_strategy: Annotated[AffinityStrategy | None, "On which nodes to run, seen from where it ran."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationCondition:
    """How an operation ended."""

    status: Annotated[str, "True, False or Unknown."]
    type: Annotated[str, "Complete or Failed."]
    last_probe_time: Annotated[Time | None, "When this was written."] = None
    last_transition_time: Annotated[Time | None, "When status changed."] = None
    message: Annotated[str, "Why, for people."] = ""
    reason: Annotated[str, "Why, in one word."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingStatus:
    """What an operation waits for."""

    operation_complete: Annotated[bool | None, "Another operation's end."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationStatus:
    """How far an operation is; the required fields are written even where they are empty."""

    conditions: Annotated[tuple[OperationCondition, ...], REQUIRED, "How it ended."] = ()
    duration: Annotated[str, REQUIRED, "How long it took, or Unfinished."] = ""
    infos: Annotated[Mapping[str, str], "What else is to be known, by name."] = field(default_factory=dict)
    last_schedule_time: Annotated[Time | None, "When it was last started by its schedule."] = None
    last_successful_time: Annotated[Time | None, "When it last ended well."] = None
    node_affinity: Annotated[NodeAffinity | None, "Where it ran, for operations after it."] = None
    phase: Annotated[str, REQUIRED, "Pending, Executing, Complete or Failed."] = ""
    waiting_for: Annotated[WaitingStatus | None, "What it waits for."] = None
