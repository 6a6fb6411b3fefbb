"""The index's records as bytes: every field comes back, every damage is seen."""

from __future__ import annotations

import struct

import hypothesis.strategies as st
import pytest
from hypothesis import given

from jindopy._ext.blockindex import FORMAT_VERSION, IndexRecord, decode_record, encode_header, encode_record
from jindopy._ext.crc64 import crc64

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
cids = st.binary(min_size=16, max_size=16)
stamps = st.integers(0, 2**48 - 1)
disk_bytes = u32.map(lambda units: units * 4096)
crc_lists = st.lists(u64, min_size=1, max_size=8).map(tuple)

records = st.one_of(
    st.builds(
        IndexRecord, st.just("put"), cids, u32, st.just(0), u64, u64, st.booleans(), stamps, disk_bytes, crc_lists
    ),
    st.builds(IndexRecord, st.just("drop"), cids, u32, u32, u64, u64, st.booleans(), stamps, disk_bytes, st.just(())),
    st.builds(
        IndexRecord,
        st.just("pin"),
        cids,
        st.just(0),
        st.just(0),
        u64,
        u64,
        st.booleans(),
        stamps,
        disk_bytes,
        st.just(()),
    ),
)


def twin(record: IndexRecord) -> bytes:
    """The tables of docs/FORMATS.md by struct."""
    long = len(record.crcs) > 1
    kind = 5 if long else {"put": 1, "drop": 3, "pin": 4}[record.kind]
    body = struct.pack(
        "<BBHI16sQQII",
        kind,
        record.pinned,
        record.stamp >> 32,
        record.block,
        record.cid,
        record.size,
        record.owner,
        record.disk_bytes // 4096,
        record.stamp & 0xFFFFFFFF,
    )
    values = record.crcs if record.kind == "put" else (record.block_count,)
    body += b"".join(struct.pack("<Q", value) for value in values)
    if long:
        body = body.ljust(112, b"\0") + bytes([len(record.crcs)])
    body = body.ljust(120 if long else 56, b"\0")
    return body + struct.pack("<Q", crc64(body))


@given(records)
def test_records_come_back(record: IndexRecord) -> None:
    assert encode_record(record) == twin(record)
    assert decode_record(encode_record(record)) == record


@given(records, st.integers(0, 1023))
def test_every_flipped_bit_is_seen(record: IndexRecord, bit: int) -> None:
    slots = bytearray(encode_record(record))
    bit %= 8 * len(slots)
    slots[bit // 8] ^= 1 << bit % 8
    assert decode_record(bytes(slots)) is None


@given(records, records)
def test_one_record_is_never_taken_for_two(first: IndexRecord, second: IndexRecord) -> None:
    both = encode_record(first) + encode_record(second)
    if len(both) == 128:
        assert decode_record(both) is None


@given(st.binary(min_size=56, max_size=56) | st.binary(min_size=120, max_size=120), st.sampled_from(range(7)))
def test_anything_with_a_good_checksum_is_decoded_without_harm(body: bytes, kind: int) -> None:
    body = bytes([kind]) + body[1:]
    record = decode_record(body + struct.pack("<Q", crc64(body)))
    assert record is None or (record.kind in ("put", "drop", "pin") and len(record.crcs) <= 8)


def test_a_header_is_what_the_document_says() -> None:
    boot = bytes(range(16))
    body = struct.pack("<8sHHB3x16sQ16x", b"JINDOIDX", FORMAT_VERSION, 3, 2, boot, 4096)
    assert encode_header(True, boot, 4096) == body + struct.pack("<Q", crc64(body))


def test_what_is_no_record() -> None:
    assert decode_record(bytes(64)) is None
    with pytest.raises(ValueError, match="slots of 64 bytes"):
        decode_record(bytes(63))
    with pytest.raises(ValueError, match="16 bytes"):
        encode_header(True, b"short")
