"""The namespace's own speed and memory: a million inodes into SQLite, and what reading them costs.

    python -m bench.micro.namespace [--json] [--dir DIR] [--inodes N] [--flat]

The UFS is a driver that makes up its pages, so what is measured is listing, merging and SQLite, and the making up (told
apart as ``driver_seconds``).  ``--flat`` puts all inodes into one directory.  Memory is the process's peak (VmHWM).
The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import tempfile
import time
from pathlib import Path

from jindopy.base.clock import Deadline
from jindopy.base.errors import ObjectNotFound
from jindopy.base.ident import ROOT_INODE, Kind, UfsId
from jindopy.namespace.service import EmbeddedMaster, MountRequest
from jindopy.ufs.base import Body, Capability, ListPage, ObjectStat

MTIME_NS = 1_700_000_000_000_000_000
IN_A_DIRECTORY = 1000
SAMPLES = 2000


class MadeUp:
    """A bucket of ``count`` objects that exist in its listings only."""

    scheme = "madeup"
    ufs_id = UfsId("madeup://bucket")
    endpoint = "madeup"
    capabilities = Capability.STRONG_TOKEN

    def __init__(self, count: int, in_a_directory: int) -> None:
        self.directories, self.files = count // in_a_directory, in_a_directory
        self.seconds = 0.0

    def stat(self, key: bytes, *, deadline: Deadline) -> ObjectStat:
        raise ObjectNotFound("made up", key=key)

    def list_page(
        self, prefix: bytes, *, delimiter: bool, cursor: str = "", limit: int = 1000, deadline: Deadline
    ) -> ListPage:
        started = time.perf_counter()
        first = int(cursor or 0)
        if prefix:
            last = min(first + limit, self.files)
            objects = [
                ObjectStat(b"%simg_%08d.jpg" % (prefix, n), 100_000 + n, MTIME_NS + n, b"%032X" % n, Kind.FILE)
                for n in range(first, last)
            ]
            page = ListPage(objects, [], str(last) if last < self.files else "")
        else:
            last = min(first + limit, self.directories)
            prefixes = [b"class_%06d/" % n for n in range(first, last)]
            page = ListPage([], prefixes, str(last) if last < self.directories else "")
        self.seconds += time.perf_counter() - started
        return page

    def get(self, key: bytes, offset: int, size_bytes: int, *, token: bytes | None, deadline: Deadline) -> Body:
        raise ObjectNotFound("made up", key=key)

    def read_link(self, key: bytes, *, deadline: Deadline) -> bytes:
        raise ObjectNotFound("made up", key=key)

    def put(self, key: bytes, data: object, *, deadline: Deadline) -> ObjectStat:
        raise ObjectNotFound("made up", key=key)

    def delete(self, keys: list[bytes], *, deadline: Deadline) -> None:
        raise ObjectNotFound("made up", key=keys[0])

    def check(self, *, deadline: Deadline) -> None:
        return

    def close(self) -> None:
        return


def peak_mb() -> float:
    """Largest resident size so far."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def measure(directory: Path, inodes: int, flat: bool) -> dict[str, float]:
    """All figures."""
    driver = MadeUp(inodes, inodes if flat else IN_A_DIRECTORY)
    before_mb = peak_mb()
    master = EmbeddedMaster(
        directory, [MountRequest(path=b"", uri="madeup://bucket", driver=driver, ttl_seconds=float("inf"))]
    )
    never = Deadline.never()
    cpu, started = time.process_time(), time.perf_counter()
    count = master.sync_tree(ROOT_INODE, deadline=never)
    seconds = time.perf_counter() - started
    cpu_seconds = time.process_time() - cpu
    memory_mb = peak_mb()
    if count.files != driver.directories * driver.files:
        raise SystemExit(f"namespace: {count.files} files in the store, not {driver.directories * driver.files}")
    figures = {
        "inodes": float(count.files + count.directories),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "driver_seconds": driver.seconds,
        "memory_mb": memory_mb,
        "memory_before_mb": before_mb,
        "objects_per_s": count.files / seconds,
        "bytes_per_row": sum(f.stat().st_size for f in directory.glob("namespace.db*")) / count.files,
    }
    started = time.perf_counter()
    master.count(ROOT_INODE)
    figures["count_seconds"] = time.perf_counter() - started
    started = time.perf_counter()
    driver.seconds = 0.0
    master.sync_tree(ROOT_INODE, deadline=never)
    figures["unchanged_seconds"] = time.perf_counter() - started
    started = time.perf_counter()
    walked = sum(1 for _ in master.walk(ROOT_INODE))
    figures["walk_us_per_file"] = (time.perf_counter() - started) / walked * 1e6
    figures |= _reads(master, driver)
    figures["memory_after_reads_mb"] = peak_mb()
    master.close()
    return figures


def _reads(master: EmbeddedMaster, driver: MadeUp) -> dict[str, float]:
    draw = random.Random(1)
    directories = [
        master.lookup(ROOT_INODE, b"class_%06d" % n, deadline=Deadline.never()).node for n in range(driver.directories)
    ]
    some = [node.inode for node in draw.choices(directories, k=SAMPLES) if node is not None]
    names = [b"img_%08d.jpg" % draw.randrange(driver.files) for _ in some]
    started = time.perf_counter()
    for inode, name in zip(some, names, strict=True):
        if master.lookup(inode, name, deadline=Deadline.never()).node is None:
            raise SystemExit("namespace: a name is missing")
    lookup = (time.perf_counter() - started) / len(some)
    started = time.perf_counter()
    entries = 0
    for inode in dict.fromkeys(some[:100]):
        for page in master.read_dir(inode, deadline=Deadline.never()):
            entries += len(page.nodes)
    return {"lookup_us": lookup * 1e6, "read_dir_us_per_entry": (time.perf_counter() - started) / entries * 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="nothing but the JSON object")
    parser.add_argument("--dir", type=Path, help="where the database goes for the time of the run")
    parser.add_argument("--inodes", type=int, default=1_000_000)
    parser.add_argument("--flat", action="store_true")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="namespace-", dir=arguments.dir))
    try:
        figures = measure(directory, arguments.inodes, arguments.flat)
    finally:
        shutil.rmtree(directory)
    if not arguments.json:
        for name, value in figures.items():
            print(f"{name:24}{value:14.2f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
