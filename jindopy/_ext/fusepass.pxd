# C view of ext/fusepass.pyx: cache files that the kernel reads by itself on behalf of programs.
from jindopy._ext.blockstate cimport Store
from jindopy._ext.blocktable cimport Entry

# Have the kernel take an entry's file: what it calls it (> 0); 0: not this file, now; else the negative errno with
# which the kernel refused.
cdef int pass_begin(int channel, Store* store, Entry* entry) noexcept nogil
cdef void pass_end(int channel, Store* store, Entry* entry, int backing) noexcept nogil
# Whether an errno of pass_begin speaks of the system, not of this file or this moment.
cdef bint pass_is_refused(int rc) noexcept nogil
