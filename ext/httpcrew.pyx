"""A crew of native threads, each with one kept connection, that carry out HTTP transfers and never hold the GIL.

Flow     ``crew_start`` queues a transfer; the worker that was busy last takes it (its connection is the warmest), or a
         new one is made while there are fewer than ``count_max``.  libcurl sends, receives, does TLS and proxies;
         head and body go to the transfer's *sink* on the worker's thread, which may check, store, and wait: a sink that
         waits stops its own connection and nothing else.
Bounds   A connection a worker.  Connecting takes at most ``connect_seconds``, names included: a resolver that hangs is
         left to itself.  Silence, before the first byte and between two, ``silence_seconds``; waiting inside a sink is
         not silence.  Everything ends at the transfer's deadline.  ``limit`` is a token bucket of body bytes.
Locks    ``Crew.lock``: queue, idle workers, which worker runs what.  Held for pointer work only.
Failure  A transfer ends with an Outcome, always by ``on_end``.  Nothing is repeated here, but by libcurl what a kept
         connection lost before a byte of the answer.  Redirects are never followed: a signed request is for one host.
"""

from libc.errno cimport EBADF, ENOMEM
from libc.stdlib cimport calloc, free
from libc.string cimport strncpy

from jindopy._ext.httphead cimport HEAD_END, HEAD_NO_MEMORY, head_free, head_line
from jindopy._ext.libcurl cimport (
    CURL_GLOBAL_DEFAULT,
    CURL_HTTP_VERSION_1_1,
    CURLE_OK,
    CURLHEADER_SEPARATE,
    CURLINFO_OS_ERRNO,
    CURLINFO_PRETRANSFER_TIME_T,
    CURLMSG_DONE,
    CURLOPT_BUFFERSIZE,
    CURLOPT_CAINFO,
    CURLOPT_CAPATH,
    CURLOPT_CONNECTTIMEOUT_MS,
    CURLOPT_ERRORBUFFER,
    CURLOPT_HEADERDATA,
    CURLOPT_HEADERFUNCTION,
    CURLOPT_HEADEROPT,
    CURLOPT_HTTP_VERSION,
    CURLOPT_HTTPHEADER,
    CURLOPT_MAXCONNECTS,
    CURLOPT_NOPROXY,
    CURLOPT_NOSIGNAL,
    CURLOPT_PATH_AS_IS,
    CURLOPT_PROTOCOLS_STR,
    CURLOPT_PROXY,
    CURLOPT_PROXYHEADER,
    CURLOPT_QUICK_EXIT,
    CURLOPT_SUPPRESS_CONNECT_HEADERS,
    CURLOPT_URL,
    CURLOPT_USERAGENT,
    CURLOPT_WRITEDATA,
    CURLOPT_WRITEFUNCTION,
    CURLcode,
    CURLMsg,
    curl_easy_cleanup,
    curl_easy_getinfo,
    curl_easy_init,
    curl_easy_reset,
    curl_easy_setopt,
    curl_easy_strerror,
    curl_global_init,
    curl_multi_add_handle,
    curl_multi_cleanup,
    curl_multi_info_read,
    curl_multi_init,
    curl_multi_perform,
    curl_multi_poll,
    curl_multi_remove_handle,
    curl_multi_wakeup,
    curl_off_t,
    curl_slist_free_all,
    curl_version,
)
from jindopy._ext.linux cimport pthread_cond_wait, pthread_create, pthread_join
from jindopy._ext.pthreads cimport (
    CLOCK_MONOTONIC,
    clock_gettime,
    pthread_cond_clockwait,
    pthread_cond_destroy,
    pthread_cond_init,
    pthread_cond_signal,
    pthread_cond_t,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_t,
    pthread_mutex_unlock,
    timespec,
)

from typing import NamedTuple

cdef extern from "<time.h>" nogil:
    int nanosleep(const timespec* span, timespec* left)

cdef enum:
    # libcurl's own buffer, from which a sink copies while it is in the nearest cache.  64 GETs of 4 MiB cost 1.14-1.7
    # CPU-ms each with 64 KiB, 1.47-1.53 with 128, 1.24-1.27 with 256, 2.1-2.5 with its default of 16.
    RECEIVE_BYTES = 131072
    ERROR_BYTES = 256           # CURL_ERROR_SIZE

cdef double POLL_SECONDS_MAX = 1.0
cdef double LIMIT_BURST_SECONDS = 0.1
cdef double LIMIT_SLICE_SECONDS = 0.05

curl_global_init(CURL_GLOBAL_DEFAULT)


_OUTCOMES = ("done", "failed", "cancelled", "deadline", "silent", "unwanted", "head", "memory")


class Ending(NamedTuple):
    outcome: str
    code: int
    system_error: int
    text: str


cdef object ending_of(const Transfer* transfer):
    return Ending(
        _OUTCOMES[<int>transfer.outcome],
        transfer.code,
        transfer.system_error,
        (<bytes>transfer.error).decode("utf-8", "replace"),
    )


def libcurl_version():
    return (<bytes>curl_version()).decode()


cdef bint wait_until(pthread_cond_t* cond, pthread_mutex_t* lock, double until) noexcept nogil:
    cdef timespec moment
    moment.tv_sec = <long>until
    moment.tv_nsec = <long>((until - moment.tv_sec) * 1e9)
    return pthread_cond_clockwait(cond, lock, CLOCK_MONOTONIC, &moment) == 0


cdef double monotonic() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef bint transfer_stops(const Transfer* transfer) noexcept nogil:
    return transfer.cancelled or transfer.crew.closing


cdef void _sleep(double seconds) noexcept nogil:
    cdef timespec span
    span.tv_sec = <long>seconds
    span.tv_nsec = <long>((seconds - span.tv_sec) * 1e9)
    nanosleep(&span, NULL)


# --- one transfer, on its worker's thread ----------------------------------------------------------------------------


cdef bint _may_go_on(Transfer* transfer, int verdict) noexcept nogil:
    if verdict != 0:
        transfer.outcome = <Outcome>verdict
        return False
    return True


cdef size_t _on_header(char* data, size_t unit, size_t count, void* given) noexcept nogil:
    cdef Transfer* transfer = <Transfer*>given
    cdef size_t size = unit * count
    cdef int rc = head_line(&transfer.head, data, size)
    transfer.moved_at = monotonic()
    if rc < 0:
        transfer.outcome = OUT_NO_MEMORY if rc == HEAD_NO_MEMORY else OUT_HEAD
        return 0
    if rc == HEAD_END and transfer.head.complete and not _may_go_on(transfer, transfer.on_head(transfer)):
        return 0
    return size


cdef bint _pay(Transfer* transfer, size_t size) noexcept nogil:
    # Wait for the limit's share of so many bytes.
    cdef Limit* limit = transfer.crew.limit
    cdef double now = monotonic()
    cdef double until
    if limit == NULL or limit.bytes_per_second <= 0:
        return True
    pthread_mutex_lock(&limit.lock)
    limit.free_at = max(limit.free_at, now - LIMIT_BURST_SECONDS) + size / limit.bytes_per_second
    until = limit.free_at
    pthread_mutex_unlock(&limit.lock)
    while now < until:
        if transfer_stops(transfer):
            transfer.outcome = OUT_CANCELLED
            return False
        if now >= transfer.deadline:
            transfer.outcome = OUT_DEADLINE
            return False
        _sleep(min(until - now, LIMIT_SLICE_SECONDS))
        now = monotonic()
    return True


cdef size_t _on_data(char* data, size_t unit, size_t count, void* given) noexcept nogil:
    cdef Transfer* transfer = <Transfer*>given
    cdef size_t size = unit * count
    if not _pay(transfer, size) or not _may_go_on(transfer, transfer.on_body(transfer, data, size)):
        return 0 if size else 1
    transfer.moved_at = monotonic()
    return size


cdef void _set_up(Worker* worker, Transfer* transfer) noexcept nogil:
    cdef Crew* crew = worker.crew
    curl_easy_reset(worker.easy)
    curl_easy_setopt(worker.easy, CURLOPT_URL, transfer.url)
    curl_easy_setopt(worker.easy, CURLOPT_PROTOCOLS_STR, b"http,https")
    curl_easy_setopt(worker.easy, CURLOPT_PATH_AS_IS, <long>1)
    curl_easy_setopt(worker.easy, CURLOPT_HTTP_VERSION, <long>CURL_HTTP_VERSION_1_1)
    curl_easy_setopt(worker.easy, CURLOPT_HTTPHEADER, transfer.headers)
    curl_easy_setopt(worker.easy, CURLOPT_USERAGENT, b"jindopy")
    curl_easy_setopt(worker.easy, CURLOPT_NOSIGNAL, <long>1)
    curl_easy_setopt(worker.easy, CURLOPT_QUICK_EXIT, <long>1)  # never wait for a resolver that hangs
    curl_easy_setopt(worker.easy, CURLOPT_MAXCONNECTS, <long>1)
    curl_easy_setopt(worker.easy, CURLOPT_BUFFERSIZE, <long>RECEIVE_BYTES)
    curl_easy_setopt(worker.easy, CURLOPT_CONNECTTIMEOUT_MS, <long>max(1, <long>(crew.connect_seconds * 1000)))
    curl_easy_setopt(worker.easy, CURLOPT_ERRORBUFFER, <char*>transfer.error)
    curl_easy_setopt(worker.easy, CURLOPT_HEADERFUNCTION, _on_header)
    curl_easy_setopt(worker.easy, CURLOPT_HEADERDATA, <void*>transfer)
    curl_easy_setopt(worker.easy, CURLOPT_WRITEFUNCTION, _on_data)
    curl_easy_setopt(worker.easy, CURLOPT_WRITEDATA, <void*>transfer)
    curl_easy_setopt(worker.easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, <long>1)
    # What the environment says of proxies was looked at by who made the crew; "" is none.
    curl_easy_setopt(worker.easy, CURLOPT_PROXY, crew.proxy)
    curl_easy_setopt(worker.easy, CURLOPT_NOPROXY, b"")
    if crew.proxy_headers != NULL:
        curl_easy_setopt(worker.easy, CURLOPT_HEADEROPT, <long>CURLHEADER_SEPARATE)
        curl_easy_setopt(worker.easy, CURLOPT_PROXYHEADER, crew.proxy_headers)
    if crew.ca_file != NULL:
        curl_easy_setopt(worker.easy, CURLOPT_CAINFO, crew.ca_file)
        curl_easy_setopt(worker.easy, CURLOPT_CAPATH, crew.ca_path)


cdef double _patience(Worker* worker, Transfer* transfer, double began) noexcept nogil:
    # When the silence will have lasted too long.  While connecting, libcurl's own timeout decides.
    cdef curl_off_t connected_us = 0
    if transfer.head.size == 0:
        curl_easy_getinfo(worker.easy, CURLINFO_PRETRANSFER_TIME_T, &connected_us)
        if connected_us == 0:
            return began + 2 * worker.crew.connect_seconds + worker.crew.silence_seconds
        transfer.moved_at = max(transfer.moved_at, began + connected_us * 1e-6)
    return transfer.moved_at + worker.crew.silence_seconds


cdef Outcome _carry_out(Worker* worker, Transfer* transfer) noexcept nogil:
    cdef double began = monotonic()
    cdef double now = began
    cdef double until
    cdef int running = 1
    cdef int left = 0
    cdef CURLMsg* message
    if transfer_stops(transfer):
        return OUT_CANCELLED
    if now >= transfer.deadline:
        return OUT_DEADLINE
    transfer.moved_at = began
    _set_up(worker, transfer)
    if curl_multi_add_handle(worker.multi, worker.easy) != 0:
        return OUT_NO_MEMORY
    transfer.outcome = OUT_DONE
    while True:
        if curl_multi_perform(worker.multi, &running) != 0:
            transfer.outcome = OUT_NO_MEMORY
        if running == 0 or transfer.outcome != OUT_DONE:
            break
        now = monotonic()
        until = min(transfer.deadline, _patience(worker, transfer, began))
        if transfer_stops(transfer):
            transfer.outcome = OUT_CANCELLED
        elif now >= transfer.deadline:
            transfer.outcome = OUT_DEADLINE
        elif now >= until:
            transfer.outcome = OUT_SILENT
        if transfer.outcome != OUT_DONE:
            break
        curl_multi_poll(worker.multi, NULL, 0, <int>(min(until - now, POLL_SECONDS_MAX) * 1000) + 1, NULL)
    if transfer.outcome == OUT_DONE:
        message = curl_multi_info_read(worker.multi, &left)
        if message != NULL and message.msg == CURLMSG_DONE and message.data.result != CURLE_OK:
            transfer.outcome = OUT_CURL
            transfer.code = message.data.result
            curl_easy_getinfo(worker.easy, CURLINFO_OS_ERRNO, &transfer.system_error)
            if not transfer.error[0]:
                strncpy(transfer.error, curl_easy_strerror(<CURLcode>transfer.code), ERROR_BYTES - 1)
    curl_multi_remove_handle(worker.multi, worker.easy)
    return transfer.outcome


cdef void* _work(void* given) noexcept nogil:
    cdef Worker* worker = <Worker*>given
    cdef Crew* crew = worker.crew
    cdef Transfer* transfer
    pthread_mutex_lock(&crew.lock)
    while True:
        while crew.first == NULL and not crew.closing:
            worker.called = False
            worker.idle_next = crew.idle
            crew.idle = worker
            while not worker.called:
                pthread_cond_wait(&worker.wake, &crew.lock)
        transfer = crew.first
        if transfer == NULL:
            break
        crew.first = transfer.next
        if crew.first == NULL:
            crew.last = NULL
        transfer.worker = worker
        pthread_mutex_unlock(&crew.lock)
        transfer.outcome = _carry_out(worker, transfer)
        pthread_mutex_lock(&crew.lock)
        transfer.worker = NULL
        pthread_mutex_unlock(&crew.lock)
        transfer.on_end(transfer)
        pthread_mutex_lock(&crew.lock)
    pthread_mutex_unlock(&crew.lock)
    return NULL


# --- the crew --------------------------------------------------------------------------------------------------------


cdef Crew* crew_new(int count_max) noexcept nogil:
    cdef Crew* crew = <Crew*>calloc(1, sizeof(Crew))
    if crew != NULL:
        pthread_mutex_init(&crew.lock, NULL)
        crew.count_max = count_max
    return crew


cdef void _free_worker(Worker* worker) noexcept nogil:
    if worker.easy != NULL:
        curl_easy_cleanup(worker.easy)
    if worker.multi != NULL:
        curl_multi_cleanup(worker.multi)
    pthread_cond_destroy(&worker.wake)
    free(worker)


cdef int _hire(Crew* crew) noexcept nogil:
    # Lock held.
    cdef Worker* worker = <Worker*>calloc(1, sizeof(Worker))
    cdef int rc
    if worker == NULL:
        return ENOMEM
    pthread_cond_init(&worker.wake, NULL)
    worker.crew = crew
    worker.easy = curl_easy_init()
    worker.multi = curl_multi_init()
    rc = ENOMEM
    if worker.easy != NULL and worker.multi != NULL:
        rc = pthread_create(&worker.thread, NULL, _work, worker)
    if rc != 0:
        _free_worker(worker)
        return rc
    worker.next = crew.workers
    crew.workers = worker
    crew.count += 1
    return 0


cdef void _call(Crew* crew) noexcept nogil:
    # Wake the worker that sat down last.  Lock held.
    cdef Worker* worker = crew.idle
    crew.idle = worker.idle_next
    worker.called = True
    pthread_cond_signal(&worker.wake)


cdef int crew_start(Crew* crew, Transfer* transfer) noexcept nogil:
    cdef int rc = 0
    pthread_mutex_lock(&crew.lock)
    if crew.closing:
        rc = EBADF
    elif crew.idle == NULL and crew.count < crew.count_max:
        rc = _hire(crew)
        if crew.count:
            rc = 0  # fewer threads than wished for is no reason to fail
    if rc == 0:
        transfer.crew = crew
        transfer.next = NULL
        if crew.last == NULL:
            crew.first = transfer
        else:
            crew.last.next = transfer
        crew.last = transfer
        if crew.idle != NULL:
            _call(crew)
    pthread_mutex_unlock(&crew.lock)
    return rc


cdef void crew_cancel(Transfer* transfer) noexcept nogil:
    cdef Crew* crew = transfer.crew
    if crew == NULL:
        return  # never started
    pthread_mutex_lock(&crew.lock)
    transfer.cancelled = True
    if transfer.worker != NULL:
        curl_multi_wakeup(transfer.worker.multi)
    pthread_mutex_unlock(&crew.lock)


cdef void crew_close(Crew* crew) noexcept nogil:
    cdef Worker* worker
    pthread_mutex_lock(&crew.lock)
    crew.closing = True
    while crew.idle != NULL:
        _call(crew)
    worker = crew.workers
    while worker != NULL:
        curl_multi_wakeup(worker.multi)
        worker = worker.next
    pthread_mutex_unlock(&crew.lock)
    while crew.workers != NULL:
        worker = crew.workers
        pthread_join(worker.thread, NULL)
        crew.workers = worker.next
        _free_worker(worker)
    crew.count = 0


cdef void crew_free(Crew* crew) noexcept nogil:
    free(crew.ca_file)
    free(crew.ca_path)
    free(crew.proxy)
    curl_slist_free_all(crew.proxy_headers)
    pthread_mutex_destroy(&crew.lock)
    free(crew)


cdef void transfer_clear(Transfer* transfer) noexcept nogil:
    head_free(&transfer.head)
    free(transfer.url)
    curl_slist_free_all(transfer.headers)
    transfer.url = NULL
    transfer.headers = NULL
