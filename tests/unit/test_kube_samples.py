"""manifests/samples and the published quick start: accepted by the schemas, understood by the parser, kept whole."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from jindopy.kube.api.crds import definition
from jindopy.kube.api.dataset import Dataset
from jindopy.kube.api.jindo import JindoRuntime
from jindopy.kube.api.kinds import BY_NAME, load
from jindopy.kube.api.names import API_VERSION
from jindopy.kube.api.parse import to_mapping
from tests.crd_fixture import admitted, errors

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "manifests/samples"


def documents() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for path in sorted(SAMPLES.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            found.append((f"{path.stem}-{document['kind']}-{document['metadata']['name']}", document))
    return found


OURS = [(name, document) for name, document in documents() if document["apiVersion"] == API_VERSION]
each_sample = pytest.mark.parametrize("document", [document for _, document in OURS], ids=[name for name, _ in OURS])


def schema(kind: str) -> dict[str, Any]:
    (version,) = definition(BY_NAME[kind])["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


def test_every_kind_has_a_sample() -> None:
    assert {document["kind"] for _, document in OURS} == set(BY_NAME)


@each_sample
def test_samples_are_accepted_as_they_are(document: dict[str, Any]) -> None:
    assert not errors(schema(document["kind"]), document)
    parsed = load(document)
    assert not parsed.warnings
    # What the API server would keep, and nothing else, comes back.
    assert to_mapping(parsed.resource) == admitted(schema(document["kind"]), document)


@each_sample
def test_samples_have_no_field_the_schema_drops(document: dict[str, Any]) -> None:
    kept = admitted(schema(document["kind"]), copy.deepcopy(document))
    assert not list(dropped(document, kept, ""))


def dropped(given: Any, kept: Any, path: str) -> Any:
    if isinstance(given, dict):
        for name, item in given.items():
            if name not in kept:
                yield f"{path}.{name}"
            else:
                yield from dropped(item, kept[name], f"{path}.{name}")
    elif isinstance(given, list):
        for index, item in enumerate(given):
            yield from dropped(item, kept[index], f"{path}[{index}]")


def quickstart() -> dict[str, dict[str, Any]]:
    every = [*yaml.safe_load_all((SAMPLES / "quickstart.yaml").read_text())]
    every.append(yaml.safe_load((SAMPLES / "app.yaml").read_text()))
    return {document["kind"]: document for document in every}


def test_the_quick_start_is_the_published_one() -> None:
    guide = tomllib.loads((ROOT / "tests/data/fluid/guide.toml").read_text())
    found = quickstart()
    dataset, runtime = load(found["Dataset"]).resource, load(found["JindoRuntime"]).resource
    assert isinstance(dataset, Dataset) and isinstance(runtime, JindoRuntime)
    assert dataset.spec is not None and runtime.spec is not None and runtime.spec.tieredstore is not None
    (mount,) = dataset.spec.mounts
    assert dataset.metadata.name == runtime.metadata.name == mount.name == guide["dataset"]["name"]
    assert mount.mount_point == guide["dataset"]["mount_point"]
    assert list(mount.options) == guide["dataset"]["options"]
    assert [option.name for option in mount.encrypt_options] == guide["dataset"]["encrypt_options"]
    for option in mount.encrypt_options:
        assert option.value_from is not None and option.value_from.secret_key_ref is not None
        reference = option.value_from.secret_key_ref
        assert (reference.name, reference.key) == (found["Secret"]["metadata"]["name"], option.name)
        assert option.name in found["Secret"]["stringData"]
    assert runtime.spec.replicas == guide["runtime"]["replicas"]
    levels = [(one.mediumtype, one.path, one.quota, one.high, one.low) for one in runtime.spec.tieredstore.levels]
    assert levels == [tuple(level.values()) for level in guide["runtime"]["levels"]]
    (volume,) = found["Pod"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == dataset.metadata.name


def test_kubectl_get_shows_the_columns_of_the_quick_start() -> None:
    guide = tomllib.loads((ROOT / "tests/data/fluid/guide.toml").read_text())
    shown = [column.name.upper() for column in BY_NAME["Dataset"].columns if column.priority == 0]
    assert ["NAME", *shown] == guide["dataset"]["columns"]
