# C view of ext/httpblocks.pyx: transfers whose bodies become checked, stored blocks without Python.
from libc.stdint cimport uint64_t

from jindopy._ext.blockstate cimport Store
from jindopy._ext.blockstore cimport CacheFile
from jindopy._ext.blocktable cimport Entry
from jindopy._ext.httpcrew cimport Transfer
from jindopy._ext.iobuf cimport BufferPool
from jindopy._ext.pthreads cimport pthread_cond_t, pthread_mutex_t

cdef enum:
    RANGE_TEXT_BYTES = 80       # "bytes 0-9/100" with numbers of 20 digits


cdef struct Landing:
    unsigned char* memory
    size_t size
    uint64_t crc
    uint64_t[8] crcs            # as piece_crcs makes them
    int put                     # 0: stored; an errno: the store refused it; -1: not to be stored


cdef struct Queue:
    pthread_mutex_t lock
    pthread_cond_t news
    Sink* first                 # with news
    Sink* last
    bint hungry                 # a transfer has waited long for memory
    bint woken


cdef struct Sink:
    Transfer transfer           # first: the crew's pointer is ours
    Sink* next
    void* get                   # the BlockGet, which the crew's reference keeps
    Queue* queue
    void* pool
    Store* store
    Entry* entry
    uint64_t first_block
    uint64_t block_count
    uint64_t size               # of the whole range
    bint whole                  # the range is the object
    bint may_store
    char[80] range_text
    size_t range_size
    const char* token
    size_t token_size
    unsigned char* memory       # of the block that is being filled
    size_t filled
    size_t wanted
    Landing* landings
    uint64_t complete           # blocks checked and stored; the worker's
    bint damaged                # the store's CRC says so
    # Guarded by Queue.lock.
    bint queued
    bint ended
    uint64_t told               # blocks that may be taken
    uint64_t taken


cdef class LandingQueue:
    cdef Queue queue


cdef class BlockGet:
    cdef Sink* sink
    cdef LandingQueue queue
    cdef BufferPool pool
    cdef CacheFile lease
    cdef bytes token
    cdef bint running
    cdef object getter          # whose crew carries it out: not to go before it
    cdef readonly object cookie
    cdef readonly uint64_t offset
    cdef readonly uint64_t size_bytes

    cdef Transfer* ready(self) except NULL
    cdef void begin(self) except *
    cdef void undo(self) except *
    cdef list take(self, uint64_t told)
