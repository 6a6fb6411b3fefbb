"""Start, upkeep and end of a store: recovery, the janitor thread, sync, snapshots, close.

Start: each tier's index is replayed into memory; that is all a start waits for.  The *janitor* (a native thread that
never takes the GIL) then walks the cache files: those of an older layout are moved, files nobody knows are removed,
entries whose file is gone are dropped, and after another boot the space of each file is asked for again.  Nothing
depends on that walk being done: a missing file is found when it is opened, wrong bytes by their CRC.

Afterwards the janitor evicts when a put has passed the high watermark, and every ``sync_seconds`` makes what was
written durable, asks what the directories take and, when a log has grown long, writes a snapshot.

Locks: ``maintenance`` lets one thread at a time walk, sync or write snapshots.  It is taken before everything else.
"""

from libc.stdint cimport uint8_t, uint64_t

from jindopy._ext.blockevict cimport evict_disk, over_high
from jindopy._ext.blockfiles cimport file_unlink, files_directory_bytes, files_walk
from jindopy._ext.blockindex cimport (
    RECORD_DROP,
    RECORD_PIN,
    RECORD_PINNED,
    RECORD_PUT,
    Record,
)
from jindopy._ext.blockjournal cimport journal_close, journal_is_long, journal_open
from jindopy._ext.blockstate cimport Store, Tier, descriptor_close, forget, handle_detach, tier_used
from jindopy._ext.blocksync cimport sync_all, write_snapshot
from jindopy._ext.blocktable cimport (
    ENTRY_HOMED,
    ENTRY_UNSEEN,
    ENTRY_UNSYNCED,
    Entry,
    entry_block_pieces,
    entry_blocks,
    table_add,
    table_clear,
    table_discard,
    table_disk,
    table_find,
    table_order,
    table_pin,
    table_set,
)
from jindopy._ext.linux cimport close, pthread_cond_broadcast, pthread_cond_wait, pthread_create, pthread_join
from jindopy._ext.pthreads cimport (
    CLOCK_MONOTONIC,
    clock_gettime,
    pthread_cond_clockwait,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    timespec,
)

cdef enum:
    DISK_UNIT = 4096
    IDLE_SECONDS = 5        # how often the janitor looks around when nothing is to be synced


cdef struct Replay:
    Store* store
    int level


cdef void _replay_put(Replay* replay, const Record* record) noexcept nogil:
    cdef Store* store = replay.store
    cdef Entry* entry = table_find(&store.table, record.cid)
    if entry == NULL:
        entry = table_add(&store.table, record.cid, record.size, record.owner)
    if entry == NULL or entry.size != record.size or record.block >= entry_blocks(entry):
        return
    if record.count != entry_block_pieces(entry, record.block):
        return      # of format 1, which had one CRC a block
    if entry.level != replay.level:
        if entry.cached_bytes:
            return      # a tier before this one has it; the file here is removed by the walk
        entry.level = <uint8_t>replay.level
    if record.flags & RECORD_PINNED:
        table_pin(&store.table, entry, True)
    if table_set(&store.table, entry, record.block, record.crcs) < 0:
        return
    entry.flags |= ENTRY_HOMED | ENTRY_UNSEEN
    entry.tick = max(entry.tick, record.stamp)
    store.table.tick = max(store.table.tick, record.stamp)
    table_disk(&store.table, entry, <uint64_t>record.disk_units * DISK_UNIT)


cdef int _replay_record(void* context, const Record* record) noexcept nogil:
    cdef Replay* replay = <Replay*>context
    cdef Entry* entry
    if record.kind == RECORD_PUT:
        _replay_put(replay, record)
    elif record.kind == RECORD_DROP:
        entry = table_find(&replay.store.table, record.cid)
        if entry != NULL and entry.level == replay.level:
            table_clear(&replay.store.table, entry, record.block, record.block_count)
    elif record.kind == RECORD_PIN:
        entry = table_find(&replay.store.table, record.cid)
        if entry == NULL and record.flags & RECORD_PINNED:
            entry = table_add(&replay.store.table, record.cid, record.size, record.owner)
        if entry != NULL and entry.size == record.size:
            table_pin(&replay.store.table, entry, record.flags & RECORD_PINNED != 0)
    return 0


cdef int store_recover(Store* store, int level) noexcept nogil:
    # Replay one tier's index; before the store has any other thread.
    cdef Replay replay = Replay(store, level)
    cdef Tier* tier = &store.tiers[level]
    cdef int rc = journal_open(&tier.journal, tier.root, &tier.directory_bytes, _replay_record, &replay)
    tier.restat = tier.journal.stale
    tier.old_layout = True
    return rc


cdef void _discard_empty(Store* store) noexcept nogil:
    # Entries whose blocks were all dropped again.
    cdef Entry* entry
    cdef Entry* following
    cdef size_t i
    for i in range(store.table.bucket_count):
        entry = store.table.buckets[i]
        while entry != NULL:
            following = entry.next
            if entry.cached_bytes == 0:
                entry.flags &= ~(ENTRY_HOMED | ENTRY_UNSEEN)
                table_disk(&store.table, entry, 0)
                table_discard(&store.table, entry)
            entry = following


cdef int store_start(Store* store) noexcept nogil:
    # All tiers are replayed: order them and let the janitor work.
    cdef int rc
    _discard_empty(store)
    rc = table_order(&store.table)
    if rc == 0:
        rc = -pthread_create(&store.janitor, NULL, _janitor, store)
        store.janitor_runs = rc == 0
    return rc


cdef struct Walk:
    Store* store
    int level


cdef int _met(void* context, const uint8_t* cid, uint64_t disk_bytes) noexcept nogil:
    cdef Walk* walk = <Walk*>context
    cdef Store* store = walk.store
    cdef Tier* tier = &store.tiers[walk.level]
    cdef Entry* entry
    cdef bint ended
    pthread_mutex_lock(&store.lock)
    ended = store.closed
    entry = table_find(&store.table, cid)
    if entry != NULL and entry.flags & ENTRY_HOMED and entry.level == walk.level:
        entry.flags &= ~ENTRY_UNSEEN
        if tier.restat and entry.handle == NULL and not entry.flags & ENTRY_UNSYNCED:
            table_disk(&store.table, entry, disk_bytes)
    elif not ended:
        # The one place that does I/O under the lock: no put may begin this very file while it is being removed.
        file_unlink(tier.files, cid, tier.old_layout)
        store.counters.strays_removed += 1
    pthread_mutex_unlock(&store.lock)
    return ended


cdef void _drop_unseen(Store* store, int level) noexcept nogil:
    # Entries that the walk did not meet have no file.
    cdef Entry* entry
    cdef Entry* following
    cdef size_t i
    for i in range(store.table.bucket_count):
        pthread_mutex_lock(&store.lock)
        entry = store.table.buckets[i]
        while entry != NULL:
            following = entry.next
            if entry.level == level and entry.flags & ENTRY_UNSEEN:
                forget(store, entry, 0, entry_blocks(entry))
                entry.flags &= ~(ENTRY_HOMED | ENTRY_UNSEEN)
                table_disk(&store.table, entry, 0)
                table_discard(&store.table, entry)
            entry = following
        pthread_mutex_unlock(&store.lock)


cdef void _walk_tier(Store* store, int level) noexcept nogil:
    cdef Walk walk = Walk(store, level)
    cdef Tier* tier = &store.tiers[level]
    cdef uint64_t directory_bytes = 0
    cdef int rc
    pthread_mutex_lock(&store.maintenance)
    rc = files_walk(tier.files, tier.restat, &directory_bytes, _met, &walk)
    pthread_mutex_lock(&store.lock)
    if rc == 0:
        tier.directory_bytes = directory_bytes
        tier.restat = False
        tier.old_layout = False
    store.table.frozen = True
    pthread_mutex_unlock(&store.lock)
    if rc == 0:
        _drop_unseen(store, level)
    pthread_mutex_lock(&store.lock)
    store.table.frozen = False
    pthread_mutex_unlock(&store.lock)
    pthread_mutex_unlock(&store.maintenance)


cdef double _now() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef bint _rest(Store* store, double until) noexcept nogil:
    # Until then, or a put passed a high watermark, or close.  False: close.
    cdef timespec moment
    cdef bint goes_on
    cdef int rc = 0
    moment.tv_sec = <long>until
    moment.tv_nsec = <long>((until - moment.tv_sec) * 1e9)
    pthread_mutex_lock(&store.lock)
    while rc == 0 and not store.closed and not store.poked:
        rc = pthread_cond_clockwait(&store.work, &store.lock, CLOCK_MONOTONIC, &moment)
    store.poked = False
    goes_on = not store.closed
    pthread_mutex_unlock(&store.lock)
    return goes_on


cdef uint64_t _over_low(Store* store, int level) noexcept nogil:
    cdef uint64_t used
    pthread_mutex_lock(&store.lock)
    used = 0 if store.closed else tier_used(store, level)
    pthread_mutex_unlock(&store.lock)
    return used - store.tiers[level].low_bytes if used > store.tiers[level].low_bytes else 0


cdef void _evict_to_low(Store* store) noexcept nogil:
    # Puts go on meanwhile, so the goal is looked at again until it is reached or nothing more can go.
    cdef int level
    cdef uint64_t excess
    cdef bint full
    for level in range(store.tier_count):
        pthread_mutex_lock(&store.lock)
        full = over_high(store, level)
        pthread_mutex_unlock(&store.lock)
        excess = _over_low(store, level) if full else 0
        while excess and evict_disk(store, level, excess):
            excess = _over_low(store, level)


cdef void _weigh_directories(Store* store, int level) noexcept nogil:
    # 256 stats, less than 1 ms.  A directory made between counting and here is counted the next time.
    cdef Tier* tier = &store.tiers[level]
    cdef uint64_t directory_bytes = files_directory_bytes(tier.files)
    pthread_mutex_lock(&store.lock)
    tier.directory_bytes = directory_bytes
    pthread_mutex_unlock(&store.lock)


cdef void _upkeep(Store* store, bint sync) noexcept nogil:
    # A disk that fails here fails the next put, which says so; the next round tries again.
    cdef int level
    cdef bint written
    pthread_mutex_lock(&store.maintenance)
    pthread_mutex_lock(&store.lock)
    written = store.table.unsynced != 0
    pthread_mutex_unlock(&store.lock)
    if written and sync:
        sync_all(store)
    for level in range(store.tier_count):
        if written:
            _weigh_directories(store, level)
        if store.tiers[level].journal.stale or journal_is_long(&store.tiers[level].journal):
            write_snapshot(store, level)
    pthread_mutex_unlock(&store.maintenance)


cdef void* _janitor(void* context) noexcept nogil:
    cdef Store* store = <Store*>context
    cdef double period = store.sync_seconds if store.sync_seconds > 0 else IDLE_SECONDS
    cdef double upkeep_due = _now() + period
    cdef int level
    for level in range(store.tier_count):
        _walk_tier(store, level)
    while _rest(store, upkeep_due):
        _evict_to_low(store)
        if _now() >= upkeep_due:
            _upkeep(store, store.sync_seconds > 0)
            upkeep_due = _now() + period
    return NULL


cdef void _release_tier(Store* store, int level) noexcept nogil:
    cdef Tier* tier = &store.tiers[level]
    if tier.files >= 0:
        close(tier.files)
    if tier.root >= 0:
        close(tier.root)
    if tier.lock_fd >= 0:
        close(tier.lock_fd)     # ends the flock
    tier.files = -1
    tier.root = -1
    tier.lock_fd = -1


cdef int store_close(Store* store) noexcept nogil:
    # Harmless when repeated.  Also ends a store whose start failed half-way.
    cdef int rc = 0
    cdef int one, level, fd
    pthread_mutex_lock(&store.lock)
    if store.closed:
        pthread_mutex_unlock(&store.lock)
        return 0
    store.closed = True
    pthread_cond_broadcast(&store.work)
    pthread_cond_broadcast(&store.moved)
    while store.active:
        pthread_cond_wait(&store.moved, &store.lock)
    pthread_mutex_unlock(&store.lock)
    pthread_mutex_lock(&store.maintenance)
    pthread_mutex_unlock(&store.maintenance)
    if store.janitor_runs:
        pthread_join(store.janitor, NULL)
        rc = sync_all(store)
    for level in range(store.tier_count):
        if store.janitor_runs:
            one = write_snapshot(store, level)
            rc = one if one < 0 else rc
        journal_close(&store.tiers[level].journal)
    pthread_mutex_lock(&store.lock)
    while store.newest_handle != NULL:
        fd = handle_detach(store, store.newest_handle.entry)
        pthread_mutex_unlock(&store.lock)
        descriptor_close(fd)
        pthread_mutex_lock(&store.lock)
    pthread_mutex_unlock(&store.lock)
    for level in range(store.tier_count):
        _release_tier(store, level)
    return rc
