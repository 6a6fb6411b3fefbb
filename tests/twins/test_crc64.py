"""Every kernel against the bit-by-bit twin, and the choice of the kernel."""

import ctypes
import ctypes.util
import mmap
import os
import platform
import subprocess
import sys
import threading

import crc64_twin
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jindopy._ext import crc64

COMPILED = {"x86_64": ["scalar", "pclmul", "vpclmul256", "vpclmul512"], "aarch64": ["scalar", "pmull"]}
KERNELS = COMPILED.get(platform.machine(), ["scalar"])
UNUSABLE = sorted({name for names in COMPILED.values() for name in names} - set(crc64.kernels()))
CHECK = 0x995DC9BBDF1939FA
crcs = st.integers(0, 2**64 - 1)


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name not in crc64.kernels():
        assert name != "scalar"  # the portable one may not be skipped
        pytest.skip(f"this CPU cannot run {name}")
    return name


def test_check_value(kernel: str) -> None:
    assert crc64.crc64_with(kernel, b"123456789") == CHECK
    assert crc64.crc64(b"123456789") == CHECK
    assert crc64.crc64(b"") == 0


@given(data=st.binary(max_size=1500), crc=crcs)
def test_kernels_agree_with_the_twin(data: bytes, crc: int) -> None:
    expected = crc64_twin.crc64(data, crc)
    for name in crc64.kernels():
        assert crc64.crc64_with(name, data, crc) == expected, name


def test_every_length_and_alignment(kernel: str) -> None:
    data = os.urandom(3000)
    for size in range(2100):
        start = size % 67
        part = memoryview(data)[start : start + size]
        assert crc64.crc64_with(kernel, part, size) == crc64.crc64_with("scalar", part, size), size


def test_no_byte_outside_the_buffer_is_read(kernel: str) -> None:
    """The buffer touches inaccessible pages on both sides: one byte too far kills the process, so it is a child."""
    code = f"""
import ctypes, mmap
from jindopy._ext import crc64
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
page = mmap.PAGESIZE
area = mmap.mmap(-1, 3 * page)
start = ctypes.addressof(ctypes.c_char.from_buffer(area))
for guard in (start, start + 2 * page):
    assert libc.mprotect(guard, page, 0) == 0
for size in range(1500):
    for at in (start + page, start + 2 * page - size):
        part = (ctypes.c_char * size).from_address(at)
        assert crc64.crc64_with({kernel!r}, part) == crc64.crc64_with("scalar", bytes(size))
"""
    assert mmap.PAGESIZE >= 1500
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@given(first=st.binary(max_size=300), second=st.binary(max_size=300))
def test_combine(first: bytes, second: bytes) -> None:
    a, b = crc64.crc64(first), crc64.crc64(second)
    assert crc64.combine(a, b, len(second)) == crc64.crc64(first + second) == crc64.crc64(second, a)
    assert crc64.combine(a, b, len(second)) == crc64_twin.combine(a, b, len(second))


@given(a=crcs, b=crcs, c=crcs, n=st.integers(0, 2**50), m=st.integers(0, 2**50))
def test_combine_is_associative_at_any_length(a: int, b: int, c: int, n: int, m: int) -> None:
    left = crc64.combine(crc64.combine(a, b, n), c, m)
    assert left == crc64.combine(a, crc64.combine(b, c, m), n + m)


def test_combine_takes_any_64_bit_length() -> None:
    huge = 2**64 - 1
    assert crc64.combine(0, 7, huge) == 7
    half = crc64.combine(1, 0, 2**63)
    assert crc64.combine(crc64.combine(half, 0, 2**63 - 1), 0, 0) == crc64.combine(1, 0, huge)
    with pytest.raises(OverflowError):
        crc64.combine(0, 0, -1)


def test_same_as_liblzma() -> None:
    name = ctypes.util.find_library("lzma")
    if name is None:
        pytest.skip("liblzma is not installed")
    lzma_crc64 = ctypes.CDLL(name).lzma_crc64
    lzma_crc64.restype = ctypes.c_uint64
    lzma_crc64.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
    data = os.urandom(1 << 20)
    for size in (0, 1, 4095, len(data)):
        assert crc64.crc64(data[:size], 99) == lzma_crc64(data[:size], size, 99)


def test_accepts_buffers_and_refuses_others() -> None:
    array = bytearray(range(256)) * 1024
    assert crc64.crc64(array) == crc64.crc64(bytes(array)) == crc64.crc64(memoryview(array))
    with pytest.raises(BufferError):
        crc64.crc64(memoryview(array)[::2])
    with pytest.raises(TypeError):
        crc64.crc64("text")  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        crc64.crc64(b"", -1)


def test_threads_get_the_same_answer() -> None:
    data = os.urandom(1 << 20)
    expected = crc64.crc64_with("scalar", data)
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.extend(crc64.crc64(data) for _ in range(50))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == {expected}
    assert len(answers) == 200


def run_with(demand: str) -> "subprocess.CompletedProcess[str]":
    code = "from jindopy._ext import crc64; print(crc64.kernel(), crc64.crc64(b'123456789'))"
    env = {**os.environ, "JINDOPY_CRC64": demand}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=False, env=env, capture_output=True, text=True, timeout=60)


def test_demanded_kernel_is_used(kernel: str) -> None:
    assert run_with(kernel).stdout.split() == [kernel, str(CHECK)]


def test_vpclmul_means_the_wider_of_its_two() -> None:
    wide = [name for name in crc64.kernels() if name.startswith("vpclmul")]
    assert run_with("vpclmul").stdout.split()[:1] == wide[-1:]


@pytest.mark.parametrize("demand", ["nonsense", *UNUSABLE])
def test_a_demand_that_cannot_be_met_stops_the_import(demand: str) -> None:
    done = run_with(demand)
    assert done.returncode == 1
    assert f"ImportError: JINDOPY_CRC64={demand}" in done.stderr
    with pytest.raises(ValueError, match="cannot run here"):
        crc64.crc64_with(demand, b"")


def test_default_is_the_fastest() -> None:
    assert run_with("").stdout.split()[0] == crc64.kernels()[-1]
