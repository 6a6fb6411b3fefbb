# C view of ext/nodesource.pyx: of which object a node is a version.
from libc.stdint cimport uint32_t, uint64_t

from jindopy._ext.nodetree cimport TOKEN_BYTES_MAX, Tree

cdef enum:
    PATH_BYTES_MAX = 4096


# 5 KiB: lives on the stack of whoever asks.
cdef struct NodeSource:
    uint32_t mount
    uint64_t size
    size_t token_size
    size_t path_size
    char* path              # into `text`: names from the root, with a slash between them
    char[TOKEN_BYTES_MAX] token
    char[PATH_BYTES_MAX] text

# False: no such file, or it has no name any more, or one too long.  Whoever guards the tree holds its lock.
cdef bint tree_source(const Tree* tree, uint64_t nodeid, NodeSource* source) noexcept nogil
