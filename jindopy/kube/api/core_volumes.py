"""The kinds of volumes, each with its own fields: core/v1 as far as custom resources hold it.  P."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from jindopy.kube.api.core_references import FieldSelector, KeyToPath, LocalObjectReference, ResourceFieldSelector
from jindopy.kube.api.fields import Int32, Quantity, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsVolume:
    """A disk of Amazon EBS."""

    volume_id: Annotated[str, Rule(wire="volumeID")]
    fs_type: str | None = None
    partition: Int32 | None = None
    read_only: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureDiskVolume:
    """A disk of Azure."""

    disk_name: str
    disk_uri: Annotated[str, Rule(wire="diskURI")]
    caching_mode: str | None = None
    fs_type: str | None = None
    kind: str | None = None
    read_only: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureFileVolume:
    """A file share of Azure."""

    secret_name: str
    share_name: str
    read_only: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CephFsVolume:
    """A directory of CephFS."""

    monitors: tuple[str, ...]
    path: str | None = None
    read_only: bool | None = None
    secret_file: str | None = None
    secret_ref: LocalObjectReference | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CinderVolume:
    """A disk of OpenStack."""

    volume_id: Annotated[str, Rule(wire="volumeID")]
    fs_type: str | None = None
    read_only: bool | None = None
    secret_ref: LocalObjectReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMapVolume:
    """Keys of a ConfigMap as files."""

    atomic: ClassVar[bool] = True
    default_mode: Int32 | None = None
    items: tuple[KeyToPath, ...] = ()
    name: str | None = None
    optional: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CsiVolume:
    """A volume that a CSI driver makes for the pod."""

    driver: str
    fs_type: str | None = None
    node_publish_secret_ref: LocalObjectReference | None = None
    read_only: bool | None = None
    volume_attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DownwardFile:
    """A file that holds a field of the pod."""

    path: str
    field_ref: FieldSelector | None = None
    mode: Int32 | None = None
    resource_field_ref: ResourceFieldSelector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DownwardVolume:
    """Fields of the pod as files."""

    default_mode: Int32 | None = None
    items: tuple[DownwardFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptyDirVolume:
    """A directory that lives as long as the pod."""

    medium: str | None = None
    size_limit: Quantity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FcVolume:
    """A disk by Fibre Channel."""

    fs_type: str | None = None
    lun: Int32 | None = None
    read_only: bool | None = None
    target_wwns: Annotated[tuple[str, ...], Rule(wire="targetWWNs")] = ()
    wwids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexVolume:
    """A volume of a driver from before CSI."""

    driver: str
    fs_type: str | None = None
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    read_only: bool | None = None
    secret_ref: LocalObjectReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlockerVolume:
    """A dataset of Flocker."""

    dataset_name: str | None = None
    dataset_uuid: Annotated[str | None, Rule(wire="datasetUUID")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GceVolume:
    """A disk of Google Compute Engine."""

    pd_name: str
    fs_type: str | None = None
    partition: Int32 | None = None
    read_only: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GitRepoVolume:
    """A clone of a repository."""

    repository: str
    directory: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GlusterfsVolume:
    """A volume of GlusterFS."""

    endpoints: str
    path: str
    read_only: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPathVolume:
    """A file or directory of the node."""

    path: str
    type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageVolume:
    """What a container image holds, as files."""

    pull_policy: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IscsiVolume:
    """A disk by iSCSI."""

    iqn: str
    lun: Int32
    target_portal: str
    chap_auth_discovery: bool | None = None
    chap_auth_session: bool | None = None
    fs_type: str | None = None
    initiator_name: str | None = None
    iscsi_interface: str | None = None
    portals: tuple[str, ...] = ()
    read_only: bool | None = None
    secret_ref: LocalObjectReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NfsVolume:
    """A directory of an NFS server."""

    path: str
    server: str
    read_only: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimVolume:
    """The volume of a PersistentVolumeClaim."""

    claim_name: str
    read_only: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotonVolume:
    """A disk of Photon Controller."""

    pd_id: Annotated[str, Rule(wire="pdID")]
    fs_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PortworxVolume:
    """A volume of Portworx."""

    volume_id: Annotated[str, Rule(wire="volumeID")]
    fs_type: str | None = None
    read_only: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuobyteVolume:
    """A volume of Quobyte."""

    registry: str
    volume: str
    group: str | None = None
    read_only: bool | None = None
    tenant: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RbdVolume:
    """A block device of Ceph."""

    image: str
    monitors: tuple[str, ...]
    fs_type: str | None = None
    keyring: str | None = None
    pool: str | None = None
    read_only: bool | None = None
    secret_ref: LocalObjectReference | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleIoVolume:
    """A volume of ScaleIO."""

    gateway: str
    secret_ref: LocalObjectReference
    system: str
    fs_type: str | None = None
    protection_domain: str | None = None
    read_only: bool | None = None
    ssl_enabled: bool | None = None
    storage_mode: str | None = None
    storage_pool: str | None = None
    volume_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVolume:
    """Keys of a Secret as files."""

    default_mode: Int32 | None = None
    items: tuple[KeyToPath, ...] = ()
    optional: bool | None = None
    secret_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageOsVolume:
    """A volume of StorageOS."""

    fs_type: str | None = None
    read_only: bool | None = None
    secret_ref: LocalObjectReference | None = None
    volume_name: str | None = None
    volume_namespace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VsphereVolume:
    """A disk of vSphere."""

    volume_path: str
    fs_type: str | None = None
    storage_policy_id: Annotated[str | None, Rule(wire="storagePolicyID")] = None
    storage_policy_name: str | None = None
