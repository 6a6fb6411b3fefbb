"""Programs that read data the way training and analytics do, with the libraries that do it, each a process of its own.

    python -m bench.lib.pipelines make-tensors PATH...     the same model file at each path
    python -m bench.lib.pipelines tensors PATH             safetensors: map the file, sum each tensor
    python -m bench.lib.pipelines shards FOLDER            webdataset: every sample of every tar shard
    python -m bench.lib.pipelines scan FOLDER              duckdb: an aggregate over Parquet files
    python -m bench.lib.pipelines images FOLDER            torchvision: ImageFolder, DataLoader of 2 workers, one epoch

Readers print JSON: seconds from the first open to the last item (imports before it), items, and a digest that says what
was read.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import random
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PIECE_BYTES = 1 << 20
TENSORS = 60
TENSOR_BYTES = 1_000_000_000 // TENSORS // 4096 * 4096
IMAGE_WORKERS = 2
TIMEOUT_SECONDS = 600


class Told(NamedTuple):
    """What a reader printed."""

    seconds: float
    items: int
    digest: str


def read(program: str, path: Path) -> Told:
    """Run one of the readers."""
    return Told(**json.loads(run(program, path)))


def run(program: str, *paths: Path) -> str:
    """Run a program of this file; returns what it printed."""
    command = [sys.executable, "-m", "bench.lib.pipelines", program, *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    if done.returncode:
        raise RuntimeError(f"{program}: {done.stderr[-2000:]}")
    return done.stdout


# --- what is read -----------------------------------------------------------------------------------------------------


def make_tensors(*paths: str) -> None:
    """A model of 1 GB in 60 tensors, written in pieces as an ordinary program would."""
    import numpy as np
    from safetensors.numpy import save

    source = np.random.default_rng(1)
    columns = 1024
    data = memoryview(
        save(
            {
                f"layer.{number:02}": source.random((TENSOR_BYTES // 4 // columns, columns), dtype=np.float32)
                for number in range(TENSORS)
            }
        )
    )
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb", buffering=0) as file:
            for start in range(0, len(data), PIECE_BYTES):
                file.write(data[start : start + PIECE_BYTES])


def write_shards(folder: Path, shards: int, samples: int, sample_bytes: int) -> None:
    """Tar files as webdataset names their members."""
    source = random.Random(2)
    folder.mkdir(parents=True)
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:04}.tar", "w") as tar:
            for number in range(samples):
                for suffix, data in (("bin", source.randbytes(sample_bytes)), ("cls", b"%d" % source.randrange(1000))):
                    member = tarfile.TarInfo(f"{shard:04}-{number:05}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def write_parquet(folder: Path, files: int, rows: int) -> None:
    """Tables of which a query needs two columns of four."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = np.random.default_rng(3)
    folder.mkdir(parents=True)
    for number in range(files):
        columns: dict[str, Any] = {name: source.random(rows) for name in ("value", "weight", "other")}
        columns["group"] = source.integers(0, 100, rows)
        pq.write_table(pa.table(columns), folder / f"{number:03}.parquet", row_group_size=rows // 4)


def write_images(folder: Path, classes: int, images: int, side: int) -> None:
    """JPEGs in a folder a class."""
    import numpy as np
    from PIL import Image

    source = np.random.default_rng(4)
    for number in range(classes * images):
        path = folder / f"class{number % classes:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path, quality=85)


# --- readers ----------------------------------------------------------------------------------------------------------


def tensors(path: str) -> Told:
    from safetensors import safe_open

    start = time.perf_counter()
    total = 0.0
    with safe_open(path, framework="np") as file:
        names = list(file.keys())
        for name in names:
            total += float(file.get_tensor(name).sum(dtype="float64"))
    return Told(time.perf_counter() - start, len(names), f"{total:.3f}")


def shards(folder: str) -> Told:
    import webdataset as wds

    urls = sorted(str(path) for path in Path(folder).iterdir())
    start = time.perf_counter()
    items = size = total = 0
    for sample in wds.WebDataset(urls, shardshuffle=False).decode():
        items += 1
        size += len(sample["bin"])
        total += sample["cls"]
    return Told(time.perf_counter() - start, items, f"{size} {total}")


def scan(folder: str) -> Told:
    import duckdb

    start = time.perf_counter()
    with duckdb.connect() as connection:
        rows = connection.execute(
            'select "group", count(*), sum(value) from read_parquet(?) group by "group" order by "group"',
            [f"{folder}/*.parquet"],
        ).fetchall()
    seconds = time.perf_counter() - start
    return Told(seconds, sum(row[1] for row in rows), f"{sum(row[2] for row in rows):.3f}")


def images(folder: str) -> Told:
    import torch
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import ToTensor

    torch.manual_seed(5)
    start = time.perf_counter()
    dataset = ImageFolder(folder, transform=ToTensor())
    loader = torch.utils.data.DataLoader(dataset, batch_size=64, shuffle=True, num_workers=IMAGE_WORKERS)
    items, total = 0, 0.0
    for batch, labels in loader:
        items += len(labels)
        total += float(batch.double().sum()) + float(labels.sum())
    return Told(time.perf_counter() - start, items, f"{total:.0f}")


READERS: dict[str, Callable[[str], Told]] = {"tensors": tensors, "shards": shards, "scan": scan, "images": images}


def main(program: str, *paths: str) -> None:
    if program == "make-tensors":
        make_tensors(*paths)
        return
    with contextlib.redirect_stdout(sys.stderr):  # libraries that greet
        told = READERS[program](*paths)
    print(json.dumps(told._asdict()))


if __name__ == "__main__":
    main(*itertools.islice(sys.argv, 1, None))
