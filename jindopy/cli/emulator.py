"""``jindopy emulator``: a local server that speaks the protocol of OSS."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from jindopy.base.errors import ConfigError, JindoError
from jindopy.base.units import parse_duration, parse_rate
from jindopy.emulator.credentials import DEMO_ACCESS_KEY_ID, DEMO_ACCESS_KEY_SECRET
from jindopy.emulator.faults import Conditions, fail_rules
from jindopy.emulator.signature import Credential
from jindopy.emulator.synthetic import SyntheticBucket
from jindopy.modes.emulator import EmulatorSettings, run

_ENV_ID = "JINDOPY_EMULATOR_ACCESS_KEY_ID"
_ENV_SECRET = "JINDOPY_EMULATOR_ACCESS_KEY_SECRET"  # noqa: S105 (a name)

_EXAMPLES = f"""
\b
Examples:
  jindopy emulator oss --root /tmp/oss --bucket demo --listen 127.0.0.1:9000
  jindopy emulator oss --root /tmp/oss --latency 20ms --bandwidth 12MB/s
  jindopy emulator oss --root /tmp/oss --fail-rate 0.01 --fail-kind 503,reset,truncate
  jindopy emulator oss --root /tmp/oss --synthetic name=meta,prefixes=200,objects=1000

Files below ROOT/BUCKET are objects; drop them in while it runs. Without keys of
your own the server knows the id {DEMO_ACCESS_KEY_ID} with the secret
{DEMO_ACCESS_KEY_SECRET}. Give others by {_ENV_ID} and
{_ENV_SECRET}, or by --credentials-file: JSON,
[{{"access_key_id": ..., "access_key_secret": ..., "security_token": ..., "expires": ...}}],
read again when it changes.

On the loopback interface, GET /-/emulator/stats answers counters (DELETE sets them
to 0) and GET or PUT /-/emulator/conditions the latency, bandwidth, clock and faults.
"""


class _Converted(click.ParamType[Any]):
    """An option value by one of the project's parsers."""

    def __init__(self, name: str, parse: Any) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except JindoError as error:
            self.fail(str(error), param, ctx)


def _listen(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"not an address: {text!r} (write 127.0.0.1:9000; port 0 is any free one)")
    return host.strip("[]"), int(port)


def _cname(text: str) -> tuple[str, str]:
    host, equals, bucket = text.partition("=")
    if not equals or not host or not bucket:
        raise ConfigError(f"not a CNAME: {text!r} (write data.example.com=bucket)")
    return host.lower(), bucket


@click.group()
def emulator() -> None:
    """Servers for demos, tests and benchmarks."""


@emulator.command(epilog=_EXAMPLES, short_help="Serve a directory as an Alibaba Cloud OSS endpoint.")
@click.option("--root", required=True, type=click.Path(path_type=Path), help="Directory of buckets; made if missing.")
@click.option(
    "--listen",
    type=_Converted("HOST:PORT", _listen),
    default="127.0.0.1:0",
    show_default=True,
    help="Address; port 0 is any free one.",
)
@click.option("--bucket", "buckets", multiple=True, help="Make this bucket if it is not there. Repeatable.")
@click.option(
    "--latency",
    type=_Converted("DURATION", parse_duration),
    default="0s",
    show_default=True,
    help="Time to the first byte of each answer.",
)
@click.option(
    "--bandwidth",
    type=_Converted("RATE", parse_rate),
    default="0",
    help="Bytes per second of all connections together, each way, e.g. 100MB/s; 0: no limit.",
)
@click.option(
    "--bandwidth-per-client",
    type=_Converted("RATE", parse_rate),
    default="0",
    help="Bytes per second of one connection; 0: no limit.",
)
@click.option(
    "--fail-rate", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Share of the requests that fail."
)
@click.option(
    "--fail-kind",
    default="503",
    show_default=True,
    help="How, comma-separated: an error status, reset, truncate, slow, corrupt.",
)
@click.option("--fail-seed", type=int, help="Makes the choice of failing requests repeatable.")
@click.option(
    "--signature",
    type=click.Choice(["v1", "v4", "both"]),
    default="both",
    show_default=True,
    help="Signatures that are accepted.",
)
@click.option(
    "--clock-skew-seconds",
    type=click.FloatRange(min=0),
    default=900.0,
    show_default=True,
    help="How far a request's time may be off.",
)
@click.option(
    "--clock-offset",
    type=_Converted("DURATION", parse_duration),
    default="0s",
    help="How far the server's own clock is ahead.",
)
@click.option("--region", default="", help="Region that V4 signatures must name; default: any.")
@click.option(
    "--domain",
    "domains",
    multiple=True,
    help="A name of the server: BUCKET.DOMAIN is virtual-host style. Repeatable; localhost always is one.",
)
@click.option(
    "--cname",
    "cnames",
    multiple=True,
    type=_Converted("HOST=BUCKET", _cname),
    help="A host name bound to one bucket. Repeatable.",
)
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain (PEM).")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Private key (PEM).")
@click.option("--access-key-id", help=f"Key id to accept; its secret comes from {_ENV_SECRET}.")
@click.option("--credentials-file", type=click.Path(path_type=Path), help="Keys as JSON, mode 0600.")
@click.option("--processes", type=click.IntRange(0, 64), default=0, help="Server processes; default: one a core.")
@click.option(
    "--synthetic",
    "synthetic",
    multiple=True,
    type=_Converted("FORMULA", SyntheticBucket.parse),
    help="A bucket made by formula: name=NAME,prefixes=200,objects=1000,size=100kB. Repeatable.",
)
@click.option("--json", "--print-json", "print_json", is_flag=True, help="Print the ready line as JSON.")
def oss(**options: Any) -> None:
    """Serve a directory as an object store that speaks the protocol of Alibaba Cloud OSS."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    try:
        sys.exit(run(settings_of(options)))
    except JindoError as error:
        click.echo(f"jindopy emulator: {error}", err=True)
        sys.exit(error.exit_code)


def settings_of(options: dict[str, Any]) -> EmulatorSettings:
    """Options and environment → settings; raises ConfigError."""
    signature = options["signature"]
    host, port = options["listen"]
    try:
        kinds = tuple(kind.strip() for kind in options["fail_kind"].split(",") if kind.strip())
        faults = fail_rules(options["fail_rate"], kinds) if options["fail_rate"] else ()
    except ValueError as error:
        raise ConfigError(f"--fail-kind: {error}") from None
    return EmulatorSettings(
        root=options["root"],
        host=host,
        port=port,
        processes=options["processes"],
        credentials=_credentials(options["access_key_id"], options["credentials_file"]),
        credentials_file=options["credentials_file"],
        signature_versions=frozenset({"v1", "v4"} if signature == "both" else {signature}),
        clock_skew_seconds=options["clock_skew_seconds"],
        region=options["region"],
        domains=frozenset(domain.lower() for domain in options["domains"]),
        cnames=tuple(options["cnames"]),
        tls_certificate=options["tls_cert"],
        tls_key=options["tls_key"],
        conditions=Conditions(
            latency_seconds=options["latency"],
            bandwidth_bytes=options["bandwidth"],
            bandwidth_per_client_bytes=options["bandwidth_per_client"],
            clock_offset_seconds=options["clock_offset"],
            faults=faults,
        ),
        fault_seed=options["fail_seed"],
        buckets=tuple(options["buckets"]),
        synthetic=tuple(options["synthetic"]),
        print_json=options["print_json"],
    )


def _credentials(access_key_id: str | None, file: Path | None) -> tuple[Credential, ...]:
    access_key_id = access_key_id or os.environ.get(_ENV_ID)
    secret = os.environ.get(_ENV_SECRET)
    if access_key_id:
        if not secret:
            raise ConfigError(f"the secret of {access_key_id} is missing; set {_ENV_SECRET}")
        return (Credential(access_key_id, secret),)
    if file is not None:
        return ()
    return (Credential(DEMO_ACCESS_KEY_ID, DEMO_ACCESS_KEY_SECRET),)


if __name__ == "__main__":
    emulator()
