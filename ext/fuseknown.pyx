# cython: auto_pickle=False
"""From a node to the cache entry of its version, without Python: what opening a cached file takes.

The node's path and token come from the inode table, prefix and ufs_id from the mount; their cid finds the entry.  What
is missing of it is for Python to fetch, when it is read.

Bounds: a stack of 10 KiB a call.  Locks: the table's, then the store's, one after the other, a microsecond each.  The
mounts are copied once and never change.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from jindopy._ext.blockevict cimport lease_close
from jindopy._ext.blockstate cimport Store, lease_open
from jindopy._ext.blockstore cimport BlockStore
from jindopy._ext.blocktable cimport Entry
from jindopy._ext.cid cimport cid_of
from jindopy._ext.inodes cimport InodeTable
from jindopy._ext.nodesource cimport NodeSource, tree_source
from jindopy._ext.pthreads cimport pthread_mutex_lock, pthread_mutex_unlock

cdef enum:
    KEY_BYTES_MAX = 4096
    SIZE_MAX_SHIFT = 48     # blockstore's


@cython.final
cdef class KnownFiles:

    def __init__(self, InodeTable table not None, BlockStore blocks not None, mounts):
        cdef Mounted* mounted
        cdef bytes path, prefix, ufs_id
        self.table = table
        self.blocks = blocks
        self.mounts = <Mounted*>calloc(len(mounts) + 1, sizeof(Mounted))
        if self.mounts == NULL:
            raise MemoryError
        for number, path, prefix, ufs_id, owner in mounts:
            mounted = &self.mounts[self.mount_count]
            mounted.id = number
            mounted.owner = owner
            mounted.path_size = len(path) + 1 if path else 0
            mounted.prefix_size = len(prefix)
            mounted.ufs_id_size = len(ufs_id)
            mounted.text = <char*>malloc(len(prefix) + len(ufs_id) + 1)
            if mounted.text == NULL:
                raise MemoryError
            memcpy(mounted.text, <const char*>prefix, len(prefix))
            memcpy(mounted.text + len(prefix), <const char*>ufs_id, len(ufs_id))
            self.mount_count += 1

    def __dealloc__(self):
        cdef size_t i
        for i in range(self.mount_count):
            free(self.mounts[i].text)
        free(self.mounts)

    cdef Mounted* _mount(self, uint32_t number) noexcept nogil:
        cdef size_t i
        for i in range(self.mount_count):
            if self.mounts[i].id == number:
                return &self.mounts[i]
        return NULL

    cdef bint _cid(self, uint64_t nodeid, uint8_t* cid, uint64_t* size, uint64_t* owner) noexcept nogil:
        cdef NodeSource source
        cdef char[KEY_BYTES_MAX] key
        cdef Mounted* mounted
        cdef bint found
        pthread_mutex_lock(&self.table._mutex)
        found = tree_source(&self.table._tree, nodeid, &source)
        pthread_mutex_unlock(&self.table._mutex)
        if not found:
            return False
        mounted = self._mount(source.mount)
        if mounted == NULL or source.path_size < mounted.path_size:
            return False
        source.path += mounted.path_size
        source.path_size -= mounted.path_size
        if mounted.prefix_size + source.path_size > KEY_BYTES_MAX:
            return False
        memcpy(key, mounted.text, mounted.prefix_size)
        memcpy(key + mounted.prefix_size, source.path, source.path_size)
        cid_of(
            mounted.text + mounted.prefix_size, mounted.ufs_id_size, key, mounted.prefix_size + source.path_size,
            source.token, source.token_size, cid
        )
        size[0] = source.size
        owner[0] = mounted.owner
        return True

    cdef Entry* lease(self, uint64_t nodeid, bint absent_only) noexcept nogil:
        cdef uint8_t[16] cid
        cdef uint64_t size, owner
        cdef Store* store = self.blocks.store
        cdef Entry* entry = NULL
        if not self._cid(nodeid, cid, &size, &owner) or size >> SIZE_MAX_SHIFT:
            return NULL
        if lease_open(store, cid, size, owner, &entry) < 0:
            return NULL
        if absent_only and entry.cached_bytes == size:
            lease_close(store, entry)
            return NULL
        return entry

    cdef void give_back(self, Entry* entry) noexcept nogil:
        lease_close(self.blocks.store, entry)

    def cid(self, uint64_t nodeid):
        cdef uint8_t[16] cid
        cdef uint64_t size, owner
        return (<const char*>cid)[:16] if self._cid(nodeid, cid, &size, &owner) else None
