"""The records of a tier's index as bytes: a codec without files, clocks or locks.

Log and snapshot are a header slot and then record slots, 64 bytes each at a multiple of 64, each ending in the CRC-64
of its first 56 bytes.  Equal slots are what makes damage local: a flipped bit or a torn write costs the slot it hit,
and reading goes on with the next.  The tables are in docs/FORMATS.md.

    PUT    one block with all that is known of its file, so that no record depends on another
    RUN    up to five further blocks of the file that the PUT before it named (snapshots only)
    DROP   blocks [block, block + block_count) are gone
    PIN    the pin is set or cleared

Replay is last-one-wins for each block.  A lost DROP is harmless: the block's own CRC finds it out on first read.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from jindopy._ext.crc64 cimport crc64_update
from jindopy._ext.cursor cimport Cursor, cursor_take, cursor_u8, cursor_u16, cursor_u32, cursor_u64

from typing import NamedTuple

cdef enum:
    CHECKED_BYTES = 56
    THIS_FORMAT = 1     # written
    OLDEST_READER = 1   # releases that read at least this format may read what we write

FORMAT_VERSION = THIS_FORMAT

cdef const char* MAGIC = b"JINDOIDX"


cdef inline void _store(uint8_t* at, uint64_t value, int size) noexcept nogil:
    cdef int i
    for i in range(size):
        at[i] = <uint8_t>(value >> (8 * i))


cdef inline void _seal(uint8_t* slot) noexcept nogil:
    _store(slot + CHECKED_BYTES, crc64_update(0, slot, CHECKED_BYTES), 8)


cdef inline bint _intact(const uint8_t* slot) noexcept nogil:
    cdef Cursor cursor = Cursor(slot + CHECKED_BYTES, 8, False)
    return cursor_u64(&cursor) == crc64_update(0, slot, CHECKED_BYTES)


cdef void record_encode(const Record* record, uint8_t* slot) noexcept nogil:
    cdef int i
    memset(slot, 0, SLOT_BYTES)
    slot[0] = record.kind
    if record.kind == RECORD_RUN:
        slot[1] = record.count
        _store(slot + 4, record.block, 4)
        memcpy(slot + 8, record.cid, 8)
        for i in range(record.count):
            _store(slot + 16 + 8 * i, record.crcs[i], 8)
    else:
        slot[1] = record.flags
        _store(slot + 2, record.stamp >> 32, 2)
        _store(slot + 4, record.block, 4)
        memcpy(slot + 8, record.cid, 16)
        _store(slot + 24, record.size, 8)
        _store(slot + 32, record.owner, 8)
        _store(slot + 40, record.disk_units, 4)
        _store(slot + 44, record.stamp, 4)
        _store(slot + 48, record.block_count if record.kind == RECORD_DROP else record.crcs[0], 8)
    _seal(slot)


cdef void record_decode(const uint8_t* slot, Record* record) noexcept nogil:
    # kind is RECORD_BAD when the slot is damaged or of a kind this release does not know.
    cdef Cursor cursor = Cursor(slot, CHECKED_BYTES, False)
    cdef uint8_t kind
    cdef uint64_t last
    cdef int i
    memset(record, 0, sizeof(Record))
    if not _intact(slot):
        return
    kind = cursor_u8(&cursor)
    if kind == RECORD_RUN:
        record.count = cursor_u8(&cursor)
        cursor_u16(&cursor)
        record.block = cursor_u32(&cursor)
        cursor_take(&cursor, record.cid, 8)
        if record.count > RUN_CRCS:
            return
        for i in range(record.count):
            record.crcs[i] = cursor_u64(&cursor)
    elif kind == RECORD_PUT or kind == RECORD_DROP or kind == RECORD_PIN:
        record.flags = cursor_u8(&cursor)
        record.stamp = <uint64_t>cursor_u16(&cursor) << 32
        record.block = cursor_u32(&cursor)
        cursor_take(&cursor, record.cid, 16)
        record.size = cursor_u64(&cursor)
        record.owner = cursor_u64(&cursor)
        record.disk_units = cursor_u32(&cursor)
        record.stamp |= cursor_u32(&cursor)
        last = cursor_u64(&cursor)
        if kind == RECORD_DROP:
            record.block_count = <uint32_t>last
        else:
            record.crcs[0] = last
    else:
        return
    if not cursor.failed:
        record.kind = kind


cdef void header_encode(const Header* header, uint8_t* slot) noexcept nogil:
    memset(slot, 0, SLOT_BYTES)
    memcpy(slot, MAGIC, 8)
    _store(slot + 8, header.format_version, 2)
    _store(slot + 10, header.min_reader, 2)
    slot[12] = header.role
    memcpy(slot + 16, header.boot, 16)
    _store(slot + 32, header.directory_bytes, 8)
    _seal(slot)


cdef HeaderState header_decode(const uint8_t* slot, HeaderRole role, Header* header) noexcept nogil:
    # Later formats keep the magic, both versions and the checksum in place, so that "too new" is never a flipped bit.
    cdef Cursor cursor = Cursor(slot + 8, CHECKED_BYTES - 8, False)
    memset(header, 0, sizeof(Header))
    if memcmp(slot, MAGIC, 8) != 0 or not _intact(slot):
        return HEADER_DAMAGED
    header.format_version = cursor_u16(&cursor)
    header.min_reader = cursor_u16(&cursor)
    if header.min_reader > THIS_FORMAT:
        return HEADER_TOO_NEW
    header.role = cursor_u8(&cursor)
    cursor_take(&cursor, header.boot, 3)    # reserved
    cursor_take(&cursor, header.boot, 16)
    header.directory_bytes = cursor_u64(&cursor)
    return HEADER_DAMAGED if cursor.failed or header.role != role else HEADER_GOOD


class IndexRecord(NamedTuple):
    kind: str
    cid: bytes
    block: int
    block_count: int
    size: int
    owner: int
    pinned: bool
    stamp: int
    disk_bytes: int
    crcs: tuple


_KINDS = {"put": RECORD_PUT, "run": RECORD_RUN, "drop": RECORD_DROP, "pin": RECORD_PIN}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode_record(record):
    cdef Record plain
    cdef uint8_t slot[SLOT_BYTES]
    cdef int i
    cdef const unsigned char* cid
    memset(&plain, 0, sizeof(Record))
    if len(record.cid) != 16 or len(record.crcs) > RUN_CRCS:
        raise ValueError("a record has a cid of 16 bytes and at most 5 CRCs")
    plain.kind = _KINDS[record.kind]
    plain.flags = RECORD_PINNED if record.pinned else 0
    plain.count = <uint8_t>len(record.crcs)
    plain.block = record.block
    plain.block_count = record.block_count
    plain.disk_units = record.disk_bytes // 4096
    cid = record.cid
    memcpy(plain.cid, cid, 16)
    plain.stamp = record.stamp
    plain.size = record.size
    plain.owner = record.owner
    for i in range(plain.count):
        plain.crcs[i] = record.crcs[i]
    record_encode(&plain, slot)
    return <bytes>slot[:SLOT_BYTES]


def decode_record(slot):
    cdef Record plain
    cdef const unsigned char* raw
    cdef int i, crcs
    if len(slot) != SLOT_BYTES:
        raise ValueError("a slot has 64 bytes")
    raw = slot
    record_decode(raw, &plain)
    if plain.kind == RECORD_BAD:
        return None
    crcs = plain.count if plain.kind == RECORD_RUN else (plain.kind == RECORD_PUT)
    return IndexRecord(
        _NAMES[plain.kind],
        <bytes>plain.cid[:16],
        plain.block,
        plain.block_count,
        plain.size,
        plain.owner,
        bool(plain.flags & RECORD_PINNED),
        plain.stamp,
        <uint64_t>plain.disk_units * 4096,
        tuple([plain.crcs[i] for i in range(crcs)]),
    )


def encode_header(snapshot, boot, directory_bytes=0, format_version=THIS_FORMAT, min_reader=OLDEST_READER):
    cdef Header plain
    cdef uint8_t slot[SLOT_BYTES]
    cdef const unsigned char* raw = boot
    memset(&plain, 0, sizeof(Header))
    if len(boot) != 16:
        raise ValueError("a boot id has 16 bytes")
    plain.role = ROLE_SNAPSHOT if snapshot else ROLE_LOG
    plain.format_version = format_version
    plain.min_reader = min_reader
    memcpy(plain.boot, raw, 16)
    plain.directory_bytes = directory_bytes
    header_encode(&plain, slot)
    return <bytes>slot[:SLOT_BYTES]
