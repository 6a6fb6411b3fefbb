"""Making room: which blocks go, how their space comes back, and when a put must wait for it.

Two triggers.  The janitor evicts from the high watermark down to the low one as soon as a put passes the high one; a
put evicts for itself only at the hard limits: quota, free space, free inodes.  Space counts as the disk gives it
(st_blocks of files and directories); puts in flight have reserved theirs, so the quota holds for any number of them.
What directories grow by, some 60 bytes a file, is counted late: at the janitor's next round.

Victims are segments, least recently used first: those of files without a lease, and only when these run out those of
leased ones (one huge file can stream through a small quota), never those of lent ones.  The last segment of a file
takes the file with it.
First the memory changes and ``generation`` moves, then the DROP records are written, then files are unlinked or
punched: a reader in between starts again and misses; a crash in between leaves bytes that nobody asks for.

No lock is held across I/O.  ENTRY_BUSY keeps writers of a victim away until its space is free.
"""

from libc.errno cimport ENOSPC
from libc.stdint cimport int64_t, uint64_t

from jindopy._ext.blockfiles cimport Room, file_disk_bytes, file_open, file_punch, file_unlink, files_room
from jindopy._ext.blockstate cimport (
    Store,
    Tier,
    descriptor_close,
    forget,
    handle_detach,
    handle_take,
    handle_untake,
    live_count,
    tier_flush,
    tier_used,
)
from jindopy._ext.blocktable cimport (
    BLOCK_BYTES,
    BLOCK_SHIFT,
    ENTRY_BUSY,
    ENTRY_HOMED,
    SEGMENT_BLOCKS,
    SEGMENT_SHIFT,
    Entry,
    Handle,
    Level,
    Segment,
    entry_blocks,
    table_discard,
    table_disk,
    table_rotate,
)
from jindopy._ext.linux cimport pthread_cond_broadcast, pthread_cond_wait
from jindopy._ext.pthreads cimport pthread_mutex_lock, pthread_mutex_unlock

cdef extern from * nogil:
    int __builtin_popcountll(unsigned long long bits)

cdef enum:
    BATCH = 64              # victims between two visits to the lock
    FREE_FILES_MIN = 64     # inodes left to others on a file system that counts them
    ATTEMPTS = 100          # a put whose room others took so often is refused: the quota is too small for so many


cdef struct Victim:
    Entry* entry
    Handle* handle      # to punch through, when the file is open
    uint64_t segment
    bint whole
    int detached        # descriptor to close


cdef void _choose(Store* store, Victim* victim, Entry* entry, uint64_t segment, bint whole) noexcept nogil:
    # Under the lock: from here on nobody finds the victim's blocks.
    cdef Tier* tier = &store.tiers[entry.level]
    cdef uint64_t freed
    victim.entry = entry
    victim.segment = segment
    victim.whole = whole
    victim.handle = NULL
    victim.detached = -1
    if whole:
        freed = forget(store, entry, 0, entry_blocks(entry))
        victim.detached = handle_detach(store, entry)
    else:
        freed = forget(store, entry, segment << SEGMENT_SHIFT, SEGMENT_BLOCKS)
        victim.handle = handle_take(store, entry)
    entry.generation += 1
    entry.flags |= ENTRY_BUSY
    tier.evictions += 1
    tier.evicted_bytes += freed
    store.counters.evicted_bytes += freed


cdef int _choose_coldest(Store* store, int level, uint64_t want, Victim* victims) noexcept nogil:
    cdef Level* held = &store.table.levels[level]
    cdef Segment* segment
    cdef Segment* following
    cdef Entry* entry
    cdef uint64_t left
    cdef uint64_t gain = 0
    cdef uint64_t bytes_here
    cdef int count = 0
    cdef bint leased_too
    for leased_too in range(2):
        left = held.listed
        segment = held.oldest
        while left and count < BATCH and gain < want:
            left -= 1
            following = segment.newer
            entry = segment.entry
            if entry.flags & ENTRY_BUSY:
                segment = following
                continue
            if entry.lends or (entry.leases and not leased_too):
                # A full round keeps their order; a part of one spares the next search the same steps.
                table_rotate(&store.table, segment)
                segment = following
                continue
            bytes_here = <uint64_t>__builtin_popcountll(segment.present) << BLOCK_SHIFT
            if entry.cached_bytes <= bytes_here:
                gain += entry.disk_bytes
                _choose(store, &victims[count], entry, segment.index, True)
            else:
                gain += bytes_here
                _choose(store, &victims[count], entry, segment.index, False)
            count += 1
            segment = following
    return count


cdef uint64_t _free_space(Store* store, int level, Victim* victim) noexcept nogil:
    # Without the lock: unlink or punch; returns the bytes the file takes afterwards.
    cdef Tier* tier = &store.tiers[level]
    cdef uint64_t made_bytes
    cdef int64_t disk_bytes
    cdef int fd
    if victim.whole:
        descriptor_close(victim.detached)
        return 0 if file_unlink(tier.files, victim.entry.cid, tier.old_layout) == 0 else victim.entry.disk_bytes
    if victim.handle != NULL:
        fd = victim.handle.fd
    else:
        fd = file_open(tier.files, victim.entry.cid, False, tier.old_layout, &made_bytes)
        if fd < 0:
            return 0
        live_count(1, 1)
    disk_bytes = file_punch(fd, victim.segment << (BLOCK_SHIFT + SEGMENT_SHIFT), SEGMENT_BLOCKS * <uint64_t>BLOCK_BYTES)
    if disk_bytes == 0:
        disk_bytes = file_disk_bytes(fd)
    if victim.handle == NULL:
        descriptor_close(fd)
    return <uint64_t>disk_bytes if disk_bytes >= 0 else victim.entry.disk_bytes


cdef uint64_t _carry_out(Store* store, int level, Victim* victims, int count) noexcept nogil:
    # Returns the disk bytes freed.  A failing log or disk does not stop eviction: checksums cover what it leaves.
    cdef Tier* tier = &store.tiers[level]
    cdef Victim* victim
    cdef uint64_t before, after
    cdef uint64_t freed = 0
    cdef uint64_t until
    cdef int fd, i
    pthread_mutex_lock(&store.lock)
    until = tier.journal.appended
    pthread_mutex_unlock(&store.lock)
    tier_flush(store, level, until)
    for i in range(count):
        victim = &victims[i]
        after = _free_space(store, level, victim)
        pthread_mutex_lock(&store.lock)
        before = victim.entry.disk_bytes
        freed += before - after if before > after else 0
        store.counters.io_errors += victim.whole and after != 0
        table_disk(&store.table, victim.entry, after)
        victim.entry.flags &= ~ENTRY_BUSY
        if victim.whole:
            victim.entry.flags &= ~ENTRY_HOMED
        fd = handle_untake(store, victim.handle) if victim.handle != NULL else -1
        tier.evictions -= 1
        table_discard(&store.table, victim.entry)
        pthread_cond_broadcast(&store.moved)
        pthread_mutex_unlock(&store.lock)
        descriptor_close(fd)
    return freed


cdef uint64_t evict_disk(Store* store, int level, uint64_t disk_bytes) noexcept nogil:
    # Free at least `disk_bytes` if there are victims for them; returns what was freed.
    cdef Victim victims[BATCH]
    cdef uint64_t freed = 0
    cdef int count
    while freed < disk_bytes:
        pthread_mutex_lock(&store.lock)
        count = _choose_coldest(store, level, disk_bytes - freed, victims)
        pthread_mutex_unlock(&store.lock)
        if count == 0:
            break
        freed += _carry_out(store, level, victims, count)
    return freed


cdef uint64_t evict_entry(Store* store, Entry* entry, bint only_empty) noexcept nogil:
    # Drop all blocks of an entry, whose lease the caller holds.  Readers under way go on reading the unlinked file.
    cdef Victim victim
    cdef uint64_t freed
    pthread_mutex_lock(&store.lock)
    while entry.flags & ENTRY_BUSY:
        pthread_cond_wait(&store.moved, &store.lock)
    if not entry.flags & ENTRY_HOMED or (only_empty and entry.cached_bytes):
        pthread_mutex_unlock(&store.lock)
        return 0
    freed = entry.cached_bytes
    _choose(store, &victim, entry, 0, True)
    pthread_mutex_unlock(&store.lock)
    _carry_out(store, entry.level, &victim, 1)
    return freed


cdef void lease_close(Store* store, Entry* entry) noexcept nogil:
    cdef int fd = -1
    cdef bint empty_file
    pthread_mutex_lock(&store.lock)
    empty_file = (
        entry.leases == 1
        and entry.cached_bytes == 0
        and entry.flags & ENTRY_HOMED
        and not store.closed
    )
    pthread_mutex_unlock(&store.lock)
    if empty_file:
        # A put that failed, or blocks dropped one by one, left a file that holds nothing.
        evict_entry(store, entry, True)
    pthread_mutex_lock(&store.lock)
    entry.leases -= 1
    live_count(0, -1)
    if entry.leases == 0:
        fd = handle_detach(store, entry)
        table_discard(&store.table, entry)
    pthread_mutex_unlock(&store.lock)
    descriptor_close(fd)


cdef bint over_high(Store* store, int level) noexcept nogil:
    # Lock held.
    return tier_used(store, level) + store.tiers[level].reserved_bytes > store.tiers[level].high_bytes


cdef int64_t _excess(Store* store, int level, uint64_t need_bytes, Room* room) noexcept nogil:
    # By how much `need_bytes` more would break a limit (<= 0: they fit).  Lock held.
    cdef Tier* tier = &store.tiers[level]
    cdef uint64_t taken = tier_used(store, level) + tier.reserved_bytes
    cdef int64_t over_quota = <int64_t>(taken + need_bytes) - <int64_t>tier.quota_bytes
    cdef int64_t over_disk = tier.min_free_bytes + <int64_t>(need_bytes + tier.reserved_bytes) - room.free_bytes
    if 0 <= room.free_files < FREE_FILES_MIN:
        over_disk = max(over_disk, <int64_t>1)
    return max(over_quota, over_disk)


cdef bint _wait_for_others(Store* store, int level) noexcept nogil:
    # Nothing can be evicted now.  What other puts are writing can be as soon as they are done; False: there are none.
    cdef Tier* tier = &store.tiers[level]
    cdef bint waited
    pthread_mutex_lock(&store.lock)
    waited = tier.reserved_bytes != 0 or tier.evictions != 0
    if waited:
        pthread_cond_wait(&store.moved, &store.lock)
    pthread_mutex_unlock(&store.lock)
    return waited


cdef int room_reserve(Store* store, int level, uint64_t need_bytes) noexcept nogil:
    # Reserve room for a put, evicting for it if need be; -ENOSPC when there is none to be had.
    cdef Room room
    cdef int64_t excess
    cdef int rc
    cdef int _attempt
    for _attempt in range(ATTEMPTS):
        rc = files_room(store.tiers[level].files, &room)
        if rc < 0:
            return rc
        pthread_mutex_lock(&store.lock)
        excess = _excess(store, level, need_bytes, &room)
        if excess <= 0:
            store.tiers[level].reserved_bytes += need_bytes
        pthread_mutex_unlock(&store.lock)
        if excess <= 0:
            return 0
        if need_bytes > store.tiers[level].quota_bytes:
            return -ENOSPC
        if evict_disk(store, level, <uint64_t>excess) == 0 and not _wait_for_others(store, level):
            return -ENOSPC
    return -ENOSPC
