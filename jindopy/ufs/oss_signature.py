"""Signatures: oss2's, and for plain GETs of objects our own V4 with the day's key kept; nothing else imports oss2.

oss2 is loaded when the first driver opens (0.2 s and 17 MB that a local mount does not pay).  Of it the signatures are
used (V4 unless told otherwise); its session (0.9 ms of CPU a request) and its XML objects (18 ms a page) are not.

It takes 35 to 70 µs: it derives the key anew by four HMACs and builds objects for each request.  That is more than all
else a native GET of a small object needs of Python, so this one request is signed here in 8 µs; a test compares the
two.  Signed are method, ``/bucket/key``, no query, the ``x-oss-`` headers, and that the body is not hashed.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, final

from jindopy.ufs.credentials import Credentials, CredentialSource
from jindopy.ufs.oss_options import OssOptions

_ALGORITHM = "OSS4-HMAC-SHA256"
_UNSIGNED = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True, repr=False)
class _Day:
    """What stays the same for a day and a pair of keys."""

    date: str
    credentials: Credentials
    scope: str
    key: bytes


@final
class GetSigner:
    """Signs GETs of one bucket; safe for threads: what it keeps is replaced as a whole."""

    def __init__(self, bucket: str, region: str) -> None:
        self._before_key = f"GET\n/{bucket}/"
        self._region = region
        self._day: _Day | None = None

    def headers(
        self, quoted_key: str, headers: Mapping[str, str], credentials: Credentials, now_seconds: int
    ) -> dict[str, str]:
        """``headers`` with what the signature adds; ``quoted_key`` is percent-encoded but for its slashes."""
        moment = datetime.fromtimestamp(now_seconds, UTC).strftime("%Y%m%dT%H%M%SZ")
        day = self._day
        if day is None or day.date != moment[:8] or day.credentials is not credentials:
            day = self._day = self._new_day(moment[:8], credentials)
        made = {**headers, "x-oss-content-sha256": _UNSIGNED, "x-oss-date": moment}
        if credentials.security_token:
            made["x-oss-security-token"] = credentials.security_token
        signed = sorted((name.lower(), value) for name, value in made.items() if name[:6].lower() == "x-oss-")
        lines = "".join([f"{name}:{value}\n" for name, value in signed])
        request = f"{self._before_key}{quoted_key}\n\n{lines}\n\n{_UNSIGNED}"
        digest = hashlib.sha256(request.encode()).hexdigest()
        signature = hmac.digest(day.key, f"{_ALGORITHM}\n{moment}\n{day.scope}\n{digest}".encode(), "sha256").hex()
        made["authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key_id}/{day.scope}, Signature={signature}"
        )
        return made

    def _new_day(self, date: str, credentials: Credentials) -> _Day:
        key = f"aliyun_v4{credentials.access_key_secret}".encode()
        for part in (date, self._region, "oss", "aliyun_v4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return _Day(date, credentials, f"{date}/{self._region}/oss/aliyun_v4_request", key)


@final
class Signer:
    """oss2's signatures over our credentials, one auth object for each pair of keys."""

    def __init__(self, options: OssOptions, source: CredentialSource) -> None:
        import oss2.credentials  # here: see the module's first lines
        import oss2.http

        # Its debug lines hold security tokens.
        logging.getLogger("oss2").setLevel(logging.WARNING)
        self._options = options
        self._source = source
        self._request = oss2.http.Request
        self._auth = oss2.ProviderAuthV4 if options.signature_v4 else oss2.ProviderAuth
        self._keys = oss2.credentials.Credentials
        self._signing: tuple[Credentials, Any] | None = None
        self._gets = GetSigner(options.bucket, options.region)

    def refresh(self) -> None:
        """Read the credentials again."""
        self._source.refresh()

    def get_headers(self, key: bytes, quoted_key: str, headers: dict[str, str], now_seconds: int) -> dict[str, str]:
        """The same for a plain GET of an object, in less time where the signature is V4."""
        credentials = self._source.current()
        if credentials.anonymous:
            return headers
        if self._options.signature_v4:
            return self._gets.headers(quoted_key, headers, credentials, now_seconds)
        return self.headers("GET", key.decode(), {}, headers)

    def headers(self, method: str, key: str, params: dict[str, str], headers: dict[str, str]) -> dict[str, str]:
        """``headers`` with what the signature adds."""
        credentials = self._source.current()
        if credentials.anonymous:
            return headers
        request = self._request(method, "", params=params, headers=headers, region=self._options.region, product="oss")
        signing = self._signing
        if signing is None or signing[0] is not credentials:
            keys = self._keys(credentials.access_key_id, credentials.access_key_secret, credentials.security_token)
            signing = self._signing = (credentials, self._auth(_Provider(keys)))
        signing[1]._sign_request(request, self._options.bucket, key)
        return {name: value for name, value in request.headers.items() if value is not None}


class _Provider:
    """The shape oss2 asks credentials from."""

    def __init__(self, keys: object) -> None:
        self._keys = keys

    def get_credentials(self) -> object:
        return self._keys
