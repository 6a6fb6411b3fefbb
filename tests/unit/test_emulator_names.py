"""Keys to names on disk and back: exact, unambiguous, never outside."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jindopy.emulator.errors import Refused
from jindopy.emulator.names import aside_name, check_bucket_name, check_key, component_hash, component_of, disk_name

COMPONENTS = st.one_of(
    st.sampled_from([b"", b".", b"..", b"%~", b"%~.", b"%~=", b"%~#", b"%~=a", b"a" * 255, b"a" * 256, b"\0", b"%41"]),
    st.text("%~=#.\0ab/é".replace("/", ""), max_size=300).map(str.encode),
)


@given(COMPONENTS, COMPONENTS)
@settings(max_examples=300, deadline=None)
def test_names_are_exact_and_unambiguous(one: bytes, other: bytes) -> None:
    hashes = {component_hash(component): component for component in (one, other)}
    names = [disk_name(one), aside_name(one), disk_name(other), aside_name(other)]
    for name, component in zip(names, (one, one, other, other), strict=True):
        assert 0 < len(name) <= 255
        assert name not in (b".", b"..")
        assert b"/" not in name
        assert b"\0" not in name
        assert component_of(name, hashes.get) == component
    assert len(set(names)) == (4 if one != other else 2)


@given(st.binary(min_size=1, max_size=60))
def test_other_names_stand_for_themselves_or_nothing(name: bytes) -> None:
    found = component_of(b"%~" + name, lambda _: None)
    assert found is None or b"%~" + name in (disk_name(found), aside_name(found))


@pytest.mark.parametrize("bucket", ["", "ab", "-ab", "ab-", "Abc", "a.b", "..", "a/b", "a" * 64, "-", "a_b", "abc\n"])
def test_refused_buckets(bucket: str) -> None:
    with pytest.raises(Refused) as caught:
        check_bucket_name(bucket)
    assert (caught.value.status, caught.value.code) == (400, "InvalidBucketName")


@pytest.mark.parametrize("key", [b"", b"/a", b"\\a", b"a" * 1024, b"\xff", b"a\xc3"])
def test_refused_keys(key: bytes) -> None:
    with pytest.raises(Refused) as caught:
        check_key(key)
    assert (caught.value.status, caught.value.code) == (400, "InvalidObjectName")
