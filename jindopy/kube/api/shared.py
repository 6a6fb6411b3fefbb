"""What several kinds have in common: mounts, users, images, cache levels.  P."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from jindopy.kube.api.core_sources import VolumeSource
from jindopy.kube.api.fields import DEFAULTED, QUANTITY_LIST_PATTERN, Int32, Int64, Quantity, Rule

Network = Literal["HostNetwork", "", "ContainerNetwork"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKeyRef:
    """A key of a Secret."""

    name: Annotated[str, "Name of the Secret."]
    key: Annotated[str, "Key within it."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptOptionSource:
    """Where a secret option's value is."""

    secret_key_ref: Annotated[SecretKeyRef | None, "The key of a Secret of the same namespace."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptOption:
    """An option whose value is in a Secret."""

    name: Annotated[str, "Name of the option, for example fs.oss.accessKeyId."]
    value_from: Annotated[EncryptOptionSource | None, "Where its value is."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A storage and its place in the tree of a Dataset."""

    mount_point: Annotated[
        str, Rule(min_length=5), "Address of the storage: oss://bucket/path, local:///dir, pvc://claim/path and others."
    ]
    encrypt_options: Annotated[
        tuple[EncryptOption, ...], "Options whose values are in Secrets; they win over options."
    ] = ()
    name: Annotated[str, Rule(min_length=0), "Name of the mount, and of its directory where path says nothing."] = ""
    options: Annotated[Mapping[str, str], "Options of the storage, for example fs.oss.endpoint."] = field(
        default_factory=dict, repr=False
    )
    path: Annotated[str, "Its place in the tree, if absolute; / is the root."] = ""
    read_only: Annotated[bool, "Nothing is written to it."] = False
    shared: Annotated[bool, "It may be used from other namespaces."] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user and group, by number and name."""

    gid: Annotated[Int64, "Number of the group."]
    group: Annotated[str, "Name of the group."]
    uid: Annotated[Int64, "Number of the user."]
    user: Annotated[str, "Name of the user."]


@dataclass(frozen=True, slots=True, kw_only=True)
class PodMetadata:
    """Labels and annotations put on pods."""

    annotations: Annotated[Mapping[str, str], "Annotations of the pods."] = field(default_factory=dict)
    labels: Annotated[Mapping[str, str], "Labels of the pods."] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageVersion:
    """A container image."""

    image: Annotated[str, "Name of the image."] = ""
    image_pull_policy: Annotated[str, "Always, IfNotPresent or Never."] = ""
    image_tag: Annotated[str, "Tag of the image."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanCachePolicy:
    """How cached data is removed with its runtime."""

    grace_period_seconds: Annotated[Int32, DEFAULTED, "Time that one try may take."] = 60
    max_retry_attempts: Annotated[Int32, DEFAULTED, "Tries before it is left behind."] = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataSyncPolicy:
    """Whether names and sizes are brought in beforehand."""

    auto_sync: Annotated[bool | None, "List the whole storage when the Dataset is bound."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeManagement:
    """What a runtime does of itself."""

    clean_cache_policy: Annotated[CleanCachePolicy | None, "How cached data is removed with the runtime."] = None
    metadata_sync_policy: Annotated[MetadataSyncPolicy | None, "Whether names and sizes are brought in beforehand."] = (
        None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A level of the cache: one medium on every worker."""

    mediumtype: Annotated[Literal["MEM", "SSD", "HDD"], "What it is made of."]
    high: Annotated[str, "Share of the quota above which cached data is evicted, for example 0.95."] = ""
    low: Annotated[str, "Share of the quota down to which it is evicted, for example 0.7."] = ""
    path: Annotated[str | None, Rule(min_length=1), "Directories on the node, comma-separated."] = None
    quota: Annotated[Quantity | None, "Size on one worker, split over the directories."] = None
    quota_list: Annotated[str | None, Rule(pattern=QUANTITY_LIST_PATTERN), "Sizes of the directories one by one."] = (
        None
    )
    volume_source: Annotated[VolumeSource | None, "A volume in place of directories of the node."] = None
    volume_type: Annotated[Literal["hostPath", "emptyDir"], DEFAULTED, "What the directories are."] = "hostPath"


@dataclass(frozen=True, slots=True, kw_only=True)
class TieredStore:
    """The cache of one worker."""

    levels: Annotated[tuple[Level, ...], "Levels, the fastest first."] = ()
