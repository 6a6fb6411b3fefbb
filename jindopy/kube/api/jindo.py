"""JindoRuntime: masters, workers and FUSE pods that cache a Dataset.  P."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from jindopy.kube.api.core_containers import VolumeMount
from jindopy.kube.api.core_references import LocalObjectReference, ResourceRequirements
from jindopy.kube.api.core_scheduling import Toleration
from jindopy.kube.api.core_sources import Volume
from jindopy.kube.api.fields import REQUIRED, Int32, Rule
from jindopy.kube.api.meta import Resource
from jindopy.kube.api.runtime import RuntimeStatus
from jindopy.kube.api.shared import CleanCachePolicy, ImageVersion, Network, PodMetadata, TieredStore, User


@dataclass(frozen=True, slots=True, kw_only=True)
class JindoComponent:
    """The masters, or the workers."""

    disabled: Annotated[bool, "Run none."] = False
    env: Annotated[Mapping[str, str], "Environment of the container."] = field(default_factory=dict, repr=False)
    image_pull_secrets: Annotated[tuple[LocalObjectReference, ...], "Secrets for pulling the image."] = ()
    labels: Annotated[Mapping[str, str], "Labels of the pods."] = field(default_factory=dict)
    node_selector: Annotated[Mapping[str, str], "Labels of the nodes to run on."] = field(default_factory=dict)
    pod_metadata: Annotated[PodMetadata | None, "Labels and annotations of the pods."] = None
    ports: Annotated[Mapping[str, int], "Ports by name."] = field(default_factory=dict)
    properties: Annotated[Mapping[str, str], "Settings in Jindo's names."] = field(default_factory=dict, repr=False)
    replicas: Annotated[Int32 | None, Rule(minimum=1), "How many; three masters are highly available."] = None
    resources: Annotated[ResourceRequirements | None, "Limits and requests."] = None
    tolerations: Annotated[tuple[Toleration, ...], "Taints of nodes that do not keep the pods away."] = ()
    volume_mounts: Annotated[tuple[VolumeMount, ...], "Volumes of spec.volumes within the container."] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseMetrics:
    """Figures of the FUSE pods."""

    enabled: Annotated[bool, "Offer them."] = False
    scrape_target: Annotated[str, "Which pods: MountPod, Sidecar, All or None, comma-separated."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JindoFuse:
    """The pods that mount on every node."""

    args: Annotated[tuple[str, ...], "Arguments of the mount, in place of the usual ones."] = ()
    clean_policy: Annotated[str, "When they go: OnRuntimeDeleted, OnDemand or OnFuseChanged."] = ""
    disabled: Annotated[bool, "Run none."] = False
    env: Annotated[Mapping[str, str], "Environment of the container."] = field(default_factory=dict, repr=False)
    image: Annotated[str, "Name of the image."] = ""
    image_pull_policy: Annotated[str, "Always, IfNotPresent or Never."] = ""
    image_pull_secrets: Annotated[tuple[LocalObjectReference, ...], "Secrets for pulling the image."] = ()
    image_tag: Annotated[str, "Tag of the image."] = ""
    labels: Annotated[Mapping[str, str], "Labels of the pods."] = field(default_factory=dict)
    log_config: Annotated[Mapping[str, str], "Settings of its log."] = field(default_factory=dict)
    metrics: Annotated[FuseMetrics | None, "Figures for Prometheus."] = None
    node_selector: Annotated[Mapping[str, str], "Labels of the nodes that mount."] = field(default_factory=dict)
    pod_metadata: Annotated[PodMetadata | None, "Labels and annotations of the pods."] = None
    properties: Annotated[Mapping[str, str], "Settings in Jindo's names."] = field(default_factory=dict, repr=False)
    resources: Annotated[ResourceRequirements | None, "Limits and requests."] = None
    tolerations: Annotated[tuple[Toleration, ...], "Taints of nodes that do not keep the pods away."] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JindoRuntimeSpec:
    """What is run."""

    clean_cache_policy: Annotated[CleanCachePolicy | None, "How cached data is removed with the runtime."] = None
    fuse: Annotated[JindoFuse | None, "The pods that mount."] = None
    hadoop_config: Annotated[str, "ConfigMap with hdfs-site.xml and core-site.xml."] = ""
    image_pull_secrets: Annotated[tuple[LocalObjectReference, ...], "Secrets for pulling images."] = ()
    jindo_version: Annotated[ImageVersion | None, "Image of masters and workers."] = None
    labels: Annotated[Mapping[str, str], "Labels of all pods."] = field(default_factory=dict)
    log_config: Annotated[Mapping[str, str], "Settings of the logs."] = field(default_factory=dict)
    master: Annotated[JindoComponent | None, "The masters."] = None
    networkmode: Annotated[Network, "Network of the pods; empty means HostNetwork."] = ""
    pod_metadata: Annotated[PodMetadata | None, "Labels and annotations of all pods."] = None
    properties: Annotated[Mapping[str, str], "Settings in Jindo's names."] = field(default_factory=dict, repr=False)
    replicas: Annotated[Int32 | None, "How many workers."] = None
    run_as: Annotated[User | None, "User of the pods."] = None
    secret: Annotated[str, "Secret with AccessKeyId, AccessKeySecret and SecurityToken, read again as it changes."] = ""
    tieredstore: Annotated[TieredStore | None, "The cache of one worker."] = None
    user: Annotated[str, "User of the pods, by name."] = ""
    volumes: Annotated[tuple[Volume, ...], "Volumes that components may mount."] = ()
    worker: Annotated[JindoComponent | None, "The workers."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JindoRuntime(Resource):
    """Masters, workers and FUSE pods that cache the Dataset of the same name."""

    kind: Annotated[Literal["JindoRuntime"], REQUIRED] = "JindoRuntime"
    spec: Annotated[JindoRuntimeSpec | None, "What is run."] = None
    status: Annotated[RuntimeStatus | None, "How it is."] = None
