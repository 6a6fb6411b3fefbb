# C view of ext/datalink.pyx: one connection to a data server, its requests, and the thread that receives.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from jindopy._ext.frames cimport Parser
from jindopy._ext.linux cimport pthread_t
from jindopy._ext.pthreads cimport pthread_cond_t, pthread_mutex_t

cdef enum:
    TABLE = 64
    SMALL_BYTES = 65536         # what is thrown away goes here, too
    FAULT_GONE = 1
    FAULT_CLOSED = 2
    FAULT_ANSWER = 3            # an answer to nothing that was asked
    FAULT_REFUSED = 4           # an ERROR for the whole connection


cdef struct Slot:
    unsigned char* data
    uint32_t size
    uint32_t have
    bint answered
    bint filled
    bint damaged
    uint64_t crc
    uint64_t crcs[8]


cdef struct Pending:
    uint64_t request
    uint32_t first
    uint32_t count
    uint32_t answered
    bint done
    bint abandoned
    uint32_t code               # of an ERROR
    Slot slots[1]


cdef struct Link:
    pthread_mutex_t lock
    pthread_mutex_t sending
    pthread_cond_t moved
    pthread_t thread
    int fd
    int fault
    uint64_t last_request
    int limit
    int in_flight
    Pending* table[TABLE]
    Pending* writing            # whose buffer the thread is in
    Pending* current            # whose block is arriving
    Parser parser
    size_t at                   # of `small`, what is not parsed yet
    size_t end
    uint8_t small[SMALL_BYTES]


cdef double link_now() noexcept nogil
# Until something moved, or the moment came.  Lock held.
cdef void link_wait(Link* link, double until) noexcept nogil
cdef void link_fail(Link* link, int fault) noexcept nogil
cdef bint link_send(Link* link, const uint8_t* frame, size_t size) noexcept nogil
# The thread's function; `given` is a Link.
cdef void* link_receive(void* given) noexcept nogil
