"""ThinRuntime and its profile: FUSE clients of others, and Datasets that show another Dataset.  P."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from jindopy.kube.api.core_containers import ContainerPort, EnvVar, Lifecycle, Probe, VolumeMount
from jindopy.kube.api.core_references import LocalObjectReference, ResourceRequirements
from jindopy.kube.api.core_sources import Volume
from jindopy.kube.api.fields import DEFAULTED, REQUIRED, Int32, Rule
from jindopy.kube.api.meta import Resource
from jindopy.kube.api.runtime import RuntimeStatus
from jindopy.kube.api.shared import Network, PodMetadata, RuntimeManagement, TieredStore, User


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinPart:
    """What workers and FUSE pods have."""

    env: Annotated[tuple[EnvVar, ...], "Environment of the container."] = ()
    image: Annotated[str, "Name of the image."] = ""
    image_pull_policy: Annotated[str, "Always, IfNotPresent or Never."] = ""
    image_pull_secrets: Annotated[tuple[LocalObjectReference, ...], "Secrets for pulling the image."] = ()
    image_tag: Annotated[str, "Tag of the image."] = ""
    liveness_probe: Annotated[Probe | None, "How a container that must be restarted is found."] = None
    network_mode: Annotated[Network, "Network of the pods; empty means HostNetwork."] = ""
    node_selector: Annotated[Mapping[str, str], "Labels of the nodes to run on."] = field(default_factory=dict)
    ports: Annotated[tuple[ContainerPort, ...], "Ports of the container."] = ()
    readiness_probe: Annotated[Probe | None, "How a container that is ready is found."] = None
    resources: Annotated[ResourceRequirements | None, "Limits and requests."] = None
    volume_mounts: Annotated[tuple[VolumeMount, ...], "Volumes of spec.volumes within the container."] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinWorker(ThinPart):
    """The workers."""

    enabled: Annotated[bool, "Run them."] = False
    replicas: Annotated[Int32 | None, Rule(minimum=1), "How many."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinFuse(ThinPart):
    """The pods that mount on every node."""

    args: Annotated[tuple[str, ...], "Arguments of the command."] = ()
    clean_policy: Annotated[str, "When they go: OnRuntimeDeleted, OnDemand or OnFuseChanged."] = ""
    command: Annotated[tuple[str, ...], "Command of the container."] = ()
    lifecycle: Annotated[Lifecycle | None, "What is done after start and before stop."] = None
    options: Annotated[Mapping[str, str], "Options of the mount."] = field(default_factory=dict, repr=False)
    pod_metadata: Annotated[PodMetadata | None, "Labels and annotations of the pods."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinRuntimeSpec:
    """What is run."""

    disable_prometheus: Annotated[bool, "Offer no figures."] = False
    fuse: Annotated[ThinFuse | None, "The pods that mount; what is said here wins over the profile."] = None
    image_pull_secrets: Annotated[tuple[LocalObjectReference, ...], "Secrets for pulling images."] = ()
    management: Annotated[RuntimeManagement | None, "What the runtime does of itself."] = None
    profile_name: Annotated[str, "Its ThinRuntimeProfile; none for a Dataset that shows another."] = ""
    replicas: Annotated[Int32 | None, "How many workers."] = None
    run_as: Annotated[User | None, "User of the pods."] = None
    tieredstore: Annotated[TieredStore | None, "The cache of one worker."] = None
    volumes: Annotated[tuple[Volume, ...], "Volumes that components may mount."] = ()
    worker: Annotated[ThinWorker | None, "The workers."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinRuntime(Resource):
    """FUSE clients of others for the Dataset of the same name."""

    kind: Annotated[Literal["ThinRuntime"], REQUIRED] = "ThinRuntime"
    spec: Annotated[ThinRuntimeSpec | None, "What is run."] = None
    status: Annotated[RuntimeStatus | None, "How it is."] = None


SecretPolicy = Literal[
    "NotMountNodePublishSecret", "MountNodePublishSecretIfExists", "CopyNodePublishSecretAndMountIfNotExists"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinRuntimeProfileSpec:
    """What ThinRuntimes of this profile begin with."""

    file_system_type: Annotated[str, "Type of the file system, as the kernel names it."]
    fuse: Annotated[ThinFuse | None, "The pods that mount."] = None
    image_pull_secrets: Annotated[tuple[LocalObjectReference, ...], "Secrets for pulling images."] = ()
    node_publish_secret_policy: Annotated[
        SecretPolicy, DEFAULTED, "What becomes of a volume's nodePublishSecret in the pods that mount."
    ] = "MountNodePublishSecretIfExists"  # noqa: S105  # a policy, no secret
    volumes: Annotated[tuple[Volume, ...], "Volumes that components may mount."] = ()
    worker: Annotated[ThinWorker | None, "The workers."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinRuntimeProfileStatus:
    """Nothing yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinRuntimeProfile(Resource):
    """What many ThinRuntimes have in common, for the whole cluster."""

    kind: Annotated[Literal["ThinRuntimeProfile"], REQUIRED] = "ThinRuntimeProfile"
    spec: Annotated[ThinRuntimeProfileSpec | None, "What ThinRuntimes of this profile begin with."] = None
    status: Annotated[ThinRuntimeProfileStatus | None, "Nothing yet."] = None
