"""The CustomResourceDefinitions: what Fluid's users write is accepted, what they read is there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from jindopy.kube.api.__main__ import FOLDER, main
from jindopy.kube.api.crds import definition, file_name, manifest
from jindopy.kube.api.fields import QUANTITY_LIST_PATTERN
from jindopy.kube.api.kinds import KINDS, ResourceKind
from tests.crd_fixture import errors, expanded, fields, listing

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)

# What ours accept beyond Fluid's: path pattern → why.
NEWER = "Fluid's schema is of an older Kubernetes, and drops it in silence"
ADDED = {
    r".*\.ephemeral\.volumeClaimTemplate\.metadata\.(annotations|finalizers|labels|name|namespace)": (
        "Fluid's schema has metadata without fields, so labels of such claims are dropped"
    ),
    r".*olume(s\[\]|Source)\.image(\.(pullPolicy|reference))?": NEWER,
    r".*\.volumeMounts\[\]\.recursiveReadOnly": NEWER,
    r".*\.resources\.claims\[\]\.request": NEWER,
    r".*\.securityContext\.appArmorProfile(\.(localhostProfile|type))?": NEWER,
    r".*\.lifecycle\.stopSignal": NEWER,
    r".*\.podSpec\.resourceClaims\[\]\.resourceClaim(Template)?Name": NEWER,
    r".*\.podSpec\.resources(\..*)?": NEWER,
    r".*\.podSpec\.securityContext\.(seLinuxChangePolicy|supplementalGroupsPolicy)": NEWER,
}


def version(kind: ResourceKind) -> dict[str, Any]:
    (only,) = definition(kind)["spec"]["versions"]
    return only


def schema(kind: ResourceKind) -> dict[str, Any]:
    return version(kind)["schema"]["openAPIV3Schema"]


def nodes(node: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = [(path, node)]
    for name, inner in node.get("properties", {}).items():
        found += nodes(inner, f"{path}.{name}")
    for key, sign in (("items", "[]"), ("additionalProperties", "{}")):
        if key in node:
            found += nodes(node[key], path + sign)
    return found


def test_committed_manifests_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().err
    assert {path.name for path in FOLDER.iterdir()} == {file_name(kind) for kind in KINDS}


def test_a_stale_missing_or_foreign_manifest_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    first, second, *_ = (tmp_path / file_name(kind) for kind in KINDS)
    first.write_text(first.read_text() + "# by hand\n")
    second.unlink()
    (tmp_path / "foreign.yaml").write_text("")
    assert main(["--check", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert all(name in told for name in (first.name, second.name, "foreign.yaml"))
    assert main([str(tmp_path)]) == 0
    assert first.read_text() == manifest(KINDS[0])
    assert main(["--force"]) == 2


@each_kind
def test_the_text_is_the_definition(kind: ResourceKind) -> None:
    assert yaml.safe_load(manifest(kind)) == definition(kind)


@each_kind
def test_every_field_of_fluid_is_there_as_it_was(kind: ResourceKind) -> None:
    with_form = f"quotaList: string pattern={QUANTITY_LIST_PATTERN}"  # told in one file, meant in all
    theirs = expanded(listing(kind.plural).lines)
    theirs = {
        line.replace("quotaList: string", with_form) if line.endswith("quotaList: string") else line for line in theirs
    }
    assert len(theirs) > 20
    ours = forgiving(
        fields({"type": "object", "properties": {n: schema(kind)["properties"][n] for n in ("spec", "status")}})
    )
    theirs = forgiving(theirs)
    assert not theirs - ours
    added = [line for line in ours - theirs if not any(re.fullmatch(known, line.split(": ")[0]) for known in ADDED)]
    assert not added, "say in ADDED why"


def forgiving(lines: set[str]) -> set[str]:
    """The files of the kinds do not tell quantities from other numbers-or-text, nor always what is atomic."""
    told = {
        line.replace(": quantity", ": int-or-string").replace("[string]quantity", "[string]int-or-string")
        for line in lines
    }
    return {line.replace(" atomic", "") for line in told if not line.endswith("[]: object atomic")}


@each_kind
def test_names_and_columns_are_fluids(kind: ResourceKind) -> None:
    theirs = listing(kind.plural)
    spec = definition(kind)["spec"]
    naming = spec["names"]
    assert naming["kind"] == theirs.header["kind"]
    assert naming["plural"] == theirs.header["plural"]
    assert naming.get("shortNames", []) == theirs.header["shortNames"].split()
    assert naming.get("categories", []) == theirs.header["categories"].split()
    assert (spec["scope"], version(kind)["name"]) == (theirs.header["scope"], theirs.header["version"])
    columns = version(kind).get("additionalPrinterColumns", [])
    assert [(c["name"], c["type"], c["jsonPath"], c.get("priority", 0)) for c in columns] == theirs.columns


@each_kind
def test_columns_and_scale_point_at_fields(kind: ResourceKind) -> None:
    known = {path for path, _ in nodes(schema(kind))}
    paths = [column["jsonPath"] for column in version(kind).get("additionalPrinterColumns", [])]
    paths += version(kind)["subresources"].get("scale", {}).values()
    for path in paths:
        parent = path.rpartition(".")[0]
        assert path in known or f"{parent}{{}}" in known or path == ".metadata.creationTimestamp", path


@each_kind
def test_subresources_are_fluids(kind: ResourceKind) -> None:
    theirs = listing(kind.plural).header
    ours = version(kind)["subresources"]
    assert ",".join(sorted(ours)) == theirs["subresources"]
    scale = json.loads(theirs["scale"].replace("'", '"')) if "scale" in theirs else None
    if kind.kind == "JindoRuntime":
        assert scale is not None
        scale["labelSelectorPath"] = ".status.selector"  # Fluid lacks it, and autoscalers need it
    assert ours.get("scale") == scale


ALLOWED = {
    *("type", "description", "properties", "required", "items", "additionalProperties", "default", "enum", "format"),
    *("pattern", "minimum", "minLength", "minItems", "anyOf", "x-kubernetes-int-or-string", "x-kubernetes-list-type"),
    *("x-kubernetes-list-map-keys", "x-kubernetes-map-type"),
}


@each_kind
def test_schemas_are_structural(kind: ResourceKind) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(kind))
    for path, node in nodes(schema(kind)):
        assert set(node) <= ALLOWED, path
        if node.get("x-kubernetes-int-or-string"):
            assert node["anyOf"] == [{"type": "integer"}, {"type": "string"}] and "type" not in node, path
        else:
            assert node["type"] in {"object", "array", "string", "integer", "boolean"} and "anyOf" not in node, path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert ("items" in node) == (node.get("type") == "array"), path
        assert set(node.get("required", ())) <= set(node.get("properties", {})), path
        assert node.get("properties", {}).keys() == {*sorted(node.get("properties", {}))}
        if "default" in node:
            jsonschema.validate(node["default"], node)
        keys = node.get("x-kubernetes-list-map-keys", ())
        assert bool(keys) == (node.get("x-kubernetes-list-type") == "map"), path
        for key in keys:  # the API server refuses a definition whose keys may be absent
            inner = node["items"]
            assert key in inner["required"] or "default" in inner["properties"][key], path
        if "x-kubernetes-map-type" in node:
            assert node["type"] == "object", path


QUANTITIES = ("100Gi", "1", "0.5", "+1", "-1", "1e3", "1E3", "128974848", "500m", ".5", "1.", 5, "2Ki", "3n")
NO_QUANTITIES = ("", "Gi", "1Gb", "100 Gi", "1,5Gi", "1GiB", "one", "1Gi\n", True, 1.5, [], {})


@each_kind
def test_quantities_are_checked_and_ports_are_not(kind: ResourceKind) -> None:
    seen = set()
    for path, node in nodes(schema(kind)):
        if not node.get("x-kubernetes-int-or-string"):
            continue
        if path.endswith((".httpGet.port", ".tcpSocket.port")):
            assert "pattern" not in node
            continue
        if node["pattern"] in seen:
            continue
        seen.add(node["pattern"])
        assert all(not errors(node, good) for good in QUANTITIES), path
        # The line feed is Python's "$", which the API server's is not.
        assert all(errors(node, bad) for bad in NO_QUANTITIES if bad != "1Gi\n"), path


@each_kind
def test_atomic_parts_are_those_of_fluid(kind: ResourceKind) -> None:
    for path, node in nodes(schema(kind)):
        if path.endswith((".labelSelector", ".secretRef", ".fieldRef", ".resourceFieldRef", ".preference", "Terms[]")):
            assert node["x-kubernetes-map-type"] == "atomic", path
    if kind.kind == "Dataset":
        assert schema(kind)["properties"]["spec"]["properties"]["nodeAffinity"]["properties"]["required"][
            "x-kubernetes-map-type"
        ]


@each_kind
def test_kubectl_apply_can_keep_them(kind: ResourceKind) -> None:
    """``kubectl apply`` writes the whole object into an annotation, which may have 256 KiB."""
    assert len(json.dumps(definition(kind), separators=(",", ":"))) < 262_144 - 1024


@each_kind
def test_fields_of_ours_are_explained(kind: ResourceKind) -> None:
    """``kubectl explain`` has a sentence for every field that is Fluid's; those of Kubernetes are known."""
    own = [line.split(": ")[0] for line in listing(kind.plural).lines]
    described = {path for path, node in nodes(schema(kind)) if "description" in node}
    core = re.compile(
        r"volumeSource\.|ffinity|valueFrom\.(config|field|resource)|\.env\[\]|\.ports\[\]|odeSelectorTerms"
    )
    missing = [path for path in own if not core.search(path) and f".{path}" not in described]
    assert not missing
