# C view of ext/blocktable.pyx: what the store knows in memory.  No I/O, no locks: the store's lock guards all of it.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from jindopy._ext.iobuf cimport BLOCK_PIECES, PIECE_BYTES, PIECE_SHIFT

cdef enum:
    BLOCK_SHIFT = 20
    BLOCK_BYTES = 1048576
    SEGMENT_SHIFT = 6
    SEGMENT_BLOCKS = 64
    LEVELS_MAX = 8

# Entry.flags
cdef enum:
    ENTRY_PINNED = 1
    ENTRY_HOMED = 2         # a tier was chosen; its file may exist
    ENTRY_BUSY = 4          # its file is being unlinked or punched: no write may start
    ENTRY_UNSEEN = 8        # recovered, and its file not met yet
    ENTRY_UNSYNCED = 16     # in the list of files to fdatasync
    ENTRY_SPOILT = 32       # bytes turned out wrong while it was lent


# Up to 64 blocks of a file: the unit of LRU and of punching.  Exists while a block of it is present.
cdef struct Segment:
    Segment* older
    Segment* newer
    Entry* entry
    uint64_t present        # a bit a block
    uint32_t index
    uint16_t pieces         # of all its blocks
    uint8_t listed          # in its level's LRU
    uint64_t crcs[1]        # one a piece; behind them a byte a block, its bits the pieces checked in this process


# An open descriptor, shared by all leases of an entry.
cdef struct Handle:
    int fd
    uint32_t uses           # one for the entry, one for each operation in flight
    Entry* entry            # NULL once detached
    Handle* older
    Handle* newer


cdef struct Owner:
    uint64_t tag
    uint64_t cached_bytes
    uint64_t files
    Owner* next


# One version of one object.
cdef struct Entry:
    uint8_t cid[16]
    uint64_t size
    uint64_t cached_bytes
    uint64_t disk_bytes     # st_blocks of its file, as last seen
    uint64_t tick           # when last used, in touches
    Owner* owner
    Entry* next
    Entry* older_unsynced
    Entry* newer_unsynced
    Segment* only           # the segment of a file that has one at most ...
    Segment** many          # ... or all of a larger file's
    Handle* handle
    uint32_t leases
    uint32_t generation     # moves before a block's bytes may go away
    uint32_t lends          # readers of its file that the store knows nothing of (see blocklend)
    uint8_t level
    uint8_t flags


# What one tier holds.
cdef struct Level:
    Segment* oldest         # unpinned segments
    Segment* newest
    uint64_t listed
    uint64_t used_bytes
    uint64_t cached_bytes
    uint64_t pinned_bytes
    uint64_t files
    uint64_t blocks


cdef struct Table:
    Entry** buckets
    size_t bucket_count
    size_t count
    bint frozen             # somebody walks the buckets: do not grow
    Owner** owners
    uint64_t tick
    Entry* oldest_unsynced  # files written to since they were last made durable
    Entry* newest_unsynced
    uint64_t unsynced
    Level levels[8]


cdef int table_init(Table* table) noexcept nogil
cdef void table_free(Table* table) noexcept nogil
cdef Entry* table_find(Table* table, const uint8_t* cid) noexcept nogil
cdef Entry* table_add(Table* table, const uint8_t* cid, uint64_t size, uint64_t owner) noexcept nogil
cdef bint table_discard(Table* table, Entry* entry) noexcept nogil
cdef Owner* table_owner(Table* table, uint64_t tag, bint make) noexcept nogil
cdef int table_order(Table* table) noexcept nogil
cdef void table_rotate(Table* table, Segment* segment) noexcept nogil
cdef void table_touch(Table* table, Segment* segment) noexcept nogil
cdef bint table_covers(Entry* entry, uint64_t first, uint64_t last) noexcept nogil
cdef int table_set(Table* table, Entry* entry, uint64_t block, const uint64_t* crcs) noexcept nogil
cdef uint64_t table_clear(Table* table, Entry* entry, uint64_t first, uint64_t count) noexcept nogil
cdef void table_pin(Table* table, Entry* entry, bint pinned) noexcept nogil
cdef void table_unsynced(Table* table, Entry* entry, bint unsynced) noexcept nogil
cdef void table_disk(Table* table, Entry* entry, uint64_t disk_bytes) noexcept nogil


cdef inline uint64_t entry_blocks(const Entry* entry) noexcept nogil:
    return (entry.size + BLOCK_BYTES - 1) >> BLOCK_SHIFT


cdef inline uint64_t entry_segments(const Entry* entry) noexcept nogil:
    return (entry_blocks(entry) + SEGMENT_BLOCKS - 1) >> SEGMENT_SHIFT


cdef inline uint64_t entry_block_bytes(const Entry* entry, uint64_t block) noexcept nogil:
    cdef uint64_t left = entry.size - (block << BLOCK_SHIFT)
    return left if left < BLOCK_BYTES else BLOCK_BYTES


cdef inline uint64_t entry_block_pieces(const Entry* entry, uint64_t block) noexcept nogil:
    return (entry_block_bytes(entry, block) + PIECE_BYTES - 1) >> PIECE_SHIFT


cdef inline uint64_t* segment_crcs(Segment* segment, uint64_t block) noexcept nogil:
    return &segment.crcs[(block & (SEGMENT_BLOCKS - 1)) * BLOCK_PIECES]


cdef inline uint8_t* segment_checked(Segment* segment, uint64_t block) noexcept nogil:
    return <uint8_t*>(segment.crcs + segment.pieces) + (block & (SEGMENT_BLOCKS - 1))


cdef inline Segment* entry_segment(const Entry* entry, uint64_t index) noexcept nogil:
    return entry.only if entry.many == NULL else entry.many[index]


cdef inline uint64_t block_bit(uint64_t block) noexcept nogil:
    return <uint64_t>1 << (block & (SEGMENT_BLOCKS - 1))
