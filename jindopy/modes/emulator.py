"""Runs the emulator: checks what was given, reserves the port, starts the processes, waits, drains.

The port is reserved by a bound socket that never listens; each process binds its own listener beside it
(SO_REUSEPORT), and the kernel spreads connections.  Processes are forked before any thread, event loop or database
exists, share one mapping, and tell by a pipe that they listen; then the ready line is printed.  They die with the
parent (PR_SET_PDEATHSIG).  SIGTERM and SIGINT drain; a second one ends at once.  A process that ends on its own takes
the others with it, and the exit code says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

from jindopy.base.clock import REAL_CLOCK
from jindopy.base.errors import ConfigError
from jindopy.emulator.credentials import CredentialTable
from jindopy.emulator.errors import Refused
from jindopy.emulator.faults import Conditions
from jindopy.emulator.names import check_bucket_name
from jindopy.emulator.routing import Hosts
from jindopy.emulator.server import Server
from jindopy.emulator.service import Service
from jindopy.emulator.shared import Shared
from jindopy.emulator.signature import Credential, SignatureRules, Verifier
from jindopy.emulator.synthetic import SyntheticBucket

PROCESSES_MAX: Final = 64
BACKLOG: Final = 1024
_PR_SET_PDEATHSIG: Final = 1
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmulatorSettings:
    """Everything the server is told at its start."""

    root: Path
    host: str = "127.0.0.1"
    port: int = 0
    """0: any free one."""
    processes: int = 0
    """0: one a core."""
    credentials: tuple[Credential, ...] = field(default=(), repr=False)
    credentials_file: Path | None = None
    signature_versions: frozenset[str] = frozenset({"v1", "v4"})
    clock_skew_seconds: float = 900.0
    region: str = ""
    """Region V4 scopes must name; empty: any."""
    domains: frozenset[str] = frozenset()
    cnames: tuple[tuple[str, str], ...] = ()
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    conditions: Conditions = field(default_factory=Conditions)
    fault_seed: int | None = None
    buckets: tuple[str, ...] = ()
    """Made at the start when they are not there."""
    synthetic: tuple[SyntheticBucket, ...] = ()
    print_json: bool = False


def run(settings: EmulatorSettings) -> int:
    """Serve until told to stop; returns the exit code.  Raises ConfigError for what cannot work."""
    tls = _tls(settings)
    CredentialTable(settings.credentials, settings.credentials_file, REAL_CLOCK.monotonic)
    processes = settings.processes or os.cpu_count() or 1
    if not 1 <= processes <= PROCESSES_MAX:
        raise ConfigError(f"--processes {processes}: 1 to {PROCESSES_MAX} are possible")
    with _reserve(settings.host, settings.port) as reserved:
        address = reserved.getsockname()[:2]
        shared = Shared(processes, settings.conditions, REAL_CLOCK)
        _make_root(settings)
        children = _Children()
        readable, writable = os.pipe()
        for index in range(processes):
            children.start(partial(_serve, settings, address, shared, index, tls, writable))
        os.close(writable)
        return children.watch(readable, processes, lambda: _announce(settings, address, processes, tls is not None))


def _tls(settings: EmulatorSettings) -> ssl.SSLContext | None:
    if settings.tls_certificate is None and settings.tls_key is None:
        return None
    if settings.tls_certificate is None or settings.tls_key is None:
        raise ConfigError("--tls-cert and --tls-key go together")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except OSError as error:
        raise ConfigError(
            f"--tls-cert {settings.tls_certificate}, --tls-key {settings.tls_key}: {error.strerror or error}"
        ) from error
    return context


def _make_root(settings: EmulatorSettings) -> None:
    # A bucket is a directory; nothing of the store may be open over the fork.
    try:
        settings.root.mkdir(parents=True, exist_ok=True)
        for bucket in settings.buckets:
            check_bucket_name(bucket)
            (settings.root / bucket).mkdir(exist_ok=True)
    except Refused as refused:
        raise ConfigError(
            f"--bucket: {refused.message} 3 to 63 lower-case letters, digits and hyphens are due"
        ) from None
    except OSError as error:
        raise ConfigError(f"--root {settings.root}: {error.strerror}; name a directory this user may write") from error


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _reserve(host: str, port: int) -> socket.socket:
    """A bound socket that keeps the port; without SO_REUSEPORT first, so that a stranger's server is noticed."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
            port = probe.getsockname()[1]
        return _listener(host, port)
    except OSError as error:
        raise ConfigError(f"--listen {host}:{port}: {error.strerror}; choose another address") from error


def _announce(settings: EmulatorSettings, address: tuple[str, int], processes: int, tls: bool) -> None:
    host, port = address
    shown = f"[{host}]" if ":" in host else host
    endpoint = f"{'https' if tls else 'http'}://{shown}:{port}"
    if settings.print_json:
        ready = {
            "endpoint": endpoint,
            "pid": os.getpid(),
            "processes": processes,
            "root": str(settings.root),
            "access_key_ids": [credential.access_key_id for credential in settings.credentials],
        }
        line = json.dumps(ready)
    else:
        ids = ", ".join(credential.access_key_id for credential in settings.credentials)
        line = f"emulator ready: {endpoint}  root {settings.root}  {processes} processes  key id {ids or 'from file'}"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class _Children:
    """The processes, from their start to their end."""

    def __init__(self) -> None:
        self._pids: set[int] = set()
        self._stopping = False
        self._parent = os.getpid()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def start(self, serve: Callable[[], None]) -> None:
        """Fork one."""
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            self._pids.add(pid)
            return
        code = 1
        try:
            # Ctrl-C reaches the whole group; the parent turns it into the one SIGTERM that drains.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() == self._parent:
                serve()
            code = 0
        except ConfigError as error:
            sys.stderr.write(f"jindopy emulator: {error}\n")
            code = error.exit_code
        except BaseException:  # noqa: BLE001 (the process ends here, with the trace in the log)
            _LOG.exception("a server process failed")
        finally:
            sys.stderr.flush()
            os._exit(code)

    def watch(self, readable: int, expected: int, announce: Callable[[], None]) -> int:
        """Wait until all listen, then until all have ended; returns the exit code."""
        ready = 0
        while ready < expected and (data := os.read(readable, expected)):
            ready += len(data)
        os.close(readable)
        if ready == expected and not self._stopping:
            announce()
        code = 0
        while self._pids:
            pid, status = os.wait()
            if pid not in self._pids:
                continue
            self._pids.discard(pid)
            ended = os.waitstatus_to_exitcode(status)
            if not self._stopping:
                code = ended if ended > 0 else 1
                _LOG.error("server process %d ended (%d); ending the others", pid, ended)
                self._stop(signal.SIGTERM, None)
        return code


def _serve(
    settings: EmulatorSettings,
    address: tuple[str, int],
    shared: Shared,
    index: int,
    tls: ssl.SSLContext | None,
    ready: int,
) -> None:
    """One process's life."""
    clock = REAL_CLOCK
    listener = _listener(*address)
    listener.listen(BACKLOG)
    service = Service(settings.root, settings.synthetic, settings.region, shared, clock)
    table = CredentialTable(settings.credentials, settings.credentials_file, clock.monotonic)
    rules = SignatureRules(settings.signature_versions, settings.clock_skew_seconds, settings.region)
    hosts = Hosts(frozenset({"localhost"}) | settings.domains, dict(settings.cnames))

    def listening() -> None:
        os.write(ready, b"r")
        os.close(ready)

    async def main() -> None:
        server = Server(
            listener, service, Verifier(rules, table.find), hosts, shared, index, clock, tls, settings.fault_seed
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.drain)
        await server.run(listening)

    asyncio.run(main())
