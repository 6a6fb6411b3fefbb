"""The OSS driver against a server that says what the test tells it to: answers no honest server would give."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from contracts.ufs import soon

from jindopy.base import errors
from jindopy.base.ident import Kind
from jindopy.ufs.base import Driver
from jindopy.ufs.credentials import Credentials, Static
from jindopy.ufs.registry import open_driver

Answer = Callable[[str], bytes]


class Scripted:
    """Answers every request line by what ``answer`` returns for it, then closes the connection if that is short."""

    def __init__(self) -> None:
        self.answer: Answer = lambda line: b""
        self.lines: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    if not (part := connection.recv(65536)):
                        break
                    request += part
                else:
                    line = request.split(b"\r\n", 1)[0].decode()
                    self.lines.append(line)
                    connection.sendall(self.answer(line))


@pytest.fixture
def server() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.close()


@pytest.fixture
def driver(server: Scripted) -> Iterator[Driver]:
    options = {"fs.oss.endpoint": f"http://127.0.0.1:{server.port}", "fs.oss.region": "cn-x"}
    driver, _ = open_driver("oss://bucket", options, Static(Credentials("a", "b")))
    yield driver
    driver.close()


def http(status: int = 200, body: bytes = b"", length: int | None = None, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", "Connection: close", "x-oss-request-id: 42"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if length != -1:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def error(status: int, code: str) -> bytes:
    return http(status, f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode())


GET_CASES = {
    "another etag": http(206, b"12345", ETag='"other"', Content_Range="bytes 0-4/10"),
    "no etag": http(206, b"12345", Content_Range="bytes 0-4/10"),
    "another range": http(206, b"12345", ETag='"v"', Content_Range="bytes 1-5/10"),
    "no range": http(206, b"12345", ETag='"v"'),
    "absurd range": http(206, b"12345", ETag='"v"', Content_Range="bytes 0-4/3"),
    "unknown total": http(206, b"12345", ETag='"v"', Content_Range="bytes 0-4/*"),
    "whole object": http(200, b"1234567890", ETag='"v"'),
    "too short": http(206, b"123", ETag='"v"', Content_Range="bytes 0-4/10"),
    "no length": http(206, b"12345", length=-1, ETag='"v"', Content_Range="bytes 0-4/10"),
    "chunked": http(
        206, b"5\r\n12345\r\n0\r\n\r\n", -1, ETag='"v"', Content_Range="bytes 0-4/10", Transfer_Encoding="chunked"
    ),
    "redirect": http(302, ETag='"v"', Location="http://127.0.0.1:1/elsewhere"),
    "not modified": http(304, ETag='"v"'),
    "no http": b"hello\r\n\r\n",
    "nothing": b"",
    "half a header": b"HTTP/1.1 206 Partial\r\nContent-Le",
    "endless header": b"HTTP/1.1 206 Partial\r\nX: " + b"x" * 100_000,
}


@pytest.mark.parametrize("case", GET_CASES)
def test_get_accepts_only_what_it_asked_for(server: Scripted, driver: Driver, case: str) -> None:
    server.answer = lambda line: GET_CASES[case]
    with pytest.raises(errors.UfsError) as caught, driver.get(b"key", 0, 5, token=b"v", deadline=soon()) as body:
        body.readinto(memoryview(bytearray(5)))
    assert (type(caught.value) is errors.VersionChanged) == (case == "another etag")
    assert len(server.lines) == 1, "a signed request goes nowhere else"


def test_get_of_a_whole_object_may_be_answered_without_a_range(server: Scripted, driver: Driver) -> None:
    server.answer = lambda line: http(200, b"12345", ETag='"v"', x_oss_hash_crc64ecma="7")
    with driver.get(b"key", 0, 5, token=b"v", deadline=soon()) as body:
        assert (body.object_bytes, body.object_crc64) == (5, 7)
        assert body.readinto(memoryview(buffer := bytearray(5))) == 5
    assert buffer == b"12345"


@pytest.mark.parametrize("crc", ["", "-1", "x", "18446744073709551616", "٣"])
def test_a_crc_that_is_none_is_left_out(server: Scripted, driver: Driver, crc: str) -> None:
    text = http(206, b"12345", ETag='"v"', Content_Range="bytes 0-4/5", x_oss_hash_crc64ecma="CRC")
    server.answer = lambda line: text.replace(b"CRC", crc.encode())
    with driver.get(b"key", 0, 5, token=b"v", deadline=soon()) as body:
        assert body.object_crc64 is None


def test_body_shorter_than_announced(server: Scripted, driver: Driver) -> None:
    server.answer = lambda line: http(206, b"123", 5, ETag='"v"', Content_Range="bytes 0-4/10")
    with driver.get(b"key", 0, 5, token=b"v", deadline=soon()) as body, pytest.raises(errors.ShortBody):
        body.readinto(memoryview(bytearray(5)))


HEAD_CASES = {
    "no etag": http(200, length=5, Last_Modified="Thu, 01 Jan 2026 00:00:00 GMT"),
    "no time": http(200, length=5, ETag='"v"'),
    "no length": http(200, length=-1, ETag='"v"', Last_Modified="Thu, 01 Jan 2026 00:00:00 GMT"),
}


@pytest.mark.parametrize("case", HEAD_CASES)
def test_head_without_what_makes_a_version(server: Scripted, driver: Driver, case: str) -> None:
    server.answer = lambda line: HEAD_CASES[case]
    with pytest.raises(errors.BadAnswer):
        driver.stat(b"key", deadline=soon())


def test_the_reason_of_a_refused_head_is_asked_for(server: Scripted, driver: Driver) -> None:
    server.answer = lambda line: http(403) if line.startswith("HEAD") else error(403, "InvalidAccessKeyId")
    with pytest.raises(errors.BadCredentials):
        driver.stat(b"key", deadline=soon())
    assert [line.split()[0] for line in server.lines] == ["HEAD", "GET"]


def test_stat_of_a_link_tells_of_the_link(server: Scripted, driver: Driver) -> None:
    times = {"HEAD": "Thu, 01 Jan 2026 00:00:09 GMT", "GET": "Thu, 01 Jan 2026 00:00:01 GMT"}

    def answer(line: str) -> bytes:
        method = line.split(maxsplit=1)[0]
        return http(
            200,
            length=0 if method == "GET" else 500,
            ETag=f'"{"link" if method == "GET" else "target"}"',
            Last_Modified=times[method],
            x_oss_object_type="Symlink",
            x_oss_symlink_target="a%20b",
        )

    server.answer = answer
    stat = driver.stat(b"link", deadline=soon())
    assert (stat.kind, stat.token, stat.mtime_ns % 10**10) == (Kind.SYMLINK, b"link", 10**9)
    assert server.lines[1].startswith("GET /bucket/link?symlink ")
    assert driver.read_link(b"link", deadline=soon()) == b"a b"


def listing(*keys: str, truncated: bool = False, more: str = "") -> bytes:
    rows = "".join(
        f'<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"v"</ETag>'
        f"<Type>Normal</Type><Size>1</Size><StorageClass>Standard</StorageClass></Contents>"
        for key in keys
    )
    flag = "true" if truncated else "false"
    head = f"<EncodingType>url</EncodingType><IsTruncated>{flag}</IsTruncated>{more}"
    return http(200, f"<ListBucketResult>{head}{rows}</ListBucketResult>".encode())


def names(driver: Driver) -> list[bytes]:
    found: list[bytes] = []
    cursor = ""
    while True:
        page = driver.list_page(b"", delimiter=False, cursor=cursor, deadline=soon())
        found += [entry.key for entry in page.objects]
        cursor = page.cursor
        if not cursor:
            return found


def test_a_server_that_refuses_the_second_listing(server: Scripted, driver: Driver) -> None:
    def answer(line: str) -> bytes:
        if "list-type=2" in line:
            return error(400, "InvalidArgument")
        return listing("c", "d") if "marker=b%2F" in line else listing("a", "b%2F", truncated=True)

    server.answer = answer
    assert names(driver) == [b"a", b"b/", b"c", b"d"]
    assert names(driver) == [b"a", b"b/", b"c", b"d"]
    assert sum("list-type=2" in line for line in server.lines) == 1, "asked once, then known"


def test_a_server_that_takes_no_notice_of_the_second_listing(server: Scripted, driver: Driver) -> None:
    server.answer = lambda line: (
        listing("c") if "marker=b" in line else listing("a", "b", truncated=True, more="<NextMarker>b</NextMarker>")
    )
    assert names(driver) == [b"a", b"b", b"c"]


def test_pages_of_the_second_listing(server: Scripted, driver: Driver) -> None:
    token = "<NextContinuationToken>t+/=</NextContinuationToken>"
    server.answer = lambda line: (
        listing("c") if "continuation-token=t%2B%2F%3D" in line else listing("a", truncated=True, more=token)
    )
    assert names(driver) == [b"a", b"c"]


LIST_CASES = {
    "goes on from nowhere": listing(truncated=True),
    "no xml": http(200, b"<html>hello"),
    "too long": http(200, b"", 1 << 30),
    "cut": listing("a")[:-30],
    "empty": http(200, b""),
    "another compression": http(200, b"\x1f\x8b\x08", Content_Encoding="gzip"),
}


@pytest.mark.parametrize("case", LIST_CASES)
def test_what_is_no_listing(server: Scripted, driver: Driver, case: str) -> None:
    server.answer = lambda line: LIST_CASES[case]
    with pytest.raises(errors.UfsError) as caught:
        driver.list_page(b"", delimiter=True, deadline=soon())
    assert isinstance(caught.value, errors.ShortBody if case == "cut" else errors.BadAnswer)


def test_unsorted_page_is_sorted(server: Scripted, driver: Driver) -> None:
    server.answer = lambda line: listing("b", "a", "c")
    assert names(driver) == [b"a", b"b", b"c"]


def test_listing_of_other_keys(server: Scripted, driver: Driver) -> None:
    server.answer = lambda line: listing("a/1", "a/2", "b")
    with pytest.raises(errors.BadAnswer, match="other keys"):
        driver.list_page(b"a/", delimiter=False, deadline=soon())


def test_keys_travel_percent_encoded(server: Scripted, driver: Driver) -> None:
    server.answer = lambda line: error(404, "NoSuchKey")
    with pytest.raises(errors.ObjectNotFound):
        driver.stat("a b/%2F?#ü//x.".encode(), deadline=soon())
    assert server.lines == ["HEAD /bucket/a%20b/%252F%3F%23%C3%BC//x. HTTP/1.1"]


@pytest.mark.parametrize("key", [b"/a", b"\\a", b"a/../b", b"./a", b"..", b"a/.", b"\xff", b"k" * 1024])
def test_keys_that_are_refused_are_never_sent(server: Scripted, driver: Driver, key: bytes) -> None:
    for call in (
        lambda: driver.stat(key, deadline=soon()),
        lambda: driver.get(key, 0, 1, token=None, deadline=soon()),
        lambda: driver.put(key, b"", deadline=soon()),
        lambda: driver.read_link(key, deadline=soon()),
        lambda: driver.delete([key], deadline=soon()),
    ):
        with pytest.raises(errors.KeyRefused):
            call()
    assert server.lines == []
