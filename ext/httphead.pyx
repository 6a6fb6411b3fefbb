"""Header lines of one HTTP answer: kept as they came, and the few that matter understood while they come.

libcurl cuts the stream into lines; what a line means is decided here, so this is the part to be given garbage (the
tests do).  No allocation but for the text itself, which is bounded; nothing here owns a descriptor or a thread.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy

cdef enum:
    FIRST_ROOM = 2048
    LENGTH_DIGITS_MAX = 18  # below 2**63
    CRC_DIGITS_MAX = 20


cdef inline char lower(char letter) noexcept nogil:
    return <char>(letter + 32) if c"A" <= letter <= c"Z" else letter


cdef inline bint blank(char letter) noexcept nogil:
    return letter == c" " or letter == c"\t" or letter == c"\r" or letter == c"\n"


cdef bint _named(const char* line, size_t size, const char* name, size_t name_size) noexcept nogil:
    cdef size_t at
    if size != name_size:
        return False
    for at in range(size):
        if lower(line[at]) != name[at]:
            return False
    return True


cdef int _number(const char* text, size_t size, size_t digits_max, uint64_t* value) noexcept nogil:
    # Decimal digits and nothing else; 0 or -1.
    cdef uint64_t found = 0
    cdef uint64_t digit
    cdef size_t at
    if not 0 < size <= digits_max:
        return -1
    for at in range(size):
        if not c"0" <= text[at] <= c"9":
            return -1
        digit = <uint64_t>(text[at] - c"0")
        if found > (<uint64_t>-1 - digit) // 10:
            return -1
        found = found * 10 + digit
    value[0] = found
    return 0


cdef void _keep(Head* head, Span* span, size_t at, size_t size) noexcept nogil:
    if span.size and not head_is(head, span, head.text + at, size):
        head.confused = True
    span.at = at
    span.size = size


cdef void _understand(Head* head, size_t begin, size_t end) noexcept nogil:
    # One field, already in the text.
    cdef const char* text = head.text
    cdef size_t colon = begin
    cdef size_t at, name_size
    cdef uint64_t number = 0
    while colon < end and text[colon] != c":":
        colon += 1
    if colon == end:
        return
    name_size = colon - begin
    at = colon + 1
    while at < end and blank(text[at]):
        at += 1
    while end > at and blank(text[end - 1]):
        end -= 1
    if _named(text + begin, name_size, b"content-length", 14):
        if _number(text + at, end - at, LENGTH_DIGITS_MAX, &number) < 0:
            head.confused = True
            return
        if head.length >= 0 and head.length != <int64_t>number:
            head.confused = True
        head.length = <int64_t>number
    elif _named(text + begin, name_size, b"etag", 4):
        if end - at >= 2 and text[at] == c"W" and text[at + 1] == c"/":
            at += 2
        while at < end and text[at] == c'"':
            at += 1
        while end > at and text[end - 1] == c'"':
            end -= 1
        _keep(head, &head.token, at, end - at)
    elif _named(text + begin, name_size, b"content-range", 13):
        _keep(head, &head.content_range, at, end - at)
    elif _named(text + begin, name_size, b"x-oss-hash-crc64ecma", 20):
        _keep(head, &head.crc_text, at, end - at)
        head.has_crc = _number(text + at, end - at, CRC_DIGITS_MAX, &head.crc) == 0


cdef void _begin(Head* head) noexcept nogil:
    head.size = 0
    head.status = 0
    head.length = -1
    head.token.size = 0
    head.content_range.size = 0
    head.crc_text.size = 0
    head.has_crc = False
    head.complete = False
    head.confused = False


cdef int _status(const char* line, size_t size) noexcept nogil:
    # "HTTP/1.1 206 Partial Content" → 206
    cdef size_t at = 5
    cdef int digit, status = 0
    while at < size and line[at] != c" ":
        at += 1
    if at + 4 > size:
        return 0
    for digit in range(1, 4):
        if not c"0" <= line[at + digit] <= c"9":
            return 0
        status = status * 10 + (line[at + digit] - c"0")
    return status


cdef int head_line(Head* head, const char* line, size_t size) noexcept nogil:
    cdef size_t begin, room
    cdef char* moved
    cdef bint first = size >= 5 and memcmp(line, b"HTTP/", 5) == 0
    if head.complete:
        return HEAD_LINE
    if first or head.text == NULL:
        _begin(head)
    if head.size + size > HEAD_BYTES_MAX:
        return HEAD_TOO_LARGE
    if head.size + size > head.room:
        room = max(head.size + size, <size_t>FIRST_ROOM, 2 * head.room)
        moved = <char*>realloc(head.text, room)
        if moved == NULL:
            return HEAD_NO_MEMORY
        head.text = moved
        head.room = room
    begin = head.size
    memcpy(head.text + begin, line, size)
    head.size += size
    if first:
        head.status = _status(line, size)
        return HEAD_LINE
    if size == 0 or line[0] == c"\r" or line[0] == c"\n":
        head.complete = head.status >= 200  # 1xx are followed by the real answer
        return HEAD_END
    _understand(head, begin, head.size)
    return HEAD_LINE


cdef bint head_is(const Head* head, const Span* span, const char* expected, size_t size) noexcept nogil:
    return span.size == size and memcmp(head.text + span.at, expected, size) == 0


cdef void head_free(Head* head) noexcept nogil:
    free(head.text)
    head.text = NULL
    head.size = 0
    head.room = 0


cdef dict head_fields(const Head* head):
    cdef dict fields = {}
    for line in (<bytes>head.text[:head.size]).decode("latin-1").split("\n")[1:]:
        name, colon, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        if colon and name:
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def parse_head(list lines):
    cdef Head head
    cdef int rc = HEAD_LINE
    cdef bytes line
    head.text = NULL
    head.room = 0
    _begin(&head)
    try:
        for line in lines:
            rc = head_line(&head, line, len(line))
            if rc < 0:
                return None
        if head.text == NULL:
            return 0, -1, b"", b"", None, False, {}
        return (
            head.status,
            head.length,
            <bytes>head.text[head.token.at:head.token.at + head.token.size] if head.token.size else b"",
            <bytes>head.text[head.content_range.at:head.content_range.at + head.content_range.size]
            if head.content_range.size
            else b"",
            head.crc if head.has_crc else None,
            bool(head.confused),
            head_fields(&head),
        )
    finally:
        head_free(&head)
