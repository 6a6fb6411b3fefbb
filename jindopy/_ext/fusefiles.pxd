# C view of ext/fusefiles.pyx: which nodes have a lease on their cache file, for a transport that reads without Python.
from libc.stdint cimport uint32_t, uint64_t

from jindopy._ext.blockstate cimport Store
from jindopy._ext.blocktable cimport Entry
from jindopy._ext.pthreads cimport pthread_mutex_t


cdef enum:
    STREAMS = 4


# Who reads an open file.  All opens of a node are of one kind: the kernel refuses a mixture.
cdef enum Opening:
    OPEN_UNDECIDED = 0      # nobody has it open
    OPEN_KEPT = 1           # we do, and the kernel keeps the pages
    OPEN_PASSED = 2         # the kernel, from the cache file


# One node that is being read, or was not long ago.
cdef struct File:
    uint64_t nodeid
    Store* store
    Entry* entry
    uint64_t size
    void* lease             # a reference to the CacheFile that keeps store and entry alive; NULL: Python has none
    bint leased             # it was found without Python, and has a lease of its own
    uint64_t[STREAMS] ends  # where sequential readers were last; told apart by being near
    uint32_t turn           # which of `ends` is the next to be given up
    uint32_t uses           # readers inside
    bint dropped            # out of the table: the last reader gives it back
    uint32_t opens          # that no RELEASE has ended; always 0 where the kernel opens files by itself
    Opening opening
    int backing             # what the kernel calls the cache file of OPEN_PASSED
    File* next              # of the same bucket
    File* older
    File* newer


cdef struct Files:
    pthread_mutex_t lock
    File** buckets
    size_t bucket_count
    File* oldest
    File* newest
    size_t count

cdef int files_open(Files* files) noexcept nogil
cdef void files_close(Files* files) noexcept nogil
# The file of a node, kept from being given back until files_leave; NULL: not known.
cdef File* files_enter(Files* files, uint64_t nodeid) noexcept nogil
# Whether a read goes on near where one ended, or begins the file.  Without a lock: a hint, wrong for a moment.
cdef bint file_goes_on(File* file, uint64_t offset, uint64_t size) noexcept nogil
# True: it was dropped and this was its last reader, so the caller has it to give back.
cdef bint files_leave(Files* files, File* file) noexcept nogil
# Count one more open of a file whose way is decided, and tell that; OPEN_UNDECIDED: nothing was counted.
cdef Opening files_reopen(Files* files, File* file) noexcept nogil
# Count an open and decide how; if another was faster, his way holds.
cdef Opening files_decide(Files* files, File* file, Opening opening, int backing) noexcept nogil
# An open has ended.  Not 0: it was the last of OPEN_PASSED, and this backing is the caller's to close.
cdef int files_shut(Files* files, File* file) noexcept nogil
# Add a file, entered, `lease` NULL when the caller has one of his own for it; NULL: no memory.  When the node is known
# already that file is entered and `made` False.
cdef File* files_add(
    Files* files, uint64_t nodeid, Store* store, Entry* entry, void* lease, bint* made
) noexcept nogil
# Take a node's file out; what the caller has to give back, or NULL (none, or readers are inside).
cdef File* files_drop(Files* files, uint64_t nodeid) noexcept nogil
# The file used longest ago, out of the table, while there are more than `count`; NULL: none that is free.  One that is
# open is not, but when the session is over.
cdef File* files_surplus(Files* files, size_t count, bint over) noexcept nogil
