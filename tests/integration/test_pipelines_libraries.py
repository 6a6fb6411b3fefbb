"""Data libraries over a mounted bucket, unchanged: what they read is what was written, fetched once.

They are the extra ``pipelines``: skipped with the reason where it is not installed, never in CI.
"""

from __future__ import annotations

import io
import itertools
import json
import random
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines_fixture import Bucket, bucket_on_slow_store

for library in ("numpy", "PIL", "pyarrow", "duckdb", "safetensors", "webdataset"):
    pytest.importorskip(library, reason=f"needs {library}: the extra pipelines")

pytestmark = pytest.mark.root


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    with bucket_on_slow_store(tmp_path) as bucket:
        yield bucket


# --- safetensors ------------------------------------------------------------------------------------------------------


def test_safetensors_are_mapped(bucket: Bucket) -> None:
    import numpy as np
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    source = np.random.default_rng(1)
    tensors = {f"layer.{number}.weight": source.standard_normal((256, 512 + number)) for number in range(12)}
    save_file(tensors, bucket.folder / "model.safetensors")
    path = bucket.mount() / "model.safetensors"
    with safe_open(path, framework="np") as file:
        assert set(file.keys()) == set(tensors)
        for name in random.Random(2).sample(sorted(tensors), len(tensors)):
            assert file.get_tensor(name).sum() == tensors[name].sum()
        part = file.get_slice("layer.3.weight")[10:20]
        assert np.array_equal(part, tensors["layer.3.weight"][10:20])
    blocks = -(-path.stat().st_size // (1 << 20))
    assert bucket.gets <= blocks
    loaded = load_file(path)
    assert all(np.array_equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert bucket.gets <= blocks


# --- Parquet ----------------------------------------------------------------------------------------------------------


ROWS = 20_000


def parquet_files(folder: Path) -> Any:
    """Twelve files by hive partition, several row groups each, and the table they hold together."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = random.Random(3)
    tables = []
    for number, (year, part) in enumerate(itertools.product((2023, 2024, 2025), range(4))):
        table = pa.table(
            {
                "id": pa.array(range(number * ROWS, (number + 1) * ROWS), pa.int64()),
                "value": [source.random() for _ in range(ROWS)],
                "text": [f"row {source.randrange(1000)}" for _ in range(ROWS)],
            }
        )
        path = folder / f"year={year}" / f"part-{part}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=5_000)
        tables.append(table.append_column("year", pa.array([year] * ROWS, pa.int32())))
    return pa.concat_tables(tables)


@pytest.mark.parametrize("memory_map", [False, True])
def test_pyarrow_reads_whole_files_and_single_columns(bucket: Bucket, memory_map: bool) -> None:
    import pyarrow.parquet as pq

    everything = parquet_files(bucket.folder / "table")
    mount = bucket.mount()
    one = pq.read_table(mount / "table/year=2024/part-1.parquet", memory_map=memory_map, partitioning=None)
    assert one.num_rows == ROWS
    ids = pq.read_table(mount / "table/year=2024/part-2.parquet", columns=["id"], memory_map=memory_map)
    assert ids["id"].to_pylist() == list(range(6 * ROWS, 7 * ROWS))
    whole = pq.read_table(mount / "table", memory_map=memory_map).sort_by("id")
    assert whole.select(["id", "value", "text"]) == everything.select(["id", "value", "text"])


def test_pyarrow_datasets_skip_what_a_filter_excludes(bucket: Bucket) -> None:
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    everything = parquet_files(bucket.folder / "table")
    dataset = ds.dataset(bucket.mount() / "table", partitioning="hive")
    found = dataset.to_table(columns=["value"], filter=(ds.field("year") == 2024) & (ds.field("id") < 4 * ROWS + 5_000))
    assert found.num_rows == 5_000
    wanted = everything.filter((pc.field("year") == 2024) & (pc.field("id") < 4 * ROWS + 5_000))
    assert pc.sum(found["value"]).as_py() == pytest.approx(pc.sum(wanted["value"]).as_py())
    # Of eleven files at most the footer is needed.
    assert bucket.gets <= 12


def test_duckdb_queries_files_by_a_glob(bucket: Bucket) -> None:
    import duckdb
    import pyarrow.compute as pc

    everything = parquet_files(bucket.folder / "table")
    mount = bucket.mount()
    with duckdb.connect(config={"threads": 4}) as connection:
        total, rows = connection.execute(
            "select sum(value), count(*) from read_parquet(?, hive_partitioning = true) where year = 2025",
            [f"{mount}/table/*/*.parquet"],
        ).fetchone()
        texts = connection.execute(
            "select count(distinct text) from read_parquet(?)", [f"{mount}/table/*/*.parquet"]
        ).fetchone()
    wanted = everything.filter(pc.field("year") == 2025)
    assert rows == wanted.num_rows
    assert total == pytest.approx(pc.sum(wanted["value"]).as_py())
    assert texts == (pc.count_distinct(everything["text"]).as_py(),)
    blocks = sum(-(-path.stat().st_size // (1 << 20)) for path in mount.rglob("*.parquet"))
    assert bucket.gets <= blocks, "a block was fetched more than once"


# --- webdataset -------------------------------------------------------------------------------------------------------


def write_shards(folder: Path, shards: int, samples: int) -> dict[str, tuple[bytes, int]]:
    """Tar shards of (payload, class) as webdataset names them."""
    source = random.Random(4)
    written = {}
    for shard in range(shards):
        with tarfile.open(folder / f"shard-{shard:04}.tar", "w") as tar:
            for number in range(samples):
                key = f"{shard:04}-{number:05}"
                payload, label = source.randbytes(source.randrange(500, 40_000)), source.randrange(1000)
                written[key] = (payload, label)
                for suffix, data in (("bin", payload), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return written


# The library leaves closing its shards to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_webdataset_streams_shards(bucket: Bucket) -> None:
    import webdataset as wds

    written = write_shards(bucket.folder, shards=6, samples=60)
    mount = bucket.mount()
    dataset = wds.WebDataset(f"{mount}/shard-{{0000..0005}}.tar", shardshuffle=6, seed=5).shuffle(50).decode()
    seen = {sample["__key__"]: (sample["bin"], sample["cls"]) for sample in dataset}
    assert seen == written
    assert bucket.gets <= sum(-(-path.stat().st_size // (1 << 20)) for path in mount.glob("*.tar"))


# --- images by class --------------------------------------------------------------------------------------------------


def write_images(folder: Path, classes: int, images: int) -> dict[str, int]:
    """Small JPEGs in a folder a class, and the sum of pixels of each."""
    import numpy as np
    from PIL import Image

    source = np.random.default_rng(6)
    sums = {}
    for number in range(classes * images):
        path = folder / f"class{number % classes:02}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = source.integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, quality=90)
        sums[str(path.relative_to(folder))] = pixel_sum(path)
    return sums


def pixel_sum(path: Path) -> int:
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return int(np.asarray(image.convert("RGB"), dtype=np.int64).sum())


WORKER = """
import json, sys
from pathlib import Path
from tests.integration.test_pipelines_libraries import pixel_sum
folder, *names = sys.argv[1:]
print(json.dumps({name: pixel_sum(Path(folder) / name) for name in names}))
"""


def decode_by_processes(folder: Path, names: list[str], processes: int) -> dict[str, int]:
    """Each process its share, all at once."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder), *names[number::processes]],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
        )
        for number in range(processes)
    ]
    told = [worker.communicate(timeout=60)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * processes
    return {name: total for part in told for name, total in json.loads(part).items()}


def test_images_are_decoded_by_processes_in_random_order(bucket: Bucket) -> None:
    """What a data loader with workers does: classes are folders, every epoch another order."""
    sums = write_images(bucket.folder, classes=8, images=50)
    mount = bucket.mount()
    classes = sorted(entry.name for entry in mount.iterdir())
    names = [f"{name}/{file.name}" for name in classes for file in sorted((mount / name).iterdir())]
    assert sorted(sums) == names
    for epoch in range(2):
        order = random.Random(epoch).sample(names, len(names))
        assert decode_by_processes(mount, order, 4) == sums
        assert bucket.gets == len(names), f"epoch {epoch}: an image was fetched more than once, or not at all"
