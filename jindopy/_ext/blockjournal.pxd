# C view of ext/blockjournal.pyx: a tier's index on disk.  Without the GIL; failures are negative errno.
from libc.stdint cimport uint8_t, uint64_t

from jindopy._ext.blockindex cimport Record
from jindopy._ext.pthreads cimport pthread_mutex_t


cdef struct Journal:
    int directory           # descriptor of <path>/v1
    int log_fd
    bint has_old            # index.old waits for a snapshot to be finished
    bint stale              # damaged, or of another boot: worth a snapshot soon
    uint8_t boot[16]        # this boot
    uint64_t snapshot_bytes
    uint64_t damaged        # slots skipped at start
    # Guarded by the store's lock.
    uint8_t* pending
    size_t pending_bytes
    size_t pending_room
    uint64_t appended
    bint lost               # no memory for a record: the next flush says so
    # Guarded by `lock`, which is taken before the store's, never after it.
    pthread_mutex_t lock
    uint8_t* writing
    size_t writing_bytes
    size_t writing_room
    uint64_t writing_until  # `appended` when `writing` was taken
    uint64_t written
    uint64_t log_bytes


cdef struct SnapshotWriter:
    int fd
    int error
    uint8_t* buffer
    size_t filled
    size_t room
    uint64_t bytes


ctypedef int (*apply_fn)(void* context, const Record* record) noexcept nogil

cdef enum:
    JOURNAL_TOO_NEW = -100000

cdef int journal_open(
    Journal* journal, int directory, uint64_t* directory_bytes, apply_fn apply, void* context
) noexcept nogil
cdef void journal_close(Journal* journal) noexcept nogil
cdef uint64_t journal_append(Journal* journal, const Record* record) noexcept nogil
cdef int journal_flush(Journal* journal, pthread_mutex_t* store_lock, uint64_t until) noexcept nogil
cdef int journal_rotate(Journal* journal, pthread_mutex_t* store_lock) noexcept nogil
cdef bint journal_is_long(Journal* journal) noexcept nogil
cdef int snapshot_begin(Journal* journal, SnapshotWriter* writer, uint64_t directory_bytes) noexcept nogil
cdef void snapshot_add(SnapshotWriter* writer, const Record* record) noexcept nogil
cdef void snapshot_write(SnapshotWriter* writer) noexcept nogil
cdef int snapshot_end(Journal* journal, SnapshotWriter* writer) noexcept nogil
