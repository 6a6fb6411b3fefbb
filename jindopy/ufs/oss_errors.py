"""What an error answer of OSS means: status and code → one error of the tree, with what to do about it.  P.

Fields of the document other than code, message, request id and endpoint are never shown: some repeat the signature
and the key id.
"""

from __future__ import annotations

from collections.abc import Mapping

from jindopy.base.errors import (
    AccessDenied,
    BadAnswer,
    BadCredentials,
    BucketNotFound,
    ClockSkewed,
    KeyRefused,
    NotRestored,
    ObjectNotFound,
    Throttled,
    UfsError,
    Unavailable,
    VersionChanged,
)
from jindopy.base.units import format_duration

_Meaning = tuple[type[UfsError], str]

_NO_BUCKET: _Meaning = (
    BucketNotFound,
    "there is no bucket {bucket!r} here; check its spelling, that it lies in this endpoint's region, and that the key "
    "belongs to its owner",
)
_NO_ACCESS: _Meaning = (
    AccessDenied,
    "access denied ({said}); the key's policy needs oss:ListObjects and oss:GetObject on {bucket!r}",
)
_FEWER: _Meaning = (Throttled, "the server asks for fewer requests ({shown})")
_FAILED: _Meaning = (Unavailable, "the server failed ({shown})")
_ELSEWHERE: _Meaning = (AccessDenied, "the bucket {bucket!r} lives at another endpoint; set fs.oss.endpoint ({said})")
_OTHER_REGION: _Meaning = (AccessDenied, "the bucket {bucket!r} is in another region; set fs.oss.region ({said})")
_UNEXPECTED: _Meaning = (BadAnswer, "unexpected answer ({shown}) {said}")

_CODES: dict[str, _Meaning] = {
    "InvalidAccessKeyId": (
        BadCredentials,
        "the access key id is unknown ({code}); check it, and that it is not disabled",
    ),
    "SignatureDoesNotMatch": (
        BadCredentials,
        "the signature does not match ({code}); check the access key secret, and fs.oss.region",
    ),
    "InvalidSecurityToken": (BadCredentials, "the security token is not valid ({code}); fetch a new one"),
    "SecurityTokenExpired": (BadCredentials, "the security token has expired ({code}); fetch a new one"),
    "RequestTimeTooSkewed": (ClockSkewed, "this machine's clock is {skew}; set it (NTP) and try again"),
    "InvalidObjectState": (NotRestored, "the object is archived; restore it in OSS, then read it"),
    "NoSuchBucket": _NO_BUCKET,
    "InvalidObjectName": (KeyRefused, "the server takes no object of this name"),
    "SlowDown": _FEWER,
    "TooManyRequests": _FEWER,
    "QpsLimitExceeded": _FEWER,
    "TotalQpsLimitExceeded": _FEWER,
    "DownloadTrafficRateLimitExceeded": _FEWER,
    "UploadTrafficRateLimitExceeded": _FEWER,
}
_STATUSES: dict[int, _Meaning] = {
    301: _ELSEWHERE,
    307: _ELSEWHERE,
    403: _NO_ACCESS,
    404: (ObjectNotFound, "no such object"),
    408: _FAILED,
    412: (VersionChanged, "the object was overwritten"),
    416: (BadAnswer, "the range asked for is beyond the object's end"),
    429: _FEWER,
}


def error_of(
    status: int,
    fields: Mapping[str, str],
    *,
    endpoint: str,
    bucket: str,
    key: bytes = b"",
    request_id: str = "",
    skew_seconds: float | None = None,
) -> UfsError:
    """The error to raise for a status of 300 or more; ``fields`` are those of the error document, if there was one.

    ``skew_seconds``: how far this machine's clock is ahead of the server's Date header.
    """
    code = fields.get("Code", "")
    shown = f"{status} {code}".rstrip()
    said = fields.get("Message", "")[:200] or shown
    kind, text = _meaning(status, code, said, bool(key))
    if fields.get("Endpoint"):
        said += f" {fields['Endpoint'][:100]}"
    return kind(
        text.format(bucket=bucket, code=code, shown=shown, said=said, skew=_skew(skew_seconds)),
        endpoint=endpoint,
        key=key,
        request_id=request_id or fields.get("RequestId", ""),
        status=status,
    )


def _meaning(status: int, code: str, said: str, has_key: bool) -> _Meaning:
    if code in _CODES:
        return _CODES[code]
    if status == 404 and not has_key:
        return _NO_BUCKET
    if "specified endpoint" in said:
        return _ELSEWHERE
    if status in {400, 403} and "region" in said.lower():
        return _OTHER_REGION
    return _STATUSES.get(status, _FAILED if status >= 500 else _UNEXPECTED)


def _skew(seconds: float | None) -> str:
    if seconds is None:
        return "wrong"
    return f"{format_duration(abs(seconds))} {'ahead' if seconds > 0 else 'behind'}"
