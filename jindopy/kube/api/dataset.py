"""Dataset: which storage is offered to pods, and how much of it is cached.  P."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from jindopy.kube.api.core_scheduling import NodeSelectorTerm, Toleration
from jindopy.kube.api.fields import REQUIRED, Int32, Rule, Time
from jindopy.kube.api.meta import Resource
from jindopy.kube.api.shared import EncryptOption, Mount, User


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredNodes:
    """Terms of which one must hold for a node."""

    atomic: ClassVar[bool] = True
    node_selector_terms: tuple[NodeSelectorTerm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheableNodeAffinity:
    """Which nodes may cache."""

    required: Annotated[RequiredNodes | None, "What a node must be."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRestoreLocation:
    """Where a backup is."""

    node_name: Annotated[str, "Node that has it, for a local path."] = ""
    path: Annotated[str, "local:///dir or pvc://claim/path."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundRuntime:
    """A runtime that serves a Dataset."""

    category: Annotated[str, "What it does, for example Accelerate."] = ""
    master_replicas: Annotated[Int32 | None, "Masters it has."] = None
    name: Annotated[str, "Its name."] = ""
    namespace: Annotated[str, "Its namespace."] = ""
    type: Annotated[str, "Its type, for example jindo."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """What is offered."""

    access_modes: Annotated[tuple[str, ...], "Access modes of the volume; ReadOnlyMany where none is given."] = ()
    data_restore_location: Annotated[DataRestoreLocation | None, "Backup of names and sizes to begin with."] = None
    mounts: Annotated[tuple[Mount, ...], Rule(min_items=1), "Storages, each with its place in the tree."] = ()
    node_affinity: Annotated[CacheableNodeAffinity | None, "Nodes that may cache."] = None
    owner: Annotated[User | None, "Owner of the files."] = None
    placement: Annotated[Literal["Exclusive", "", "Shared"], "Whether a node caches this Dataset only."] = ""
    runtimes: Annotated[tuple[BoundRuntime, ...], "Runtimes that may serve it."] = ()
    shared_encrypt_options: Annotated[
        tuple[EncryptOption, ...], "Options of all mounts whose values are in Secrets."
    ] = ()
    shared_options: Annotated[Mapping[str, str], "Options of all mounts; those of a mount win."] = field(
        default_factory=dict, repr=False
    )
    tolerations: Annotated[tuple[Toleration, ...], "Taints of nodes that do not keep the cache away."] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetCondition:
    """One thing that holds or does not."""

    status: Annotated[str, "True, False or Unknown."]
    type: Annotated[str, "What holds, for example Ready."]
    last_transition_time: Annotated[Time | None, "When status changed."] = None
    last_update_time: Annotated[Time | None, "When this was written."] = None
    message: Annotated[str, "Why, for people."] = ""
    reason: Annotated[str, "Why, in one word."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HcfsStatus:
    """How Hadoop programs reach it."""

    endpoint: Annotated[str, "Address, or N/A."] = ""
    underlayer_file_system_version: Annotated[str, "Version that clients need."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetStatus:
    """How it is."""

    cache_states: Annotated[
        Mapping[str, str], "Figures of the cache: cached, cacheCapacity, cachedPercentage and others."
    ] = field(default_factory=dict)
    conditions: Annotated[tuple[DatasetCondition, ...], REQUIRED, "What holds and what does not."] = ()
    data_backup_ref: Annotated[str, "The backup at work."] = ""
    data_load_ref: Annotated[str, "The load at work."] = ""
    dataset_ref: Annotated[tuple[str, ...], "Datasets that show this one."] = ()
    file_num: Annotated[str, "Files in the storage."] = ""
    hcfs: Annotated[HcfsStatus | None, "How Hadoop programs reach it."] = None
    mounts: Annotated[tuple[Mount, ...], "What is mounted now."] = ()
    operation_ref: Annotated[Mapping[str, str], "Operations at work, by kind."] = field(default_factory=dict)
    phase: Annotated[str, "NotBound, Bound, Failed, Updating or DataMigrating."] = ""
    runtimes: Annotated[tuple[BoundRuntime, ...], "Runtimes that serve it."] = ()
    ufs_total: Annotated[str, "Size of all files in the storage."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset(Resource):
    """Storage offered to pods."""

    kind: Annotated[Literal["Dataset"], REQUIRED] = "Dataset"
    spec: Annotated[DatasetSpec | None, "What is offered."] = None
    status: Annotated[DatasetStatus | None, "How it is."] = None
