"""What is known of a node, as the kernel wants to be told (structures of <linux/fuse.h>): a codec without I/O.

The number by which the kernel asks (``nodeid``) and the one that programs see (``st_ino``) are two: a changed object
keeps its inode number and gets another node.  How long an answer may be kept is what is left of its directory's
metadata TTL.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from jindopy._ext.fusewire cimport (
    FUSE_NAME_OFFSET,
    FUSE_NAME_OFFSET_DIRENTPLUS,
    FUSE_REC_ALIGN,
    fuse_attr,
    fuse_attr_out,
    fuse_dirent,
    fuse_entry_out,
)
from jindopy._ext.inodes cimport NodeInfo

cdef enum:
    SECTOR_BYTES = 512      # unit of st_blocks
    # What stat shows as the best size of a request: a block of ours.
    PREFERRED_BYTES = 1048576

cdef int64_t SECOND_NS = 1000000000

# st_mode >> 12 by base.ident.Kind, which is also what getdents calls d_type.
cdef uint32_t[4] TYPES = [0o10, 0o04, 0o12, 0]


cdef void _validity(int64_t left_ns, uint64_t* seconds, uint32_t* nanoseconds) noexcept nogil:
    left_ns = max(left_ns, <int64_t>0)
    seconds[0] = <uint64_t>(left_ns // SECOND_NS)
    nanoseconds[0] = <uint32_t>(left_ns % SECOND_NS)


cdef void _attr(fuse_attr* out, const NodeInfo* info) noexcept nogil:
    cdef int64_t seconds = info.mtime_ns // SECOND_NS
    cdef int64_t rest = info.mtime_ns % SECOND_NS
    if rest < 0:        # C rounds towards zero
        rest += SECOND_NS
        seconds -= 1
    out.ino = info.inode
    out.size = info.size
    out.blocks = (info.size + SECTOR_BYTES - 1) // SECTOR_BYTES
    out.atime = out.mtime = out.ctime = <uint64_t>seconds
    out.atimensec = out.mtimensec = out.ctimensec = <uint32_t>rest
    out.mode = TYPES[info.kind & 3] << 12 | info.perm
    out.nlink = info.nlink
    out.uid = info.uid
    out.gid = info.gid
    out.blksize = PREFERRED_BYTES


cdef void entry_fill(fuse_entry_out* out, const NodeInfo* info, int64_t now_ns) noexcept nogil:
    memset(out, 0, sizeof(fuse_entry_out))
    out.nodeid = info.nodeid
    _validity(info.expires_ns - now_ns, &out.entry_valid, &out.entry_valid_nsec)
    out.attr_valid = out.entry_valid
    out.attr_valid_nsec = out.entry_valid_nsec
    _attr(&out.attr, info)


cdef void absent_fill(fuse_entry_out* out, int64_t valid_ns) noexcept nogil:
    # Node 0: there is no such name, and the kernel may remember that.
    memset(out, 0, sizeof(fuse_entry_out))
    _validity(valid_ns, &out.entry_valid, &out.entry_valid_nsec)


cdef void attr_fill(fuse_attr_out* out, const NodeInfo* info, int64_t now_ns) noexcept nogil:
    memset(out, 0, sizeof(fuse_attr_out))
    _validity(info.expires_ns - now_ns, &out.attr_valid, &out.attr_valid_nsec)
    _attr(&out.attr, info)


cdef size_t dirent_fill(
    char* into, size_t room, bint plus, const fuse_entry_out* entry,
    uint64_t inode, uint8_t kind, uint64_t cookie, const char* name, size_t name_size
) noexcept nogil:
    cdef size_t head = FUSE_NAME_OFFSET_DIRENTPLUS if plus else FUSE_NAME_OFFSET
    cdef size_t size = FUSE_REC_ALIGN(head + name_size)
    cdef fuse_dirent* dirent
    if size > room:
        return 0
    memset(into, 0, size)
    if plus and entry != NULL:
        memcpy(into, entry, sizeof(fuse_entry_out))
    dirent = <fuse_dirent*>(into + (sizeof(fuse_entry_out) if plus else 0))
    dirent.ino = inode
    dirent.off = cookie
    dirent.namelen = <uint32_t>name_size
    dirent.type = TYPES[kind & 3]
    memcpy(into + head, name, name_size)
    return size
