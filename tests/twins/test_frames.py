"""The frame parser against the same in plain Python, on well-formed, cut, mutated and random streams."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jindopy._ext.crc64 import crc64
from jindopy._ext.frames import FrameParser
from jindopy.dataplane import frames

CID = bytes(range(16))
ids = st.integers(1, 2**64 - 1)
texts = st.text(max_size=40)
counts = st.integers(1, frames.COUNT_MAX)
from_client = st.one_of(
    st.builds(frames.hello, st.binary(min_size=1, max_size=300)),
    st.builds(frames.request, ids, st.binary(min_size=16, max_size=16), st.integers(0, 2**27), counts, st.just(5000)),
    st.builds(lambda number: frames.frame(frames.CANCEL, number), ids),
)
from_server = st.one_of(
    st.builds(frames.welcome, st.integers(1, 9), st.integers(1, 64)),
    st.builds(
        lambda number, index, body, state: frames.block(number, index, body, crc64(body), state),
        *(ids, st.integers(0, 2**27), st.binary(min_size=1, max_size=400), st.integers(0, 1)),
    ),
    st.builds(frames.missing, ids, st.integers(0, 2**27), counts),
    st.builds(frames.error, st.integers(0, 3), st.integers(1, 9), texts),
)


def fed(stream: bytes, server: bool, greeted: bool, cuts: list[int]) -> tuple[list[frames.Frame], str]:
    parser = FrameParser(server, greeted)
    found = []
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for begin, end in itertools.pairwise(edges):
        found += parser.feed(stream[begin:end])
    return [frames.Frame(*one) for one in found], parser.fault


def agree(stream: bytes, server: bool, greeted: bool, cuts: list[int]) -> None:
    assert fed(stream, server, greeted, cuts) == frames.parse(stream, server, greeted)


@given(st.booleans(), st.booleans(), st.data())
@settings(max_examples=300, deadline=None)
def test_twins_agree_on_frames_in_any_cuts(server: bool, greeted: bool, data: st.DataObject) -> None:
    stream = b"".join(data.draw(st.lists(from_client if server else from_server, max_size=6)))
    agree(stream, server, greeted, data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))


@given(st.booleans(), st.booleans(), st.data())
@settings(max_examples=600, deadline=None)
def test_twins_agree_on_mutated_frames(server: bool, greeted: bool, data: st.DataObject) -> None:
    stream = bytearray(b"".join(data.draw(st.lists(from_client | from_server, min_size=1, max_size=4))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(stream) - 1, 60)))
        change = data.draw(st.sampled_from(["set", "cut", "insert", "flip"]))
        value = data.draw(st.integers(0, 255))
        if change == "set":
            stream[at] = value
        elif change == "flip":
            stream[at] ^= 1 << (value & 7)
        elif change == "insert":
            stream.insert(at, value)
        elif len(stream) > 1:
            del stream[at]
    agree(bytes(stream), server, greeted, data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))


def test_twins_agree_on_garbage(rounds: Callable[[int, int], int]) -> None:
    generator = random.Random(11)
    faults = set()
    for _ in range(rounds(5_000, 2_000_000)):
        # Heads that are nearly right get further than noise does.
        size = generator.choice([0, 8, 20, 32, 64, 1 << 20, generator.getrandbits(32)])
        head = frames.HEAD.pack(size, generator.randrange(9), generator.randrange(50) == 0, 0, generator.randrange(3))
        stream = head + generator.randbytes(generator.randrange(80))
        server, greeted = bool(generator.getrandbits(1)), bool(generator.getrandbits(1))
        agree(stream, server, greeted, [generator.randrange(1 + len(stream))])
        faults.add(frames.parse(stream, server, greeted)[1])
    assert faults == {"", "kind", "size", "zero", "id", "field", "order"}


@pytest.mark.parametrize(
    ("stream", "server", "fault"),
    [
        (frames.HEAD.pack(0xFFFFFFFF, frames.HELLO, 0, 0, 0), True, "size"),
        (frames.HEAD.pack(24 + (1 << 20) + 1, frames.BLOCK, 0, 0, 7), False, "size"),
        (frames.HEAD.pack(513, frames.ERROR, 0, 1, 0), False, "size"),
        (frames.missing(7, 0, 1), True, "kind"),
        (frames.request(7, CID, 0, 1, 100), True, "order"),
        (frames.hello(b"t") + frames.hello(b"t"), True, "order"),
        (frames.hello(b"t") + frames.request(0, CID, 0, 1, 100), True, "id"),
        (frames.hello(b"t") + frames.request(7, CID, 0, 257, 100), True, "field"),
        (frames.hello(b"t") + frames.request(7, CID, 0, 0, 100), True, "field"),
        (frames.hello(b"t") + frames.request(7, CID, 0, 1, 0), True, "field"),
        (frames.hello(b"t") + frames.request(7, CID, 0xFFFFFFFF, 1, 9), True, "field"),
        (frames.frame(frames.HELLO, 0, b"GET / HTTP/1.1\r\n\r\n....."), True, "field"),
        (frames.welcome(1, 9) + frames.block(3, 1, b"x", 0, 2), False, "field"),
    ],
)
def test_what_is_refused(stream: bytes, server: bool, fault: str) -> None:
    assert fed(stream, server, False, [])[1] == fault
    assert frames.parse(stream, server)[1] == fault


def test_the_largest_block_arrives_in_pieces() -> None:
    body = random.Random(1).randbytes(1 << 20)
    parser = FrameParser(False, True)
    stream = frames.block(9, 3, body, crc64(body))
    found = [one for at in range(0, len(stream), 4099) for one in parser.feed(stream[at : at + 4099])]
    assert found == [(frames.BLOCK, 9, 0, (3, len(body), crc64(body), 0), body)]
    assert parser.idle
