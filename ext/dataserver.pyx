# cython: auto_pickle=False
"""Serves blocks out of the store's files: a native thread a connection, without the GIL.

Flow     Requests are answered in order, a block at a time: head, body by ``sendfile`` from the cache file, trailer with
         the CRC the store has.  Between two blocks whatever came is read, so a CANCEL takes effect at the next block.
Bounds   ``REQUESTS_MAX`` requests wait on a connection, whose frames fit every socket buffer: so nothing has to be read
         while a block is being sent.  A peer that takes no byte for ``STALL_MS`` is given up.
Safety   See blocksend: a block evicted while it was sent says so in its trailer, and is never passed off as zeros.
Locks    ``Service.lock``: list of connections and counters; pointer work.  The store's inside blocksend.
Failure  What cannot be understood is answered by one ERROR, then the connection ends.
"""

cimport cython
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset, strlen
from posix.types cimport off_t

from jindopy._ext.blockevict cimport lease_close
from jindopy._ext.blocksend cimport (
    SEND_ABSENT,
    SEND_BEYOND,
    SEND_FORBIDDEN,
    SEND_READY,
    Sending,
    send_begin,
    send_end,
    send_lease,
)
from jindopy._ext.blockstate cimport Store
from jindopy._ext.blockstore cimport BlockStore
from jindopy._ext.blocktable cimport Entry
from jindopy._ext.frames cimport (
    BLOCK_GOOD,
    BLOCK_HEAD_BYTES,
    BLOCK_WITHDRAWN,
    EVENT_FRAME,
    EVENT_MORE,
    HEAD_BYTES,
    KIND_BLOCK,
    KIND_ERROR,
    KIND_MISSING,
    KIND_REQUEST,
    MISSING_BYTES,
    TRAILER_BYTES,
    Parser,
    head_put,
    parser_feed,
    parser_init,
    put_uint,
)
from jindopy._ext.linux cimport close, pthread_create, pthread_join, pthread_t, sendfile
from jindopy._ext.pthreads cimport (
    CLOCK_MONOTONIC,
    clock_gettime,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_t,
    pthread_mutex_unlock,
    timespec,
)
from jindopy._ext.sockets cimport (
    MSG_DONTWAIT,
    MSG_MORE,
    MSG_NOSIGNAL,
    POLLIN,
    POLLOUT,
    SHUT_RDWR,
    poll,
    pollfd,
    recv,
    send,
    shutdown,
)

import os

cdef enum:
    JOBS = 64
    STALL_MS = 30000            # as long as a client waits for a block at most
    FILLER_BYTES = 65536
    # ERROR codes, as in jindopy.dataplane.frames.
    CODE_UNREADABLE = 2
    CODE_TOO_MANY = 3
    CODE_FORBIDDEN = 4
    CODE_NO_SUCH_BLOCK = 5
    CODE_TOO_LATE = 6
    CODE_CANCELLED = 7
    CODE_DISK = 8

REQUESTS_MAX = JOBS

cdef char[FILLER_BYTES] _filler
memset(_filler, 0, FILLER_BYTES)


cdef struct Job:
    uint64_t request
    uint8_t cid[16]
    uint32_t at
    uint32_t left
    double deadline
    bint cancelled
    Entry* entry


cdef struct Counted:
    uint64_t blocks
    uint64_t bytes
    uint64_t missing
    uint64_t withdrawn
    uint64_t refused
    uint64_t violations


cdef struct Service:
    pthread_mutex_t lock
    Store* store
    Peer* peers
    Counted counted


cdef struct Peer:
    Peer* next
    Service* service
    pthread_t thread
    int fd
    bint over                   # the thread is at its end; guarded by the service's lock
    uint64_t* owners
    size_t owner_count
    Job jobs[JOBS]
    size_t first
    size_t waiting
    Parser parser
    uint8_t incoming[4096]


cdef double _now() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef bint _wait(int fd, short events, int timeout_ms) noexcept nogil:
    # False: nothing came in time.
    cdef pollfd waited
    cdef int rc = -1
    waited.fd = fd
    waited.events = events
    while rc < 0:
        rc = poll(&waited, 1, timeout_ms)
        if rc < 0 and errno != EINTR:
            return False
    return rc > 0


cdef bint _send(Peer* peer, const void* data, size_t size, int flags) noexcept nogil:
    cdef ssize_t sent
    cdef const char* at = <const char*>data
    while size:
        sent = send(peer.fd, at, size, MSG_DONTWAIT | MSG_NOSIGNAL | flags)
        if sent > 0:
            at += sent
            size -= <size_t>sent
        elif errno == EAGAIN:
            if not _wait(peer.fd, POLLOUT, STALL_MS):
                return False
        elif errno != EINTR:
            return False
    return True


cdef void _count(Peer* peer, uint64_t* counter, uint64_t amount) noexcept nogil:
    pthread_mutex_lock(&peer.service.lock)
    counter[0] += amount
    pthread_mutex_unlock(&peer.service.lock)


cdef bint _send_error(Peer* peer, uint64_t request, int code, const char* text) noexcept nogil:
    cdef uint8_t frame[HEAD_BYTES + 128]
    cdef size_t size = min(strlen(text), <size_t>128)
    head_put(frame, KIND_ERROR, <uint16_t>code, <uint32_t>size, request)
    memcpy(frame + HEAD_BYTES, text, size)
    _count(peer, &peer.service.counted.refused if request else &peer.service.counted.violations, 1)
    return _send(peer, frame, HEAD_BYTES + size, 0)


cdef bint _send_missing(Peer* peer, Job* job) noexcept nogil:
    cdef uint8_t frame[HEAD_BYTES + MISSING_BYTES]
    head_put(frame, KIND_MISSING, 0, MISSING_BYTES, job.request)
    put_uint(frame + HEAD_BYTES, job.at, 4)
    put_uint(frame + HEAD_BYTES + 4, 1, 4)
    _count(peer, &peer.service.counted.missing, 1)
    return _send(peer, frame, HEAD_BYTES + MISSING_BYTES, 0)


cdef bint _send_body(Peer* peer, int fd, off_t offset, size_t size, bint* whole) noexcept nogil:
    # False: the connection is lost.  Not `whole`: the file gave less, and something else went in its place.
    cdef ssize_t sent
    whole[0] = True
    while size:
        sent = sendfile(peer.fd, fd, &offset, size)
        if sent > 0:
            size -= <size_t>sent
        elif sent < 0 and errno == EINTR:
            continue
        elif sent < 0 and errno == EAGAIN:
            if not _wait(peer.fd, POLLOUT, STALL_MS):
                return False
        else:
            # The file's end or a bad disk; were it the connection, sending what stands in for it fails too.
            whole[0] = False
            while size:
                if not _send(peer, _filler, min(size, <size_t>FILLER_BYTES), MSG_MORE):
                    return False
                size -= min(size, <size_t>FILLER_BYTES)
    return True


cdef bint _send_block(Peer* peer, Job* job, Sending* sending) noexcept nogil:
    cdef uint8_t frame[HEAD_BYTES + BLOCK_HEAD_BYTES]
    cdef uint8_t trailer[TRAILER_BYTES]
    cdef uint32_t size = <uint32_t>sending.size
    cdef bint whole = True
    cdef bint alive
    head_put(frame, KIND_BLOCK, 0, BLOCK_HEAD_BYTES + size + TRAILER_BYTES, job.request)
    put_uint(frame + HEAD_BYTES, job.at, 4)
    put_uint(frame + HEAD_BYTES + 4, size, 4)
    alive = _send(peer, frame, HEAD_BYTES + BLOCK_HEAD_BYTES, MSG_MORE)
    if alive:
        alive = _send_body(peer, sending.handle.fd, <off_t>sending.offset, size, &whole)
    whole = send_end(peer.service.store, sending) and whole
    put_uint(trailer, sending.crc, 8)
    put_uint(trailer + 8, BLOCK_GOOD if whole else BLOCK_WITHDRAWN, 4)
    put_uint(trailer + 12, 0, 4)
    pthread_mutex_lock(&peer.service.lock)
    peer.service.counted.blocks += whole
    peer.service.counted.bytes += size if whole else 0
    peer.service.counted.withdrawn += not whole
    pthread_mutex_unlock(&peer.service.lock)
    return alive and _send(peer, trailer, TRAILER_BYTES, 0)


cdef void _end_job(Peer* peer) noexcept nogil:
    cdef Job* job = &peer.jobs[peer.first]
    if job.entry != NULL:
        lease_close(peer.service.store, job.entry)
    peer.first = (peer.first + 1) % JOBS
    peer.waiting -= 1


cdef bint _refuse(Peer* peer, Job* job, int code, const char* text) noexcept nogil:
    cdef uint64_t request = job.request
    _end_job(peer)
    return _send_error(peer, request, code, text)


cdef bint _step(Peer* peer) noexcept nogil:
    # The next block of the first job.  False: the connection is at its end.
    cdef Job* job = &peer.jobs[peer.first]
    cdef Store* store = peer.service.store
    cdef Sending sending
    cdef bint alive
    cdef int rc = SEND_READY
    if job.cancelled:
        return _refuse(peer, job, CODE_CANCELLED, b"cancelled")
    if _now() > job.deadline:
        return _refuse(peer, job, CODE_TOO_LATE, b"too late")
    if job.entry == NULL:
        rc = send_lease(store, job.cid, peer.owners, peer.owner_count, &job.entry)
    if rc == SEND_READY:
        rc = send_begin(store, job.entry, job.at, &sending)
    if rc == SEND_FORBIDDEN:
        return _refuse(peer, job, CODE_FORBIDDEN, b"the ticket is not for this mount")
    if rc == SEND_BEYOND:
        return _refuse(peer, job, CODE_NO_SUCH_BLOCK, b"the object has no such block")
    if rc < 0:
        return _refuse(peer, job, CODE_DISK, b"the cache cannot be read")
    alive = _send_missing(peer, job) if rc == SEND_ABSENT else _send_block(peer, job, &sending)
    job.at += 1
    job.left -= 1
    if job.left == 0:
        _end_job(peer)
    return alive


cdef bint _take_frame(Peer* peer) noexcept nogil:
    cdef Parser* parser = &peer.parser
    cdef Job* job
    cdef size_t i
    if parser.kind != KIND_REQUEST:
        for i in range(peer.waiting):
            job = &peer.jobs[(peer.first + i) % JOBS]
            job.cancelled = job.cancelled or job.request == parser.request
        return True
    if peer.waiting == JOBS:
        _send_error(peer, 0, CODE_TOO_MANY, b"too many requests in flight")
        return False
    job = &peer.jobs[(peer.first + peer.waiting) % JOBS]
    memset(job, 0, sizeof(Job))
    memcpy(job.cid, parser.payload, 16)
    job.request = parser.request
    job.at = parser.first
    job.left = parser.count
    job.deadline = _now() + 1e-3 * (
        parser.payload[24]
        | <uint32_t>parser.payload[25] << 8
        | <uint32_t>parser.payload[26] << 16
        | <uint32_t>parser.payload[27] << 24
    )
    peer.waiting += 1
    return True


cdef bint _read(Peer* peer, bint wait) noexcept nogil:
    cdef ssize_t got = recv(peer.fd, peer.incoming, 4096, MSG_DONTWAIT)
    cdef size_t at = 0
    cdef size_t used = 0
    cdef int event = EVENT_FRAME
    if got < 0 and (errno == EAGAIN or errno == EINTR):
        return not wait or _wait(peer.fd, POLLIN, -1)
    if got <= 0:
        return False
    while event > EVENT_MORE:
        event = parser_feed(&peer.parser, peer.incoming + at, <size_t>got - at, &used)
        at += used
        if event == EVENT_FRAME and not _take_frame(peer):
            return False
    if event < 0:
        _send_error(peer, 0, CODE_UNREADABLE, b"this is not the data protocol")
        return False
    return True


cdef void* _serve(void* given) noexcept nogil:
    cdef Peer* peer = <Peer*>given
    while _read(peer, peer.waiting == 0):
        if peer.waiting and not _step(peer):
            break
    while peer.waiting:
        _end_job(peer)
    pthread_mutex_lock(&peer.service.lock)
    shutdown(peer.fd, SHUT_RDWR)
    peer.over = True
    pthread_mutex_unlock(&peer.service.lock)
    return NULL


cdef void _reap(Service* service, bint all_of_them) noexcept nogil:
    # Join and free those at their end, or bring all there first.
    cdef Peer* gone = NULL
    cdef Peer* peer
    cdef Peer** link
    pthread_mutex_lock(&service.lock)
    link = &service.peers
    while link[0] != NULL:
        peer = link[0]
        if all_of_them or peer.over:
            shutdown(peer.fd, SHUT_RDWR)
            link[0] = peer.next
            peer.next = gone
            gone = peer
        else:
            link = &peer.next
    pthread_mutex_unlock(&service.lock)
    while gone != NULL:
        peer = gone
        gone = peer.next
        pthread_join(peer.thread, NULL)
        close(peer.fd)
        free(peer.owners)
        free(peer)


@cython.final
@cython.no_gc
cdef class BlockServer:
    cdef Service service
    cdef BlockStore owner
    cdef bint closed

    def __cinit__(self, BlockStore store not None):
        pthread_mutex_init(&self.service.lock, NULL)
        self.owner = store
        self.service.store = store.store

    def __init__(self, store):
        pass

    def __dealloc__(self):
        with nogil:
            _reap(&self.service, True)
        pthread_mutex_destroy(&self.service.lock)

    def adopt(self, int fd, owners):
        cdef Peer* peer
        cdef int rc
        tags = list(owners)
        if self.closed:
            raise ValueError("the server is closed")
        with nogil:
            _reap(&self.service, False)
        peer = <Peer*>calloc(1, sizeof(Peer))
        if peer == NULL:
            raise MemoryError
        peer.owners = <uint64_t*>calloc(len(tags) + 1, sizeof(uint64_t))
        peer.fd = -1
        try:
            if peer.owners == NULL:
                raise MemoryError
            for tag in tags:
                peer.owners[peer.owner_count] = tag
                peer.owner_count += 1
            peer.fd = os.dup(fd)
            os.set_blocking(peer.fd, False)  # sendfile has no flag for it
        except BaseException:
            if peer.fd >= 0:
                close(peer.fd)
            free(peer.owners)
            free(peer)
            raise
        peer.service = &self.service
        parser_init(&peer.parser, True)
        peer.parser.greeted = True
        # Nobody may reap it before its thread has a number.
        pthread_mutex_lock(&self.service.lock)
        rc = pthread_create(&peer.thread, NULL, _serve, peer)
        if rc == 0:
            peer.next = self.service.peers
            self.service.peers = peer
        pthread_mutex_unlock(&self.service.lock)
        if rc != 0:
            close(peer.fd)
            free(peer.owners)
            free(peer)
            raise OSError(rc, os.strerror(rc))

    @property
    def connections(self):
        cdef Peer* peer
        cdef int count = 0
        pthread_mutex_lock(&self.service.lock)
        peer = self.service.peers
        while peer != NULL:
            count += not peer.over
            peer = peer.next
        pthread_mutex_unlock(&self.service.lock)
        return count

    def counters(self):
        cdef Counted counted
        pthread_mutex_lock(&self.service.lock)
        counted = self.service.counted
        pthread_mutex_unlock(&self.service.lock)
        return counted

    def close(self):
        self.closed = True
        with nogil:
            _reap(&self.service, True)
