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

records = st.one_of(
    st.builds(
        IndexRecord, st.just("put"), cids, u32, st.just(0), u64, u64, st.booleans(), stamps, disk_bytes, st.tuples(u64)
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
    st.builds(
        IndexRecord,
        st.just("run"),
        st.binary(min_size=8, max_size=8).map(lambda half: half + bytes(8)),
        u32,
        st.just(0),
        st.just(0),
        st.just(0),
        st.just(False),
        st.just(0),
        st.just(0),
        st.lists(u64, max_size=5).map(tuple),
    ),
)


def twin(record: IndexRecord) -> bytes:
    """The tables of docs/FORMATS.md by struct."""
    kind = {"put": 1, "run": 2, "drop": 3, "pin": 4}[record.kind]
    if record.kind == "run":
        body = struct.pack("<BBHI8s", kind, len(record.crcs), 0, record.block, record.cid[:8])
        body += b"".join(struct.pack("<Q", crc) for crc in record.crcs)
    else:
        last = record.crcs[0] if record.kind == "put" else record.block_count
        body = struct.pack(
            "<BBHI16sQQIIQ",
            kind,
            record.pinned,
            record.stamp >> 32,
            record.block,
            record.cid,
            record.size,
            record.owner,
            record.disk_bytes // 4096,
            record.stamp & 0xFFFFFFFF,
            last,
        )
    body = body.ljust(56, b"\0")
    return body + struct.pack("<Q", crc64(body))


@given(records)
def test_records_come_back(record: IndexRecord) -> None:
    assert encode_record(record) == twin(record)
    assert decode_record(encode_record(record)) == record


@given(records, st.integers(0, 511))
def test_every_flipped_bit_is_seen(record: IndexRecord, bit: int) -> None:
    slot = bytearray(encode_record(record))
    slot[bit // 8] ^= 1 << bit % 8
    assert decode_record(bytes(slot)) is None


@given(st.binary(min_size=56, max_size=56))
def test_anything_with_a_good_checksum_is_decoded_without_harm(body: bytes) -> None:
    record = decode_record(body + struct.pack("<Q", crc64(body)))
    assert record is None or record.kind in ("put", "run", "drop", "pin")


def test_a_header_is_what_the_document_says() -> None:
    boot = bytes(range(16))
    body = struct.pack("<8sHHB3x16sQ16x", b"JINDOIDX", FORMAT_VERSION, 1, 2, boot, 4096)
    assert encode_header(True, boot, 4096) == body + struct.pack("<Q", crc64(body))


def test_what_is_no_record() -> None:
    assert decode_record(bytes(64)) is None
    with pytest.raises(ValueError, match="64 bytes"):
        decode_record(bytes(63))
    with pytest.raises(ValueError, match="16 bytes"):
        encode_header(True, b"short")
