"""DataProcess: a script or pod of the user's with a Dataset mounted.  P."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from jindopy.kube.api.core_containers import EnvVar, VolumeMount
from jindopy.kube.api.core_pod import PodSpec
from jindopy.kube.api.core_references import ResourceRequirements
from jindopy.kube.api.core_sources import Volume
from jindopy.kube.api.fields import DEFAULTED, REQUIRED, Int32
from jindopy.kube.api.meta import Resource
from jindopy.kube.api.operation import OperationStatus, Policy, RunAfter
from jindopy.kube.api.shared import PodMetadata


@dataclass(frozen=True, slots=True, kw_only=True)
class MountedDataset:
    """A Dataset and where it is mounted."""

    mount_path: Annotated[str, "Where it is mounted in the containers."]
    name: Annotated[str, "Its name."]
    namespace: Annotated[str, "Its namespace; empty means the same one."] = ""
    sub_path: Annotated[str, "Path in it that is mounted."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorJob:
    """A pod of the user's."""

    pod_spec: Annotated[PodSpec | None, "The pod."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorScript:
    """A script of the user's."""

    source: Annotated[str, "The script."] = field(repr=False)
    command: Annotated[tuple[str, ...], "What runs it, for example bash."] = ()
    env: Annotated[tuple[EnvVar, ...], "Environment of the container."] = ()
    image: Annotated[str, "Name of the image."] = ""
    image_pull_policy: Annotated[str, "Always, IfNotPresent or Never."] = ""
    image_tag: Annotated[str, "Tag of the image."] = ""
    resources: Annotated[ResourceRequirements | None, "Limits and requests."] = None
    restart_policy: Annotated[Literal["Never", "OnFailure"], DEFAULTED, "What is done when it fails."] = "Never"
    volume_mounts: Annotated[tuple[VolumeMount, ...], "Volumes within the container."] = ()
    volumes: Annotated[tuple[Volume, ...], "Volumes beside the Dataset."] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """What is run: a job or a script."""

    job: Annotated[ProcessorJob | None, "A pod."] = None
    pod_metadata: Annotated[PodMetadata | None, "Labels and annotations of the pod."] = None
    script: Annotated[ProcessorScript | None, "A script."] = None
    service_account_name: Annotated[str, "Service account of the pod."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataProcessSpec:
    """What is run, on what, and when."""

    dataset: Annotated[MountedDataset, "The Dataset."]
    processor: Annotated[Processor, "What is run."]
    policy: Annotated[Policy, DEFAULTED, "Once, by schedule, or when something happens."] = "Once"
    run_after: Annotated[RunAfter | None, "The operation to wait for."] = None
    schedule: Annotated[str, "When, for Cron: five fields as in a crontab."] = ""
    ttl_seconds_after_finished: Annotated[Int32 | None, "Time after its end when it is removed."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataProcess(Resource):
    """Runs a script or pod with a Dataset mounted."""

    kind: Annotated[Literal["DataProcess"], REQUIRED] = "DataProcess"
    spec: Annotated[DataProcessSpec | None, "What is run, on what, and when."] = None
    status: Annotated[OperationStatus | None, "How far it is."] = None
