"""Parsing custom resources: problems by path, agreement with the schema on random input, no harm from hostile input."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jindopy.base.errors import UsageError
from jindopy.kube.api.crds import definition
from jindopy.kube.api.dataset import Dataset, DatasetSpec, DatasetStatus
from jindopy.kube.api.fields import Kind, Shape, by_wire, members, wire_name
from jindopy.kube.api.jindo import JindoRuntime
from jindopy.kube.api.kinds import KINDS, ResourceKind, load
from jindopy.kube.api.load import DataLoad
from jindopy.kube.api.names import API_VERSION
from jindopy.kube.api.parse import PROBLEMS_MAX, ResourceInvalid, parse, to_mapping
from jindopy.kube.api.process import DataProcess
from jindopy.kube.api.runtime import RuntimeStatus
from tests.crd_fixture import admitted, errors

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)


def runtime(spec: object) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "JindoRuntime", "metadata": {"name": "r"}, "spec": spec}


def dataset(spec: object) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "Dataset", "metadata": {"name": "d"}, "spec": spec}


def problems(source: object) -> list[str]:
    with pytest.raises(ResourceInvalid) as caught:
        load(source)
    return [str(problem) for problem in caught.value.problems]


def warnings(source: object) -> list[str]:
    return [str(warning) for warning in load(source).warnings]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"replicas": "two"}, "spec.replicas: expected an integer, got 'two'"),
        ({"replicas": True}, "spec.replicas: expected an integer, got true"),
        ({"replicas": 2.5}, "spec.replicas: expected an integer, got 2.5"),
        ({"replicas": 1 << 40}, "spec.replicas: expected an integer of at most 2147483647, got 1099511627776"),
        (
            {"replicas": 10**5000},
            "spec.replicas: expected an integer of at most 2147483647, got an integer of more than 64 bits",
        ),
        ({"master": {"replicas": 0}}, "spec.master.replicas: expected an integer >= 1, got 0"),
        (
            {"networkmode": "Host"},
            "spec.networkmode: expected one of 'HostNetwork', '', 'ContainerNetwork', got 'Host'",
        ),
        ({"fuse": []}, "spec.fuse: expected a mapping, got a list"),
        ({"fuse": {"args": "-oro"}}, "spec.fuse.args: expected a list, got a string"),
        ({"fuse": {"args": [1]}}, "spec.fuse.args[0]: expected a string, got an integer (put it in quotes)"),
        ({"fuse": {"args": [None]}}, "spec.fuse.args[0]: expected a string, got null"),
        ({"fuse": {"disabled": "no"}}, "spec.fuse.disabled: expected true or false, got 'no'"),
        ({"runAs": {"uid": 1, "gid": 1, "user": "u"}}, "spec.runAs.group: required, expected a string"),
        (
            {"properties": {"a.b": True}},
            "spec.properties[a.b]: expected a string, got true or false (put it in quotes)",
        ),
        ({"worker": {"ports": {"rpc": "x"}}}, "spec.worker.ports[rpc]: expected an integer, got 'x'"),
        (
            {"tieredstore": {"levels": [{"mediumtype": "HDD", "quota": "100GB"}]}},
            "spec.tieredstore.levels[0].quota: expected a quantity such as 100Gi, got '100GB'",
        ),
        (
            {"worker": {"resources": {"limits": {"cpu": 0.5}}}},
            "spec.worker.resources.limits[cpu]: expected a quantity such as 100Gi, got 0.5 (put it in quotes)",
        ),
        (
            {"tieredstore": {"levels": [{"mediumtype": "HDD", "high": 0.99}]}},
            "spec.tieredstore.levels[0].high: expected a string, got a number (put it in quotes)",
        ),
        (
            {"tieredstore": {"levels": [{"mediumtype": "HDD", "quotaList": "100Gi"}]}},
            "spec.tieredstore.levels[0].quotaList: expected quantities such as 100Gi,50Gi, got '100Gi'",
        ),
    ],
)
def test_problems_name_the_field_and_what_is_right(spec: dict[str, Any], message: str) -> None:
    assert problems(runtime(spec)) == [message]


def test_a_quantity_ends_where_its_text_ends() -> None:
    for text, fine in (("100Gi", True), ("100Gi\n", False), ("100Gi ", False)):
        level = {"mediumtype": "HDD", "quota": text}
        spec = {"tieredstore": {"levels": [level]}}
        if fine:
            assert not warnings(runtime(spec))
        else:
            assert len(problems(runtime(spec))) == 1


def test_all_problems_are_told_at_once() -> None:
    spec = {"replicas": "two", "mounts": [], "tieredstore": {"levels": [{}, {"mediumtype": "RAM", "path": ""}]}}
    assert [one.split(":")[0] for one in problems(runtime(spec))] == [
        "spec.replicas",
        "spec.tieredstore.levels[0].mediumtype",
        "spec.tieredstore.levels[1].mediumtype",
        "spec.tieredstore.levels[1].path",
    ]
    assert problems(dataset({"mounts": []})) == ["spec.mounts: expected a list of 1 or more, got 0"]
    assert problems(dataset({"mounts": [{"mountPoint": "oss"}]})) == [
        "spec.mounts[0].mountPoint: expected a string of 5 or more characters, got 3"
    ]


def test_the_error_is_one_line_that_names_the_resource() -> None:
    with pytest.raises(ResourceInvalid) as caught:
        load(runtime({"replicas": "two", "user": []}))
    assert isinstance(caught.value, UsageError)
    assert str(caught.value) == (
        "JindoRuntime r: spec.replicas: expected an integer, got 'two'; spec.user: expected a string, got a list"
    )


def test_many_problems_are_counted_not_told() -> None:
    with pytest.raises(ResourceInvalid) as caught:
        load(runtime({"fuse": {"args": [0] * 100_000}}))
    assert len(caught.value.problems) == PROBLEMS_MAX
    assert str(caught.value).endswith(f"and {100_000 - PROBLEMS_MAX} more")
    assert len(warnings(runtime({f"f{number}": 0 for number in range(100_000)}))) == PROBLEMS_MAX


def test_unknown_fields_are_warnings_with_the_name_that_was_meant() -> None:
    spec = {"tieredStore": {"levels": []}, "replica": 2, "networkMode": "HostNetwork", "qwxz": 1, 7: 1}
    assert sorted(warnings(runtime(spec))) == [
        "spec.networkMode: unknown field, ignored; did you mean networkmode?",
        "spec.qwxz: unknown field, ignored",
        "spec.replica: unknown field, ignored; did you mean replicas?",
        "spec.tieredStore: unknown field, ignored; did you mean tieredstore?",
        "spec: the name of a field is text, not an integer",
    ]


def test_what_the_api_server_adds_to_metadata_is_no_warning() -> None:
    source = runtime({}) | {"metadata": {"name": "r", "managedFields": [{}], "selfLink": "x", "generation": 3}}
    assert not warnings(source)


def test_the_envelope_is_checked() -> None:
    assert problems([]) == ["expected a mapping"]
    names = ", ".join(kind.kind for kind in KINDS)
    for source in ({}, {"kind": None}, {"kind": ["Dataset"]}, {"kind": "Pod"}):
        assert problems(source) == [f"kind: expected one of {names}"]
    assert problems({"kind": "Dataset", "apiVersion": "v1"}) == [
        f"apiVersion: expected one of '{API_VERSION}', got 'v1'"
    ]
    assert problems({"kind": "Dataset"}) == [f"apiVersion: required, expected one of '{API_VERSION}'"]
    assert problems(runtime({}) | {"metadata": {"labels": {"a": 1}}}) == [
        "metadata.labels[a]: expected a string, got an integer (put it in quotes)"
    ]


def test_nulls_are_absent_and_defaults_are_filled_in() -> None:
    load_spec = {"dataset": None, "policy": None, "target": None, "options": {"a": None}}
    parsed = parse(DataLoad, {"apiVersion": API_VERSION, "kind": "DataLoad", "spec": load_spec}).resource
    assert parsed.spec is not None
    assert (parsed.spec.dataset, parsed.spec.policy, parsed.spec.target, parsed.spec.options) == (None, "Once", (), {})
    level = parse(JindoRuntime, runtime({"tieredstore": {"levels": [{"mediumtype": "MEM"}]}})).resource
    assert level.spec is not None and level.spec.tieredstore is not None
    assert level.spec.tieredstore.levels[0].volume_type == "hostPath"


SECRET = "LTAI5tSecretSecretSecret"


def test_no_message_holds_what_may_be_a_secret() -> None:
    mount = {
        "mountPoint": ["oss://" + SECRET],
        "options": {"fs.oss.accessKeySecret": [SECRET], "x": {SECRET: SECRET}, "y": 12345678},
        "encryptOptions": SECRET,
        "path": {"a": SECRET},
    }
    told = problems(dataset({"mounts": [mount]}))
    assert len(told) == 6
    assert not [line for line in told if SECRET in line or "12345678" in line]
    env = [{"name": "KEY", "value": 12345678}, {"name": "KEY", "value": [SECRET]}]
    script = {"dataset": {"name": "d", "mountPath": "/d"}, "processor": {"script": {"source": "x", "env": env}}}
    told = problems({"apiVersion": API_VERSION, "kind": "DataProcess", "spec": script})
    assert len(told) == 2 and not [line for line in told if SECRET in line or "12345678" in line]


def test_a_model_that_is_logged_shows_no_value_that_may_be_a_secret() -> None:
    options = {"fs.oss.accessKeySecret": SECRET}
    mounts = [{"mountPoint": "oss://b/", "options": options}]
    one = dataset({"mounts": mounts, "sharedOptions": options})
    one["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(one)}
    parts = {"env": options, "properties": options}
    two = runtime({"fuse": parts, "master": parts, "worker": parts, "properties": options})
    env = [{"name": "KEY", "value": SECRET}]
    script = {"source": f"export KEY={SECRET}", "env": env}
    spec = {"dataset": {"name": "d", "mountPath": "/d"}, "processor": {"script": script}}
    for source in (one, two, {"apiVersion": API_VERSION, "kind": "DataProcess", "spec": spec}):
        parsed = load(source)
        assert SECRET in json.dumps(to_mapping(parsed.resource))
        assert SECRET not in repr(parsed)


def test_a_new_status_has_all_that_is_required() -> None:
    """What is required of a status binds the first write too."""
    written = to_mapping(RuntimeStatus())
    assert (written["masterPhase"], written["valueFile"], written["workerNumberReady"]) == ("", "", 0)
    assert to_mapping(DatasetStatus()) == {"conditions": []}
    for kind in KINDS:
        shape = by_wire(kind.model)["status"].shape
        assert shape.model is not None
        assert not errors(schema(kind)["properties"]["status"], to_mapping(shape.model()))


def test_models_are_changed_by_copying() -> None:
    spec = parse(Dataset, dataset({"mounts": [{"mountPoint": "oss://b/"}]})).resource.spec
    assert spec == DatasetSpec(mounts=spec.mounts if spec else ())
    assert spec is not None and to_mapping(replace(spec, mounts=())) == {}


def test_names_on_the_wire() -> None:
    assert [wire_name(name) for name in ("mount_point", "spec", "ttl_seconds_after_finished")] == [
        "mountPoint",
        "spec",
        "ttlSecondsAfterFinished",
    ]


# Random input --------------------------------------------------------------------------------------------------------


def schema(kind: ResourceKind) -> dict[str, Any]:
    (version,) = definition(kind)["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


def good(shape: Shape, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values a shape allows, small ones."""
    rule = shape.rule
    if shape.enum:
        return st.sampled_from(shape.enum)
    match shape.kind:
        case Kind.OBJECT:
            assert shape.model is not None
            return good_object(shape.model, depth + 1)
        case Kind.LIST:
            return st.lists(good(shape.each, depth), min_size=rule.min_items or 0, max_size=2)
        case Kind.MAP:
            return st.dictionaries(st.text(max_size=8), good(shape.each, depth), max_size=2)
        case Kind.BOOLEAN:
            return st.booleans()
        case Kind.INTEGER:
            return st.integers(
                min_value=rule.minimum if rule.minimum is not None else -(1 << 31), max_value=(1 << 31) - 1
            )
        case Kind.INT_OR_STRING:
            return st.sampled_from([1, "2", "100Gi", "0.5", "1e3"])
    if rule.pattern:
        return st.sampled_from(["1Gi,2Gi", "1k,2"])
    if rule.format == "date-time":
        return st.sampled_from(["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678+08:00"])
    return st.text(min_size=rule.min_length or 0, max_size=10)


def good_object(model: type, depth: int) -> st.SearchStrategy[Any]:
    """Below a few levels only what is required, so that examples stay small."""
    required = {one.wire: st.deferred(lambda one=one: good(one.shape, depth)) for one in members(model) if one.required}
    if depth > 4:
        return st.fixed_dictionaries(required)
    optional = {one.wire: st.deferred(lambda one=one: good(one.shape, depth)) for one in members(model)}
    some = st.lists(st.sampled_from(sorted(optional.keys() - required.keys()) or [""]), max_size=4, unique=True)
    return some.flatmap(
        lambda names: st.fixed_dictionaries(required | {name: optional[name] for name in names if name in optional})
    )


# Floats stay small: an integer beyond 32 bits is told by the parser alone, since the format is no limit for a schema.
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([2.0, -1.0, 0.5, 1e9]), st.text(max_size=5)
)
ODD = st.one_of(
    SCALARS, st.just([]), st.just({}), st.lists(SCALARS, max_size=2), st.dictionaries(st.text(max_size=3), SCALARS)
)


@st.composite
def spoilt(draw: st.DrawFn, valid: st.SearchStrategy[Any]) -> Any:
    """A valid object with one place in it replaced by, or given, something odd."""
    whole = json.loads(json.dumps(draw(valid)))
    node, steps = whole, draw(st.integers(0, 6))
    for _ in range(steps):
        inner = node.items() if isinstance(node, dict) else enumerate(node)
        nodes = [item for _, item in inner if isinstance(item, (dict, list)) and item]
        if not nodes:
            break
        node = draw(st.sampled_from(nodes))
    if isinstance(node, dict) and node:
        node[draw(st.sampled_from(sorted(node)))] = draw(ODD)
    elif isinstance(node, list):
        node[draw(st.integers(0, len(node) - 1))] = draw(ODD)
    return whole


RELAXED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@each_kind
def test_valid_objects_are_accepted_and_come_back(kind: ResourceKind) -> None:
    @RELAXED
    @given(good_object(kind.model, 0))
    def check(source: dict[str, Any]) -> None:
        source.pop("metadata", None)
        assert not errors(schema(kind), source)
        parsed = parse(kind.model, source)
        assert not parsed.warnings
        written = to_mapping(parsed.resource)
        assert not errors(schema(kind), written)
        assert written == without_empty(kind.model, admitted(schema(kind), source))
        assert parse(kind.model, written).resource == parsed.resource

    check()


def without_empty(model: type, value: dict[str, Any]) -> dict[str, Any]:
    """What Go's omitempty leaves: text, lists, maps and falsehoods that say nothing more than their absence."""
    kept = {}
    for one in members(model):
        if one.wire not in value:
            continue
        item = value[one.wire]
        shape = one.shape
        if shape.kind is Kind.OBJECT:
            assert shape.model is not None
            item = without_empty(shape.model, item)
        elif shape.kind is Kind.LIST and shape.each.kind is Kind.OBJECT:
            assert shape.each.model is not None
            item = [without_empty(shape.each.model, each) for each in item]
        empty = one.default is not None and item in ("", [], {}, False)
        if one.required or one.defaulted or not empty:
            kept[one.wire] = item
    return kept


@each_kind
def test_parser_and_api_server_agree(kind: ResourceKind) -> None:
    @RELAXED
    @given(spoilt(good_object(kind.model, 0)))
    def check(source: dict[str, Any]) -> None:
        source |= {"apiVersion": API_VERSION, "kind": kind.kind}
        source.pop("metadata", None)
        refused = errors(schema(kind), source)
        try:
            parse(kind.model, source)
        except ResourceInvalid as invalid:
            # Times are a format, which this judge does not look at.
            assert refused or all("a time such as" in one.message for one in invalid.problems), invalid
        else:
            assert not refused

    check()


class Hostile(Mapping[str, Any]):
    """A mapping that answers every name with more of itself."""

    def __getitem__(self, name: str) -> Any:
        return self

    def __iter__(self) -> Any:
        return iter(("spec", "mounts"))

    def __len__(self) -> int:
        return 2

    def get(self, name: str, default: Any = None) -> Any:
        return self


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=9), st.dates()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.text(), st.integers()), inner, max_size=4)
    ),
    max_leaves=20,
)


@each_kind
def test_anything_is_answered(kind: ResourceKind) -> None:
    names = st.sampled_from(
        [
            one.wire
            for wire in ("spec", "status")
            for one in members(by_wire(kind.model)[wire].shape.model or kind.model)
        ]
        or ["x"]
    )

    @RELAXED
    @given(st.dictionaries(names, ANYTHING), ANYTHING)
    def check(inner: dict[str, Any], whole: Any) -> None:
        for source in (whole, {"apiVersion": API_VERSION, "kind": kind.kind, "spec": inner, "status": inner}):
            try:
                load(source)
            except ResourceInvalid as invalid:
                assert len(str(invalid)) < 300 * (PROBLEMS_MAX + 1)

    check()


def deep(levels: int) -> Any:
    value: Any = "x"
    for number in range(levels):
        value = [value] if number % 2 else {"spec": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        deep(100_000),
        "x" * 50_000_000,
        ["x" * 50_000_000],
        {"x" * 50_000_000: 1},
        Hostile(),
        math.nan,
        -math.inf,
        10**10_000,
    ],
    ids=["deep", "long", "long-item", "long-name", "endless", "nan", "inf", "huge"],
)
@each_kind
def test_hostile_values_do_no_harm(kind: ResourceKind, value: Any) -> None:
    for at in ("spec", "status", "metadata", "apiVersion"):
        try:
            load({"apiVersion": API_VERSION, "kind": kind.kind} | {at: value})
        except ResourceInvalid as invalid:
            assert len(str(invalid)) < 20_000
    for member in members(by_wire(kind.model)["spec"].shape.model or kind.model):
        try:
            load({"apiVersion": API_VERSION, "kind": kind.kind, "spec": {member.wire: value}})
        except ResourceInvalid as invalid:
            assert len(str(invalid)) < 20_000


def test_no_model_contains_itself() -> None:
    """Depth of parsing, writing and schemas is the depth of the models."""

    def walk(model: type, above: tuple[type, ...]) -> int:
        assert model not in above, model
        return 1 + max((below(one.shape, (*above, model)) for one in members(model)), default=0)

    def below(shape: Shape, above: tuple[type, ...]) -> int:
        if shape.model is not None:
            return walk(shape.model, above)
        return below(shape.items, above) if shape.items is not None else 0

    assert max(walk(kind.model, ()) for kind in KINDS) < 20
    assert walk(DataProcess, ()) > 8
