"""Which proxy stands between here and an endpoint, from the usual environment variables.  P.

    https_proxy, HTTPS_PROXY, http_proxy (lower case only), all_proxy, ALL_PROXY    http://[user:password@]host[:port]
    no_proxy, NO_PROXY    comma-separated: names (with all below them), addresses, networks, any with :port; * for all

``HTTP_PROXY`` in capitals is left alone, as other clients do: a web server sets it from a request's header.  Loopback
is never asked for through a proxy: it would be the proxy's own.  The password is kept apart and never shown.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from jindopy.base.errors import ConfigError


@dataclass(frozen=True)
class Proxy:
    """Where to connect instead."""

    url: str
    """Scheme, host and port, nothing secret."""
    authorization: str = field(default="", repr=False)
    """Value of the header ``Proxy-Authorization``."""


def proxy_of(secure: bool, host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for requests to ``host``; None: go there.  Raises ConfigError for one that cannot be used."""
    if _goes_straight(host, port, environ.get("no_proxy", environ.get("NO_PROXY", ""))):
        return None
    names = ("https_proxy", "HTTPS_PROXY") if secure else ("http_proxy",)
    for name in (*names, "all_proxy", "ALL_PROXY"):
        if text := environ.get(name, "").strip():
            return _parsed(name, text)
    return None


def _parsed(name: str, text: str) -> Proxy:
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme != "http":
        raise ConfigError(
            f"{name}: write http://host:port (no TLS to the proxy, no SOCKS), or name the endpoint in no_proxy"
        )
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port or 80}"
    if parts.username is None:
        return Proxy(url)
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(url, "Basic " + base64.b64encode(pair.encode()).decode())


def _goes_straight(host: str, port: int, exceptions: str) -> bool:
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_covers(entry.strip().lower(), host, address, port) for entry in exceptions.split(","))


def _covers(entry: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
    if entry == "*":
        return True
    name, colon, own_port = entry.rpartition(":")
    if colon and own_port.isdigit() and (name.endswith("]") or ":" not in name):
        if int(own_port) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").removeprefix(".")
    if not entry:
        return False
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    return host == entry or host.endswith("." + entry)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
