"""Requests whose answers Python has to find: names not known yet, directories, links, attributes.

Each is a method of ``handlers``, which answers with a value or a negative errno and never raises; here that becomes the
kernel's form.  The GIL is held, but for the writing of long answers.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EIO, ENOENT, ENOMEM, ERANGE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from jindopy._ext.fusechannel cimport DATA_BYTES, Channel, Request
from jindopy._ext.fusereply cimport absent_fill, attr_fill, dirent_fill, entry_fill
from jindopy._ext.fusewire cimport (
    FUSE_GETATTR,
    FUSE_GETXATTR,
    FUSE_LISTXATTR,
    FUSE_LOOKUP,
    FUSE_OPENDIR,
    FUSE_READDIR,
    FUSE_READDIRPLUS,
    FUSE_READLINK,
    FUSE_RELEASEDIR,
    FUSE_STATFS,
    fuse_attr_out,
    fuse_entry_out,
    fuse_getxattr_in,
    fuse_getxattr_out,
    fuse_open_out,
    fuse_read_in,
    fuse_release_in,
    fuse_statfs_out,
)
from jindopy._ext.inodes cimport InodeTable, NodeInfo
from jindopy._ext.pthreads cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef enum:
    NAME_BYTES_MAX = 255
    DIRECTORY = 1           # base.ident.Kind


cdef int64_t clock_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


cdef void answer_with(Channel channel, Request* request, object answer) noexcept:
    cdef const char* data
    cdef size_t size
    cdef int code
    if answer is None:
        return
    if isinstance(answer, bytes):
        data = PyBytes_AS_STRING(answer)
        size = PyBytes_GET_SIZE(answer)
        with nogil:
            channel.reply(request, 0, data, size)
        return
    code = answer
    channel.reply(request, -code, NULL, 0)


cdef object ask(Channel channel, InodeTable table, object handlers, Request* request):
    cdef uint32_t opcode = request.header.opcode
    cdef uint64_t nodeid = request.header.nodeid
    if opcode == FUSE_LOOKUP:
        return _lookup(channel, table, handlers, request)
    if opcode == FUSE_GETATTR:
        return _getattr(channel, table, handlers, request)
    if opcode == FUSE_OPENDIR:
        return _opendir(channel, handlers, request)
    if opcode == FUSE_READDIR or opcode == FUSE_READDIRPLUS:
        return _readdir(channel, table, handlers, request)
    if opcode == FUSE_RELEASEDIR:
        if request.size < sizeof(fuse_release_in):
            return -EIO
        return handlers.releasedir((<const fuse_release_in*>request.body).fh)
    if opcode == FUSE_READLINK:
        return handlers.readlink(nodeid)
    if opcode == FUSE_STATFS:
        return _statfs(channel, handlers, request)
    if opcode == FUSE_LISTXATTR:
        return _sized(channel, request, handlers.listxattr(nodeid))
    if opcode == FUSE_GETXATTR:
        name = <bytes>(request.body + sizeof(fuse_getxattr_in))
        return _sized(channel, request, handlers.getxattr(nodeid, name))
    return -EIO


cdef object _lookup(Channel channel, InodeTable table, object handlers, Request* request):
    cdef fuse_entry_out out
    cdef NodeInfo info
    name = <bytes>request.body
    found = handlers.lookup(request.header.nodeid, name)
    if found == -ENOENT:
        absent_fill(&out, handlers.absent_ns(request.header.nodeid))
    elif found < 0:
        return found
    elif not table.find_node(<uint64_t>found, False, &info):
        return -EIO
    else:
        entry_fill(&out, &info, clock_ns())
    if not channel.reply(request, 0, &out, sizeof(out)) and out.nodeid:
        table.give_back(out.nodeid, 1)


cdef object _getattr(Channel channel, InodeTable table, object handlers, Request* request):
    cdef fuse_attr_out out
    cdef NodeInfo info
    refreshed = handlers.refresh(request.header.nodeid)
    if refreshed < 0:
        return refreshed
    if not table.find_node(request.header.nodeid, False, &info):
        return -ENOENT
    attr_fill(&out, &info, clock_ns())
    channel.reply(request, 0, &out, sizeof(out))


cdef object _opendir(Channel channel, object handlers, Request* request):
    cdef fuse_open_out out
    cdef int64_t handle = handlers.opendir(request.header.nodeid)
    if handle < 0:
        return handle
    memset(&out, 0, sizeof(out))
    out.fh = handle
    if not channel.reply(request, 0, &out, sizeof(out)):
        handlers.releasedir(handle)


cdef object _readdir(Channel channel, InodeTable table, object handlers, Request* request):
    cdef const fuse_read_in* asked = <const fuse_read_in*>request.body
    cdef bint plus = request.header.opcode == FUSE_READDIRPLUS
    cdef uint64_t room, cookie, count
    cdef uint64_t nodeid
    cdef size_t used = 0
    cdef size_t one
    cdef char* data
    cdef NodeInfo info
    cdef fuse_entry_out entry
    cdef int64_t now_ns = clock_ns()
    cdef uint64_t index
    cdef bint told
    if request.size < sizeof(fuse_read_in):
        return -EIO
    listing = handlers.listing(asked.fh)
    if isinstance(listing, int):
        return listing
    room = min(<uint64_t>asked.size, <uint64_t>DATA_BYTES)
    data = channel.take_data(room)
    if data == NULL:
        return -ENOMEM
    children = listing.children
    count = len(children) + 2
    cookie = asked.offset
    try:
        while cookie < count:
            if cookie < 2:
                nodeid = listing.directory if cookie == 0 else listing.parent
                name = b"." if cookie == 0 else b".."
                if not table.find_node(nodeid, False, &info):
                    info.inode = nodeid
                one = dirent_fill(
                    data + used, room - used, plus, NULL, info.inode, DIRECTORY, cookie + 1,
                    PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)
                )
            else:
                nodeid = children[cookie - 2]
                name = handlers.name(nodeid)
                # Without a name it has vanished since opendir, and nobody holds it.
                if name is None or not table.find_node(nodeid, False, &info):
                    cookie += 1
                    continue
                entry_fill(&entry, &info, now_ns)
                one = dirent_fill(
                    data + used, room - used, plus, &entry, info.inode, info.kind, cookie + 1,
                    PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)
                )
                # What READDIRPLUS tells counts as looked up.
                if one and plus:
                    table.find_node(nodeid, True, &info)
            if one == 0:
                break
            used += one
            cookie += 1
        with nogil:
            told = channel.reply(request, 0, data, used)
        if plus and not told:
            for index in range(max(asked.offset, <uint64_t>2), cookie):
                table.give_back(children[index - 2], 1)
    finally:
        channel.give_data(data)


cdef object _statfs(Channel channel, object handlers, Request* request):
    cdef fuse_statfs_out out
    figures = handlers.statfs()
    if isinstance(figures, int):
        return figures
    memset(&out, 0, sizeof(out))
    out.st.bsize = out.st.frsize = figures[0]
    out.st.blocks = figures[1]
    out.st.files = figures[2]
    out.st.namelen = NAME_BYTES_MAX
    channel.reply(request, 0, &out, sizeof(out))


cdef object _sized(Channel channel, Request* request, object value):
    # An extended attribute, or how long it is when that was asked.
    cdef fuse_getxattr_out out
    cdef uint32_t room
    if isinstance(value, int) or request.size < sizeof(fuse_getxattr_in):
        return value if isinstance(value, int) else -EIO
    room = (<const fuse_getxattr_in*>request.body).size
    if room == 0:
        memset(&out, 0, sizeof(out))
        out.size = <uint32_t>len(value)
        channel.reply(request, 0, &out, sizeof(out))
        return None
    return value if <size_t>len(value) <= room else -ERANGE
