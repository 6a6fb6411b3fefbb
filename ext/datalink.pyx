# cython: auto_pickle=False
"""Blocks over one connection, without the GIL: many requests in flight, bytes straight into block buffers.

Flow     Whoever asks sends the REQUEST frame itself; one native thread receives.  It reads no further than a frame's
         head, so bodies land in the buffers of their request, and computes CRCs piece by piece while the bytes are in
         the nearest caches.  A request that got all its answers is done and wakes its waiter.
Bounds   ``requests_max`` requests in flight; one more waits, at most to its deadline.  An answer for no request, of a
         block not asked for or of another length ends the connection.
Given up A request that is cancelled or too late leaves at once, with its buffers: the thread is never in a buffer while
         it waits for bytes (``writing`` says when it is).  Its number stays taken until the server's last answer to it,
         whose bytes are thrown away.
Locks    ``Link.lock``: table of requests, ``writing``, ``fault``; pointer work.  ``Link.sending``: one frame at a time.
Failure  A CRC that differs fails its request, and the connection goes on; all else that is wrong ends it, and with it
         every request.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from jindopy._ext.crc64 cimport crc64_update
from jindopy._ext.frames cimport (
    AT_BODY,
    BLOCK_HEAD_BYTES,
    EVENT_BLOCK,
    EVENT_BODY,
    EVENT_END,
    EVENT_FRAME,
    HEAD_BYTES,
    KIND_ERROR,
    Parser,
    parser_body,
    parser_feed,
)
from jindopy._ext.iobuf cimport PIECE_BYTES, PIECE_SHIFT
from jindopy._ext.linux cimport iovec, pthread_cond_broadcast
from jindopy._ext.pthreads cimport (
    CLOCK_MONOTONIC,
    clock_gettime,
    pthread_cond_clockwait,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    timespec,
)
from jindopy._ext.sockets cimport (
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    POLLIN,
    POLLOUT,
    SHUT_RDWR,
    msghdr,
    poll,
    pollfd,
    recv,
    recvmsg,
    send,
    shutdown,
)

cdef enum:
    AHEAD_BYTES = 40            # a trailer, and head and block head of the frame behind it

cdef double SEND_SECONDS = 30.0     # after which a frame of 48 bytes that does not go out means a dead peer


cdef double link_now() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef void link_wait(Link* link, double until) noexcept nogil:
    # Lock held.
    cdef timespec moment
    moment.tv_sec = <long>until
    moment.tv_nsec = <long>((until - moment.tv_sec) * 1e9)
    pthread_cond_clockwait(&link.moved, &link.lock, CLOCK_MONOTONIC, &moment)


cdef bint _wait_fd(int fd, short events, int timeout_ms) noexcept nogil:
    cdef pollfd waited
    cdef int rc = -1
    waited.fd = fd
    waited.events = events
    while rc < 0:
        rc = poll(&waited, 1, timeout_ms)
        if rc < 0 and errno != EINTR:
            return False
    return rc > 0


cdef void link_fail(Link* link, int fault) noexcept nogil:
    # The connection is at its end.
    pthread_mutex_lock(&link.lock)
    if link.fault == 0:
        link.fault = fault
    shutdown(link.fd, SHUT_RDWR)
    pthread_cond_broadcast(&link.moved)
    pthread_mutex_unlock(&link.lock)


cdef bint link_send(Link* link, const uint8_t* frame, size_t size) noexcept nogil:
    cdef ssize_t sent
    cdef double until = link_now() + SEND_SECONDS
    cdef bint good = True
    pthread_mutex_lock(&link.sending)
    while size and good:
        sent = send(link.fd, frame, size, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent > 0:
            frame += sent
            size -= <size_t>sent
        elif sent < 0 and errno == EAGAIN:
            good = link_now() < until and _wait_fd(link.fd, POLLOUT, <int>(SEND_SECONDS * 1000))
        else:
            good = sent < 0 and errno == EINTR
    pthread_mutex_unlock(&link.sending)
    return good


# --- the thread that receives ----------------------------------------------------------------------------------------


cdef int _index(Link* link, uint64_t request) noexcept nogil:
    cdef int i
    for i in range(TABLE):
        if link.table[i] != NULL and link.table[i].request == request:
            return i
    return -1


cdef void _finish(Link* link, int index) noexcept nogil:
    # The server's last word on a request.  Lock held.
    cdef Pending* pending = link.table[index]
    link.table[index] = NULL
    link.in_flight -= 1
    if pending.abandoned:
        free(pending)
    else:
        pending.done = True
    pthread_cond_broadcast(&link.moved)


cdef Slot* _slot(Pending* pending, uint64_t block) noexcept nogil:
    # NULL: not asked for, or answered before.
    if not pending.first <= block < <uint64_t>pending.first + pending.count:
        return NULL
    cdef Slot* slot = &pending.slots[block - pending.first]
    return NULL if slot.answered else slot


cdef void _digest(Slot* slot, size_t size) noexcept nogil:
    # So many bytes more are in the slot; they do not go beyond a piece.
    slot.crc = crc64_update(slot.crc, slot.data + slot.have, size)
    slot.crcs[slot.have >> PIECE_SHIFT] = slot.crc
    slot.have += <uint32_t>size


cdef Slot* _enter(Link* link) noexcept nogil:
    # The slot of the block that is arriving, which stays until _leave; NULL: nobody wants it.
    cdef Slot* slot = NULL
    pthread_mutex_lock(&link.lock)
    if not link.current.abandoned:
        link.writing = link.current
        slot = &link.current.slots[link.parser.first - link.current.first]
    pthread_mutex_unlock(&link.lock)
    return slot


cdef void _leave(Link* link) noexcept nogil:
    pthread_mutex_lock(&link.lock)
    link.writing = NULL
    if link.current.abandoned:
        pthread_cond_broadcast(&link.moved)
    pthread_mutex_unlock(&link.lock)


cdef int _receive_body(Link* link) noexcept nogil:
    # Some of a body straight to where it belongs, with what is behind it.  Nothing is in `small`.
    cdef Slot* slot = _enter(link)
    cdef iovec parts[2]
    cdef msghdr message
    cdef ssize_t got
    cdef size_t want = link.parser.body_left
    cdef int problem
    if slot == NULL:
        got = recv(link.fd, link.small, min(want, <size_t>SMALL_BYTES), MSG_DONTWAIT)
        problem = errno
        if got > 0:
            parser_body(&link.parser, <size_t>got)
    else:
        want = min(want, PIECE_BYTES - slot.have % PIECE_BYTES)
        parts[0].iov_base = slot.data + slot.have
        parts[0].iov_len = want
        parts[1].iov_base = link.small
        parts[1].iov_len = AHEAD_BYTES
        memset(&message, 0, sizeof(msghdr))
        message.msg_iov = parts
        message.msg_iovlen = 2 if want == link.parser.body_left else 1
        got = recvmsg(link.fd, &message, MSG_DONTWAIT)
        problem = errno
        if got > 0:
            link.at = 0
            link.end = <size_t>got - want if <size_t>got > want else 0
            _digest(slot, <size_t>got - link.end)
            parser_body(&link.parser, <size_t>got - link.end)
        _leave(link)
    if got > 0:
        return 0
    if got == 0 or (problem != EAGAIN and problem != EINTR):
        return FAULT_GONE
    if problem == EAGAIN:
        _wait_fd(link.fd, POLLIN, -1)
    return 0


cdef int _on_block(Link* link) noexcept nogil:
    cdef int rc = FAULT_ANSWER
    cdef Slot* slot
    pthread_mutex_lock(&link.lock)
    cdef int index = _index(link, link.parser.request)
    if index >= 0:
        link.current = link.table[index]
        slot = _slot(link.current, link.parser.first)
        if slot != NULL and slot.size == link.parser.count:
            rc = 0
    pthread_mutex_unlock(&link.lock)
    return rc


cdef void _on_body(Link* link, const uint8_t* data, size_t size) noexcept nogil:
    # A part of a body that came with other frames.
    cdef Slot* slot = _enter(link)
    cdef size_t part
    if slot == NULL:
        return
    while size:
        part = min(size, PIECE_BYTES - slot.have % PIECE_BYTES)
        memcpy(slot.data + slot.have, data, part)
        _digest(slot, part)
        data += part
        size -= part
    _leave(link)


cdef void _on_end(Link* link) noexcept nogil:
    cdef Pending* pending = link.current
    cdef Slot* slot = &pending.slots[link.parser.first - pending.first]
    pthread_mutex_lock(&link.lock)
    slot.answered = True
    slot.filled = link.parser.block_state == 0
    slot.damaged = slot.filled and slot.crc != link.parser.crc
    pending.answered += 1
    link.current = NULL
    if pending.answered == pending.count:
        _finish(link, _index(link, pending.request))
    pthread_mutex_unlock(&link.lock)


cdef int _on_frame(Link* link) noexcept nogil:
    # MISSING or ERROR.
    cdef Parser* parser = &link.parser
    cdef Pending* pending
    cdef Slot* slot
    cdef uint64_t block
    cdef int rc = 0
    if parser.kind == KIND_ERROR and parser.request == 0:
        return FAULT_REFUSED
    pthread_mutex_lock(&link.lock)
    cdef int index = _index(link, parser.request)
    if index < 0:
        rc = FAULT_ANSWER
    elif parser.kind == KIND_ERROR:
        link.table[index].code = parser.code
        _finish(link, index)
    else:
        pending = link.table[index]
        for block in range(parser.first, <uint64_t>parser.first + parser.count):
            slot = _slot(pending, block)
            if slot == NULL:
                rc = FAULT_ANSWER
                break
            slot.answered = True
            pending.answered += 1
        if rc == 0 and pending.answered == pending.count:
            _finish(link, index)
    pthread_mutex_unlock(&link.lock)
    return rc


cdef int _parse(Link* link) noexcept nogil:
    # What is in `small`.
    cdef size_t used = 0
    cdef int event = EVENT_FRAME
    cdef int rc = 0
    while rc == 0 and link.at < link.end:
        event = parser_feed(&link.parser, link.small + link.at, link.end - link.at, &used)
        link.at += used
        if event < 0:
            rc = event
        elif event == EVENT_FRAME:
            rc = _on_frame(link)
        elif event == EVENT_BLOCK:
            rc = _on_block(link)
        elif event == EVENT_BODY:
            _on_body(link, link.small + link.at - link.parser.part, link.parser.part)
        elif event == EVENT_END:
            _on_end(link)
    return rc


cdef void* link_receive(void* given) noexcept nogil:
    cdef Link* link = <Link*>given
    cdef ssize_t got
    cdef int rc = 0
    while rc == 0:
        if link.at < link.end:
            rc = _parse(link)
        elif link.parser.state == AT_BODY:
            rc = _receive_body(link)
        else:
            got = recv(link.fd, link.small, HEAD_BYTES + BLOCK_HEAD_BYTES, MSG_DONTWAIT)
            if got > 0:
                link.at = 0
                link.end = <size_t>got
            elif got == 0 or (errno != EAGAIN and errno != EINTR):
                rc = FAULT_GONE
            else:
                _wait_fd(link.fd, POLLIN, -1)
    link_fail(link, rc)
    return NULL
