"""Cache directories of format 2, whose files lay one directory deeper: they move up and nothing is fetched again."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jindopy._ext.blockfiles import cid_path
from jindopy._ext.blockindex import encode_header
from jindopy._ext.blockstore import BlockStore, TierSpec
from tests.twins.blockstore_twin import MIB, cid_of, known_block, sealed

SMALL = 3000
# Of these only the second block is there at first.
HALVES = range(SMALL, SMALL + 40)
KILLS = 5


def size_of(number: int) -> int:
    return MIB + 100 if number in HALVES else 700


def start(path: Path) -> BlockStore:
    return BlockStore([TierSpec("SSD", str(path), 1024 * MIB, 1.0, 0.9, 0)], sync_seconds=0)


def put(store: BlockStore, number: int, block: int = 0) -> None:
    lease = store.open(cid_of(number), size_of(number), 1)
    lease.put(block, sealed(known_block(cid_of(number), size_of(number), block)))
    lease.close()


def holds(store: BlockStore, number: int, block: int = 0) -> bool:
    """Whether a block is there, and then its bytes are right."""
    expected = known_block(cid_of(number), size_of(number), block)
    lease = store.open(cid_of(number), size_of(number), 1)
    found = lease.read(block * MIB, len(expected))
    lease.close()
    assert found in (None, expected)
    return found is not None


def old_place(path: Path, number: int) -> Path:
    name = cid_of(number).hex()
    return path / "v1" / "SSD" / name[:2] / name[2:4] / name


def new_place(path: Path, number: int) -> Path:
    return path / "v1" / "SSD" / cid_path(cid_of(number))


def age(path: Path) -> None:
    """Turn a closed cache directory into what the release before wrote: places of files, headers of both indexes."""
    files = path / "v1" / "SSD"
    for file in [file for file in files.glob("*/*") if file.is_file()]:
        deeper = file.parent / file.name[2:4]
        deeper.mkdir(mode=0o700, exist_ok=True)
        file.rename(deeper / file.name)
    for name in ("index.log", "index.snap"):
        index = path / "v1" / name
        data = index.read_bytes()
        assert struct.unpack_from("<8sHH", data) == (b"JINDOIDX", 3, 3)
        header = encode_header(name == "index.snap", data[16:32], format_version=2, min_reader=1)
        index.write_bytes(header + data[64:])


def old_directories(path: Path) -> int:
    """How many directories of format 2 there still are."""
    return sum(found.is_dir() for found in (path / "v1" / "SSD").glob("??/??"))


def wait_until(condition: Callable[[], bool]) -> None:
    """The janitor looks through the files in its own time."""
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("the janitor never got there")


def filled(path: Path, count: int) -> Path:
    store = start(path)
    for number in range(count):
        put(store, number)
    store.close()
    return path


def test_a_new_file_lies_one_directory_deep(tmp_path: Path) -> None:
    filled(tmp_path, 20)
    name = cid_of(3).hex()
    assert cid_path(cid_of(3)) == f"{name[:2]}/{name}"
    assert new_place(tmp_path, 3).stat().st_size == size_of(3)
    assert old_directories(tmp_path) == 0


def test_files_move_up_and_none_is_lost(tmp_path: Path) -> None:
    age(filled(tmp_path, 300))
    assert old_directories(tmp_path) > 250
    assert old_place(tmp_path, 7).exists()
    store = start(tmp_path)
    assert all(holds(store, number) for number in range(300)), "while the janitor moves them"
    wait_until(lambda: old_directories(tmp_path) == 0)
    assert all(new_place(tmp_path, number).exists() for number in range(300))
    on_disk = sum(path.stat().st_blocks * 512 for path in (tmp_path / "v1" / "SSD").rglob("*"))
    wait_until(lambda: store.stats()[0].used_bytes == on_disk)
    assert store.counters()["crc_failures"] == store.counters()["strays_removed"] == 0
    store.close()
    for name in ("index.log", "index.snap"):
        assert struct.unpack_from("<HH", (tmp_path / "v1" / name).read_bytes(), 8) == (3, 3)
    store = start(tmp_path)
    assert all(holds(store, number) for number in range(300))
    store.close()


def test_what_nobody_knows_goes_and_the_rest_of_the_directory_is_left_alone(tmp_path: Path) -> None:
    age(filled(tmp_path, 20))
    files = tmp_path / "v1" / "SSD"
    old = old_place(tmp_path, 0).parent
    stray, misplaced = old_place(tmp_path, 1000), old / cid_of(1).hex()
    stray.parent.mkdir(parents=True, exist_ok=True)
    free = next(name for name in ("00", "01", "02") if not (old.parent / name).exists())
    junk = [stray, misplaced, old / "notes", old.parent / "notes", old.parent / free, files / "notes"]
    junk += [files / next(f"{first:02x}" for first in range(256) if not (files / f"{first:02x}").exists())]
    for path in junk:
        path.write_bytes(b"nobody knows me")
    others = [tmp_path / "notes", tmp_path / "v1" / "notes"]
    for path in others:
        path.write_bytes(b"not the store's")
    store = start(tmp_path)
    wait_until(lambda: old_directories(tmp_path) == 0 and not any(path.exists() for path in junk))
    assert all(holds(store, number) for number in range(20))
    assert not new_place(tmp_path, 1000).exists()
    assert [path.read_bytes() for path in others] == [b"not the store's"] * 2
    store.close()


def test_while_the_move_cannot_be_finished_every_file_is_found(tmp_path: Path) -> None:
    """Something in the way ends the janitor's walk early: what is opened is moved then, what is evicted is removed."""
    age(filled(tmp_path, 200))
    obstacles = []
    for upper in (tmp_path / "v1" / "SSD").iterdir():
        name = upper.name + "ff" + 28 * "0"
        (upper / name / "full").mkdir(parents=True)
        (upper / "ff").mkdir(exist_ok=True)
        (upper / "ff" / name).write_bytes(b"cannot be moved")
        obstacles.append(upper / name)
    store = start(tmp_path)
    time.sleep(0.2)
    waiting = [number for number in range(200) if old_place(tmp_path, number).exists()]
    assert len(waiting) > 100, "the walk was to end in the first directory"
    assert store.evict(cid_of(waiting[0])) > 0
    assert not old_place(tmp_path, waiting[0]).exists()
    assert [number for number in range(200) if not holds(store, number)] == waiting[:1]
    assert not any(old_place(tmp_path, number).exists() for number in range(200))
    put(store, waiting[0])
    store.close()
    for obstacle in obstacles:
        (obstacle / "full").rmdir()
        obstacle.rmdir()
    store = start(tmp_path)
    wait_until(lambda: old_directories(tmp_path) == 0)
    assert all(holds(store, number) for number in range(200))
    store.close()


def test_a_file_at_both_places_is_one_of_them(tmp_path: Path) -> None:
    """Nothing we do leaves two; should it happen, the CRCs say what is right of the one that stays."""
    filled(tmp_path, 40)
    wrong = {number: new_place(tmp_path, number).read_bytes()[::-1] for number in range(10)}
    age(tmp_path)
    for number, data in wrong.items():
        new_place(tmp_path, number).write_bytes(data)
    store = start(tmp_path)
    assert all(holds(store, number) for number in range(40))
    wait_until(lambda: old_directories(tmp_path) == 0)
    assert all(holds(store, number) for number in range(40))
    store.close()


def start_and_put(path: Path, numbers: range) -> None:
    print("begins", flush=True)
    store = start(path)
    for number in numbers:
        put(store, number)
        print(number, flush=True)
    threading.Event().wait()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_while_files_move(tmp_path: Path) -> None:
    filled(tmp_path, SMALL)
    store = start(tmp_path)
    for number in HALVES:
        put(store, number, 1)
    store.close()
    age(tmp_path)
    everything = range(SMALL + len(HALVES))
    acknowledged: list[int] = []
    met_halfway = 0
    at_first = old_directories(tmp_path)
    for round_number in range(KILLS):
        before = old_directories(tmp_path)
        numbers = HALVES[8 * round_number : 8 * round_number + 8]
        command = [sys.executable, "-m", "tests.faults.test_blockstore_layout", str(tmp_path)]
        child = subprocess.Popen(
            [*command, str(numbers.start), str(numbers.stop)], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == b"begins\n"
            deadline = time.monotonic() + 30
            # Some way on, so that all rounds together have something to do.
            while old_directories(tmp_path) > before - at_first // (4 * KILLS):
                assert time.monotonic() < deadline, "no file was moved"
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        acknowledged += [int(line) for line in child.stdout.readlines() if line.endswith(b"\n")]
        child.stdout.close()
        met_halfway += 0 < old_directories(tmp_path) < at_first
        # Each is at one place, whole; a release before this one would refuse the directory.
        for number in everything:
            assert old_place(tmp_path, number).exists() != new_place(tmp_path, number).exists()
        assert struct.unpack_from("<HH", (tmp_path / "v1" / "index.log").read_bytes(), 8) == (3, 3)
    assert met_halfway > 1
    store = start(tmp_path)
    assert all(holds(store, number) for number in range(SMALL))
    assert all(holds(store, number, 1) for number in HALVES)
    assert all(holds(store, number) for number in acknowledged)
    wait_until(lambda: old_directories(tmp_path) == 0)
    assert store.counters()["crc_failures"] == store.counters()["strays_removed"] == 0
    store.close()


if __name__ == "__main__":
    start_and_put(Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3])))
