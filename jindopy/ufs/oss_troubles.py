"""What can go wrong below HTTP on the way to an endpoint → the error to raise, with what to check.  P.

Both ways of sending (``oss_http``, ``oss_native``) say which trouble it was and what caused it; the words are here.
"""

from __future__ import annotations

import enum

from jindopy.base.errors import BadAnswer, JindoError, Unavailable
from jindopy.ufs.oss_options import OssOptions

_INSIDE = "(an -internal endpoint answers only inside its region)"


class Trouble(enum.Enum):
    """Where a request got stuck."""

    NAME = enum.auto()
    PROXY = enum.auto()
    REFUSED = enum.auto()
    CONNECT_TIMEOUT = enum.auto()
    SILENCE = enum.auto()
    CERTIFICATE = enum.auto()
    TLS = enum.auto()
    BROKEN = enum.auto()


def trouble_error(trouble: Trouble, cause: str, options: OssOptions) -> JindoError:
    """The error of the tree; ``cause`` is short and holds nothing secret."""
    proxy = options.proxy.url if options.proxy is not None else ""
    text = {
        Trouble.NAME: f"the name {options.request_host} cannot be resolved; check fs.oss.endpoint, the bucket and DNS",
        Trouble.PROXY: f"no way through the proxy {proxy} ({cause}); check https_proxy and no_proxy",
        Trouble.REFUSED: (
            f"no connection ({cause}); check fs.oss.endpoint, and that this machine may reach it {_INSIDE}"
        ),
        Trouble.CONNECT_TIMEOUT: (
            f"no connection within {options.connect_seconds:g} s; check fs.oss.endpoint and firewalls {_INSIDE}"
        ),
        Trouble.SILENCE: f"no answer within {options.silence_seconds:g} s",
        Trouble.CERTIFICATE: (
            "the server's certificate is not trusted; name its authority by fs.oss.ca.file, or check who answers at "
            "this address"
        ),
        Trouble.TLS: f"TLS failed ({cause}); is this an https port?",
        Trouble.BROKEN: f"the connection broke ({cause})",
    }[trouble]
    kind = BadAnswer if trouble in {Trouble.CERTIFICATE, Trouble.TLS} else Unavailable
    return kind(text, endpoint=options.endpoint)
