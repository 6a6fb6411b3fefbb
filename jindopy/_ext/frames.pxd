# C view of ext/frames.pyx: frames of the data plane as bytes.  Pure, without the GIL.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    VERSION = 1
    HEAD_BYTES = 16
    BLOCK_HEAD_BYTES = 8
    TRAILER_BYTES = 16
    REQUEST_BYTES = 32
    MISSING_BYTES = 8
    BODY_BYTES_MAX = 1048576    # a block
    SMALL_BYTES_MAX = 2068      # the largest payload that is no block: HELLO with the longest ticket
    TICKET_BYTES_MAX = 2048
    TEXT_BYTES_MAX = 512
    COUNT_MAX = 256             # blocks a request: an extent

cdef enum Kind:
    KIND_HELLO = 1
    KIND_WELCOME = 2
    KIND_REQUEST = 3
    KIND_BLOCK = 4
    KIND_MISSING = 5
    KIND_ERROR = 6
    KIND_CANCEL = 7

cdef enum BlockState:
    BLOCK_GOOD = 0
    BLOCK_WITHDRAWN = 1         # evicted while it was sent: its bytes are nothing

# What parser_feed met; negative: a FrameFault, after which the parser says nothing else.
cdef enum Event:
    EVENT_MORE = 0              # all given was taken, nothing is complete
    EVENT_FRAME = 1             # a frame without a body; its payload is at parser.payload until the next call
    EVENT_BLOCK = 2             # a block's body begins
    EVENT_BODY = 3              # the last `part` of the bytes taken are body
    EVENT_END = 4               # the block's trailer is there

cdef enum FrameFault:
    FAULT_KIND = -1
    FAULT_SIZE = -2
    FAULT_ZERO = -3
    FAULT_ID = -4
    FAULT_FIELD = -5
    FAULT_ORDER = -6

cdef enum ParserState:
    AT_HEAD
    AT_SMALL
    AT_BLOCK
    AT_BODY
    AT_TRAILER


cdef struct Parser:
    bint server                 # reads what clients send
    bint greeted                # the first frame was there
    int fault
    ParserState state
    size_t have                 # of what `state` collects, in `payload`
    uint8_t kind
    uint16_t code
    uint32_t size
    uint64_t request
    uint32_t first
    uint32_t count              # REQUEST, MISSING: blocks; BLOCK: bytes of the body
    uint32_t body_left
    size_t part
    uint64_t crc
    uint32_t block_state
    uint8_t payload[2068]


cdef void parser_init(Parser* parser, bint server) noexcept nogil
cdef int parser_feed(Parser* parser, const uint8_t* data, size_t size, size_t* used) noexcept nogil
# So many bytes of the body came straight into somebody's memory.
cdef void parser_body(Parser* parser, size_t size) noexcept nogil

cdef void put_uint(uint8_t* at, uint64_t value, size_t size) noexcept nogil
cdef void head_put(uint8_t* at, Kind kind, uint16_t code, uint32_t size, uint64_t request) noexcept nogil
