"""DataLoad and DataBackup: fetching files beforehand, and keeping names and sizes.  P."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from jindopy.kube.api.core_references import ResourceRequirements
from jindopy.kube.api.core_scheduling import Affinity, Toleration
from jindopy.kube.api.fields import DEFAULTED, REQUIRED, Int32
from jindopy.kube.api.meta import Resource
from jindopy.kube.api.operation import OperationStatus, Policy, RunAfter
from jindopy.kube.api.shared import PodMetadata, User


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetDataset:
    """A Dataset."""

    name: Annotated[str, "Its name."]
    namespace: Annotated[str, "Its namespace; empty means the same one."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPath:
    """A file or directory to fetch."""

    path: Annotated[str, "Its path in the Dataset."]
    replicas: Annotated[Int32 | None, "Copies in the cache."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataLoadSpec:
    """What is fetched, and when."""

    affinity: Annotated[Affinity | None, "Where the pod may or should run."] = None
    dataset: Annotated[TargetDataset | None, "The Dataset."] = None
    load_metadata: Annotated[bool, "List the storage again first."] = False
    node_selector: Annotated[Mapping[str, str], "Labels of the nodes to run on."] = field(default_factory=dict)
    options: Annotated[Mapping[str, str], "Options, for example threadNum, filter or loadMetadataOnly."] = field(
        default_factory=dict, repr=False
    )
    pod_metadata: Annotated[PodMetadata | None, "Labels and annotations of the pod."] = None
    policy: Annotated[Policy, DEFAULTED, "Once, by schedule, or when something happens."] = "Once"
    resources: Annotated[ResourceRequirements | None, "Limits and requests."] = None
    run_after: Annotated[RunAfter | None, "The operation to wait for."] = None
    schedule: Annotated[str, "When, for Cron: five fields as in a crontab."] = ""
    scheduler_name: Annotated[str, "Scheduler of the pod."] = ""
    target: Annotated[tuple[TargetPath, ...], "What is fetched; all of it where nothing is said."] = ()
    tolerations: Annotated[tuple[Toleration, ...], "Taints of nodes that do not keep the pod away."] = ()
    ttl_seconds_after_finished: Annotated[Int32 | None, "Time after its end when it is removed."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataLoad(Resource):
    """Fetches files of a Dataset into its cache."""

    kind: Annotated[Literal["DataLoad"], REQUIRED] = "DataLoad"
    spec: Annotated[DataLoadSpec | None, "What is fetched, and when."] = None
    status: Annotated[OperationStatus | None, "How far it is."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataBackupSpec:
    """What is kept, and where."""

    backup_path: Annotated[str, "local:///dir or pvc://claim/path."] = ""
    dataset: Annotated[str, "Name of the Dataset."] = ""
    run_after: Annotated[RunAfter | None, "The operation to wait for."] = None
    run_as: Annotated[User | None, "User of the pod."] = None
    ttl_seconds_after_finished: Annotated[Int32 | None, "Time after its end when it is removed."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataBackup(Resource):
    """Keeps what is known of a Dataset's files."""

    kind: Annotated[Literal["DataBackup"], REQUIRED] = "DataBackup"
    spec: Annotated[DataBackupSpec | None, "What is kept, and where."] = None
    status: Annotated[OperationStatus | None, "How far it is."] = None
