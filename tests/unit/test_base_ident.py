from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from jindopy.base.ident import BLOCK_BYTES, BlockIndex, FileVersion, Kind, MountId, UfsId, make_cid


def test_a_cid_is_pinned_down_for_ever() -> None:
    """Cache files are named by it: another value would orphan every cache."""
    fields = b"\x0a\0\0\0" + b"oss://data" + b"\x03\0\0\0" + b"a/b" + b"\x04\0\0\0" + b"ETAG"
    expected = hashlib.blake2b(fields, digest_size=16).digest()
    assert make_cid(UfsId("oss://data"), b"a/b", b"ETAG") == expected


@given(
    st.tuples(st.text(max_size=8), st.binary(max_size=8), st.binary(max_size=8)),
    st.tuples(st.text(max_size=8), st.binary(max_size=8), st.binary(max_size=8)),
)
def test_fields_never_run_into_each_other(one: tuple[str, bytes, bytes], two: tuple[str, bytes, bytes]) -> None:
    same = make_cid(UfsId(one[0]), *one[1:]) == make_cid(UfsId(two[0]), *two[1:])
    assert same == (one == two)


@given(st.integers(0, 1 << 40))
def test_blocks_cover_the_object_exactly(size: int) -> None:
    version = FileVersion.of(MountId(1), UfsId("oss://b"), b"k", b"t", size)
    count = version.block_count
    if count == 0:
        assert size == 0
        return
    last = version.block_bytes(BlockIndex(count - 1))
    assert 0 < last <= BLOCK_BYTES
    assert (count - 1) * BLOCK_BYTES + last == size
    assert count == 1 or version.block_bytes(BlockIndex(0)) == BLOCK_BYTES


def test_kinds_are_stored_numbers() -> None:
    assert [(kind.name, kind.value) for kind in Kind] == [("FILE", 0), ("DIRECTORY", 1), ("SYMLINK", 2)]
