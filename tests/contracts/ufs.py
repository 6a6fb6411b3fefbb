"""What every UFS driver promises, as a suite: a subclass gives a driver by its ``driver`` fixture.

Tests that only some drivers can pass look at the capability flags.  Keys all lie below one directory, and directory
entries are ignored where only some stores have them.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import pytest

from jindopy.base.clock import Deadline
from jindopy.base.errors import BadAnswer, DeadlineExceeded, KeyRefused, ObjectNotFound, VersionChanged
from jindopy.base.ident import Kind
from jindopy.ufs.base import Driver, ObjectStat

HOSTILE_KEYS = [
    b"with space",
    b" leading",
    b"trailing ",
    b"tab\tand\nnewline\r",
    b"plus+and%2Fpercent%",
    b"q?a=b&c#frag",
    b'<xml>&amp;"quoted"\'',
    "äöü 漢字 🙂".encode(),
    "composed-é".encode(),
    b"semi;colon:colon,comma",
    b"back\\slash",
    b"~tilde!*'()[]{}|^`$@=",
    b"control\x01\x7f",
    b"dir.with.dots/..file/file..",
    b"...",
    b"-dash",
]


def soon() -> Deadline:
    return Deadline.after(20)


def read_all(driver: Driver, key: bytes, size: int, *, token: bytes | None = None, offset: int = 0) -> bytes:
    buffer = bytearray(size)
    with driver.get(key, offset, size, token=token, deadline=soon()) as body:
        assert body.readinto(memoryview(buffer)) == size
        assert body.readinto(memoryview(bytearray(1))) == 0
    return bytes(buffer)


def pages(driver: Driver, prefix: bytes, *, delimiter: bool, limit: int = 1000) -> tuple[list[ObjectStat], list[bytes]]:
    objects: list[ObjectStat] = []
    prefixes: list[bytes] = []
    cursor = ""
    while True:
        page = driver.list_page(prefix, delimiter=delimiter, cursor=cursor, limit=limit, deadline=soon())
        assert len(page.objects) + len(page.prefixes) <= limit
        merged = [*(entry.key for entry in page.objects), *page.prefixes]
        earlier = [*(entry.key for entry in objects), *prefixes]
        assert not earlier or not merged or min(merged) > max(earlier), "pages ascend"
        assert [entry.key for entry in page.objects] == sorted(entry.key for entry in page.objects)
        assert page.prefixes == sorted(page.prefixes)
        objects += page.objects
        prefixes += page.prefixes
        if not page.cursor:
            return objects, prefixes
        cursor = page.cursor


def keys(driver: Driver, prefix: bytes, *, delimiter: bool = False, limit: int = 1000) -> list[bytes]:
    objects, prefixes = pages(driver, prefix, delimiter=delimiter, limit=limit)
    return sorted([*(entry.key for entry in objects if entry.kind is not Kind.DIRECTORY), *prefixes])


class UfsContract:
    """Mix into a test class that has a fixture ``driver``."""

    base = b"contract/"

    def put(self, driver: Driver, key: bytes, data: bytes) -> ObjectStat:
        return driver.put(self.base + key, data, deadline=soon())

    def test_says_who_it_is(self, driver: Driver) -> None:
        assert str(driver.ufs_id).startswith(driver.scheme + "://")
        assert driver.endpoint
        driver.check(deadline=soon())

    def test_what_was_put_can_be_read_listed_and_statted(self, driver: Driver) -> None:
        data = random.Random(1).randbytes(300_000)
        made = self.put(driver, b"a/file", data)
        stat = driver.stat(self.base + b"a/file", deadline=soon())
        assert (stat.size, stat.token, stat.kind) == (len(data), made.token, Kind.FILE)
        assert stat.token
        assert b'"' not in stat.token
        assert stat.mtime_ns > 1_500_000_000 * 10**9
        objects, _ = pages(driver, self.base + b"a/", delimiter=True)
        assert [(o.key, o.size, o.token) for o in objects] == [(self.base + b"a/file", len(data), stat.token)]
        assert abs(objects[0].mtime_ns - stat.mtime_ns) < 1_000_000_000
        assert read_all(driver, self.base + b"a/file", len(data), token=stat.token) == data

    def test_ranges(self, driver: Driver) -> None:
        data = random.Random(2).randbytes(100_000)
        key = self.base + b"ranged"
        token = self.put(driver, b"ranged", data).token
        for offset, size in [(0, 1), (0, 100_000), (1, 4096), (99_999, 1), (50_000, 50_000)]:
            assert read_all(driver, key, size, token=token, offset=offset) == data[offset : offset + size]
        with driver.get(key, 10, 90_000, token=token, deadline=soon()) as body:
            assert (body.token, body.object_bytes) == (token, 100_000)
            pieces = []
            while count := body.readinto(memoryview(buffer := bytearray(7_001))):
                pieces.append(bytes(buffer[:count]))
            assert b"".join(pieces) == data[10:90_010]
            assert all(len(piece) == 7_001 for piece in pieces[:-1]), "short only at the end"
        for offset, size in [(100_000, 1), (99_999, 2), (0, 100_001)]:
            with pytest.raises(BadAnswer):
                driver.get(key, offset, size, token=token, deadline=soon())

    def test_empty_object(self, driver: Driver) -> None:
        token = self.put(driver, b"empty", b"").token
        assert driver.stat(self.base + b"empty", deadline=soon()).size == 0
        assert read_all(driver, self.base + b"empty", 0, token=token) == b""

    def test_a_body_left_early_harms_no_later_one(self, driver: Driver) -> None:
        data = random.Random(3).randbytes(2_000_000)
        token = self.put(driver, b"left", data).token
        for _ in range(3):
            with driver.get(self.base + b"left", 0, len(data), token=token, deadline=soon()) as body:
                assert body.readinto(memoryview(bytearray(10))) == 10
        assert read_all(driver, self.base + b"left", len(data), token=token) == data

    def test_missing_object(self, driver: Driver) -> None:
        for key in [b"nowhere", b"no/where", b"no/where/"]:
            with pytest.raises(ObjectNotFound) as caught:
                driver.stat(self.base + key, deadline=soon())
            assert caught.value.key == self.base + key
        with pytest.raises(ObjectNotFound):
            driver.get(self.base + b"nowhere", 0, 1, token=None, deadline=soon())
        assert keys(driver, self.base + b"nowhere/") == []

    def test_other_version_is_refused(self, driver: Driver) -> None:
        old = self.put(driver, b"version", b"one").token
        new = self.put(driver, b"version", b"two and longer").token
        assert old != new
        with pytest.raises(VersionChanged):
            driver.get(self.base + b"version", 0, 3, token=old, deadline=soon())
        assert read_all(driver, self.base + b"version", 3, token=new) == b"two"

    def test_a_body_never_mixes_versions(self, driver: Driver) -> None:
        size = 8_000_000
        token = self.put(driver, b"mixed", b"A" * size).token
        buffer = bytearray(size)
        view = memoryview(buffer)
        with driver.get(self.base + b"mixed", 0, size, token=token, deadline=soon()) as body:
            assert body.readinto(view[:100_000]) == 100_000
            self.put(driver, b"mixed", b"B" * (size - 1))
            try:
                done = body.readinto(view[100_000:])
            except VersionChanged:
                return
        assert done == size - 100_000
        assert buffer.count(b"A") == size

    def test_flat_and_delimited_listing(self, driver: Driver) -> None:
        names = [b"t/a", b"t/a.b", b"t/a/x", b"t/a/y/z", b"t/a0", b"t/b/c", b"t/d"]
        if driver.scheme == "local":
            names.remove(b"t/a")  # a file and a directory of one name exist only in object stores
        for name in names:
            self.put(driver, name, name)
        everything = sorted(self.base + name for name in names)
        for limit in (1, 2, 3, 1000):
            assert keys(driver, self.base + b"t/", limit=limit) == everything
            flat, _ = pages(driver, self.base + b"t/", delimiter=False, limit=limit)
            assert [entry.key for entry in flat] == everything
            below = {self.base + b"t/" + n for n in (b"a.b", b"a/", b"a0", b"b/", b"d")}
            below |= {self.base + b"t/a"} & set(everything)
            assert keys(driver, self.base + b"t/", delimiter=True, limit=limit) == sorted(below)
        assert keys(driver, self.base + b"t/a/", delimiter=True) == [self.base + b"t/a/x", self.base + b"t/a/y/"]

    def test_prefix_inside_a_name(self, driver: Driver) -> None:
        for name in [b"p/img-1", b"p/img-2", b"p/imh", b"p/im", b"p/img-3/deep"]:
            self.put(driver, name, b"x")
        found = [self.base + b"p/img-" + rest for rest in (b"1", b"2", b"3/deep")]
        assert keys(driver, self.base + b"p/img-") == found
        assert keys(driver, self.base + b"p/img-", delimiter=True) == [*found[:2], self.base + b"p/img-3/"]
        assert keys(driver, self.base + b"p/img-", limit=1) == found

    def test_cursor_survives_changes(self, driver: Driver) -> None:
        for index in range(20):
            self.put(driver, b"c/%02d" % index, b"x")
        first = driver.list_page(self.base + b"c/", delimiter=True, limit=10, deadline=soon())
        assert [entry.key[-2:] for entry in first.objects] == [b"%02d" % index for index in range(10)]
        driver.delete([self.base + b"c/09", self.base + b"c/15"], deadline=soon())
        self.put(driver, b"c/00a", b"x")
        self.put(driver, b"c/10a", b"x")
        second = driver.list_page(self.base + b"c/", delimiter=True, cursor=first.cursor, deadline=soon())
        rest = [b"10", b"10a", b"11", b"12", b"13", b"14", b"16", b"17", b"18", b"19"]
        assert [entry.key.rpartition(b"/")[2] for entry in second.objects] == rest
        assert second.cursor == ""

    @pytest.mark.parametrize("name", HOSTILE_KEYS)
    def test_hostile_keys_come_back_byte_for_byte_or_are_refused(self, driver: Driver, name: bytes) -> None:
        key = self.base + b"h/" + name
        try:
            made = driver.put(key, name, deadline=soon())
        except KeyRefused:
            with pytest.raises(KeyRefused):
                driver.get(key, 0, 1, token=None, deadline=soon())
            return
        assert read_all(driver, key, len(name), token=made.token) == name
        assert driver.stat(key, deadline=soon()).size == len(name)
        assert keys(driver, self.base + b"h/") == [key]
        assert keys(driver, key) == [key]
        driver.delete([key], deadline=soon())
        assert keys(driver, self.base + b"h/") == []

    @pytest.mark.parametrize("name", [b"a/../b", b"./a", b"a/./b", b"..", b"a//b", b"/absolute", b"a/..", b"a" * 1100])
    def test_keys_that_would_be_rewritten_never_reach_another_object(self, driver: Driver, name: bytes) -> None:
        self.put(driver, b"b", b"not this one")
        key = name if name.startswith(b"/") else self.base + name
        try:
            driver.put(key, b"odd", deadline=soon())
        except KeyRefused:
            for call in (
                lambda: driver.stat(key, deadline=soon()),
                lambda: driver.get(key, 0, 1, token=None, deadline=soon()),
            ):
                with pytest.raises(KeyRefused):
                    call()
        else:
            assert read_all(driver, key, 3) == b"odd"
            assert key in keys(driver, b"")
            driver.delete([key], deadline=soon())
        assert read_all(driver, self.base + b"b", 12) == b"not this one"

    def test_delete_of_many_and_of_missing_ones(self, driver: Driver) -> None:
        names = [b"many/%d" % index for index in range(5)]
        for name in names:
            self.put(driver, name, b"x")
        driver.delete([*(self.base + name for name in names[:4]), self.base + b"many/none"], deadline=soon())
        assert keys(driver, self.base + b"many/") == [self.base + b"many/4"]
        driver.delete([], deadline=soon())

    def test_put_of_a_stream(self, driver: Driver) -> None:
        def chunks() -> Iterator[bytes]:
            for index in range(40):
                yield bytes([index]) * 10_000

        self_key = self.base + b"streamed"
        made = driver.put(self_key, chunks(), deadline=soon())
        assert made.size == 400_000
        assert read_all(driver, self_key, 400_000) == b"".join(bytes([index]) * 10_000 for index in range(40))

    def test_passed_deadline(self, driver: Driver) -> None:
        self.put(driver, b"late", b"x")
        for call in (
            lambda: driver.stat(self.base + b"late", deadline=Deadline.after(0)),
            lambda: driver.list_page(self.base, delimiter=True, deadline=Deadline.after(0)),
            lambda: driver.get(self.base + b"late", 0, 1, token=None, deadline=Deadline.after(0)),
            lambda: driver.check(deadline=Deadline.after(0)),
        ):
            with pytest.raises(DeadlineExceeded):
                call()

    def test_many_threads(self, driver: Driver) -> None:
        data = random.Random(4).randbytes(200_000)
        token = self.put(driver, b"shared", data).token
        wrong: list[object] = []

        def reader(seed: int) -> None:
            draw = random.Random(seed)
            try:
                for _ in range(10):
                    offset = draw.randrange(len(data))
                    size = draw.randint(1, len(data) - offset)
                    if (
                        read_all(driver, self.base + b"shared", size, token=token, offset=offset)
                        != data[offset : offset + size]
                    ):
                        wrong.append((offset, size))
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=reader, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
