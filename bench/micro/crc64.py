"""Bytes a second of each CRC-64 kernel and of liblzma's ``lzma_crc64``, on the same 1 MiB buffer.

    python -m bench.micro.crc64 [--json]

Rounds of all of them alternate, so that a disturbance hits each; medians count.  liblzma is called through ctypes, one
call a buffer: its overhead is below 1 % of a buffer's time.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

from jindopy._ext import crc64

BUFFER_BYTES = 1 << 20
ROUNDS = 9
ROUND_SECONDS = 0.02


def liblzma() -> tuple[Callable[[bytes], int], str]:
    """``lzma_crc64`` as a function of bytes, and the library's version."""
    name = ctypes.util.find_library("lzma")
    if name is None:
        raise SystemExit("crc64: liblzma is missing; install it (Debian: liblzma5)")
    library = ctypes.CDLL(name)
    library.lzma_crc64.restype = ctypes.c_uint64
    library.lzma_crc64.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
    library.lzma_version_string.restype = ctypes.c_char_p
    return lambda data: library.lzma_crc64(data, len(data), 0), library.lzma_version_string().decode()


def one_round(function: Callable[[bytes], int], data: bytes) -> float:
    """Bytes a second over about ``ROUND_SECONDS``."""
    calls = 0
    start = now = time.perf_counter()
    while now < start + ROUND_SECONDS:
        for _ in range(8):
            function(data)
        calls += 8
        now = time.perf_counter()
    return calls * len(data) / (now - start)


def measure() -> dict[str, object]:
    """All figures; ``ratio`` is the kernel in use against liblzma."""
    data = os.urandom(BUFFER_BYTES)
    reference, version = liblzma()
    functions: dict[str, Callable[[bytes], int]] = {"liblzma": reference}
    functions |= {name: partial(crc64.crc64_with, name) for name in crc64.kernels()}
    answers = {function(data) for function in functions.values()}
    if len(answers) != 1:
        raise SystemExit(f"crc64: the kernels disagree: {sorted(map(hex, answers))}")
    rounds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            rounds[name].append(one_round(function, data))
    speeds = {name: statistics.median(values) for name, values in rounds.items()}
    return {
        "ratio": round(speeds[crc64.kernel()] / speeds["liblzma"], 3),
        "kernel": crc64.kernel(),
        "gb_per_s": {name: round(speed / 1e9, 2) for name, speed in speeds.items()},
        "buffer_bytes": BUFFER_BYTES,
        "liblzma_version": version,
    }


def main() -> None:
    """Print a table, or with ``--json`` one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    as_json = parser.parse_args().json
    told = measure()
    if as_json:
        print(json.dumps(told))
        return
    speeds = told["gb_per_s"]
    assert isinstance(speeds, dict)
    for name, speed in speeds.items():
        print(f"{name:12} {speed:8.2f} GB/s")
    print(f"{told['kernel']} does {told['ratio']} times what liblzma {told['liblzma_version']} does")


if __name__ == "__main__":
    main()
