"""What a GET costs, without FUSE and namespace: ``python -m bench.micro.gets [--files N] [--megabytes N] [--tls]``.

Small objects and one large one go through the Filler into a cache, by the native client and by Python's, each in turn
with the other; printed are CPU of this process a GET (or a GB) and rates, the medians of ``--rounds``.
"""

from __future__ import annotations

import argparse
import collections
import os
import resource
import statistics
import tempfile
import threading
import time
from pathlib import Path

from bench.lib import content
from bench.lib.server import BUCKET, KEY_ID, KEY_SECRET, Server
from jindopy._ext.blockstore import TierSpec
from jindopy._ext.iobuf import BufferPool
from jindopy.base.clock import Deadline
from jindopy.base.ident import FileVersion, MountId
from jindopy.cache.fill import Filler, Priority
from jindopy.cache.store import Cache
from jindopy.ufs.base import Driver
from jindopy.ufs.credentials import Credentials, Static
from jindopy.ufs.layers import LayerConfig, wrap
from jindopy.ufs.registry import open_driver

MOUNT = MountId(1)
SMALL_BYTES = 100_000
FLYING = 32


class Drivers:
    """One driver for every mount."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def driver(self, mount: MountId) -> Driver:
        return self._driver


def versions(driver: Driver, prefix: bytes) -> list[FileVersion]:
    found: list[FileVersion] = []
    cursor = ""
    while True:
        page = driver.list_page(prefix, delimiter=False, cursor=cursor, deadline=Deadline.after(60))
        found += [FileVersion.of(MOUNT, driver.ufs_id, one.key, one.token, one.size) for one in page.objects]
        cursor = page.cursor
        if not cursor:
            return found


def fetch(server: Server, client: str, prefix: bytes, folder: Path) -> tuple[float, float, int]:
    """Seconds, CPU seconds and bytes of bringing all below ``prefix`` into an empty cache."""
    options = {"fs.oss.endpoint": server.endpoint, "fs.oss.region": "cn-hangzhou", "fs.oss.client": client}
    bare, _ = open_driver(f"oss://{BUCKET}", options, Static(Credentials(KEY_ID, KEY_SECRET)))
    driver = wrap(bare, LayerConfig())
    wanted = versions(driver, prefix)
    cache = Cache([TierSpec("SSD", str(folder), 8 << 30, 0.95, 0.8, 0)])
    filler = Filler(cache, Drivers(driver), BufferPool(64 << 20))
    room = threading.Semaphore(FLYING)
    errors: collections.deque[object] = collections.deque()

    def landed(_: int, error: object) -> None:
        if error is not None:
            errors.append(error)
        room.release()

    began, cpu = time.perf_counter(), process_seconds()
    for version in wanted:
        lease = cache.open(version)
        for block in range(version.block_count):
            if block % 4 == 0:
                for flight in filler.request(version, lease, block, 4, Priority.READAHEAD):
                    room.acquire()
                    flight.when_done(landed)
        lease.close()
    for _ in range(FLYING):
        room.acquire()
    spent = time.perf_counter() - began, process_seconds() - cpu
    filler.close()
    cache.close()
    driver.close()
    if errors:
        raise SystemExit(f"a GET failed: {errors[0]}")
    return *spent, sum(version.size for version in wanted)


def process_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--disk", default="/var/tmp", help="a folder on a disk")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jindopy-gets-", dir=chosen.disk) as text:
        work = Path(text)
        for number in range(chosen.files):
            content.write_file(work / "store" / BUCKET / "small" / f"{number:05}", SMALL_BYTES, number)
        content.write_file(work / "store" / BUCKET / "large" / "file", chosen.megabytes << 20)
        with Server(work / "store") as server:
            measured: dict[tuple[str, str], list[tuple[float, float, int]]] = collections.defaultdict(list)
            for number in range(chosen.rounds):
                for client in ("native", "python"):
                    for what in ("small", "large"):
                        folder = work / f"cache-{number}-{client}-{what}"  # never reused: fresh inodes cost less
                        measured[what, client].append(fetch(server, client, f"{what}/".encode(), folder))
    for (what, client), runs in measured.items():
        seconds, cpu = (statistics.median(run[index] for run in runs) for index in (0, 1))
        byte_count = runs[0][2]
        each = (
            f"{cpu / chosen.files * 1e6:.0f} us of CPU a GET, {chosen.files / seconds:.0f} GETs/s"
            if what == "small"
            else f"{cpu / byte_count * 1e9:.3f} CPU-s/GB, {byte_count / seconds / 1e6:.0f} MB/s"
        )
        print(f"{what} {client}: {each}", flush=True)
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
