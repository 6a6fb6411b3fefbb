"""Headers as the native client understands them, beside a plain twin; garbage of all kinds breaks neither."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jindopy._ext.httphead import parse_head

Facts = tuple[int, int, bytes, bytes, int | None, bool, dict[str, str]]
BLANK = b" \t\r\n"
GOOD = [
    b"HTTP/1.1 206 Partial Content\r\n",
    b"Date: Tue, 24 Nov 2026 10:00:00 GMT\r\n",
    b'ETag: "5B3C1A2E053D763E1B002CC607C5A0FE"\r\n',
    b"Content-Length: 100000\r\n",
    b"Content-Range: bytes 0-99999/200000\r\n",
    b"x-oss-hash-crc64ecma: 11051210869376104954\r\n",
    b"x-oss-request-id: 1\r\n",
    b"\r\n",
]


def number(text: bytes, digits_max: int) -> int | None:
    good = 0 < len(text) <= digits_max and all(48 <= letter <= 57 for letter in text)
    return int(text) if good and int(text) < 1 << 64 else None


def twin(lines: list[bytes]) -> Facts:
    """What the native parser says, in the obvious way, for heads below its bound."""
    status, length, crc, confused, complete = 0, -1, None, False, False
    kept = {b"etag": b"", b"content-range": b"", b"x-oss-hash-crc64ecma": b""}
    text = b""
    for line in lines:
        if complete:
            continue
        if line.startswith(b"HTTP/"):
            status, length, crc, confused = 0, -1, None, False
            kept = dict.fromkeys(kept, b"")
            code = line[5:].partition(b" ")[2][:3]
            status = int(code) if len(code) == 3 and code.isdigit() else 0
            text = line
            continue
        text += line
        if line[:1] in (b"", b"\r", b"\n"):
            complete = status >= 200
            continue
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip(BLANK)
        if not colon:
            continue
        if name == b"content-length":
            found = number(value, 18)
            confused |= found is None or length not in (-1, found)
            length = length if found is None else found
        elif name in kept:
            if name == b"etag":
                value = value.removeprefix(b"W/").strip(b'"')
            confused |= kept[name] not in (b"", value)
            kept[name] = value
            if name == b"x-oss-hash-crc64ecma":
                crc = number(value, 20)
    fields: dict[str, str] = {}
    for plain in text.decode("latin-1").split("\n")[1:]:
        key, colon_text, told = plain.partition(":")
        key, told = key.strip().lower(), told.strip()
        if colon_text and key:
            fields[key] = f"{fields[key]}, {told}" if key in fields else told
    return status, length, kept[b"etag"], kept[b"content-range"], crc, confused, fields


def test_a_usual_head() -> None:
    facts = parse_head(GOOD)
    assert facts is not None
    assert facts[:6] == (
        206,
        100_000,
        b"5B3C1A2E053D763E1B002CC607C5A0FE",
        b"bytes 0-99999/200000",
        11051210869376104954,
        False,
    )
    assert facts[6]["x-oss-request-id"] == "1"
    assert facts == twin(GOOD)


@pytest.mark.parametrize(
    ("line", "confused"),
    [
        (b"Content-Length: 100000\r\n", False),
        (b"Content-Length: 99999\r\n", True),
        (b"Content-Length: -1\r\n", True),
        (b"content-length: 1e5\r\n", True),
        (b"Content-Length: 99999999999999999999\r\n", True),
        (b'ETag: "other"\r\n', True),
        (b"Content-Range: bytes 0-99999/300000\r\n", True),
    ],
)
def test_headers_that_contradict_each_other_are_noticed(line: bytes, confused: bool) -> None:
    lines = [*GOOD[:-1], line, GOOD[-1]]
    facts = parse_head(lines)
    assert facts is not None
    assert facts[5] is confused
    assert facts == twin(lines)


def test_an_interim_answer_is_forgotten_and_trailers_are_not_looked_at() -> None:
    lines = [b"HTTP/1.1 100 Continue\r\n", b"ETag: x\r\n", b"\r\n", *GOOD, b"ETag: trailer\r\n", b"HTTP/1.1 500 No\r\n"]
    assert parse_head(lines) == parse_head(GOOD) == twin(lines)


def test_endless_headers_are_refused() -> None:
    assert parse_head([*GOOD[:-1], *([b"a: " + b"b" * 1000 + b"\r\n"] * 70)]) is None
    assert parse_head([*GOOD[:-1], *([b"a: " + b"b" * 1000 + b"\r\n"] * 60)]) is not None


names = st.sampled_from(
    [b"ETag", b"etag", b"Content-Length", b"CONTENT-LENGTH", b"Content-Range", b"x-oss-hash-crc64ecma", b"Date", b""]
)
values = st.one_of(
    st.binary(max_size=30),
    st.integers(-1, 1 << 70).map(lambda value: str(value).encode()),
    st.sampled_from([b'"tag"', b'W/"tag"', b"W/", b'"', b"bytes 0-1/2", b"*"]),
)
fields = st.tuples(names, st.sampled_from([b":", b": ", b":\t ", b""]), values, st.sampled_from([b"\r\n", b"\n", b""]))
lines = st.one_of(
    fields.map(b"".join),
    st.sampled_from(
        [b"\r\n", b"\n", b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 103 x\r\n", b"HTTP/", b"HTTP/1.1 2x0\r\n"]
    ),
    st.binary(max_size=40),
)


@given(st.lists(lines, max_size=12))
def test_anything_is_understood_as_the_twin_does(given_lines: list[bytes]) -> None:
    assert parse_head(given_lines) == (twin(given_lines) if given_lines else (0, -1, b"", b"", None, False, {}))


@given(st.data())
def test_a_head_with_changed_bytes_is_understood_as_the_twin_does(data: st.DataObject) -> None:
    text = bytearray(b"".join(GOOD))
    for _ in range(data.draw(st.integers(1, 6))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    mutated = [line + b"\n" for line in bytes(text).split(b"\n")]
    assert parse_head(mutated) == twin(mutated)
