"""The records of a tier's index as bytes: a codec without files, clocks or locks.

Log and snapshot are a header slot and then records of one or two slots, 64 bytes each at a multiple of 64.  A record
ends in the CRC-64 of all its bytes before, and none depends on another.  That is what makes damage local: a flipped bit
or a torn write costs the record it hit, and reading goes on with the next slot.  The tables are in docs/FORMATS.md.

    PUT    one block with all that is known of its file; two slots when the block has more than one piece
    DROP   blocks [block, block + block_count) are gone
    PIN    the pin is set or cleared

Replay is last-one-wins for each block.  A lost DROP is harmless: the CRCs of the block's pieces find it out.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from jindopy._ext.crc64 cimport crc64_update
from jindopy._ext.cursor cimport Cursor, cursor_take, cursor_u8, cursor_u16, cursor_u32, cursor_u64

from typing import NamedTuple

cdef enum:
    SEAL_BYTES = 8
    HEAD_BYTES = 48             # of a PUT, before its CRCs
    COUNT_AT = 112              # of a long PUT: how many CRCs it has
    # Releases that read at least this format may read what we write.  Records are those of format 2, but cache files
    # lie elsewhere (blockfiles): its readers would remove them all.  What format 1 wrote is read as well: it had one
    # CRC a block and no long PUT, so its files of one piece are kept and the others skipped.
    OLDEST_READER = 3

FORMAT_VERSION = THIS_FORMAT

cdef const char* MAGIC = b"JINDOIDX"


cdef inline void _store(uint8_t* at, uint64_t value, int size) noexcept nogil:
    cdef int i
    for i in range(size):
        at[i] = <uint8_t>(value >> (8 * i))


cdef inline void _seal(uint8_t* slots, size_t size) noexcept nogil:
    _store(slots + size - SEAL_BYTES, crc64_update(0, slots, size - SEAL_BYTES), SEAL_BYTES)


cdef inline bint _intact(const uint8_t* slots, size_t size) noexcept nogil:
    cdef Cursor cursor = Cursor(slots + size - SEAL_BYTES, SEAL_BYTES, False)
    return cursor_u64(&cursor) == crc64_update(0, slots, size - SEAL_BYTES)


cdef size_t record_bytes(const Record* record) noexcept nogil:
    return RECORD_BYTES_MAX if record.kind == RECORD_PUT and record.count > 1 else SLOT_BYTES


cdef void record_encode(const Record* record, uint8_t* slots) noexcept nogil:
    cdef size_t size = record_bytes(record)
    cdef int i
    memset(slots, 0, size)
    slots[0] = RECORD_PUT_LONG if size > SLOT_BYTES else record.kind
    slots[1] = record.flags
    _store(slots + 2, record.stamp >> 32, 2)
    _store(slots + 4, record.block, 4)
    memcpy(slots + 8, record.cid, 16)
    _store(slots + 24, record.size, 8)
    _store(slots + 32, record.owner, 8)
    _store(slots + 40, record.disk_units, 4)
    _store(slots + 44, record.stamp, 4)
    if record.kind == RECORD_DROP:
        _store(slots + HEAD_BYTES, record.block_count, 8)
    elif record.kind == RECORD_PUT:
        for i in range(record.count):
            _store(slots + HEAD_BYTES + 8 * i, record.crcs[i], 8)
    if size > SLOT_BYTES:
        slots[COUNT_AT] = record.count
    _seal(slots, size)


cdef size_t record_decode(const uint8_t* slots, size_t available, Record* record) noexcept nogil:
    # kind is RECORD_BAD when the slot is damaged or of a kind this release does not know.
    cdef Cursor cursor = Cursor(slots, HEAD_BYTES, False)
    cdef Cursor values
    cdef uint8_t kind = slots[0]
    cdef size_t size = RECORD_BYTES_MAX if kind == RECORD_PUT_LONG else SLOT_BYTES
    cdef int i
    memset(record, 0, sizeof(Record))
    if size > available:
        return 0
    if not (kind == RECORD_PUT or kind == RECORD_PUT_LONG or kind == RECORD_DROP or kind == RECORD_PIN):
        return SLOT_BYTES
    if not _intact(slots, size):
        return SLOT_BYTES
    cursor_u8(&cursor)
    record.flags = cursor_u8(&cursor)
    record.stamp = <uint64_t>cursor_u16(&cursor) << 32
    record.block = cursor_u32(&cursor)
    cursor_take(&cursor, record.cid, 16)
    record.size = cursor_u64(&cursor)
    record.owner = cursor_u64(&cursor)
    record.disk_units = cursor_u32(&cursor)
    record.stamp |= cursor_u32(&cursor)
    values = Cursor(slots + HEAD_BYTES, size - HEAD_BYTES - SEAL_BYTES, False)
    if kind == RECORD_DROP:
        record.block_count = <uint32_t>cursor_u64(&values)
    elif kind == RECORD_PUT or kind == RECORD_PUT_LONG:
        record.count = slots[COUNT_AT] if kind == RECORD_PUT_LONG else 1
        if record.count > PUT_CRCS or (kind == RECORD_PUT_LONG and record.count < 2):
            return SLOT_BYTES
        for i in range(record.count):
            record.crcs[i] = cursor_u64(&values)
        kind = RECORD_PUT
    if cursor.failed or values.failed:
        return SLOT_BYTES
    record.kind = kind
    return size


cdef void header_fill(Header* header, HeaderRole role, const uint8_t* boot, uint64_t directory_bytes) noexcept nogil:
    memset(header, 0, sizeof(Header))
    header.role = role
    header.format_version = THIS_FORMAT
    header.min_reader = OLDEST_READER
    header.directory_bytes = directory_bytes
    memcpy(header.boot, boot, 16)


cdef void header_encode(const Header* header, uint8_t* slot) noexcept nogil:
    memset(slot, 0, SLOT_BYTES)
    memcpy(slot, MAGIC, 8)
    _store(slot + 8, header.format_version, 2)
    _store(slot + 10, header.min_reader, 2)
    slot[12] = header.role
    memcpy(slot + 16, header.boot, 16)
    _store(slot + 32, header.directory_bytes, 8)
    _seal(slot, SLOT_BYTES)


cdef HeaderState header_decode(const uint8_t* slot, HeaderRole role, Header* header) noexcept nogil:
    # Later formats keep the magic, both versions and the checksum in place, so that "too new" is never a flipped bit.
    cdef Cursor cursor = Cursor(slot + 8, SLOT_BYTES - SEAL_BYTES - 8, False)
    memset(header, 0, sizeof(Header))
    if memcmp(slot, MAGIC, 8) != 0 or not _intact(slot, SLOT_BYTES):
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


_KINDS = {"put": RECORD_PUT, "drop": RECORD_DROP, "pin": RECORD_PIN}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode_record(record):
    cdef Record plain
    cdef uint8_t slots[RECORD_BYTES_MAX]
    cdef int i
    cdef const unsigned char* cid
    memset(&plain, 0, sizeof(Record))
    if len(record.cid) != 16 or len(record.crcs) > PUT_CRCS:
        raise ValueError("a record has a cid of 16 bytes and at most 8 CRCs")
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
    record_encode(&plain, slots)
    return <bytes>slots[:record_bytes(&plain)]


def decode_record(slots):
    cdef Record plain
    cdef const unsigned char* raw
    cdef int i
    if len(slots) not in (SLOT_BYTES, RECORD_BYTES_MAX):
        raise ValueError("a record has one or two slots of 64 bytes")
    raw = slots
    if record_decode(raw, len(slots), &plain) != <size_t>len(slots) or plain.kind == RECORD_BAD:
        return None
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
        tuple([plain.crcs[i] for i in range(plain.count)]),
    )


def encode_header(snapshot, boot, directory_bytes=0, format_version=THIS_FORMAT, min_reader=OLDEST_READER):
    cdef Header plain
    cdef uint8_t slot[SLOT_BYTES]
    cdef const unsigned char* raw = boot
    if len(boot) != 16:
        raise ValueError("a boot id has 16 bytes")
    header_fill(&plain, ROLE_SNAPSHOT if snapshot else ROLE_LOG, raw, directory_bytes)
    plain.format_version = format_version
    plain.min_reader = min_reader
    header_encode(&plain, slot)
    return <bytes>slot[:SLOT_BYTES]
