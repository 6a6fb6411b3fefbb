"""The FUSE session with a kernel of our own at the other end: what it answers, and that nothing it is sent harms it."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from jindopy._ext.blockstore import BlockStore, CacheFile, TierSpec
from jindopy._ext.fuseknown import KnownFiles
from jindopy._ext.fusesession import Session
from jindopy._ext.inodes import InodeTable
from jindopy.base.ident import Kind, UfsId, make_cid
from tests.twins.blockstore_twin import MIB, sealed

# linux/fuse.h
LOOKUP, FORGET, GETATTR, READLINK, OPEN, READ, STATFS = 1, 2, 3, 5, 14, 15, 17
GETXATTR, LISTXATTR, INIT, OPENDIR, READDIR, RELEASEDIR = 22, 23, 26, 27, 28, 29
INTERRUPT, BATCH_FORGET, READDIRPLUS = 36, 42, 44
NO_OPEN_SUPPORT = 1 << 17
INIT_EXT = 1 << 30
PASSTHROUGH_2 = 1 << 5  # of the second 32 flags
RELEASE = 18
KEEP_CACHE = 2
IN_HEADER = struct.Struct("<IIQQIIIHH")
OUT_HEADER = struct.Struct("<IiQ")
ENTRY_HEAD = struct.Struct("<QQQQII")
SOON_NS = 10**18
FILE = 5
CACHED = 6
CONTENT = bytes(range(250)) * 20
UFS = UfsId("oss://bucket")
ROUNDS = 300


class Answer(NamedTuple):
    error: int
    unique: int
    body: bytes


class Listing(NamedTuple):
    directory: int
    parent: int
    children: list[int]


class Handlers:
    """Answers like a small file system, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failures: list[BaseException] = []
        self.lookup_answer = -errno.ENOENT
        self.held = threading.Event()
        self.held.set()
        self.lease: CacheFile | None = None
        self.hired: Callable[[], None] = lambda: None

    def hire(self) -> None:
        self.asked.append("hire")
        self.hired()

    def failed(self, error: BaseException) -> None:
        self.failures.append(error)

    def lookup(self, directory: int, name: bytes) -> int:
        self.asked.append(f"lookup {directory} {name!r}")
        assert self.held.wait(20)
        if name == b"bug":
            raise RuntimeError("a bug")
        return self.lookup_answer

    def absent_ns(self, directory: int) -> int:
        return 2_500_000_000

    def refresh(self, nodeid: int) -> int:
        return 0

    def open(self, nodeid: int) -> CacheFile | int:
        self.asked.append(f"open {nodeid}")
        return -errno.ESTALE if self.lease is None else self.lease

    def read(self, nodeid: int, offset: int, size_bytes: int) -> bytes | int:
        return -errno.EIO

    def ahead(self, nodeid: int, offset: int, size_bytes: int) -> None:
        raise AssertionError("nothing is cached here")

    def release(self, nodeid: int) -> None:
        assert self.lease is not None, "nothing was opened"
        self.lease = None

    def not_passed(self, error: int) -> None:
        self.asked.append(f"not passed: {errno.errorcode[error]}")

    def opendir(self, nodeid: int) -> int:
        return 7

    def listing(self, handle: int) -> Listing | int:
        return Listing(1, 1, [FILE, 999]) if handle == 7 else -errno.EBADF

    def name(self, nodeid: int) -> bytes | None:
        return b"file" if nodeid == FILE else None

    def releasedir(self, handle: int) -> int:
        return 0

    def readlink(self, nodeid: int) -> bytes | int:
        return b"target"

    def statfs(self) -> tuple[int, int, int] | int:
        return 4096, 10, 3

    def listxattr(self, nodeid: int) -> bytes | int:
        return b"user.jindo.etag\0"

    def getxattr(self, nodeid: int, name: bytes) -> bytes | int:
        return b"0123456789"


class Kernel:
    """The other end: sends requests, receives answers."""

    def __init__(self, folder: Path) -> None:
        self.table = InodeTable(0, 0, 0o755, 0)
        self.table.put(1, b"file", FILE, 1, Kind.FILE, 0o644, 1, 2, 1, 1000, 1_500_000_000, 1, b"token", SOON_NS)
        self.table.put(1, b"cached", CACHED, 1, Kind.FILE, 0o644, 1, 2, 1, len(CONTENT), 0, 1, b"etag", SOON_NS)
        self.store = BlockStore([TierSpec("SSD", str(folder), 64 * MIB, 0.95, 0.8, 0)], sync_seconds=0)
        lease = self.store.open(make_cid(UFS, b"prefix/cached", b"etag"), len(CONTENT), 7)
        lease.put(0, sealed(CONTENT))
        lease.close()
        self.known = KnownFiles(self.table, self.store, [(1, b"", b"prefix/", UFS.encode(), 7)])
        self.handlers = Handlers()
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        self.session = Session(theirs.detach(), self.known, self.handlers, 2, 8, passes=True)
        self.threads: list[threading.Thread] = []
        self.handlers.hired = self.start
        for _ in range(2):
            self.start()
        self.unique = 100

    def start(self) -> None:
        self.threads.append(threading.Thread(target=self.session.serve))
        self.threads[-1].start()

    def send(self, opcode: int, body: bytes = b"", nodeid: int = 1) -> int:
        self.unique += 2
        header = IN_HEADER.pack(IN_HEADER.size + len(body), opcode, self.unique, nodeid, 0, 0, 0, 0, 0)
        self.socket.send(header + body)
        return self.unique

    def receive(self) -> Answer:
        message = self.socket.recv(1 << 21)
        size, error, unique = OUT_HEADER.unpack_from(message)
        assert size == len(message)
        return Answer(-error, unique, message[OUT_HEADER.size :])

    def ask(self, opcode: int, body: bytes = b"", nodeid: int = 1) -> Answer:
        unique = self.send(opcode, body, nodeid)
        answer = self.receive()
        assert answer.unique == unique
        return answer

    def end(self) -> None:
        self.handlers.held.set()
        self.socket.close()
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()
        self.session.close()
        self.store.close()
        # Counted by the check for what a test leaves alive.
        del self.session, self.known, self.store


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    made = Kernel(tmp_path / "cache")
    yield made
    made.end()
    assert made.handlers.failures == []


def init(minor: int = 38, flags: int = NO_OPEN_SUPPORT, major: int = 7) -> bytes:
    return struct.pack("<IIII", major, minor, 131072, flags)


def test_init_agrees_on_what_both_know(kernel: Kernel) -> None:
    every = (1 << 32) - 1
    answer = kernel.ask(INIT, init(minor=99, flags=every))
    major, minor, read_ahead, flags = struct.unpack_from("<IIII", answer.body)
    assert (answer.error, major, read_ahead) == (0, 7, 131072)
    assert 31 <= minor < 99
    assert flags and flags & ~every == 0 and not flags & (1 << 16), "no writeback cache on a read-only mount"
    assert struct.unpack_from("<IIII", kernel.ask(INIT, init(flags=0)).body)[3] == 0
    assert kernel.ask(INIT, init(major=8)).error == errno.EPROTO
    assert kernel.ask(INIT, b"\7").error == errno.EPROTO


def test_opens_are_declined_where_the_kernel_can_do_without(kernel: Kernel) -> None:
    kernel.ask(INIT, init())
    assert kernel.ask(OPEN, bytes(8), FILE).error == errno.ENOSYS
    kernel.ask(INIT, init(flags=0))
    answer = kernel.ask(OPEN, bytes(8), FILE)
    assert (answer.error, struct.unpack("<QII", answer.body)) == (0, (0, KEEP_CACHE, 0))


def test_what_the_table_knows_needs_no_handler(kernel: Kernel) -> None:
    entry = kernel.ask(LOOKUP, b"file\0").body
    nodeid, generation, valid, attr_valid, _, _ = ENTRY_HEAD.unpack_from(entry)
    assert (nodeid, generation) == (FILE, 0)
    assert valid == attr_valid > 10**8
    inode, size, blocks, atime, mtime, ctime = struct.unpack_from("<QQQQQQ", entry, ENTRY_HEAD.size)
    assert (inode, size, blocks, atime, mtime, ctime) == (FILE, 1000, 2, 1, 1, 1)
    half, _, _, mode, nlink, uid, gid = struct.unpack_from("<IIIIIII", entry, ENTRY_HEAD.size + 48)
    assert (half, mode, nlink, uid, gid) == (500_000_000, 0o100644, 1, 1, 2)
    assert kernel.ask(GETATTR, bytes(16), FILE).body[16:] == entry[ENTRY_HEAD.size :]
    assert kernel.ask(GETATTR, bytes(16), 12345).error == errno.ENOENT
    kernel.send(FORGET, struct.pack("<Q", 1), FILE)
    assert kernel.ask(GETXATTR, struct.pack("<II", 0, 0) + b"security.selinux\0", FILE).error == errno.ENODATA
    assert kernel.handlers.asked == []


def test_what_only_handlers_know(kernel: Kernel) -> None:
    absent = kernel.ask(LOOKUP, b"none\0")
    assert (absent.error, ENTRY_HEAD.unpack_from(absent.body)) == (0, (0, 0, 2, 0, 500_000_000, 0))
    kernel.handlers.lookup_answer = FILE
    assert ENTRY_HEAD.unpack_from(kernel.ask(LOOKUP, b"alias\0").body)[0] == FILE
    kernel.handlers.lookup_answer = -errno.ETIMEDOUT
    assert kernel.ask(LOOKUP, b"late\0").error == errno.ETIMEDOUT
    assert kernel.ask(READ, struct.pack("<QQIIQII", 0, 0, 4096, 0, 0, 0, 0), FILE).error == errno.ESTALE
    assert kernel.ask(READLINK).body == b"target"
    assert struct.unpack_from("<QQQQQII", kernel.ask(STATFS).body) == (10, 0, 0, 3, 0, 4096, 255)
    assert kernel.ask(LISTXATTR, struct.pack("<II", 0, 0)).body == struct.pack("<II", 16, 0)
    own = b"user.jindo.etag\0"
    assert kernel.ask(GETXATTR, struct.pack("<II", 99, 0) + own).body == b"0123456789"
    assert kernel.ask(GETXATTR, struct.pack("<II", 9, 0) + own).error == errno.ERANGE
    assert kernel.ask(9999).error == errno.ENOSYS


def test_a_directory_is_told_from_any_place(kernel: Kernel) -> None:
    assert struct.unpack_from("<Q", kernel.ask(OPENDIR, bytes(8)).body) == (7,)

    def names(opcode: int, offset: int, size: int) -> list[tuple[bytes, int]]:
        body = kernel.ask(opcode, struct.pack("<QQIIQII", 7, offset, size, 0, 0, 0, 0)).body
        at, found = 0, []
        while at < len(body):
            at += 128 if opcode == READDIRPLUS else 0
            _, cookie, length, _ = struct.unpack_from("<QQII", body, at)
            found.append((body[at + 24 : at + 24 + length], cookie))
            at += 24 + -(-length // 8) * 8
        return found

    whole = [(b".", 1), (b"..", 2), (b"file", 3)]
    for opcode in (READDIR, READDIRPLUS):
        assert names(opcode, 0, 4096) == whole
        assert names(opcode, 2, 4096) == whole[2:]
        assert names(opcode, 3, 4096) == []
        assert names(opcode, 99, 4096) == []
        assert names(opcode, 0, 40) == (whole[:1] if opcode == READDIR else []), "what does not fit waits"
    answer = kernel.ask(READDIR, struct.pack("<QQIIQII", 8, 0, 4096, 0, 0, 0, 0))
    assert answer.error == errno.EBADF


READ_WHOLE = struct.pack("<QQIIQII", 0, 0, len(CONTENT), 0, 0, 0, 0)


def test_a_cached_file_is_read_without_a_handler(kernel: Kernel) -> None:
    kernel.ask(INIT, init())
    assert kernel.ask(READ, READ_WHOLE, CACHED) == Answer(0, kernel.unique, CONTENT)
    assert kernel.session.file_count == 1
    assert kernel.handlers.asked == []


def test_who_wants_to_know_of_opens_is_asked(kernel: Kernel) -> None:
    kernel.session.tells = True
    assert kernel.ask(READ, READ_WHOLE, CACHED).error == errno.ESTALE
    assert f"open {CACHED}" in kernel.handlers.asked
    kernel.session.tells = False
    assert kernel.ask(READ, READ_WHOLE, CACHED).body == CONTENT


def test_of_another_version_nothing_is_known(kernel: Kernel) -> None:
    kernel.table.put(1, b"cached", CACHED, 2, Kind.FILE, 0o644, 1, 2, 1, len(CONTENT), 0, 1, b"newer", SOON_NS)
    (entry,) = kernel.store.files()
    nodeid = ENTRY_HEAD.unpack_from(kernel.ask(LOOKUP, b"cached\0").body)[0]
    assert nodeid != CACHED
    assert kernel.ask(READ, READ_WHOLE, nodeid).error == errno.ESTALE
    assert kernel.known.cid(nodeid) == make_cid(UFS, b"prefix/cached", b"newer") != entry.cid


def passing(kernel: Kernel) -> None:
    """A kernel that takes cache files."""
    offer = init(minor=45, flags=NO_OPEN_SUPPORT | INIT_EXT) + struct.pack("<I", PASSTHROUGH_2) + bytes(44)
    *_, flags2, depth = struct.unpack_from("<IIIIHHIIHHII", kernel.ask(INIT, offer).body)
    assert (flags2, depth) == (PASSTHROUGH_2, 1)


def test_files_that_cannot_be_passed_are_kept(kernel: Kernel) -> None:
    passing(kernel)
    for _ in range(2):
        answer = kernel.ask(OPEN, bytes(8), FILE)
        assert (answer.error, struct.unpack("<QIi", answer.body)) == (0, (0, KEEP_CACHE, 0))
    assert kernel.ask(RELEASE, bytes(24), FILE).error == 0
    assert kernel.session.passing
    assert kernel.handlers.asked == []
    assert kernel.ask(READ, READ_WHOLE, FILE).error == errno.ESTALE, "which Python had to say"


def test_a_kernel_that_takes_no_file_opens_by_itself(kernel: Kernel) -> None:
    passing(kernel)
    assert kernel.ask(OPEN, bytes(8), CACHED).error == errno.ENOSYS
    assert not kernel.session.passing
    assert kernel.session.pass_error == errno.ENOTTY, "this end is a socket"
    assert kernel.ask(READ, READ_WHOLE, CACHED).body == CONTENT
    assert kernel.handlers.asked == ["not passed: ENOTTY"]
    assert kernel.ask(RELEASE, bytes(24), 12345).error == 0, "of a node nobody knows"


def test_threads_that_waited_are_called_before_others_are_hired(kernel: Kernel) -> None:
    for _ in range(5):
        kernel.handlers.held.clear()
        slow = {kernel.send(LOOKUP, b"slow\0") for _ in range(2)}
        assert kernel.ask(GETATTR, bytes(16), FILE).error == 0
        kernel.handlers.held.set()
        assert {kernel.receive().unique for _ in range(2)} == slow
    # The second of the first two may have been slower to start than the first request.
    assert 1 <= kernel.handlers.asked.count("hire") <= 2


def test_who_is_interrupted_is_told_at_once(kernel: Kernel) -> None:
    kernel.handlers.held.clear()
    unique = kernel.send(LOOKUP, b"slow\0")
    while not kernel.handlers.asked:
        pass
    kernel.send(INTERRUPT, struct.pack("<Q", 4711))
    kernel.send(INTERRUPT, struct.pack("<Q", unique))
    assert kernel.receive() == Answer(errno.EINTR, unique, b"")
    kernel.handlers.held.set()
    assert kernel.receive().unique == unique, "a real kernel no longer takes this one"


def test_a_bug_in_a_handler_is_one_error(kernel: Kernel) -> None:
    assert kernel.ask(LOOKUP, b"bug\0").error == errno.EIO
    (failure,) = kernel.handlers.failures
    assert isinstance(failure, RuntimeError)
    kernel.handlers.failures.clear()
    assert kernel.ask(GETATTR, bytes(16), FILE).error == 0


@pytest.mark.slow
def test_native_threads_and_python_at_one_table_never_wait_for_each_other(kernel: Kernel) -> None:
    """A thread that has the table's lock and wants the GIL, beside one that has the GIL and wants the lock: a hang."""
    stop = threading.Event()

    def python_side() -> None:
        while not stop.is_set():
            for _ in range(200):
                kernel.table.attr(FILE)

    threads = [threading.Thread(target=python_side) for _ in range(2)]
    for thread in threads:
        thread.start()
    listing = struct.pack("<QQIIQII", 7, 0, 4096, 0, 0, 0, 0)
    try:
        for _ in range(ROUNDS):
            expected = {kernel.send(LOOKUP, b"file\0") for _ in range(8)} | {kernel.send(READDIR, listing)}
            assert {kernel.receive().unique for _ in range(9)} == expected
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


QUESTIONS = (
    LOOKUP,
    GETATTR,
    READLINK,
    OPEN,
    READ,
    RELEASE,
    STATFS,
    INIT,
    OPENDIR,
    READDIR,
    RELEASEDIR,
    READDIRPLUS,
    GETXATTR,
)
SILENT = (FORGET, BATCH_FORGET, INTERRUPT)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from((*QUESTIONS, LISTXATTR, 0, 60, *SILENT)),
    st.binary(max_size=96),
    st.sampled_from([0, 1, FILE, CACHED, 2**64 - 1]),
)
def test_whatever_is_sent_is_answered_once_and_harms_nothing(
    kernel: Kernel, opcode: int, body: bytes, nodeid: int
) -> None:
    if opcode in SILENT:
        kernel.send(opcode, body, nodeid)
    else:
        kernel.ask(opcode, body, nodeid)
    assert kernel.ask(GETATTR, bytes(16), FILE).error == 0
    kernel.socket.send(os.urandom(20))  # not even a header
