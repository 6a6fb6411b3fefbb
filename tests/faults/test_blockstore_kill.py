"""kill -9 while a store is written to: what was acknowledged is there at the next start, and nothing wrong is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jindopy._ext.blockindex import IndexRecord, encode_record
from jindopy._ext.blockstore import BlockStore, TierSpec
from tests.twins.blockstore_twin import MIB, cid_of, known_block, sealed

ROUNDS = 8
WRITERS = 3
SNAPSHOT_SECONDS = 30
LINES_MAX = 5000
SIZES = (100_000, 2 * MIB + 300_000, 5)

# Records that change nothing make the log long enough for a snapshot soon after the start: kills hit its stages too.
PADDING = 66_000 * encode_record(IndexRecord("pin", cid_of(1 << 40), 0, 0, MIB, 1, False, 0, 0, ()))


def spec(path: Path) -> TierSpec:
    return TierSpec("SSD", str(path), 4096 * MIB, 1.0, 0.9, 0)


def size_of(number: int) -> int:
    return SIZES[number % len(SIZES)]


def write_until_killed(path: Path, first: int) -> None:
    store = BlockStore([spec(path)], sync_seconds=0.05)
    lock = threading.Lock()

    def write(number: int) -> None:
        while True:
            lease = store.open(cid_of(number), size_of(number), 1)
            for block in range(-(-size_of(number) // MIB)):
                lease.put(block, sealed(known_block(cid_of(number), size_of(number), block)))
                with lock:
                    os.write(1, b"%d %d\n" % (number, block))
            lease.close()
            number += WRITERS

    for writer in range(WRITERS):
        threading.Thread(target=write, args=(first + writer,), daemon=True).start()
    threading.Event().wait()


def renewed(snapshot: Path, last_ns: int) -> bool:
    return snapshot.exists() and snapshot.stat().st_mtime_ns != last_ns


def read_until_snapshot(child: subprocess.Popen[bytes], lines: list[bytes], snapshot: Path, last_ns: int) -> None:
    """However slow the machine: on while there is none; from LINES_MAX on the writers wait in a full pipe."""
    assert child.stdout is not None
    deadline = time.monotonic() + SNAPSHOT_SECONDS
    while not renewed(snapshot, last_ns):
        assert time.monotonic() < deadline, f"no snapshot within {SNAPSHOT_SECONDS} s"
        if len(lines) < LINES_MAX:
            lines.append(child.stdout.readline())
            assert lines[-1], "the writer ended by itself"
        else:
            time.sleep(0.01)
    lines += [child.stdout.readline() for _ in range(20)]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_acknowledged_blocks_survive_kill(tmp_path: Path) -> None:
    acknowledged: set[tuple[int, int]] = set()
    snapshots_by_child = 0
    last_snapshot = 0
    snapshot = tmp_path / "v1" / "index.snap"
    for round_number in range(ROUNDS):
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.test_blockstore_kill", str(tmp_path), str(round_number * 100_000)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        try:
            # A number of blocks, not a time: a slow machine gets as far as a fast one.
            lines = [child.stdout.readline() for _ in range(60 + 37 * round_number)]
            if round_number % 2:
                # Even rounds end before or within the snapshot, odd ones with records behind it.
                read_until_snapshot(child, lines, snapshot, last_snapshot)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        lines += child.stdout.readlines()
        child.stdout.close()
        assert lines[0], "the writer did not start"
        acknowledged |= {(int(line.split()[0]), int(line.split()[1])) for line in lines if line.endswith(b"\n")}
        snapshots_by_child += renewed(snapshot, last_snapshot)
        store = BlockStore([spec(tmp_path)], sync_seconds=0)
        for number, block in acknowledged:
            lease = store.open(cid_of(number), size_of(number), 1)
            expected = known_block(cid_of(number), size_of(number), block)
            assert lease.read(block * MIB, len(expected)) == expected
            lease.close()
        assert store.counters()["crc_failures"] == 0
        store.close()
        last_snapshot = snapshot.stat().st_mtime_ns
        with (tmp_path / "v1" / "index.log").open("ab") as log:
            log.write(PADDING)
    assert snapshots_by_child >= ROUNDS // 2, "the writers made no snapshots"


if __name__ == "__main__":
    write_until_killed(Path(sys.argv[1]), int(sys.argv[2]))
