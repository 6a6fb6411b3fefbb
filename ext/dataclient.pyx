# cython: auto_pickle=False
"""What Python sees of a connection to a data server; the work is done, without the GIL, by ``datalink``.

While a request is in flight its memory is not to be found in the buffers that came with it, so nobody views or releases
it; when the request ends, however, they have it back or are sealed.  A request that is forgotten is given up.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from jindopy._ext.datalink cimport (
    FAULT_ANSWER,
    FAULT_CLOSED,
    FAULT_GONE,
    FAULT_REFUSED,
    TABLE,
    Link,
    Pending,
    Slot,
    link_fail,
    link_now,
    link_receive,
    link_send,
    link_wait,
)
from jindopy._ext.frames cimport (
    COUNT_MAX,
    HEAD_BYTES,
    KIND_CANCEL,
    KIND_REQUEST,
    REQUEST_BYTES,
    head_put,
    parser_init,
    put_uint,
)
from jindopy._ext.iobuf cimport FillingBuffer, SealedBuffer
from jindopy._ext.linux cimport close, pthread_create, pthread_join
from jindopy._ext.pthreads cimport (
    pthread_cond_destroy,
    pthread_cond_init,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)

import os

from jindopy.base.errors import BadFrame, BlockDamaged, DeadlineExceeded, PeerError, PeerGone, TicketRefused

cdef double SIGNAL_SLICE_SECONDS = 0.1
cdef long _links = 0
cdef long _requests = 0


def live_counts():
    return {"links": _links, "requests": _requests}


@cython.final
@cython.no_gc
cdef class BlockLink:
    cdef Link* link
    cdef str endpoint
    cdef bint joined

    def __init__(self, int fd, str endpoint not None, int requests_max):
        global _links
        cdef int rc
        if self.link != NULL:
            raise ValueError("a link is made once")
        if requests_max < 1:
            raise ValueError("a link without requests in flight")
        self.endpoint = endpoint
        self.link = <Link*>calloc(1, sizeof(Link))
        if self.link == NULL:
            raise MemoryError
        pthread_mutex_init(&self.link.lock, NULL)
        pthread_mutex_init(&self.link.sending, NULL)
        pthread_cond_init(&self.link.moved, NULL)
        parser_init(&self.link.parser, False)
        self.link.parser.greeted = True
        self.link.limit = min(requests_max, TABLE)
        self.link.fd = -1
        self.joined = True
        _links += 1
        self.link.fd = os.dup(fd)
        rc = pthread_create(&self.link.thread, NULL, link_receive, self.link)
        if rc != 0:
            raise OSError(rc, os.strerror(rc))
        self.joined = False

    def __dealloc__(self):
        global _links
        cdef int i
        if self.link == NULL:
            return
        self.shut()
        for i in range(TABLE):
            # Requests hold the link, so what is left was given up.
            free(self.link.table[i])
        if self.link.fd >= 0:
            close(self.link.fd)
        pthread_cond_destroy(&self.link.moved)
        pthread_mutex_destroy(&self.link.sending)
        pthread_mutex_destroy(&self.link.lock)
        free(self.link)
        self.link = NULL
        _links -= 1

    cdef void shut(self) noexcept:
        if self.joined:
            return
        self.joined = True
        with nogil:
            link_fail(self.link, FAULT_CLOSED)
            pthread_join(self.link.thread, NULL)

    cdef object trouble(self, int fault):
        if fault == FAULT_GONE:
            return PeerGone(f"{self.endpoint}: the connection was lost")
        if fault == FAULT_CLOSED:
            return PeerGone(f"{self.endpoint}: the connection is closed")
        if fault == FAULT_ANSWER:
            return BadFrame(f"{self.endpoint}: answered what was not asked")
        if fault == FAULT_REFUSED:
            return BadFrame(f"{self.endpoint}: the server does not understand us")
        return BadFrame(f"{self.endpoint}: what came is not the data protocol")

    def start(self, cid, first_block, buffers, double timeout_seconds):
        cdef BlockRequest request
        cdef FillingBuffer buffer
        cdef Link* link = self.link
        cdef Pending* pending
        cdef uint8_t frame[HEAD_BYTES + REQUEST_BYTES]
        cdef double until = link_now() + timeout_seconds
        cdef int i, fault
        cdef bint sent, waits
        taken = list(buffers)
        if not isinstance(cid, bytes) or len(cid) != 16:
            raise ValueError("a cid is 16 bytes")
        if not 1 <= len(taken) <= COUNT_MAX or not 0 <= first_block < 0x0FFFFFFF - len(taken):
            raise ValueError(f"{len(taken)} blocks from {first_block} cannot be asked for at once")
        if not 0 < timeout_seconds <= 86400:
            raise ValueError("a request has between 0 and 86,400 seconds")
        if len({id(each) for each in taken}) != len(taken):
            raise ValueError("a buffer for each block")
        for each in taken:
            buffer = <FillingBuffer?>each
            if buffer.data == NULL or buffer.size > 1 << 20:
                raise ValueError("a buffer that was sealed, released, or is larger than a block")
            buffer.check_unshared()
        request = BlockRequest.__new__(BlockRequest)
        request.take(self, cid, taken, until)
        pending = request.pending
        pending.first = first_block
        waits = True
        while waits:
            with nogil:
                pthread_mutex_lock(&link.lock)
                if link.in_flight >= link.limit and link.fault == 0:
                    link_wait(link, min(until, link_now() + SIGNAL_SLICE_SECONDS))
                fault = link.fault
                waits = link.in_flight >= link.limit and fault == 0
                if fault == 0 and not waits:
                    link.last_request += 1
                    pending.request = link.last_request
                    link.in_flight += 1
                    for i in range(TABLE):
                        if link.table[i] == NULL:
                            link.table[i] = pending
                            break
                pthread_mutex_unlock(&link.lock)
            if fault:
                raise self.trouble(fault)
            PyErr_CheckSignals()
            if waits and link_now() >= until:
                raise DeadlineExceeded(f"{self.endpoint}: {cid.hex()}: too many requests in flight for too long")
        request.started = True
        head_put(frame, KIND_REQUEST, 0, REQUEST_BYTES, pending.request)
        memcpy(frame + HEAD_BYTES, PyBytes_AS_STRING(cid), 16)
        put_uint(frame + HEAD_BYTES + 16, pending.first, 4)
        put_uint(frame + HEAD_BYTES + 20, pending.count, 4)
        put_uint(frame + HEAD_BYTES + 24, max(1, <uint32_t>((until - link_now()) * 1000)), 4)
        put_uint(frame + HEAD_BYTES + 28, 0, 4)
        with nogil:
            sent = link_send(link, frame, HEAD_BYTES + REQUEST_BYTES)
            if not sent:
                link_fail(link, FAULT_GONE)
        if not sent:
            raise self.trouble(FAULT_GONE)
        return request

    @property
    def alive(self):
        return self.link.fault == 0

    def close(self):
        self.shut()


# no_gc: a request is in no cycle, and its buffers must be there when it gives their memory back.
@cython.final
@cython.no_gc
cdef class BlockRequest:
    cdef BlockLink owner
    cdef Pending* pending           # NULL: over
    cdef list buffers
    cdef bytes cid
    cdef double until
    cdef bint started
    cdef bint waiting

    def __init__(self):
        raise TypeError("requests come from BlockLink.start")

    cdef int take(self, BlockLink owner, bytes cid, list buffers, double until) except -1:
        # From here on nobody finds the memory in the buffers.
        global _requests
        cdef FillingBuffer buffer
        cdef Py_ssize_t i
        self.pending = <Pending*>calloc(1, sizeof(Pending) + len(buffers) * sizeof(Slot))
        if self.pending == NULL:
            raise MemoryError
        _requests += 1
        self.owner = owner
        self.cid = cid
        self.buffers = buffers
        self.until = until
        self.pending.count = <uint32_t>len(buffers)
        for i in range(len(buffers)):
            buffer = buffers[i]
            self.pending.slots[i].data = buffer.data
            self.pending.slots[i].size = <uint32_t>buffer.size
            buffer.data = NULL
        return 0

    cdef void give_back(self) noexcept:
        # The request has left the link's table, or never got there.
        global _requests
        cdef FillingBuffer buffer
        cdef Link* link = self.owner.link
        cdef Py_ssize_t i
        cdef bint mine
        cdef Pending* pending = self.pending
        if pending == NULL:
            return
        self.pending = NULL
        for i in range(len(self.buffers)):
            buffer = self.buffers[i]
            buffer.data = pending.slots[i].data
        mine = True
        if self.started:
            with nogil:
                pthread_mutex_lock(&link.lock)
                mine = pending.done
                pending.abandoned = not mine
                pthread_mutex_unlock(&link.lock)
        if mine:
            free(pending)
        _requests -= 1

    cdef void leave(self) noexcept:
        # Have the receiving thread keep away from the buffers.
        cdef Link* link = self.owner.link
        cdef Pending* pending = self.pending
        if pending == NULL or not self.started:
            return
        with nogil:
            pthread_mutex_lock(&link.lock)
            if not pending.done:
                pending.abandoned = True
                while link.writing == pending:
                    link_wait(link, link_now() + SIGNAL_SLICE_SECONDS)
            pthread_mutex_unlock(&link.lock)

    def __dealloc__(self):
        if self.pending != NULL:
            self.leave()
            self.give_back()

    cdef void send_cancel(self) noexcept:
        cdef uint8_t frame[HEAD_BYTES]
        cdef Link* link = self.owner.link
        head_put(frame, KIND_CANCEL, 0, 0, self.pending.request)
        with nogil:
            if not link_send(link, frame, HEAD_BYTES):
                link_fail(link, FAULT_GONE)

    def cancel(self):
        if self.pending == NULL or self.waiting:
            return
        if not self.pending.done:
            self.send_cancel()
        self.leave()
        self.give_back()

    def wait(self):
        cdef Link* link = self.owner.link
        cdef Pending* pending = self.pending
        cdef bint done = False
        cdef int fault = 0
        cdef double now
        if pending == NULL or self.waiting:
            raise ValueError("this request is over, or somebody waits for it")
        self.waiting = True
        try:
            while not done and fault == 0:
                now = link_now()
                if now >= self.until:
                    break
                with nogil:
                    pthread_mutex_lock(&link.lock)
                    if not pending.done and link.fault == 0:
                        link_wait(link, min(self.until, now + SIGNAL_SLICE_SECONDS))
                    done = pending.done
                    fault = link.fault
                    pthread_mutex_unlock(&link.lock)
                PyErr_CheckSignals()
            if not done:
                if fault:
                    raise self.owner.trouble(fault)
                self.send_cancel()
                raise DeadlineExceeded(f"{self.owner.endpoint}: {self.cid.hex()}: no answer in time")
            return self.harvest()
        finally:
            self.waiting = False
            self.leave()
            self.give_back()

    cdef list harvest(self):
        cdef Pending* pending = self.pending
        cdef FillingBuffer buffer
        cdef SealedBuffer sealed
        cdef Slot* slot
        cdef Py_ssize_t i
        where = f"{self.owner.endpoint}: {self.cid.hex()}"
        if pending.code:
            raise refusal(pending.code, where)
        for i in range(pending.count):
            if pending.slots[i].damaged:
                raise BlockDamaged(f"{where}: block {pending.first + i} was damaged on its way, or is on that disk")
        blocks = []
        for i in range(pending.count):
            slot = &pending.slots[i]
            buffer = self.buffers[i]
            buffer.data = slot.data
            if not slot.filled:
                buffer.release()
                slot.data = NULL
                blocks.append(None)
                continue
            sealed = SealedBuffer.__new__(SealedBuffer)
            sealed.own(buffer.pool, buffer.disown(), slot.size, slot.crcs, slot.crc)
            slot.data = NULL
            blocks.append(sealed)
        return blocks


cdef object refusal(uint32_t code, str where):
    # ERROR codes are those of jindopy.dataplane.frames.
    if code == 4:
        return TicketRefused(f"{where}: the ticket is not for this mount")
    if code == 6 or code == 7:
        return DeadlineExceeded(f"{where}: the server had no time for it")
    if code == 5:
        return BadFrame(f"{where}: the object has no such block")
    return PeerError(f"{where}: the server cannot read its cache")
