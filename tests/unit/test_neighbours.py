"""Opens of small files and the neighbours they ask for."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from jindopy.read.neighbours import (
    GROUPS_MAX,
    REACH_SHARE,
    SCATTER_FILES_MIN,
    STREAMS_MAX,
    NeighbourConfig,
    Neighbours,
    Sibling,
)

SIZE = 100_000
ROOM = 1 << 40


def directory(count: int, size: int = SIZE, name: str = "f{:06}.jpg", first: int = 2) -> list[Sibling]:
    return [Sibling(first + index, name.format(index).encode(), size) for index in range(count)]


class Reader:
    """Opens files of a directory and keeps what is fetched for it, at once or never."""

    def __init__(self, siblings: list[Sibling], config: NeighbourConfig | None = None, room: int = ROOM) -> None:
        self.neighbours = Neighbours(siblings, config)
        self.room = room
        self.fetched: set[int] = set()
        self.hits = 0
        self.opens = 0
        self.now = 0.0

    def open(self, nodeid: int) -> list[int]:
        self.opens += 1
        cached = nodeid in self.fetched
        self.hits += cached
        wanted = self.neighbours.opened(nodeid, self.now, cached, self.room - self.neighbours.ahead_bytes)
        for one in wanted:
            assert one not in self.fetched, "nothing is asked for twice"
            self.neighbours.arrived(one)
        self.fetched |= {nodeid, *wanted}
        return wanted

    def open_all(self, nodeids: Iterable[int]) -> int:
        return sum(len(self.open(nodeid)) for nodeid in nodeids)


def test_one_open_is_no_pattern() -> None:
    assert Reader(directory(10_000)).open(5_000) == []


def test_the_second_in_order_brings_a_first_window_and_no_more() -> None:
    reader = Reader(directory(10_000))
    reader.open(100)
    assert reader.open(101) == [102, 103]


@pytest.mark.parametrize("step", [1, -1, 7, -7])
def test_a_reader_in_steps_finds_its_files_fetched(step: int) -> None:
    siblings = directory(2_000)
    order = [sibling.nodeid for sibling in siblings][::step]
    reader = Reader(siblings)
    reader.open_all(order)
    assert reader.hits >= len(order) - 3
    assert reader.fetched == set(order), "files between the steps are left alone"


def test_the_window_grows_up_to_its_maximum() -> None:
    reader = Reader(directory(5_000), NeighbourConfig(window_max=64))
    asked = [len(reader.open(nodeid)) for nodeid in range(2, 2_002)]
    sizes = [count for count in asked if count]
    assert sizes[:2] == [2, 7], "one of the first two is still ahead"
    assert max(sizes) <= 64
    ahead = reader.neighbours.ahead_bytes // SIZE
    assert 32 <= ahead <= 64


def test_several_processes_on_one_list_are_one_reader() -> None:
    siblings = directory(1_000)
    order = [sibling.nodeid for sibling in siblings]
    draw = random.Random(3)
    for start in range(0, len(order), 8):
        part = order[start : start + 8]
        draw.shuffle(part)
        order[start : start + 8] = part
    reader = Reader(siblings)
    reader.open_all(order)
    assert reader.hits > 950


def test_workers_that_each_read_a_part_are_told_apart() -> None:
    siblings = directory(160 * STREAMS_MAX)
    reader = Reader(siblings)
    for step in range(100):
        for worker in range(STREAMS_MAX):
            reader.open(2 + worker * 160 + step)
    assert reader.hits >= 97 * STREAMS_MAX


def test_the_order_of_the_listing_is_known_as_well_as_that_of_names() -> None:
    siblings = directory(500)
    random.Random(5).shuffle(siblings)
    by_listing = Reader(siblings)
    by_listing.open_all(sibling.nodeid for sibling in siblings)
    by_name = Reader(siblings)
    by_name.open_all(sibling.nodeid for sibling in sorted(siblings, key=lambda one: one.name))
    assert by_listing.hits >= 480
    assert by_name.hits >= 480


@pytest.mark.parametrize("count", [20, 500, 10_000])
def test_a_shuffled_epoch_is_fetched_once_a_share_was_opened(count: int) -> None:
    siblings = directory(count)
    order = [sibling.nodeid for sibling in siblings]
    random.Random(7).shuffle(order)
    reader = Reader(siblings)
    started = max(SCATTER_FILES_MIN, round(count / 128))
    asked_before = reader.open_all(order[: started - 1])
    assert asked_before <= 2, "a chance pair may bring a first window while little was opened"
    reader.open_all(order[started - 1 : 3 * started])
    assert len(reader.fetched) > min(count, 4 * started)
    reader.open_all(order[3 * started :])
    assert reader.hits > 0.65 * count


def test_opens_in_no_order_over_hours_are_no_epoch() -> None:
    siblings = directory(10_000)
    reader = Reader(siblings)
    asked = 0
    for nodeid in random.Random(9).sample(range(2, 10_002), 500):
        reader.now += 10.0
        asked += len(reader.open(nodeid))
    assert asked < 500


def test_a_few_opens_in_no_order_bring_little() -> None:
    reader = Reader(directory(10_000))
    assert reader.open_all(random.Random(11).sample(range(2, 10_002), 60)) <= 4 * 2


def test_only_files_of_the_same_suffix_are_fetched() -> None:
    pictures = directory(300)
    labels = directory(300, name="f{:06}.json", first=1_000)
    both = [one for pair in zip(pictures, labels, strict=True) for one in pair]
    reader = Reader(both)
    reader.open_all(sibling.nodeid for sibling in pictures)
    assert reader.fetched == {sibling.nodeid for sibling in pictures}


def test_names_that_end_in_numbers_are_one_group() -> None:
    siblings = directory(100, name="shard.{:06}")
    reader = Reader(siblings)
    reader.open_all(sibling.nodeid for sibling in siblings)
    assert reader.hits >= 98


def test_suffixes_without_end_fall_into_one_group() -> None:
    siblings = [Sibling(index + 2, f"a{index}.x{index}".encode(), 10) for index in range(10 * GROUPS_MAX)]
    reader = Reader(siblings)
    reader.open_all(sibling.nodeid for sibling in siblings)
    assert reader.opens == len(siblings)


def test_large_and_empty_files_are_nobodys_neighbours() -> None:
    siblings = [Sibling(2 + index, b"f%03d" % index, [SIZE, 0, 5 << 20][index % 3]) for index in range(90)]
    reader = Reader(siblings)
    reader.open_all(range(2, 92))
    small = {sibling.nodeid for sibling in siblings if sibling.size == SIZE}
    assert {nodeid for nodeid in reader.fetched if nodeid not in small} == {
        sibling.nodeid for sibling in siblings if sibling.size != SIZE
    }, "opened by the reader, asked for by nobody"
    assert not reader.neighbours.knows(3)
    assert reader.neighbours.knows(2)


def test_no_more_is_asked_for_than_there_is_room() -> None:
    reader = Reader(directory(1_000), room=20 * SIZE)
    for nodeid in range(2, 1_002):
        reader.open(nodeid)
        assert reader.neighbours.ahead_bytes <= 20 * SIZE
    assert reader.hits > 900


def test_a_shuffled_directory_far_larger_than_the_reach_is_left_alone() -> None:
    siblings = directory(2_000)
    config = NeighbourConfig(reach_bytes=2_000 * SIZE // (REACH_SHARE * 2))
    order = [sibling.nodeid for sibling in siblings]
    random.Random(13).shuffle(order)
    reader = Reader(siblings, config)
    assert reader.open_all(order[:400]) < 10


def test_directories_that_together_are_far_larger_than_the_reach_are_left_alone() -> None:
    config = NeighbourConfig(reach_bytes=2_000 * SIZE)
    order = list(range(2, 2_002))
    random.Random(37).shuffle(order)

    def asked(others_bytes: int) -> int:
        neighbours = Neighbours(directory(2_000), config)
        return sum(len(neighbours.opened(nodeid, 0.0, False, ROOM, others_bytes)) for nodeid in order[:60])

    assert asked(0) > 1_000
    assert asked(REACH_SHARE * 2_000 * SIZE) < 20


def test_what_is_evicted_before_it_is_opened_makes_windows_small() -> None:
    siblings = directory(4_000)
    neighbours = Neighbours(siblings)
    asked = 0
    for sibling in siblings[:2_000]:
        wanted = neighbours.opened(sibling.nodeid, 0.0, False, ROOM)
        asked = max(asked, len(wanted))
        for one in wanted:
            neighbours.arrived(one)
    assert asked <= 16
    assert neighbours.ahead_bytes <= 16 * SIZE


def test_scatter_stops_growing_when_opens_miss_what_was_fetched() -> None:
    siblings = directory(2_000)
    neighbours = Neighbours(siblings)
    fetched: set[int] = set()
    draw = random.Random(17)
    order = [sibling.nodeid for sibling in siblings]
    draw.shuffle(order)
    opened = 0
    # A reader that avoids whatever was fetched: its order is not random.
    for nodeid in order:
        if nodeid in fetched:
            continue
        opened += 1
        wanted = neighbours.opened(nodeid, 0.0, False, ROOM)
        for one in wanted:
            neighbours.arrived(one)
        fetched.update(wanted)
        if opened == 150:
            break
    assert len(fetched) < 1_000


def test_the_next_epoch_starts_a_new_history() -> None:
    siblings = directory(500)
    order = [sibling.nodeid for sibling in siblings]
    reader = Reader(siblings)
    reader.open_all(order)
    random.Random(19).shuffle(order)
    # Everything was evicted meanwhile.
    reader.fetched.clear()
    reader.hits = 0
    reader.open_all(order)
    assert reader.hits > 350


def test_a_file_that_cannot_be_fetched_is_not_asked_for_again() -> None:
    siblings = directory(100)
    neighbours = Neighbours(siblings)
    neighbours.opened(2, 0.0, False, ROOM)
    wanted = neighbours.opened(3, 0.0, False, ROOM)
    assert neighbours.is_waiting(wanted[0])
    neighbours.gave_up(wanted[0])
    assert not neighbours.is_waiting(wanted[0])
    assert neighbours.ahead_bytes == (len(wanted) - 1) * SIZE
    later = [one for nodeid in range(5, 60) for one in neighbours.opened(nodeid, 0.0, True, ROOM)]
    assert wanted[0] not in later


def test_larger_files_have_shorter_windows() -> None:
    size = 4 << 20
    in_order = Reader(directory(500, size))
    asked = [len(in_order.open(nodeid)) for nodeid in range(2, 202)]
    assert max(asked) <= 16
    assert in_order.neighbours.ahead_bytes <= 64 << 20
    shuffled = Reader(directory(500, size))
    order = list(range(2, 502))
    random.Random(31).shuffle(order)
    assert max(len(shuffled.open(nodeid)) for nodeid in order) <= 4 + 2, "a chance pair beside"


def test_short_runs_make_first_windows_short() -> None:
    siblings = directory(50_000)
    reader = Reader(siblings)
    draw = random.Random(23)
    asked = []
    for _ in range(200):
        start = draw.randrange(2, 49_000)
        asked.append(sum(len(reader.open(nodeid)) for nodeid in (start, start + 1)))
    assert asked[0] == 2
    assert sum(asked[150:]) <= 50 * 1
