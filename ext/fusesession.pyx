# cython: auto_pickle=False
"""The kernel's FUSE requests, answered by threads that need Python only for what is not in memory.

    serve     each thread receives a request, answers it and receives the next.  From memory, without the GIL: LOOKUP
              and GETATTR by the inode table, READ of cached files by the block store, FORGET.  Only of sequential
              reads of larger files Python is told, to have what follows read from disk or fetched
    handlers  everything else is a method of a Python object: names not known yet, blocks not cached, directories,
              links, attributes.  A thread about to call one sees to it first that another receives: one that waits
              for such a call, or a new one (``hire``).  Afterwards it waits itself when enough receive
    OPEN      see ``fuseopen``: most cached files are read by the kernel itself, and no READ comes

Bounds: `threads_max` threads, each with a buffer for requests; when all wait, requests queue in the kernel.
Locks: one for the counts and spare blocks, held for a few instructions; ``Files`` and the table have their own.
Failure: an error of a handler is its errno; ENODEV from the kernel ends the session, whatever ended the mount.
"""

cimport cython
from libc.errno cimport EIO, ENODATA, ENOENT, ENOSYS, EPROTO
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset, strlen, strncmp

from jindopy._ext.blockio cimport READ_DONE, store_covers, store_read
from jindopy._ext.blocktable cimport BLOCK_BYTES
from jindopy._ext.fuseask cimport answer_with, ask, clock_ns
from jindopy._ext.fusechannel cimport REQUEST_BYTES, Request
from jindopy._ext.fusefiles cimport File, file_goes_on
from jindopy._ext.fuseknown cimport KnownFiles
from jindopy._ext.fuseopen cimport Opener
from jindopy._ext.fusereply cimport attr_fill, entry_fill
from jindopy._ext.fusewire cimport (
    FUSE_ASYNC_READ,
    FUSE_BATCH_FORGET,
    FUSE_CACHE_SYMLINKS,
    FUSE_DESTROY,
    FUSE_DO_READDIRPLUS,
    FUSE_FORGET,
    FUSE_GETATTR,
    FUSE_GETXATTR,
    FUSE_INIT,
    FUSE_INTERRUPT,
    FUSE_KERNEL_MINOR_VERSION,
    FUSE_KERNEL_VERSION,
    FUSE_LISTXATTR,
    FUSE_LOOKUP,
    FUSE_MAX_PAGES,
    FUSE_NO_OPEN_SUPPORT,
    FUSE_OPEN,
    FUSE_OPENDIR,
    FUSE_PARALLEL_DIROPS,
    FUSE_READ,
    FUSE_READDIR,
    FUSE_READDIRPLUS,
    FUSE_READDIRPLUS_AUTO,
    FUSE_READLINK,
    FUSE_RELEASE,
    FUSE_RELEASEDIR,
    FUSE_STATFS,
    JINDO_INIT_EXT,
    JINDO_PASSTHROUGH2,
    fuse_attr_out,
    fuse_batch_forget_in,
    fuse_entry_out,
    fuse_forget_in,
    fuse_forget_one,
    fuse_getxattr_in,
    fuse_init_in,
    fuse_read_in,
    jindo_init_out,
)
from jindopy._ext.inodes cimport FOUND, NodeInfo
from jindopy._ext.linux cimport __sync_add_and_fetch, pthread_cond_broadcast
from jindopy._ext.pthreads cimport (
    CLOCK_MONOTONIC,
    clock_gettime,
    pthread_cond_clockwait,
    pthread_cond_destroy,
    pthread_cond_init,
    pthread_cond_signal,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    timespec,
)

cdef enum:
    READ_PAGES_MAX = 256        # DATA_BYTES, in pages as INIT wants it
    MAX_WRITE = 4096            # the least there is; a larger one would demand larger request buffers
    BACKGROUND_MAX = 64         # read-ahead requests the kernel keeps in flight; its own 12 are not enough for a link
    CONGESTED = 48
    ROOT = 1
    IDLE_SECONDS = 10           # after which a thread that nobody called ends

cdef const char* XATTR_PREFIX = b"user.jindo."


@cython.final
cdef class Session:

    def __cinit__(self):
        pthread_cond_init(&self.called, NULL)

    def __init__(self, int fd, KnownFiles known not None, handlers, int receivers, int threads_max, bint passes):
        Opener.__init__(self, fd)
        self.known = known
        self.table = known.table
        self.handlers = handlers
        self.receivers = receivers
        self.threads_max = threads_max
        self.passes = passes

    def __dealloc__(self):
        pthread_cond_destroy(&self.called)

    @property
    def requests(self):
        return self.taken

    def close(self):
        self.give_back_all()
        self.hang_up()

    # --- threads

    def serve(self):
        cdef Request request
        cdef bint ended
        memset(&request, 0, sizeof(Request))
        request.memory = <char*>malloc(REQUEST_BYTES)
        if request.memory == NULL:
            raise MemoryError
        try:
            with nogil:
                ended = self.loop(&request)
        finally:
            free(request.memory)
        return bool(ended)

    cdef bint loop(self, Request* request) noexcept nogil:
        # True: the session has ended; False: enough others receive.
        pthread_mutex_lock(&self.lock)
        self.threads += 1
        self.receiving += 1
        pthread_mutex_unlock(&self.lock)
        while self.receive(request):
            __sync_add_and_fetch(&self.taken, 1)
            if self.answer(request):
                continue
            self.answer_slowly(request)
            if not self.receive_again():
                return False
        pthread_mutex_lock(&self.lock)
        self.receiving -= 1
        self.threads -= 1
        self.over = True
        pthread_cond_broadcast(&self.called)
        pthread_mutex_unlock(&self.lock)
        return True

    cdef void answer_slowly(self, Request* request) noexcept nogil:
        cdef bint hire = False
        pthread_mutex_lock(&self.lock)
        self.receiving -= 1
        if self.receiving == 0 and self.waiting > self.calls:
            self.calls += 1
            pthread_cond_signal(&self.called)
        elif self.receiving == 0:
            hire = self.threads < self.threads_max
        pthread_mutex_unlock(&self.lock)
        self.begin_slow(request)
        with gil:
            if hire:
                self.handlers.hire()
            self.ask_python(request)
        self.end_slow(request)

    cdef bint receive_again(self) noexcept nogil:
        cdef bint again
        pthread_mutex_lock(&self.lock)
        again = self.receiving < self.receivers or self.await_call()
        self.receiving += again
        self.threads -= not again
        pthread_mutex_unlock(&self.lock)
        return again

    cdef bint await_call(self) noexcept nogil:
        # Whether to receive again: somebody stopped, or the session is over, which receiving tells.  Lock held.
        cdef timespec until
        cdef bint called = True
        clock_gettime(CLOCK_MONOTONIC, &until)
        until.tv_sec += IDLE_SECONDS
        self.waiting += 1
        while called and self.calls == 0 and not self.over:
            called = pthread_cond_clockwait(&self.called, &self.lock, CLOCK_MONOTONIC, &until) == 0
        self.waiting -= 1
        if self.calls:
            self.calls -= 1
            return True
        return self.over

    # --- answers from memory

    cdef bint answer(self, Request* request) noexcept nogil:
        # Answer from memory; False: ``ask`` has to.
        cdef uint32_t opcode = request.header.opcode
        if opcode == FUSE_READ:
            return self.read_known(request)
        if opcode == FUSE_LOOKUP:
            return self.lookup_known(request)
        if opcode == FUSE_GETATTR:
            return self.getattr_known(request)
        if opcode == FUSE_FORGET or opcode == FUSE_BATCH_FORGET:
            self.forget(request)
        elif opcode == FUSE_OPEN:
            return self.open_known(request)
        elif opcode == FUSE_RELEASE:
            self.release(request)
        elif opcode == FUSE_GETXATTR:
            return self.getxattr_known(request)
        elif opcode == FUSE_INIT:
            self.init(request)
        elif opcode == FUSE_DESTROY:
            self.reply(request, 0, NULL, 0)
        elif (
            opcode == FUSE_OPENDIR or opcode == FUSE_READDIR or opcode == FUSE_READDIRPLUS or opcode == FUSE_RELEASEDIR
            or opcode == FUSE_READLINK or opcode == FUSE_STATFS or opcode == FUSE_LISTXATTR
        ):
            return False
        elif opcode == FUSE_INTERRUPT:
            self.interrupt(request)
        else:
            # Never asked again, where the kernel can do without; the mount is read-only.
            self.reply(request, ENOSYS, NULL, 0)
        return True

    cdef void init(self, Request* request) noexcept nogil:
        cdef const fuse_init_in* asked = <const fuse_init_in*>request.body
        cdef uint32_t more = 0
        cdef jindo_init_out out
        memset(&out, 0, sizeof(out))
        if request.size < sizeof(uint32_t) * 4 or asked.major != FUSE_KERNEL_VERSION:
            self.reply(request, EPROTO, NULL, 0)
            return
        self.opens_itself = asked.flags & FUSE_NO_OPEN_SUPPORT != 0
        if asked.flags & JINDO_INIT_EXT and request.size >= sizeof(uint32_t) * 5:
            more = (<const uint32_t*>asked)[4]
        self.passes = self.passes and more & JINDO_PASSTHROUGH2 != 0
        out.major = FUSE_KERNEL_VERSION
        out.minor = min(asked.minor, <uint32_t>FUSE_KERNEL_MINOR_VERSION)
        out.max_readahead = asked.max_readahead
        out.flags = asked.flags & (
            FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO
            | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS
        )
        out.max_background = BACKGROUND_MAX
        out.congestion_threshold = CONGESTED
        out.max_write = MAX_WRITE
        out.time_gran = 1
        out.max_pages = <uint16_t>READ_PAGES_MAX
        if self.passes:
            out.flags |= JINDO_INIT_EXT
            out.flags2 = JINDO_PASSTHROUGH2
            out.max_stack_depth = 1
        self.reply(request, 0, &out, sizeof(out))

    cdef bint lookup_known(self, Request* request) noexcept nogil:
        cdef NodeInfo info
        cdef fuse_entry_out out
        cdef int64_t now_ns = clock_ns()
        if self.table.find_child(
            request.header.nodeid, request.body, strlen(request.body), now_ns, True, &info
        ) != FOUND:
            return False
        entry_fill(&out, &info, now_ns)
        if not self.reply(request, 0, &out, sizeof(out)):
            self.table.give_back(info.nodeid, 1)
        return True

    cdef bint getattr_known(self, Request* request) noexcept nogil:
        cdef NodeInfo info
        cdef fuse_attr_out out
        cdef int64_t now_ns = clock_ns()
        if not self.table.find_node(request.header.nodeid, False, &info):
            self.reply(request, ENOENT, NULL, 0)
            return True
        if request.header.nodeid == ROOT and info.expires_ns <= now_ns:
            return False    # no lookup ever refreshes the root
        attr_fill(&out, &info, now_ns)
        self.reply(request, 0, &out, sizeof(out))
        return True

    cdef bint getxattr_known(self, Request* request) noexcept nogil:
        # Tools ask every file for attributes of others (security.*, system.posix_acl_*).
        cdef const char* name = request.body + sizeof(fuse_getxattr_in)
        if request.size <= sizeof(fuse_getxattr_in):
            self.reply(request, EIO, NULL, 0)
            return True
        if strncmp(name, XATTR_PREFIX, strlen(XATTR_PREFIX)) != 0:
            self.reply(request, ENODATA, NULL, 0)
            return True
        return False

    cdef void forget(self, Request* request) noexcept nogil:
        cdef const fuse_forget_one* each
        cdef size_t count, i
        if request.header.opcode == FUSE_FORGET:
            if request.size >= sizeof(fuse_forget_in):
                self.forget_one(request.header.nodeid, (<const fuse_forget_in*>request.body).nlookup)
            return
        if request.size < sizeof(fuse_batch_forget_in):
            return
        count = (<const fuse_batch_forget_in*>request.body).count
        count = min(count, (request.size - sizeof(fuse_batch_forget_in)) // sizeof(fuse_forget_one))
        each = <const fuse_forget_one*>(request.body + sizeof(fuse_batch_forget_in))
        for i in range(count):
            self.forget_one(each[i].nodeid, each[i].nlookup)

    cdef void forget_one(self, uint64_t nodeid, uint64_t lookups) noexcept nogil:
        if self.table.give_back(nodeid, lookups):
            self.drop(nodeid)

    # --- reading

    cdef bint read_known(self, Request* request) noexcept nogil:
        cdef File* file = self.enter(request.header.nodeid)
        cdef bint done
        if file == NULL:
            return False
        done = not (self.tells and file.lease == NULL) and self.read_cached(request, file)
        self.leave(file)
        return done

    cdef bint read_cached(self, Request* request, File* file) noexcept nogil:
        # False: Python has to, because something is missing.
        cdef const fuse_read_in* asked = <const fuse_read_in*>request.body
        cdef bint complete = file.entry.cached_bytes == file.size
        cdef uint64_t size
        cdef bint goes_on
        cdef char* data
        cdef int rc
        if request.size < sizeof(fuse_read_in):
            return False
        if asked.offset >= file.size or asked.size == 0:
            self.reply(request, 0, NULL, 0)
            return True
        size = min(<uint64_t>asked.size, file.size - asked.offset)
        if not complete and not store_covers(file.store, file.entry, asked.offset, size):
            return False
        goes_on = file.size > BLOCK_BYTES and file_goes_on(file, asked.offset, size)
        # From disk before this read waits for it; from the store, which takes longer, once it is answered.
        if goes_on and complete:
            self.tell_ahead(file, asked.offset, size)
        data = self.take_data(size)
        if data == NULL:
            return False
        rc = store_read(file.store, file.entry, asked.offset, size, data, False)
        if rc == READ_DONE:
            self.reply(request, 0, data, size)
        self.give_data(data)
        if goes_on and not complete and rc == READ_DONE:
            self.tell_ahead(file, asked.offset, size)
        return rc == READ_DONE

    cdef void tell_ahead(self, File* file, uint64_t offset, uint64_t size) noexcept nogil:
        with gil:
            try:
                if self.make_known(file) is None:
                    self.handlers.ahead(file.nodeid, offset, size)
            except BaseException as error:
                self.handlers.failed(error)

    cdef object ask_read(self, Request* request):
        cdef const fuse_read_in* asked = <const fuse_read_in*>request.body
        cdef uint64_t nodeid = request.header.nodeid
        cdef File* file
        cdef bint done
        if request.size < sizeof(fuse_read_in):
            return -EIO
        with nogil:
            file = self.enter(nodeid)
        if file == NULL:
            refused = self.take_up(nodeid, &file)
            if refused is not None:
                return refused
        try:
            refused = self.make_known(file)
            if refused is not None:
                return refused
            with nogil:
                done = self.read_cached(request, file)
            return None if done else self.handlers.read(nodeid, asked.offset, asked.size)
        finally:
            self.leave(file)

    # --- the rest

    cdef void ask_python(self, Request* request) noexcept:
        try:
            if request.header.opcode == FUSE_READ:
                answer = self.ask_read(request)
            elif request.header.opcode == FUSE_OPEN:
                answer = self.ask_open(request)
            else:
                answer = ask(self, self.table, self.handlers, request)
        except BaseException as error:
            self.handlers.failed(error)
            answer = -EIO
        answer_with(self, request, answer)
