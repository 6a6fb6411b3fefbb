"""What a new small file costs the cache: ``python -m bench.micro.cache_puts [--files N] [--bytes N] [--dir DIR]``.

Files go one by one into an empty block store; printed are CPU microseconds a file (system part in brackets) and
directories made, the medians of ``--rounds``.  No file is synced meanwhile, and making the bytes and their CRCs is not
counted.  To compare two builds let their runs take turns.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
from pathlib import Path

from jindopy._ext.blockstore import BlockStore, TierSpec
from jindopy._ext.iobuf import BufferPool

MIB = 1 << 20


def cpu_seconds() -> tuple[float, float]:
    """Of this process so far, the store's own thread included: user, system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime, used.ru_stime


def measure(folder: Path, files: int, size: int) -> tuple[float, float, int]:
    """User and system seconds for all files, and how many directories they lie in."""
    store = BlockStore([TierSpec("SSD", str(folder), files * (size + MIB), 1.0, 0.9, 0)], sync_seconds=0)
    buffer = BufferPool(MIB).acquire(size)
    with memoryview(buffer) as view:
        view[:] = os.urandom(size)
    block = buffer.seal()
    names = [os.urandom(16) for _ in range(files)]
    user, system = cpu_seconds()
    for cid in names:
        lease = store.open(cid, size, 0)
        lease.put(0, block)
        lease.close()
    user_after, system_after = cpu_seconds()
    made = sum(path.is_dir() for path in (folder / "v1" / "SSD").rglob("*"))
    store.close()
    return user_after - user, system_after - system, made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--bytes", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, help="where the cache lies (default: the system's temporary directory)")
    chosen = parser.parse_args()
    found = []
    for _ in range(chosen.rounds):
        with tempfile.TemporaryDirectory(prefix="jindo-puts-", dir=chosen.dir) as folder:
            found.append(measure(Path(folder), chosen.files, chosen.bytes))
    user, system, made = (statistics.median(one) for one in zip(*found, strict=True))
    each = 1e6 / chosen.files
    print(f"{(user + system) * each:.1f} us a file ({system * each:.1f} system), {made:.0f} directories")


if __name__ == "__main__":
    main()
