"""Where a store's blocks lie, for a sender that has the kernel read them (``sendfile``).

A sender holds a lease on the entry and a use of its descriptor, so eviction takes other victims first and cannot take
the file away; it may punch a hole all the same.  So the entry's generation, which moves before any bytes go, is
compared when all was handed to the kernel: what is queued in a socket by then are references to pages, and those keep
their contents when they leave the file.  Nothing is checked: that is for who receives.

Locks: the store's, for pointer work.
"""

from libc.errno cimport EAGAIN, EBADF, ENOENT
from libc.stdint cimport uint8_t, uint64_t

from jindopy._ext.blockstate cimport (
    Store,
    descriptor_close,
    handle_attach,
    handle_take,
    handle_untake,
    live_count,
    store_enter,
    store_leave,
)
from jindopy._ext.blocktable cimport (
    BLOCK_SHIFT,
    SEGMENT_SHIFT,
    Entry,
    Segment,
    block_bit,
    entry_block_bytes,
    entry_block_pieces,
    entry_blocks,
    entry_segment,
    segment_crcs,
    table_find,
    table_touch,
)
from jindopy._ext.pthreads cimport pthread_mutex_lock, pthread_mutex_unlock


cdef int send_lease(
    Store* store, const uint8_t* cid, const uint64_t* owners, size_t count, Entry** leased
) noexcept nogil:
    cdef Entry* entry
    cdef size_t i
    cdef int rc = SEND_ABSENT
    pthread_mutex_lock(&store.lock)
    if store.closed:
        rc = -EBADF
    else:
        entry = table_find(&store.table, cid)
        if entry != NULL:
            rc = SEND_FORBIDDEN
            for i in range(count):
                if entry.owner.tag == owners[i]:
                    rc = SEND_READY
        if rc == SEND_READY:
            entry.leases += 1
            live_count(0, 1)
            leased[0] = entry
    pthread_mutex_unlock(&store.lock)
    return rc


cdef int _find(Store* store, Entry* entry, uint64_t block, Sending* sending) noexcept nogil:
    # Lock held.
    cdef Segment* segment
    if block >= entry_blocks(entry):
        return SEND_BEYOND
    segment = entry_segment(entry, block >> SEGMENT_SHIFT)
    if segment == NULL or not segment.present & block_bit(block):
        return SEND_ABSENT
    table_touch(&store.table, segment)
    sending.entry = entry
    sending.generation = entry.generation
    sending.offset = block << BLOCK_SHIFT
    sending.size = entry_block_bytes(entry, block)
    # The last piece's is the whole block's.
    sending.crc = segment_crcs(segment, block)[entry_block_pieces(entry, block) - 1]
    sending.handle = handle_take(store, entry)
    return SEND_READY


cdef int send_begin(Store* store, Entry* entry, uint64_t block, Sending* sending) noexcept nogil:
    cdef int rc = -EAGAIN
    while rc == -EAGAIN:
        pthread_mutex_lock(&store.lock)
        if not store_enter(store):
            pthread_mutex_unlock(&store.lock)
            return -EBADF
        rc = _find(store, entry, block, sending)
        pthread_mutex_unlock(&store.lock)
        if rc == SEND_READY and sending.handle == NULL:
            rc = handle_attach(store, entry, sending.generation, False, &sending.handle)
        pthread_mutex_lock(&store.lock)
        store_leave(store)
        pthread_mutex_unlock(&store.lock)
    # A file that somebody removed by hand: the next reader of this machine has the store forget it.
    return SEND_ABSENT if rc == -ENOENT else rc


cdef bint send_end(Store* store, Sending* sending) noexcept nogil:
    cdef bint intact
    cdef int fd
    pthread_mutex_lock(&store.lock)
    intact = sending.entry.generation == sending.generation
    fd = handle_untake(store, sending.handle)
    pthread_mutex_unlock(&store.lock)
    descriptor_close(fd)
    return intact
