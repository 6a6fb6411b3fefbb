"""Stores that fail in every way, or are gone: right bytes or an error, in bounded time, and all is well afterwards."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jindopy.control.api import LoadRequest
from tests.emulator_fixture import Emulator, running_emulator
from tests.fault_fixture import KEYS, bucket_settings, check_all, control, fill_store, known_objects, status
from tests.mount_fixture import MIB, RunningMount, drop_page_cache, end_mount, start_mount, wait_until

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("each_transport")]

OBJECTS = known_objects(16, 3)
IMPATIENT = {"fs.oss.retry.count": "1", "fs.oss.retry.interval.millisecond": "20", "fs.oss.timeout.millisecond": "500"}

FAULTS: dict[str, dict[str, Any]] = {
    "503": {"kind": "error", "status": 503},
    "reset": {"kind": "reset"},
    "truncated": {"kind": "truncate"},
    "slow": {"kind": "slow", "delay_seconds": 0.2, "bytes_per_second": 2_000_000},
    "silent": {"kind": "slow", "delay_seconds": 1.5},
    "corrupt": {"kind": "corrupt"},
}
SAID = {
    "503": "503",
    "reset": "broke",
    "truncated": "early",
    "silent": "no answer within",
    "corrupt": "CRC",
}
"""What the log says when the fault never ends."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Emulator]:
    fill_store(tmp_path / "store", OBJECTS)
    with running_emulator(tmp_path / "store") as emulator:
        yield emulator


@pytest.fixture
def mount(tmp_path: Path, store: Emulator) -> Iterator[RunningMount]:
    made = start_mount(bucket_settings(tmp_path / "work", store, IMPATIENT, prefetch_bytes_max=512 * MIB), KEYS)
    try:
        yield made
    finally:
        end_mount(made)


def read_all(mount: RunningMount) -> tuple[int, list[str]]:
    """Read every object; how many ended in EIO, and which were wrong."""
    drop_page_cache_of(mount)
    failed, wrong = 0, []
    for name, content in OBJECTS.items():
        try:
            data = (mount.path / name).read_bytes()
        except OSError as error:
            assert error.errno == errno.EIO
            failed += 1
            continue
        if data != content:
            wrong.append(name)
    return failed, wrong


def drop_page_cache_of(mount: RunningMount) -> None:
    """The kernel keeps nothing of the mount's files."""
    drop_page_cache(*(mount.path / name for name in OBJECTS))


@pytest.mark.parametrize("fault", FAULTS)
def test_some_answers_fail(store: Emulator, mount: RunningMount, fault: str) -> None:
    rule = FAULTS[fault] | {"operations": ["GetObject"], "rate": 0.3}
    store.set_faults(rule if fault != "silent" else rule | {"limit": 4})
    failed, wrong = read_all(mount)
    if fault == "corrupt":
        # Of an object of several blocks the store tells only the checksum of the whole: known once all are there.
        assert not [name for name in wrong if name.startswith("small")]
    else:
        assert wrong == []
    assert failed < len(OBJECTS)
    assert store.stats()["faults"] > 0
    store.set_faults()
    read_all(mount)  # completes what was begun, which brings the checksums of whole objects to bear
    check_all(mount, OBJECTS)
    assert mount.process.poll() is None
    assert "Traceback" not in mount.log


@pytest.mark.parametrize("fault", SAID)
def test_every_answer_fails(store: Emulator, mount: RunningMount, fault: str) -> None:
    store.set_faults(FAULTS[fault] | {"operations": ["GetObject"]})
    began = time.monotonic()
    for name in ("small-000", "small-001"):
        with pytest.raises(OSError) as failure:
            (mount.path / name).read_bytes()
        assert failure.value.errno == errno.EIO
    assert time.monotonic() - began < 20
    lines = [line for line in mount.log.splitlines() if "read failed" in line]
    assert any(SAID[fault] in line for line in lines), mount.log
    assert "Traceback" not in mount.log
    if fault == "corrupt":
        assert status(mount).traffic.crc_failures >= 2
    store.set_faults()
    check_all(mount, OBJECTS)


def test_wrong_bytes_that_show_at_the_last_block_are_taken_back_from_the_kernel(
    store: Emulator, mount: RunningMount
) -> None:
    name = "large-02"
    content = OBJECTS[name]
    middle = slice(MIB + 448 * 1024, MIB + 576 * 1024)  # of the second block: there the fault flips a bit
    store.set_faults({"kind": "corrupt", "operations": ["GetObject"], "key_prefix": name, "limit": 1})
    with (mount.path / name).open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # one block, not those behind it
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            view.madvise(mmap.MADV_RANDOM)
            first = view[middle]
            assert first != content[middle], "nobody can know better yet"
            assert os.pread(file.fileno(), len(first), middle.start) == first
            with contextlib.suppress(OSError):  # EIO for whoever wants the block that completes the object
                (mount.path / name).read_bytes()
            wait_until(lambda: status(mount).traffic.bad_objects == 1)
            # Nothing is dropped here: what the kernel keeps is what counts.
            wait_until(lambda: view[middle] == content[middle])
            assert view[:] == content
            assert os.pread(file.fileno(), len(content), 0) == content
    assert (mount.path / name).read_bytes() == content
    assert f"the object '{name}' failed its CRC" in mount.log
    assert (status(mount).traffic.bad_objects, status(mount).traffic.crc_failures) == (1, 0)


def test_a_load_is_complete_only_with_the_bytes_of_the_store(store: Emulator, mount: RunningMount) -> None:
    large = {name: content for name, content in OBJECTS.items() if name.startswith("large")}
    store.set_faults(
        *({"kind": "corrupt", "operations": ["GetObject"], "key_prefix": name, "limit": 1} for name in large)
    )
    *_, last = control(mount).load(LoadRequest(paths=["large-*"]))
    assert (last.phase, last.failures) == ("complete", [])
    assert status(mount).traffic.bad_objects == len(large)
    gets = store.stats()["GetObject"]
    check_all(mount, large)
    assert store.stats()["GetObject"] == gets


def refuses(port: int) -> bool:
    """Nobody listens there any more."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_the_store_is_gone_and_comes_back(tmp_path: Path) -> None:
    fill_store(tmp_path / "store", OBJECTS)
    names = list(OBJECTS)
    cached = {name: OBJECTS[name] for name in (*names[:8], names[-1])}
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(running_emulator(tmp_path / "store"))
        # With the default patience, and nothing cached that was not read.
        settings = replace(bucket_settings(tmp_path / "work", store), prefetch_bytes_max=0)
        mount = start_mount(settings, KEYS)
        stack.callback(end_mount, mount)
        check_all(mount, cached)
        store.process.kill()
        store.process.wait(10)
        wait_until(lambda: refuses(store.port))  # its workers notice a moment later
        check_all(mount, cached)
        began = time.monotonic()
        for name in (names[8], names[-2]):
            with pytest.raises(OSError) as failure:
                (mount.path / name).read_bytes()
            assert failure.value.errno == errno.EIO
        assert time.monotonic() - began < 40
        lines = [line for line in mount.log.splitlines() if "read failed" in line]
        assert any(f"127.0.0.1:{store.port}" in line for line in lines), mount.log
        check_all(mount, cached)
        stack.enter_context(running_emulator(tmp_path / "store", listen=f"127.0.0.1:{store.port}"))
        check_all(mount, OBJECTS)
        assert mount.process.poll() is None
