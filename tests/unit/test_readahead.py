"""Read histories and the block ranges they ask for."""

import random

import pytest

from jindopy.base.ident import BLOCK_BYTES
from jindopy.read.readahead import STREAMS_MAX, AheadShares, BlockRange, ReadAhead, ReadAheadConfig

KIB128 = 128 * 1024


def sequential(history: ReadAhead, start: int, stop: int, step: int = KIB128) -> list[BlockRange]:
    asked = []
    for offset in range(start, stop, step):
        ahead = history.on_read(offset, step)
        if ahead is not None:
            asked.append(ahead)
    return asked


def test_a_sequential_reader_never_catches_up_with_what_was_asked_for():
    size = 210 * BLOCK_BYTES
    history = ReadAhead(size)
    covered = 1  # the first read's own block
    for offset in range(0, size, KIB128):
        ahead = history.on_read(offset, KIB128)
        if ahead is not None:
            assert ahead.first == covered, "no block twice, none left out"
            covered += ahead.blocks
        assert covered * BLOCK_BYTES >= offset + KIB128
    assert covered == 210


def test_the_window_doubles_up_to_its_maximum():
    config = ReadAheadConfig(window_bytes_min=4 * BLOCK_BYTES, window_bytes_max=32 * BLOCK_BYTES)
    history = ReadAhead(1000 * BLOCK_BYTES, config)
    asked = sequential(history, 0, 200 * BLOCK_BYTES)
    ahead_max = 0
    for ahead in asked:
        ahead_max = max(ahead_max, ahead.blocks)
    assert asked[0].blocks == 4
    assert history.streams[0].window_bytes == 32 * BLOCK_BYTES
    assert ahead_max <= 33


def test_random_reads_fetch_nothing_ahead():
    history = ReadAhead(10_000 * BLOCK_BYTES)
    draw = random.Random(7)
    offsets = draw.sample(range(1, 2_000), 500)
    asked = [history.on_read(offset * 5 * BLOCK_BYTES, 4096) for offset in offsets]
    assert asked == [None] * 500


@pytest.mark.parametrize("stride", [3 * BLOCK_BYTES // 2, 2 * BLOCK_BYTES, 5 * BLOCK_BYTES])
def test_strided_reads_fetch_nothing_ahead(stride: int):
    history = ReadAhead(2_000 * BLOCK_BYTES)
    asked = [history.on_read(offset, 4096) for offset in range(stride, 1_000 * BLOCK_BYTES, stride)]
    assert asked == [None] * len(asked)


def test_random_reads_of_a_file_so_small_that_they_often_meet_fetch_hardly_anything_ahead():
    blocks = 1_000
    history = ReadAhead(blocks * BLOCK_BYTES)
    draw = random.Random(11)
    ahead = [history.on_read(draw.randrange(256, blocks * 256) * 4096, 4096) for _ in range(1_000)]
    assert sum(one.blocks for one in ahead if one is not None) <= 10


def test_a_sequential_reader_in_the_middle_is_followed_from_its_second_read():
    history = ReadAhead(1_000 * BLOCK_BYTES)
    start = 500 * BLOCK_BYTES
    assert history.on_read(start, KIB128) is None
    ahead = history.on_read(start + KIB128, KIB128)
    assert ahead is not None
    assert ahead.first == 501
    assert ahead.blocks <= 2
    for asked in sequential(history, start + 2 * KIB128, start + 100 * BLOCK_BYTES):
        assert asked.first == ahead.first + ahead.blocks, "no block twice, none left out"
        ahead = asked
    assert ahead.first + ahead.blocks >= 600 + 30


def test_random_reads_do_not_push_out_a_sequential_reader():
    history = ReadAhead(10_000 * BLOCK_BYTES)
    draw = random.Random(13)
    covered = 1
    for offset in range(0, 100 * BLOCK_BYTES, KIB128):
        ahead = history.on_read(offset, KIB128)
        if ahead is not None:
            assert ahead.first == covered
            covered += ahead.blocks
        for _ in range(6):
            history.on_read(draw.randrange(1_000, 10_000) * BLOCK_BYTES, 4096)
    assert covered > 100


def test_a_reader_that_becomes_strided_has_no_more_fetched_ahead():
    history = ReadAhead(2_000 * BLOCK_BYTES)
    asked = sequential(history, 0, 100 * BLOCK_BYTES)
    covered = asked[-1].first + asked[-1].blocks
    later = [history.on_read(offset, 4096) for offset in range(100 * BLOCK_BYTES, 1_000 * BLOCK_BYTES, 2 * BLOCK_BYTES)]
    assert sum(one.blocks for one in later if one is not None) <= 64 + 1
    assert covered < 300


def test_requests_slightly_out_of_order_are_one_stream():
    history = ReadAhead(100 * BLOCK_BYTES)
    draw = random.Random(3)
    offsets = list(range(0, 64 * BLOCK_BYTES, KIB128))
    for index in range(0, len(offsets) - 8, 8):
        part = offsets[index : index + 8]
        draw.shuffle(part)
        offsets[index : index + 8] = part
    history.on_read(0, KIB128)
    for offset in offsets[1:]:
        history.on_read(offset, KIB128)
    assert len(history.streams) == 1


def test_requests_of_a_block_in_any_order_are_one_stream_with_blocks_ahead():
    history = ReadAhead(200 * BLOCK_BYTES)
    draw = random.Random(29)
    covered = {0}
    for start in range(0, 128, 4):
        blocks = list(range(start, start + 4))
        draw.shuffle(blocks)
        for block in blocks:
            ahead = history.on_read(block * BLOCK_BYTES, BLOCK_BYTES)
            if ahead is not None:
                covered.update(range(ahead.first, ahead.first + ahead.blocks))
    assert len(history.streams) == 1
    assert len(covered) > 128 + 30


def test_streams_of_several_readers_are_told_apart():
    history = ReadAhead(1000 * BLOCK_BYTES)
    asked: dict[int, int] = dict.fromkeys(range(STREAMS_MAX), 0)
    for step in range(64):
        for reader in range(STREAMS_MAX):
            base = reader * 100 * BLOCK_BYTES
            ahead = history.on_read(base + step * KIB128, KIB128)
            if ahead is not None:
                assert base <= ahead.first * BLOCK_BYTES < base + 100 * BLOCK_BYTES
                asked[reader] += ahead.blocks
    assert all(asked.values()), "each reader has blocks fetched ahead"
    assert len(history.streams) == STREAMS_MAX


def test_the_oldest_stream_gives_way():
    history = ReadAhead(1000 * BLOCK_BYTES)
    for reader in range(STREAMS_MAX + 3):
        history.on_read(reader * 50 * BLOCK_BYTES + 1, 4096)
    assert len(history.streams) == STREAMS_MAX
    assert min(stream.next_offset for stream in history.streams) > 2 * 50 * BLOCK_BYTES


@pytest.mark.parametrize("size", [0, 1, 4096, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_nothing_behind_the_end_is_asked_for(size):
    history = ReadAhead(size)
    ahead = history.on_read(0, KIB128)
    blocks = -(-size // BLOCK_BYTES)
    if blocks <= 1:
        assert ahead is None
    else:
        assert ahead == BlockRange(1, 1)
    assert history.on_read(size, KIB128) is None


@pytest.mark.parametrize(("readers", "total_blocks"), [(1, 64), (8, 64), (64, 64), (64, 10), (300, 64)])
def test_all_files_together_have_no_more_ahead_than_they_may(readers: int, total_blocks: int):
    """Readers take turns; what lies between each and the end of what it asked for is ahead of it."""
    shares = AheadShares(total_blocks * BLOCK_BYTES)
    histories = [ReadAhead(200 * BLOCK_BYTES) for _ in range(readers)]
    covered = [1] * readers
    for offset in range(0, 100 * BLOCK_BYTES, KIB128):
        for number, history in enumerate(histories):
            history.share_bytes = shares.share_bytes
            ahead = history.on_read(offset, KIB128)
            if ahead is not None:
                shares.asked(number)
                covered[number] = ahead.first + ahead.blocks
        if offset == 50 * BLOCK_BYTES:
            # What was asked for before the others came is used up by now.
            ahead_blocks = sum(max(0, blocks - offset // BLOCK_BYTES - 1) for blocks in covered)
            assert ahead_blocks <= total_blocks
    assert (covered[0] > 100) == (total_blocks >= readers)


def test_streams_of_a_file_share_what_it_may_have_ahead():
    history = ReadAhead(10_000 * BLOCK_BYTES, share_bytes=32 * BLOCK_BYTES)
    starts = [start * 1_000 * BLOCK_BYTES for start in range(4)]
    for moved in range(0, 40 * BLOCK_BYTES, KIB128):
        for start in starts:
            history.on_read(start + moved, KIB128)
    assert [stream.window_bytes // BLOCK_BYTES for stream in history.streams] == [8] * 4


def test_a_reader_that_was_crowded_out_reads_ahead_again():
    history = ReadAhead(10_000 * BLOCK_BYTES, share_bytes=BLOCK_BYTES // 2)
    assert sequential(history, 0, 20 * BLOCK_BYTES) == []
    history.share_bytes = 64 * BLOCK_BYTES
    asked = sequential(history, 20 * BLOCK_BYTES, 100 * BLOCK_BYTES)
    assert asked[0].first == 20  # the block being read: it was never asked for
    assert history.streams[0].window_bytes == 64 * BLOCK_BYTES
