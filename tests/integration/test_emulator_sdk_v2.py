"""alibabacloud-oss-v2, a client others wrote, judges the emulator: the whole round with both signatures."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator

import alibabacloud_oss_v2 as oss
import pytest
import requests
from emulator_fixture import Emulator, running_emulator

from jindopy._ext.crc64 import crc64

MB = 1 << 20

# The client leaves its pooled connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with running_emulator(tmp_path_factory.mktemp("oss"), buckets=["demo"], processes=2) as running:
        yield running


def client_of(emulator: Emulator, version: str, key_id: str = "", secret: str = "") -> oss.Client:
    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(
        key_id or emulator.access_key_id, secret or emulator.access_key_secret
    )
    config.region = "cn-hangzhou"
    config.endpoint = emulator.endpoint
    config.signature_version = version
    config.use_path_style = True
    return oss.Client(config)


@pytest.fixture(params=["v1", "v4"])
def client(request: pytest.FixtureRequest, emulator: Emulator) -> oss.Client:
    return client_of(emulator, request.param)


def code_of(error: BaseException) -> tuple[int, str]:
    while not isinstance(error, oss.exceptions.ServiceError):
        assert isinstance(error, oss.exceptions.OperationError)
        error = error.unwrap()
    return error.status_code, error.code


def test_a_round(client: oss.Client) -> None:
    data = os.urandom(300_000)
    put = client.put_object(oss.PutObjectRequest("demo", "a/ü +.bin", body=data, metadata={"colour": "red"}))
    assert (put.status_code, int(put.hash_crc64)) == (200, crc64(data))
    got = client.get_object(oss.GetObjectRequest("demo", "a/ü +.bin"))
    assert got.body.content == data
    assert got.metadata["colour"] == "red"
    part = client.get_object(
        oss.GetObjectRequest("demo", "a/ü +.bin", range_header="bytes=299000-400000", range_behavior="standard")
    )
    assert (part.status_code, part.body.content) == (206, data[299_000:])
    head = client.head_object(oss.HeadObjectRequest("demo", "a/ü +.bin"))
    assert (head.content_length, head.etag) == (300_000, put.etag)
    meta = client.get_object_meta(oss.GetObjectMetaRequest("demo", "a/ü +.bin"))
    assert meta.content_length == 300_000
    copied = client.copy_object(oss.CopyObjectRequest("demo", "copy", source_bucket="demo", source_key="a/ü +.bin"))
    assert copied.etag == put.etag
    for paginator, request in (
        (client.list_objects_paginator(limit=1), oss.ListObjectsRequest("demo")),
        (client.list_objects_v2_paginator(limit=1), oss.ListObjectsV2Request("demo")),
    ):
        pages = list(paginator.iter_page(request))
        assert [item.key for page in pages for item in page.contents] == ["a/ü +.bin", "copy"]
    grouped = client.list_objects_v2(oss.ListObjectsV2Request("demo", delimiter="/"))
    assert ([item.prefix for item in grouped.common_prefixes], grouped.key_count) == (["a/"], 2)
    client.put_symlink(oss.PutSymlinkRequest("demo", "link", symlink_target="copy"))
    assert client.get_symlink(oss.GetSymlinkRequest("demo", "link")).target == "copy"
    keys = [oss.DeleteObject(key=key) for key in ("a/ü +.bin", "link")]
    deleted = client.delete_multiple_objects(oss.DeleteMultipleObjectsRequest("demo", objects=keys))
    assert [item.key for item in deleted.deleted_objects] == ["a/ü +.bin", "link"]
    assert client.delete_object(oss.DeleteObjectRequest("demo", "copy")).status_code == 204
    assert not client.is_object_exist("demo", "copy")


def test_multipart(client: oss.Client) -> None:
    data = os.urandom(2 * MB + 77)
    begun = client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest("demo", "big"))
    parts = []
    for number in (1, 2, 3):
        piece = data[(number - 1) * MB : number * MB]
        sent = client.upload_part(oss.UploadPartRequest("demo", "big", number, begun.upload_id, body=piece))
        parts.append(oss.UploadPart(part_number=number, etag=sent.etag))
    listed = client.list_parts(oss.ListPartsRequest("demo", "big", begun.upload_id))
    assert [part.size for part in listed.parts] == [MB, MB, 77]
    done = client.complete_multipart_upload(
        oss.CompleteMultipartUploadRequest(
            "demo",
            "big",
            begun.upload_id,
            complete_multipart_upload=oss.CompleteMultipartUpload(parts=parts),
        )
    )
    assert int(done.hash_crc64) == crc64(data)
    assert client.get_object(oss.GetObjectRequest("demo", "big")).body.content == data
    begun = client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest("demo", "never"))
    uploads = client.list_multipart_uploads(oss.ListMultipartUploadsRequest("demo"))
    assert [upload.key for upload in uploads.uploads] == ["never"]
    client.abort_multipart_upload(oss.AbortMultipartUploadRequest("demo", "never", begun.upload_id))
    with pytest.raises(oss.exceptions.OperationError) as caught:
        client.list_parts(oss.ListPartsRequest("demo", "never", begun.upload_id))
    assert code_of(caught.value) == (404, "NoSuchUpload")
    client.delete_object(oss.DeleteObjectRequest("demo", "big"))


def test_refusals(client: oss.Client, emulator: Emulator) -> None:
    with pytest.raises(oss.exceptions.OperationError) as caught:
        client.get_object(oss.GetObjectRequest("demo", "nothing"))
    assert code_of(caught.value) == (404, "NoSuchKey")
    with pytest.raises(oss.exceptions.OperationError) as caught:
        client.head_object(oss.HeadObjectRequest("demo", "nothing"))
    assert code_of(caught.value) == (404, "NoSuchKey")
    for bad, code in (
        (client_of(emulator, "v4", secret="wrong"), "SignatureDoesNotMatch"),
        (client_of(emulator, "v1", secret="wrong"), "SignatureDoesNotMatch"),
        (client_of(emulator, "v4", key_id="nobody"), "InvalidAccessKeyId"),
    ):
        with pytest.raises(oss.exceptions.OperationError) as caught:
            bad.list_objects_v2(oss.ListObjectsV2Request("demo"))
        assert code_of(caught.value) == (403, code)


def test_presigned_urls(client: oss.Client) -> None:
    expires = datetime.timedelta(seconds=60)
    signed = client.presign(oss.PutObjectRequest("demo", "p/ü+"), expires=expires)
    assert requests.put(signed.url, data=b"x" * 1000, headers=dict(signed.signed_headers), timeout=10).ok
    signed = client.presign(oss.GetObjectRequest("demo", "p/ü+"), expires=expires)
    assert requests.get(signed.url, timeout=10).content == b"x" * 1000
    assert requests.get(signed.url.replace("p/", "q/"), timeout=10).status_code == 403
    client.delete_object(oss.DeleteObjectRequest("demo", "p/ü+"))


def test_buckets(client: oss.Client) -> None:
    client.put_bucket(oss.PutBucketRequest("second"))
    assert client.get_bucket_info(oss.GetBucketInfoRequest("second")).bucket_info.name == "second"
    assert client.is_bucket_exist("second")
    assert not client.is_bucket_exist("third")
    assert [bucket.name for bucket in client.list_buckets(oss.ListBucketsRequest()).buckets] == ["demo", "second"]
    client.delete_bucket(oss.DeleteBucketRequest("second"))
