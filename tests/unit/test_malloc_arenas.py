"""The C library's allocator makes no more arenas than it was told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jindopy._ext.iobuf import limit_arenas

EIGHT_THREADS = """
import ctypes, sys, threading
from jindopy._ext.iobuf import limit_arenas
if sys.argv[1:]:
    limit_arenas(int(sys.argv[1]))
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


def arenas(*arguments: str) -> int:
    command = [sys.executable, "-c", EIGHT_THREADS, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.count("<heap nr=")


def test_threads_share_the_arenas_there_are() -> None:
    assert arenas("2") <= 2 < arenas()


def test_none_is_too_few() -> None:
    with pytest.raises(ValueError, match="cannot do with 0 arenas"):
        limit_arenas(0)
