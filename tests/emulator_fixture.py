"""The emulator as a real process, for any test that needs an object store.

    with running_emulator(tmp_path, buckets=["demo"]) as emulator:
        bucket = oss2.Bucket(oss2.AuthV4(*emulator.keys), emulator.endpoint, "demo", region="cn-hangzhou")

Options are those of ``jindopy emulator oss``, with underscores: ``latency="20ms"``, ``bandwidth="100MB/s"``,
``signature="v4"``, ``synthetic=["name=meta,prefixes=20,objects=50,size=4kB"]``, ``processes=2`` (default 1).
A file written below ``root / bucket`` is an object at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ACCESS_KEY_ID = "jindopy-demo-id"
ACCESS_KEY_SECRET = "jindopy-demo-secret"
READY_SECONDS = 20
STOP_SECONDS = 20


@dataclass(frozen=True)
class Emulator:
    """A running emulator."""

    endpoint: str
    root: Path
    pid: int
    process: subprocess.Popen[bytes]
    access_key_id: str = ACCESS_KEY_ID
    access_key_secret: str = ACCESS_KEY_SECRET

    @property
    def keys(self) -> tuple[str, str]:
        """Id and secret."""
        return self.access_key_id, self.access_key_secret

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.endpoint.rpartition(":")[2])

    def control(self, method: str, name: str, value: Any = None) -> Any:
        """One request to the control endpoint (plain HTTP only)."""
        data = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(f"{self.endpoint}/-/emulator/{name}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def stats(self) -> dict[str, int]:
        """Counters over all processes: requests by operation (``GetObject``, ``ListObjectsV2`` ...), ``bytes_sent``,
        ``connections``, ``faults`` ..."""
        counters: dict[str, int] = self.control("GET", "stats")["counters"]
        return counters

    def reset_stats(self) -> None:
        """Set the counters to 0."""
        self.control("DELETE", "stats")

    def set_conditions(self, **conditions: Any) -> None:
        """Change some of ``latency_seconds``, ``bandwidth_bytes``, ``bandwidth_per_client_bytes``,
        ``clock_offset_seconds``, ``faults``; the rest stays."""
        self.control("PUT", "conditions", self.control("GET", "conditions") | conditions)

    def set_faults(self, *rules: dict[str, Any]) -> None:
        """Replace the faults, e.g. ``{"kind": "truncate", "operations": ["GetObject"], "limit": 1}``; none: all well.

        Kinds: ``error`` (``status``, ``code``), ``reset``, ``truncate`` (``after_bytes``), ``slow``
        (``delay_seconds``, ``bytes_per_second``), ``corrupt``; each with ``rate``, ``key_prefix``, ``limit``."""
        self.set_conditions(faults=list(rules))


@contextlib.contextmanager
def running_emulator(root: Path, *, environment: dict[str, str] | None = None, **options: Any) -> Iterator[Emulator]:
    """Start the emulator over ``root`` and end it behind the block."""
    options.setdefault("processes", 1)
    arguments: list[str] = []
    for name, value in options.items():
        flag = "--" + {"buckets": "bucket", "domains": "domain", "cnames": "cname"}.get(name, name).replace("_", "-")
        for item in value if isinstance(value, list | tuple) else [value]:
            arguments += [flag, str(item)]
    command = [sys.executable, "-m", "jindopy.cli.emulator", "oss", "--root", str(root), "--print-json", *arguments]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("JINDOPY_EMULATOR_")}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, env=variables | (environment or {}), start_new_session=True
    )
    try:
        assert process.stdout is not None
        line = _first_line(process)
        ready = json.loads(line)
        yield Emulator(ready["endpoint"], root, ready["pid"], process)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def certificate(directory: Path) -> tuple[Path, Path]:
    """A throw-away certificate, trusted by whoever is told its file, and its key: for 127.0.0.1 and oss.example.com."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "emulator")])
    names = [x509.DNSName("oss.example.com"), x509.DNSName("*.oss.example.com")]
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address, *names]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / "cert.pem", directory / "key.pem"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.touch(mode=0o600)
    form = serialization.PrivateFormat.PKCS8
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return certificate_file, key_file


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    import selectors

    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(READY_SECONDS):
            raise TimeoutError(f"the emulator was not ready within {READY_SECONDS} s")
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the emulator ended before it was ready (exit code {process.wait()})")
    return line
