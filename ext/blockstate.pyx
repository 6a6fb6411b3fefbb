"""The state of one block store, and the small operations on it that reading, writing and evicting are made of.

One lock guards all memory of a store and is never held across I/O; every operation takes it two or three times for a
fraction of a microsecond.  What must not happen twice, or at the same time, is told by state instead:

    claim           a block is being written by one thread; others that want to write it wait on ``moved``
    ENTRY_BUSY      the entry's file is being unlinked or punched; writers wait on ``moved``
    generation      moves before bytes of an entry may change or go.  Who read or wrote without the lock compares it
                    afterwards and starts again if it moved: nobody ever keeps zeros from a hole
    handle uses     a descriptor is closed when its entry and the last operation have let go of it

Descriptors: one per file, opened at first use, shared by all leases, closed with the last one, or earlier when more
than the limit are open (least recently used first): leases cost memory, not descriptors.

Functions named ``lease_open``, ``handle_attach`` and ``tier_flush`` take the lock; all others want it held.
"""

from libc.errno cimport EAGAIN, EBADF, EINVAL, ENOMEM
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from jindopy._ext.blockfiles cimport file_open
from jindopy._ext.blockindex cimport RECORD_DROP, RECORD_PIN, RECORD_PINNED, RECORD_PUT, Record
from jindopy._ext.blockjournal cimport journal_append, journal_flush
from jindopy._ext.blocktable cimport (
    BLOCK_BYTES,
    ENTRY_PINNED,
    ENTRY_SPOILT,
    ENTRY_UNSEEN,
    Entry,
    Handle,
    entry_block_pieces,
    entry_blocks,
    table_add,
    table_clear,
    table_find,
    table_free,
    table_init,
)
from jindopy._ext.iobuf cimport PIECE_BYTES
from jindopy._ext.linux cimport (
    O_CLOEXEC,
    O_WRONLY,
    RLIMIT_NOFILE,
    __sync_add_and_fetch,
    close,
    ftruncate,
    getrlimit,
    openat,
    pthread_cond_broadcast,
    rlimit,
)
from jindopy._ext.pthreads cimport (
    pthread_cond_destroy,
    pthread_cond_init,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)

cdef enum:
    # Half of what the process may open, and never more than this: the rest belongs to connections and logs.
    HANDLES_MAX = 8192
    DISK_UNIT = 4096

cdef const char* DEV_NULL = b"/dev/null"

# Alive in this process: leases, descriptors, stores.
cdef long _live[3]


cdef long live_count(int which, long change) noexcept nogil:
    return __sync_add_and_fetch(&_live[which], change)


cdef Store* store_new() noexcept nogil:
    cdef Store* store = <Store*>calloc(1, sizeof(Store))
    cdef rlimit limits
    cdef int i
    if store == NULL:
        return NULL
    if table_init(&store.table) < 0:
        table_free(&store.table)
        free(store)
        return NULL
    pthread_mutex_init(&store.lock, NULL)
    pthread_mutex_init(&store.maintenance, NULL)
    pthread_cond_init(&store.moved, NULL)
    pthread_cond_init(&store.work, NULL)
    for i in range(8):
        store.tiers[i].lock_fd = -1
        store.tiers[i].root = -1
        store.tiers[i].files = -1
        store.tiers[i].journal.log_fd = -1
    store.sink = openat(-1, DEV_NULL, O_WRONLY | O_CLOEXEC)
    store.handle_limit = 512
    if getrlimit(RLIMIT_NOFILE, &limits) == 0:
        store.handle_limit = <uint32_t>min(limits.rlim_cur // 2, <unsigned long>HANDLES_MAX)
    return store


cdef void store_free(Store* store) noexcept nogil:
    cdef int i
    table_free(&store.table)
    if store.sink >= 0:
        close(store.sink)
    for i in range(store.scratch_count):
        free(store.scratch[i])
    pthread_cond_destroy(&store.work)
    pthread_cond_destroy(&store.moved)
    pthread_mutex_destroy(&store.maintenance)
    pthread_mutex_destroy(&store.lock)
    free(store)


cdef bint store_enter(Store* store) noexcept nogil:
    # False after close: close waits until everybody who entered has left.
    if store.closed:
        return False
    store.active += 1
    return True


cdef void store_leave(Store* store) noexcept nogil:
    store.active -= 1
    if store.closed and store.active == 0:
        pthread_cond_broadcast(&store.moved)


cdef bint claimed(Store* store, Entry* entry, uint64_t block) noexcept nogil:
    # As many claims as threads inside at most: a list is enough.
    cdef Claim* each = store.claims
    while each != NULL:
        if each.entry == entry and each.block == block:
            return True
        each = each.next
    return False


cdef bint entry_claimed(Store* store, Entry* entry) noexcept nogil:
    cdef Claim* each = store.claims
    while each != NULL:
        if each.entry == entry:
            return True
        each = each.next
    return False


cdef void claim(Store* store, Claim* mine, Entry* entry, uint64_t block) noexcept nogil:
    mine.entry = entry
    mine.block = block
    mine.next = store.claims
    store.claims = mine


cdef void unclaim(Store* store, Claim* mine) noexcept nogil:
    cdef Claim** link = &store.claims
    while link[0] != mine:
        link = &link[0].next
    link[0] = mine.next
    pthread_cond_broadcast(&store.moved)


cdef void _unlink_handle(Store* store, Handle* handle) noexcept nogil:
    if handle.older != NULL:
        handle.older.newer = handle.newer
    else:
        store.oldest_handle = handle.newer
    if handle.newer != NULL:
        handle.newer.older = handle.older
    else:
        store.newest_handle = handle.older


cdef void _link_handle(Store* store, Handle* handle) noexcept nogil:
    handle.older = store.newest_handle
    handle.newer = NULL
    if store.newest_handle != NULL:
        store.newest_handle.newer = handle
    else:
        store.oldest_handle = handle
    store.newest_handle = handle


cdef void descriptor_close(int fd) noexcept nogil:
    # Called without the lock, with what handle_detach or handle_untake gave back (-1: nothing to close).
    if fd >= 0:
        close(fd)
        live_count(1, -1)


cdef Handle* handle_take(Store* store, Entry* entry) noexcept nogil:
    cdef Handle* handle = entry.handle
    if handle != NULL:
        handle.uses += 1
        if handle.newer != NULL:
            _unlink_handle(store, handle)
            _link_handle(store, handle)
    return handle


cdef int handle_untake(Store* store, Handle* handle) noexcept nogil:
    # A descriptor to close once the lock is free, or -1.
    cdef int fd = -1
    handle.uses -= 1
    if handle.uses == 0:
        fd = handle.fd
        free(handle)
    return fd


cdef int handle_detach(Store* store, Entry* entry) noexcept nogil:
    cdef Handle* handle = entry.handle
    if handle == NULL:
        return -1
    entry.handle = NULL
    handle.entry = NULL
    store.handle_count -= 1
    _unlink_handle(store, handle)
    return handle_untake(store, handle)


cdef int _detach_idle(Store* store) noexcept nogil:
    cdef Handle* handle = store.oldest_handle
    while handle != NULL and handle.uses > 1:
        handle = handle.newer
    return handle_detach(store, handle.entry) if handle != NULL else -1


cdef int handle_attach(
    Store* store, Entry* entry, uint32_t generation, bint create, Handle** attached
) noexcept nogil:
    # Open the entry's file and take it.  -EAGAIN when the entry moved on since `generation`: the descriptor may be of
    # a file that was unlinked meanwhile.
    cdef uint64_t made_bytes = 0
    cdef int surplus = -1
    cdef int rc = 0
    cdef Handle* handle
    cdef Tier* tier = &store.tiers[entry.level]
    cdef int fd = file_open(tier.files, entry.cid, create, tier.old_layout, &made_bytes)
    if fd < 0:
        return fd
    live_count(1, 1)
    if create and entry.size > BLOCK_BYTES and entry.disk_bytes == 0:
        # Writes inside the end of a file reserve nothing; behind it XFS reserves as much again as the file has.  A file
        # system that cannot have such a size says so at the write.
        ftruncate(fd, entry.size)
    handle = <Handle*>malloc(sizeof(Handle))
    pthread_mutex_lock(&store.lock)
    store.tiers[entry.level].directory_bytes += made_bytes
    if entry.generation != generation:
        rc = -EAGAIN
    elif handle == NULL:
        rc = -ENOMEM
    elif entry.handle == NULL:
        entry.flags &= ~ENTRY_UNSEEN
        handle.fd = fd
        handle.uses = 2
        handle.entry = entry
        entry.handle = handle
        attached[0] = handle
        _link_handle(store, handle)
        store.handle_count += 1
        if store.handle_count > store.handle_limit:
            surplus = _detach_idle(store)
        handle = NULL
        fd = -1
    else:
        attached[0] = handle_take(store, entry)     # another thread was faster
    pthread_mutex_unlock(&store.lock)
    descriptor_close(fd)
    descriptor_close(surplus)
    free(handle)
    return rc


cdef char* scratch_take(Store* store) noexcept nogil:
    # Warm memory of one piece, to check a piece of which only a part is wanted.  NULL: no memory.
    if store.scratch_count:
        store.scratch_count -= 1
        return store.scratch[store.scratch_count]
    return <char*>malloc(PIECE_BYTES)


cdef void scratch_give(Store* store, char* buffer) noexcept nogil:
    if store.scratch_count < SCRATCH_SPARE:
        store.scratch[store.scratch_count] = buffer
        store.scratch_count += 1
    else:
        free(buffer)


cdef void describe(Record* record, Entry* entry, int kind) noexcept nogil:
    memset(record, 0, sizeof(Record))
    record.kind = <uint8_t>kind
    record.flags = RECORD_PINNED if entry.flags & ENTRY_PINNED else 0
    record.size = entry.size
    record.owner = entry.owner.tag
    record.stamp = entry.tick
    record.disk_units = <uint32_t>(entry.disk_bytes // DISK_UNIT)
    memcpy(record.cid, entry.cid, 16)


cdef void describe_block(Record* record, Entry* entry, uint64_t block, const uint64_t* crcs) noexcept nogil:
    record.block = <uint32_t>block
    record.count = <uint8_t>entry_block_pieces(entry, block)
    memcpy(record.crcs, crcs, record.count * sizeof(uint64_t))


cdef uint64_t log_put(Store* store, Entry* entry, uint64_t block, const uint64_t* crcs) noexcept nogil:
    cdef Record record
    describe(&record, entry, RECORD_PUT)
    describe_block(&record, entry, block, crcs)
    return journal_append(&store.tiers[entry.level].journal, &record)


cdef uint64_t log_drop(Store* store, Entry* entry, uint64_t first, uint64_t count) noexcept nogil:
    cdef Record record
    describe(&record, entry, RECORD_DROP)
    record.block = <uint32_t>first
    record.block_count = <uint32_t>count
    return journal_append(&store.tiers[entry.level].journal, &record)


cdef uint64_t log_pin(Store* store, Entry* entry) noexcept nogil:
    cdef Record record
    describe(&record, entry, RECORD_PIN)
    return journal_append(&store.tiers[entry.level].journal, &record)


cdef uint64_t forget(Store* store, Entry* entry, uint64_t first, uint64_t count) noexcept nogil:
    # Blocks are as good as gone, whatever the file holds; returns their object bytes.
    cdef uint64_t blocks = entry_blocks(entry)
    if first >= blocks:
        return 0
    count = min(count, blocks - first)
    log_drop(store, entry, first, count)
    return table_clear(&store.table, entry, first, count)


cdef uint64_t forget_damaged(Store* store, Entry* entry, uint64_t first, uint64_t count) noexcept nogil:
    if entry.lends:
        entry.flags |= ENTRY_SPOILT
    return forget(store, entry, first, count)


cdef int tier_flush(Store* store, int level, uint64_t until) noexcept nogil:
    return journal_flush(&store.tiers[level].journal, &store.lock, until)


cdef uint64_t tier_used(Store* store, int level) noexcept nogil:
    return store.table.levels[level].used_bytes + store.tiers[level].directory_bytes


cdef int lease_open(
    Store* store, const uint8_t* cid, uint64_t size, uint64_t owner, Entry** leased
) noexcept nogil:
    cdef Entry* entry
    cdef int rc = 0
    pthread_mutex_lock(&store.lock)
    if store.closed:
        rc = -EBADF
    else:
        entry = table_find(&store.table, cid)
        if entry == NULL:
            entry = table_add(&store.table, cid, size, owner)
        if entry == NULL:
            rc = -ENOMEM
        elif entry.size != size:
            rc = -EINVAL
        else:
            entry.leases += 1
            leased[0] = entry
            live_count(0, 1)
    pthread_mutex_unlock(&store.lock)
    return rc
