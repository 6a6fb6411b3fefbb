"""Model files, shards, tables and images through the libraries that read them, beside the same on a plain disk."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.lib import pagecache, pipelines
from bench.lib.bare import bare_bytes_per_second
from bench.lib.mounts import Client
from bench.lib.pairs import PAIRS, Pairs, Record, median_ratio, traffic_facts
from bench.lib.server import BUCKET, Server

LINK_BYTES_PER_SECOND = 100_000_000
URI = f"oss://{BUCKET}/"


class Setting:
    """The same data in a bucket, in a client's cache and on the plain disk."""

    def __init__(self, disk: Path, cgroup: str) -> None:
        self.cgroup = cgroup
        self.reference = disk / "reference"
        self.server = Server(disk / "store")
        self.client = Client(disk / "client", self.server.environment)

    def add(self, name: str, make: Callable[[Path], None]) -> None:
        """Make it once, and copy it into the bucket."""
        make(self.reference / name)
        copy = shutil.copytree if (self.reference / name).is_dir() else shutil.copyfile
        copy(self.reference / name, self.server.bucket / name)

    def load(self) -> None:
        with self.client.mounted(URI) as folder:
            self.client.run("load", str(folder))

    def end(self) -> None:
        self.client.end()
        self.server.stop()


@pytest.fixture(scope="module")
def setting(disk: Path, memory_cgroup: str) -> Iterator[Setting]:
    made = Setting(disk / "pipelines", memory_cgroup)
    try:
        made.add("model", lambda path: print(pipelines.run("make-tensors", path)))
        made.add("shards", lambda path: pipelines.write_shards(path, shards=16, samples=200, sample_bytes=60_000))
        made.add("table", lambda path: pipelines.write_parquet(path, files=16, rows=400_000))
        made.load()
        yield made
    finally:
        made.end()


def measure(setting: Setting, pairs: Pairs, record: Record, figure: str, program: str, name: str) -> None:
    """A reader's time through a new mount that has everything cached, over that on the plain disk, both uncached."""
    resident, traffic, said = [], [], set()
    source = setting.reference / name

    def raw() -> float:
        resident.append(pagecache.drop_and_check([source] if source.is_file() else pagecache.files_below(source)))
        told = pipelines.read(program, source)
        said.add(told[1:])
        return told.seconds

    def mounted() -> float:
        with setting.client.mounted(URI) as folder:
            resident.append(pagecache.drop_and_check(setting.client.cache_files()))
            told = pipelines.read(program, folder / name)
            said.add(told[1:])
            traffic.append(setting.client.status()["traffic"])
        return told.seconds

    raw_seconds, mount_seconds = pairs(raw, mounted)
    assert len(said) == 1, "the two sides read different things"
    record(
        figure,
        median_ratio(mount_seconds, raw_seconds),
        **traffic_facts(traffic),
        resident_pages=max(resident),
        seconds=statistics.median(mount_seconds),
        reference_seconds=statistics.median(raw_seconds),
        cgroup=setting.cgroup,
    )


@pytest.mark.figure_safetensors_load_vs_raw
def test_model(setting: Setting, pairs: Pairs, record: Record) -> None:
    measure(setting, pairs, record, "safetensors_load_vs_raw", "tensors", "model")


@pytest.mark.figure_shards_vs_raw
def test_shards(setting: Setting, pairs: Pairs, record: Record) -> None:
    measure(setting, pairs, record, "shards_vs_raw", "shards", "shards")


@pytest.mark.figure_parquet_scan_vs_raw
def test_table(setting: Setting, pairs: Pairs, record: Record) -> None:
    measure(setting, pairs, record, "parquet_scan_vs_raw", "scan", "table")


@pytest.mark.figure_images_vs_raw
def test_images(setting: Setting, pairs: Pairs, record: Record) -> None:
    pytest.importorskip("torchvision", reason="needs torchvision: the extra torch")
    setting.add("images", lambda path: pipelines.write_images(path, classes=20, images=100, side=128))
    setting.load()
    measure(setting, pairs, record, "images_vs_raw", "images", "images")


@pytest.mark.figure_safetensors_cold_link_fraction
def test_model_cold(disk: Path, memory_cgroup: str, benchmark: Any, record: Record) -> None:
    work = disk / "cold"
    size = _make_model(work / "store" / BUCKET / "model")
    wanted = pipelines.read("tensors", work / "store" / BUCKET / "model")
    traffic, runs = [], []
    with Server(work / "store") as unlimited:
        bare_rate = bare_bytes_per_second(unlimited, BUCKET, "model", size)
    with Server(work / "store", "--latency", "20ms", "--bandwidth", "100MB/s") as server:
        client = Client(work / "client", server.environment)

        def once() -> None:
            shutil.rmtree(client.cache_dir, ignore_errors=True)
            with client.mounted(URI) as folder:
                told = pipelines.read("tensors", folder / "model")
                assert told[1:] == wanted[1:]
                runs.append(told.seconds)
                traffic.append(client.status()["traffic"])

        try:
            benchmark.pedantic(once, rounds=PAIRS, iterations=1)
        finally:
            client.end()
    seconds = statistics.median(runs)
    record(
        "safetensors_cold_link_fraction",
        size / seconds / LINK_BYTES_PER_SECOND,
        server_factor=round(bare_rate / LINK_BYTES_PER_SECOND, 2),
        **traffic_facts(traffic),
        seconds=seconds,
        cgroup=memory_cgroup,
    )


def _make_model(path: Path) -> int:
    pipelines.run("make-tensors", path)
    return path.stat().st_size
