"""The FUSE session with a kernel of our own at the other end: what it answers, and that nothing it is sent harms it."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator
from typing import NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from jindopy._ext.blockstore import CacheFile
from jindopy._ext.fusesession import Session
from jindopy._ext.inodes import InodeTable
from jindopy.base.ident import Kind

# linux/fuse.h
LOOKUP, FORGET, GETATTR, READLINK, OPEN, READ, STATFS = 1, 2, 3, 5, 14, 15, 17
GETXATTR, LISTXATTR, INIT, OPENDIR, READDIR, RELEASEDIR = 22, 23, 26, 27, 28, 29
INTERRUPT, BATCH_FORGET, READDIRPLUS = 36, 42, 44
NO_OPEN_SUPPORT = 1 << 17
KEEP_CACHE = 2
IN_HEADER = struct.Struct("<IIQQIIIHH")
OUT_HEADER = struct.Struct("<IiQ")
ENTRY_HEAD = struct.Struct("<QQQQII")
SOON_NS = 10**18
FILE = 5
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

    def hire(self) -> None:
        self.asked.append("hire")

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
        return -errno.ESTALE

    def read(self, nodeid: int, offset: int, size_bytes: int) -> bytes | int:
        return -errno.EIO

    def ahead(self, nodeid: int, offset: int, size_bytes: int) -> None:
        raise AssertionError("nothing is cached here")

    def release(self, nodeid: int) -> None:
        raise AssertionError("nothing was opened")

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

    def __init__(self) -> None:
        self.table = InodeTable(0, 0, 0o755, 0)
        self.table.put(1, b"file", FILE, 1, Kind.FILE, 0o644, 1, 2, 1, 1000, 1_500_000_000, 1, b"token", SOON_NS)
        self.handlers = Handlers()
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        self.session = Session(theirs.detach(), self.table, self.handlers, 2, 8)
        self.threads = [threading.Thread(target=self.session.serve) for _ in range(2)]
        for thread in self.threads:
            thread.start()
        self.unique = 100

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


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
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


QUESTIONS = (LOOKUP, GETATTR, READLINK, OPEN, READ, STATFS, INIT, OPENDIR, READDIR, RELEASEDIR, READDIRPLUS, GETXATTR)
SILENT = (FORGET, BATCH_FORGET, INTERRUPT)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from((*QUESTIONS, LISTXATTR, 0, 60, *SILENT)),
    st.binary(max_size=96),
    st.sampled_from([0, 1, FILE, 2**64 - 1]),
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
