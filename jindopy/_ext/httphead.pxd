# C view of ext/httphead.pyx: the header lines of one answer and what the few that matter say.
from libc.stdint cimport int64_t, uint64_t

cdef enum:
    HEAD_BYTES_MAX = 65536      # real answers have 700 bytes; what has 64 KiB is an attack or a mistake

cdef enum HeadResult:
    HEAD_LINE = 0
    HEAD_END = 1                # the empty line
    HEAD_TOO_LARGE = -1
    HEAD_NO_MEMORY = -2


cdef struct Span:
    size_t at                   # within the head's text
    size_t size                 # 0: no such header


cdef struct Head:
    char* text                  # all lines as they came, NULL before the first
    size_t size
    size_t room
    int status                  # 0: the first line is no HTTP status line
    int64_t length              # Content-Length; -1: none
    Span token                  # ETag without W/ and quotes
    Span content_range
    Span crc_text
    uint64_t crc
    bint has_crc
    bint complete               # the final answer's; what follows it (trailers) is not looked at
    bint confused               # a header that matters came twice with two values, or makes no sense

# A line as it came, with its end.  A status line begins anew: what came before was of an earlier answer (100, a proxy).
cdef int head_line(Head* head, const char* line, size_t size) noexcept nogil
cdef bint head_is(const Head* head, const Span* span, const char* expected, size_t size) noexcept nogil
cdef void head_free(Head* head) noexcept nogil
# Names in lower case; what came more than once is joined by ", ".  Needs the GIL.
cdef dict head_fields(const Head* head)
