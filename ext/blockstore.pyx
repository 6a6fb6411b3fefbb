# cython: auto_pickle=False
"""The block store as Python sees it; ``jindopy/_ext/blockstore.pyi`` is the contract.

This file checks arguments, takes the tiers' directories, and turns C results into objects and exceptions.  The work is
done, without the GIL, by the modules around it, each of which cimports only those before it:

    blockindex    records of the index as bytes
    blocktable    entries, segments, LRU, sums: memory only
    blockfiles    cache files below one directory
    blockjournal  log and snapshot of one tier
    blockstate    the store's lock, claims, handles, leases
    blockevict    making room
    blockio       reading, checking, writing
    blocklend     files that others read by themselves
    blocksync     durability: sync, snapshots
    blockkeep     recovery, janitor, close
    blockviews    figures and lists as Python objects, checks of what is given

Threads: the store's lock is never held while waiting for the GIL, so it may be taken for a moment with the GIL held;
but no Python object is made or freed meanwhile, because that could collect a CacheFile, whose end needs the lock.
"""

from libc.errno cimport EBADF, EDQUOT, EINVAL, ENOMEM, ENOSPC
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, malloc

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from jindopy._ext.blockevict cimport evict_entry, lease_close
from jindopy._ext.blockfiles cimport CID_PATH_BYTES, file_path
from jindopy._ext.blockio cimport (
    CHECK_ABSENT,
    CHECK_BAD,
    READ_DONE,
    READ_WOULD_BLOCK,
    store_check,
    store_drop,
    store_put,
    store_read,
    store_warm,
)
from jindopy._ext.blockjournal cimport JOURNAL_TOO_NEW
from jindopy._ext.blockkeep cimport store_close, store_recover, store_start
from jindopy._ext.blockstate cimport (
    Counters,
    Store,
    Tier,
    lease_open,
    live_count,
    log_pin,
    store_free,
    store_new,
    tier_flush,
)
from jindopy._ext.blocksync cimport store_sync
from jindopy._ext.blocktable cimport (
    SEGMENT_SHIFT,
    Entry,
    Owner,
    Segment,
    block_bit,
    entry_block_bytes,
    entry_block_pieces,
    entry_blocks,
    entry_segment,
    segment_crcs,
    table_find,
    table_owner,
    table_pin,
)
from jindopy._ext.blockviews cimport list_cids, list_files, stat_one, stat_tier
from jindopy._ext.crc64 cimport crc64_combine
from jindopy._ext.iobuf cimport SealedBuffer
from jindopy._ext.pthreads cimport pthread_mutex_lock, pthread_mutex_unlock

import os
from pathlib import Path

cimport cython

from jindopy._ext.blockviews import FileStat, TierSpec, TierStat  # no-cython-lint: shown to everybody from here
from jindopy._ext.blockviews import ScrubResult, check_specs, lock_directory
from jindopy.base.errors import CacheError, CacheFull, FormatTooNew

cdef enum:
    # 256 TiB: five times the largest object any store takes, and its segment table still is 32 MiB.
    SIZE_MAX_SHIFT = 48
    CID_BYTES = 16


cdef const uint8_t* _cid(object cid) except NULL:
    if not isinstance(cid, bytes) or len(cid) != CID_BYTES:
        raise ValueError("a cid is 16 bytes")
    return <const uint8_t*>PyBytes_AS_STRING(cid)


# no_gc, here and below: a store refers to strings only, so there are no cycles; the collector would clear `owner`
# before a lease is given back to it.
@cython.final
@cython.no_gc
cdef class BlockStore:

    def __cinit__(self):
        self.store = store_new()
        if self.store == NULL:
            raise MemoryError
        live_count(2, 1)

    def __init__(self, tiers, *, double sync_seconds=5.0):
        cdef int level, rc
        if self.names is not None:
            raise ValueError("a BlockStore is made once")
        check_specs(tiers)
        self.names = [spec.name for spec in tiers]
        self.paths = [os.path.abspath(spec.path) for spec in tiers]
        self.store.sync_seconds = sync_seconds
        try:
            for level, spec in enumerate(tiers):
                self.take_tier(level, spec)
            with nogil:
                rc = store_start(self.store)
            self.fail(rc, "janitor")
        except BaseException:
            with nogil:
                store_close(self.store)
            raise

    def __dealloc__(self):
        if self.store != NULL:
            with nogil:
                store_close(self.store)
                store_free(self.store)
            self.store = NULL
            live_count(2, -1)

    cdef void take_tier(self, int level, object spec) except *:
        cdef Tier* tier = &self.store.tiers[level]
        cdef int rc
        path = self.paths[level]
        root = Path(path) / "v1"
        try:
            (root / spec.name).mkdir(mode=0o700, parents=True, exist_ok=True)
            self.store.tier_count = level + 1
            tier.lock_fd = lock_directory(root, path)
            tier.root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            tier.files = os.open(root / spec.name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise CacheError(f"cache directory {path}: {error.strerror}; it must be a directory we may write") from None
        tier.quota_bytes = spec.quota_bytes
        tier.high_bytes = <uint64_t>(spec.quota_bytes * spec.high)
        tier.low_bytes = <uint64_t>(spec.quota_bytes * spec.low)
        tier.min_free_bytes = spec.min_free_bytes
        with nogil:
            rc = store_recover(self.store, level)
        if rc == JOURNAL_TOO_NEW:
            raise FormatTooNew(
                f"cache directory {path} was written by a newer release of jindopy; "
                "upgrade jindopy, or choose another directory"
            )
        self.fail(rc, str(root / "index.log"))

    cdef str file_name(self, const Entry* entry):
        cdef char path[CID_PATH_BYTES]
        file_path(entry.cid, path)
        return os.path.join(self.paths[entry.level], "v1", self.names[entry.level], (<bytes>path).decode())

    cdef int fail(self, int rc, str where) except -1:
        # Raise what a negative errno means.
        if rc >= 0:
            return 0
        if rc == -EBADF:
            raise CacheError("the block store is closed")
        if rc == -ENOMEM:
            raise MemoryError
        if rc == -ENOSPC or rc == -EDQUOT:
            raise CacheFull(f"{where}: no room; raise the quota, free disk space or unpin something")
        raise CacheError(f"{where}: {os.strerror(-rc)}")

    def open(self, cid, uint64_t size, uint64_t owner):
        cdef const uint8_t* raw = _cid(cid)
        cdef CacheFile leased = CacheFile.__new__(CacheFile)
        cdef int rc
        if size >> SIZE_MAX_SHIFT:
            raise ValueError(f"an object of {size} bytes is too large")
        rc = lease_open(self.store, raw, size, owner, &leased.entry)
        if rc == -EINVAL:
            raise ValueError(f"version {cid.hex()} is cached with another size than {size}")
        self.fail(rc, "open")
        leased.owner = self
        return leased

    def peek(self, cid):
        return stat_one(self.store, _cid(cid), self.names)

    def files(self):
        return list_files(self.store, self.names)

    def cids(self, bint pinned=False):
        return list_cids(self.store, pinned)

    cdef Entry* lease_existing(self, bytes cid) except? NULL:
        # A lease on an entry that is there; NULL without an exception when there is none.
        cdef const uint8_t* raw = _cid(cid)
        cdef Entry* entry
        cdef bint closed
        pthread_mutex_lock(&self.store.lock)
        closed = self.store.closed
        entry = NULL if closed else table_find(&self.store.table, raw)
        if entry != NULL:
            entry.leases += 1
            live_count(0, 1)
        pthread_mutex_unlock(&self.store.lock)
        if closed:
            self.fail(-EBADF, "")
        return entry

    def pin(self, cid, bint pinned):
        cdef Entry* entry = self.lease_existing(cid)
        cdef uint64_t until
        cdef int level, rc
        if entry == NULL:
            return False
        with nogil:
            pthread_mutex_lock(&self.store.lock)
            table_pin(&self.store.table, entry, pinned)
            level = entry.level
            until = log_pin(self.store, entry)
            pthread_mutex_unlock(&self.store.lock)
            rc = tier_flush(self.store, level, until)
            lease_close(self.store, entry)
        self.fail(rc, os.path.join(self.paths[level], "v1", "index.log"))
        return True

    def evict(self, cid):
        cdef Entry* entry = self.lease_existing(cid)
        cdef uint64_t freed
        if entry == NULL:
            return 0
        with nogil:
            freed = evict_entry(self.store, entry, False)
            lease_close(self.store, entry)
        return freed

    def owner_bytes(self, uint64_t owner):
        cdef Owner* found
        cdef uint64_t cached_bytes = 0
        cdef uint64_t files = 0
        pthread_mutex_lock(&self.store.lock)
        found = table_owner(&self.store.table, owner, False)
        if found != NULL:
            cached_bytes = found.cached_bytes
            files = found.files
        pthread_mutex_unlock(&self.store.lock)
        return cached_bytes, files

    def stats(self):
        return [stat_tier(self.store, level, self.names[level], self.paths[level]) for level in range(len(self.names))]

    def counters(self):
        cdef Counters counted
        pthread_mutex_lock(&self.store.lock)
        counted = self.store.counters
        pthread_mutex_unlock(&self.store.lock)
        return counted

    def scrub(self, cid):
        cdef Entry* entry = self.lease_existing(cid)
        cdef uint64_t block
        cdef int rc = 0
        checked = 0
        bad = []
        if entry == NULL:
            return ScrubResult(cid, 0, [])
        try:
            for block in range(entry_blocks(entry)):
                with nogil:
                    rc = store_check(self.store, entry, block, True)
                if rc < 0:
                    self.fail(rc, self.file_name(entry))
                if rc != CHECK_ABSENT:
                    checked += 1
                if rc == CHECK_BAD:
                    bad.append(block)
        finally:
            with nogil:
                lease_close(self.store, entry)
        return ScrubResult(cid, checked, bad)

    def sync(self):
        cdef int rc
        with nogil:
            rc = store_sync(self.store)
        self.fail(rc, f"sync of {', '.join(self.paths)}")

    def close(self):
        cdef int rc
        with nogil:
            rc = store_close(self.store)
        self.fail(rc, f"close of {', '.join(self.paths)}")


@cython.final
@cython.no_gc
cdef class CacheFile:

    def __init__(self):
        raise TypeError("CacheFiles come from BlockStore.open")

    def __dealloc__(self):
        if self.entry != NULL:
            with nogil:
                lease_close(self.owner.store, self.entry)
            self.entry = NULL

    cdef Entry* leased(self) except NULL:
        # For methods that keep the GIL: nobody can close the lease meanwhile.
        if self.entry == NULL or self.closing:
            raise ValueError("the lease is closed")
        return self.entry

    cdef Entry* begin(self) except NULL:
        # For methods that release the GIL: a close meanwhile takes effect when the last of them ends.
        cdef Entry* entry = self.leased()
        self.users += 1
        return entry

    cdef void end(self):
        cdef Entry* entry = self.entry
        self.users -= 1
        if self.users == 0 and self.closing:
            self.entry = NULL
            with nogil:
                lease_close(self.owner.store, entry)

    cdef uint64_t block_number(self, object block_index) except? 0:
        cdef Entry* entry = self.leased()
        if not 0 <= block_index < entry_blocks(entry):
            raise ValueError(f"no block {block_index} in an object of {entry.size} bytes")
        return block_index

    @property
    def cid(self):
        return <bytes>self.leased().cid[:CID_BYTES]

    @property
    def size(self):
        return self.leased().size

    @property
    def would_block(self):
        return bool(self.blocked)

    def read(self, uint64_t offset, uint64_t size_bytes, bint nowait=False):
        cdef Entry* entry = self.leased()
        cdef Store* store = self.owner.store
        cdef bytes found
        cdef char* into
        cdef int rc
        self.blocked = False
        if offset >= entry.size or size_bytes == 0:
            return b""
        size_bytes = min(size_bytes, entry.size - offset)
        found = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size_bytes)
        into = PyBytes_AS_STRING(found)
        self.users += 1
        with nogil:
            rc = store_read(store, entry, offset, size_bytes, into, nowait)
        if rc < 0:
            where = self.owner.file_name(entry)
        self.end()
        if rc == READ_DONE:
            return found
        self.blocked = rc == READ_WOULD_BLOCK
        if rc < 0:
            self.owner.fail(rc, where)
        return None

    def missing(self, uint64_t first_block, uint64_t block_count):
        cdef Entry* entry = self.leased()
        cdef uint64_t blocks = entry_blocks(entry)
        cdef uint64_t first = first_block >> SEGMENT_SHIFT
        cdef uint64_t last, index, block
        cdef uint64_t* present
        cdef Segment* segment
        if first_block >= blocks or block_count == 0:
            return []
        block_count = min(block_count, blocks - first_block)
        last = (first_block + block_count - 1) >> SEGMENT_SHIFT
        present = <uint64_t*>malloc((last - first + 1) * sizeof(uint64_t))
        if present == NULL:
            raise MemoryError
        pthread_mutex_lock(&self.owner.store.lock)
        for index in range(first, last + 1):
            segment = entry_segment(entry, index)
            present[index - first] = segment.present if segment != NULL else 0
        pthread_mutex_unlock(&self.owner.store.lock)
        try:
            return [
                block
                for block in range(first_block, first_block + block_count)
                if not present[(block >> SEGMENT_SHIFT) - first] & block_bit(block)
            ]
        finally:
            free(present)

    @property
    def complete(self):
        cdef Entry* entry = self.leased()
        cdef bint complete
        pthread_mutex_lock(&self.owner.store.lock)
        complete = entry.cached_bytes == entry.size
        pthread_mutex_unlock(&self.owner.store.lock)
        return bool(complete)

    def warm(self, uint64_t offset, uint64_t size_bytes):
        cdef Entry* entry = self.begin()
        if offset < entry.size:
            size_bytes = min(size_bytes, entry.size - offset)
            with nogil:
                store_warm(self.owner.store, entry, offset, size_bytes)
        self.end()

    def verify(self, uint64_t first_block, uint64_t block_count):
        cdef Entry* entry = self.begin()
        cdef uint64_t blocks = entry_blocks(entry)
        cdef uint64_t end = blocks if block_count > blocks else min(blocks, first_block + block_count)
        cdef int rc = 0
        with nogil:
            while first_block < end and rc >= 0:
                rc = store_check(self.owner.store, entry, first_block, False)
                first_block += 1
        self.end()

    def put(self, block_index, SealedBuffer block not None):
        cdef uint64_t index = self.block_number(block_index)
        cdef Entry* entry = self.entry
        cdef Store* store = self.owner.store
        cdef const char* data
        cdef size_t size = block.size
        cdef int rc
        if size != entry_block_bytes(entry, index):
            raise ValueError(f"block {index} has {entry_block_bytes(entry, index)} bytes, not {size}")
        data = <const char*>block.borrow()
        self.users += 1
        with nogil:
            rc = store_put(store, entry, index, data, size, block.crcs)
        if rc < 0:
            where = self.owner.file_name(entry)
        block.unborrow()
        self.end()
        if rc < 0:
            self.owner.fail(rc, where)

    def drop(self, block_index):
        cdef uint64_t index = self.block_number(block_index)
        cdef Entry* entry = self.begin()
        cdef int rc
        with nogil:
            rc = store_drop(self.owner.store, entry, index)
        self.end()
        self.owner.fail(rc, "drop")

    def crc64(self):
        cdef Entry* entry = self.leased()
        cdef uint64_t blocks = entry_blocks(entry)
        cdef uint64_t* crcs = <uint64_t*>malloc((blocks + 1) * sizeof(uint64_t))
        cdef uint64_t crc = 0
        cdef uint64_t block, size
        cdef bint complete
        if crcs == NULL:
            raise MemoryError
        size = entry.size
        self.begin()
        with nogil:
            pthread_mutex_lock(&self.owner.store.lock)
            complete = entry.cached_bytes == size
            if complete:
                for block in range(blocks):
                    # The last piece's is the whole block's.
                    crcs[block] = segment_crcs(entry_segment(entry, block >> SEGMENT_SHIFT), block)[
                        entry_block_pieces(entry, block) - 1
                    ]
            pthread_mutex_unlock(&self.owner.store.lock)
            if complete:
                for block in range(blocks):
                    crc = crc64_combine(crc, crcs[block], entry_block_bytes(entry, block))
            free(crcs)
        self.end()
        return crc if complete else None

    def close(self):
        if self.entry == NULL or self.closing:
            return
        self.closing = True
        self.users += 1
        self.end()


def live_counts():
    return {"leases": live_count(0, 0), "descriptors": live_count(1, 0), "stores": live_count(2, 0)}
