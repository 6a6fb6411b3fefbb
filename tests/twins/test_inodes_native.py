"""The C view of the inode table and of sealed buffers, as a native module without the GIL uses them."""

import importlib.util
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from jindopy._ext.crc64 import crc64
from jindopy._ext.inodes import MISS, NEGATIVE, InodeTable
from jindopy._ext.iobuf import BufferPool
from jindopy.base.ident import Kind

ROOT = Path(__file__).resolve().parents[2]

PROBE = """
# cython: language_level=3
from libc.stdint cimport int64_t, uint64_t

from jindopy._ext.crc64 cimport crc64_update
from jindopy._ext.inodes cimport FOUND, Found, InodeTable, NodeInfo
from jindopy._ext.iobuf cimport SealedBuffer


def lookup(InodeTable table, uint64_t parent, bytes name, int64_t now_ns, bint count, int times):
    cdef NodeInfo info
    cdef Found answer = FOUND
    cdef const char* data = name
    cdef size_t size = len(name)
    cdef int i
    with nogil:
        for i in range(times):
            answer = table.find_child(parent, data, size, now_ns, count, &info)
    if answer == FOUND:
        return info.nodeid, info.inode, info.parent, info.size
    return <int> answer


def attr(InodeTable table, uint64_t nodeid, bint count):
    cdef NodeInfo info
    cdef bint known
    with nogil:
        known = table.find_node(nodeid, count, &info)
    return (info.nodeid, info.kind, info.perm, info.expires_ns) if known else None


def forget(InodeTable table, uint64_t nodeid, uint64_t count):
    cdef bint forgotten
    with nogil:
        forgotten = table.give_back(nodeid, count)
    return forgotten


def crc_of(SealedBuffer block, release):
    cdef const unsigned char* data = block.borrow()
    cdef uint64_t crc
    release()
    with nogil:
        crc = crc64_update(0, data, block.size)
    block.unborrow()
    return crc, block.crc
"""

BUILD = """
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
probe = Extension("native_probe", ["native_probe.pyx"])
setup(ext_modules=cythonize([probe], include_path=[sys.argv.pop()], quiet=True))
"""


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """A module of another package that cimports ours."""
    folder = tmp_path_factory.mktemp("native")
    (folder / "native_probe.pyx").write_text(PROBE)
    (folder / "setup.py").write_text(BUILD)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", str(ROOT)]
    subprocess.run(command, cwd=folder, check=True, timeout=100)
    (binary,) = folder.glob("native_probe*.so")
    spec = importlib.util.spec_from_file_location("native_probe", binary)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def table() -> InodeTable:
    table = InodeTable(0, 0, 0o755, 0)
    table.put(1, b"file", 5, 1, Kind.FILE, 0o640, 0, 0, 1, 77, 0, 1, b"etag", 100)
    table.set_dir(1, 1, 100, True)
    return table


def test_lookup_answers_as_from_python(probe: ModuleType, table: InodeTable) -> None:
    assert probe.lookup(table, 1, b"file", 99, False, 1) == (5, 5, 1, 77)
    assert probe.lookup(table, 1, b"file", 100, False, 1) == MISS
    assert probe.lookup(table, 1, b"none", 99, False, 1) == NEGATIVE
    assert probe.lookup(table, 1, b"none", 100, False, 1) == MISS
    assert probe.lookup(table, 5, b"file", 0, False, 1) == MISS
    assert probe.attr(table, 5, False) == (5, Kind.FILE, 0o640, 100)
    assert probe.attr(table, 6, False) is None


def test_lookups_are_counted(probe: ModuleType, table: InodeTable) -> None:
    probe.lookup(table, 1, b"file", 0, True, 3)
    probe.attr(table, 5, True)
    table.remove(1, b"file")
    assert probe.forget(table, 5, 3) is False
    assert probe.attr(table, 5, False) is not None
    assert probe.forget(table, 5, 1) is True
    assert probe.attr(table, 5, False) is None
    assert probe.forget(table, 5, 1) is True


def test_threads_without_the_gil_beside_python(probe: ModuleType, table: InodeTable) -> None:
    """Native lookups run while Python changes the table; every counted one is given back in the end."""
    threads = [
        threading.Thread(target=probe.lookup, args=(table, 1, b"file", 0, True, 200_000)),
        threading.Thread(target=probe.lookup, args=(table, 1, b"file", 0, True, 200_000)),
    ]
    for thread in threads:
        thread.start()
    for inode in range(10, 5000):
        table.put(1, b"n%d" % inode, inode, 1, Kind.FILE, 0, 0, 0, 1, 0, 0, 1, b"", 100)
    table.begin_dir(1)
    table.put(1, b"file", 5, 1, Kind.FILE, 0o640, 0, 0, 1, 77, 0, 1, b"etag", 100)
    assert len(table.set_dir(1, 2, 100, True)) == 4990
    for thread in threads:
        thread.join()
    table.remove(1, b"file")
    assert probe.forget(table, 5, 399_999) is False
    assert probe.forget(table, 5, 1) is True
    assert table.count == 1


def test_a_borrowed_block_outlives_its_release(probe: ModuleType) -> None:
    pool = BufferPool(100)
    buffer = pool.acquire(50)
    memoryview(buffer)[:] = b"x" * 50
    block = buffer.seal()

    def release() -> None:
        block.release()
        assert pool.used_bytes == 50

    assert probe.crc_of(block, release) == (crc64(b"x" * 50), block.crc64)
    assert pool.used_bytes == 0
    with pytest.raises(ValueError, match="released"):
        probe.crc_of(block, release)
