# C view of ext/blockstate.pyx: the state of one store, its lock, claims, handles and leases.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from jindopy._ext.blockindex cimport Record
from jindopy._ext.blockjournal cimport Journal
from jindopy._ext.blocktable cimport Entry, Handle, Table
from jindopy._ext.linux cimport pthread_t
from jindopy._ext.pthreads cimport pthread_cond_t, pthread_mutex_t

cdef enum:
    SCRATCH_SPARE = 8


# Somebody writes a block; others who want to write it wait for the end.  Lives on that thread's stack.
cdef struct Claim:
    Entry* entry
    uint64_t block
    Claim* next


cdef struct Counters:
    uint64_t hit_reads
    uint64_t hit_bytes
    uint64_t miss_reads
    uint64_t crc_failures
    uint64_t put_blocks
    uint64_t put_bytes
    uint64_t evicted_bytes
    uint64_t put_refused
    uint64_t io_errors
    uint64_t strays_removed
    uint64_t lent
    uint64_t lent_object_bytes


cdef struct Tier:
    int lock_fd
    int root                    # <path>/v1
    int files                   # <path>/v1/<tier>
    uint64_t quota_bytes
    uint64_t high_bytes
    uint64_t low_bytes
    int64_t min_free_bytes
    uint64_t directory_bytes
    uint64_t reserved_bytes     # of puts in flight
    uint64_t evicted_bytes
    uint32_t evictions          # victims whose space is not free yet
    bint old_layout             # until the first walk is over: files may lie where format 2 had them
    bint restat                 # after another boot: disk_bytes of entries are hearsay
    Journal journal


cdef struct Store:
    pthread_mutex_t lock        # everything below but the journals' insides
    pthread_mutex_t maintenance     # one thread syncs, compacts or walks; taken before all others
    pthread_cond_t moved        # a claim or an eviction ended, or the last operation left
    pthread_cond_t work         # for the janitor
    Table table
    Tier tiers[8]
    int tier_count
    Claim* claims
    Handle* oldest_handle
    Handle* newest_handle
    uint32_t handle_count
    uint32_t handle_limit
    int sink                    # /dev/null; -1: there is none
    char* scratch[8]
    int scratch_count
    Counters counters
    uint64_t lent_bytes         # object bytes of entries with lends
    uint32_t active             # operations inside
    bint closed
    bint poked
    bint janitor_runs
    pthread_t janitor
    double sync_seconds


cdef Store* store_new() noexcept nogil
cdef void store_free(Store* store) noexcept nogil

cdef bint store_enter(Store* store) noexcept nogil
cdef void store_leave(Store* store) noexcept nogil

cdef bint claimed(Store* store, Entry* entry, uint64_t block) noexcept nogil
cdef bint entry_claimed(Store* store, Entry* entry) noexcept nogil
cdef void claim(Store* store, Claim* mine, Entry* entry, uint64_t block) noexcept nogil
cdef void unclaim(Store* store, Claim* mine) noexcept nogil

cdef Handle* handle_take(Store* store, Entry* entry) noexcept nogil
cdef int handle_attach(
    Store* store, Entry* entry, uint32_t generation, bint create, Handle** attached
) noexcept nogil
cdef int handle_untake(Store* store, Handle* handle) noexcept nogil
cdef int handle_detach(Store* store, Entry* entry) noexcept nogil
cdef void descriptor_close(int fd) noexcept nogil

cdef char* scratch_take(Store* store) noexcept nogil
cdef void scratch_give(Store* store, char* buffer) noexcept nogil

cdef void describe(Record* record, Entry* entry, int kind) noexcept nogil
# Makes the record of a PUT that of one block.
cdef void describe_block(Record* record, Entry* entry, uint64_t block, const uint64_t* crcs) noexcept nogil
cdef uint64_t log_put(Store* store, Entry* entry, uint64_t block, const uint64_t* crcs) noexcept nogil
cdef uint64_t log_drop(Store* store, Entry* entry, uint64_t first, uint64_t count) noexcept nogil
cdef uint64_t log_pin(Store* store, Entry* entry) noexcept nogil
cdef uint64_t forget(Store* store, Entry* entry, uint64_t first, uint64_t count) noexcept nogil
# The same for blocks whose bytes are wrong: nobody is sent to a lent file of theirs any more.
cdef uint64_t forget_damaged(Store* store, Entry* entry, uint64_t first, uint64_t count) noexcept nogil
cdef int tier_flush(Store* store, int level, uint64_t until) noexcept nogil
cdef uint64_t tier_used(Store* store, int level) noexcept nogil

cdef int lease_open(
    Store* store, const uint8_t* cid, uint64_t size, uint64_t owner, Entry** leased
) noexcept nogil

cdef long live_count(int which, long change) noexcept nogil
