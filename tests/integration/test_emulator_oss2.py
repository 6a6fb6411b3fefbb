"""oss2, a client others wrote, judges the emulator: the whole round with both signatures, and the finer points."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import oss2
import oss2.exceptions
import oss2.models
import pytest
import requests
from emulator_fixture import Emulator, running_emulator

from jindopy._ext.crc64 import crc64

MB = 1 << 20

# oss2 leaves connections whose answers were not read to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    # Two processes: what one writes the other must read at once.
    with running_emulator(tmp_path_factory.mktemp("oss"), buckets=["demo"], processes=2) as running:
        yield running


@pytest.fixture(params=["v1", "v4"])
def bucket(request: pytest.FixtureRequest, emulator: Emulator) -> Iterator[oss2.Bucket]:
    auth = oss2.make_auth(*emulator.keys, auth_version=request.param)
    bucket = oss2.Bucket(auth, emulator.endpoint, "demo", region="cn-hangzhou")
    yield bucket
    keys = [item.key for item in oss2.ObjectIterator(bucket)]
    for start in range(0, len(keys), 1000):
        bucket.batch_delete_objects(keys[start : start + 1000])
    bucket.session.session.close()


def keys_of(bucket: oss2.Bucket, **options: object) -> list[str]:
    return [item.key for item in oss2.ObjectIterator(bucket, **options)]


def test_a_round(bucket: oss2.Bucket) -> None:
    data = os.urandom(300_000)
    put = bucket.put_object("a/data.bin", data, headers={"x-oss-meta-colour": "red", "Content-Type": "image/png"})
    assert (put.status, put.etag, put.crc) == (200, hashlib.md5(data).hexdigest().upper(), crc64(data))
    got = bucket.get_object("a/data.bin")
    assert got.read() == data
    assert got.headers["x-oss-meta-colour"] == "red"
    assert got.headers["Content-Type"] == "image/png"
    assert int(got.headers["x-oss-hash-crc64ecma"]) == crc64(data)
    part = bucket.get_object("a/data.bin", byte_range=(1000, 1999))
    assert (part.status, part.read(), part.headers["Content-Range"]) == (
        206,
        data[1000:2000],
        "bytes 1000-1999/300000",
    )
    head = bucket.head_object("a/data.bin")
    assert (head.content_length, head.etag, head.object_type) == (300_000, put.etag, "Normal")
    meta = bucket.get_object_meta("a/data.bin")
    assert (meta.content_length, meta.etag) == (300_000, put.etag)
    assert abs(head.last_modified - time.time()) < 60
    copied = bucket.copy_object("demo", "a/data.bin", "b copy+ü.bin")
    assert copied.etag == put.etag
    assert bucket.get_object("b copy+ü.bin").read() == data
    assert bucket.head_object("b copy+ü.bin").headers["x-oss-meta-colour"] == "red"
    assert keys_of(bucket) == ["a/data.bin", "b copy+ü.bin"]
    assert bucket.delete_object("a/data.bin").status == 204
    assert not bucket.object_exists("a/data.bin")
    assert bucket.delete_object("a/data.bin").status == 204


def test_multipart(bucket: oss2.Bucket, emulator: Emulator) -> None:
    first, second = os.urandom(MB), os.urandom(1234)
    upload_id = bucket.init_multipart_upload("big", headers={"x-oss-meta-a": "b"}).upload_id
    assert [item.upload_id for item in oss2.MultipartUploadIterator(bucket)] == [upload_id]
    parts = []
    for number, data in ((1, b"replaced" * 20_000), (1, first), (2, second)):
        result = bucket.upload_part("big", upload_id, number, data)
        parts = [part for part in parts if part.part_number != number]
        parts.append(oss2.models.PartInfo(number, result.etag, len(data), part_crc=result.crc))
    listed = bucket.list_parts("big", upload_id).parts
    assert [(part.part_number, part.size) for part in listed] == [(1, MB), (2, 1234)]
    assert not bucket.object_exists("big")
    result = bucket.complete_multipart_upload("big", upload_id, parts)
    assert result.crc == crc64(first + second)
    digests = b"".join(hashlib.md5(data).digest() for data in (first, second))
    assert result.etag == hashlib.md5(digests).hexdigest().upper() + "-2"
    got = bucket.get_object("big")
    assert got.read() == first + second
    assert (got.headers["x-oss-object-type"], got.headers["x-oss-meta-a"]) == ("Multipart", "b")
    with pytest.raises(oss2.exceptions.NoSuchUpload):
        bucket.list_parts("big", upload_id)
    copy_id = bucket.init_multipart_upload("joined").upload_id
    copied = [
        bucket.upload_part_copy("demo", "big", (0, MB - 1), "joined", copy_id, 1),
        bucket.upload_part_copy("demo", "big", (MB, MB + 9), "joined", copy_id, 2),
    ]
    infos = [oss2.models.PartInfo(number + 1, part.etag) for number, part in enumerate(copied)]
    bucket.complete_multipart_upload("joined", copy_id, infos)
    assert bucket.get_object("joined").read() == (first + second)[: MB + 10]
    assert not any((emulator.root / ".jindopy-emulator/uploads").iterdir())


def test_multipart_refusals(bucket: oss2.Bucket, emulator: Emulator) -> None:
    upload_id = bucket.init_multipart_upload("big").upload_id
    small = bucket.upload_part("big", upload_id, 1, b"small")
    last = bucket.upload_part("big", upload_id, 2, b"last")
    infos = [oss2.models.PartInfo(1, small.etag), oss2.models.PartInfo(2, last.etag)]
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        bucket.complete_multipart_upload("big", upload_id, infos)
    assert (caught.value.status, caught.value.code) == (400, "EntityTooSmall")
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        bucket.complete_multipart_upload("big", upload_id, [oss2.models.PartInfo(3, last.etag)])
    assert (caught.value.status, caught.value.code) == (400, "InvalidPart")
    # oss2 sorts parts itself, so the wrong order is sent as it is.
    text = "".join(f"<Part><PartNumber>{i.part_number}</PartNumber><ETag>{i.etag}</ETag></Part>" for i in infos[::-1])
    url = bucket.sign_url("POST", "big", 60, params={"uploadId": upload_id})
    answer = requests.post(url, data=f"<CompleteMultipartUpload>{text}</CompleteMultipartUpload>", timeout=10)
    assert (answer.status_code, "InvalidPartOrder" in answer.text) == (400, True)
    assert bucket.abort_multipart_upload("big", upload_id).status == 204
    with pytest.raises(oss2.exceptions.NoSuchUpload):
        bucket.upload_part("big", upload_id, 1, b"late")
    assert not any((emulator.root / ".jindopy-emulator/tmp").iterdir())


def test_listing(bucket: oss2.Bucket) -> None:
    keys = sorted(["a", "a.b", "a/1", "a/2/x", "a/2/y", "a0", "b/", "b//c", "ä/ö", "z z+&<>'\"%25"])
    for key in keys:
        bucket.put_object(key, b"x")
    by_bytes = sorted(keys, key=str.encode)
    assert keys_of(bucket) == by_bytes
    for limit in (1, 2, 3, 7):
        assert keys_of(bucket, max_keys=limit) == by_bytes
        assert [item.key for item in oss2.ObjectIteratorV2(bucket, max_keys=limit)] == by_bytes
    assert keys_of(bucket, prefix="a/") == ["a/1", "a/2/x", "a/2/y"]
    assert keys_of(bucket, prefix="a/2") == ["a/2/x", "a/2/y"]
    assert keys_of(bucket, prefix="a/2/x/") == []
    top = ["a", "a.b", "a/", "a0", "b/", "z z+&<>'\"%25", "ä/"]
    for limit in (1, 2, 100):
        assert keys_of(bucket, delimiter="/", max_keys=limit) == top
        assert [item.key for item in oss2.ObjectIteratorV2(bucket, delimiter="/", max_keys=limit)] == top
    assert keys_of(bucket, prefix="b/", delimiter="/") == ["b/", "b//"]
    assert keys_of(bucket, marker="a/2/x") == by_bytes[by_bytes.index("a/2/y") :]
    assert keys_of(bucket, marker="a/2") == by_bytes[by_bytes.index("a/2/x") :]
    assert [item.key for item in oss2.ObjectIteratorV2(bucket, start_after="a/1")] == by_bytes[
        by_bytes.index("a/2/x") :
    ]
    # Any delimiter works, if slowly.
    assert keys_of(bucket, delimiter="2", max_keys=1) == [
        "a", "a.b", "a/1", "a/2", "a0", "b/", "b//c", "z z+&<>'\"%2", "ä/ö",
    ]  # fmt: skip
    page = bucket.list_objects(max_keys=2)
    assert (page.is_truncated, page.next_marker) == (True, "a.b")
    item = page.object_list[0]
    assert (item.size, item.type, item.storage_class) == (1, "Normal", "Standard")
    assert item.etag == hashlib.md5(b"x").hexdigest().upper()
    assert item.owner is not None


def test_files_by_hand(bucket: oss2.Bucket, emulator: Emulator) -> None:
    folder = emulator.root / "demo/dropped"
    folder.mkdir()
    (folder / "empty").mkdir()
    (folder / "one.txt").write_bytes(b"123456789")
    assert keys_of(bucket, prefix="dropped/") == ["dropped/one.txt"]
    assert keys_of(bucket, prefix="dropped/", delimiter="/") == ["dropped/one.txt"]
    listed = next(iter(oss2.ObjectIterator(bucket, prefix="dropped/")))
    head = bucket.head_object("dropped/one.txt")
    assert (head.etag, head.content_length) == (listed.etag, 9)
    assert head.headers["x-oss-hash-crc64ecma"] == str(0x995DC9BBDF1939FA)
    os.utime(folder / "one.txt", ns=(1, 1_600_000_000_000_000_000))
    changed = bucket.head_object("dropped/one.txt")
    assert changed.etag != head.etag
    assert changed.last_modified == 1_600_000_000
    (folder / "two").write_bytes(os.urandom(3 * MB))
    got = bucket.get_object("dropped/two")
    assert crc64(got.read()) == int(got.headers["x-oss-hash-crc64ecma"])
    assert keys_of(bucket, prefix="dropped/") == ["dropped/one.txt", "dropped/two"]
    (folder / "two").unlink()
    assert keys_of(bucket, prefix="dropped/") == ["dropped/one.txt"]
    # Links lead nowhere: no key reaches a file outside its bucket.
    (folder / "out").symlink_to("/etc")
    (folder / "passwd").symlink_to("/etc/passwd")
    assert not bucket.object_exists("dropped/out/passwd")
    assert not bucket.object_exists("dropped/passwd")
    assert keys_of(bucket, prefix="dropped/") == ["dropped/one.txt"]
    (folder / "out").unlink()
    (folder / "passwd").unlink()
    (folder / "empty").rmdir()


# The keys "." and ".." alone cannot leave oss2, whose HTTP client folds them; the protocol tests send them.
HOSTILE_KEYS = [
    "../x", "a/../../b", "a//b", "a/./b", "end/", "end//", "x", "x/y", "x/y/z", "%~", "%~x", "%~=x/%~#y",
    "long/" + "n" * 300, "l" * 300 + "/tail", "q" * 1023, "50% off?#&=+", "tab\there", "new\nline", "nul\0byte",
    "back\\slash", "é" * 200, ".jindopy-emulator/metadata.db", "con/" * 100 + "deep",
]  # fmt: skip


def test_hostile_keys(bucket: oss2.Bucket, emulator: Emulator) -> None:
    for number, key in enumerate(HOSTILE_KEYS):
        bucket.put_object(key, f"{number}".encode(), headers={"x-oss-meta-number": str(number)})
    for number, key in enumerate(HOSTILE_KEYS):
        got = bucket.get_object(key)
        assert (got.read(), got.headers["x-oss-meta-number"]) == (f"{number}".encode(), str(number))
    assert keys_of(bucket) == sorted(HOSTILE_KEYS, key=str.encode)
    for key in ("x", "x/y"):
        bucket.put_object(key, b"again")
        assert bucket.get_object(key).read() == b"again"
    bucket.delete_object("x/y/z")
    bucket.delete_object("x/y")
    assert bucket.get_object("x").read() == b"again"
    bucket.put_object("x", b"plain")
    assert bucket.get_object("x").read() == b"plain"
    assert {entry.name for entry in emulator.root.iterdir()} == {"demo", ".jindopy-emulator"}
    assert not (emulator.root.parent / "x").exists()
    for key in HOSTILE_KEYS:
        bucket.delete_object(key)
    assert keys_of(bucket) == []
    assert not any((emulator.root / "demo").iterdir())


@pytest.mark.parametrize("key", ["/first", "\\first", "k" * 1024])
def test_invalid_keys(bucket: oss2.Bucket, key: str) -> None:
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        bucket.put_object(key, b"x")
    assert (caught.value.status, caught.value.code) == (400, "InvalidObjectName")


def test_conditions(bucket: oss2.Bucket) -> None:
    etag = bucket.put_object("c", b"conditional").etag
    before, after = "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
    for headers in (
        {"If-Match": f'"{etag}"'},
        {"If-Match": etag},
        {"If-None-Match": '"other"'},
        {"If-Modified-Since": before},
        {"If-Unmodified-Since": after},
    ):
        assert bucket.get_object("c", headers=headers).read() == b"conditional"
    for headers in ({"If-Match": '"other"'}, {"If-Unmodified-Since": before}):
        with pytest.raises(oss2.exceptions.PreconditionFailed) as failed:
            bucket.get_object("c", headers=headers)
        assert (failed.value.status, failed.value.code) == (412, "PreconditionFailed")
    for headers in ({"If-None-Match": f'"{etag}"'}, {"If-Modified-Since": after}):
        with pytest.raises(oss2.exceptions.NotModified):
            bucket.get_object("c", headers=headers)
    with pytest.raises(oss2.exceptions.PreconditionFailed):
        bucket.copy_object("demo", "c", "d", headers={"x-oss-copy-source-if-match": "other"})
    with pytest.raises(oss2.exceptions.ServerError) as exists:
        bucket.put_object("c", b"new", headers={"x-oss-forbid-overwrite": "true"})
    assert (exists.value.status, exists.value.code) == (409, "FileAlreadyExists")
    assert bucket.get_object("c").read() == b"conditional"


RANGES = [  # header, answer without and with x-oss-range-behavior: standard, of a body of 10 bytes
    ("bytes=0-3", b"0123", b"0123"),
    ("bytes=5-", b"56789", b"56789"),
    ("bytes=-2", b"89", b"89"),
    ("bytes=0-0,2-3", b"0", b"0"),
    ("bytes=5-20", None, b"56789"),
    ("bytes=-20", None, b"0123456789"),
    ("bytes=10-20", None, 416),
    ("bytes=10-", None, 416),
    ("bytes=-0", None, 416),
    ("bytes=5-3", None, None),
    ("chars=0-3", None, None),
    ("bytes=a-b", None, None),
]


@pytest.mark.parametrize(("text", "plain", "standard"), RANGES)
def test_ranges(bucket: oss2.Bucket, text: str, plain: bytes | None, standard: bytes | int | None) -> None:
    bucket.put_object("r", b"0123456789")
    for headers, wanted in (({}, plain), ({"x-oss-range-behavior": "standard"}, standard)):
        if wanted == 416:
            with pytest.raises(oss2.exceptions.ServerError) as caught:
                bucket.get_object("r", headers={"Range": text} | headers)
            assert (caught.value.status, caught.value.code) == (416, "InvalidRange")
            continue
        got = bucket.get_object("r", headers={"Range": text} | headers)
        assert (got.status, got.read()) == ((200, b"0123456789") if wanted is None else (206, wanted))


def test_digests_are_checked(bucket: oss2.Bucket, emulator: Emulator) -> None:
    for headers in (
        {"Content-MD5": oss2.utils.content_md5(b"other")},
        {"Content-MD5": "nonsense"},
        {"x-oss-hash-crc64ecma": str(crc64(b"other"))},
        {"x-oss-hash-crc64ecma": "-1"},
    ):
        with pytest.raises(oss2.exceptions.ServerError) as caught:
            bucket.put_object("wrong", b"data", headers=headers)
        assert caught.value.status == 400
        assert not bucket.object_exists("wrong")
    assert not any((emulator.root / ".jindopy-emulator/tmp").iterdir())
    right = {"Content-MD5": oss2.utils.content_md5(b"data"), "x-oss-hash-crc64ecma": str(crc64(b"data"))}
    assert bucket.put_object("right", b"data", headers=right).status == 200


def test_reading_a_link_to_a_large_dropped_file_leaves_the_link_a_link(bucket: oss2.Bucket, emulator: Emulator) -> None:
    data = os.urandom(3 * MB)
    (emulator.root / "demo" / "dropped").write_bytes(data)
    bucket.put_symlink("dropped", "to-dropped")
    assert bucket.get_object("to-dropped").read() == data  # oss2 compares the CRC that was computed just now
    assert bucket.get_symlink("to-dropped").target_key == "dropped"
    assert {item.key: item.type for item in oss2.ObjectIterator(bucket)}["to-dropped"] == "Symlink"
    assert bucket.head_object("dropped").object_type == "Normal"


def test_symlinks(bucket: oss2.Bucket) -> None:
    etag = bucket.put_object("target/f", b"pointed at").etag
    bucket.put_symlink("target/f", "link")
    assert bucket.get_symlink("link").target_key == "target/f"
    got = bucket.get_object("link")
    assert (got.read(), got.etag) == (b"pointed at", etag)
    head = bucket.head_object("link")
    assert (head.content_length, head.etag, head.object_type) == (10, etag, "Symlink")
    assert got.headers["x-oss-object-type"] == "Symlink"
    assert bucket.head_object("target/f").object_type == "Normal"
    assert bucket.get_object_meta("link").etag != etag
    assert {item.key: item.type for item in oss2.ObjectIterator(bucket)} == {"link": "Symlink", "target/f": "Normal"}
    bucket.put_symlink("nowhere", "dangling")
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        bucket.get_object("dangling")
    assert (caught.value.status, caught.value.code) == (404, "SymlinkTargetNotExist")
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        bucket.get_symlink("target/f")
    assert (caught.value.status, caught.value.code) == (400, "NotSymlink")


def test_archived_objects(bucket: oss2.Bucket) -> None:
    bucket.put_object("cold", b"cold data", headers={"x-oss-storage-class": "Archive"})
    assert bucket.head_object("cold").headers["x-oss-storage-class"] == "Archive"
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        bucket.get_object("cold")
    assert (caught.value.status, caught.value.code) == (403, "InvalidObjectState")
    assert bucket.restore_object("cold").status == 202
    assert bucket.get_object("cold").read() == b"cold data"
    assert 'ongoing-request="false"' in bucket.head_object("cold").headers["x-oss-restore"]
    assert next(iter(oss2.ObjectIterator(bucket))).storage_class == "Archive"


def test_buckets(emulator: Emulator, bucket: oss2.Bucket) -> None:
    auth = oss2.AuthV4(*emulator.keys)
    service = oss2.Service(auth, emulator.endpoint, region="cn-hangzhou")
    other = oss2.Bucket(auth, emulator.endpoint, "other-bucket", region="cn-hangzhou")
    with pytest.raises(oss2.exceptions.NoSuchBucket):
        other.get_bucket_info()
    with pytest.raises(oss2.exceptions.NoSuchBucket):
        other.put_object("k", b"")
    with pytest.raises(oss2.exceptions.NoSuchBucket):
        keys_of(other)
    other.create_bucket(oss2.BUCKET_ACL_PRIVATE, oss2.models.BucketCreateConfig("IA"))
    assert other.get_bucket_info().storage_class == "IA"
    assert other.get_bucket_location().location == "oss-cn-hangzhou"
    assert other.get_bucket_acl().acl == "private"
    assert [item.name for item in oss2.BucketIterator(service)] == ["demo", "other-bucket"]
    assert [item.name for item in oss2.BucketIterator(service, prefix="o", max_keys=1)] == ["other-bucket"]
    other.put_object("deep/k", b"12345")
    stat = other.get_bucket_stat()
    assert (stat.object_count, stat.storage_size_in_bytes) == (1, 5)
    with pytest.raises(oss2.exceptions.BucketNotEmpty):
        other.delete_bucket()
    other.delete_object("deep/k")
    other.delete_bucket()
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        oss2.Bucket(auth, emulator.endpoint, "other-bucket", region="cn-hangzhou").get_bucket_info()
    assert caught.value.code == "NoSuchBucket"


def test_batch_delete(bucket: oss2.Bucket) -> None:
    keys = [f"k{number:03d}<&>" for number in range(50)]
    for key in keys:
        bucket.put_object(key, b"")
    assert bucket.batch_delete_objects([*keys[:-1], "not there"]).deleted_keys == [*keys[:-1], "not there"]
    assert keys_of(bucket) == [keys[-1]]


def test_presigned_urls(bucket: oss2.Bucket, emulator: Emulator) -> None:
    session = requests.Session()
    put = session.put(bucket.sign_url("PUT", "a b/ü.txt", 60), data=b"presigned", timeout=10)
    assert put.status_code == 200
    url = bucket.sign_url("GET", "a b/ü.txt", 60, params={"response-content-type": "text/x-other"})
    got = session.get(url, headers={"Range": "bytes=3-8"}, timeout=10)
    assert (got.status_code, got.content, got.headers["Content-Type"]) == (206, b"signed", "text/x-other")
    assert session.get(url.replace("response-content-type", "response-content-language"), timeout=10).status_code == 403
    assert session.put(url, data=b"", timeout=10).status_code == 403
    emulator.set_conditions(clock_offset_seconds=120)
    try:
        late = session.get(url, timeout=10)
    finally:
        emulator.set_conditions(clock_offset_seconds=0)
    assert (late.status_code, "AccessDenied" in late.text, "expired" in late.text) == (403, True, True)
    session.close()


def test_streams_of_unknown_length(bucket: oss2.Bucket) -> None:
    # requests sends a generator in chunks.
    def pieces() -> Iterator[bytes]:
        for number in range(100):
            yield b"%d," % number * 100

    url = bucket.sign_url("PUT", "chunked", 60)
    assert requests.put(url, data=pieces(), timeout=10).status_code == 200
    assert bucket.get_object("chunked").read() == b"".join(pieces())


def test_what_one_process_writes_another_lists_at_once(bucket: oss2.Bucket, tmp_path: Path) -> None:
    # Each Bucket has a connection of its own; the kernel spreads them over both processes.
    readers = [oss2.Bucket(bucket.auth, bucket.endpoint, "demo", region="cn-hangzhou") for _ in range(6)]
    for number in range(20):
        bucket.put_object("same", b"%d" % number)
        bucket.put_object(f"new{number:02d}", b"")
        for reader in readers:
            assert reader.get_object("same").read() == b"%d" % number
            assert keys_of(reader, prefix="new")[-1] == f"new{number:02d}"
            assert next(iter(oss2.ObjectIterator(reader, prefix="same"))).etag == reader.head_object("same").etag
    for reader in readers:
        reader.session.session.close()
