# C view of ext/blockfiles.pyx: cache files below one directory.  Without the GIL; failures are negative errno.
from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef enum:
    CID_PATH_BYTES = 40     # "ab/" + 32 hex digits + NUL, three more in format 2, rounded up


cdef struct Room:
    int64_t free_bytes      # for unprivileged users
    int64_t free_files      # -1: the file system does not count them


# Called for each file met by files_walk; nonzero ends the walk.
ctypedef int (*walk_fn)(void* context, const uint8_t* cid, uint64_t disk_bytes) noexcept nogil

cdef void file_path(const uint8_t* cid, char* path) noexcept nogil
# `old_too`: it may still lie where format 2 had it, and is moved from there.
cdef int file_open(
    int directory, const uint8_t* cid, bint create, bint old_too, uint64_t* made_bytes
) noexcept nogil
cdef int file_unlink(int directory, const uint8_t* cid, bint old_too) noexcept nogil
cdef int64_t file_disk_bytes(int fd) noexcept nogil
cdef int64_t file_bytes(int fd) noexcept nogil
cdef int64_t file_read(int fd, char* data, uint64_t size, uint64_t offset) noexcept nogil
cdef int64_t file_read_nowait(int fd, char* data, uint64_t size, uint64_t offset) noexcept nogil
# Have [offset, offset + size) read into the page cache and wait for it.  `sink` is /dev/null, open for writing.
cdef void file_warm(int fd, int sink, uint64_t size, uint64_t offset) noexcept nogil
cdef int file_write(int fd, const char* data, uint64_t size, uint64_t offset) noexcept nogil
cdef int file_punch(int fd, uint64_t offset, uint64_t size) noexcept nogil
cdef int files_room(int directory, Room* room) noexcept nogil
cdef int files_walk(
    int directory, bint stat_files, uint64_t* directory_bytes, walk_fn met, void* context
) noexcept nogil
cdef uint64_t files_directory_bytes(int directory) noexcept nogil
