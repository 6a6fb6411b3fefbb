"""Readers within one large file over a real object store: each block comes once, and only those that somebody wants."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jindopy.base.ident import BLOCK_BYTES, ROOT_INODE, NodeId
from jindopy.config.settings import UfsMount
from jindopy.modes.parts import Parts, open_parts
from jindopy.read.readahead import STREAMS_MAX
from tests.emulator_fixture import Emulator, running_emulator
from tests.mount_fixture import settings_for

BLOCKS = 96
KIB128 = 128 << 10


class Large:
    """An open file of BLOCKS blocks, nothing of it cached."""

    def __init__(self, parts: Parts, emulator: Emulator) -> None:
        self.parts = parts
        self.emulator = emulator
        self.content = (emulator.root / "demo" / "large").read_bytes()
        self.nodeid = NodeId(parts.vfs.lookup(NodeId(ROOT_INODE), b"large").nodeid)
        parts.vfs.open(self.nodeid)

    def read(self, offset: int, size_bytes: int) -> None:
        """As the kernel asks, and compared."""
        vfs = self.parts.vfs
        data = vfs.read_now(self.nodeid, offset, size_bytes)
        if data is None:
            data = vfs.read(self.nodeid, offset, size_bytes)
        assert data == self.content[offset : offset + size_bytes]

    def settle(self) -> None:
        """Wait until what is on its way has landed."""
        self.parts.filler.close()

    @property
    def gets(self) -> int:
        return self.emulator.stats().get("GetObject", 0)

    @property
    def blocks(self) -> int:
        return sum(tier.blocks for tier in self.parts.cache.stats())


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Large]:
    with (
        running_emulator(tmp_path / "store", buckets=["demo"], latency="5ms") as emulator,
        contextlib.ExitStack() as stack,
    ):
        (emulator.root / "demo" / "large").write_bytes(random.Random(1).randbytes(BLOCKS * BLOCK_BYTES))
        options = {
            "fs.oss.endpoint": emulator.endpoint,
            "fs.oss.region": "cn-hangzhou",
            "fs.oss.accessKeyId": emulator.keys[0],
            "fs.oss.accessKeySecret": emulator.keys[1],
        }
        settings = settings_for(tmp_path, [UfsMount("oss://demo/", "", options)])
        for folder in (settings.state_dir, settings.run_dir):
            Path(folder).mkdir(parents=True)
        yield Large(open_parts(settings, stack), emulator)


def test_workers_that_each_read_a_part_fetch_each_block_once_and_ahead(large: Large) -> None:
    part = BLOCKS // STREAMS_MAX * BLOCK_BYTES
    failures: list[AssertionError] = []

    def work(worker: int) -> None:
        try:
            for offset in range(worker * part, (worker + 1) * part, KIB128):
                large.read(offset, KIB128)
        except AssertionError as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(STREAMS_MAX)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    large.settle()
    assert not failures
    assert large.blocks == BLOCKS
    assert large.emulator.stats()["bytes_sent"] < BLOCKS * BLOCK_BYTES * 1.02, "no block twice"
    assert large.gets < 0.8 * BLOCKS, "several blocks a GET: they were fetched ahead"


@pytest.mark.parametrize("stride", [BLOCK_BYTES * 3 // 2, BLOCK_BYTES * 2, BLOCK_BYTES * 5])
def test_strided_reads_fetch_the_blocks_they_touch(large: Large, stride: int) -> None:
    offsets = range(stride, BLOCKS * BLOCK_BYTES, stride)
    for offset in offsets:
        large.read(offset, 4096)
    large.settle()
    touched = {offset // BLOCK_BYTES for offset in offsets}
    assert large.blocks == len(touched)
    assert large.gets == len(touched)


def test_random_reads_fetch_the_blocks_they_touch(large: Large) -> None:
    draw = random.Random(5)
    offsets = [draw.randrange(256, BLOCKS * 256) * 4096 for _ in range(60)]
    for offset in offsets:
        large.read(offset, 4096)
    large.settle()
    touched = {offset // BLOCK_BYTES for offset in offsets}
    assert len(touched) <= large.blocks <= 1.1 * len(touched)


def test_a_file_of_tables_costs_its_footer_and_the_columns_read(large: Large) -> None:
    """As Parquet is read: the end first, then some column chunks, each from its start to its end."""
    large.read(BLOCKS * BLOCK_BYTES - 65536, 65536)
    chunks = [(10, 3), (40, 3), (70, 3)]
    for first, count in chunks:
        for offset in range(first * BLOCK_BYTES, (first + count) * BLOCK_BYTES, KIB128):
            large.read(offset, KIB128)
    large.settle()
    wanted = 1 + sum(count for _, count in chunks)
    assert wanted <= large.blocks <= wanted + 3 * 4, "what a reader does not go on to is little"
