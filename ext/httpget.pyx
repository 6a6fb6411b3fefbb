# cython: auto_pickle=False
"""GETs as Python sees them; ``jindopy/_ext/httpget.pyi`` is the contract.

Flow     ``Getter.open`` copies URL and headers and queues a transfer with the crew (``httpcrew``).  Its sink here hands
         the body from libcurl's buffer to whatever memory the reader has given; while there is none the worker waits,
         and TCP holds the server back.  ``Getter.start`` gives the transfer to ``httpblocks`` instead, whose blocks
         need no reader.
Locks    ``Reading.lock``: target and state of one stream; the copy itself happens outside, told by ``writing``.
Lifetime A Reading belongs to its Stream and to the crew until both have let go of it.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EBADF
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, strdup

cimport cython

from jindopy._ext.httpblocks cimport BlockGet
from jindopy._ext.httpcrew cimport (
    OUT_CANCELLED,
    OUT_DEADLINE,
    Transfer,
    crew_cancel,
    crew_close,
    crew_free,
    crew_new,
    crew_start,
    ending_of,
    monotonic,
    transfer_clear,
    transfer_stops,
    wait_until,
)
from jindopy._ext.httphead cimport head_fields
from jindopy._ext.libcurl cimport curl_slist, curl_slist_append
from jindopy._ext.pthreads cimport (
    pthread_cond_destroy,
    pthread_cond_init,
    pthread_cond_signal,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)

from jindopy._ext.httpcrew import Ending  # no-cython-lint: what streams end with

cdef double SLICE_SECONDS = 0.1     # a waiting main thread looks for signals so often
cdef double BURST_SECONDS = 0.1     # what of a rate may be saved up
cdef double GOODBYE_SECONDS = 1.0   # a transfer whose body is there ends within microseconds

cdef Py_ssize_t _alive = 0


def live_counts():
    return {"transfers": _alive}


# --- the sink of a stream, on its worker's thread --------------------------------------------------------------------


cdef int _on_head(Transfer* transfer) noexcept nogil:
    cdef Reading* reading = <Reading*>transfer
    pthread_mutex_lock(&reading.lock)
    reading.head_known = True
    pthread_cond_signal(&reading.news)
    pthread_mutex_unlock(&reading.lock)
    return 0


cdef int _on_body(Transfer* transfer, const char* data, size_t size) noexcept nogil:
    cdef Reading* reading = <Reading*>transfer
    cdef size_t part
    cdef double now
    pthread_mutex_lock(&reading.lock)
    while size:
        while reading.filled >= reading.target_size:
            now = monotonic()
            if transfer_stops(transfer) or now >= transfer.deadline:
                pthread_mutex_unlock(&reading.lock)
                return OUT_CANCELLED if transfer_stops(transfer) else OUT_DEADLINE
            wait_until(&reading.room, &reading.lock, min(transfer.deadline, now + SLICE_SECONDS))
        part = min(size, reading.target_size - reading.filled)
        reading.writing = True
        pthread_mutex_unlock(&reading.lock)
        memcpy(reading.target + reading.filled, data, part)
        pthread_mutex_lock(&reading.lock)
        reading.writing = False
        reading.filled += part
        data += part
        size -= part
        if reading.filled >= reading.target_size:
            pthread_cond_signal(&reading.news)
    pthread_mutex_unlock(&reading.lock)
    return 0


cdef void _release(Reading* reading) noexcept nogil:
    cdef bint last
    pthread_mutex_lock(&reading.lock)
    reading.refs -= 1
    last = reading.refs == 0
    pthread_mutex_unlock(&reading.lock)
    if last:
        transfer_clear(&reading.transfer)
        pthread_cond_destroy(&reading.room)
        pthread_cond_destroy(&reading.news)
        pthread_mutex_destroy(&reading.lock)
        free(reading)


cdef void _on_end(Transfer* transfer) noexcept nogil:
    cdef Reading* reading = <Reading*>transfer
    pthread_mutex_lock(&reading.lock)
    reading.ended = True
    pthread_cond_signal(&reading.news)
    pthread_mutex_unlock(&reading.lock)
    _release(reading)


# --- Python's side ---------------------------------------------------------------------------------------------------


@cython.final
cdef class DownloadLimit:

    def __cinit__(self, double bytes_per_second):
        if not bytes_per_second > 0:
            raise ValueError("a limit is above 0 bytes a second")
        pthread_mutex_init(&self.limit.lock, NULL)
        self.limit.bytes_per_second = bytes_per_second
        self.limit.free_at = monotonic()

    def __init__(self, bytes_per_second):
        pass

    def __dealloc__(self):
        pthread_mutex_destroy(&self.limit.lock)

    def reserve(self, Py_ssize_t byte_count, /):
        cdef double now = monotonic()
        cdef double until
        pthread_mutex_lock(&self.limit.lock)
        until = max(self.limit.free_at, now - BURST_SECONDS) + byte_count / self.limit.bytes_per_second
        self.limit.free_at = until
        pthread_mutex_unlock(&self.limit.lock)
        return max(0.0, until - now)


cdef bytes _plain(str text, str what):
    # Nothing that could end a line of a request early.
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"{what} with characters that no request line may have")
    return text.encode()


cdef int _append(curl_slist** lines, bytes line) except -1:
    cdef curl_slist* longer = curl_slist_append(lines[0], line)
    if longer == NULL:
        raise MemoryError
    lines[0] = longer
    return 0


cdef int _describe(Transfer* transfer, str url, dict headers, double seconds) except -1:
    transfer.url = strdup(_plain(url, "a URL"))
    if transfer.url == NULL:
        raise MemoryError
    for name, value in headers.items():
        # libcurl takes "Name:" as "do not send it"; with a semicolon it sends the empty value.
        line = f"{name}: {value}" if value else f"{name};"
        _append(&transfer.headers, _plain(line, "a header"))
    transfer.deadline = monotonic() + seconds
    return 0


# no_gc, here and below: these refer to strings and to each other in one direction only.
@cython.final
@cython.no_gc
cdef class Getter:

    def __cinit__(self):
        self.crew = NULL

    def __init__(
        self,
        int connections,
        *,
        double connect_seconds,
        double silence_seconds,
        str ca_file="",
        str ca_path="",
        str proxy="",
        str proxy_authorization="",
    ):
        if self.crew != NULL:
            raise ValueError("a Getter is made once")
        if connections < 1:
            raise ValueError("a Getter needs a connection")
        self.crew = crew_new(connections)
        if self.crew == NULL:
            raise MemoryError
        self.crew.connect_seconds = connect_seconds
        self.crew.silence_seconds = silence_seconds
        self.crew.proxy = strdup(_plain(proxy, "a proxy"))
        if ca_file or ca_path:
            self.crew.ca_file = strdup(ca_file.encode())
            self.crew.ca_path = strdup(ca_path.encode()) if ca_path else NULL
        if proxy_authorization:
            _append(
                &self.crew.proxy_headers, _plain(f"Proxy-Authorization: {proxy_authorization}", "a proxy's password")
            )

    def __dealloc__(self):
        if self.crew != NULL:
            with nogil:
                crew_close(self.crew)
                crew_free(self.crew)

    def share(self, DownloadLimit limit not None):
        if self.limit is not None:
            raise ValueError("a Getter keeps to one limit")
        self.limit = limit
        self.crew.limit = &limit.limit

    def open(self, str url, dict headers, double seconds):
        global _alive
        cdef Stream stream = Stream.__new__(Stream)
        cdef Reading* reading = <Reading*>calloc(1, sizeof(Reading))
        cdef int rc
        if reading == NULL:
            raise MemoryError
        pthread_mutex_init(&reading.lock, NULL)
        pthread_cond_init(&reading.room, NULL)
        pthread_cond_init(&reading.news, NULL)
        reading.refs = 1
        reading.transfer.on_head = _on_head
        reading.transfer.on_body = _on_body
        reading.transfer.on_end = _on_end
        stream.reading = reading
        stream.getter = self
        _alive += 1
        _describe(&reading.transfer, url, headers, seconds)
        reading.refs = 2
        rc = crew_start(self.crew, &reading.transfer)
        if rc != 0:
            reading.refs = 1
            reading.ended = True
            _cannot_start(rc)
        return stream

    def start(self, str url, dict headers, double seconds, BlockGet get not None):
        cdef Transfer* transfer = get.ready()
        cdef int rc
        _describe(transfer, url, headers, seconds)
        get.getter = self
        get.begin()
        rc = crew_start(self.crew, transfer)
        if rc != 0:
            get.undo()
            _cannot_start(rc)

    @property
    def connections(self):
        return self.crew.count

    def close(self):
        with nogil:
            crew_close(self.crew)


cdef int _cannot_start(int rc) except -1:
    if rc == EBADF:
        raise ValueError("the Getter is closed")
    raise OSError(rc, "no thread for a connection")


@cython.final
@cython.no_gc
cdef class Stream:

    def __init__(self):
        raise TypeError("streams come from Getter.open")

    def __dealloc__(self):
        global _alive
        if self.reading != NULL:
            _alive -= 1
            if not self.reading.ended:
                crew_cancel(&self.reading.transfer)
            _release(self.reading)

    # Wait until `wanted` bytes are in the target (0: until the headers are there), or the end, or a slice has passed.
    cdef void wait(self, size_t wanted) noexcept nogil:
        cdef Reading* reading = self.reading
        cdef double until = min(monotonic() + SLICE_SECONDS, reading.transfer.deadline)
        pthread_mutex_lock(&reading.lock)
        while not reading.ended and (reading.filled < wanted if wanted else not reading.head_known):
            if monotonic() >= until:
                break
            wait_until(&reading.news, &reading.lock, until)
        pthread_mutex_unlock(&reading.lock)

    cdef void wait_end(self) noexcept nogil:
        cdef Reading* reading = self.reading
        cdef double until = monotonic() + GOODBYE_SECONDS
        pthread_mutex_lock(&reading.lock)
        while not reading.ended and monotonic() < until:
            wait_until(&reading.news, &reading.lock, until)
        pthread_mutex_unlock(&reading.lock)

    def wait_head(self):
        while not self.reading.head_known and not self.reading.ended and not self.late():
            with nogil:
                self.wait(0)
            PyErr_CheckSignals()
        return bool(self.reading.head_known)

    cdef bint late(self) noexcept nogil:
        return monotonic() >= self.reading.transfer.deadline

    @property
    def status(self):
        return self.reading.transfer.head.status if self.reading.head_known else 0

    @property
    def length(self):
        if not self.reading.head_known or self.reading.transfer.head.confused:
            return -1
        return self.reading.transfer.head.length

    @property
    def headers(self):
        return head_fields(&self.reading.transfer.head) if self.reading.head_known else {}

    @property
    def ending(self):
        if self.reading.ended:
            return ending_of(&self.reading.transfer)
        return Ending("deadline", 0, 0, "") if self.late() else None

    def readinto(self, target):
        cdef Reading* reading = self.reading
        cdef unsigned char[::1] view
        cdef size_t filled, size
        if not len(target):
            return 0
        view = target
        size = view.shape[0]
        with nogil:
            pthread_mutex_lock(&reading.lock)
            reading.target = <char*>&view[0]
            reading.target_size = size
            reading.filled = 0
            pthread_cond_signal(&reading.room)
            pthread_mutex_unlock(&reading.lock)
        try:
            while True:
                with nogil:
                    self.wait(size)
                if reading.filled == size or reading.ended or self.late():
                    break
                PyErr_CheckSignals()
        finally:
            with nogil:
                pthread_mutex_lock(&reading.lock)
                reading.target_size = reading.filled
                while reading.writing:
                    wait_until(&reading.news, &reading.lock, monotonic() + SLICE_SECONDS)
                filled = reading.filled
                reading.target = NULL
                reading.target_size = 0
                reading.filled = 0
                pthread_mutex_unlock(&reading.lock)
        self.taken += filled
        if <long long>self.taken == reading.transfer.head.length:
            # So that the connection is free before the caller asks for the next one.
            with nogil:
                self.wait_end()
        return filled

    def close(self):
        if not self.reading.ended:
            crew_cancel(&self.reading.transfer)
