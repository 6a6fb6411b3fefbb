"""Both ends of the control plane: who may talk to whom, how a channel is opened, how a server listens.

Secrecy  Plain text goes over the loopback interface, or where ``plaintext`` says so by name.  Else TLS: a server has a
         certificate and key, a client the authority's certificate; a server that has one too asks for the client's
         (mutual TLS), which a client that has certificate and key shows.
Joining  A token from a file, shown with every call and compared in constant time.  Without one a server listens on the
         loopback interface only.
Bounds   A call has a deadline; messages are MESSAGE_BYTES_MAX at most.  A connection on which nothing comes back for
         KEEPALIVE seconds is given up, so that a machine that vanished is noticed.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import grpc

from jindopy.base.errors import ConfigError

TOKEN_KEY: Final = "jindo-token"  # noqa: S105 - a name
TOKEN_BYTES_MIN: Final = 16
MESSAGE_BYTES_MAX: Final = 4 << 20
"""Pages of a listing are far below: 1,000 names of 255 bytes and as much again."""
KEEPALIVE_MS: Final = 5_000
RECONNECT_MS_MAX: Final = 1_000
THREADS: Final = 512
"""Each watching client keeps one, each listing that waits for the storage another."""

_OPTIONS: Final[Sequence[tuple[str, int]]] = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),  # a cluster's own addresses never go through one
)
_CLIENT_OPTIONS: Final[Sequence[tuple[str, int]]] = (
    *_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),
    ("grpc.use_local_subchannel_pool", 1),
)
_SERVER_OPTIONS: Final[Sequence[tuple[str, int]]] = (
    *_OPTIONS,
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),  # a second server on the port is a mistake, and told
)

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Security:
    """Files, never their contents, so that it can be shown."""

    token_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    authority_file: str = ""
    plaintext: bool = False

    @property
    def serves_tls(self) -> bool:
        """Whether a server with this speaks TLS."""
        return bool(self.certificate_file)

    @property
    def asks_tls(self) -> bool:
        """Whether a client with this speaks TLS."""
        return bool(self.authority_file)


def split_address(text: str, flag: str) -> tuple[str, int]:
    """``HOST:PORT``; raises ConfigError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host.strip("[]") or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{flag}: {text!r} is no address; write HOST:PORT, as 127.0.0.1:18101")
    return host.strip("[]"), int(port)


def join_address(host: str, port: int) -> str:
    """The inverse, with brackets where a host has colons."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether what is sent there never leaves the machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_secrecy(host: str, flag: str, security: Security, *, tls: bool) -> None:
    """Refuse plain text that nobody asked for; raises ConfigError."""
    if not tls and not security.plaintext and not is_loopback(host):
        raise ConfigError(
            f"{flag}: {host} is not the loopback interface, and there is no TLS; give --tls-cert, --tls-key (servers)"
            " or --tls-ca (clients), or ask for plain text by name: --plaintext"
        )


def read_token(path: str) -> str:
    """The token in a file; empty without one.  Raises ConfigError."""
    if not path:
        return ""
    try:
        mode = Path(path).stat().st_mode
        text = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not ASCII"
        raise ConfigError(f"--token-file {path}: {cause}") from None
    if mode & 0o077:
        raise ConfigError(f"--token-file {path}: others may read it; run: chmod 600 {path}")
    if len(text) < TOKEN_BYTES_MIN or not text.isprintable() or " " in text:
        raise ConfigError(
            f"--token-file {path}: a token is one line of at least {TOKEN_BYTES_MIN} characters, as of: openssl rand"
            " -hex 32"
        )
    return text


def _read(path: str, flag: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{flag} {path}: {error.strerror}") from None


def open_channel(address: str, security: Security, flag: str = "--master") -> tuple[grpc.Channel, Metadata]:
    """A channel that connects when first used, and what to show with every call on it.  Raises ConfigError."""
    host, port = split_address(address, flag)
    check_secrecy(host, flag, security, tls=security.asks_tls)
    token = read_token(security.token_file)
    metadata = ((TOKEN_KEY, token),) if token else ()
    target = join_address(host, port)
    if not security.asks_tls:
        return grpc.insecure_channel(target, options=_CLIENT_OPTIONS), metadata
    credentials = grpc.ssl_channel_credentials(
        _read(security.authority_file, "--tls-ca"),
        _read(security.key_file, "--tls-key") if security.key_file else None,
        _read(security.certificate_file, "--tls-cert") if security.certificate_file else None,
    )
    return grpc.secure_channel(target, credentials, options=_CLIENT_OPTIONS), metadata


@final
class _TokenCheck(grpc.ServerInterceptor):
    """Turns away calls without the token, before anything of them is parsed."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

        def refuse(_: object, context: grpc.ServicerContext) -> Any:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the join token is missing or another one (--token-file)")

        self._refusal: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(refuse)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        shown = dict(handler_call_details.invocation_metadata or ()).get(TOKEN_KEY, "")
        raw = shown.encode() if isinstance(shown, str) else shown
        return continuation(handler_call_details) if hmac.compare_digest(raw, self._token) else self._refusal


def make_server(
    address: str, security: Security, register: Callable[[grpc.Server], None], flag: str = "--listen"
) -> tuple[grpc.Server, str]:
    """A server that listens and is not started yet, and its address with the real port.  Raises ConfigError."""
    host, port = split_address(address, flag)
    check_secrecy(host, flag, security, tls=security.serves_tls)
    token = read_token(security.token_file)
    if not token and not is_loopback(host):
        raise ConfigError(f"{flag}: {host} can be reached by others; give --token-file, which all members share")
    server = grpc.server(
        ThreadPoolExecutor(THREADS, thread_name_prefix="rpc"),
        interceptors=[_TokenCheck(token)] if token else [],
        options=_SERVER_OPTIONS,
        maximum_concurrent_rpcs=THREADS,
    )
    register(server)
    target = join_address(host, port)
    try:
        if security.serves_tls:
            if not security.key_file:
                raise ConfigError("--tls-cert needs --tls-key")
            authority = _read(security.authority_file, "--tls-ca") if security.authority_file else None
            pair = (_read(security.key_file, "--tls-key"), _read(security.certificate_file, "--tls-cert"))
            credentials = grpc.ssl_server_credentials([pair], authority, authority is not None)
            bound = server.add_secure_port(target, credentials)
        else:
            bound = server.add_insecure_port(target)
    except RuntimeError:
        bound = 0
    if not bound:
        raise ConfigError(f"{flag}: cannot listen on {target}; is another process there? choose another port")
    return server, join_address(host, bound)
