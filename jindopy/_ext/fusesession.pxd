# C view of ext/fusesession.pyx.
from libc.stdint cimport uint64_t

from jindopy._ext.fusechannel cimport Channel, Request
from jindopy._ext.fusefiles cimport File, Files
from jindopy._ext.inodes cimport InodeTable


cdef class Session(Channel):
    cdef InodeTable table
    cdef object handlers
    cdef Files files
    cdef int receivers          # how many threads receive while nobody waits
    cdef int threads_max
    cdef int threads
    cdef int receiving
    cdef long taken
    cdef bint opens_itself      # the kernel can do without OPEN

    cdef bint loop(self, Request* request) noexcept nogil
    cdef void answer_slowly(self, Request* request) noexcept nogil
    cdef bint receive_again(self) noexcept nogil
    cdef bint answer(self, Request* request) noexcept nogil
    cdef void init(self, Request* request) noexcept nogil
    cdef void open(self, Request* request) noexcept nogil
    cdef bint lookup_known(self, Request* request) noexcept nogil
    cdef bint getattr_known(self, Request* request) noexcept nogil
    cdef bint getxattr_known(self, Request* request) noexcept nogil
    cdef void forget(self, Request* request) noexcept nogil
    cdef void forget_one(self, uint64_t nodeid, uint64_t lookups) noexcept nogil
    cdef bint read_known(self, Request* request) noexcept nogil
    cdef bint read_cached(self, Request* request, File* file) noexcept nogil
    cdef void tell_ahead(self, File* file, uint64_t offset, uint64_t size) noexcept nogil
    cdef void leave(self, File* file) noexcept nogil
    cdef void give_back(self, File* file) noexcept
    cdef object ask_read(self, Request* request)
    cdef void ask_python(self, Request* request) noexcept
