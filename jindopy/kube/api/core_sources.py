"""Volumes of pods and cache levels, put together from their kinds: core/v1 as far as custom resources hold it.  P."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from jindopy.kube.api.core_references import KeyToPath, VolumeResourceRequirements
from jindopy.kube.api.core_scheduling import LabelSelector
from jindopy.kube.api.core_volumes import (
    AwsVolume,
    AzureDiskVolume,
    AzureFileVolume,
    CephFsVolume,
    CinderVolume,
    ClaimVolume,
    ConfigMapVolume,
    CsiVolume,
    DownwardFile,
    DownwardVolume,
    EmptyDirVolume,
    FcVolume,
    FlexVolume,
    FlockerVolume,
    GceVolume,
    GitRepoVolume,
    GlusterfsVolume,
    HostPathVolume,
    ImageVolume,
    IscsiVolume,
    NfsVolume,
    PhotonVolume,
    PortworxVolume,
    QuobyteVolume,
    RbdVolume,
    ScaleIoVolume,
    SecretVolume,
    StorageOsVolume,
    VsphereVolume,
)
from jindopy.kube.api.fields import Int32, Int64, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSource:
    """What a claim's volume is filled from."""

    atomic: ClassVar[bool] = True
    kind: str
    name: str
    api_group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespacedObjectSource:
    """The same, from another namespace too."""

    kind: str
    name: str
    api_group: str | None = None
    namespace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimSpec:
    """The volume a claim asks for."""

    access_modes: tuple[str, ...] = ()
    data_source: ObjectSource | None = None
    data_source_ref: NamespacedObjectSource | None = None
    resources: VolumeResourceRequirements | None = None
    selector: LabelSelector | None = None
    storage_class_name: str | None = None
    volume_attributes_class_name: str | None = None
    volume_mode: str | None = None
    volume_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimMetadata:
    """Labels and annotations of the claim that is made; Fluid's own schema drops them."""

    annotations: Mapping[str, str] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None
    namespace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTemplate:
    """The claim that is made for a pod."""

    spec: ClaimSpec
    metadata: ClaimMetadata | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EphemeralVolume:
    """A volume made with the pod and removed with it."""

    volume_claim_template: ClaimTemplate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectedTrustBundle:
    """Certificates of the cluster, as a file."""

    path: str
    label_selector: LabelSelector | None = None
    name: str | None = None
    optional: bool | None = None
    signer_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectedObject:
    """Keys of a ConfigMap or Secret, within a projected volume."""

    atomic: ClassVar[bool] = True
    items: tuple[KeyToPath, ...] = ()
    name: str | None = None
    optional: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectedDownward:
    """Fields of the pod, within a projected volume."""

    items: tuple[DownwardFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectedToken:
    """A token of the pod's service account, as a file."""

    path: str
    audience: str | None = None
    expiration_seconds: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectedSource:
    """One of the sources that share a directory."""

    cluster_trust_bundle: ProjectedTrustBundle | None = None
    config_map: ProjectedObject | None = None
    downward_api: Annotated[ProjectedDownward | None, Rule(wire="downwardAPI")] = None
    secret: ProjectedObject | None = None
    service_account_token: ProjectedToken | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectedVolume:
    """Several sources in one directory."""

    default_mode: Int32 | None = None
    sources: tuple[ProjectedSource, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSource:
    """Where a volume comes from: one of these."""

    aws_elastic_block_store: AwsVolume | None = None
    azure_disk: AzureDiskVolume | None = None
    azure_file: AzureFileVolume | None = None
    cephfs: CephFsVolume | None = None
    cinder: CinderVolume | None = None
    config_map: ConfigMapVolume | None = None
    csi: CsiVolume | None = None
    downward_api: Annotated[DownwardVolume | None, Rule(wire="downwardAPI")] = None
    empty_dir: EmptyDirVolume | None = None
    ephemeral: EphemeralVolume | None = None
    fc: FcVolume | None = None
    flex_volume: FlexVolume | None = None
    flocker: FlockerVolume | None = None
    gce_persistent_disk: GceVolume | None = None
    git_repo: GitRepoVolume | None = None
    glusterfs: GlusterfsVolume | None = None
    host_path: HostPathVolume | None = None
    image: ImageVolume | None = None
    iscsi: IscsiVolume | None = None
    nfs: NfsVolume | None = None
    persistent_volume_claim: ClaimVolume | None = None
    photon_persistent_disk: PhotonVolume | None = None
    portworx_volume: PortworxVolume | None = None
    projected: ProjectedVolume | None = None
    quobyte: QuobyteVolume | None = None
    rbd: RbdVolume | None = None
    scale_io: Annotated[ScaleIoVolume | None, Rule(wire="scaleIO")] = None
    secret: SecretVolume | None = None
    storageos: StorageOsVolume | None = None
    vsphere_volume: VsphereVolume | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(VolumeSource):
    """A volume of a pod."""

    name: str
