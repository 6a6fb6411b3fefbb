# C view of ext/blockviews.pyx: a store's figures as Python objects.
from libc.stdint cimport uint8_t

from jindopy._ext.blockstate cimport Store

cdef object stat_one(Store* store, const uint8_t* cid, list names)
cdef list list_files(Store* store, list names)
cdef bytes list_cids(Store* store, bint pinned)
cdef object stat_tier(Store* store, int level, str name, str path)
