# C view of ext/blockindex.pyx: the records of a tier's index as bytes.  Pure, without the GIL.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    SLOT_BYTES = 64
    RECORD_BYTES_MAX = 128
    PUT_CRCS = 8
    THIS_FORMAT = 3         # written; blockindex.pyx has what each one brought

cdef enum RecordKind:
    RECORD_BAD = 0
    RECORD_PUT = 1
    RECORD_DROP = 3
    RECORD_PIN = 4
    RECORD_PUT_LONG = 5     # on disk only: a PUT of several CRCs, two slots

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
    uint8_t count           # PUT: how many of crcs
    uint32_t block
    uint32_t block_count    # DROP
    uint32_t disk_units     # PUT: what the file takes on disk, in 4 KiB
    uint8_t cid[16]
    uint64_t stamp          # PUT: LRU tick, 48 bits
    uint64_t size
    uint64_t owner
    uint64_t crcs[8]        # PUT: of each piece of the block, going on from the one before


cdef struct Header:
    uint8_t role
    uint16_t format_version
    uint16_t min_reader
    uint8_t boot[16]
    uint64_t directory_bytes


# How many bytes the record takes: SLOT_BYTES, or twice that.
cdef size_t record_bytes(const Record* record) noexcept nogil
cdef void record_encode(const Record* record, uint8_t* slots) noexcept nogil
# How many of the `available` bytes (at least a slot) belong to the record; 0: it seems to go on behind them.
cdef size_t record_decode(const uint8_t* slots, size_t available, Record* record) noexcept nogil
# The header of a file that begins now, in this release's format.
cdef void header_fill(Header* header, HeaderRole role, const uint8_t* boot, uint64_t directory_bytes) noexcept nogil
cdef void header_encode(const Header* header, uint8_t* slot) noexcept nogil
cdef HeaderState header_decode(const uint8_t* slot, HeaderRole role, Header* header) noexcept nogil
