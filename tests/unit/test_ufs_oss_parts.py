"""The pure parts of the OSS driver: listings, options, error answers, times."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jindopy._ext.httpcrew import Ending
from jindopy.base import errors
from jindopy.base.ident import Kind
from jindopy.ufs import oss_xml
from jindopy.ufs.oss_errors import error_of
from jindopy.ufs.oss_native import ending_error
from jindopy.ufs.oss_options import OssOptions, parse_options, region_of
from jindopy.ufs.oss_time import http_ns, iso_ns
from jindopy.ufs.oss_troubles import Trouble, trouble_error
from jindopy.ufs.uri import parse

# --- listings ---------------------------------------------------------------------------------------------------------

names = st.binary(min_size=1, max_size=40)


def document(
    rows: list[tuple[bytes, int, str]], prefixes: list[bytes] = (), *, owner: str = "", tail: str = ""
) -> bytes:
    contents = "".join(
        f"<Contents>\n<Key>{quote_from_bytes(key, safe='')}</Key><LastModified>2026-02-28T23:59:59.{size % 1000:03d}Z"
        f'</LastModified><ETag>"{size:X}"</ETag><Type>{kind}</Type><Size>{size}</Size>'
        f"<StorageClass>IA</StorageClass>{owner}</Contents>"
        for key, size, kind in rows
    )
    common = "".join(
        f"<CommonPrefixes><Prefix>{quote_from_bytes(p, safe='')}</Prefix></CommonPrefixes>" for p in prefixes
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult><Name>b</Name><EncodingType>url</EncodingType>'
        f"<IsTruncated>true</IsTruncated><NextContinuationToken>to+ken/=</NextContinuationToken>"
        f"<NextMarker>a%2Fb%252F</NextMarker>{contents}{common}{tail}</ListBucketResult>"
    ).encode()


@given(
    st.lists(st.tuples(names, st.integers(0, 2**62), st.sampled_from(["Normal", "Symlink", "Multipart"]))),
    st.lists(names),
)
def test_both_parsers_agree_and_give_back_every_byte(rows: list[tuple[bytes, int, str]], prefixes: list[bytes]) -> None:
    text = document(rows, prefixes)
    listing = oss_xml.parse_listing(text)
    assert listing == oss_xml._parse_by_expat(text)
    rows = sorted(rows, key=lambda row: row[0])
    assert [(o.key, o.size, o.token) for o in listing.objects] == [(k, s, b"%X" % s) for k, s, _ in rows]
    assert [o.kind is Kind.SYMLINK for o in listing.objects] == [kind == "Symlink" for _, _, kind in rows]
    assert listing.prefixes == sorted(prefixes)
    assert (listing.truncated, listing.next_token, listing.next_marker) == (True, "to+ken/=", b"a/b%2F")


SAMPLE = document([(b"a/b c", 5, "Normal"), (b"link", 0, "Symlink"), ("é".encode(), 2**40, "Multipart")], [b"d/"])


MARKUP = [b"<!--", b"-->", b"]]>", b"&amp;", b"&", b"<x/>", b"<Contents>", b"</Contents>", b"<Key>", b"%2F", b"true"]


@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 60), st.binary(max_size=4) | st.sampled_from(MARKUP))
def test_damaged_listings_are_read_alike_or_refused(at: int, cut: int, inserted: bytes) -> None:
    damaged = SAMPLE[:at] + inserted + SAMPLE[at + cut :]
    try:
        slow = oss_xml._parse_by_expat(damaged)
    except errors.BadAnswer:
        slow = None
    try:
        fast = oss_xml.parse_listing(damaged)
    except errors.BadAnswer:
        fast = None
    assert slow is None or fast == slow


def test_unusual_rows_go_through_expat() -> None:
    row = [(b"key", 5, "Normal")]
    unusual = [
        document(row, owner="<RestoreInfo>ongoing-request=&quot;false&quot;</RestoreInfo>"),
        document(row).replace(b"<Size>5</Size>", b"<Size>5</Size><Extra><Key>no</Key></Extra>"),
        document(row).replace(b"<Key>key</Key>", b"<Key><![CDATA[key]]></Key>"),
        document(row).replace(b"<Contents>", b"<!-- <Contents></Contents> --><Contents>"),
        document(row).replace(b"<Type>Normal</Type>", b""),
    ]
    for text in unusual:
        assert [(entry.key, entry.size) for entry in oss_xml.parse_listing(text).objects] == [(b"key", 5)]
    owned = document(row, owner="<Owner>\n<ID>1</ID><DisplayName>x</DisplayName></Owner>")
    assert len(oss_xml.ROW.findall(owned)) == 1


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>hello</html>",
        b"<ListBucketResult>",
        document([]).replace(b"<IsTruncated>true</IsTruncated>", b""),
        document([(b"k", 1, "Normal")]).replace(b"<Size>1</Size>", b""),
        document([(b"k", 1, "Normal")]).replace(b"<Size>1</Size>", b"<Size>-1e3</Size>"),
        document([(b"k", 1, "Normal")]).replace(b"<Size>1</Size>", b"<Size>-1</Size>"),
        document([(b"k", 1, "Normal")]).replace(b"&quot;", b"").replace(b'<ETag>"1"', b'<ETag>"1\r\nX: y"'),
        document([(b"k", 1, "Normal")]).replace(b'<ETag>"1"</ETag>', b"<ETag></ETag>"),
        document([(b"k", 1, "Normal")]).replace(b"2026-02-28T", b"2026-02-30T"),
        b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + document([(b"k", 1, "Normal")]),
        document([(b"k", 1, "Normal")]).replace(b"<Key>k", b"<Key>&undefined;"),
        document([])[:-5],
    ],
)
def test_what_is_no_listing_is_a_bad_answer(text: bytes) -> None:
    with pytest.raises(errors.BadAnswer):
        oss_xml.parse_listing(text)


def test_no_decoder_but_utf_8_is_reached() -> None:
    text = document([(b"k", 1, "Normal")], owner="<Unusual/>").replace(b"UTF-8", b"utf-7")
    assert [entry.key for entry in oss_xml.parse_listing(text).objects] == [b"k"]


def test_a_document_without_end_is_refused() -> None:
    with pytest.raises(errors.BadAnswer, match="larger"):
        oss_xml.parse_listing(b" " * (oss_xml.DOCUMENT_BYTES_MAX + 1))


def test_names_in_requests_are_escaped() -> None:
    made = oss_xml.delete_document([b"<&>", b"plain"])
    assert b"<Key>&lt;&amp;&gt;</Key>" in made
    assert made.count(b"<Object>") == 2


# --- times ------------------------------------------------------------------------------------------------------------


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001
def test_times_of_listings(moment: datetime) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
    whole = round(moment.replace(microsecond=0).timestamp()) * 10**9
    assert iso_ns(text.encode()) == whole + moment.microsecond * 1000


def test_times_of_headers() -> None:
    assert http_ns("Thu, 01 Jan 1970 00:00:10 GMT") == 10 * 10**9
    for text in ("", "yesterday", "Thu, 99 Jan 1970 00:00:10 GMT"):
        with pytest.raises(errors.BadAnswer):
            http_ns(text)


# --- options ----------------------------------------------------------------------------------------------------------


def options(uri: str = "oss://bucket/x", **given: str) -> OssOptions:
    return parse_options(parse(uri), {f"fs.oss.{name.replace('_', '.')}": value for name, value in given.items()}, {})


def test_region_from_the_name_of_the_endpoint() -> None:
    assert region_of("oss-cn-hangzhou.aliyuncs.com") == "cn-hangzhou"
    assert region_of("oss-cn-hangzhou-internal.aliyuncs.com") == "cn-hangzhou"
    assert region_of("oss-ap-southeast-1-internal.aliyuncs.com") == "ap-southeast-1"
    assert region_of("cn-shanghai.oss-dls.aliyuncs.com") == "cn-shanghai"
    for name in ("oss-accelerate.aliyuncs.com", "oss.example.com", "127.0.0.1", "oss-cn-x.aliyuncs.com.example.com"):
        assert region_of(name) == ""


def test_usual_endpoint() -> None:
    made = options(endpoint="oss-cn-hangzhou-internal.aliyuncs.com")
    assert (made.secure, made.port, made.region, made.signature_v4) == (True, 443, "cn-hangzhou", True)
    assert made.request_host == "bucket.oss-cn-hangzhou-internal.aliyuncs.com"
    assert (made.path, made.endpoint) == ("/", "https://oss-cn-hangzhou-internal.aliyuncs.com")


def test_address_without_scheme_is_plain_and_path_style() -> None:
    made = options(endpoint="127.0.0.1:8000", signer_version="1")
    assert (made.secure, made.port, made.path, made.request_host) == (False, 8000, "/bucket/", "127.0.0.1")
    assert made.endpoint == "http://127.0.0.1:8000"


def test_long_form_and_bucket_options_win() -> None:
    made = options("oss://bucket.oss-cn-beijing.aliyuncs.com/x", endpoint="other.example.com")
    assert (made.bucket, made.region) == ("bucket", "cn-beijing")
    own = {"fs.oss.bucket.bucket.endpoint": "oss-cn-beijing.aliyuncs.com", "fs.oss.endpoint": "oss-cn-x.aliyuncs.com"}
    assert parse_options(parse("oss://bucket"), own, {}).region == "cn-beijing"
    assert parse_options(parse("oss://other"), own, {}).region == "cn-x"


@pytest.mark.parametrize(
    ("uri", "given", "hint"),
    [
        ("oss://bucket/x", {}, "fs.oss.endpoint="),
        ("oss://Bucket", {"endpoint": "oss-cn-x.aliyuncs.com"}, "lowercase"),
        ("oss://b", {"endpoint": "oss-cn-x.aliyuncs.com"}, "3 to 63"),
        ("oss://bucket", {"endpoint": "oss.example.com"}, "fs.oss.region=cn-hangzhou"),
        ("oss://bucket", {"endpoint": "http://host/path"}, "without bucket or path"),
        ("oss://bucket", {"endpoint": "ftp://host"}, "without bucket or path"),
        ("oss://bucket", {"endpoint": "host:99999"}, "without bucket or path"),
        ("oss://bucket", {"endpoint": "h", "region": "no region"}, "no region"),
        ("oss://bucket", {"endpoint": "h", "signer_version": "2"}, "signer.version"),
        ("oss://bucket", {"endpoint": "h", "region": "cn-x", "cname_enable": "maybe"}, "true or false"),
        ("oss://bucket", {"endpoint": "h", "region": "cn-x", "timeout_millisecond": "-1"}, "whole number"),
    ],
)
def test_wrong_options_say_what_to_write(uri: str, given: dict[str, str], hint: str) -> None:
    with pytest.raises(errors.ConfigError, match=re.escape(hint)) as caught:
        options(uri, **given)
    assert "\n" not in caught.value.message


# --- error answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "hint"),
    [
        (404, "NoSuchKey", "", errors.ObjectNotFound, "no such object"),
        (404, "NoSuchBucket", "", errors.BucketNotFound, "check its spelling"),
        (404, "", "", errors.ObjectNotFound, "no such object"),
        (403, "InvalidAccessKeyId", "", errors.BadCredentials, "key id is unknown"),
        (403, "SignatureDoesNotMatch", "", errors.BadCredentials, "access key secret"),
        (403, "SecurityTokenExpired", "", errors.BadCredentials, "fetch a new one"),
        (403, "RequestTimeTooSkewed", "", errors.ClockSkewed, "20 min 0 s behind"),
        (403, "InvalidObjectState", "", errors.NotRestored, "restore it"),
        (403, "AccessDenied", "You shall not {pass}", errors.AccessDenied, "needs oss:ListObjects"),
        (403, "AccessDenied", "must be addressed using the specified endpoint", errors.AccessDenied, "fs.oss.endpoint"),
        (400, "InvalidArgument", "Invalid signing region", errors.AccessDenied, "fs.oss.region"),
        (412, "PreconditionFailed", "", errors.VersionChanged, "overwritten"),
        (416, "InvalidRange", "", errors.BadAnswer, "range"),
        (429, "", "", errors.Throttled, "fewer"),
        (503, "SlowDown", "", errors.Throttled, "fewer"),
        (503, "ServiceUnavailable", "", errors.Unavailable, "failed"),
        (500, "", "", errors.Unavailable, "failed"),
        (400, "InvalidObjectName", "", errors.KeyRefused, "name"),
        (301, "", "", errors.AccessDenied, "another endpoint"),
        (418, "Teapot", "short and stout", errors.BadAnswer, "short and stout"),
    ],
)
def test_error_answers(status: int, code: str, message: str, kind: type[errors.UfsError], hint: str) -> None:
    fields = {"Code": code, "Message": message, "RequestId": "5F", "Endpoint": "", "SignatureProvided": "hush"}
    error = error_of(status, fields, endpoint="http://h", bucket="b", key=b"k", skew_seconds=-1200.0)
    assert type(error) is kind
    assert hint in error.message
    assert "hush" not in error.message
    assert (error.status, error.request_id, error.key) == (status, "5F", b"k")


def test_the_client_is_chosen_by_name() -> None:
    def native(**options: str) -> bool:
        given = {"fs.oss.endpoint": "oss-cn-hangzhou.aliyuncs.com"}
        return parse_options(parse("oss://bucket"), given | {f"fs.oss.{k}": v for k, v in options.items()}, {}).native

    assert native()
    assert native(client="native")
    assert not native(client="python")
    with pytest.raises(errors.ConfigError, match="write native or python"):
        native(client="curl")


def test_every_trouble_on_the_way_says_what_to_check() -> None:
    given = {"fs.oss.endpoint": "oss-cn-hangzhou.aliyuncs.com"}
    options = parse_options(parse("oss://bucket"), given, {"https_proxy": "http://user:secret@proxy:3128"})
    told = {trouble: trouble_error(trouble, "the cause", options) for trouble in Trouble}
    assert {type(error) for error in told.values()} == {errors.Unavailable, errors.BadAnswer}
    assert all("https://oss-cn-hangzhou.aliyuncs.com" in str(error) for error in told.values())
    assert "bucket.oss-cn-hangzhou.aliyuncs.com cannot be resolved" in str(told[Trouble.NAME])
    assert "http://proxy:3128 (the cause)" in str(told[Trouble.PROXY])
    assert "fs.oss.ca.file" in str(told[Trouble.CERTIFICATE])
    assert not [error for error in told.values() if "secret" in str(error)]


@pytest.mark.parametrize(
    ("ending", "kind", "words"),
    [
        (Ending("deadline", 0, 0, ""), errors.DeadlineExceeded, "no answer in time"),
        (Ending("silent", 0, 0, ""), errors.Unavailable, "no answer within 30 s"),
        (Ending("cancelled", 0, 0, ""), errors.Unavailable, "given up"),
        (Ending("done", 0, 0, ""), errors.Unavailable, "before the headers"),
        (Ending("head", 0, 0, ""), errors.BadAnswer, "headers without end"),
        (Ending("memory", 0, 0, ""), errors.Unavailable, "no memory"),
        (Ending("failed", 6, 0, "Could not resolve host"), errors.Unavailable, "cannot be resolved"),
        (Ending("failed", 28, 0, "Resolving timed out after 3000 ms"), errors.Unavailable, "cannot be resolved"),
        (Ending("failed", 28, 0, "Connection timed out"), errors.Unavailable, "no connection within 3 s"),
        (Ending("failed", 7, 111, "Failed to connect"), errors.Unavailable, "no connection (Connection refused)"),
        (Ending("failed", 60, 0, "certificate"), errors.BadAnswer, "certificate is not trusted"),
        (Ending("failed", 35, 0, "wrong version number"), errors.BadAnswer, "TLS failed (wrong version number)"),
        (Ending("failed", 56, 104, "Recv failure"), errors.Unavailable, "broke (Connection reset by peer)"),
    ],
)
def test_endings_of_native_transfers_are_told_in_the_same_words(
    ending: Ending, kind: type[errors.JindoError], words: str
) -> None:
    given = {"fs.oss.endpoint": "oss-cn-hangzhou.aliyuncs.com"}
    options = parse_options(parse("oss://bucket"), given, {})
    error = ending_error(ending, options)
    assert type(error) is kind
    assert words in str(error)
    if ending.code in {7, 56}:
        behind = parse_options(parse("oss://bucket"), given, {"https_proxy": "http://proxy:3128"})
        through = str(ending_error(ending._replace(text="CONNECT tunnel failed, response 407"), behind))
        assert "no way through the proxy http://proxy:3128" in through


def test_missing_bucket_is_told_from_a_missing_key() -> None:
    assert type(error_of(404, {}, endpoint="h", bucket="b")) is errors.BucketNotFound
