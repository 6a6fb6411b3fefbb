"""Pods: core/v1 as far as custom resources hold it.  P."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from jindopy.kube.api.core_containers import AppArmorProfile, Container, SeccompProfile, SeLinuxOptions, WindowsOptions
from jindopy.kube.api.core_references import LocalObjectReference, ResourceRequirements
from jindopy.kube.api.core_scheduling import Affinity, Toleration, TopologySpreadConstraint
from jindopy.kube.api.core_sources import Volume
from jindopy.kube.api.fields import Int32, Int64, Quantity, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class EphemeralContainer(Container):
    """A container added to a running pod to look into it."""

    target_container_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsOption:
    """An option of the resolver."""

    name: str | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsConfig:
    """How a pod resolves names."""

    nameservers: tuple[str, ...] = ()
    options: tuple[DnsOption, ...] = ()
    searches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAlias:
    """A line of a pod's hosts file."""

    hostnames: tuple[str, ...] = ()
    ip: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodOs:
    """The operating system of a pod."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessGate:
    """A condition without which a pod is not ready."""

    condition_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceClaimSource:
    """The claim, or the template it is made from."""

    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodResourceClaim:
    """A claim that containers of a pod may use."""

    name: str
    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None
    source: ResourceClaimSource | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulingGate:
    """Something a pod waits for before it is scheduled."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysctl:
    """A kernel setting of a pod."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSecurityContext:
    """What all containers of a pod may do."""

    app_armor_profile: AppArmorProfile | None = None
    fs_group: Int64 | None = None
    fs_group_change_policy: str | None = None
    run_as_group: Int64 | None = None
    run_as_non_root: bool | None = None
    run_as_user: Int64 | None = None
    se_linux_change_policy: str | None = None
    se_linux_options: SeLinuxOptions | None = None
    seccomp_profile: SeccompProfile | None = None
    supplemental_groups: tuple[Int64, ...] = ()
    supplemental_groups_policy: str | None = None
    sysctls: tuple[Sysctl, ...] = ()
    windows_options: WindowsOptions | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSpec:
    """A pod."""

    containers: tuple[Container, ...]
    active_deadline_seconds: Int64 | None = None
    affinity: Affinity | None = None
    automount_service_account_token: bool | None = None
    dns_config: DnsConfig | None = None
    dns_policy: str | None = None
    enable_service_links: bool | None = None
    ephemeral_containers: tuple[EphemeralContainer, ...] = ()
    host_aliases: tuple[HostAlias, ...] = ()
    host_ipc: Annotated[bool | None, Rule(wire="hostIPC")] = None
    host_network: bool | None = None
    host_pid: Annotated[bool | None, Rule(wire="hostPID")] = None
    host_users: bool | None = None
    hostname: str | None = None
    image_pull_secrets: tuple[LocalObjectReference, ...] = ()
    init_containers: tuple[Container, ...] = ()
    node_name: str | None = None
    node_selector: Annotated[Mapping[str, str], Rule(atomic=True)] = field(default_factory=dict)
    os: PodOs | None = None
    overhead: Mapping[str, Quantity] = field(default_factory=dict)
    preemption_policy: str | None = None
    priority: Int32 | None = None
    priority_class_name: str | None = None
    readiness_gates: tuple[ReadinessGate, ...] = ()
    resource_claims: Annotated[tuple[PodResourceClaim, ...], Rule(list_keys=("name",))] = ()
    resources: ResourceRequirements | None = None
    restart_policy: str | None = None
    runtime_class_name: str | None = None
    scheduler_name: str | None = None
    scheduling_gates: Annotated[tuple[SchedulingGate, ...], Rule(list_keys=("name",))] = ()
    security_context: PodSecurityContext | None = None
    service_account: str | None = None
    service_account_name: str | None = None
    set_hostname_as_fqdn: Annotated[bool | None, Rule(wire="setHostnameAsFQDN")] = None
    share_process_namespace: bool | None = None
    subdomain: str | None = None
    termination_grace_period_seconds: Int64 | None = None
    tolerations: tuple[Toleration, ...] = ()
    topology_spread_constraints: Annotated[
        tuple[TopologySpreadConstraint, ...], Rule(list_keys=("topologyKey", "whenUnsatisfiable"))
    ] = ()
    volumes: tuple[Volume, ...] = ()
