"""What all runtimes say of themselves.  P."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from jindopy.kube.api.core_scheduling import NodeAffinity
from jindopy.kube.api.fields import REQUIRED, Int32, Time
from jindopy.kube.api.shared import Mount


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeCondition:
    """One thing that holds or does not."""

    status: Annotated[str, "True, False or Unknown."]
    type: Annotated[str, "What holds, for example WorkersReady."]
    last_probe_time: Annotated[Time | None, "When this was written."] = None
    last_transition_time: Annotated[Time | None, "When status changed."] = None
    message: Annotated[str, "Why, for people."] = ""
    reason: Annotated[str, "Why, in one word."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiGatewayStatus:
    """The REST gateway of a runtime."""

    endpoint: Annotated[str, "Its address."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeStatus:
    """How a runtime is; the required fields are written even where they are zero."""

    api_gateway: Annotated[ApiGatewayStatus | None, "The REST gateway."] = None
    cache_affinity: Annotated[NodeAffinity | None, "Nodes that cache."] = None
    cache_states: Annotated[Mapping[str, str], "Figures of the cache."] = field(default_factory=dict)
    conditions: Annotated[tuple[RuntimeCondition, ...], "What holds and what does not."] = ()
    current_fuse_number_scheduled: Annotated[Int32, REQUIRED, "FUSE pods placed."] = 0
    current_master_number_scheduled: Annotated[Int32, REQUIRED, "Masters placed."] = 0
    current_worker_number_scheduled: Annotated[Int32, REQUIRED, "Workers placed."] = 0
    desired_fuse_number_scheduled: Annotated[Int32, REQUIRED, "FUSE pods wanted."] = 0
    desired_master_number_scheduled: Annotated[Int32, REQUIRED, "Masters wanted."] = 0
    desired_worker_number_scheduled: Annotated[Int32, REQUIRED, "Workers wanted."] = 0
    fuse_number_available: Annotated[Int32 | None, "FUSE pods available."] = None
    fuse_number_ready: Annotated[Int32, REQUIRED, "FUSE pods ready."] = 0
    fuse_number_unavailable: Annotated[Int32 | None, "FUSE pods not available."] = None
    fuse_phase: Annotated[str, REQUIRED, "NotReady, PartialReady, Ready or nothing yet."] = ""
    fuse_reason: Annotated[str, "Why the phase is that."] = ""
    master_number_ready: Annotated[Int32, REQUIRED, "Masters ready."] = 0
    master_phase: Annotated[str, REQUIRED, "NotReady, PartialReady, Ready or nothing yet."] = ""
    master_reason: Annotated[str, "Why the phase is that."] = ""
    mount_time: Annotated[Time | None, "When the storage was mounted."] = None
    mounts: Annotated[tuple[Mount, ...], "What is mounted now."] = ()
    selector: Annotated[str, "Label selector of the workers, for scaling."] = ""
    setup_duration: Annotated[str, "How long it took to be ready."] = ""
    value_file: Annotated[str, REQUIRED, "ConfigMap of the values it was set up with."] = ""
    worker_number_available: Annotated[Int32 | None, "Workers available."] = None
    worker_number_ready: Annotated[Int32, REQUIRED, "Workers ready."] = 0
    worker_number_unavailable: Annotated[Int32 | None, "Workers not available."] = None
    worker_phase: Annotated[str, REQUIRED, "NotReady, PartialReady, Ready or nothing yet."] = ""
    worker_reason: Annotated[str, "Why the phase is that."] = ""
