# C view of ext/blockindex.pyx: the records of a tier's index as bytes.  Pure, without the GIL.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    SLOT_BYTES = 64
    RUN_CRCS = 5

cdef enum RecordKind:
    RECORD_BAD = 0
    RECORD_PUT = 1
    RECORD_RUN = 2
    RECORD_DROP = 3
    RECORD_PIN = 4

cdef enum:
    RECORD_PINNED = 1

cdef enum HeaderRole:
    ROLE_LOG = 1
    ROLE_SNAPSHOT = 2

cdef enum HeaderState:
    HEADER_GOOD = 0
    HEADER_DAMAGED = 1
    HEADER_TOO_NEW = 2


# One slot, decoded.  Fields a kind does not have are 0.
cdef struct Record:
    uint8_t kind
    uint8_t flags
    uint8_t count           # RUN: how many of crcs
    uint32_t block
    uint32_t block_count    # DROP
    uint32_t disk_units     # PUT: what the file takes on disk, in 4 KiB
    uint8_t cid[16]         # RUN: first 8 bytes only
    uint64_t stamp          # PUT: LRU tick, 48 bits
    uint64_t size
    uint64_t owner
    uint64_t crcs[5]        # PUT: the first


cdef struct Header:
    uint8_t role
    uint16_t format_version
    uint16_t min_reader
    uint8_t boot[16]
    uint64_t directory_bytes


cdef void record_encode(const Record* record, uint8_t* slot) noexcept nogil
cdef void record_decode(const uint8_t* slot, Record* record) noexcept nogil
cdef void header_encode(const Header* header, uint8_t* slot) noexcept nogil
cdef HeaderState header_decode(const uint8_t* slot, HeaderRole role, Header* header) noexcept nogil
