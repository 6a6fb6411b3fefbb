# C view of ext/httpcrew.pyx: native threads, each with one connection, that carry out transfers.
from jindopy._ext.httphead cimport Head
from jindopy._ext.libcurl cimport CURL, CURLM, curl_slist
from jindopy._ext.linux cimport pthread_t
from jindopy._ext.pthreads cimport pthread_cond_t, pthread_mutex_t

cdef enum Outcome:
    OUT_DONE = 0                # the whole body came
    OUT_CURL = 1                # `code` says what went wrong, `system_error` and `error` more of it
    OUT_CANCELLED = 2
    OUT_DEADLINE = 3
    OUT_SILENT = 4              # nothing came for as long as the crew waits
    OUT_UNWANTED = 5            # the sink did not want this answer, or no more of it
    OUT_HEAD = 6                # more headers than are kept
    OUT_NO_MEMORY = 7


cdef struct Limit:
    pthread_mutex_t lock
    double bytes_per_second     # 0: none
    double free_at


cdef struct Transfer:
    Transfer* next
    Crew* crew
    Worker* worker              # while it runs
    char* url
    curl_slist* headers
    double deadline             # of CLOCK_MONOTONIC
    double moved_at             # when something last came
    bint cancelled              # set by any thread, never cleared
    Head head
    Outcome outcome
    int code
    long system_error
    char error[256]
    # The sink.  on_head: all headers of the final answer are there; on_body: bytes, which may be waited with (that is
    # the back-pressure); both return 0 or the Outcome to end with.  on_end: last touch; the sink frees the transfer.
    int (*on_head)(Transfer* transfer) noexcept nogil
    int (*on_body)(Transfer* transfer, const char* data, size_t size) noexcept nogil
    void (*on_end)(Transfer* transfer) noexcept nogil


cdef struct Worker:
    Crew* crew
    Worker* next                # all of them
    Worker* idle_next
    pthread_t thread
    pthread_cond_t wake
    bint called
    CURLM* multi
    CURL* easy


cdef struct Crew:
    pthread_mutex_t lock
    Transfer* first
    Transfer* last
    Worker* workers
    Worker* idle
    int count
    int count_max
    bint closing
    char* ca_file
    char* ca_path
    char* proxy
    curl_slist* proxy_headers
    double connect_seconds
    double silence_seconds
    Limit* limit

cdef double monotonic() noexcept nogil
# False: the moment came first.
cdef bint wait_until(pthread_cond_t* cond, pthread_mutex_t* lock, double until) noexcept nogil
# How a transfer ended, for Python.
cdef object ending_of(const Transfer* transfer)
cdef Crew* crew_new(int count_max) noexcept nogil
# Queue a transfer; 0, or an errno when no thread could be made (then on_end is never called), or EBADF.
cdef int crew_start(Crew* crew, Transfer* transfer) noexcept nogil
# For sinks that wait: whether to give up.
cdef bint transfer_stops(const Transfer* transfer) noexcept nogil
cdef void crew_cancel(Transfer* transfer) noexcept nogil
# Cancel everything, end all threads.  Every transfer's on_end has been called afterwards.
cdef void crew_close(Crew* crew) noexcept nogil
cdef void crew_free(Crew* crew) noexcept nogil
cdef void transfer_clear(Transfer* transfer) noexcept nogil
