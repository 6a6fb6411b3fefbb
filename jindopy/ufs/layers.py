"""What every driver needs and none should hold, in the usual order.

    Retrying ── Limited ── Metered ── Faulty ── driver

Retrying is outermost, so that a try waits for its turn again and is counted by itself, and a try that is waiting to be
repeated holds no slot.  Each layer is a driver around a driver, in a file of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jindopy.base.clock import REAL_CLOCK, Clock
from jindopy.base.errors import ConfigError
from jindopy.base.retry import RetryPolicy
from jindopy.ufs.base import Driver, LimitsDownloads, Rate
from jindopy.ufs.layer_faults import FaultPlan, Faulty
from jindopy.ufs.layer_limit import Bucket, Limited
from jindopy.ufs.layer_meter import Metered
from jindopy.ufs.layer_retry import Retrying

NAMES = frozenset({"max.connections.per.host", "retry.count", "retry.interval.millisecond"})
"""What ``LayerConfig`` reads, behind ``fs.oss.``."""


@dataclass(frozen=True)
class LayerConfig:
    """What ``wrap`` puts around a driver."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    concurrency: int = 100
    """Requests and open bodies at one time; as many connections are kept open."""
    requests_per_second: float | None = None
    bytes_per_second: float | None = None
    faults: FaultPlan | None = None
    download_rate: Rate | None = None
    """For bodies alone, shared with other drivers (``download_rate``)."""

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> LayerConfig:
        """From Jindo's names for them; the same options that size the pool of connections."""
        count = _whole(options, "fs.oss.retry.count", 5)
        interval = _whole(options, "fs.oss.retry.interval.millisecond", 100)
        connections = max(1, _whole(options, "fs.oss.max.connections.per.host", 100))
        return cls(retry=RetryPolicy(attempts=count + 1, base_seconds=interval / 1000), concurrency=connections)


def download_rate(bytes_per_second: float, clock: Clock = REAL_CLOCK) -> Rate:
    """A rate that native threads and layers can share; without the native client for layers alone."""
    try:
        from jindopy._ext.httpget import DownloadLimit
    except ImportError:
        return Bucket(bytes_per_second, clock)
    return DownloadLimit(bytes_per_second)


def wrap(driver: Driver, config: LayerConfig, clock: Clock = REAL_CLOCK) -> Driver:
    """The usual stack around ``driver``."""
    wrapped: Driver = driver
    rate = config.download_rate
    if rate is not None and isinstance(driver, LimitsDownloads) and driver.limit_downloads(rate):
        rate = None
    if config.faults is not None:
        wrapped = Faulty(wrapped, config.faults, clock)
    wrapped = Metered(wrapped)
    wrapped = Limited(
        wrapped,
        concurrency=config.concurrency,
        requests_per_second=config.requests_per_second,
        bytes_per_second=config.bytes_per_second,
        bytes_rate=rate,
        clock=clock,
    )
    return Retrying(wrapped, config.retry, clock)


def _whole(options: Mapping[str, str], name: str, default: int) -> int:
    text = options.get(name, str(default))
    if not (text.isascii() and text.isdigit() and int(text) <= 1_000_000):
        raise ConfigError(f"{name}={text!r}: write a whole number")
    return int(text)
