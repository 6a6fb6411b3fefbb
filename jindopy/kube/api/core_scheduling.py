"""Which nodes, and beside which pods: core/v1 as far as custom resources hold it.  P."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from jindopy.kube.api.fields import Int32, Int64, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelectorRequirement:
    """One condition on a label."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelector:
    """Objects by their labels; all conditions must hold."""

    atomic: ClassVar[bool] = True
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()
    match_labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSelectorRequirement:
    """One condition on a label or field of a node."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSelectorTerm:
    """Conditions that must all hold for a node."""

    atomic: ClassVar[bool] = True
    match_expressions: tuple[NodeSelectorRequirement, ...] = ()
    match_fields: tuple[NodeSelectorRequirement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSelector:
    """Terms of which one must hold for a node."""

    atomic: ClassVar[bool] = True
    node_selector_terms: tuple[NodeSelectorTerm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferredSchedulingTerm:
    """A term that counts in favour of a node."""

    preference: NodeSelectorTerm
    weight: Int32


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAffinity:
    """Which nodes a pod may or should run on."""

    preferred_during_scheduling_ignored_during_execution: tuple[PreferredSchedulingTerm, ...] = ()
    required_during_scheduling_ignored_during_execution: NodeSelector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodAffinityTerm:
    """The pods that another one wants to be near to, or far from."""

    topology_key: str
    label_selector: LabelSelector | None = None
    match_label_keys: Annotated[tuple[str, ...], Rule(atomic=True)] = ()
    mismatch_label_keys: Annotated[tuple[str, ...], Rule(atomic=True)] = ()
    namespace_selector: LabelSelector | None = None
    namespaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedPodAffinityTerm:
    """The same as a preference."""

    pod_affinity_term: PodAffinityTerm
    weight: Int32


@dataclass(frozen=True, slots=True, kw_only=True)
class PodAffinity:
    """Pods to be near to, or far from."""

    preferred_during_scheduling_ignored_during_execution: tuple[WeightedPodAffinityTerm, ...] = ()
    required_during_scheduling_ignored_during_execution: tuple[PodAffinityTerm, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Affinity:
    """Where a pod may or should run."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """A taint of nodes that does not keep a pod away."""

    effect: str | None = None
    key: str | None = None
    operator: str | None = None
    toleration_seconds: Int64 | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologySpreadConstraint:
    """How evenly pods are spread over zones or nodes."""

    max_skew: Int32
    topology_key: str
    when_unsatisfiable: str
    label_selector: LabelSelector | None = None
    match_label_keys: Annotated[tuple[str, ...], Rule(atomic=True)] = ()
    min_domains: Int32 | None = None
    node_affinity_policy: str | None = None
    node_taints_policy: str | None = None
