"""Lending: a cache file whose bytes are read without the store, by the kernel on behalf of programs that have it open.

Whoever reads by himself can neither check a block nor compare a generation.  So only a file that is complete, and
every piece of which was checked in this process, is lent; and while it is lent it is no victim of eviction, since a
hole punched under such a reader would read as zeros.  Told to evict it (``jindopy evict``), the store unlinks it: its
readers go on with the file that has no name any more, and its space comes back when the last of them closes it.

Bounds: that space is in no account of the store's, and a lent file cannot make room for another; so files lent at a
time have at most a LENT_OF_QUOTA-th of their tier's quota.  What does not fit is read through the store.

Locks: the store's, never across I/O.  Failure: a file that cannot be opened or has another length is not lent; a block
of a lent file that turns out wrong later (a scrub, an object whose checksum does not agree) marks the loan *spoilt*.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from jindopy._ext.blockfiles cimport file_bytes
from jindopy._ext.blockio cimport CHECK_GOOD, store_check
from jindopy._ext.blockstate cimport (
    Store,
    descriptor_close,
    handle_attach,
    handle_take,
    handle_untake,
)
from jindopy._ext.blocktable cimport (
    ENTRY_BUSY,
    ENTRY_HOMED,
    ENTRY_SPOILT,
    SEGMENT_BLOCKS,
    SEGMENT_SHIFT,
    Entry,
    Handle,
    Segment,
    entry_block_pieces,
    entry_blocks,
    entry_segment,
    entry_segments,
    segment_checked,
    table_touch,
)
from jindopy._ext.pthreads cimport pthread_mutex_lock, pthread_mutex_unlock

cdef enum:
    LENT_OF_QUOTA = 4


cdef bint _may_lend(Store* store, Entry* entry) noexcept nogil:
    # Lock held.
    if store.closed or entry.cached_bytes != entry.size or entry.size == 0:
        return False
    if entry.flags & ENTRY_BUSY or not entry.flags & ENTRY_HOMED or entry.flags & ENTRY_SPOILT:
        return False
    return entry.lends != 0 or (
        store.lent_bytes + entry.size <= store.tiers[entry.level].quota_bytes // LENT_OF_QUOTA
    )


cdef uint64_t _first_unchecked(Entry* entry) noexcept nogil:
    # The first block of a complete file with a piece not checked; their number when there is none.  Lock held.
    cdef uint64_t blocks = entry_blocks(entry)
    cdef uint64_t block
    cdef Segment* segment = NULL
    for block in range(blocks):
        if block % SEGMENT_BLOCKS == 0:
            segment = entry_segment(entry, block >> SEGMENT_SHIFT)
        if segment_checked(segment, block)[0] != (<uint64_t>1 << entry_block_pieces(entry, block)) - 1:
            return block
    return blocks


cdef bint store_lend(Store* store, Entry* entry, uint64_t check_bytes_max, Handle** lent) noexcept nogil:
    cdef Handle* handle = NULL
    cdef uint32_t generation
    cdef uint64_t block, i
    cdef bint good
    while True:
        pthread_mutex_lock(&store.lock)
        if not _may_lend(store, entry):
            pthread_mutex_unlock(&store.lock)
            return False
        block = _first_unchecked(entry)
        if block == entry_blocks(entry):
            break
        pthread_mutex_unlock(&store.lock)
        if entry.size > check_bytes_max or store_check(store, entry, block, False) != CHECK_GOOD:
            return False
    # From here on nobody makes it a victim.
    _count(store, entry, 1)
    generation = entry.generation
    handle = handle_take(store, entry)
    for i in range(entry_segments(entry)):
        table_touch(&store.table, entry_segment(entry, i))
    pthread_mutex_unlock(&store.lock)
    if handle == NULL:
        handle_attach(store, entry, generation, False, &handle)
    good = handle != NULL and file_bytes(handle.fd) == <int64_t>entry.size
    pthread_mutex_lock(&store.lock)
    good = good and entry.generation == generation
    store.counters.lent += good
    store.counters.lent_object_bytes += entry.size if good else 0
    pthread_mutex_unlock(&store.lock)
    if good:
        lent[0] = handle
        return True
    lend_handle_back(store, handle)
    store_unlend(store, entry)
    return False


cdef void _count(Store* store, Entry* entry, int change) noexcept nogil:
    # Lock held.
    entry.lends += change
    if entry.lends == (1 if change > 0 else 0):
        store.lent_bytes += <uint64_t>(change * <int64_t>entry.size)


cdef void lend_handle_back(Store* store, Handle* handle) noexcept nogil:
    cdef int fd
    if handle == NULL:
        return
    pthread_mutex_lock(&store.lock)
    fd = handle_untake(store, handle)
    pthread_mutex_unlock(&store.lock)
    descriptor_close(fd)


cdef void store_unlend(Store* store, Entry* entry) noexcept nogil:
    pthread_mutex_lock(&store.lock)
    _count(store, entry, -1)
    if entry.lends == 0:
        entry.flags &= ~ENTRY_SPOILT
    pthread_mutex_unlock(&store.lock)
