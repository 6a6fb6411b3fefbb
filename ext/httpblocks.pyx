# cython: auto_pickle=False
"""GETs whose bodies become blocks; ``jindopy/_ext/httpblocks.pyi`` is the contract.

Flow     The sink runs on a worker of ``httpcrew``.  Headers must be those expected, byte for byte.  The first byte of a
         block takes memory for it; a full block gets its piece CRCs while it is in the caches, is written to the
         block store, and is told of.  The last block is told of together with the end: a small file is one word.
Bounds   Memory from the BufferPool; who waits for it holds none of it that others need, only blocks that the queue's
         reader gives back.  After HUNGRY_SECONDS the queue is told, so that its reader can let go of what it keeps.
Locks    ``Queue.lock``: the list of sinks with news, and what of each may be taken.  Never held during anything slow.
Lifetime From ``begin`` to the last word a BlockGet is kept by a reference of the crew's, and its lease by ``users``.
"""

from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

cimport cython

from jindopy._ext.blockio cimport store_put
from jindopy._ext.blockstore cimport CacheFile
from jindopy._ext.blocktable cimport entry_block_bytes, entry_blocks
from jindopy._ext.httpcrew cimport (
    OUT_CANCELLED,
    OUT_DEADLINE,
    OUT_NO_MEMORY,
    OUT_UNWANTED,
    Transfer,
    crew_cancel,
    ending_of,
    monotonic,
    transfer_clear,
    transfer_stops,
    wait_until,
)
from jindopy._ext.httphead cimport Head, head_is
from jindopy._ext.iobuf cimport BufferPool, SealedBuffer, Waiter, piece_crcs
from jindopy._ext.pthreads cimport (
    pthread_cond_destroy,
    pthread_cond_init,
    pthread_cond_signal,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)

from typing import NamedTuple

cdef enum:
    BLOCK_SHIFT = 20            # base.ident.BLOCK_BYTES

cdef double HUNGRY_SECONDS = 1.0
cdef double SLICE_SECONDS = 0.1


class Landed(NamedTuple):
    block: int
    sealed: object
    put_error: int


class Word(NamedTuple):
    get: object
    blocks: list
    ending: object


# --- memory, on a worker's thread ------------------------------------------------------------------------------------

# Objects cannot be named without the GIL, but functions that are given one may run without it: these are called through
# pointers that take the address instead.  The crew's reference keeps the object.


cdef bint _pool_request(BufferPool pool, Waiter* waiter) noexcept nogil:
    return pool._request(waiter)


cdef bint _pool_wait(BufferPool pool, Waiter* waiter, double seconds) noexcept nogil:
    return pool._wait(waiter, seconds)


cdef void _pool_withdraw(BufferPool pool, Waiter* waiter) noexcept nogil:
    pool._withdraw(waiter)


cdef void* _pool_take(BufferPool pool, size_t size) noexcept nogil:
    cdef void* memory = pool._take(size)
    if memory == NULL:
        pool._credit(size)
    return memory


cdef void _pool_give_back(BufferPool pool, void* memory, size_t size) noexcept nogil:
    pool._give_back(memory, size)


ctypedef bint (*RequestFunction)(void*, Waiter*) noexcept nogil
ctypedef bint (*WaitFunction)(void*, Waiter*, double) noexcept nogil
ctypedef void (*WithdrawFunction)(void*, Waiter*) noexcept nogil
ctypedef void* (*TakeFunction)(void*, size_t) noexcept nogil
ctypedef void (*GiveBackFunction)(void*, void*, size_t) noexcept nogil

cdef RequestFunction pool_request = <RequestFunction>_pool_request
cdef WaitFunction pool_wait = <WaitFunction>_pool_wait
cdef WithdrawFunction pool_withdraw = <WithdrawFunction>_pool_withdraw
cdef TakeFunction pool_take = <TakeFunction>_pool_take
cdef GiveBackFunction pool_give_back = <GiveBackFunction>_pool_give_back


cdef void _tell_hunger(Queue* queue) noexcept nogil:
    pthread_mutex_lock(&queue.lock)
    queue.hungry = True
    pthread_cond_signal(&queue.news)
    pthread_mutex_unlock(&queue.lock)


cdef int _take_memory(Sink* sink, size_t size) noexcept nogil:
    cdef Transfer* transfer = &sink.transfer
    cdef Waiter waiter
    cdef bint granted
    cdef double began
    cdef double now
    waiter.size = size
    granted = pool_request(sink.pool, &waiter)
    if not granted:
        began = monotonic()
        while not granted:
            granted = pool_wait(sink.pool, &waiter, SLICE_SECONDS)
            now = monotonic()
            if not granted and (transfer_stops(transfer) or now >= transfer.deadline):
                pool_withdraw(sink.pool, &waiter)
                return OUT_CANCELLED if transfer_stops(transfer) else OUT_DEADLINE
            if not granted and now - began > HUNGRY_SECONDS:
                began = now
                _tell_hunger(sink.queue)
        pthread_cond_destroy(&waiter.wake)
    sink.memory = <unsigned char*>pool_take(sink.pool, size)
    return 0 if sink.memory != NULL else OUT_NO_MEMORY


# --- the sink, on a worker's thread ----------------------------------------------------------------------------------


cdef int _on_head(Transfer* transfer) noexcept nogil:
    cdef Sink* sink = <Sink*>transfer
    cdef const Head* head = &transfer.head
    if head.confused or head.length != <long long>sink.size:
        return OUT_UNWANTED
    if not head_is(head, &head.token, sink.token, sink.token_size):
        return OUT_UNWANTED
    if head.status == 206:
        return 0 if head_is(head, &head.content_range, sink.range_text, sink.range_size) else OUT_UNWANTED
    return 0 if head.status == 200 and sink.whole else OUT_UNWANTED


cdef void _tell(Sink* sink, bint ended) noexcept nogil:
    cdef Queue* queue = sink.queue
    pthread_mutex_lock(&queue.lock)
    sink.told = sink.complete
    sink.ended = ended
    if not sink.queued:
        sink.queued = True
        sink.next = NULL
        if queue.last == NULL:
            queue.first = sink
        else:
            queue.last.next = sink
        queue.last = sink
    pthread_cond_signal(&queue.news)
    pthread_mutex_unlock(&queue.lock)


cdef int _finish_block(Sink* sink) noexcept nogil:
    cdef const Head* head = &sink.transfer.head
    cdef Landing* landing = &sink.landings[sink.complete]
    cdef uint64_t block = sink.first_block + sink.complete
    landing.size = sink.wanted
    landing.crc = piece_crcs(sink.memory, sink.wanted, landing.crcs)
    if sink.whole and sink.block_count == 1 and head.has_crc and head.crc != landing.crc:
        sink.damaged = True
        return OUT_UNWANTED
    landing.put = -1
    if sink.may_store:
        landing.put = -store_put(
            sink.store, sink.entry, block, <const char*>sink.memory, sink.wanted, landing.crcs
        )
    landing.memory = sink.memory
    sink.memory = NULL
    sink.complete += 1
    if sink.complete < sink.block_count:
        _tell(sink, False)
    return 0


cdef int _on_body(Transfer* transfer, const char* data, size_t size) noexcept nogil:
    cdef Sink* sink = <Sink*>transfer
    cdef size_t part
    cdef int rc
    while size:
        if sink.complete == sink.block_count:
            return OUT_UNWANTED
        if sink.memory == NULL:
            sink.wanted = entry_block_bytes(sink.entry, sink.first_block + sink.complete)
            sink.filled = 0
            rc = _take_memory(sink, sink.wanted)
            if rc != 0:
                return rc
        part = min(size, sink.wanted - sink.filled)
        memcpy(sink.memory + sink.filled, data, part)
        sink.filled += part
        data += part
        size -= part
        if sink.filled == sink.wanted:
            rc = _finish_block(sink)
            if rc != 0:
                return rc
    return 0


cdef void _on_end(Transfer* transfer) noexcept nogil:
    cdef Sink* sink = <Sink*>transfer
    if sink.memory != NULL:
        pool_give_back(sink.pool, sink.memory, sink.wanted)
        sink.memory = NULL
    _tell(sink, True)


# --- Python's side ---------------------------------------------------------------------------------------------------


@cython.final
@cython.no_gc
cdef class LandingQueue:

    def __cinit__(self):
        pthread_mutex_init(&self.queue.lock, NULL)
        pthread_cond_init(&self.queue.news, NULL)

    def __dealloc__(self):
        pthread_cond_destroy(&self.queue.news)
        pthread_mutex_destroy(&self.queue.lock)

    def take(self, double timeout_seconds):
        cdef Queue* queue = &self.queue
        cdef double until = monotonic() + timeout_seconds
        cdef Sink* sink
        cdef uint64_t told
        cdef bint ended
        cdef list words = []
        with nogil:
            pthread_mutex_lock(&queue.lock)
            while queue.first == NULL and not queue.hungry and not queue.woken:
                if not wait_until(&queue.news, &queue.lock, until):
                    break
            queue.woken = False
            pthread_mutex_unlock(&queue.lock)
        while True:
            pthread_mutex_lock(&queue.lock)
            sink = queue.first
            if sink != NULL:
                queue.first = sink.next
                if queue.first == NULL:
                    queue.last = NULL
                sink.queued = False
                told, ended = sink.told, sink.ended
            pthread_mutex_unlock(&queue.lock)
            if sink == NULL:
                return words
            get = <BlockGet>sink.get
            words.append(Word(get, (<BlockGet>get).take(told), ending_of(&sink.transfer) if ended else None))
            if ended:
                (<BlockGet>get).undo()

    @property
    def hungry(self):
        cdef bint hungry
        pthread_mutex_lock(&self.queue.lock)
        hungry = self.queue.hungry
        self.queue.hungry = False
        pthread_mutex_unlock(&self.queue.lock)
        return bool(hungry)

    def wake(self):
        pthread_mutex_lock(&self.queue.lock)
        self.queue.woken = True
        pthread_cond_signal(&self.queue.news)
        pthread_mutex_unlock(&self.queue.lock)


# no_gc: what it refers to never refers back, and is needed when it is freed.
@cython.final
@cython.no_gc
cdef class BlockGet:

    def __cinit__(
        self,
        LandingQueue queue not None,
        BufferPool pool not None,
        CacheFile lease not None,
        uint64_t first_block,
        uint64_t block_count,
        bytes token not None,
        bint may_store,
        object cookie,
    ):
        cdef Sink* sink
        cdef uint64_t blocks = entry_blocks(lease.leased())
        cdef uint64_t object_bytes = lease.entry.size
        if block_count < 1 or first_block >= blocks or block_count > blocks - first_block:
            raise ValueError(f"no blocks {first_block}+{block_count} in an object of {object_bytes} bytes")
        sink = self.sink = <Sink*>calloc(1, sizeof(Sink))
        if sink != NULL:
            sink.landings = <Landing*>calloc(block_count, sizeof(Landing))
        if sink == NULL or sink.landings == NULL:
            raise MemoryError
        self.queue = queue
        self.pool = pool
        self.lease = lease
        self.token = token
        self.cookie = cookie
        self.offset = first_block << BLOCK_SHIFT
        self.size_bytes = min(block_count << BLOCK_SHIFT, object_bytes - self.offset)
        sink.get = <void*><PyObject*>self
        sink.queue = &queue.queue
        sink.pool = <void*><PyObject*>pool
        sink.store = lease.owner.store
        sink.entry = lease.entry
        sink.first_block = first_block
        sink.block_count = block_count
        sink.size = self.size_bytes
        sink.whole = self.size_bytes == object_bytes
        sink.may_store = may_store
        sink.token = token
        sink.token_size = len(token)
        sink.range_size = snprintf(
            sink.range_text,
            RANGE_TEXT_BYTES,
            b"bytes %llu-%llu/%llu",
            <unsigned long long>self.offset,
            <unsigned long long>(self.offset + self.size_bytes - 1),
            <unsigned long long>object_bytes,
        )
        sink.transfer.on_head = _on_head
        sink.transfer.on_body = _on_body
        sink.transfer.on_end = _on_end

    def __init__(self, queue, pool, lease, first_block, block_count, token, may_store, cookie):
        pass

    def __dealloc__(self):
        cdef Sink* sink = self.sink
        cdef uint64_t number
        if sink == NULL:
            return
        if sink.landings != NULL:
            for number in range(sink.taken, sink.complete):
                self.pool._give_back(sink.landings[number].memory, sink.landings[number].size)
        transfer_clear(&sink.transfer)
        free(sink.landings)
        free(sink)

    cdef Transfer* ready(self) except NULL:
        if self.running or self.sink.transfer.url != NULL:
            raise ValueError("a BlockGet is started once")
        return &self.sink.transfer

    cdef void begin(self) except *:
        self.lease.begin()
        Py_INCREF(self)
        self.running = True

    cdef void undo(self) except *:
        # No worker has it any more.
        self.running = False
        self.lease.end()
        Py_DECREF(self)

    cdef list take(self, uint64_t told):
        cdef Sink* sink = self.sink
        cdef Landing* landing
        cdef SealedBuffer sealed
        cdef list blocks = []
        while sink.taken < told:
            landing = &sink.landings[sink.taken]
            sealed = SealedBuffer.__new__(SealedBuffer)
            sealed.own(self.pool, landing.memory, landing.size, landing.crcs, landing.crc)
            blocks.append(Landed(sink.first_block + sink.taken, sealed, landing.put))
            sink.taken += 1
        return blocks

    @property
    def object_crc64(self):
        return self.sink.transfer.head.crc if self.sink.transfer.head.has_crc else None

    @property
    def damaged(self):
        return bool(self.sink.damaged)

    def cancel(self):
        if self.running:
            crew_cancel(&self.sink.transfer)
