# C view of ext/cid.pyx: names of versions.
from libc.stdint cimport uint8_t

# Writes 16 bytes to `cid`.
cdef void cid_of(
    const char* ufs_id, size_t ufs_id_size, const char* key, size_t key_size, const char* token, size_t token_size,
    uint8_t* cid,
) noexcept nogil
