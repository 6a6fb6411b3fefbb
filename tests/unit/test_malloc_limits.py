"""The C library's allocator makes no more arenas than it was told, and gives large pieces back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jindopy._ext.iobuf import limit_heap

EIGHT_THREADS = """
import ctypes, sys, threading
from jindopy._ext.iobuf import limit_heap
if sys.argv[1:]:
    limit_heap(int(sys.argv[1]))
all_there = threading.Barrier(8)
def allocate():
    all_there.wait(20)
    kept = [bytes(5000) for _ in range(100)]
    all_there.wait(20)
threads = [threading.Thread(target=allocate) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
stdout = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, stdout)
libc.fflush(stdout)
"""

LARGE_TWICE = """
import ctypes, sys
from jindopy._ext.iobuf import limit_heap
if sys.argv[1:]:
    limit_heap(int(sys.argv[1]))
class Mallinfo2(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd rest1 rest2 used free top"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.mallinfo2.restype = Mallinfo2
before = libc.mallinfo2().hblkhd
libc.free(ctypes.c_void_p(libc.malloc(700_000)))
libc.malloc(700_000)
print(libc.mallinfo2().hblkhd - before)
"""
"""Tells how much more is mapped piece by piece after a large piece was freed and another one made."""


def arenas(*arguments: str) -> int:
    command = [sys.executable, "-c", EIGHT_THREADS, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.count("<heap nr=")


def test_threads_share_the_arenas_there_are() -> None:
    assert arenas("2") <= 2 < arenas()


def mapped_bytes(*arguments: str) -> int:
    command = [sys.executable, "-c", LARGE_TWICE, *arguments]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)


def test_large_pieces_never_come_from_a_heap() -> None:
    assert mapped_bytes() == 0
    assert mapped_bytes("2") >= 700_000


def test_none_is_too_few() -> None:
    with pytest.raises(ValueError, match="cannot do with 0 arenas"):
        limit_heap(0)
