"""Containers: core/v1 as far as custom resources hold it.  P."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from jindopy.kube.api.core_references import FieldSelector, KeySelector, ResourceFieldSelector, ResourceRequirements
from jindopy.kube.api.fields import DEFAULTED, Int32, Int64, IntOrString, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvVarSource:
    """Where the value of a variable is taken from."""

    config_map_key_ref: KeySelector | None = None
    field_ref: FieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    secret_key_ref: KeySelector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvVar:
    """A variable of the environment."""

    name: str
    value: str | None = field(default=None, repr=False)
    value_from: EnvVarSource | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvFromReference:
    """A ConfigMap or Secret of which every key becomes a variable."""

    atomic: ClassVar[bool] = True
    name: str | None = None
    optional: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvFrom:
    """Variables from one object."""

    config_map_ref: EnvFromReference | None = None
    prefix: str | None = None
    secret_ref: EnvFromReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecAction:
    """A command run in the container."""

    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpHeader:
    """A header of a request."""

    name: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpGetAction:
    """A GET that must be answered with success."""

    port: IntOrString
    host: str | None = None
    http_headers: tuple[HttpHeader, ...] = ()
    path: str | None = None
    scheme: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpSocketAction:
    """A port that must accept."""

    port: IntOrString
    host: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcAction:
    """A gRPC health check."""

    port: Int32
    service: Annotated[str, DEFAULTED] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepAction:
    """Waiting."""

    seconds: Int64


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleHandler:
    """What is done at a moment in a container's life."""

    exec: ExecAction | None = None
    http_get: HttpGetAction | None = None
    sleep: SleepAction | None = None
    tcp_socket: TcpSocketAction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """What is done after start and before stop."""

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How a container is found well."""

    exec: ExecAction | None = None
    failure_threshold: Int32 | None = None
    grpc: GrpcAction | None = None
    http_get: HttpGetAction | None = None
    initial_delay_seconds: Int32 | None = None
    period_seconds: Int32 | None = None
    success_threshold: Int32 | None = None
    tcp_socket: TcpSocketAction | None = None
    termination_grace_period_seconds: Int64 | None = None
    timeout_seconds: Int32 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPort:
    """A port of a container."""

    container_port: Int32
    host_ip: Annotated[str | None, Rule(wire="hostIP")] = None
    host_port: Int32 | None = None
    name: str | None = None
    protocol: Annotated[str, DEFAULTED] = "TCP"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizePolicy:
    """Whether a change of a resource restarts the container."""

    resource_name: str
    restart_policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeDevice:
    """A raw block device within a container."""

    device_path: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMount:
    """A volume within a container."""

    mount_path: str
    name: str
    mount_propagation: str | None = None
    read_only: bool | None = None
    recursive_read_only: str | None = None
    sub_path: str | None = None
    sub_path_expr: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppArmorProfile:
    """Which AppArmor profile confines a container."""

    type: str
    localhost_profile: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Capabilities given and taken."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SeLinuxOptions:
    """An SELinux context."""

    level: str | None = None
    role: str | None = None
    type: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeccompProfile:
    """Which system calls are allowed."""

    type: str
    localhost_profile: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowsOptions:
    """What only containers of Windows have."""

    gmsa_credential_spec: str | None = None
    gmsa_credential_spec_name: str | None = None
    host_process: bool | None = None
    run_as_user_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityContext:
    """What a container may do."""

    allow_privilege_escalation: bool | None = None
    app_armor_profile: AppArmorProfile | None = None
    capabilities: Capabilities | None = None
    privileged: bool | None = None
    proc_mount: str | None = None
    read_only_root_filesystem: bool | None = None
    run_as_group: Int64 | None = None
    run_as_non_root: bool | None = None
    run_as_user: Int64 | None = None
    se_linux_options: SeLinuxOptions | None = None
    seccomp_profile: SeccompProfile | None = None
    windows_options: WindowsOptions | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container of a pod."""

    name: str
    args: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFrom, ...] = ()
    image: str | None = None
    image_pull_policy: str | None = None
    lifecycle: Lifecycle | None = None
    liveness_probe: Probe | None = None
    ports: Annotated[tuple[ContainerPort, ...], Rule(list_keys=("containerPort", "protocol"))] = ()
    readiness_probe: Probe | None = None
    resize_policy: Annotated[tuple[ResizePolicy, ...], Rule(atomic=True)] = ()
    resources: ResourceRequirements | None = None
    restart_policy: str | None = None
    security_context: SecurityContext | None = None
    startup_probe: Probe | None = None
    stdin: bool | None = None
    stdin_once: bool | None = None
    termination_message_path: str | None = None
    termination_message_policy: str | None = None
    tty: bool | None = None
    volume_devices: tuple[VolumeDevice, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    working_dir: str | None = None
