"""A tier's index on disk: an append-only log and a snapshot (docs/FORMATS.md has the bytes).

    append   encodes a record into memory, under the store's lock: the order of records is the order of changes
    flush    writes all that was appended with one write(2); a put is acknowledged after it.  Whoever comes second finds
             its record written already
    rotate   index.log becomes index.old and a new log begins; a snapshot of the memory follows, then index.old goes.
             Replaying old and new log over either snapshot ends the same: for each block the last record counts
    open     replays index.snap, index.old, index.log in this order

A log grows to twice its snapshot, at least 4 MiB.  A failed write leaves its records in memory and the next flush
begins with them, at the same offset, so a short write is never followed by anything.

Locks: ``Journal.lock`` orders writers of the log.  It is taken before the store's lock, never after it; rotating and
snapshots are done by one thread at a time (the store's maintenance lock).
"""

from libc.errno cimport ENOENT, ENOMEM, errno
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from jindopy._ext.blockfiles cimport file_read, file_write
from jindopy._ext.blockindex cimport (
    HEADER_GOOD,
    HEADER_TOO_NEW,
    RECORD_BAD,
    RECORD_BYTES_MAX,
    ROLE_LOG,
    ROLE_SNAPSHOT,
    SLOT_BYTES,
    THIS_FORMAT,
    Header,
    HeaderRole,
    HeaderState,
    Record,
    header_decode,
    header_encode,
    header_fill,
    record_bytes,
    record_decode,
    record_encode,
)
from jindopy._ext.linux cimport (
    O_CLOEXEC,
    O_CREAT,
    O_NOFOLLOW,
    O_RDONLY,
    O_RDWR,
    O_TRUNC,
    close,
    fdatasync,
    fstat,
    fsync,
    ftruncate,
    openat,
    renameat,
    struct_stat,
    unlinkat,
)
from jindopy._ext.pthreads cimport (
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_t,
    pthread_mutex_unlock,
)

cdef enum:
    CHUNK_BYTES = 1048576       # how much of the index is read at a time
    LOG_BYTES_MIN = 4194304     # 65,536 records: replaying them takes some 20 ms

cdef const char* LOG = b"index.log"
cdef const char* OLD = b"index.old"
cdef const char* SNAPSHOT = b"index.snap"
cdef const char* TEMPORARY = b"index.tmp"
cdef const char* BOOT_ID = b"/proc/sys/kernel/random/boot_id"


cdef void _read_boot(uint8_t* boot) noexcept nogil:
    # Hex digits folded into 16 bytes.  All zero when unreadable: then every start counts as a new boot.
    cdef char text[40]
    cdef int fd = openat(-1, BOOT_ID, O_RDONLY | O_CLOEXEC)
    cdef int64_t got = file_read(fd, text, 36, 0) if fd >= 0 else 0
    cdef int i
    cdef int at = 0
    memset(boot, 0, 16)
    for i in range(<int>got):
        if text[i] != c"-" and at < 32:
            boot[at // 2] = <uint8_t>(boot[at // 2] << 4 | ((text[i] & 15) + (9 if text[i] > c"9" else 0)))
            at += 1
    if fd >= 0:
        close(fd)


cdef int _replay(
    Journal* journal, const char* name, HeaderRole role, uint64_t* size, uint64_t* directory_bytes,
    apply_fn apply, void* context
) noexcept nogil:
    # Apply every intact record of one file.  -ENOENT when there is none; damage only counts.
    cdef Header header
    cdef HeaderState state
    cdef Record record
    cdef uint64_t offset = 0
    cdef int64_t got
    cdef int64_t at
    cdef size_t taken
    cdef int rc = 0
    cdef uint8_t* chunk
    cdef int fd = openat(journal.directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    if fd < 0:
        return -errno
    chunk = <uint8_t*>malloc(CHUNK_BYTES)
    if chunk == NULL:
        close(fd)
        return -ENOMEM
    while rc == 0:
        got = file_read(fd, <char*>chunk, CHUNK_BYTES, offset)
        if got < 0:
            journal.damaged += 1    # unreadable from here on: what came before is kept
            break
        at = 0
        if offset == 0:
            if got >= SLOT_BYTES:
                state = header_decode(chunk, role, &header)
                if state == HEADER_TOO_NEW:
                    rc = JOURNAL_TOO_NEW
                    break
            if got < SLOT_BYTES or state != HEADER_GOOD:
                journal.damaged += 1
                journal.stale = True
            else:
                directory_bytes[0] = header.directory_bytes or directory_bytes[0]
                journal.stale |= header.format_version < THIS_FORMAT
                journal.stale |= role == ROLE_LOG and memcmp(header.boot, journal.boot, 16) != 0
            at = SLOT_BYTES
        while at + SLOT_BYTES <= got and rc == 0:
            taken = record_decode(chunk + at, got - at, &record)
            if taken == 0:
                break       # it goes on in the next chunk, or was torn
            if record.kind == RECORD_BAD:
                journal.damaged += 1
            else:
                rc = apply(context, &record)
            at += taken
        offset += at
        if got < CHUNK_BYTES:
            journal.damaged += at + SLOT_BYTES <= got
            break
    free(chunk)
    close(fd)
    size[0] = offset
    return rc


cdef int _new_file(
    int directory, const char* name, HeaderRole role, const uint8_t* boot, uint64_t directory_bytes
) noexcept nogil:
    cdef Header header
    cdef uint8_t slot[SLOT_BYTES]
    cdef int rc
    cdef int fd = openat(directory, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
    if fd < 0:
        return -errno
    header_fill(&header, role, boot, directory_bytes)
    header_encode(&header, slot)
    rc = file_write(fd, <char*>slot, SLOT_BYTES, 0)
    if rc < 0:
        close(fd)
        return rc
    return fd


cdef int _take_over(int log_fd) noexcept nogil:
    # Before anything in the directory changes: an older release must not take it for its own any more.  The log is what
    # every reader has to look at, and one sector is written whole or not at all.
    cdef Header header
    cdef uint8_t boot[16]
    cdef uint8_t slot[SLOT_BYTES]
    cdef int64_t rc = file_read(log_fd, <char*>slot, SLOT_BYTES, 0)
    if rc < SLOT_BYTES or header_decode(slot, ROLE_LOG, &header) != HEADER_GOOD or header.format_version >= THIS_FORMAT:
        return 0
    memcpy(boot, header.boot, 16)
    header_fill(&header, ROLE_LOG, boot, header.directory_bytes)
    header_encode(&header, slot)
    rc = file_write(log_fd, <char*>slot, SLOT_BYTES, 0)
    if rc >= 0 and fdatasync(log_fd) < 0:
        rc = -errno
    return <int>rc if rc < 0 else 0


cdef int journal_open(
    Journal* journal, int directory, uint64_t* directory_bytes, apply_fn apply, void* context
) noexcept nogil:
    cdef struct_stat found
    cdef uint64_t size = 0
    cdef int rc
    memset(journal, 0, sizeof(Journal))
    journal.directory = directory
    journal.log_fd = -1
    pthread_mutex_init(&journal.lock, NULL)
    _read_boot(journal.boot)
    rc = _replay(journal, SNAPSHOT, ROLE_SNAPSHOT, &journal.snapshot_bytes, directory_bytes, apply, context)
    if rc != 0 and rc != -ENOENT:
        return rc
    rc = _replay(journal, OLD, ROLE_LOG, &size, directory_bytes, apply, context)
    if rc != 0 and rc != -ENOENT:
        return rc
    journal.has_old = rc == 0
    size = 0
    rc = _replay(journal, LOG, ROLE_LOG, &size, directory_bytes, apply, context)
    if rc != 0 and rc != -ENOENT:
        return rc
    if size < SLOT_BYTES:
        # No log, or not even a header of one: who wiped it may have wiped more, so look at every file.
        journal.stale = True
        journal.log_fd = _new_file(directory, LOG, ROLE_LOG, journal.boot, 0)
        size = SLOT_BYTES
    else:
        journal.log_fd = openat(directory, LOG, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
        if journal.log_fd < 0:
            return -errno
        if fstat(journal.log_fd, &found) == 0 and <uint64_t>found.st_size > size:
            ftruncate(journal.log_fd, size)     # half a slot; a failure leaves what the next write covers
        rc = _take_over(journal.log_fd)
        if rc < 0:
            return rc
    if journal.log_fd < 0:
        return journal.log_fd
    journal.log_bytes = size
    journal.stale |= journal.damaged != 0 or journal.has_old
    return 0


cdef void journal_close(Journal* journal) noexcept nogil:
    if journal.log_fd >= 0:
        close(journal.log_fd)
        journal.log_fd = -1
    free(journal.pending)
    free(journal.writing)
    journal.pending = NULL
    journal.writing = NULL
    pthread_mutex_destroy(&journal.lock)


cdef bint _reserve(uint8_t** memory, size_t* room, size_t need) noexcept nogil:
    cdef size_t wanted = room[0] * 2 if room[0] else 4096
    cdef uint8_t* grown
    if need <= room[0]:
        return True
    while wanted < need:
        wanted *= 2
    grown = <uint8_t*>realloc(memory[0], wanted)
    if grown == NULL:
        return False
    memory[0] = grown
    room[0] = wanted
    return True


cdef uint64_t journal_append(Journal* journal, const Record* record) noexcept nogil:
    # The number to flush until.
    if not _reserve(&journal.pending, &journal.pending_room, journal.pending_bytes + RECORD_BYTES_MAX):
        journal.lost = True
        return journal.appended
    record_encode(record, journal.pending + journal.pending_bytes)
    journal.pending_bytes += record_bytes(record)
    journal.appended += 1
    return journal.appended


cdef int _flush(Journal* journal, pthread_mutex_t* store_lock, uint64_t until) noexcept nogil:
    cdef uint8_t* spare
    cdef size_t spare_room
    cdef bint lost
    cdef int rc
    while journal.written < until:
        if journal.writing_bytes == 0:
            pthread_mutex_lock(store_lock)
            spare = journal.writing
            spare_room = journal.writing_room
            journal.writing = journal.pending
            journal.writing_room = journal.pending_room
            journal.writing_bytes = journal.pending_bytes
            journal.writing_until = journal.appended
            journal.pending = spare
            journal.pending_room = spare_room
            journal.pending_bytes = 0
            lost = journal.lost
            journal.lost = False
            pthread_mutex_unlock(store_lock)
            if lost:
                return -ENOMEM
        rc = file_write(journal.log_fd, <char*>journal.writing, journal.writing_bytes, journal.log_bytes)
        if rc < 0:
            return rc
        journal.log_bytes += journal.writing_bytes
        journal.writing_bytes = 0
        journal.written = journal.writing_until
    return 0


cdef int journal_flush(Journal* journal, pthread_mutex_t* store_lock, uint64_t until) noexcept nogil:
    cdef int rc
    pthread_mutex_lock(&journal.lock)
    rc = _flush(journal, store_lock, until)
    pthread_mutex_unlock(&journal.lock)
    return rc


cdef bint journal_is_long(Journal* journal) noexcept nogil:
    cdef uint64_t size
    pthread_mutex_lock(&journal.lock)
    size = journal.log_bytes
    pthread_mutex_unlock(&journal.lock)
    return size > LOG_BYTES_MIN and size > 2 * journal.snapshot_bytes


cdef int _swap_logs(Journal* journal) noexcept nogil:
    cdef int fd = _new_file(journal.directory, TEMPORARY, ROLE_LOG, journal.boot, 0)
    cdef int rc
    if fd < 0:
        return fd
    if renameat(journal.directory, LOG, journal.directory, OLD) < 0:
        rc = -errno
        close(fd)
        return rc
    if renameat(journal.directory, TEMPORARY, journal.directory, LOG) < 0:
        # Records go on to the old file under whichever name it has now; both are replayed, so nothing is lost.
        rc = -errno
        close(fd)
        renameat(journal.directory, OLD, journal.directory, LOG)
        return rc
    journal.has_old = True
    close(journal.log_fd)
    journal.log_fd = fd
    journal.log_bytes = SLOT_BYTES
    return 0


cdef int journal_rotate(Journal* journal, pthread_mutex_t* store_lock) noexcept nogil:
    # Records appended from here on go to a log that the coming snapshot does not replace.
    cdef uint64_t until
    cdef int rc
    pthread_mutex_lock(store_lock)
    until = journal.appended
    pthread_mutex_unlock(store_lock)
    pthread_mutex_lock(&journal.lock)
    rc = _flush(journal, store_lock, until)
    if rc == 0 and not journal.has_old:
        rc = _swap_logs(journal)
    pthread_mutex_unlock(&journal.lock)
    return rc


cdef int snapshot_begin(Journal* journal, SnapshotWriter* writer, uint64_t directory_bytes) noexcept nogil:
    memset(writer, 0, sizeof(SnapshotWriter))
    writer.fd = _new_file(journal.directory, TEMPORARY, ROLE_SNAPSHOT, journal.boot, directory_bytes)
    writer.bytes = SLOT_BYTES
    return writer.fd if writer.fd < 0 else 0


cdef void snapshot_add(SnapshotWriter* writer, const Record* record) noexcept nogil:
    # Memory only: called under the store's lock.
    if not _reserve(&writer.buffer, &writer.room, writer.filled + RECORD_BYTES_MAX):
        writer.error = -ENOMEM
        return
    record_encode(record, writer.buffer + writer.filled)
    writer.filled += record_bytes(record)


cdef void snapshot_write(SnapshotWriter* writer) noexcept nogil:
    if writer.error == 0:
        writer.error = file_write(writer.fd, <char*>writer.buffer, writer.filled, writer.bytes)
    writer.bytes += writer.filled
    writer.filled = 0


cdef int snapshot_end(Journal* journal, SnapshotWriter* writer) noexcept nogil:
    # Durable and in place, or away; index.old has done its service after it.
    cdef int rc
    snapshot_write(writer)
    rc = writer.error
    if rc == 0 and fsync(writer.fd) < 0:
        rc = -errno
    close(writer.fd)
    free(writer.buffer)
    if rc == 0 and renameat(journal.directory, TEMPORARY, journal.directory, SNAPSHOT) < 0:
        rc = -errno
    if rc == 0 and fsync(journal.directory) < 0:
        rc = -errno
    if rc < 0:
        unlinkat(journal.directory, TEMPORARY, 0)
        return rc
    if journal.has_old and unlinkat(journal.directory, OLD, 0) == 0:
        journal.has_old = False
    journal.snapshot_bytes = writer.bytes
    journal.stale = False
    return 0
