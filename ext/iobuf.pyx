# cython: auto_pickle=False
"""Block buffers: the only owners of block memory, *filling* or *sealed*, never both.

A pool grants bytes of its budget, then memory.  Requests are granted in order of arrival: a large one is not starved
by small ones behind it.  A buffer gives its memory back once, on ``release`` or when collected; ``seal`` moves the
pointer from the filling buffer to the sealed one.

Bounds: granted bytes plus spare blocks never exceed the budget.  Up to ``SPARE_BYTES`` of freed 1 MiB blocks are kept
for reuse, because fresh memory costs page faults (0.33 s/GB measured on a virtual machine, 1.9 s/GB when its host has
to find the memory first; a reused block 0.2 us).  A thread that waits in ``acquire`` while it holds buffers may wait
for itself: acquire first, or with a timeout.

Threads: ``_lock`` guards the pool's fields and is never held while the GIL is waited for, nor across an allocation.
What a buffer knows of its views is guarded by the GIL.  Waits, allocation and checksums run without the GIL; a waiting
main thread still handles signals, at most ``SIGNAL_SLICE_SECONDS`` late.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from jindopy._ext.crc64 cimport crc64_update
from posix.mman cimport (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_POPULATE,
    MAP_PRIVATE,
    PROT_READ,
    PROT_WRITE,
    mmap,
    munmap,
)
from jindopy._ext.pthreads cimport (
    CLOCK_MONOTONIC,
    clock_gettime,
    pthread_cond_clockwait,
    pthread_cond_destroy,
    pthread_cond_init,
    pthread_cond_signal,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    timespec,
)

from jindopy.base.errors import CacheCorrupt

cdef extern from "<malloc.h>" nogil:
    int M_ARENA_MAX
    int M_MMAP_THRESHOLD
    int M_TRIM_THRESHOLD
    int mallopt(int parameter, int value)

cdef enum:
    BLOCK_BYTES = 1 << 20  # base.ident.BLOCK_BYTES: the one size worth keeping spares of
    SPARE_BYTES = 16 << 20  # what an idle pool keeps: the read-ahead of one sequential reader
    LARGE_BYTES = 128 << 10  # the C library's own start value for both of its thresholds

cdef double SIGNAL_SLICE_SECONDS = 0.1

cdef Py_ssize_t _filling_alive = 0
cdef Py_ssize_t _sealed_alive = 0
cdef size_t _bytes_alive = 0


def live_counts():
    return {"filling": _filling_alive, "sealed": _sealed_alive, "bytes": _bytes_alive}


def limit_heap(int arenas):
    if arenas < 1 or mallopt(M_ARENA_MAX, arenas) != 1:
        raise ValueError(f"the C library cannot do with {arenas} arenas")
    # Left alone, the first large piece given back raises the threshold to its size, and all later ones of that size
    # (the last blocks of objects, answers of 128 KiB and more) come from a heap that their gaps keep from shrinking.
    if mallopt(M_MMAP_THRESHOLD, LARGE_BYTES) != 1 or mallopt(M_TRIM_THRESHOLD, LARGE_BYTES) != 1:
        raise ValueError("the C library refuses to give large pieces of memory back")


cdef uint64_t piece_crcs(const unsigned char* data, size_t size, uint64_t* crcs) noexcept nogil:
    cdef uint64_t crc = 0
    cdef size_t piece = 0
    cdef size_t done = 0
    cdef size_t length
    while done < size:
        # What lies behind the last piece of a block is no block's: one checksum will do.
        length = min(size - done, <size_t>PIECE_BYTES) if piece < BLOCK_PIECES else size - done
        crc = crc64_update(crc, data + done, length)
        if piece < BLOCK_PIECES:
            crcs[piece] = crc
        done += length
        piece += 1
    return crc


cdef double _now() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


# A whole block comes straight from the kernel, so that giving it back shrinks the process; anything else, being
# short-lived and of any size, from the C library.
cdef void* _allocate(size_t size) noexcept nogil:
    cdef void* memory
    if size != BLOCK_BYTES:
        return malloc(size)
    memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0)
    return NULL if memory == MAP_FAILED else memory


cdef void _deallocate(void* memory, size_t size) noexcept nogil:
    if size != BLOCK_BYTES:
        free(memory)
    else:
        munmap(memory, size)


cdef void _deallocate_list(void* block) noexcept nogil:
    cdef void* next_block
    while block != NULL:
        next_block = (<void**> block)[0]
        _deallocate(block, BLOCK_BYTES)
        block = next_block


@cython.final
cdef class BufferPool:

    def __cinit__(self, Py_ssize_t budget_bytes):
        if budget_bytes < 1:
            raise ValueError(f"a buffer pool needs a budget, not {budget_bytes} bytes")
        pthread_mutex_init(&self._lock, NULL)
        self._budget = budget_bytes

    def __init__(self, budget_bytes):
        pass

    def __dealloc__(self):
        if self._budget:
            _deallocate_list(self._spare)
            pthread_mutex_destroy(&self._lock)

    @property
    def budget_bytes(self):
        return self._budget

    @property
    def used_bytes(self):
        return self._used

    @property
    def peak_bytes(self):
        return self._peak

    def acquire(self, Py_ssize_t size_bytes, double timeout_seconds=-1.0):
        cdef Waiter waiter
        cdef void* memory
        cdef bint granted
        cdef double left = SIGNAL_SLICE_SECONDS
        cdef double deadline = 0.0
        cdef FillingBuffer buffer
        if size_bytes < 1 or <size_t> size_bytes > self._budget:
            raise ValueError(f"a buffer of {size_bytes} bytes cannot come from a budget of {self._budget} bytes")
        buffer = FillingBuffer.__new__(FillingBuffer)
        waiter.size = size_bytes
        granted = self._request(&waiter)
        if not granted:
            try:
                if timeout_seconds > 0:
                    deadline = _now() + timeout_seconds
                while not granted:
                    if timeout_seconds >= 0:
                        left = deadline - _now()
                        if left <= 0:
                            raise TimeoutError(
                                f"no room for {size_bytes} bytes: {self._used} of {self._budget} bytes are in use"
                            )
                    with nogil:
                        granted = self._wait(&waiter, min(left, SIGNAL_SLICE_SECONDS))
                    PyErr_CheckSignals()
            except BaseException:  # a signal handler may raise anything
                self._withdraw(&waiter)
                raise
            pthread_cond_destroy(&waiter.wake)
        with nogil:
            memory = self._take(size_bytes)
        if memory == NULL:
            self._credit(size_bytes)
            raise MemoryError(f"the system refused {size_bytes} bytes")
        buffer.own(self, <unsigned char*> memory, size_bytes)
        return buffer

    # Ask for waiter.size bytes of the budget: True when granted, else the waiter stands in the queue.
    cdef bint _request(self, Waiter* waiter) noexcept nogil:
        waiter.next = NULL
        pthread_mutex_lock(&self._lock)
        waiter.granted = self._first_waiter == NULL and waiter.size <= self._budget - self._used
        if waiter.granted:
            self._used += waiter.size
            self._peak = max(self._peak, self._used)
        else:
            pthread_cond_init(&waiter.wake, NULL)
            if self._first_waiter == NULL:
                self._first_waiter = waiter
            else:
                self._last_waiter.next = waiter
            self._last_waiter = waiter
        pthread_mutex_unlock(&self._lock)
        return waiter.granted

    cdef bint _wait(self, Waiter* waiter, double seconds) noexcept nogil:
        cdef bint granted
        cdef timespec until
        cdef double end = _now() + seconds
        until.tv_sec = <long> end
        until.tv_nsec = <long> ((end - until.tv_sec) * 1e9)
        pthread_mutex_lock(&self._lock)
        while not waiter.granted:
            if pthread_cond_clockwait(&waiter.wake, &self._lock, CLOCK_MONOTONIC, &until) != 0:
                break
        granted = waiter.granted
        pthread_mutex_unlock(&self._lock)
        return granted

    # A waiter gives up: out of the queue, or, if granted meanwhile, its bytes go to the next one.
    cdef void _withdraw(self, Waiter* waiter) noexcept nogil:
        cdef Waiter* before = NULL
        cdef Waiter* at
        pthread_mutex_lock(&self._lock)
        if waiter.granted:
            self._used -= waiter.size
        else:
            at = self._first_waiter
            while at != waiter:
                before = at
                at = at.next
            if before == NULL:
                self._first_waiter = waiter.next
            else:
                before.next = waiter.next
            if self._last_waiter == waiter:
                self._last_waiter = before
        self._grant()
        pthread_mutex_unlock(&self._lock)
        pthread_cond_destroy(&waiter.wake)

    cdef void _credit(self, size_t size) noexcept nogil:
        pthread_mutex_lock(&self._lock)
        self._used -= size
        self._grant()
        pthread_mutex_unlock(&self._lock)

    # Serve the queue from its head; the lock is held.
    cdef void _grant(self) noexcept nogil:
        cdef Waiter* waiter = self._first_waiter
        while waiter != NULL and waiter.size <= self._budget - self._used:
            self._used += waiter.size
            self._peak = max(self._peak, self._used)
            self._first_waiter = waiter.next
            waiter.granted = True
            # The waiter's frame may be gone once the lock is free: it is not touched after this.
            pthread_cond_signal(&waiter.wake)
            waiter = self._first_waiter
        if self._first_waiter == NULL:
            self._last_waiter = NULL

    # Memory for bytes already granted: a spare block, or fresh memory once enough spares are gone to stay in budget.
    cdef void* _take(self, size_t size) noexcept nogil:
        cdef void* memory = NULL
        cdef void* surplus = NULL
        cdef void* block
        pthread_mutex_lock(&self._lock)
        while self._spare != NULL and (size == BLOCK_BYTES or self._used + self._spare_bytes > self._budget):
            block = self._spare
            self._spare = (<void**> block)[0]
            self._spare_bytes -= BLOCK_BYTES
            if size == BLOCK_BYTES:
                memory = block
                break
            (<void**> block)[0] = surplus
            surplus = block
        pthread_mutex_unlock(&self._lock)
        _deallocate_list(surplus)
        return memory if memory != NULL else _allocate(size)

    cdef void _give_back(self, void* memory, size_t size) noexcept nogil:
        if size == BLOCK_BYTES:
            pthread_mutex_lock(&self._lock)
            if self._spare_bytes < SPARE_BYTES:
                (<void**> memory)[0] = self._spare
                self._spare = memory
                self._spare_bytes += BLOCK_BYTES
                self._used -= size
                self._grant()
                memory = NULL
            pthread_mutex_unlock(&self._lock)
        if memory != NULL:
            # In this order, or the next holder's memory would come before this one's has gone.
            _deallocate(memory, size)
            self._credit(size)


# no_gc: a pool refers to nothing, so buffers are in no cycle; the collector would clear `pool` before it is used to
# give the memory back.
@cython.final
@cython.no_gc
cdef class FillingBuffer:

    def __init__(self):
        raise TypeError("buffers come from BufferPool.acquire")

    cdef void own(self, BufferPool pool, unsigned char* memory, size_t size) noexcept:
        global _filling_alive, _bytes_alive
        self.pool = pool
        self.data = memory
        self.size = size
        _filling_alive += 1
        _bytes_alive += size

    # Hand the memory over to the caller.
    cdef unsigned char* disown(self) noexcept:
        global _filling_alive, _bytes_alive
        cdef unsigned char* memory = self.data
        self.data = NULL
        _filling_alive -= 1
        _bytes_alive -= self.size
        return memory

    def __dealloc__(self):
        if self.data != NULL:
            self.pool._give_back(self.disown(), self.size)

    def __len__(self):
        return self.size if self.data != NULL else 0

    def __getbuffer__(self, Py_buffer* view, int flags):
        if self.data == NULL:
            raise ValueError("this buffer has been sealed or released")
        PyBuffer_FillInfo(view, self, self.data, self.size, 0, flags)
        self.views += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.views -= 1

    cdef int check_unshared(self) except -1:
        if self.views:
            raise BufferError("a memoryview of this buffer is alive: release it first")
        return 0

    def seal(self, expected_crc64=None):
        global _filling_alive, _bytes_alive
        cdef uint64_t expected = 0
        cdef uint64_t crc
        cdef uint64_t[BLOCK_PIECES] crcs
        cdef unsigned char* memory
        cdef SealedBuffer sealed
        if expected_crc64 is not None:
            expected = expected_crc64
        if self.data == NULL:
            raise ValueError("this buffer has been sealed or released")
        self.check_unshared()
        sealed = SealedBuffer.__new__(SealedBuffer)
        # While the GIL is free nobody else finds the memory here: it can be neither viewed nor released.
        memory = self.data
        self.data = NULL
        with nogil:
            crc = piece_crcs(memory, self.size, crcs)
        self.data = memory
        if expected_crc64 is not None and crc != expected:
            raise CacheCorrupt(f"block of {self.size} bytes has CRC-64 {crc:016x} instead of {expected:016x}")
        sealed.own(self.pool, self.disown(), self.size, crcs, crc)
        return sealed

    def release(self):
        if self.data != NULL:
            self.check_unshared()
            self.pool._give_back(self.disown(), self.size)


@cython.final
@cython.no_gc
cdef class SealedBuffer:

    def __init__(self):
        raise TypeError("sealed buffers come from FillingBuffer.seal")

    cdef void own(
        self, BufferPool pool, const unsigned char* memory, size_t size, const uint64_t* crcs, uint64_t crc
    ) noexcept:
        global _sealed_alive, _bytes_alive
        self.pool = pool
        self.data = memory
        self.size = size
        self.crc = crc
        memcpy(self.crcs, crcs, BLOCK_PIECES * sizeof(uint64_t))
        _sealed_alive += 1
        _bytes_alive += size

    cdef void give_back(self) noexcept:
        global _sealed_alive, _bytes_alive
        cdef void* memory = <void*> self.data
        self.data = NULL
        _sealed_alive -= 1
        _bytes_alive -= self.size
        self.pool._give_back(memory, self.size)

    def __dealloc__(self):
        if self.data != NULL:
            self.give_back()

    cdef int check_unreleased(self) except -1:
        if self.released or self.data == NULL:
            raise ValueError("this buffer has been released")
        return 0

    cdef const unsigned char* borrow(self) except NULL:
        self.check_unreleased()
        self.views += 1
        return self.data

    cdef void unborrow(self) noexcept:
        self.views -= 1
        if self.released and self.views == 0:
            self.give_back()

    def __len__(self):
        return 0 if self.released else self.size

    def __getbuffer__(self, Py_buffer* view, int flags):
        self.check_unreleased()
        PyBuffer_FillInfo(view, self, <void*> self.data, self.size, 1, flags)
        self.views += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.unborrow()

    @property
    def crc64(self):
        return self.crc

    def slice(self, Py_ssize_t offset, Py_ssize_t size_bytes):
        self.check_unreleased()
        if offset < 0 or size_bytes < 0:
            raise ValueError(f"a slice cannot start at {offset} with {size_bytes} bytes")
        offset = min(offset, <Py_ssize_t> self.size)
        return PyBytes_FromStringAndSize(
            <const char*> self.data + offset, min(size_bytes, <Py_ssize_t> self.size - offset)
        )

    def release(self):
        if not self.released and self.data != NULL:
            self.released = True
            if self.views == 0:
                self.give_back()
