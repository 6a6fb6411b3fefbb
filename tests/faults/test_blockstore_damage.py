"""Damaged cache files and indexes: what can be trusted is kept, no wrong byte is ever served, nothing crashes."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jindopy._ext.blockfiles import cid_path
from jindopy._ext.blockindex import IndexRecord, decode_record, encode_header, encode_record
from jindopy._ext.blockstore import BlockStore, TierSpec
from jindopy.base.errors import FormatTooNew
from tests.twins.blockstore_twin import MIB, cid_of, known_block, sealed

FILES = 400
FLIPS = 10_000
# Mostly small ones, so that many flips do not mean that everything is damaged.
SIZES = (4096, 100, 20_000, 4096, 1, 700, MIB + 5000, 4096)


def size_of(number: int) -> int:
    return SIZES[number % len(SIZES)]


def blocks_of(number: int) -> range:
    return range(-(-size_of(number) // MIB))


def start(path: Path) -> BlockStore:
    return BlockStore([TierSpec("SSD", str(path), 1024 * MIB, 1.0, 0.9, 0)], sync_seconds=0)


def heal(store: BlockStore, numbers: range) -> int:
    """Read everything; put back what is missing; returns how many blocks that was.  Fails on a wrong byte."""
    healed = 0
    for number in numbers:
        cid, size = cid_of(number), size_of(number)
        lease = store.open(cid, size, 1)
        for block in blocks_of(number):
            expected = known_block(cid, size, block)
            found = lease.read(block * MIB, MIB)
            if found is None:
                assert lease.missing(block, 1) == [block]
                lease.put(block, sealed(expected))
                healed += 1
                found = lease.read(block * MIB, MIB)
            assert found == expected
        lease.close()
    return healed


def flip(path: Path, chance: random.Random, count: int) -> None:
    with path.open("r+b") as file:
        for _ in range(count):
            position = chance.randrange(path.stat().st_size)
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ 1 << chance.randrange(8)]))


@pytest.mark.slow
def test_ten_thousand_flipped_bits(tmp_path: Path, rounds: Callable[[int, int], int]) -> None:
    chance = random.Random(20)
    store = start(tmp_path)
    assert heal(store, range(FILES)) == sum(len(blocks_of(number)) for number in range(FILES))
    store.close()
    for _ in range(rounds(20, 200)):
        for _ in range(FLIPS // 20):
            target = tmp_path / "v1" / "index.snap"
            if chance.random() < 0.9:
                target = tmp_path / "v1" / "SSD" / cid_path(cid_of(chance.randrange(FILES)))
            flip(target, chance, 1)
        store = start(tmp_path)
        kept = sum(stat.cached_bytes for stat in store.files())
        assert kept > 0
        # Flips in the index cost blocks too, without a CRC failure.
        assert heal(store, range(FILES)) >= store.counters()["crc_failures"] > 0
        for number in range(FILES):
            assert store.scrub(cid_of(number)).bad_blocks == []
        assert heal(store, range(FILES)) == 0
        store.close()


def crashed(tmp_path: Path, count: int) -> Path:
    """A cache directory as kill -9 leaves it: everything in the log, no snapshot."""
    store = start(tmp_path / "first")
    heal(store, range(count))
    os.rename(tmp_path / "first", tmp_path / "cache")
    log = (tmp_path / "cache/v1/index.log").read_bytes()
    store.close()
    (tmp_path / "cache/v1/index.log").write_bytes(log)
    (tmp_path / "cache/v1/index.snap").unlink()
    return tmp_path / "cache"


def cut(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def fill_with_noise(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(path.stat().st_size))


def append_noise(path: Path, chance: random.Random) -> None:
    with path.open("ab") as file:
        file.write(chance.randbytes(1000))


def insert_a_byte(path: Path, chance: random.Random) -> None:
    data = path.read_bytes()
    where = chance.randrange(len(data))
    path.write_bytes(data[:where] + b"x" + data[where:])


def repeat(path: Path, chance: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data + data[64 * chance.randrange(len(data) // 64) :])


def empty(path: Path, chance: random.Random) -> None:
    path.write_bytes(b"")


def remove(path: Path, chance: random.Random) -> None:
    path.unlink()


@pytest.mark.parametrize(
    "harm", [cut, fill_with_noise, append_noise, insert_a_byte, repeat, empty, remove], ids=lambda harm: harm.__name__
)
@pytest.mark.parametrize("name", ["index.log", "index.snap"])
def test_a_damaged_index(tmp_path: Path, name: str, harm: Callable[[Path, random.Random], None]) -> None:
    chance = random.Random(7)
    if name == "index.log":
        place = crashed(tmp_path, 40)
    else:
        place = tmp_path / "cache"
        store = start(place)
        heal(store, range(40))
        store.close()
    harm(place / "v1" / name, chance)
    store = start(place)
    heal(store, range(40))
    assert store.counters()["crc_failures"] == 0, "the files are sound, only their index was not"
    store.close()
    store = start(place)
    assert heal(store, range(40)) == 0
    store.close()


# Ten files make eleven records behind the header: one of them has two blocks, and the first of these eight pieces,
# hence two slots.
@pytest.mark.parametrize("slot", range(1, 13))
def test_a_damaged_slot_costs_one_file(tmp_path: Path, slot: int) -> None:
    place = crashed(tmp_path, 10)
    log = place / "v1" / "index.log"
    assert log.stat().st_size == 13 * 64
    data = bytearray(log.read_bytes())
    data[slot * 64 + 9] ^= 16
    log.write_bytes(data)
    store = start(place)
    assert heal(store, range(10)) == 1
    store.close()


@pytest.mark.parametrize("name", ["index.log", "index.snap"])
def test_a_newer_format_is_left_alone(tmp_path: Path, name: str) -> None:
    store = start(tmp_path)
    heal(store, range(3))
    store.close()
    index = tmp_path / "v1" / name
    index.write_bytes(encode_header(name == "index.snap", bytes(16), format_version=5, min_reader=4) + b"?" * 640)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"}
    with pytest.raises(FormatTooNew, match="newer release"):
        start(tmp_path)
    assert {path: path.read_bytes() for path in before} == before


def test_of_format_1_what_still_means_the_same_is_kept(tmp_path: Path) -> None:
    """It had one CRC a block in records of one slot; those of files of one piece are the same today."""
    store = start(tmp_path)
    heal(store, range(10))
    store.close()
    index = tmp_path / "v1" / "index.snap"
    old = bytearray(encode_header(True, bytes(16), format_version=1, min_reader=1))
    data = index.read_bytes()
    at, long = 64, 0
    while at < len(data):
        if data[at] == 5:
            record = decode_record(data[at : at + 128])
            assert record is not None
            old += encode_record(record._replace(crcs=record.crcs[-1:]))
            at, long = at + 128, long + 1
        else:
            old += data[at : at + 64]
            at += 64
    assert long == 1
    index.write_bytes(old)
    store = start(tmp_path)
    assert heal(store, range(10)) == 1
    assert store.counters()["crc_failures"] == 0
    store.close()


def test_an_index_of_many_chunks_is_read_whole(tmp_path: Path) -> None:
    """Records of two slots lie across the ends of what is read at a time."""
    place = tmp_path / "cache"
    store = start(place)
    store.close()
    records = [
        IndexRecord("put", cid_of(number), 0, 0, size, 1, True, number, 0, (number,) * pieces)
        for number in range(20_000)
        for size, pieces in [((100, 1), (MIB, 8), (MIB - 1, 8))[number % 3]]
    ]
    header = encode_header(True, bytes(16))
    (place / "v1" / "index.snap").write_bytes(header + b"".join(map(encode_record, records)))
    store = start(place)  # where the janitor finds no files: pinned entries stay even so
    assert len(store.files()) == 20_000
    store.close()


def test_a_format_that_only_says_it_is_newer_is_read(tmp_path: Path) -> None:
    store = start(tmp_path)
    heal(store, range(3))
    store.close()
    index = tmp_path / "v1" / "index.snap"
    header = encode_header(True, bytes(16), format_version=4, min_reader=3)
    index.write_bytes(header + index.read_bytes()[64:])
    store = start(tmp_path)
    assert heal(store, range(3)) == 0
    store.close()


def wait_until(condition: Callable[[], bool]) -> None:
    """The janitor looks through the files in its own time."""
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("the janitor never got there")


def test_strays_go_and_lost_files_are_noticed(tmp_path: Path) -> None:
    store = start(tmp_path)
    heal(store, range(8))
    store.close()
    files = tmp_path / "v1" / "SSD"
    stray = files / cid_path(cid_of(1000))
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"nobody knows me")
    (files / "ab").mkdir(exist_ok=True)
    (files / "notes.txt").write_bytes(b"nor me")
    (files / cid_path(cid_of(3))).unlink()
    os.truncate(files / cid_path(cid_of(6)), MIB + 17)
    store = start(tmp_path)
    wait_until(lambda: store.counters()["strays_removed"] > 0 and len(store.files()) == 7)
    assert not stray.exists()
    assert not (files / "notes.txt").exists()
    assert store.peek(cid_of(3)) is None
    assert heal(store, range(8)) == 2
    store.close()


def test_after_another_boot_sizes_are_asked_again(tmp_path: Path) -> None:
    """A power cut lost the data of one file but not its record."""
    place = crashed(tmp_path, 10)
    log = place / "v1" / "index.log"
    log.write_bytes(encode_header(False, b"some other boot!") + log.read_bytes()[64:])
    lost = place / "v1" / "SSD" / cid_path(cid_of(6))
    lost.write_bytes(b"")
    os.truncate(lost, size_of(6))
    store = start(place)
    on_disk = sum(path.stat().st_blocks * 512 for path in (place / "v1" / "SSD").rglob("*"))
    wait_until(lambda: store.stats()[0].used_bytes == on_disk)
    assert store.peek(cid_of(6)) is not None, "kept until its first read says what it is"
    assert heal(store, range(10)) == 2
    assert store.counters()["crc_failures"] == 2
    store.close()
    assert log.read_bytes()[16:32] != b"some other boot!"
