# C view of ext/fusesession.pyx.
from libc.stdint cimport uint64_t

from jindopy._ext.fusechannel cimport Request
from jindopy._ext.fusefiles cimport File
from jindopy._ext.fuseopen cimport Opener
from jindopy._ext.inodes cimport InodeTable
from jindopy._ext.pthreads cimport pthread_cond_t


cdef class Session(Opener):
    cdef InodeTable table
    cdef int receivers          # how many threads receive while nobody waits
    cdef int threads_max
    cdef int threads
    cdef int receiving
    cdef long taken
    cdef pthread_cond_t called   # by a thread that stops receiving, to one that waits to
    cdef int waiting            # threads that neither receive nor answer
    cdef int calls              # for so many of them
    cdef bint over

    cdef bint loop(self, Request* request) noexcept nogil
    cdef void answer_slowly(self, Request* request) noexcept nogil
    cdef bint receive_again(self) noexcept nogil
    cdef bint await_call(self) noexcept nogil
    cdef bint answer(self, Request* request) noexcept nogil
    cdef void init(self, Request* request) noexcept nogil
    cdef bint lookup_known(self, Request* request) noexcept nogil
    cdef bint getattr_known(self, Request* request) noexcept nogil
    cdef bint getxattr_known(self, Request* request) noexcept nogil
    cdef void forget(self, Request* request) noexcept nogil
    cdef void forget_one(self, uint64_t nodeid, uint64_t lookups) noexcept nogil
    cdef bint read_known(self, Request* request) noexcept nogil
    cdef bint read_cached(self, Request* request, File* file) noexcept nogil
    cdef void tell_ahead(self, File* file, uint64_t offset, uint64_t size) noexcept nogil
    cdef object ask_read(self, Request* request)
    cdef void ask_python(self, Request* request) noexcept
