"""The kinds of the group: names, columns and subresources beside the model, whose schema does the rest.  P.

Columns are in the order in which ``kubectl get`` shows them; those of a priority above 0 appear with ``-o wide``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jindopy.kube.api import names
from jindopy.kube.api.alluxio import AlluxioRuntime
from jindopy.kube.api.dataset import Dataset
from jindopy.kube.api.jindo import JindoRuntime
from jindopy.kube.api.load import DataBackup, DataLoad
from jindopy.kube.api.meta import Resource
from jindopy.kube.api.migrate import DataMigrate
from jindopy.kube.api.parse import Parsed, Problem, ResourceInvalid, parse
from jindopy.kube.api.process import DataProcess
from jindopy.kube.api.thin import ThinRuntime, ThinRuntimeProfile

_NAME_MAX = 63  # characters of a name in a message; longer ones are no names
WIDE = 10  # Fluid's priority of columns that only -o wide shows


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``kubectl get``."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class ResourceKind:
    """A kind: its model and what the API server has to know beside the schema."""

    model: type[Resource]
    plural: str
    columns: tuple[Column, ...] = ()
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = (names.CATEGORY,)
    scope: str = "Namespaced"
    scale: bool = False

    @property
    def kind(self) -> str:
        """``Dataset``."""
        return self.model.__name__


AGE = Column("Age", ".metadata.creationTimestamp", "date")
_DATASET = Column("Dataset", ".spec.dataset.name")
_PHASE = Column("Phase", ".status.phase")
_DURATION = Column("Duration", ".status.duration")


def _runtime_columns(*last: Column) -> tuple[Column, ...]:
    columns: list[Column] = []
    for title, part in (("Master", "master"), ("Worker", "worker"), ("Fuse", "fuse")):
        desired = f".status.desired{title}NumberScheduled"
        columns += [
            Column(f"Ready {title}s", f".status.{part}NumberReady", "integer", WIDE),
            Column(f"Desired {title}s", desired, "integer", WIDE),
            Column(f"{title} Phase", f".status.{part}Phase"),
        ]
    return (*columns, *last, AGE)


KINDS = (
    ResourceKind(
        Dataset,
        "datasets",
        (
            Column("Ufs Total Size", ".status.ufsTotal"),
            Column("Cached", ".status.cacheStates.cached"),
            Column("Cache Capacity", ".status.cacheStates.cacheCapacity"),
            Column("Cached Percentage", ".status.cacheStates.cachedPercentage"),
            Column("Phase", ".status.phase"),
            Column("HCFS URL", ".status.hcfs.endpoint", priority=WIDE),
            Column("TOTAL FILES", ".status.fileNum", priority=11),
            Column("CACHE HIT RATIO", ".status.cacheStates.cacheHitRatio", priority=WIDE),
            AGE,
        ),
        short_names=("dataset",),
    ),
    ResourceKind(JindoRuntime, "jindoruntimes", _runtime_columns(), short_names=("jindo",), scale=True),
    ResourceKind(
        AlluxioRuntime,
        "alluxioruntimes",
        _runtime_columns(Column("API Gateway", ".status.apiGateway.endpoint", priority=WIDE)),
        short_names=("alluxio",),
        scale=True,
    ),
    ResourceKind(DataLoad, "dataloads", (_DATASET, _PHASE, AGE, _DURATION), short_names=("load",)),
    ResourceKind(
        DataBackup,
        "databackups",
        (
            Column("Dataset", ".spec.dataset"),
            _PHASE,
            Column("Path", ".status.infos.BackupLocationPath"),
            Column("NodeName", ".status.infos.BackupLocationNodeName"),
            _DURATION,
            AGE,
        ),
        short_names=("backup",),
    ),
    ResourceKind(DataMigrate, "datamigrates", (_PHASE, AGE, _DURATION), short_names=("migrate",)),
    # These three have neither short names nor the category, as in Fluid.
    ResourceKind(DataProcess, "dataprocesses", (_DATASET, _PHASE, AGE, _DURATION), categories=()),
    ResourceKind(ThinRuntime, "thinruntimes", categories=()),
    ResourceKind(ThinRuntimeProfile, "thinruntimeprofiles", categories=(), scope="Cluster"),
)
BY_NAME = {kind.kind: kind for kind in KINDS}


def load(source: object) -> Parsed[Resource]:
    """An object of any of the kinds; ResourceInvalid with all that is wrong in it."""
    if not isinstance(source, Mapping):
        raise ResourceInvalid("resource", (Problem("", "expected a mapping"),), 0)
    name = source.get("kind")
    kind = BY_NAME.get(name) if isinstance(name, str) else None
    if kind is None:
        problem = Problem("kind", f"expected one of {', '.join(BY_NAME)}")
        raise ResourceInvalid("resource", (problem,), 0)
    return parse(kind.model, source, kind.kind + _called(source))


def _called(source: Mapping[str, object]) -> str:
    metadata = source.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return f" {name[:_NAME_MAX]}" if isinstance(name, str) else ""
