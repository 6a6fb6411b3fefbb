# cython: auto_pickle=False
"""Frames of the data plane as bytes (docs/FORMATS.md); no descriptor, no clock, no allocation.

Flow     ``parser_feed`` takes bytes in any cuts and says at what it arrived; small payloads are collected in it, while
         bodies of blocks are only pointed at, so that a client may receive them where they belong (``parser_body``).
Bounds   A frame that announces more than its kind may have is refused by its head, before a byte of it is kept.
Failure  A violation is final: the stream has no frames behind it.  ``jindopy.dataplane.frames`` is the same in plain
         Python, and must agree.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from jindopy._ext.cursor cimport Cursor, cursor_take, cursor_u8, cursor_u16, cursor_u32, cursor_u64

cdef enum:
    HELLO_BYTES = 20            # without the ticket
    MAGIC_BYTES = 8
    WELCOME_BYTES = 8
    BLOCK_MAX = 0x0FFFFFFF      # of 256 TiB, the largest object a store takes

cdef const char* MAGIC = b"JINDODAT"

_FAULTS = {
    0: "", FAULT_KIND: "kind", FAULT_SIZE: "size", FAULT_ZERO: "zero",
    FAULT_ID: "id", FAULT_FIELD: "field", FAULT_ORDER: "order",
}


cdef void put_uint(uint8_t* at, uint64_t value, size_t size) noexcept nogil:
    cdef size_t i
    for i in range(size):
        at[i] = <uint8_t>(value >> (8 * i))


cdef void head_put(uint8_t* at, Kind kind, uint16_t code, uint32_t size, uint64_t request) noexcept nogil:
    put_uint(at, size, 4)
    at[4] = <uint8_t>kind
    at[5] = 0
    put_uint(at + 6, code, 2)
    put_uint(at + 8, request, 8)


cdef void parser_init(Parser* parser, bint server) noexcept nogil:
    memset(parser, 0, sizeof(Parser))
    parser.server = server


cdef bint _kind_fits(const Parser* parser) noexcept nogil:
    if parser.server:
        return parser.kind == KIND_HELLO or parser.kind == KIND_REQUEST or parser.kind == KIND_CANCEL
    return (
        parser.kind == KIND_WELCOME
        or parser.kind == KIND_BLOCK
        or parser.kind == KIND_MISSING
        or parser.kind == KIND_ERROR
    )


cdef bint _size_fits(const Parser* parser) noexcept nogil:
    cdef uint32_t size = parser.size
    if parser.kind == KIND_HELLO:
        return HELLO_BYTES < size <= HELLO_BYTES + TICKET_BYTES_MAX
    if parser.kind == KIND_WELCOME:
        return size == WELCOME_BYTES
    if parser.kind == KIND_REQUEST:
        return size == REQUEST_BYTES
    if parser.kind == KIND_BLOCK:
        return BLOCK_HEAD_BYTES + TRAILER_BYTES < size <= BLOCK_HEAD_BYTES + TRAILER_BYTES + BODY_BYTES_MAX
    if parser.kind == KIND_MISSING:
        return size == MISSING_BYTES
    if parser.kind == KIND_ERROR:
        return size <= TEXT_BYTES_MAX
    return size == 0


cdef int _head(Parser* parser) noexcept nogil:
    cdef Cursor cursor = Cursor(&parser.payload[0], HEAD_BYTES, False)
    cdef uint8_t zero
    parser.size = cursor_u32(&cursor)
    parser.kind = cursor_u8(&cursor)
    zero = cursor_u8(&cursor)
    parser.code = cursor_u16(&cursor)
    parser.request = cursor_u64(&cursor)
    parser.first = 0
    parser.count = 0
    if not _kind_fits(parser):
        return FAULT_KIND
    if not _size_fits(parser):
        return FAULT_SIZE
    if zero or (parser.code != 0) != (parser.kind == KIND_ERROR):
        return FAULT_ZERO
    if parser.kind != KIND_ERROR and (parser.request == 0) != (parser.kind <= KIND_WELCOME):
        return FAULT_ID
    # The first frame greets, or says that it will not; no later one greets.
    if parser.greeted == (parser.kind <= KIND_WELCOME):
        if parser.greeted or parser.kind != KIND_ERROR or parser.request:
            return FAULT_ORDER
    return 0


cdef int _small(Parser* parser) noexcept nogil:
    # The payload of a frame without a body.
    cdef Cursor cursor = Cursor(&parser.payload[0], parser.size, False)
    cdef uint16_t version, oldest
    cdef uint8_t magic[MAGIC_BYTES]
    if parser.kind == KIND_HELLO:
        cursor_take(&cursor, magic, MAGIC_BYTES)
        version = cursor_u16(&cursor)
        oldest = cursor_u16(&cursor)
        parser.first = version
        parser.count = oldest
        if memcmp(magic, MAGIC, MAGIC_BYTES) != 0 or oldest == 0 or version < oldest or cursor_u64(&cursor):
            return FAULT_FIELD
    elif parser.kind == KIND_WELCOME:
        parser.first = cursor_u16(&cursor)
        parser.count = cursor_u16(&cursor)
        if parser.first == 0 or parser.count == 0 or cursor_u32(&cursor):
            return FAULT_FIELD
    elif parser.kind == KIND_REQUEST or parser.kind == KIND_MISSING:
        if parser.kind == KIND_REQUEST:
            cursor.at += 16
            cursor.left -= 16
        parser.first = cursor_u32(&cursor)
        parser.count = cursor_u32(&cursor)
        if not 1 <= parser.count <= COUNT_MAX or parser.first > BLOCK_MAX - parser.count:
            return FAULT_FIELD
        if parser.kind == KIND_REQUEST and (cursor_u32(&cursor) == 0 or cursor_u32(&cursor)):
            return FAULT_FIELD
    return 0


cdef int _block(Parser* parser) noexcept nogil:
    cdef Cursor cursor = Cursor(&parser.payload[0], BLOCK_HEAD_BYTES, False)
    parser.first = cursor_u32(&cursor)
    parser.count = cursor_u32(&cursor)
    parser.body_left = parser.count
    if parser.first >= BLOCK_MAX or parser.count != parser.size - BLOCK_HEAD_BYTES - TRAILER_BYTES:
        return FAULT_FIELD
    return 0


cdef int _trailer(Parser* parser) noexcept nogil:
    cdef Cursor cursor = Cursor(&parser.payload[0], TRAILER_BYTES, False)
    parser.crc = cursor_u64(&cursor)
    parser.block_state = cursor_u32(&cursor)
    if parser.block_state > BLOCK_WITHDRAWN or cursor_u32(&cursor):
        return FAULT_FIELD
    return 0


cdef size_t _wanted(const Parser* parser) noexcept nogil:
    if parser.state == AT_HEAD:
        return HEAD_BYTES
    if parser.state == AT_SMALL:
        return parser.size
    return BLOCK_HEAD_BYTES if parser.state == AT_BLOCK else TRAILER_BYTES


cdef int _complete(Parser* parser) noexcept nogil:
    # All of what the state collects is there: an event, EVENT_MORE to go on, or a fault.
    cdef int fault = 0
    cdef int event = EVENT_MORE
    if parser.state == AT_HEAD:
        fault = _head(parser)
        parser.greeted = True
        parser.state = AT_BLOCK if parser.kind == KIND_BLOCK else AT_SMALL
        if fault == 0 and parser.size == 0:
            parser.state = AT_HEAD
            event = EVENT_FRAME
    elif parser.state == AT_SMALL:
        fault = _small(parser)
        parser.state = AT_HEAD
        event = EVENT_FRAME
    elif parser.state == AT_BLOCK:
        fault = _block(parser)
        parser.state = AT_BODY
        event = EVENT_BLOCK
    else:
        fault = _trailer(parser)
        parser.state = AT_HEAD
        event = EVENT_END
    parser.have = 0
    parser.fault = fault
    return fault if fault else event


cdef void parser_body(Parser* parser, size_t size) noexcept nogil:
    parser.body_left -= <uint32_t>size
    if parser.body_left == 0:
        parser.state = AT_TRAILER


cdef int parser_feed(Parser* parser, const uint8_t* data, size_t size, size_t* used) noexcept nogil:
    cdef size_t part
    cdef int event
    used[0] = 0
    while parser.fault == 0:
        if used[0] == size:
            return EVENT_MORE
        if parser.state == AT_BODY:
            parser.part = min(size - used[0], <size_t>parser.body_left)
            used[0] += parser.part
            parser_body(parser, parser.part)
            return EVENT_BODY
        part = min(size - used[0], _wanted(parser) - parser.have)
        memcpy(parser.payload + parser.have, data + used[0], part)
        parser.have += part
        used[0] += part
        if parser.have == _wanted(parser):
            event = _complete(parser)
            if event != EVENT_MORE:
                return event
    return parser.fault


@cython.final
cdef class FrameParser:
    cdef Parser parser
    cdef bytearray body

    def __init__(self, bint server, bint greeted=False):
        parser_init(&self.parser, server)
        self.parser.greeted = greeted
        self.body = bytearray()

    cdef tuple frame(self):
        # The frame that has just become complete, without a body.
        cdef Parser* parser = &self.parser
        cdef size_t skip = 0
        cdef size_t size = 0
        numbers = ()
        if parser.size:
            if parser.kind == KIND_HELLO:
                numbers = (parser.first, parser.count)
                skip = HELLO_BYTES
                size = parser.size - skip
            elif parser.kind == KIND_ERROR:
                size = parser.size
            else:
                numbers = (parser.first, parser.count)
            if parser.kind == KIND_REQUEST:
                size = 16
                numbers += (parser.payload[24] | parser.payload[25] << 8 | parser.payload[26] << 16
                            | <uint64_t>parser.payload[27] << 24,)
        text = PyBytes_FromStringAndSize(<char*>parser.payload + skip, size)
        return (parser.kind, parser.request, parser.code, numbers, text)

    def feed(self, bytes data not None):
        cdef const uint8_t* at = data
        cdef size_t left = len(data)
        cdef size_t used = 0
        cdef int event = EVENT_FRAME
        cdef Parser* parser = &self.parser
        frames = []
        while event > EVENT_MORE:
            event = parser_feed(parser, at, left, &used)
            at += used
            left -= used
            if event == EVENT_FRAME:
                frames.append(self.frame())
            elif event == EVENT_BLOCK:
                self.body = bytearray()
            elif event == EVENT_BODY:
                self.body += (at - parser.part)[:parser.part]
            elif event == EVENT_END:
                numbers = (parser.first, parser.count, parser.crc, parser.block_state)
                frames.append((parser.kind, parser.request, parser.code, numbers, bytes(self.body)))
        return frames

    @property
    def fault(self):
        return _FAULTS[self.parser.fault]

    @property
    def idle(self):
        return self.parser.state == AT_HEAD and self.parser.have == 0
