# cython: auto_pickle=False
"""The kernel's side of a mount: requests are read from one descriptor, answers and notices written to it.

Each message is one read or one write, so any number of threads may use a channel.  What is written carries the number
of the request it answers; 0 stands for a notice that nobody asked for.  Memory for long answers is kept warm: fresh
pages would cost as much as filling them.

A program that is being killed waits for the answer to its request all the same; so one whose answer takes long is given
up, with EINTR, when the kernel says so.

Bounds: DATA_SPARE answers' memory is kept.  Lock: one, for these and the list of slow requests.  Failure: ENODEV,
whatever ended the mount, ends the channel; an answer or notice that the kernel no longer wants is dropped.
"""

from libc.errno cimport EAGAIN, EINTR, ENOENT, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from jindopy._ext.fusewire cimport (
    FUSE_NOTIFY_INVAL_ENTRY,
    FUSE_NOTIFY_INVAL_INODE,
    fuse_in_header,
    fuse_interrupt_in,
    fuse_notify_inval_entry_out,
    fuse_notify_inval_inode_out,
    fuse_out_header,
)
from jindopy._ext.linux cimport close, iovec, read, writev
from jindopy._ext.pthreads cimport (
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)

cdef enum:
    DATA_SPARE = 8


cdef class Channel:

    def __cinit__(self):
        self.fd = -1
        pthread_mutex_init(&self.lock, NULL)

    def __init__(self, int fd):
        self.fd = fd

    cdef void hang_up(self) noexcept nogil:
        if self.fd >= 0:
            close(self.fd)
        self.fd = -1

    def __dealloc__(self):
        cdef int i
        self.hang_up()
        for i in range(self.spare_count):
            free(self.spare[i])
        pthread_mutex_destroy(&self.lock)

    cdef bint receive(self, Request* request) noexcept nogil:
        cdef ssize_t got
        while True:
            got = read(self.fd, request.memory, REQUEST_BYTES)
            if got < 0:
                # ENOENT: the request was interrupted before it was received.
                if errno == EINTR or errno == EAGAIN or errno == ENOENT:
                    continue
                return False
            if got == 0:
                return False
            if got < <ssize_t>sizeof(fuse_in_header):
                continue
            memcpy(&request.header, request.memory, sizeof(fuse_in_header))
            request.body = request.memory + sizeof(fuse_in_header)
            request.size = got - sizeof(fuse_in_header)
            # Names end in NUL already; this is for a message that is not what it should be.
            request.memory[got if got < REQUEST_BYTES else REQUEST_BYTES - 1] = 0
            return True

    cdef bint reply(self, const Request* request, int error, const void* data, size_t size) noexcept nogil:
        cdef fuse_out_header header
        cdef iovec[2] parts
        header.len = <uint32_t>(sizeof(fuse_out_header) + size)
        header.error = -error
        header.unique = request.header.unique
        parts[0].iov_base = &header
        parts[0].iov_len = sizeof(fuse_out_header)
        parts[1].iov_base = <void*>data
        parts[1].iov_len = size
        return writev(self.fd, parts, 2 if size else 1) >= 0

    cdef void begin_slow(self, Request* request) noexcept nogil:
        pthread_mutex_lock(&self.lock)
        request.next = self.slow
        self.slow = request
        pthread_mutex_unlock(&self.lock)

    cdef void end_slow(self, Request* request) noexcept nogil:
        cdef Request** link = &self.slow
        pthread_mutex_lock(&self.lock)
        while link[0] != request:
            link = &link[0].next
        link[0] = request.next
        pthread_mutex_unlock(&self.lock)

    cdef void interrupt(self, const Request* request) noexcept nogil:
        # What is not slow is answered in a moment anyway.  The late answer of what is given up here finds nobody.
        cdef const fuse_interrupt_in* asked = <const fuse_interrupt_in*>request.body
        cdef Request given_up
        cdef Request* each
        if request.size < sizeof(fuse_interrupt_in):
            return
        memset(&given_up, 0, sizeof(given_up))
        given_up.header.unique = asked.unique
        pthread_mutex_lock(&self.lock)
        each = self.slow
        while each != NULL and each.header.unique != asked.unique:
            each = each.next
        pthread_mutex_unlock(&self.lock)
        if each != NULL:
            self.reply(&given_up, EINTR, NULL, 0)

    cdef char* take_data(self, uint64_t size) noexcept nogil:
        cdef char* data = NULL
        if size > DATA_BYTES:
            return NULL
        pthread_mutex_lock(&self.lock)
        if self.spare_count:
            self.spare_count -= 1
            data = self.spare[self.spare_count]
        pthread_mutex_unlock(&self.lock)
        return data if data != NULL else <char*>malloc(DATA_BYTES)

    cdef void give_data(self, char* data) noexcept nogil:
        pthread_mutex_lock(&self.lock)
        if self.spare_count < DATA_SPARE:
            self.spare[self.spare_count] = data
            self.spare_count += 1
            data = NULL
        pthread_mutex_unlock(&self.lock)
        free(data)

    cdef void tell(self, int code, const void* message, size_t size, const char* name, size_t name_size) noexcept nogil:
        cdef fuse_out_header header
        cdef iovec[3] parts
        memset(&header, 0, sizeof(header))
        header.len = <uint32_t>(sizeof(fuse_out_header) + size + name_size)
        header.error = code
        parts[0].iov_base = &header
        parts[0].iov_len = sizeof(fuse_out_header)
        parts[1].iov_base = <void*>message
        parts[1].iov_len = size
        parts[2].iov_base = <void*>name
        parts[2].iov_len = name_size
        writev(self.fd, parts, 3 if name_size else 2)

    def forget_name(self, uint64_t directory, bytes name not None):
        cdef fuse_notify_inval_entry_out message
        cdef const char* text = name
        cdef size_t size = len(name)
        memset(&message, 0, sizeof(message))
        message.parent = directory
        message.namelen = <uint32_t>size
        with nogil:
            self.tell(FUSE_NOTIFY_INVAL_ENTRY, &message, sizeof(message), text, size + 1)

    def forget_content(self, uint64_t nodeid):
        cdef fuse_notify_inval_inode_out message
        memset(&message, 0, sizeof(message))
        message.ino = nodeid
        with nogil:
            self.tell(FUSE_NOTIFY_INVAL_INODE, &message, sizeof(message), NULL, 0)
