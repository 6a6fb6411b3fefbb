"""What goes into and comes out of a block store as Python values; ``blockstore.pyi`` describes them.

Figures and lists are copied as C values under the store's lock and become objects afterwards, because making an object
may run the collector, and with it the end of a lease, which needs the lock.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcpy

from jindopy._ext.blockstate cimport Store, tier_used
from jindopy._ext.blocktable cimport BLOCK_BYTES, ENTRY_PINNED, LEVELS_MAX, Entry, Level, table_find
from jindopy._ext.pthreads cimport pthread_mutex_lock, pthread_mutex_unlock

import contextlib
import fcntl
import os
from typing import NamedTuple

from jindopy.base.errors import CacheBusy


class TierSpec(NamedTuple):
    name: str
    path: str
    quota_bytes: int
    high: float
    low: float
    min_free_bytes: int


class TierStat(NamedTuple):
    name: str
    path: str
    quota_bytes: int
    used_bytes: int
    cached_bytes: int
    pinned_bytes: int
    files: int
    blocks: int
    evicted_bytes: int


class FileStat(NamedTuple):
    cid: bytes
    owner: int
    size: int
    cached_bytes: int
    pinned: bool
    tier: str


class ScrubResult(NamedTuple):
    cid: bytes
    checked_blocks: int
    bad_blocks: list


# What files() and peek() copy under the lock, to make objects of afterwards.
cdef struct Copied:
    uint8_t cid[16]
    uint64_t owner
    uint64_t size
    uint64_t cached_bytes
    uint64_t tick
    int level
    bint pinned


cdef int _older_first(const void* left, const void* right) noexcept nogil:
    cdef uint64_t a = (<const Copied*>left).tick
    cdef uint64_t b = (<const Copied*>right).tick
    return (a > b) - (a < b)


cdef void _copy(const Entry* entry, Copied* copied) noexcept nogil:
    memcpy(copied.cid, entry.cid, 16)
    copied.owner = entry.owner.tag
    copied.size = entry.size
    copied.cached_bytes = entry.cached_bytes
    copied.tick = entry.tick
    copied.level = entry.level
    copied.pinned = entry.flags & ENTRY_PINNED != 0


cdef object _stat(list names, const Copied* copied):
    return FileStat(
        <bytes>copied.cid[:16],
        copied.owner,
        copied.size,
        copied.cached_bytes,
        bool(copied.pinned),
        names[copied.level] if copied.cached_bytes else "",
    )


cdef object stat_one(Store* store, const uint8_t* cid, list names):
    cdef Copied copied
    cdef Entry* entry
    pthread_mutex_lock(&store.lock)
    entry = table_find(&store.table, cid)
    if entry != NULL:
        _copy(entry, &copied)
    pthread_mutex_unlock(&store.lock)
    return _stat(names, &copied) if entry != NULL else None


cdef list list_files(Store* store, list names):
    cdef Copied* copies
    cdef Entry* entry
    cdef size_t count = 0
    cdef size_t i
    with nogil:
        pthread_mutex_lock(&store.lock)
        copies = <Copied*>malloc((store.table.count + 1) * sizeof(Copied))
        if copies != NULL:
            for i in range(store.table.bucket_count):
                entry = store.table.buckets[i]
                while entry != NULL:
                    _copy(entry, &copies[count])
                    count += 1
                    entry = entry.next
        pthread_mutex_unlock(&store.lock)
        if copies != NULL:
            qsort(copies, count, sizeof(Copied), _older_first)
    if copies == NULL:
        raise MemoryError
    try:
        return [_stat(names, &copies[i]) for i in range(count)]
    finally:
        free(copies)


cdef bytes list_cids(Store* store, bint pinned):
    cdef uint8_t* cids
    cdef Entry* entry
    cdef size_t count = 0
    cdef size_t i
    with nogil:
        pthread_mutex_lock(&store.lock)
        cids = <uint8_t*>malloc((store.table.count + 1) * 16)
        for i in range(store.table.bucket_count if cids != NULL else 0):
            entry = store.table.buckets[i]
            while entry != NULL:
                if not pinned or entry.flags & ENTRY_PINNED:
                    memcpy(cids + 16 * count, entry.cid, 16)
                    count += 1
                entry = entry.next
        pthread_mutex_unlock(&store.lock)
    if cids == NULL:
        raise MemoryError
    try:
        return <bytes>cids[:16 * count]
    finally:
        free(cids)


cdef object stat_tier(Store* store, int level, str name, str path):
    cdef Level held
    cdef uint64_t used, evicted, quota
    pthread_mutex_lock(&store.lock)
    held = store.table.levels[level]
    used = tier_used(store, level)
    evicted = store.tiers[level].evicted_bytes
    quota = store.tiers[level].quota_bytes
    pthread_mutex_unlock(&store.lock)
    return TierStat(
        name, path, quota, used, held.cached_bytes, held.pinned_bytes, held.files, held.blocks, evicted
    )


def check_specs(specs):
    if not 1 <= len(specs) <= LEVELS_MAX:
        raise ValueError(f"between 1 and {LEVELS_MAX} tiers, not {len(specs)}")
    for spec in specs:
        if spec.name not in ("MEM", "SSD", "HDD"):
            raise ValueError(f"tier {spec.name!r}: MEM, SSD or HDD")
        if not 0 < spec.low <= spec.high <= 1:
            raise ValueError(f"tier {spec.path}: 0 < low <= high <= 1, not low {spec.low}, high {spec.high}")
        if spec.quota_bytes < BLOCK_BYTES or spec.min_free_bytes < 0:
            raise ValueError(f"tier {spec.path}: the quota is at least one block (1 MiB), the reserve not negative")
    if len({os.path.realpath(spec.path) for spec in specs}) != len(specs):
        raise ValueError("every tier needs a directory of its own")


def lock_directory(root, path):
    """A descriptor that holds the directory, with our pid in the file."""
    fd = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise CacheBusy(
            f"cache directory {path} is in use by process {pid}; stop that one, or choose another directory"
        ) from None
    os.ftruncate(fd, 0)
    # A full disk must not keep a cache from starting: it is the cache that can free it.
    with contextlib.suppress(OSError):
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd
