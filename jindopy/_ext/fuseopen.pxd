# C view of ext/fuseopen.pyx: a channel that knows which files are open, and how.
from libc.stdint cimport uint64_t

from jindopy._ext.fusechannel cimport Channel, Request
from jindopy._ext.fusefiles cimport File, Files
from jindopy._ext.fuseknown cimport KnownFiles


cdef class Opener(Channel):
    cdef Files files
    cdef KnownFiles known
    cdef object handlers
    cdef bint tells             # Python wants to be told of every file that is opened
    cdef bint opens_itself      # the kernel can do without OPEN
    cdef bint passes            # files are opened by OPEN, so that the kernel can be passed the cache file
    cdef bint passed            # and it took one
    cdef int refusal            # the errno with which it refused the first one

    # The file of a node, to be left; NULL: Python has to find it.
    cdef File* enter(self, uint64_t nodeid) noexcept nogil
    cdef void leave(self, File* file) noexcept nogil
    # The kernel forgot a node.
    cdef void drop(self, uint64_t nodeid) noexcept nogil
    # False: Python has to find the file.
    cdef bint open_known(self, Request* request) noexcept nogil
    cdef void release(self, Request* request) noexcept nogil
    # What is not None is a negative errno.
    cdef object ask_open(self, Request* request)
    # Have Python open a file, and enter it; what is not None is a negative errno.
    cdef object take_up(self, uint64_t nodeid, File** taken)
    # Have Python know a file that was found without it; what is not None is a negative errno.
    cdef object make_known(self, File* file)
    cdef void give_back_all(self) noexcept

    cdef void _open_by_itself(self, Request* request) noexcept nogil
    cdef void _open_file(self, Request* request, File* file) noexcept nogil
    cdef void _shut(self, File* file) noexcept nogil
    cdef void _give_back(self, File* file) noexcept nogil
    cdef void _trim(self) noexcept nogil
