"""Nodes whose cache file is at hand, for a transport that reads without Python.

Where the kernel opens files by itself no message tells when one is opened or closed, so a file is taken up at its first
READ; elsewhere at its first OPEN.  It is kept until the kernel forgets its node, or until more than the caller's bound
are kept: of those nobody has open the one used longest ago goes first.  Going costs nothing but the work of taking it
up again.

How a file is opened first holds for all its opens, until the last of them ends.

Bounds: as many files as the caller keeps, and those that are open; 112 bytes each and what a lease costs.  Lock:
``Files.lock``, for a few pointers at a time.  A file in use is never given back; the last reader of a dropped one does
it.
"""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from jindopy._ext.blockstate cimport Store
from jindopy._ext.blocktable cimport Entry
from jindopy._ext.pthreads cimport (
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)

cdef enum:
    BUCKETS = 4096      # a few times as many as files are kept
    # The kernel has several requests of 1 MiB on their way for one reader, and they come in any order.
    NEAR_BYTES = 4194304


cdef int files_open(Files* files) noexcept nogil:
    memset(files, 0, sizeof(Files))
    files.buckets = <File**>calloc(BUCKETS, sizeof(File*))
    files.bucket_count = BUCKETS
    pthread_mutex_init(&files.lock, NULL)
    return -ENOMEM if files.buckets == NULL else 0


cdef void files_close(Files* files) noexcept nogil:
    # Every file was taken out before.
    free(files.buckets)
    files.buckets = NULL
    pthread_mutex_destroy(&files.lock)


cdef inline File** _place(Files* files, uint64_t nodeid) noexcept nogil:
    return &files.buckets[nodeid % files.bucket_count]


cdef File* _find(Files* files, uint64_t nodeid) noexcept nogil:
    cdef File* file = _place(files, nodeid)[0]
    while file != NULL and file.nodeid != nodeid:
        file = file.next
    return file


cdef void _unlist(Files* files, File* file) noexcept nogil:
    if file.older != NULL:
        file.older.newer = file.newer
    else:
        files.oldest = file.newer
    if file.newer != NULL:
        file.newer.older = file.older
    else:
        files.newest = file.older


cdef void _list(Files* files, File* file) noexcept nogil:
    file.older = files.newest
    file.newer = NULL
    if files.newest != NULL:
        files.newest.newer = file
    else:
        files.oldest = file
    files.newest = file


cdef void _take_out(Files* files, File* file) noexcept nogil:
    cdef File** link = _place(files, file.nodeid)
    while link[0] != file:
        link = &link[0].next
    link[0] = file.next
    _unlist(files, file)
    files.count -= 1
    file.dropped = True


cdef File* files_enter(Files* files, uint64_t nodeid) noexcept nogil:
    cdef File* file
    pthread_mutex_lock(&files.lock)
    file = _find(files, nodeid)
    if file != NULL:
        file.uses += 1
        if file.newer != NULL:
            _unlist(files, file)
            _list(files, file)
    pthread_mutex_unlock(&files.lock)
    return file


cdef bint file_goes_on(File* file, uint64_t offset, uint64_t size) noexcept nogil:
    cdef int i
    for i in range(STREAMS):
        if file.ends[i] <= offset + NEAR_BYTES and offset <= file.ends[i] + NEAR_BYTES:
            file.ends[i] = max(file.ends[i], offset + size)
            return True
    file.ends[file.turn % STREAMS] = offset + size
    file.turn += 1
    return False


cdef bint files_leave(Files* files, File* file) noexcept nogil:
    cdef bint last
    pthread_mutex_lock(&files.lock)
    file.uses -= 1
    last = file.dropped and file.uses == 0
    pthread_mutex_unlock(&files.lock)
    return last


cdef Opening files_reopen(Files* files, File* file) noexcept nogil:
    cdef Opening opening
    pthread_mutex_lock(&files.lock)
    opening = file.opening
    file.opens += opening != OPEN_UNDECIDED
    pthread_mutex_unlock(&files.lock)
    return opening


cdef Opening files_decide(Files* files, File* file, Opening opening, int backing) noexcept nogil:
    pthread_mutex_lock(&files.lock)
    if file.opening == OPEN_UNDECIDED:
        file.opening = opening
        file.backing = backing
    opening = file.opening
    file.opens += 1
    pthread_mutex_unlock(&files.lock)
    return opening


cdef int files_shut(Files* files, File* file) noexcept nogil:
    cdef int backing = 0
    pthread_mutex_lock(&files.lock)
    file.opens -= file.opens != 0
    if file.opens == 0:
        backing = file.backing
        file.backing = 0
        file.opening = OPEN_UNDECIDED
    pthread_mutex_unlock(&files.lock)
    return backing


cdef File* files_add(
    Files* files, uint64_t nodeid, Store* store, Entry* entry, void* lease, bint* made
) noexcept nogil:
    cdef File* fresh = <File*>malloc(sizeof(File))
    cdef File* file
    if fresh == NULL:
        return NULL
    memset(fresh, 0, sizeof(File))
    fresh.nodeid = nodeid
    fresh.store = store
    fresh.entry = entry
    fresh.size = entry.size
    fresh.lease = lease
    fresh.leased = lease == NULL
    pthread_mutex_lock(&files.lock)
    file = _find(files, nodeid)
    made[0] = file == NULL
    if file == NULL:
        file = fresh
        fresh = NULL
        file.next = _place(files, nodeid)[0]
        _place(files, nodeid)[0] = file
        _list(files, file)
        files.count += 1
    file.uses += 1
    pthread_mutex_unlock(&files.lock)
    free(fresh)
    return file


cdef File* files_drop(Files* files, uint64_t nodeid) noexcept nogil:
    cdef File* file
    pthread_mutex_lock(&files.lock)
    file = _find(files, nodeid)
    if file != NULL:
        _take_out(files, file)
        if file.uses:
            file = NULL
    pthread_mutex_unlock(&files.lock)
    return file


cdef File* files_surplus(Files* files, size_t count, bint over) noexcept nogil:
    cdef File* file = NULL
    pthread_mutex_lock(&files.lock)
    if files.count > count:
        file = files.oldest
        while file != NULL and (file.uses or (file.opens and not over)):
            file = file.newer
        if file != NULL:
            _take_out(files, file)
    pthread_mutex_unlock(&files.lock)
    return file
