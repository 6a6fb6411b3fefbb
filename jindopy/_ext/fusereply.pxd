# C view of ext/fusereply.pyx: what is known of a node, as the kernel wants to be told.  Pure, without the GIL.
from libc.stdint cimport int64_t, uint8_t, uint64_t

from jindopy._ext.fusewire cimport fuse_attr_out, fuse_entry_out
from jindopy._ext.inodes cimport NodeInfo

# `now_ns` and the nodes' expires_ns are of one clock; what has expired is told with 0 seconds.
cdef void entry_fill(fuse_entry_out* out, const NodeInfo* info, int64_t now_ns) noexcept nogil
cdef void absent_fill(fuse_entry_out* out, int64_t valid_ns) noexcept nogil
cdef void attr_fill(fuse_attr_out* out, const NodeInfo* info, int64_t now_ns) noexcept nogil

# One name of a directory at `into`, in READDIR's or READDIRPLUS's form; its length, or 0 when `room` is less.
# `entry` is for READDIRPLUS: NULL for what is not looked up by it (. and ..).
cdef size_t dirent_fill(
    char* into, size_t room, bint plus, const fuse_entry_out* entry,
    uint64_t inode, uint8_t kind, uint64_t cookie, const char* name, size_t name_size
) noexcept nogil
