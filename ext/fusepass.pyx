"""Passing a cache file to the kernel, which then answers reads and page faults of a FUSE file from it (Linux 6.9).

Bytes go from the cache file's pages straight to the program: no request, no second copy of them in memory, no new pages
for the kernel to find.  5,000 files of 100 kB, read for the first time after a mount by a bare C file system: 214 us
each by READ, of which half went into the pages for the second copy, 132 us so.

The kernel wants CAP_SYS_ADMIN for it, and a cache directory on a file system that is not itself stacked on others
(overlay, eCryptfs): then a mount of ours may still lie below an overlay.

Bounds: a file up to CHECK_BYTES_MAX of which not every block was checked in this process is checked while OPEN waits;
what is larger is passed once it has been read.
"""

from libc.errno cimport EINTR, EMFILE, ENFILE, ENOMEM, ENOSPC, errno
from libc.stdint cimport uint32_t
from libc.string cimport memset

from jindopy._ext.blocklend cimport lend_handle_back, store_lend, store_unlend
from jindopy._ext.blockstate cimport Store
from jindopy._ext.blocktable cimport Entry, Handle
from jindopy._ext.fusewire cimport JINDO_BACKING_CLOSE, JINDO_BACKING_OPEN, ioctl, jindo_backing_map

cdef enum:
    CHECK_BYTES_MAX = 1048576   # one block: what a first READ of the file would have to wait for as well


cdef int pass_begin(int channel, Store* store, Entry* entry) noexcept nogil:
    cdef jindo_backing_map backing
    cdef Handle* handle
    cdef int rc
    if not store_lend(store, entry, CHECK_BYTES_MAX, &handle):
        return 0
    memset(&backing, 0, sizeof(backing))
    backing.fd = handle.fd
    rc = ioctl(channel, JINDO_BACKING_OPEN, &backing)
    if rc <= 0:
        rc = -errno
        store_unlend(store, entry)
    lend_handle_back(store, handle)
    return rc


cdef void pass_end(int channel, Store* store, Entry* entry, int backing) noexcept nogil:
    cdef uint32_t number = <uint32_t>backing
    ioctl(channel, JINDO_BACKING_CLOSE, &number)
    store_unlend(store, entry)


cdef bint pass_is_refused(int rc) noexcept nogil:
    return rc < 0 and not (rc == -EINTR or rc == -EMFILE or rc == -ENFILE or rc == -ENOMEM or rc == -ENOSPC)
