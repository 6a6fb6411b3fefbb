"""Making a store survive: fdatasync of what was written, and snapshots of the index.

Sync makes data durable first, then the records that speak of it.  Few files are synced one by one, many by one syncfs:
a journal commit a file would keep the disk busy for seconds.

A snapshot is taken in slices: the store's lock is held for a few hundred entries at a time, writing happens between,
so reads and puts go on.  What changes meanwhile is in the log that was begun before (``blockjournal``).

The caller holds the store's maintenance lock.  A failure is returned and leaves things as they were: a file that could
not be synced is synced after the next put to it, an unfinished snapshot leaves the old one and its log.
"""

from libc.errno cimport EBADF, ENOENT, errno
from libc.stdint cimport uint64_t

from jindopy._ext.blockevict cimport lease_close
from jindopy._ext.blockfiles cimport file_open
from jindopy._ext.blockindex cimport RECORD_PIN, RECORD_PUT, Record
from jindopy._ext.blockjournal cimport (
    SnapshotWriter,
    journal_rotate,
    snapshot_add,
    snapshot_begin,
    snapshot_end,
    snapshot_write,
)
from jindopy._ext.blockstate cimport (
    Store,
    Tier,
    describe,
    describe_block,
    descriptor_close,
    handle_take,
    handle_untake,
    live_count,
    tier_flush,
)
from jindopy._ext.blocktable cimport (
    ENTRY_PINNED,
    SEGMENT_SHIFT,
    Entry,
    Handle,
    Segment,
    block_bit,
    entry_segment,
    entry_segments,
    segment_crcs,
    table_unsynced,
)
from jindopy._ext.linux cimport fdatasync, syncfs
from jindopy._ext.pthreads cimport pthread_mutex_lock, pthread_mutex_unlock

cdef enum:
    SLICE_ENTRIES = 256     # some 30 us under the lock
    # From here on one syncfs is cheaper than a journal commit a file.
    SYNC_FILES_MAX = 32


cdef int _sync_one(Store* store, Entry* entry, Handle* handle) noexcept nogil:
    # fdatasync one file, through its handle if it is open.
    cdef Tier* tier = &store.tiers[entry.level]
    cdef uint64_t made_bytes
    cdef int fd
    cdef int rc = 0
    if handle != NULL:
        return 0 if fdatasync(handle.fd) == 0 else -errno
    fd = file_open(tier.files, entry.cid, False, tier.old_layout, &made_bytes)
    if fd < 0:
        return 0 if fd == -ENOENT else fd
    live_count(1, 1)
    if fdatasync(fd) < 0:
        rc = -errno
    descriptor_close(fd)
    return rc


cdef int _sync_oldest(Store* store) noexcept nogil:
    # The file that waits longest; a put meanwhile lets it wait again.
    cdef Entry* entry
    cdef Handle* handle = NULL
    cdef int fd = -1
    cdef int rc
    pthread_mutex_lock(&store.lock)
    entry = store.table.oldest_unsynced
    if entry != NULL:
        table_unsynced(&store.table, entry, False)
        handle = handle_take(store, entry)
        entry.leases += 1       # keeps the entry while the lock is free
        live_count(0, 1)
    pthread_mutex_unlock(&store.lock)
    if entry == NULL:
        return 0
    rc = _sync_one(store, entry, handle)
    if handle != NULL:
        pthread_mutex_lock(&store.lock)
        fd = handle_untake(store, handle)
        pthread_mutex_unlock(&store.lock)
    descriptor_close(fd)
    lease_close(store, entry)
    return rc


cdef int _sync_files(Store* store) noexcept nogil:
    cdef uint64_t waiting
    cdef int rc = 0
    cdef int one, level
    pthread_mutex_lock(&store.lock)
    waiting = store.table.unsynced
    if waiting > SYNC_FILES_MAX:
        while store.table.oldest_unsynced != NULL:
            table_unsynced(&store.table, store.table.oldest_unsynced, False)
    pthread_mutex_unlock(&store.lock)
    if waiting > SYNC_FILES_MAX:
        for level in range(store.tier_count):
            if syncfs(store.tiers[level].files) < 0:
                rc = -errno
        return rc
    while waiting:
        one = _sync_oldest(store)
        rc = one if one < 0 else rc
        waiting -= 1
    return rc


cdef int sync_all(Store* store) noexcept nogil:
    # Data first, then the records that speak of it.  Goes on after a failure; returns one.  Maintenance lock held.
    cdef int rc = _sync_files(store)
    cdef int one, level
    cdef uint64_t until
    for level in range(store.tier_count):
        pthread_mutex_lock(&store.lock)
        until = store.tiers[level].journal.appended
        pthread_mutex_unlock(&store.lock)
        one = tier_flush(store, level, until)
        if one == 0 and fdatasync(store.tiers[level].journal.log_fd) < 0:
            one = -errno
        rc = one if one < 0 else rc
    return rc


cdef int store_sync(Store* store) noexcept nogil:
    cdef int rc = -EBADF
    pthread_mutex_lock(&store.maintenance)
    if not store.closed:
        rc = sync_all(store)
    pthread_mutex_unlock(&store.maintenance)
    return rc


cdef void _add_entry(Store* store, SnapshotWriter* writer, Entry* entry) noexcept nogil:
    cdef Record record
    cdef uint64_t index, block
    cdef Segment* segment
    if entry.cached_bytes == 0:
        describe(&record, entry, RECORD_PIN)
        snapshot_add(writer, &record)
        return
    describe(&record, entry, RECORD_PUT)
    for index in range(entry_segments(entry)):
        segment = entry_segment(entry, index)
        if segment == NULL:
            continue
        for block in range(index << SEGMENT_SHIFT, (index + 1) << SEGMENT_SHIFT):
            if segment.present & block_bit(block):
                describe_block(&record, entry, block, segment_crcs(segment, block))
                snapshot_add(writer, &record)


cdef void _add_entries(Store* store, int level, SnapshotWriter* writer) noexcept nogil:
    cdef Entry* entry
    cdef size_t i = 0
    cdef int taken
    while i < store.table.bucket_count and writer.error == 0:
        taken = 0
        pthread_mutex_lock(&store.lock)
        while i < store.table.bucket_count and taken < SLICE_ENTRIES:
            entry = store.table.buckets[i]
            while entry != NULL:
                if entry.level == level and (entry.cached_bytes or entry.flags & ENTRY_PINNED):
                    _add_entry(store, writer, entry)
                taken += 1
                entry = entry.next
            i += 1
            taken += 1
        pthread_mutex_unlock(&store.lock)
        snapshot_write(writer)


cdef int write_snapshot(Store* store, int level) noexcept nogil:
    # Maintenance lock held.
    cdef Tier* tier = &store.tiers[level]
    cdef SnapshotWriter writer
    cdef uint64_t directory_bytes
    cdef int rc = journal_rotate(&tier.journal, &store.lock)
    if rc < 0:
        return rc
    pthread_mutex_lock(&store.lock)
    directory_bytes = tier.directory_bytes
    store.table.frozen = True
    pthread_mutex_unlock(&store.lock)
    rc = snapshot_begin(&tier.journal, &writer, directory_bytes)
    if rc == 0:
        _add_entries(store, level, &writer)
        rc = snapshot_end(&tier.journal, &writer)
    pthread_mutex_lock(&store.lock)
    store.table.frozen = False
    pthread_mutex_unlock(&store.lock)
    return rc
