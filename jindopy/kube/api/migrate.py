"""DataMigrate: copying files between a Dataset and another storage.  P."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from jindopy.kube.api.core_references import ResourceRequirements
from jindopy.kube.api.core_scheduling import Affinity, Toleration
from jindopy.kube.api.fields import DEFAULTED, REQUIRED, Int32, Rule
from jindopy.kube.api.meta import Resource
from jindopy.kube.api.operation import OperationStatus, Policy, RunAfter
from jindopy.kube.api.shared import EncryptOption, PodMetadata


@dataclass(frozen=True, slots=True, kw_only=True)
class MigratedDataset:
    """A Dataset as an end of a copy."""

    name: Annotated[str, "Its name."]
    namespace: Annotated[str, "Its namespace."]
    path: Annotated[str, "Path in it; all of it where nothing is said."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalStorage:
    """Another storage as an end of a copy."""

    uri: Annotated[str, "Its address."]
    encrypt_options: Annotated[tuple[EncryptOption, ...], "Options whose values are in Secrets."] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateEnd:
    """An end of a copy: one of these."""

    dataset: Annotated[MigratedDataset | None, "A Dataset."] = None
    external_storage: Annotated[ExternalStorage | None, "Another storage."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataMigrateSpec:
    """What is copied, and when."""

    from_: Annotated[MigrateEnd, Rule(wire="from"), "Where from."]
    to: Annotated[MigrateEnd, "Where to."]
    affinity: Annotated[Affinity | None, "Where the pods may or should run."] = None
    block: Annotated[bool, "Nobody may use the Dataset meanwhile."] = False
    image: Annotated[str, "Name of the image."] = ""
    image_pull_policy: Annotated[str, "Always, IfNotPresent or Never."] = ""
    image_tag: Annotated[str, "Tag of the image."] = ""
    node_selector: Annotated[Mapping[str, str], "Labels of the nodes to run on."] = field(default_factory=dict)
    options: Annotated[Mapping[str, str], "Options of the copy."] = field(default_factory=dict, repr=False)
    parallel_options: Annotated[Mapping[str, str], "Options of a copy by several pods."] = field(
        default_factory=dict, repr=False
    )
    parallelism: Annotated[Int32, Rule(minimum=1), DEFAULTED, "Pods that copy."] = 1
    pod_metadata: Annotated[PodMetadata | None, "Labels and annotations of the pods."] = None
    policy: Annotated[Policy, DEFAULTED, "Once, by schedule, or when something happens."] = "Once"
    resources: Annotated[ResourceRequirements | None, "Limits and requests."] = None
    run_after: Annotated[RunAfter | None, "The operation to wait for."] = None
    runtime_type: Annotated[str, "Runtime that copies, where a Dataset has several."] = ""
    schedule: Annotated[str, "When, for Cron: five fields as in a crontab."] = ""
    scheduler_name: Annotated[str, "Scheduler of the pods."] = ""
    tolerations: Annotated[tuple[Toleration, ...], "Taints of nodes that do not keep the pods away."] = ()
    ttl_seconds_after_finished: Annotated[Int32 | None, "Time after its end when it is removed."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataMigrate(Resource):
    """Copies files between a Dataset and another storage."""

    kind: Annotated[Literal["DataMigrate"], REQUIRED] = "DataMigrate"
    spec: Annotated[DataMigrateSpec | None, "What is copied, and when."] = None
    status: Annotated[OperationStatus | None, "How far it is."] = None
