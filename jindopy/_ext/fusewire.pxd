# The kernel's FUSE protocol, as its own header <linux/fuse.h> (version 7.31 and later) declares it: the structures and
# numbers that a read-only transport needs.  Fields it does not touch are left out.
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t


cdef extern from "<linux/fuse.h>" nogil:
    enum:
        FUSE_KERNEL_VERSION
        FUSE_KERNEL_MINOR_VERSION
        FUSE_MIN_READ_BUFFER

    # Opcodes
    enum:
        FUSE_LOOKUP
        FUSE_FORGET
        FUSE_GETATTR
        FUSE_READLINK
        FUSE_OPEN
        FUSE_READ
        FUSE_STATFS
        FUSE_RELEASE
        FUSE_GETXATTR
        FUSE_LISTXATTR
        FUSE_INIT
        FUSE_OPENDIR
        FUSE_READDIR
        FUSE_RELEASEDIR
        FUSE_INTERRUPT
        FUSE_DESTROY
        FUSE_BATCH_FORGET
        FUSE_READDIRPLUS

    # What INIT agrees on
    enum:
        FUSE_ASYNC_READ
        FUSE_PARALLEL_DIROPS
        FUSE_DO_READDIRPLUS
        FUSE_READDIRPLUS_AUTO
        FUSE_NO_OPEN_SUPPORT
        FUSE_MAX_PAGES
        FUSE_CACHE_SYMLINKS

    # Answers to OPEN and OPENDIR
    enum:
        FOPEN_KEEP_CACHE
        FOPEN_CACHE_DIR

    # Codes of messages without a request
    enum:
        FUSE_NOTIFY_INVAL_INODE
        FUSE_NOTIFY_INVAL_ENTRY

    struct fuse_in_header:
        uint32_t len
        uint32_t opcode
        uint64_t unique
        uint64_t nodeid

    struct fuse_out_header:
        uint32_t len
        int32_t error
        uint64_t unique

    struct fuse_attr:
        uint64_t ino
        uint64_t size
        uint64_t blocks
        uint64_t atime
        uint64_t mtime
        uint64_t ctime
        uint32_t atimensec
        uint32_t mtimensec
        uint32_t ctimensec
        uint32_t mode
        uint32_t nlink
        uint32_t uid
        uint32_t gid
        uint32_t blksize

    struct fuse_entry_out:
        uint64_t nodeid
        uint64_t entry_valid
        uint64_t attr_valid
        uint32_t entry_valid_nsec
        uint32_t attr_valid_nsec
        fuse_attr attr

    struct fuse_attr_out:
        uint64_t attr_valid
        uint32_t attr_valid_nsec
        fuse_attr attr

    struct fuse_forget_in:
        uint64_t nlookup

    struct fuse_forget_one:
        uint64_t nodeid
        uint64_t nlookup

    struct fuse_batch_forget_in:
        uint32_t count

    struct fuse_init_in:
        uint32_t major
        uint32_t minor
        uint32_t max_readahead
        uint32_t flags

    struct fuse_open_out:
        uint64_t fh
        uint32_t open_flags

    struct fuse_release_in:
        uint64_t fh

    struct fuse_read_in:
        uint64_t fh
        uint64_t offset
        uint32_t size

    struct fuse_interrupt_in:
        uint64_t unique

    struct fuse_getxattr_in:
        uint32_t size

    struct fuse_getxattr_out:
        uint32_t size

    struct fuse_kstatfs:
        uint64_t blocks
        uint64_t files
        uint32_t bsize
        uint32_t namelen
        uint32_t frsize

    struct fuse_statfs_out:
        fuse_kstatfs st

    struct fuse_dirent:
        uint64_t ino
        uint64_t off
        uint32_t namelen
        uint32_t type

    struct fuse_notify_inval_inode_out:
        uint64_t ino
        int64_t off
        int64_t len

    struct fuse_notify_inval_entry_out:
        uint64_t parent
        uint32_t namelen

    # Lengths in front of a name, and the rule that records start at multiples of 8.
    enum:
        FUSE_NAME_OFFSET
        FUSE_NAME_OFFSET_DIRENTPLUS
    size_t FUSE_REC_ALIGN(size_t size)


# Of version 7.40 (Linux 6.9), which headers of older systems lack: layouts are for ever, so they are spelt out here.
cdef extern from *:
    """
    #include <stdint.h>
    #include <sys/ioctl.h>
    struct jindo_init_out {
        uint32_t major, minor, max_readahead, flags;
        uint16_t max_background, congestion_threshold;
        uint32_t max_write, time_gran;
        uint16_t max_pages, map_alignment;
        uint32_t flags2, max_stack_depth, unused[6];
    };
    struct jindo_open_out {
        uint64_t fh;
        uint32_t open_flags;
        int32_t backing_id;
    };
    struct jindo_backing_map {
        int32_t fd;
        uint32_t flags;
        uint64_t padding;
    };
    #define JINDO_INIT_EXT (1u << 30)
    #define JINDO_PASSTHROUGH2 (1u << 5)
    #define JINDO_OPEN_PASSTHROUGH (1u << 7)
    #define JINDO_BACKING_OPEN _IOW(229, 1, struct jindo_backing_map)
    #define JINDO_BACKING_CLOSE _IOW(229, 2, uint32_t)
    """
    # fuse_init_out
    struct jindo_init_out:
        uint32_t major
        uint32_t minor
        uint32_t max_readahead
        uint32_t flags
        uint16_t max_background
        uint16_t congestion_threshold
        uint32_t max_write
        uint32_t time_gran
        uint16_t max_pages
        uint32_t flags2             # of FUSE_INIT_EXT: the upper 32 bits
        uint32_t max_stack_depth    # how many file systems may lie on top of each other, ours on its backing files

    # fuse_open_out
    struct jindo_open_out:
        uint64_t fh
        uint32_t open_flags
        int32_t backing_id

    # fuse_backing_map
    struct jindo_backing_map:
        int32_t fd

    enum:
        JINDO_INIT_EXT              # FUSE_INIT_EXT: there are flags2
        JINDO_PASSTHROUGH2          # FUSE_PASSTHROUGH in flags2
        JINDO_OPEN_PASSTHROUGH      # FOPEN_PASSTHROUGH
    unsigned long JINDO_BACKING_OPEN    # FUSE_DEV_IOC_BACKING_OPEN
    unsigned long JINDO_BACKING_CLOSE   # FUSE_DEV_IOC_BACKING_CLOSE

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, ...)
