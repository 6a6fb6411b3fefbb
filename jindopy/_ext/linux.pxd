# System calls that libc.* and posix.* of Cython do not declare (Linux, glibc).
from libc.stdint cimport uint64_t
from posix.types cimport mode_t, off_t

from jindopy._ext.pthreads cimport pthread_cond_t, pthread_mutex_t

cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t
    int pthread_create(pthread_t* thread, const void* attributes, void* (*start)(void*) noexcept nogil, void* argument)
    int pthread_join(pthread_t thread, void** result)
    int pthread_cond_wait(pthread_cond_t* cond, pthread_mutex_t* mutex)
    int pthread_cond_broadcast(pthread_cond_t* cond)

cdef extern from "<fcntl.h>" nogil:
    enum:
        AT_FDCWD
        AT_REMOVEDIR
        AT_SYMLINK_NOFOLLOW
        FALLOC_FL_KEEP_SIZE
        FALLOC_FL_PUNCH_HOLE
        O_APPEND
        O_CLOEXEC
        O_CREAT
        O_DIRECTORY
        O_EXCL
        O_NOFOLLOW
        O_RDONLY
        O_RDWR
        O_TRUNC
        O_WRONLY
    int openat(int directory, const char* path, int flags, ...)
    int fallocate(int fd, int mode, off_t offset, off_t length)

cdef extern from "<sys/sendfile.h>" nogil:
    ssize_t sendfile(int out, int fd, off_t* offset, size_t size)

cdef extern from "<sys/file.h>" nogil:
    enum:
        LOCK_EX
        LOCK_NB
    int flock(int fd, int operation)

cdef extern from "<sys/stat.h>" nogil:
    struct struct_stat "stat":
        mode_t st_mode
        off_t st_size
        long st_blocks
        off_t st_size
    int fstat(int fd, struct_stat* found)
    int fstatat(int directory, const char* path, struct_stat* found, int flags)
    int mkdirat(int directory, const char* path, mode_t mode)

cdef extern from "<sys/statfs.h>" nogil:
    struct struct_statfs "statfs":
        long f_type
        long f_bsize
        uint64_t f_bavail
        uint64_t f_files
        uint64_t f_ffree
    int fstatfs(int fd, struct_statfs* found)

cdef extern from "<linux/magic.h>" nogil:
    enum:
        TMPFS_MAGIC

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len
    enum:
        RWF_NOWAIT
    ssize_t writev(int fd, const iovec* parts, int count)
    ssize_t preadv2(int fd, const iovec* parts, int count, off_t offset, int flags)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    int fdatasync(int fd)
    int fsync(int fd)
    int ftruncate(int fd, off_t size)
    int syncfs(int fd)
    int unlinkat(int directory, const char* path, int flags)
    ssize_t read(int fd, void* data, size_t size)
    ssize_t pread(int fd, void* data, size_t size, off_t offset)
    ssize_t pwrite(int fd, const void* data, size_t size, off_t offset)

cdef extern from "<stdio.h>" nogil:
    int renameat(int old_directory, const char* old_path, int new_directory, const char* new_path)

cdef extern from "<dirent.h>" nogil:
    ctypedef struct DIR:
        pass
    struct dirent:
        char* d_name
    DIR* fdopendir(int fd)
    dirent* readdir(DIR* directory)
    int closedir(DIR* directory)
    int dirfd(DIR* directory)

cdef extern from "<sys/resource.h>" nogil:
    enum:
        RLIMIT_NOFILE
    struct rlimit:
        unsigned long rlim_cur
    int getrlimit(int resource, rlimit* limits)

# C11-style atomics of gcc and clang: counters that several threads raise.
cdef extern from * nogil:
    long __sync_add_and_fetch(long* counter, long amount)
