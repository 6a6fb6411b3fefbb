from __future__ import annotations

import errno
import inspect

import pytest

from jindopy.base import errors

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.JindoError)]

SECRETS = [
    "GET /k?OSSAccessKeyId=LTAI5tSECRET&Expires=1&Signature=abcSECRET%3D",
    "x-oss-signature=SECRET123&x-oss-credential=SECRET/2026/cn/oss",
    "Authorization: OSS4-HMAC-SHA256 Credential=SECRET/2026",
    "Authorization: OSS LTAISECRET:deadSECRETbeef=",
    "fs.oss.accessKeySecret=SECRET endpoint=oss.example.com",
    '{"SecurityToken": "x", "security-token": "SECRET"}',
    "password: SECRET",
    "access_key_secret = 'SECRET'",
]


@pytest.mark.parametrize("text", SECRETS)
def test_values_of_credentials_never_stay(text: str) -> None:
    assert "SECRET" not in errors.redact(text)
    assert "***" in errors.redact(text)


def test_what_is_no_secret_stays() -> None:
    text = "bucket 'data': 404 NoSuchKey on 'train/part-0001' (request 5F3)"
    assert errors.redact(text) == text


def test_every_error_redacts_its_message() -> None:
    error = errors.Unavailable("GET ?Signature=abc: reset", endpoint="http://h?security-token=abc", key=b"k")
    assert "abc" not in str(error)


def test_a_ufs_error_says_where() -> None:
    error = errors.ObjectNotFound(
        "no such object", endpoint="oss.example.com", key=b"a/\xff\n", request_id="5F3", status=404
    )
    assert error.key == b"a/\xff\n"
    assert "oss.example.com" in error.message
    assert "5F3" in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_knows_its_consequences(kind: type[errors.JindoError]) -> None:
    assert kind.errno in errno.errorcode
    assert 0 < kind.exit_code < 128
    assert isinstance(kind.fault, errors.Fault)
    assert kind.__doc__


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        (errors.ObjectNotFound, errno.ENOENT),
        (errors.NotRestored, errno.EIO),
        (errors.VersionChanged, errno.ESTALE),
        (errors.StaleVersion, errno.ESTALE),
        (errors.ReadOnly, errno.EROFS),
        (errors.DeadlineExceeded, errno.ETIMEDOUT),
        (errors.AccessDenied, errno.EACCES),
        (errors.CacheCorrupt, errno.EIO),
    ],
)
def test_errno_seen_by_applications(kind: type[errors.JindoError], number: int) -> None:
    assert kind.errno == number


def test_only_what_can_pass_by_itself_is_retried() -> None:
    retryable = {kind.__name__ for kind in ALL if kind.retryable}
    assert retryable == {"Throttled", "Unavailable", "ShortBody", "PeerGone", "MasterAway", "BlockDamaged"}


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = inspect.getdoc(errors) or ""
    missing = [kind.__name__ for kind in ALL if kind.__name__ not in drawn]
    assert not missing
