# C view of ext/httpget.pyx.
from jindopy._ext.httpcrew cimport Crew, Limit, Transfer
from jindopy._ext.pthreads cimport pthread_cond_t, pthread_mutex_t


cdef struct Reading:
    Transfer transfer           # first: the crew's pointer is ours
    pthread_mutex_t lock
    pthread_cond_t room         # the reader gave a target, or went
    pthread_cond_t news         # headers, a full target, the end
    char* target
    size_t target_size
    size_t filled
    bint writing                # the worker copies into the target right now
    bint head_known
    bint ended
    int refs                    # the Stream and the crew


cdef class DownloadLimit:
    cdef Limit limit


cdef class Getter:
    cdef Crew* crew
    cdef DownloadLimit limit


cdef class Stream:
    cdef Getter getter
    cdef Reading* reading
    cdef size_t taken

    cdef bint late(self) noexcept nogil
    cdef void wait(self, size_t wanted) noexcept nogil
    cdef void wait_end(self) noexcept nogil
