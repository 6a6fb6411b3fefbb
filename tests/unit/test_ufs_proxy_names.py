"""Which proxy the environment names for an endpoint, and which endpoints need none."""

from __future__ import annotations

import pytest

from jindopy.base.errors import ConfigError
from jindopy.ufs.oss_proxy import proxy_of

HOST = "bucket.oss-cn-hangzhou.aliyuncs.com"


@pytest.mark.parametrize(
    ("environ", "secure", "url"),
    [
        ({}, True, ""),
        ({"https_proxy": "http://p:3128"}, True, "http://p:3128"),
        ({"https_proxy": "http://p:3128"}, False, ""),
        ({"https_proxy": "http://low", "HTTPS_PROXY": "http://high"}, True, "http://low:80"),
        ({"HTTPS_PROXY": "p:8080"}, True, "http://p:8080"),
        ({"http_proxy": "http://p/"}, False, "http://p:80"),
        ({"HTTP_PROXY": "http://p"}, False, ""),  # a web server makes it of a request's header
        ({"ALL_PROXY": "http://[::1]:1"}, True, "http://[::1]:1"),
        ({"https_proxy": " ", "all_proxy": "http://p:1"}, True, "http://p:1"),
    ],
)
def test_names(environ: dict[str, str], secure: bool, url: str) -> None:
    found = proxy_of(secure, HOST, 443 if secure else 80, environ)
    assert (found.url if found is not None else "") == url


@pytest.mark.parametrize(
    ("exceptions", "host", "straight"),
    [
        ("", HOST, False),
        ("*", HOST, True),
        ("other.com, .ALIYUNCS.com", HOST, True),
        ("aliyuncs.com", HOST, True),
        ("*.aliyuncs.com", HOST, True),
        ("yuncs.com", HOST, False),
        ("aliyuncs.com:443", HOST, True),
        ("aliyuncs.com:80", HOST, False),
        (HOST, "x." + HOST, True),
        (",", HOST, False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3:443", "10.1.2.3", True),
        ("fd00::/8", "fd00::1", True),
        ("[fd00::1]:443", "fd00::1", True),
        ("aliyuncs.com", "10.1.2.3", False),
        ("", "127.0.0.1", True),
        ("", "::1", True),
        ("", "localhost", True),
    ],
)
def test_exceptions(exceptions: str, host: str, straight: bool) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        assert (proxy_of(True, host, 443, {"https_proxy": "p:1", name: exceptions}) is None) == straight


def test_a_password_is_decoded_and_hidden() -> None:
    found = proxy_of(True, HOST, 443, {"https_proxy": "http://user:p%40ss@p:1"})
    assert found is not None
    assert (found.url, found.authorization) == ("http://p:1", "Basic dXNlcjpwQHNz")
    assert "dXNl" not in repr(found)


@pytest.mark.parametrize(
    "text", ["socks5://user:hunter2@p:1", "https://p", "http://", "http://p:port", "http://p:99999"]
)
def test_what_is_no_proxy(text: str) -> None:
    with pytest.raises(ConfigError, match="all_proxy: write http://host:port") as caught:
        proxy_of(True, HOST, 443, {"all_proxy": text})
    assert "hunter2" not in str(caught.value)
