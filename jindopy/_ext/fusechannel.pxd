# C view of ext/fusechannel.pyx: the kernel's side of a mount, as a descriptor that answers are written to.
from libc.stdint cimport uint64_t

from jindopy._ext.fusewire cimport fuse_in_header
from jindopy._ext.pthreads cimport pthread_mutex_t

cdef enum:
    REQUEST_BYTES = 65536       # names, attributes' names, batches of FORGET; a read-only mount has nothing longer
    DATA_BYTES = 1048576        # the largest answer: of a READ


# One message of the kernel.  Lives on the stack of the thread that received it.
cdef struct Request:
    fuse_in_header header
    char* memory            # REQUEST_BYTES
    char* body              # what follows the header; a NUL follows it
    size_t size             # of the body
    Request* next           # of the slow ones


cdef class Channel:
    cdef int fd
    cdef pthread_mutex_t lock
    cdef char* spare[8]
    cdef int spare_count
    cdef Request* slow

    cdef void hang_up(self) noexcept nogil
    # False: the session has ended.
    cdef bint receive(self, Request* request) noexcept nogil
    # `error` is an errno or 0.  False: the kernel did not take it, since whoever asked no longer waits.
    cdef bint reply(self, const Request* request, int error, const void* data, size_t size) noexcept nogil
    # From here to `end_slow` an answer may take long: `interrupt` gives it up when whoever asked is being killed.
    cdef void begin_slow(self, Request* request) noexcept nogil
    cdef void end_slow(self, Request* request) noexcept nogil
    cdef void interrupt(self, const Request* request) noexcept nogil
    # DATA_BYTES of memory that is warm where possible, to be given back; NULL: no memory, or more was asked.
    cdef char* take_data(self, uint64_t size) noexcept nogil
    cdef void give_data(self, char* data) noexcept nogil
    cdef void tell(self, int code, const void* message, size_t size, const char* name, size_t name_size) noexcept nogil
