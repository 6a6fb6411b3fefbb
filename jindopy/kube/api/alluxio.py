"""AlluxioRuntime: accepted as Fluid's users write it and served by the same parts as JindoRuntime.  P."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from jindopy.kube.api.core_containers import VolumeMount
from jindopy.kube.api.core_references import LocalObjectReference, ResourceRequirements
from jindopy.kube.api.core_sources import Volume
from jindopy.kube.api.fields import REQUIRED, Int32, Rule
from jindopy.kube.api.meta import Resource
from jindopy.kube.api.runtime import RuntimeStatus
from jindopy.kube.api.shared import ImageVersion, Network, PodMetadata, RuntimeManagement, TieredStore, User


@dataclass(frozen=True, slots=True, kw_only=True)
class AlluxioPart:
    """What all parts have."""

    env: Annotated[Mapping[str, str], "Environment of the container."] = field(default_factory=dict, repr=False)
    image_pull_secrets: Annotated[tuple[LocalObjectReference, ...], "Secrets for pulling the image."] = ()
    jvm_options: Annotated[tuple[str, ...], "Options of the Java machine; ours has none."] = ()
    network_mode: Annotated[Network, "Network of the pods; empty means HostNetwork."] = ""
    node_selector: Annotated[Mapping[str, str], "Labels of the nodes to run on."] = field(default_factory=dict)
    pod_metadata: Annotated[PodMetadata | None, "Labels and annotations of the pods."] = None
    properties: Annotated[Mapping[str, str], "Settings in Alluxio's names."] = field(default_factory=dict, repr=False)
    resources: Annotated[ResourceRequirements | None, "Limits and requests."] = None
    volume_mounts: Annotated[tuple[VolumeMount, ...], "Volumes of spec.volumes within the container."] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AlluxioComponent(AlluxioPart):
    """Masters, workers, their job services, or the gateway."""

    enabled: Annotated[bool, "Run it."] = False
    ports: Annotated[Mapping[str, int], "Ports by name."] = field(default_factory=dict)
    replicas: Annotated[Int32 | None, Rule(minimum=1), "How many."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlluxioFuse(AlluxioPart):
    """The pods that mount on every node."""

    args: Annotated[tuple[str, ...], "Arguments of the mount, in place of the usual ones."] = ()
    clean_policy: Annotated[str, "When they go: OnRuntimeDeleted, OnDemand or OnFuseChanged."] = ""
    image: Annotated[str, "Name of the image."] = ""
    image_pull_policy: Annotated[str, "Always, IfNotPresent or Never."] = ""
    image_tag: Annotated[str, "Tag of the image."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InitUsers:
    """The container that makes the user to run as."""

    env: Annotated[Mapping[str, str], "Environment of the container."] = field(default_factory=dict, repr=False)
    image: Annotated[str, "Name of the image."] = ""
    image_pull_policy: Annotated[str, "Always, IfNotPresent or Never."] = ""
    image_tag: Annotated[str, "Tag of the image."] = ""
    resources: Annotated[ResourceRequirements | None, "Limits and requests."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedData:
    """How data is kept."""

    pin: Annotated[bool, "Never evict it."] = False
    replicas: Annotated[Int32 | None, "Copies in the cache."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlluxioRuntimeSpec:
    """What is run."""

    alluxio_version: Annotated[ImageVersion | None, "Image of masters and workers."] = None
    api_gateway: Annotated[AlluxioComponent | None, "The REST gateway."] = None
    data: Annotated[CachedData | None, "How data is kept."] = None
    disable_prometheus: Annotated[bool, "Offer no figures."] = False
    fuse: Annotated[AlluxioFuse | None, "The pods that mount."] = None
    hadoop_config: Annotated[str, "ConfigMap with hdfs-site.xml and core-site.xml."] = ""
    image_pull_secrets: Annotated[tuple[LocalObjectReference, ...], "Secrets for pulling images."] = ()
    init_users: Annotated[InitUsers | None, "The container that makes the user to run as."] = None
    job_master: Annotated[AlluxioComponent | None, "The job service of the masters."] = None
    job_worker: Annotated[AlluxioComponent | None, "The job service of the workers."] = None
    jvm_options: Annotated[tuple[str, ...], "Options of the Java machine; ours has none."] = ()
    management: Annotated[RuntimeManagement | None, "What the runtime does of itself."] = None
    master: Annotated[AlluxioComponent | None, "The masters."] = None
    pod_metadata: Annotated[PodMetadata | None, "Labels and annotations of all pods."] = None
    properties: Annotated[Mapping[str, str], "Settings in Alluxio's names."] = field(default_factory=dict, repr=False)
    replicas: Annotated[Int32 | None, "How many workers."] = None
    run_as: Annotated[User | None, "User of the pods."] = None
    tieredstore: Annotated[TieredStore | None, "The cache of one worker."] = None
    volumes: Annotated[tuple[Volume, ...], "Volumes that components may mount."] = ()
    worker: Annotated[AlluxioComponent | None, "The workers."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlluxioRuntime(Resource):
    """Masters, workers and FUSE pods that cache the Dataset of the same name, in Alluxio's words."""

    kind: Annotated[Literal["AlluxioRuntime"], REQUIRED] = "AlluxioRuntime"
    spec: Annotated[AlluxioRuntimeSpec | None, "What is run."] = None
    status: Annotated[RuntimeStatus | None, "How it is."] = None
