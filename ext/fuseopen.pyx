# cython: auto_pickle=False
"""Opening files: who reads them from now on, and what that takes.

    passed      a file that is wholly cached and checked is read by the kernel itself (``fusepass``); the next we hear
                of it is that its last program closed it
    kept        any other is read by READ, and the kernel keeps the pages
    by itself   where the kernel or the cache's disk does not allow passing, OPEN is refused once with ENOSYS, after
                which the kernel opens files by itself and their first READ takes them up: a node names one version of
                one file, so nothing has to be said.  That excludes the first two, on the whole mount

Files are found without Python (``fuseknown``), which hears of one when bytes are missing that are read.  While it
fetches neighbours of opened files it asks to be told of all: of those wholly cached at OPEN, of others at their first
READ.

Bounds: FILES_MAX files beside those that are open.  Locks: those of ``fusefiles``.  Failure: what cannot be passed is
kept; bytes found wrong in a file that is being read by the kernel make further opens of it fail with EIO.
"""

from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.errno cimport EIO, ENOMEM, ENOSYS
from libc.stdint cimport uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from jindopy._ext.blockstore cimport CacheFile
from jindopy._ext.blocktable cimport ENTRY_SPOILT, Entry
from jindopy._ext.fusefiles cimport (
    OPEN_KEPT,
    OPEN_PASSED,
    OPEN_UNDECIDED,
    Opening,
    files_add,
    files_close,
    files_decide,
    files_drop,
    files_enter,
    files_leave,
    files_open,
    files_reopen,
    files_shut,
    files_surplus,
)
from jindopy._ext.fusepass cimport pass_begin, pass_end, pass_is_refused
from jindopy._ext.fusewire cimport FOPEN_KEEP_CACHE, JINDO_OPEN_PASSTHROUGH, jindo_open_out

cdef enum:
    # Files kept at hand; the kernel reads on from one that is not kept at the price of finding it again.
    FILES_MAX = 1024


cdef class Opener(Channel):

    def __cinit__(self):
        if files_open(&self.files) < 0:
            raise MemoryError

    def __dealloc__(self):
        files_close(&self.files)

    @property
    def file_count(self):
        return self.files.count

    @property
    def passing(self):
        return bool(self.passes)

    @property
    def pass_error(self):
        return self.refusal

    @property
    def tells(self):
        return bool(self.tells)

    @tells.setter
    def tells(self, bint tells):
        self.tells = tells

    cdef File* enter(self, uint64_t nodeid) noexcept nogil:
        cdef File* file = files_enter(&self.files, nodeid)
        cdef Entry* entry
        cdef bint made = False
        if file != NULL:
            return file
        entry = self.known.lease(nodeid, self.tells)
        if entry == NULL:
            return NULL
        file = files_add(&self.files, nodeid, self.known.blocks.store, entry, NULL, &made)
        if not made:
            self.known.give_back(entry)
        self._trim()
        return file

    cdef void leave(self, File* file) noexcept nogil:
        if files_leave(&self.files, file):
            self._give_back(file)

    cdef void drop(self, uint64_t nodeid) noexcept nogil:
        cdef File* file = files_drop(&self.files, nodeid)
        if file != NULL:
            self._give_back(file)

    cdef void _trim(self) noexcept nogil:
        cdef File* old = files_surplus(&self.files, FILES_MAX, False)
        while old != NULL:
            self._give_back(old)
            old = files_surplus(&self.files, FILES_MAX, False)

    cdef void _give_back(self, File* file) noexcept nogil:
        # Out of the table and unused: end what it holds.
        if file.backing:
            pass_end(self.fd, file.store, file.entry, file.backing)
        if file.leased:
            self.known.give_back(file.entry)
        if file.lease != NULL:
            with gil:
                self.handlers.release(file.nodeid)
                Py_DECREF(<object><PyObject*>file.lease)
        free(file)

    cdef void give_back_all(self) noexcept:
        cdef File* file = files_surplus(&self.files, 0, True)
        while file != NULL:
            self._give_back(file)
            file = files_surplus(&self.files, 0, True)

    # --- without Python

    cdef bint open_known(self, Request* request) noexcept nogil:
        cdef File* file
        if not self.passes:
            self._open_by_itself(request)
            return True
        file = self.enter(request.header.nodeid)
        if file == NULL:
            return False
        self._open_file(request, file)
        self.leave(file)
        return True

    cdef void _open_by_itself(self, Request* request) noexcept nogil:
        cdef jindo_open_out out
        if self.opens_itself:
            self.reply(request, ENOSYS, NULL, 0)
            return
        memset(&out, 0, sizeof(out))
        out.open_flags = FOPEN_KEEP_CACHE
        self.reply(request, 0, &out, sizeof(out))

    cdef void _open_file(self, Request* request, File* file) noexcept nogil:
        cdef Opening opening = files_reopen(&self.files, file)
        cdef jindo_open_out out
        cdef int backing = 0
        memset(&out, 0, sizeof(out))
        if opening == OPEN_UNDECIDED:
            backing = pass_begin(self.fd, file.store, file.entry)
            if pass_is_refused(backing) and not self.passed:
                self.refusal = -backing
                self.passes = False
                self._open_by_itself(request)
                with gil:
                    self.handlers.not_passed(-backing)
                return
            opening = files_decide(
                &self.files, file, OPEN_PASSED if backing > 0 else OPEN_KEPT, backing if backing > 0 else 0
            )
            if backing > 0:
                self.passed = True
                if backing != file.backing:     # another thread was faster
                    pass_end(self.fd, file.store, file.entry, backing)
        if opening == OPEN_PASSED and file.entry.flags & ENTRY_SPOILT:
            self._shut(file)
            self.reply(request, EIO, NULL, 0)
            return
        if opening == OPEN_PASSED:
            out.open_flags = JINDO_OPEN_PASSTHROUGH
            out.backing_id = file.backing
        else:
            out.open_flags = FOPEN_KEEP_CACHE
        if not self.reply(request, 0, &out, sizeof(out)):
            self._shut(file)

    cdef void _shut(self, File* file) noexcept nogil:
        cdef int backing = files_shut(&self.files, file)
        if backing:
            pass_end(self.fd, file.store, file.entry, backing)

    cdef void release(self, Request* request) noexcept nogil:
        cdef File* file = files_enter(&self.files, request.header.nodeid)
        if file != NULL:
            self._shut(file)
            self.leave(file)
        self.reply(request, 0, NULL, 0)

    # --- with Python

    cdef object take_up(self, uint64_t nodeid, File** taken):
        cdef CacheFile lease
        cdef bint made = False
        opened = self.handlers.open(nodeid)
        if isinstance(opened, int):
            return opened
        lease = opened
        taken[0] = files_add(&self.files, nodeid, lease.owner.store, lease.entry, <void*>lease, &made)
        if made:
            Py_INCREF(lease)
        else:
            self.handlers.release(nodeid)
        with nogil:
            self._trim()
        return None if taken[0] != NULL else -ENOMEM

    cdef object make_known(self, File* file):
        if file.lease != NULL:
            return None
        opened = self.handlers.open(file.nodeid)
        if isinstance(opened, int):
            return opened
        if file.lease != NULL:      # another thread was faster
            self.handlers.release(file.nodeid)
            return None
        Py_INCREF(opened)
        file.lease = <void*>opened
        return None

    cdef object ask_open(self, Request* request):
        cdef File* file = NULL
        refused = self.take_up(request.header.nodeid, &file)
        if refused is None:
            with nogil:
                self._open_file(request, file)
                self.leave(file)
        return refused
