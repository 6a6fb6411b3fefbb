"""Options of an OSS mount, under Jindo's names, made into one frozen value and checked.  P.

    fs.oss.endpoint                          oss-cn-hangzhou-internal.aliyuncs.com, https://host:port
    fs.oss.region                            cn-hangzhou; needed for V4 where the endpoint's name does not tell it
    fs.oss.signer.version                    0 or 4: V4; 1: V1
    fs.oss.second.level.domain.enable        true: endpoint/bucket/key instead of bucket.endpoint/key
    fs.oss.cname.enable                      true: the endpoint is a domain bound to the bucket
    fs.oss.connection.timeout.millisecond    3000, at most 5000
    fs.oss.timeout.millisecond               30000: longest silence of a connection
    fs.oss.max.connections.per.host          100: connections kept open
    fs.oss.ca.file                           certificates to trust instead of the system's
    fs.oss.client                            native: GETs by threads without the GIL, where built; python: by urllib3

Each also as ``fs.oss.bucket.NAME.*`` for one bucket.  Options under other names belong to others and are left alone:
``registry.without_effect`` names those that nobody reads.
Proxies come from the environment (``oss_proxy``).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from jindopy.base.errors import ConfigError
from jindopy.ufs.oss_proxy import Proxy, proxy_of
from jindopy.ufs.uri import UfsUri

NAMES = frozenset(
    {
        "ca.file",
        "client",
        "cname.enable",
        "connection.timeout.millisecond",
        "endpoint",
        "max.connections.per.host",
        "provider.endpoint",
        "region",
        "second.level.domain.enable",
        "signer.version",
        "timeout.millisecond",
    }
)
"""What is read here and by ``credentials``, behind ``fs.oss.`` or ``fs.oss.bucket.NAME.``."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_REGION_IN_NAME = re.compile(
    r"(?:^|\.)(?:s3\.)?oss-(?P<before>[a-z]{2,}-[a-z0-9-]+?)(?:-internal)?\.aliyuncs\.com$"
    r"|(?:^|\.)(?P<dls>[a-z]{2,}-[a-z0-9-]+?)(?:-internal)?\.oss(?:-dls)?\.aliyuncs\.com$"
)
_REGION = re.compile(r"[a-z0-9-]{2,40}")
_TRUE = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

CONNECT_SECONDS_MAX = 5.0
"""A host that does not answer a SYN and two repetitions (1 s, 3 s) within it is not there."""


class OssOptions(NamedTuple):
    """Where and how to talk to one bucket."""

    bucket: str
    secure: bool
    host: str
    """Host of the endpoint, without the bucket."""
    port: int
    path_style: bool
    cname: bool
    region: str
    """Empty only with signature V1."""
    signature_v4: bool
    connect_seconds: float
    silence_seconds: float
    connections: int
    ca_file: str
    native: bool = True
    """GETs by the native client, if it was built."""
    proxy: Proxy | None = None

    @property
    def endpoint(self) -> str:
        """As shown in messages."""
        usual = 443 if self.secure else 80
        return f"{'https' if self.secure else 'http'}://{self.host}" + (f":{self.port}" if self.port != usual else "")

    @property
    def request_host(self) -> str:
        """Host to connect to."""
        return self.host if self.path_style or self.cname else f"{self.bucket}.{self.host}"

    @property
    def path(self) -> str:
        """What stands before a key in a request's path."""
        return f"/{self.bucket}/" if self.path_style else "/"


def parse_options(uri: UfsUri, given: Mapping[str, str], environ: Mapping[str, str]) -> OssOptions:
    """Put URI, options and environment together; raises ConfigError with what to write."""
    bucket, _, long_form = uri.authority.partition(".")
    if not _BUCKET.fullmatch(bucket):
        raise ConfigError(f"oss://{bucket}: a bucket name has 3 to 63 lowercase letters, digits and inner dashes")
    own = f"fs.oss.bucket.{bucket}."
    options = {name.removeprefix("fs.oss."): value for name, value in given.items() if not name.startswith(own)}
    options |= {name.removeprefix(own): value for name, value in given.items() if name.startswith(own)}
    text = long_form or options.get("endpoint", "") or environ.get("OSS_ENDPOINT", "")
    if not text:
        raise ConfigError(
            f"oss://{bucket}: no endpoint; add -o fs.oss.endpoint=oss-<region>.aliyuncs.com or set OSS_ENDPOINT"
        )
    secure, host, port = _split_endpoint(text.strip())
    signature_v4 = _signature(options.get("signer.version", "0"))
    region = options.get("region", "") or environ.get("OSS_REGION", "") or region_of(host)
    region = region.removeprefix("oss-")
    if signature_v4 and not region:
        raise ConfigError(
            f"{host}: the region cannot be told from this endpoint's name and signature V4 needs it; "
            "add -o fs.oss.region=cn-hangzhou (yours), or -o fs.oss.signer.version=1"
        )
    if region and not _REGION.fullmatch(region):
        raise ConfigError(f"fs.oss.region={region!r} is no region; it looks like cn-hangzhou")
    cname = _flag(options, "cname.enable", False)
    made = OssOptions(
        bucket=bucket,
        secure=secure,
        host=host,
        port=port,
        path_style=not cname and _flag(options, "second.level.domain.enable", _is_address(host)),
        cname=cname,
        region=region,
        signature_v4=signature_v4,
        connect_seconds=min(CONNECT_SECONDS_MAX, _number(options, "connection.timeout.millisecond", 3000) / 1000),
        silence_seconds=_number(options, "timeout.millisecond", 30_000) / 1000,
        connections=_number(options, "max.connections.per.host", 100),
        ca_file=options.get("ca.file", ""),
        native=_client(options.get("client", "native")),
    )
    return made._replace(proxy=proxy_of(secure, made.request_host, port, environ))


def region_of(host: str) -> str:
    """``oss-cn-hangzhou-internal.aliyuncs.com`` → ``cn-hangzhou``; empty where the name does not tell."""
    match = _REGION_IN_NAME.search(host)
    region = (match["before"] or match["dls"]) if match else ""
    return "" if region.startswith("accelerate") else region


def _split_endpoint(text: str) -> tuple[bool, str, int]:
    explicit = "://" in text
    parts = urlsplit(text if explicit else f"//{text}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    host = (parts.hostname or "").lower()
    usable = re.fullmatch(r"[a-z0-9.:_-]+", host) and port != -1 and not parts.query and parts.path in {"", "/"}
    if not usable or parts.username is not None or parts.scheme not in {"", "http", "https"}:
        raise ConfigError("fs.oss.endpoint must be host, host:port or http(s)://host[:port], without bucket or path")
    # Without a scheme: TLS, unless it is a plain address, which has no certificate a client could check.
    secure = parts.scheme == "https" if explicit else not _is_address(host)
    return secure, host, port or (443 if secure else 80)


def _is_address(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _signature(text: str) -> bool:
    if text.lower().removeprefix("v") not in {"0", "1", "4"}:
        raise ConfigError(f"fs.oss.signer.version={text!r}: write 4 (or 0, the same) or 1")
    return text.lower().removeprefix("v") != "1"


def _client(text: str) -> bool:
    if text not in {"native", "python"}:
        raise ConfigError(f"fs.oss.client={text!r}: write native or python")
    return text == "native"


def _flag(options: Mapping[str, str], name: str, default: bool) -> bool:
    text = options.get(name, "")
    if text and text.lower() not in _TRUE:
        raise ConfigError(f"fs.oss.{name}={text!r}: write true or false")
    return _TRUE[text.lower()] if text else default


def _number(options: Mapping[str, str], name: str, default: int) -> int:
    text = options.get(name, "")
    if text and not (text.isascii() and text.isdigit() and 0 < int(text) < 10**9):
        raise ConfigError(f"fs.oss.{name}={text!r}: write a whole number above 0")
    return int(text) if text else default
