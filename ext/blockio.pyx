"""Reading, checking and writing blocks of an entry whose lease the caller holds.

Read: the range is cut into runs.  A run of pieces checked before is one pread between two short visits to the lock.  A
piece not checked yet is read whole, compared with its CRC while it is in the nearest caches, and only then bytes of it
are handed out; two readers of one piece may both check it, which costs less than one waiting for the other.  After
every pread the entry's generation is compared: if blocks were dropped, punched or unlinked in between, the run starts
again and then misses.

Write: a put claims its block, reserves room, writes, and makes the block present together with its record; it returns
when the record is written.  If the entry was evicted in between it starts again.  A tier that is full or failing hands
a file that has nothing cached yet to the next tier.

Damage (wrong CRC, short file, EIO, missing file) drops the blocks it hit, is counted, and reads as a miss.
"""

from libc.errno cimport EAGAIN, EBADF, EDQUOT, EIO, ENOENT, ENOMEM, ENOSPC, EROFS
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from jindopy._ext.blockevict cimport evict_disk, over_high, room_reserve
from jindopy._ext.blockfiles cimport file_disk_bytes, file_read, file_read_nowait, file_unlink, file_warm, file_write
from jindopy._ext.blockstate cimport (
    Claim,
    Store,
    claim,
    claimed,
    descriptor_close,
    entry_claimed,
    forget,
    forget_damaged,
    handle_attach,
    handle_detach,
    handle_take,
    handle_untake,
    log_put,
    scratch_give,
    scratch_take,
    store_enter,
    store_leave,
    tier_flush,
    unclaim,
)
from jindopy._ext.blocktable cimport (
    BLOCK_SHIFT,
    ENTRY_BUSY,
    ENTRY_HOMED,
    SEGMENT_SHIFT,
    Entry,
    Handle,
    Segment,
    block_bit,
    entry_block_bytes,
    entry_blocks,
    entry_segment,
    segment_checked,
    segment_crcs,
    table_covers,
    table_disk,
    table_set,
    table_touch,
    table_unsynced,
)
from jindopy._ext.crc64 cimport crc64_update
from jindopy._ext.iobuf cimport BLOCK_PIECES, PIECE_BYTES, PIECE_SHIFT
from jindopy._ext.linux cimport pthread_cond_wait
from jindopy._ext.pthreads cimport pthread_cond_signal, pthread_mutex_lock, pthread_mutex_unlock

cdef enum:
    DISK_UNIT = 4096
    NEW_FILE_BYTES = 12288      # a directory, or two blocks more for one that grows, and an extent block at worst


cdef enum RunKind:
    RUN_MISSING
    RUN_PLAIN
    RUN_UNCHECKED


cdef inline bint _piece_checked(Segment* segment, uint64_t piece) noexcept nogil:
    return segment_checked(segment, piece // BLOCK_PIECES)[0] >> (piece % BLOCK_PIECES) & 1


cdef RunKind _run(Entry* entry, uint64_t offset, uint64_t* size) noexcept nogil:
    # What lies at `offset`, cutting `size` to where something else begins.  Lock held.
    cdef uint64_t block = offset >> BLOCK_SHIFT
    cdef uint64_t end = ((offset >> PIECE_SHIFT) + 1) << PIECE_SHIFT
    cdef uint64_t segment_end = ((block >> SEGMENT_SHIFT) + 1) << (SEGMENT_SHIFT + BLOCK_SHIFT)
    cdef Segment* segment = entry_segment(entry, block >> SEGMENT_SHIFT)
    if segment == NULL or not segment.present & block_bit(block):
        return RUN_MISSING
    if not _piece_checked(segment, offset >> PIECE_SHIFT):
        size[0] = min(size[0], end - offset)
        return RUN_UNCHECKED
    # No piece of an absent block counts as checked.
    while end < offset + size[0] and end < segment_end and _piece_checked(segment, end >> PIECE_SHIFT):
        end += PIECE_BYTES
    size[0] = min(size[0], end - offset)
    return RUN_PLAIN


# One piece to be read and checked: where it lies, and the CRC of its block before it and with it.
cdef struct Piece:
    uint64_t begin
    uint64_t length
    uint64_t before
    uint64_t want


cdef Piece _piece(Entry* entry, Segment* segment, uint64_t offset) noexcept nogil:
    cdef Piece piece
    cdef uint64_t* crcs = segment_crcs(segment, offset >> BLOCK_SHIFT)
    cdef uint64_t index = (offset >> PIECE_SHIFT) % BLOCK_PIECES
    piece.begin = offset >> PIECE_SHIFT << PIECE_SHIFT
    piece.length = min(<uint64_t>PIECE_BYTES, entry.size - piece.begin)
    piece.before = crcs[index - 1] if index else 0
    piece.want = crcs[index]
    return piece


cdef int _check_piece(
    Store* store, int fd, const Piece* piece, uint64_t offset, uint64_t size, char* into, bint nowait
) noexcept nogil:
    # Read all of a piece, compare, hand out [offset, offset + size) of the file unless `into` is NULL.  Lock not held.
    # With `nowait` CHECK_ABSENT when not all of it is in memory.
    cdef bint direct = into != NULL and offset == piece.begin and size == piece.length
    cdef char* whole = into
    cdef int64_t got
    cdef int rc = CHECK_BAD
    if not direct:
        pthread_mutex_lock(&store.lock)
        whole = scratch_take(store)
        pthread_mutex_unlock(&store.lock)
        if whole == NULL:
            return -ENOMEM
    got = (file_read_nowait if nowait else file_read)(fd, whole, piece.length, piece.begin)
    if nowait and (got == -EAGAIN or 0 <= got < <int64_t>piece.length):
        rc = CHECK_ABSENT
    elif got < 0:
        rc = <int>got
    elif <uint64_t>got == piece.length and crc64_update(piece.before, whole, piece.length) == piece.want:
        rc = CHECK_GOOD
    if not direct:
        if into != NULL and rc == CHECK_GOOD:
            memcpy(into, whole + (offset - piece.begin), size)
        pthread_mutex_lock(&store.lock)
        scratch_give(store, whole)
        pthread_mutex_unlock(&store.lock)
    return rc


cdef int _read_run(Store* store, Entry* entry, uint64_t offset, uint64_t* size, char* into, bint nowait) noexcept nogil:
    # One run, `size` cut to what was read.  -EAGAIN: start again.  Called and returns with the lock held.
    cdef RunKind kind = _run(entry, offset, size)
    cdef uint64_t block = offset >> BLOCK_SHIFT
    cdef uint32_t generation = entry.generation
    cdef Segment* segment
    cdef Handle* handle
    cdef Piece piece
    cdef int64_t got = 0
    cdef int rc = 0
    cdef int fd
    if kind == RUN_MISSING:
        return READ_MISS
    segment = entry_segment(entry, block >> SEGMENT_SHIFT)
    piece = _piece(entry, segment, offset)
    table_touch(&store.table, segment)
    handle = handle_take(store, entry)
    pthread_mutex_unlock(&store.lock)
    if handle == NULL:
        rc = handle_attach(store, entry, generation, False, &handle)
    if rc == 0:
        if kind == RUN_UNCHECKED:
            rc = _check_piece(store, handle.fd, &piece, offset, size[0], into, nowait)
        else:
            got = (file_read_nowait if nowait else file_read)(handle.fd, into, size[0], offset)
    pthread_mutex_lock(&store.lock)
    fd = handle_untake(store, handle) if handle != NULL else -1
    if fd >= 0:
        pthread_mutex_unlock(&store.lock)
        descriptor_close(fd)
        pthread_mutex_lock(&store.lock)
    if rc == -EAGAIN or rc == -ENOMEM:
        return rc
    if entry.generation != generation:
        return -EAGAIN
    if rc == -ENOENT:
        # Somebody removed the file by hand: nothing of it is left.
        forget(store, entry, 0, entry_blocks(entry))
        return READ_MISS
    if kind == RUN_UNCHECKED and rc == CHECK_ABSENT:
        return READ_WOULD_BLOCK
    if kind == RUN_UNCHECKED and rc == CHECK_GOOD:
        segment = entry_segment(entry, block >> SEGMENT_SHIFT)
        segment_checked(segment, block)[0] |= <uint8_t>1 << ((offset >> PIECE_SHIFT) % BLOCK_PIECES)
        return READ_DONE
    if kind == RUN_PLAIN and rc == 0:
        if <uint64_t>got == size[0] and got >= 0:
            return READ_DONE
        if nowait and (got >= 0 or got == -EAGAIN):
            return READ_WOULD_BLOCK
        rc = <int>got if got < 0 else CHECK_BAD
    if rc == CHECK_BAD:
        store.counters.crc_failures += 1
    else:
        store.counters.io_errors += 1
    forget_damaged(store, entry, block, ((offset + size[0] - 1) >> BLOCK_SHIFT) - block + 1)
    return READ_MISS


cdef int store_read(
    Store* store, Entry* entry, uint64_t offset, uint64_t size, char* into, bint nowait
) noexcept nogil:
    cdef uint64_t done = 0
    cdef uint64_t piece
    cdef int rc = READ_DONE
    pthread_mutex_lock(&store.lock)
    if not store_enter(store):
        pthread_mutex_unlock(&store.lock)
        return -EBADF
    if not table_covers(entry, offset >> BLOCK_SHIFT, (offset + size - 1) >> BLOCK_SHIFT):
        rc = READ_MISS
    while rc == READ_DONE and done < size:
        piece = size - done
        rc = _read_run(store, entry, offset + done, &piece, into + done, nowait)
        if rc == -EAGAIN:
            rc = READ_DONE
        elif rc == READ_DONE:
            done += piece
    if rc == READ_DONE:
        store.counters.hit_reads += 1
        store.counters.hit_bytes += size
    elif rc == READ_MISS:
        store.counters.miss_reads += 1
    store_leave(store)
    pthread_mutex_unlock(&store.lock)
    return rc


cdef bint store_covers(Store* store, Entry* entry, uint64_t offset, uint64_t size) noexcept nogil:
    cdef bint covers
    pthread_mutex_lock(&store.lock)
    covers = table_covers(entry, offset >> BLOCK_SHIFT, (offset + size - 1) >> BLOCK_SHIFT)
    pthread_mutex_unlock(&store.lock)
    return covers


cdef int _check_block(Store* store, Entry* entry, uint64_t block, bint again) noexcept nogil:
    # Check the pieces of a block that were not checked yet, or all of them `again`.  Lock held.
    cdef uint64_t offset = block << BLOCK_SHIFT
    cdef uint64_t end = offset + entry_block_bytes(entry, block)
    cdef uint64_t size
    cdef Segment* segment
    cdef int rc
    while offset < end:
        segment = entry_segment(entry, block >> SEGMENT_SHIFT)
        if segment == NULL or not segment.present & block_bit(block):
            return CHECK_ABSENT
        size = end - offset
        if again:
            segment_checked(segment, block)[0] &= ~(<uint8_t>1 << ((offset >> PIECE_SHIFT) % BLOCK_PIECES))
        if _run(entry, offset, &size) == RUN_UNCHECKED:
            rc = _read_run(store, entry, offset, &size, NULL, False)
            if rc == -EAGAIN:
                continue
            if rc != READ_DONE:
                return CHECK_BAD if rc == READ_MISS else rc
        offset += size
    return CHECK_GOOD


cdef int store_check(Store* store, Entry* entry, uint64_t block, bint again) noexcept nogil:
    cdef int rc
    pthread_mutex_lock(&store.lock)
    if not store_enter(store):
        pthread_mutex_unlock(&store.lock)
        return -EBADF
    rc = _check_block(store, entry, block, again)
    store_leave(store)
    pthread_mutex_unlock(&store.lock)
    return rc


cdef bint _disk_refuses(int rc) noexcept nogil:
    return rc == -ENOSPC or rc == -EDQUOT or rc == -EIO or rc == -EROFS


cdef int _write_block(
    Store* store, Entry* entry, Handle* handle, uint64_t block, const char* data, uint64_t size, int64_t* disk_bytes
) noexcept nogil:
    cdef int rc = file_write(handle.fd, data, size, block << BLOCK_SHIFT)
    if rc == -ENOSPC or rc == -EDQUOT:
        # Others share this disk, and what they took is in no account of ours.
        if evict_disk(store, entry.level, 4 * size):
            rc = file_write(handle.fd, data, size, block << BLOCK_SHIFT)
    disk_bytes[0] = file_disk_bytes(handle.fd)
    return rc


cdef int _rehome(Store* store, Entry* entry) noexcept nogil:
    # The entry's tier refuses it and holds nothing of it: unlink what the try left and choose the next tier.
    # Called and returns with the lock held; -ENOSPC when there is no further tier.
    cdef int level = entry.level
    cdef int fd
    if entry.cached_bytes or entry_claimed(store, entry) or level + 1 >= store.tier_count:
        return -ENOSPC
    entry.flags |= ENTRY_BUSY
    entry.generation += 1
    fd = handle_detach(store, entry)
    pthread_mutex_unlock(&store.lock)
    descriptor_close(fd)
    file_unlink(store.tiers[level].files, entry.cid, store.tiers[level].old_layout)
    pthread_mutex_lock(&store.lock)
    table_disk(&store.table, entry, 0)
    entry.level = <unsigned char>(level + 1)
    entry.flags &= ~ENTRY_BUSY
    return 0


cdef int _try_put(
    Store* store, Entry* entry, uint64_t block, const char* data, uint64_t size, const uint64_t* crcs
) noexcept nogil:
    # One attempt in the entry's tier.  -EAGAIN: start again.  Called and returns with the lock held.
    cdef uint32_t generation = entry.generation
    cdef int level = entry.level
    cdef uint64_t need = (size + DISK_UNIT - 1) & ~<uint64_t>(DISK_UNIT - 1)
    cdef uint64_t until
    cdef int64_t disk_bytes = -1
    cdef Claim mine
    cdef Handle* handle
    cdef bint reserved
    cdef int fd, rc
    if entry.disk_bytes == 0:
        need += NEW_FILE_BYTES
    claim(store, &mine, entry, block)
    handle = handle_take(store, entry)
    pthread_mutex_unlock(&store.lock)
    rc = room_reserve(store, level, need)
    reserved = rc == 0
    if rc == 0 and handle == NULL:
        rc = handle_attach(store, entry, generation, True, &handle)
    if rc == 0:
        rc = _write_block(store, entry, handle, block, data, size, &disk_bytes)
    pthread_mutex_lock(&store.lock)
    if reserved:
        store.tiers[level].reserved_bytes -= need
    fd = handle_untake(store, handle) if handle != NULL else -1
    if rc == 0 and entry.generation != generation:
        rc = -EAGAIN
    if disk_bytes >= 0 and entry.generation == generation:
        table_disk(&store.table, entry, disk_bytes)
    if rc == 0:
        rc = table_set(&store.table, entry, block, crcs)
    if rc == 0:
        table_touch(&store.table, entry_segment(entry, block >> SEGMENT_SHIFT))
        table_unsynced(&store.table, entry, True)
        until = log_put(store, entry, block, crcs)
        pthread_mutex_unlock(&store.lock)
        rc = tier_flush(store, level, until)
        pthread_mutex_lock(&store.lock)
        if rc < 0:
            # Not acknowledged, so not to be there: the next start would not know it.
            forget(store, entry, block, 1)
    unclaim(store, &mine)
    if fd >= 0:
        pthread_mutex_unlock(&store.lock)
        descriptor_close(fd)
        pthread_mutex_lock(&store.lock)
    return rc


cdef int store_put(
    Store* store, Entry* entry, uint64_t block, const char* data, uint64_t size, const uint64_t* crcs
) noexcept nogil:
    cdef Segment* segment
    cdef int rc = -EAGAIN
    pthread_mutex_lock(&store.lock)
    if not store_enter(store):
        pthread_mutex_unlock(&store.lock)
        return -EBADF
    while rc == -EAGAIN:
        segment = entry_segment(entry, block >> SEGMENT_SHIFT)
        if segment != NULL and segment.present & block_bit(block):
            rc = 0
            break
        if entry.flags & ENTRY_BUSY or claimed(store, entry, block):
            pthread_cond_wait(&store.moved, &store.lock)
            continue
        if not entry.flags & ENTRY_HOMED:
            entry.level = 0
            entry.flags |= ENTRY_HOMED
        rc = _try_put(store, entry, block, data, size, crcs)
        if rc == 0:
            store.counters.put_blocks += 1
            store.counters.put_bytes += size
            if over_high(store, entry.level) and not store.poked:
                store.poked = True
                pthread_cond_signal(&store.work)
        elif _disk_refuses(rc):
            if _rehome(store, entry) == 0:
                rc = -EAGAIN
    if rc < 0:
        store.counters.put_refused += rc == -ENOSPC or rc == -EDQUOT
        store.counters.io_errors += rc != -ENOSPC and rc != -EDQUOT
    store_leave(store)
    pthread_mutex_unlock(&store.lock)
    return rc


cdef int store_drop(Store* store, Entry* entry, uint64_t block) noexcept nogil:
    cdef uint64_t until
    cdef int level
    pthread_mutex_lock(&store.lock)
    if not store_enter(store):
        pthread_mutex_unlock(&store.lock)
        return -EBADF
    level = entry.level
    forget_damaged(store, entry, block, 1)
    until = store.tiers[level].journal.appended
    pthread_mutex_unlock(&store.lock)
    # A record that cannot be written costs a CRC failure after the next start, nothing else.
    tier_flush(store, level, until)
    pthread_mutex_lock(&store.lock)
    store_leave(store)
    pthread_mutex_unlock(&store.lock)
    return 0


cdef void store_warm(Store* store, Entry* entry, uint64_t offset, uint64_t size) noexcept nogil:
    # A hint: whatever goes wrong, the read that follows will say so.
    cdef Handle* handle = NULL
    cdef uint32_t generation
    cdef int fd
    pthread_mutex_lock(&store.lock)
    if not entry.cached_bytes or store.sink < 0 or not store_enter(store):
        pthread_mutex_unlock(&store.lock)
        return
    generation = entry.generation
    handle = handle_take(store, entry)
    pthread_mutex_unlock(&store.lock)
    if handle == NULL:
        handle_attach(store, entry, generation, False, &handle)
    if handle != NULL:
        file_warm(handle.fd, store.sink, size, offset)
    pthread_mutex_lock(&store.lock)
    fd = handle_untake(store, handle) if handle != NULL else -1
    store_leave(store)
    pthread_mutex_unlock(&store.lock)
    descriptor_close(fd)
