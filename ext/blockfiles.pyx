"""Cache files below one directory: ``<cid[:2]>/<cid>``, directories made when first needed.

One level of 256: after the first few hundred files no put makes a directory any more.  A new file of 100 kB costs 54 us
of CPU so, 88 with a second level below, where most of the first 5,000 need a directory of their own (medians of 8 runs
that took turns, 51-63 and 77-100; ``python -m bench.micro.cache_puts``, 2 cores, a fresh ext4 each; on one where as
many were deleted a moment ago both cost up to twelve times that).  A million files are 4,000 a directory, which ext4
and XFS index.

Format 2 had that second level: ``<cid[:2]>/<cid[2:4]>/<cid>``.  ``files_walk`` moves such files up and removes their
directories; until a walk is over, ``old_too`` makes the other functions look there first.  A rename is all or nothing,
so whenever this is cut off, the next start goes on with it.

All functions work relative to an open descriptor of the directory, so that renaming or mounting over a path above
changes nothing underneath.  Reads and writes go on after EINTR and short counts; a short read result means the end of
the file.  Failures are negative errno; nothing is logged and nothing kept: who calls knows the file and decides.
"""

from libc.errno cimport EAGAIN, EEXIST, EINTR, ENOENT, ENOSYS, ENOTDIR, EOPNOTSUPP, errno
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset, strlen
from posix.types cimport off_t

from jindopy._ext.linux cimport (
    AT_REMOVEDIR,
    AT_SYMLINK_NOFOLLOW,
    DIR,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_NOFOLLOW,
    O_RDONLY,
    O_RDWR,
    RWF_NOWAIT,
    TMPFS_MAGIC,
    close,
    closedir,
    dirent,
    dirfd,
    fallocate,
    fdopendir,
    fstat,
    fstatat,
    fstatfs,
    iovec,
    mkdirat,
    openat,
    pread,
    preadv2,
    pwrite,
    readdir,
    renameat,
    sendfile,
    struct_stat,
    struct_statfs,
    unlinkat,
)

cdef enum:
    STAT_BLOCK = 512
    WARM_BYTES = 1048576

cdef const char* HEX = b"0123456789abcdef"


cdef void file_path(const uint8_t* cid, char* path) noexcept nogil:
    cdef int i
    for i in range(16):
        path[3 + 2 * i] = HEX[cid[i] >> 4]
        path[4 + 2 * i] = HEX[cid[i] & 15]
    path[0] = path[3]
    path[1] = path[4]
    path[2] = c"/"
    path[35] = 0


cdef void _old_path(const char* path, char* old) noexcept nogil:
    # "ab/abcd..." of file_path as format 2 had it, "ab/cd/abcd...".
    memcpy(old, path, 3)
    old[3] = path[5]
    old[4] = path[6]
    old[5] = c"/"
    memcpy(old + 6, path + 3, 33)


cdef int _make_directory(int directory, const char* path, uint64_t* made_bytes) noexcept nogil:
    cdef struct_stat found
    if mkdirat(directory, path, 0o700) < 0:
        return 0 if errno == EEXIST else -errno
    if fstatat(directory, path, &found, AT_SYMLINK_NOFOLLOW) == 0:
        made_bytes[0] += <uint64_t>found.st_blocks * STAT_BLOCK
    return 0


cdef int file_open(
    int directory, const uint8_t* cid, bint create, bint old_too, uint64_t* made_bytes
) noexcept nogil:
    # A descriptor; `made_bytes` gets what a new directory takes on disk.
    cdef char path[CID_PATH_BYTES]
    cdef char old[CID_PATH_BYTES]
    cdef int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (O_CREAT if create else 0)
    cdef int fd, rc
    file_path(cid, path)
    made_bytes[0] = 0
    if old_too:
        # Mostly there is none.  Who lost the race against the walk finds the file moved.  Where it cannot be moved no
        # second file is begun beside it: two would each have a part of the blocks.
        _old_path(path, old)
        if renameat(directory, old, directory, path) < 0 and errno != ENOENT and errno != ENOTDIR:
            return -errno
    fd = openat(directory, path, flags, 0o600)
    if fd >= 0:
        return fd
    if errno != ENOENT or not create:
        return -errno
    path[2] = 0
    rc = _make_directory(directory, path, made_bytes)
    path[2] = c"/"
    if rc < 0:
        return rc
    fd = openat(directory, path, flags, 0o600)
    return fd if fd >= 0 else -errno


cdef int file_unlink(int directory, const uint8_t* cid, bint old_too) noexcept nogil:
    # Gone already is as good.
    cdef char path[CID_PATH_BYTES]
    cdef char old[CID_PATH_BYTES]
    file_path(cid, path)
    if old_too:
        # The old place first: what the walk moves meanwhile is found at the new one.
        _old_path(path, old)
        if unlinkat(directory, old, 0) < 0 and errno != ENOENT and errno != ENOTDIR:
            return -errno
    if unlinkat(directory, path, 0) < 0 and errno != ENOENT:
        return -errno
    return 0


cdef int64_t file_disk_bytes(int fd) noexcept nogil:
    cdef struct_stat found
    return <int64_t>found.st_blocks * STAT_BLOCK if fstat(fd, &found) == 0 else -errno


cdef int64_t file_bytes(int fd) noexcept nogil:
    cdef struct_stat found
    return <int64_t>found.st_size if fstat(fd, &found) == 0 else -errno


cdef int64_t file_read(int fd, char* data, uint64_t size, uint64_t offset) noexcept nogil:
    cdef uint64_t done = 0
    cdef ssize_t got
    while done < size:
        got = pread(fd, data + done, size - done, offset + done)
        if got == 0:
            break
        if got > 0:
            done += got
        elif errno != EINTR:
            return -errno
    return <int64_t>done


cdef int64_t file_read_nowait(int fd, char* data, uint64_t size, uint64_t offset) noexcept nogil:
    # One attempt at what is in memory; -EAGAIN or fewer bytes when not all is.
    cdef struct_statfs found
    cdef iovec part = iovec(data, size)
    cdef ssize_t got = preadv2(fd, &part, 1, offset, RWF_NOWAIT)
    if got >= 0:
        return got
    if errno != EOPNOTSUPP and errno != ENOSYS:
        return -errno
    # tmpfs refuses the flag (still in Linux 6.18) but is memory; elsewhere nobody can tell without waiting.
    if fstatfs(fd, &found) == 0 and found.f_type == TMPFS_MAGIC:
        return file_read(fd, data, size, offset)
    return -EAGAIN


cdef void file_warm(int fd, int sink, uint64_t size, uint64_t offset) noexcept nogil:
    # To /dev/null the kernel passes pages without copying them: 210 MiB from disk cost 6 ms of CPU so, 19 by pread, and
    # 26 by POSIX_FADV_WILLNEED, which reads by single pages.  What fails here fails again where it is read.
    cdef off_t at = <off_t>offset
    cdef off_t end = <off_t>(offset + size)
    cdef ssize_t sent
    while at < end:
        sent = sendfile(sink, fd, &at, min(end - at, <off_t>WARM_BYTES))
        if sent == 0 or (sent < 0 and errno != EINTR):
            return


cdef int file_write(int fd, const char* data, uint64_t size, uint64_t offset) noexcept nogil:
    cdef uint64_t done = 0
    cdef ssize_t put
    while done < size:
        put = pwrite(fd, data + done, size - done, offset + done)
        if put >= 0:
            done += put
        elif errno != EINTR:
            return -errno
    return 0


cdef int file_punch(int fd, uint64_t offset, uint64_t size) noexcept nogil:
    return 0 if fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size) == 0 else -errno


cdef int files_room(int directory, Room* room) noexcept nogil:
    cdef struct_statfs found
    memset(room, 0, sizeof(Room))
    if fstatfs(directory, &found) < 0:
        return -errno
    room.free_bytes = <int64_t>(found.f_bavail * <uint64_t>found.f_bsize)
    room.free_files = <int64_t>found.f_ffree if found.f_files else -1
    return 0


cdef int _nibble(char digit) noexcept nogil:
    if c"0" <= digit <= c"9":
        return digit - c"0"
    if c"a" <= digit <= c"f":
        return digit - c"a" + 10
    return -1


cdef bint _parse_hex(const char* name, int digits, uint8_t* into) noexcept nogil:
    cdef int i, high, low
    if <int>strlen(name) != digits:
        return False
    for i in range(digits // 2):
        high = _nibble(name[2 * i])
        low = _nibble(name[2 * i + 1])
        if high < 0 or low < 0:
            return False
        into[i] = <uint8_t>(high << 4 | low)
    return True


cdef DIR* _open_directory(int parent, const char* name) noexcept nogil:
    cdef int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
    cdef DIR* listing
    if fd < 0:
        return NULL
    listing = fdopendir(fd)
    if listing == NULL:
        close(fd)
    return listing


cdef uint64_t _directory_bytes(int parent, const char* name) noexcept nogil:
    cdef struct_stat found
    return <uint64_t>found.st_blocks * STAT_BLOCK if fstatat(parent, name, &found, AT_SYMLINK_NOFOLLOW) == 0 else 0


cdef void _remove(int parent, const char* name) noexcept nogil:
    # Nobody but the store makes anything here: what it does not know by name is in the way.
    if unlinkat(parent, name, 0) < 0:
        unlinkat(parent, name, AT_REMOVEDIR)


cdef int _unlisted(int parent, const char* name) noexcept nogil:
    # Right after _open_directory failed.  What cannot be looked into may be full of files: then the walk is not over.
    cdef int rc = -errno
    if rc == -ENOTDIR:
        _remove(parent, name)
    return 0 if rc == -ENOENT or rc == -ENOTDIR else rc


cdef bint _special(const char* name) noexcept nogil:
    return name[0] == c"." and (name[1] == 0 or (name[1] == c"." and name[2] == 0))


cdef dirent* _next(DIR* listing) noexcept nogil:
    cdef dirent* item = readdir(listing)
    while item != NULL and _special(item.d_name):
        item = readdir(listing)
    return item


cdef int _meet(
    int parent, const char* name, const uint8_t* cid, bint stat_files, walk_fn met, void* context
) noexcept nogil:
    cdef struct_stat found
    cdef uint64_t disk_bytes = 0
    if stat_files and fstatat(parent, name, &found, AT_SYMLINK_NOFOLLOW) == 0:
        disk_bytes = <uint64_t>found.st_blocks * STAT_BLOCK
    return met(context, cid, disk_bytes)


cdef int _walk_old(
    int upper, const char* name, const uint8_t* prefix, bint stat_files, walk_fn met, void* context
) noexcept nogil:
    # A directory of format 2: its files go up, then it goes.
    cdef DIR* listing = _open_directory(upper, name)
    cdef dirent* item
    cdef uint8_t cid[16]
    cdef int rc = 0
    if listing == NULL:
        return _unlisted(upper, name)
    while rc == 0:
        item = _next(listing)
        if item == NULL:
            break
        if not _parse_hex(item.d_name, 32, cid) or cid[0] != prefix[0] or cid[1] != prefix[1]:
            _remove(dirfd(listing), item.d_name)
            continue
        if renameat(dirfd(listing), item.d_name, upper, item.d_name) < 0 and errno != ENOENT:
            rc = -errno     # nothing is lost: the next start tries again
        else:
            rc = _meet(upper, item.d_name, cid, stat_files, met, context)
    closedir(listing)
    if rc == 0:
        unlinkat(upper, name, AT_REMOVEDIR)
    return rc


cdef int _walk_directory(
    int directory, const char* path, uint8_t first, bint stat_files, walk_fn met, void* context
) noexcept nogil:
    cdef DIR* listing = _open_directory(directory, path)
    cdef dirent* item
    cdef uint8_t cid[16]
    cdef int rc = 0
    if listing == NULL:
        return _unlisted(directory, path)
    while rc == 0:
        item = _next(listing)
        if item == NULL:
            break
        if _parse_hex(item.d_name, 32, cid) and cid[0] == first:
            # One that was moved up since this listing began may be met twice: that changes nothing.
            rc = _meet(dirfd(listing), item.d_name, cid, stat_files, met, context)
        elif _parse_hex(item.d_name, 2, cid + 1):
            cid[0] = first
            rc = _walk_old(dirfd(listing), item.d_name, cid, stat_files, met, context)
        else:
            _remove(dirfd(listing), item.d_name)
    closedir(listing)
    return rc


cdef int files_walk(
    int directory, bint stat_files, uint64_t* directory_bytes, walk_fn met, void* context
) noexcept nogil:
    # Every file (disk_bytes 0 unless stat_files), whatever is not a cache file removed; sums the directories.
    cdef DIR* upper = _open_directory(directory, b".")
    cdef dirent* item
    cdef uint8_t first
    cdef int rc = 0
    directory_bytes[0] = 0
    if upper == NULL:
        return -errno
    while rc == 0:
        item = _next(upper)
        if item == NULL:
            break
        if not _parse_hex(item.d_name, 2, &first):
            _remove(directory, item.d_name)
            continue
        rc = _walk_directory(directory, item.d_name, first, stat_files, met, context)
        directory_bytes[0] += _directory_bytes(directory, item.d_name)
    closedir(upper)
    return rc


cdef uint64_t files_directory_bytes(int directory) noexcept nogil:
    # What the directories take now.  They grow as files come, by a block at a time, and nothing tells.
    cdef char path[3]
    cdef uint64_t total = 0
    cdef int first
    for first in range(256):
        path[0] = HEX[first >> 4]
        path[1] = HEX[first & 15]
        path[2] = 0
        total += _directory_bytes(directory, path)
    return total


def cid_path(cid):
    cdef char path[CID_PATH_BYTES]
    cdef const unsigned char* raw = cid
    if len(cid) != 16:
        raise ValueError("a cid has 16 bytes")
    file_path(raw, path)
    return (<bytes>path).decode()
