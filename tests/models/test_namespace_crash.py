"""kill -9 in the middle of listing a tree, again and again: the file stays sound, and the listing goes on."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jindopy.base.clock import Deadline
from jindopy.base.ident import ROOT_INODE
from jindopy.namespace.service import EmbeddedMaster, MountRequest
from jindopy.ufs.memory import MemoryDriver, MemoryStore

# Besides many small directories one of 40 pages, so that kills fall into the middle of a directory too.
SMALL, IN_SMALL, LARGE = 60, 50, 40_000
WAIT_SECONDS = 60.0

PROGRAM = """
import sys, time
from pathlib import Path
from jindopy.base.clock import Deadline
from jindopy.namespace.service import EmbeddedMaster, MountRequest
sys.path.insert(0, sys.argv[1])
from test_namespace_crash import new_driver
from jindopy.ufs.base import Capability

driver = new_driver()
if sys.argv[4] == "by delimiter":
    type(driver).capabilities = Capability.STRONG_TOKEN
asked = open(sys.argv[3], "a", buffering=1)

def on_call(operation, key):
    asked.write(key.decode() + "\\n")
    time.sleep(0.003)

driver.on_call = on_call
master = EmbeddedMaster(Path(sys.argv[2]), [MountRequest(b"", "memory://x", driver, ttl_seconds=float("inf"))])
print("ready", flush=True)
print(*master.sync_tree(master.root().inode, deadline=Deadline.never()), flush=True)
master.close()
"""


def new_driver() -> MemoryDriver:
    driver = MemoryDriver("x", MemoryStore())
    keys = [b"d%02d/e/f%03d" % (n, m) for n in range(SMALL) for m in range(IN_SMALL)]
    for key in sorted([*keys, *(b"large/part-%06d" % n for n in range(LARGE))]):
        driver.store.put(key, b"x")
    return driver


def start(state: Path, log: Path, way: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(state), str(log), way],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("way", ["by delimiter", "in one pass"])
def test_a_killed_listing_goes_on(tmp_path: Path, way: str) -> None:
    draw = random.Random(4)
    state, log = tmp_path / "state", tmp_path / "asked"
    files = SMALL * IN_SMALL + LARGE
    kills = 0
    for _ in range(6):
        with start(state, log, way) as process:
            time.sleep(draw.uniform(0.02, 0.12))
            process.send_signal(signal.SIGKILL)
            process.wait(WAIT_SECONDS)
            kills += process.returncode == -signal.SIGKILL
        with sqlite3.connect(state / "namespace.db") as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            orphans = "SELECT count(*) FROM inode WHERE parent != 0 AND parent NOT IN (SELECT id FROM inode)"
            assert db.execute(orphans).fetchone() == (0,)
            assert db.execute(
                "SELECT max(id) < (SELECT value FROM meta WHERE key = 'next_inode') FROM inode"
            ).fetchone()
        db.close()
    assert kills >= 3, "the listing is too fast for this test"
    with start(state, log, way) as process:
        assert process.stdout is not None
        told = process.stdout.readline().split()
        assert process.wait(WAIT_SECONDS) == 0
    assert told == [str(files), str(2 * SMALL + 1), str(files)]
    # Pages asked for twice are those that a kill hit: at most what 16 threads had under way, and the page before.
    asked = log.read_text().splitlines()
    pages = 1 + 2 * SMALL + LARGE // 1000
    assert len(asked) <= pages + kills * (16 + 2)
    assert asked.count("large/") <= LARGE // 1000 + kills * 3
    driver = new_driver()
    master = EmbeddedMaster(state, [MountRequest(b"", "memory://x", driver, ttl_seconds=float("inf"))])
    found = {path for path, _ in master.walk(ROOT_INODE)}
    assert found == set(driver.store._keys)
    assert master.resolve(b"large/part-000007", deadline=Deadline.after(10)).size == 1
    master.close()
