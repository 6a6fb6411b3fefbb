# C view of ext/fuseask.pyx: requests whose answers Python has to find.
from libc.stdint cimport int64_t

from jindopy._ext.fusechannel cimport Channel, Request
from jindopy._ext.inodes cimport InodeTable

# The clock of the table's expiry times.
cdef int64_t clock_ns() noexcept nogil
# What is still to be told: bytes, 0, a negative errno; None: nothing.
cdef object ask(Channel channel, InodeTable table, object handlers, Request* request)
cdef void answer_with(Channel channel, Request* request, object answer) noexcept
