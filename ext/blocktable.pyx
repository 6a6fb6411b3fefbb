"""What the block store knows in memory: entries by cid, their blocks' CRCs, LRU, owners' sums.

An *entry* is one version of one object.  Its blocks live in *segments* of 64 that exist only while a block of them is
present, so a sparse terabyte costs what is cached of it: a file of one piece about 220 bytes in all, a MiB of a large
one 65.  Each level
(tier) keeps its unpinned segments in a list from least to most recently used: large files lose cold parts first.

Everything here is plain memory without I/O or locks.  The caller holds the store's lock, and keeps no Segment pointer
across releasing it.  On failure (no memory) a function returns NULL or -ENOMEM and has changed nothing.
"""

from libc.errno cimport ENOMEM
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcmp, memcpy, memset

cdef extern from * nogil:
    int __builtin_popcountll(unsigned long long bits)

cdef enum:
    FIRST_BUCKETS = 1024
    OWNER_BUCKETS = 1024    # tags are mounts or jobs: far fewer than files


cdef inline size_t _bucket(const uint8_t* cid, size_t bucket_count) noexcept nogil:
    # A cid is a cryptographic hash already: its first bytes are as good as any hash of it.
    cdef uint64_t head
    memcpy(&head, cid, 8)
    return head & (bucket_count - 1)


cdef int table_init(Table* table) noexcept nogil:
    memset(table, 0, sizeof(Table))
    table.buckets = <Entry**>calloc(FIRST_BUCKETS, sizeof(Entry*))
    table.owners = <Owner**>calloc(OWNER_BUCKETS, sizeof(Owner*))
    table.bucket_count = FIRST_BUCKETS
    return -ENOMEM if table.buckets == NULL or table.owners == NULL else 0


cdef void table_free(Table* table) noexcept nogil:
    cdef Entry* entry
    cdef Owner* owner
    cdef size_t i
    if table.buckets != NULL:
        for i in range(table.bucket_count):
            while table.buckets[i] != NULL:
                entry = table.buckets[i]
                table.buckets[i] = entry.next
                _free_entry(entry)
    if table.owners != NULL:
        for i in range(OWNER_BUCKETS):
            while table.owners[i] != NULL:
                owner = table.owners[i]
                table.owners[i] = owner.next
                free(owner)
    free(table.buckets)
    free(table.owners)
    table.buckets = NULL
    table.owners = NULL


cdef void _free_entry(Entry* entry) noexcept nogil:
    cdef uint64_t i
    if entry.many != NULL:
        for i in range(entry_segments(entry)):
            free(entry.many[i])
        free(entry.many)
    free(entry.only)
    free(entry)


cdef Entry* table_find(Table* table, const uint8_t* cid) noexcept nogil:
    cdef Entry* entry = table.buckets[_bucket(cid, table.bucket_count)]
    while entry != NULL and memcmp(entry.cid, cid, 16) != 0:
        entry = entry.next
    return entry


cdef void _grow(Table* table) noexcept nogil:
    # Without memory for a larger array the old one goes on, with longer chains.
    cdef size_t wider = table.bucket_count * 2
    cdef Entry** buckets = <Entry**>calloc(wider, sizeof(Entry*))
    cdef Entry* entry
    cdef size_t i, place
    if buckets == NULL:
        return
    for i in range(table.bucket_count):
        while table.buckets[i] != NULL:
            entry = table.buckets[i]
            table.buckets[i] = entry.next
            place = _bucket(entry.cid, wider)
            entry.next = buckets[place]
            buckets[place] = entry
    free(table.buckets)
    table.buckets = buckets
    table.bucket_count = wider


cdef Entry* table_add(Table* table, const uint8_t* cid, uint64_t size, uint64_t owner) noexcept nogil:
    cdef Entry* entry = <Entry*>calloc(1, sizeof(Entry))
    cdef size_t place
    if entry == NULL:
        return NULL
    memcpy(entry.cid, cid, 16)
    entry.size = size
    entry.owner = table_owner(table, owner, True)
    if entry.owner != NULL and entry_segments(entry) > 1:
        entry.many = <Segment**>calloc(entry_segments(entry), sizeof(Segment*))
    if entry.owner == NULL or (entry_segments(entry) > 1 and entry.many == NULL):
        free(entry)
        return NULL
    if table.count >= table.bucket_count and not table.frozen:
        _grow(table)
    place = _bucket(cid, table.bucket_count)
    entry.next = table.buckets[place]
    table.buckets[place] = entry
    table.count += 1
    return entry


cdef bint table_discard(Table* table, Entry* entry) noexcept nogil:
    # Free an entry that nothing needs any more; False when something does.
    cdef Entry** link = &table.buckets[_bucket(entry.cid, table.bucket_count)]
    if entry.leases or entry.cached_bytes or entry.handle != NULL:
        return False
    if entry.flags & (ENTRY_PINNED | ENTRY_BUSY):
        return False
    table_unsynced(table, entry, False)
    while link[0] != entry:
        link = &link[0].next
    link[0] = entry.next
    table.count -= 1
    table_disk(table, entry, 0)
    _free_entry(entry)
    return True


cdef Owner* table_owner(Table* table, uint64_t tag, bint make) noexcept nogil:
    # The odd factor spreads tags that count in large steps.
    cdef size_t place = ((tag * <uint64_t>0x9E3779B97F4A7C15) >> 32) & (OWNER_BUCKETS - 1)
    cdef Owner* owner = table.owners[place]
    while owner != NULL and owner.tag != tag:
        owner = owner.next
    if owner == NULL and make:
        owner = <Owner*>calloc(1, sizeof(Owner))
        if owner != NULL:
            owner.tag = tag
            owner.next = table.owners[place]
            table.owners[place] = owner
    return owner


cdef void _unlist(Table* table, Segment* segment) noexcept nogil:
    cdef Level* level = &table.levels[segment.entry.level]
    if not segment.listed:
        return
    if segment.older != NULL:
        segment.older.newer = segment.newer
    else:
        level.oldest = segment.newer
    if segment.newer != NULL:
        segment.newer.older = segment.older
    else:
        level.newest = segment.older
    segment.older = NULL
    segment.newer = NULL
    segment.listed = False
    level.listed -= 1


cdef void _list(Table* table, Segment* segment) noexcept nogil:
    cdef Level* level = &table.levels[segment.entry.level]
    segment.older = level.newest
    segment.newer = NULL
    if level.newest != NULL:
        level.newest.newer = segment
    else:
        level.oldest = segment
    level.newest = segment
    segment.listed = True
    level.listed += 1


cdef void table_touch(Table* table, Segment* segment) noexcept nogil:
    table.tick += 1
    segment.entry.tick = table.tick
    if segment.listed and segment.newer != NULL:
        _unlist(table, segment)
        _list(table, segment)


cdef void table_rotate(Table* table, Segment* segment) noexcept nogil:
    # To the recent end without counting as used.
    if segment.listed:
        _unlist(table, segment)
        _list(table, segment)


cdef int _older_first(const void* left, const void* right) noexcept nogil:
    cdef uint64_t a = (<const Entry* const*>left)[0].tick
    cdef uint64_t b = (<const Entry* const*>right)[0].tick
    return (a > b) - (a < b)


cdef int table_order(Table* table) noexcept nogil:
    # After recovery: list all unpinned segments by their entries' ticks.
    cdef Entry** all_entries = <Entry**>malloc((table.count + 1) * sizeof(Entry*))
    cdef Entry* entry
    cdef Segment* segment
    cdef size_t found = 0
    cdef size_t i
    cdef uint64_t j
    if all_entries == NULL:
        return -ENOMEM
    for i in range(table.bucket_count):
        entry = table.buckets[i]
        while entry != NULL:
            all_entries[found] = entry
            found += 1
            entry = entry.next
    qsort(all_entries, found, sizeof(Entry*), _older_first)
    for i in range(found):
        entry = all_entries[i]
        for j in range(entry_segments(entry)):
            segment = entry_segment(entry, j)
            if segment != NULL and not entry.flags & ENTRY_PINNED:
                _unlist(table, segment)
                _list(table, segment)
    free(all_entries)
    return 0


cdef bint table_covers(Entry* entry, uint64_t first, uint64_t last) noexcept nogil:
    # Whether blocks first .. last are all present.
    cdef uint64_t index, want
    cdef Segment* segment
    for index in range(first >> SEGMENT_SHIFT, (last >> SEGMENT_SHIFT) + 1):
        want = <uint64_t>-1
        if index == first >> SEGMENT_SHIFT:
            want &= <uint64_t>-1 << (first & (SEGMENT_BLOCKS - 1))
        if index == last >> SEGMENT_SHIFT:
            want &= <uint64_t>-1 >> (SEGMENT_BLOCKS - 1 - (last & (SEGMENT_BLOCKS - 1)))
        segment = entry_segment(entry, index)
        if segment == NULL or segment.present & want != want:
            return False
    return True


cdef void _count(Table* table, Entry* entry, int64_t bytes_delta, int64_t blocks_delta) noexcept nogil:
    # Every sum in one place.  Unsigned sums take signed deltas by wrap-around.
    cdef Level* level = &table.levels[entry.level]
    cdef bint had = entry.cached_bytes != 0
    cdef bint has
    entry.cached_bytes += bytes_delta
    has = entry.cached_bytes != 0
    level.cached_bytes += bytes_delta
    level.blocks += blocks_delta
    if entry.flags & ENTRY_PINNED:
        level.pinned_bytes += bytes_delta
    entry.owner.cached_bytes += bytes_delta
    level.files += has - had
    entry.owner.files += has - had


cdef Segment* _new_segment(Entry* entry, uint64_t index) noexcept nogil:
    cdef uint64_t size = min(
        entry.size - (index << (SEGMENT_SHIFT + BLOCK_SHIFT)), <uint64_t>SEGMENT_BLOCKS << BLOCK_SHIFT
    )
    cdef uint64_t pieces = (size + PIECE_BYTES - 1) >> PIECE_SHIFT
    cdef uint64_t blocks = (size + BLOCK_BYTES - 1) >> BLOCK_SHIFT
    cdef Segment* segment = <Segment*>calloc(1, sizeof(Segment) + (pieces - 1) * sizeof(uint64_t) + blocks)
    if segment != NULL:
        segment.entry = entry
        segment.index = <uint32_t>index
        segment.pieces = <uint16_t>pieces
    return segment


cdef int table_set(Table* table, Entry* entry, uint64_t block, const uint64_t* crcs) noexcept nogil:
    # A block is present, its bytes not checked yet.
    cdef uint64_t index = block >> SEGMENT_SHIFT
    cdef Segment* segment = entry_segment(entry, index)
    if segment == NULL:
        segment = _new_segment(entry, index)
        if segment == NULL:
            return -ENOMEM
        if entry.many == NULL:
            entry.only = segment
        else:
            entry.many[index] = segment
        if not entry.flags & ENTRY_PINNED:
            _list(table, segment)
    memcpy(segment_crcs(segment, block), crcs, entry_block_pieces(entry, block) * sizeof(uint64_t))
    segment_checked(segment, block)[0] = 0
    if not segment.present & block_bit(block):
        segment.present |= block_bit(block)
        _count(table, entry, entry_block_bytes(entry, block), 1)
    return 0


cdef uint64_t table_clear(Table* table, Entry* entry, uint64_t first, uint64_t count) noexcept nogil:
    # Blocks [first, first + count) are gone; returns their object bytes.
    cdef uint64_t end = entry_blocks(entry)
    cdef uint64_t freed = 0
    cdef uint64_t index, block
    cdef Segment* segment
    if first >= end or count == 0:
        return 0
    if count < end - first:
        end = first + count
    entry.generation += 1
    for index in range(first >> SEGMENT_SHIFT, ((end - 1) >> SEGMENT_SHIFT) + 1):
        segment = entry_segment(entry, index)
        if segment == NULL:
            continue
        for block in range(index << SEGMENT_SHIFT, (index + 1) << SEGMENT_SHIFT):
            if first <= block < end and segment.present & block_bit(block):
                segment.present &= ~block_bit(block)
                segment_checked(segment, block)[0] = 0
                _count(table, entry, -<int64_t>entry_block_bytes(entry, block), -1)
                freed += entry_block_bytes(entry, block)
        if segment.present == 0:
            _unlist(table, segment)
            if entry.many == NULL:
                entry.only = NULL
            else:
                entry.many[index] = NULL
            free(segment)
    return freed


cdef void table_pin(Table* table, Entry* entry, bint pinned) noexcept nogil:
    cdef Level* level = &table.levels[entry.level]
    cdef Segment* segment
    cdef uint64_t i
    if pinned == (entry.flags & ENTRY_PINNED != 0):
        return
    for i in range(entry_segments(entry)):
        segment = entry_segment(entry, i)
        if segment != NULL:
            if pinned:
                _unlist(table, segment)
            else:
                _list(table, segment)
    if pinned:
        entry.flags |= ENTRY_PINNED
        level.pinned_bytes += entry.cached_bytes
    else:
        entry.flags &= ~ENTRY_PINNED
        level.pinned_bytes -= entry.cached_bytes


cdef void table_unsynced(Table* table, Entry* entry, bint unsynced) noexcept nogil:
    # In the list of files to make durable, or out of it.
    if unsynced == (entry.flags & ENTRY_UNSYNCED != 0):
        return
    if unsynced:
        entry.flags |= ENTRY_UNSYNCED
        entry.older_unsynced = table.newest_unsynced
        entry.newer_unsynced = NULL
        if table.newest_unsynced != NULL:
            table.newest_unsynced.newer_unsynced = entry
        else:
            table.oldest_unsynced = entry
        table.newest_unsynced = entry
        table.unsynced += 1
        return
    entry.flags &= ~ENTRY_UNSYNCED
    if entry.older_unsynced != NULL:
        entry.older_unsynced.newer_unsynced = entry.newer_unsynced
    else:
        table.oldest_unsynced = entry.newer_unsynced
    if entry.newer_unsynced != NULL:
        entry.newer_unsynced.older_unsynced = entry.older_unsynced
    else:
        table.newest_unsynced = entry.older_unsynced
    table.unsynced -= 1


cdef void table_disk(Table* table, Entry* entry, uint64_t disk_bytes) noexcept nogil:
    table.levels[entry.level].used_bytes += disk_bytes - entry.disk_bytes
    entry.disk_bytes = disk_bytes


def sizes():
    """What one of each costs, for the test that holds memory down."""
    return {"entry": sizeof(Entry), "segment": sizeof(Segment), "handle": sizeof(Handle)}
