"""Of which object a node is a version: its mount, the names that lead to it, its token and size.

Copied out, since the tree may change as soon as its lock is free.  No memory but the caller's.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from jindopy._ext.nodetree cimport Node, Tree, tree_find

cdef enum:
    FILE = 0    # base.ident.Kind


cdef bint tree_source(const Tree* tree, uint64_t nodeid, NodeSource* source) noexcept nogil:
    cdef const Node* node = tree_find(tree, nodeid)
    cdef size_t at = PATH_BYTES_MAX
    if node == NULL or node.kind != FILE:
        return False
    source.mount = node.mount
    source.size = node.size
    source.token_size = node.token_size
    memcpy(source.token, node.text + node.name_size, node.token_size)
    # Backwards, from the last name to the first.
    while node != NULL and node.parent != node:
        if at < <size_t>node.name_size + 1:
            return False
        if at < PATH_BYTES_MAX:
            at -= 1
            source.text[at] = c"/"
        at -= node.name_size
        memcpy(source.text + at, node.text, node.name_size)
        node = node.parent
    source.path = source.text + at
    source.path_size = PATH_BYTES_MAX - at
    return node != NULL
