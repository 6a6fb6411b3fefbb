"""The signature of plain GETs beside oss2's of the same request."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote_from_bytes

import oss2
import oss2.http
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jindopy.ufs.credentials import Credentials
from jindopy.ufs.oss_signature import GetSigner

NOW = 1_790_000_000
BUCKET, REGION = "bucket", "cn-hangzhou"


def by_oss2(monkeypatch: pytest.MonkeyPatch, key: str, headers: dict[str, str], keys: Credentials, now: int):
    """What oss2 makes of it at that time."""

    class Standing(datetime):
        @classmethod
        def utcnow(cls) -> datetime:
            return datetime.fromtimestamp(now, UTC)

    monkeypatch.setattr("oss2.auth.datetime", Standing)
    provider = oss2.credentials.StaticCredentialsProvider(
        keys.access_key_id, keys.access_key_secret, keys.security_token or None
    )
    request = oss2.http.Request("GET", "", headers=dict(headers), region=REGION, product="oss")
    oss2.ProviderAuthV4(provider)._sign_request(request, BUCKET, key)
    return {name.lower(): value for name, value in request.headers.items() if value is not None}


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(
    names,
    st.sampled_from(["", "token/+="]),
    st.dictionaries(st.sampled_from(["x-oss-a", "x-oss-a-b", "X-Oss-Range-Behavior", "Range"]), st.just("v 1")),
    st.integers(0, 3 * 86_400),
)
def test_the_same_as_oss2(key: str, token: str, headers: dict[str, str], later: int) -> None:
    keys = Credentials("id", "secret", token)
    signer = GetSigner(BUCKET, REGION)
    with pytest.MonkeyPatch.context() as patched:
        for now in (NOW, NOW + later):
            ours = signer.headers(quote_from_bytes(key.encode(), safe="/~"), headers, keys, now)
            theirs = by_oss2(patched, key, headers, keys, now)
            assert {name.lower(): value for name, value in ours.items()} == {
                name: value for name, value in theirs.items() if name in {n.lower() for n in ours}
            }
            assert ours["authorization"] == theirs["authorization"]


def test_other_keys_and_other_days_get_other_signatures() -> None:
    signer = GetSigner(BUCKET, REGION)
    made = {
        signer.headers("k", {}, keys, now)["authorization"]
        for keys in (Credentials("id", "secret"), Credentials("id", "other"), Credentials("id", "secret", "token"))
        for now in (NOW, NOW + 1, NOW + 86_400)
    }
    assert len(made) == 9


def test_nothing_secret_is_shown() -> None:
    signer = GetSigner(BUCKET, REGION)
    signer.headers("k", {}, Credentials("id", "very-secret"), NOW)
    assert "secret" not in repr(signer._day)
    assert "key" not in repr(signer._day).lower().replace("_day", "")
