"""The emulator's request parser: what it takes, what it refuses, and that no bytes make it do anything else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jindopy.emulator.errors import Refused
from jindopy.emulator.http import HEAD_BYTES_MAX, BodyDecoder, Request, parse_head, parse_query

GET = b"GET /bucket/a%2Fb+c?x=1+2&y=%C3%BC&z HTTP/1.1\r\nHost: h\r\nX-Oss-Meta-A:  v \r\n\r\n"


def test_a_head() -> None:
    request, used = parse_head(GET + b"rest") or pytest.fail("incomplete")
    assert used == len(GET)
    assert request == Request(
        "GET",
        b"/bucket/a/b+c",
        {"x": "1 2", "y": "ü", "z": ""},
        {"host": "h", "x-oss-meta-a": "v"},
        True,
        0,
    )


def test_incomplete_heads() -> None:
    for size in range(len(GET)):
        assert parse_head(GET[:size], max(0, size - 1)) is None
    with pytest.raises(Refused) as caught:
        parse_head(b"G" * (HEAD_BYTES_MAX + 1))
    assert (caught.value.status, caught.value.close) == (431, True)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: +1\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n", 501),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n", 400),
        (b"GET / HTTP/1.1\r\nA : b\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\x00c\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\nContent-Length: 3\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\rContent-Length: 3\r\n", 400),
        (b"GET / HTTP/1.1\r\n: b\r\n", 400),
        (b"GET / HTTP/2.0\r\n", 505),
        (b"BREW / HTTP/1.1\r\n", 405),
        (b"GET  / HTTP/1.1\r\n", 400),
        (b"GET a HTTP/1.1\r\n", 400),
        (b"PUT / HTTP/1.1\r\nContent-Length: 99999999999999999\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101, 431),
    ],
)
def test_refused_heads(head: bytes, status: int) -> None:
    with pytest.raises(Refused) as caught:
        parse_head(head + b"\r\n")
    assert (caught.value.status, caught.value.close) == (status, True)


def test_keep_alive() -> None:
    for version, field, kept in (
        ("1.1", "", True),
        ("1.1", "Connection: close\r\n", False),
        ("1.0", "", False),
        ("1.0", "Connection: Keep-Alive\r\n", True),
    ):
        parsed = parse_head(f"GET / HTTP/{version}\r\n{field}\r\n".encode())
        assert parsed is not None
        assert parsed[0].keep_alive is kept


def decode(decoder: BodyDecoder, data: bytes, step: int) -> tuple[bytes, int]:
    body, position = b"", 0
    while position < len(data) and not decoder.finished:
        parts, used = decoder.feed(data[position : position + step])
        body += b"".join(bytes(part) for part in parts)
        position += used
    return body, position


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(1, 50), st.binary(max_size=20))
@settings(max_examples=150, deadline=None)
def test_chunked_bodies_in_any_pieces(chunks: list[bytes], step: int, rest: bytes) -> None:
    data = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: x\r\n\r\n"
    decoder = BodyDecoder(-1)
    assert decode(decoder, data + rest, step) == (b"".join(chunks), len(data))
    assert decoder.finished


@given(st.binary(max_size=60), st.integers(1, 20), st.binary(max_size=20))
@settings(max_examples=100, deadline=None)
def test_counted_bodies_leave_what_follows(body: bytes, step: int, rest: bytes) -> None:
    assert decode(BodyDecoder(len(body)), body + rest, step) == (body, len(body))


@pytest.mark.parametrize("data", [b"x\r\n", b"-1\r\n", b"3\nabc\r\n", b"3\r\nabcd\r\n", b"1" * 300, b"\r\n"])
def test_refused_chunks(data: bytes) -> None:
    with pytest.raises(Refused):
        decode(BodyDecoder(-1), data, 7)


PIECES = st.sampled_from(
    [b"GET ", b"PUT ", b"/", b"/b/k", b"?a=%", b" HTTP/1.1", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"Host: x", b":", b" ",
     b"\t", b"Content-Length: ", b"5", b"Transfer-Encoding: chunked", b"%zz", b"\x00", b"\xff", b"Connection: close"]
)  # fmt: skip


@given(st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=25).map(b"".join))
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    try:
        parsed = parse_head(data)
    except Refused as refused:
        assert refused.close
        assert refused.body("ID", "host").startswith(b"<?xml")
        return
    if parsed is None:
        assert b"\r\n\r\n" not in data
        return
    request, used = parsed
    assert data[:used].endswith(b"\r\n\r\n")
    assert request.path.startswith(b"/")
    try:
        decode(BodyDecoder(request.body_bytes), data[used:], 5)
    except Refused:
        assert request.body_bytes == -1


@given(st.text(max_size=40))
def test_any_query_is_parsed(text: str) -> None:
    assert all(isinstance(value, str) for value in parse_query(text).values())
