# C view of ext/nodetrim.pyx: keeping a Tree within its bound.
from libc.stdint cimport uint64_t

from jindopy._ext.nodetree cimport Tree

# Free what nobody needs, least recently used directories first, until memory_bytes is at most `target_bytes`.  Writes
# the numbers of at most `ask_max` files that only the kernel keeps into `asked`; returns how many.
cdef size_t tree_trim(Tree* tree, size_t target_bytes, uint64_t* asked, size_t ask_max) noexcept nogil
