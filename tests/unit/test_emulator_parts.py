"""Pure parts of the emulator: routes, faults, formulas, the shared line, error bodies."""

from __future__ import annotations

import random

import pytest

from jindopy._ext.crc64 import crc64
from jindopy.base.clock import SimulatedClock
from jindopy.base.errors import ConfigError
from jindopy.emulator.errors import Refused
from jindopy.emulator.faults import Conditions, fail_rules
from jindopy.emulator.http import Request, parse_query
from jindopy.emulator.listing import Variant, page
from jindopy.emulator.routing import Hosts, route
from jindopy.emulator.shared import Shared, chunk_bytes
from jindopy.emulator.signature import Credential, SignatureRules, Verifier
from jindopy.emulator.synthetic import Synthetic, SyntheticBucket


def request(method: str, target: str, **headers: str) -> Request:
    path, _, query = target.partition("?")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(method, path.encode(), parse_query(query), named, True, 0)


@pytest.mark.parametrize(
    ("host", "target", "bucket", "key"),
    [
        ("127.0.0.1:80", "/b-1/k/l", "b-1", b"k/l"),
        ("127.0.0.1", "/", "", b""),
        ("[::1]:80", "/bkt", "bkt", b""),
        ("localhost", "/bkt/", "bkt", b""),
        ("bkt.localhost:9000", "/k", "bkt", b"k"),
        ("bkt.127.0.0.1:9000", "/k", "bkt", b"k"),
        ("bkt.oss-cn-hangzhou.aliyuncs.com", "/k", "bkt", b"k"),
        ("oss-cn-hangzhou-internal.aliyuncs.com", "/bkt/k", "bkt", b"k"),
        ("BKT.example.org", "/k", "bkt", b"k"),
        ("data.example.com:443", "/k", "named", b"k"),
    ],
)
def test_hosts(host: str, target: str, bucket: str, key: bytes) -> None:
    hosts = Hosts(frozenset({"localhost", "example.org"}), {"data.example.com": "named"})
    found = route(request("GET", target, host=host), hosts)
    assert (found.bucket, found.key) == (bucket, key)


def test_unknown_hosts_are_refused() -> None:
    with pytest.raises(Refused):
        route(request("GET", "/k", host="elsewhere.example"), Hosts())


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        ("GET", "/", "ListBuckets"),
        ("GET", "/b?list-type=2&prefix=x", "ListObjectsV2"),
        ("GET", "/b?prefix=uploads", "ListObjects"),
        ("GET", "/b?uploads", "ListMultipartUploads"),
        ("POST", "/b/k?uploads", "InitiateMultipartUpload"),
        ("PUT", "/b/k?partNumber=1&uploadId=U", "UploadPart"),
        ("DELETE", "/b/k?uploadId=U", "AbortMultipartUpload"),
        ("HEAD", "/b/k?objectMeta", "GetObjectMeta"),
        ("POST", "/b?delete", "DeleteMultipleObjects"),
        ("POST", "/b/k?append&position=0", "Other"),
        ("OPTIONS", "/b/k", "Other"),
    ],
)
def test_operations(method: str, target: str, operation: str) -> None:
    assert route(request(method, target, host="localhost"), Hosts()).operation == operation


def test_fail_rules_fail_the_asked_share() -> None:
    draw = random.Random(1)
    rules = fail_rules(0.3, ("503", "reset", "truncate"))
    failed = dict.fromkeys(("error", "reset", "truncate"), 0)
    for _ in range(20_000):
        for rule in rules:
            if draw.random() < rule.rate:
                failed[rule.kind] += 1
                break
    assert all(abs(count - 2000) < 200 for count in failed.values())
    with pytest.raises(ValueError, match="kind"):
        fail_rules(0.1, ("explode",))


@pytest.mark.parametrize(
    "value",
    [
        [], {"latency": 1}, {"latency_seconds": "1"}, {"latency_seconds": -1}, {"latency_seconds": float("nan")},
        {"faults": {}}, {"faults": [{"kind": "odd"}]}, {"faults": [{"kind": "reset", "rate": 2}]},
        {"faults": [{"kind": "reset", "operations": ["Dance"]}]}, {"faults": [{"kind": "error", "status": 200}]},
        {"faults": [{"kind": "slow", "bytes_per_second": 0}]}, {"faults": [{"kind": "reset"}] * 17},
    ],
)  # fmt: skip
def test_wrong_conditions_are_refused(value: object) -> None:
    with pytest.raises(ValueError):
        Conditions.from_json(value)


def test_conditions_and_strikes_are_shared() -> None:
    shared = Shared(2, Conditions(latency_seconds=0.5), SimulatedClock())
    assert shared.conditions().latency_seconds == 0.5
    rules = fail_rules(1.0, ("reset",))
    shared.set_conditions(Conditions(faults=rules))
    assert shared.conditions().faults == rules
    assert [shared.strike(0, 2) for _ in range(4)] == [True, True, False, False]
    assert shared.strikes()[0] == 2
    shared.counters(0)[0] += 2
    shared.counters(1)[0] += 3
    assert next(iter(shared.sums().values())) == 5
    shared.reset_counters()
    assert sum(shared.sums().values()) == 0


def test_the_line_keeps_its_rate() -> None:
    clock = SimulatedClock()
    shared = Shared(1, Conditions(), clock)
    rate = 10_000_000
    sent, started = 0, clock.monotonic()
    while sent < 5_000_000:
        clock.advance(shared.reserve(chunk_bytes(rate), rate) + 0.001)
        sent += chunk_bytes(rate)
    assert 0.46 < clock.monotonic() - started < 0.52


def test_formulas() -> None:
    bucket = SyntheticBucket.parse("name=meta,prefixes=3,objects=12,size=3MiB")
    synthetic = Synthetic([bucket])
    keys = []
    after = b""
    while True:
        found = page(synthetic, "meta", b"", b"", after, 5, Variant(False, False))
        keys += [row.partition(b"<Key>")[2].partition(b"<")[0] for row in found.rows]
        after = found.last
        if not found.truncated:
            break
    assert keys == [b"p%03d/o%06d" % (group, index) for group in range(3) for index in range(12)]
    assert page(synthetic, "meta", b"", b"/", b"", 2, Variant(False, False)).prefixes == [b"p000/", b"p001/"]
    for key in (keys[0], keys[-1]):
        content = synthetic.content("meta", key)
        assert len(content) == 3 << 20
        assert crc64(content) == synthetic.open("meta", key)[1].crc64
    assert synthetic.content("meta", keys[0]) != synthetic.content("meta", keys[1])
    for key in (b"p003/o000000", b"p000/o12", b"o000000", b"p000/o000012", b"p000/x"):
        with pytest.raises(Refused):
            synthetic.open("meta", key)
    for text in ("size", "name=Up", "prefixes=x", "objects=0", "size=many"):
        with pytest.raises(ConfigError):
            SyntheticBucket.parse(text)


DOCUMENTED = {  # the V1 example of the service's documentation
    "content-md5": "ODBGOERFMDMzQTczRUY3NUE3NzA5QzdFNUYzMDQxNEM=",
    "content-type": "text/html",
    "date": "Thu, 17 Nov 2005 18:49:58 GMT",
    "host": "oss-example.oss-cn-hangzhou.aliyuncs.com",
    "x-oss-magic": "abracadabra",
    "x-oss-meta-author": "foo@bar.com",
}


def test_the_documented_signature() -> None:
    credential = Credential("44CF9590006BF252F707", "OtxrzxIsfpFjA7SwPzILwy8Bw21TLhquhboDYROV")
    verifier = Verifier(SignatureRules(frozenset({"v1"})), {credential.access_key_id: credential}.get)
    signed = Request("PUT", b"/", {}, DOCUMENTED | {
        "authorization": "OSS 44CF9590006BF252F707:26NBxoKdsyly4EDv6inkoDft/yA="
    }, True, 0)  # fmt: skip
    assert verifier.check(signed, "oss-example", b"nelson", 1_132_253_398) == "44CF9590006BF252F707"
    with pytest.raises(Refused) as caught:
        verifier.check(signed, "oss-example", b"nelson", 1_132_253_398 + 901)
    assert (caught.value.status, caught.value.code) == (403, "RequestTimeTooSkewed")
    with pytest.raises(Refused) as caught:
        verifier.check(signed, "oss-example", b"nelson2", 1_132_253_398)
    assert caught.value.code == "SignatureDoesNotMatch"
    assert b"OtxrzxIsfp" not in caught.value.body("ID", "h")


def test_error_bodies_are_xml() -> None:
    from xml.etree import ElementTree

    refused = Refused(404, "NoSuchKey", "a < b & c", details=(("Key", 'x"<ü\ud800'),))
    root = ElementTree.fromstring(refused.body("ID", "host"))
    assert [element.tag for element in root] == ["Code", "Message", "RequestId", "HostId", "Key"]
    assert root.findtext("Message") == "a < b & c"
