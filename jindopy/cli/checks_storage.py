"""What ``doctor`` checks of storage and of running mounts.

Storage is asked with the daemon's own drivers and credentials, so that what passes here passes there: one cheap request
per address, at most ``STORAGE_SECONDS``, without retries (a doctor that retries hides what it looks for).  The clock is
compared with the ``Date`` header of a plain HEAD, which needs no key.
"""

from __future__ import annotations

import email.utils
import http.client
import ssl
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from jindopy.base import mountinfo
from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import AccessDenied, BucketNotFound, ClockSkewed, ConfigError, JindoError, UfsError
from jindopy.cli.admin import Overview
from jindopy.cli.checks import Finding, Level
from jindopy.cli.output import count, shown
from jindopy.config.settings import UfsMount
from jindopy.control.api import DaemonStatus
from jindopy.control.client import ControlClient

STORAGE_SECONDS = 10.0
SKEW_SECONDS_MAX = 15 * 60
"""OSS refuses requests whose time is further off."""
SKEW_SECONDS_NOTED = 60
READ_AHEAD_KB_MIN = 1024
SKIPPED_SHOWN = 20
SKIPPED_MAX = 1000
"""What a daemon tells of in one answer."""

_CHECKED_ABOVE = ("the kernel's read-ahead", "(weak consistency)", "the cache disk is", "cannot be shown as paths")
"""Notes of a mount that say what a check of its own finds, or ``check_skipped`` names."""

_FIXES: Mapping[type[JindoError], str] = {
    ClockSkewed: "set this machine's clock: timedatectl set-ntp true",
    AccessDenied: "check key id and secret, and that their policy allows ListObjects and GetObject on this bucket",
    BucketNotFound: "check the name of bucket or directory, and that the endpoint is its region's",
    ConfigError: "correct the address or setting it names",
    UfsError: "check the endpoint's name, proxy variables, DNS and firewall",
}


def check_storage(mount: UfsMount, clock: Clock = REAL_CLOCK) -> Iterator[Finding]:
    """Credentials, endpoint, bucket, and this machine's clock."""
    from jindopy.ufs import uri as uris
    from jindopy.ufs.credentials import default_chain
    from jindopy.ufs.registry import open_driver

    name = f"storage {mount.uri}"
    try:
        uri = uris.parse(mount.uri)
        if uri.scheme == "oss":
            keys = default_chain(mount.options, bucket=uri.authority.partition(".")[0]).current()
            if keys.anonymous:
                yield Finding(
                    "credentials",
                    Level.WARN,
                    "none found: only public buckets can be read",
                    "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, or give --credentials-file",
                )
            else:
                yield Finding("credentials", Level.OK, f"from {keys.origin}")
        driver, _ = open_driver(mount.uri, mount.options)
    except JindoError as error:
        yield Finding(name, Level.FAIL, error.message, fix_of(error))
        return
    try:
        if driver.endpoint.startswith(("http://", "https://")):
            yield from check_clock(driver.endpoint, clock)
        driver.check(deadline=Deadline.after(STORAGE_SECONDS, clock))
        yield Finding(name, Level.OK, f"answers at {driver.endpoint}" if driver.endpoint else "can be read")
    except JindoError as error:
        yield Finding(name, Level.FAIL, error.message, fix_of(error))
    finally:
        driver.close()


def fix_of(error: JindoError) -> str:
    """What to do about an error of the storage: the closest class decides."""
    for kind in type(error).__mro__:
        if kind in _FIXES:
            return _FIXES[kind]
    return "see docs/TROUBLESHOOTING.md"


def check_clock(endpoint: str, clock: Clock) -> Iterator[Finding]:
    """Compare clocks; a server that does not answer is told by the check that follows."""
    sent = email.utils.parsedate_tz(_date_of(endpoint))
    if sent is None:
        return
    # A date without a zone is UTC here, as HTTP wants it.
    skew = clock.wall_ns() / 1e9 - email.utils.mktime_tz((*sent[:9], sent[9] or 0))
    message = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} {endpoint}"
    fix = "set this machine's clock: timedatectl set-ntp true"
    if abs(skew) > SKEW_SECONDS_MAX:
        yield Finding("clock", Level.FAIL, f"{message}: requests will be refused", fix)
    elif abs(skew) > SKEW_SECONDS_NOTED:
        yield Finding("clock", Level.WARN, f"{message}: requests are refused from 15 minutes on", fix)
    else:
        yield Finding("clock", Level.OK, f"within {max(1, round(abs(skew)))} s of {endpoint}")


def _date_of(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    connection = http.client.HTTPConnection(parts.netloc, timeout=STORAGE_SECONDS)
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.netloc, timeout=STORAGE_SECONDS, context=_unchecked())
    try:
        connection.request("HEAD", "/")
        return connection.getresponse().getheader("Date") or ""
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def _unchecked() -> ssl.SSLContext:
    """A wrong clock makes certificates look expired, so the Date is read from whoever answers; nothing is sent."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def check_mounts(found: Overview) -> Iterator[Finding]:
    """Dead mounts, and what each living one has to say."""
    for line in found.silent:
        message, _, fix = line.partition("; clean up: ")
        yield Finding("mounts", Level.FAIL, message, fix or "remove that socket file")
    entries = mountinfo.read()
    for status in found.mounts:
        yield from check_mount(status, mountinfo.at(status.mount_point, entries))
    if not found.mounts and not found.silent:
        yield Finding("mounts", Level.OK, "none is running")


def check_mount(status: DaemonStatus, entry: mountinfo.MountEntry | None) -> Iterator[Finding]:
    """One running mount: its notes, tiers and the kernel's read-ahead."""
    name = f"mount {shown(status.mount_point)}"
    problems = 0
    read_ahead_kb = mountinfo.read_ahead_kb(entry) if entry is not None else None
    if read_ahead_kb is not None and read_ahead_kb < READ_AHEAD_KB_MIN:
        problems += 1
        yield Finding(
            name,
            Level.WARN,
            f"the kernel reads only {read_ahead_kb} KiB ahead: sequential buffered reads cost 3 times the requests",
            f"as root: echo 4096 > /sys/class/bdi/{entry.device[0]}:{entry.device[1]}/read_ahead_kb" if entry else "",
        )
    for tier in status.tiers:
        if tier.state != "normal":
            problems += 1
            fix = "look for disk errors: dmesg, smartctl; then mount with another --cache-dir"
            yield Finding(name, Level.FAIL, f"cache tier {tier.path} is {tier.state}", fix)
        if tier.pinned_bytes > tier.low * tier.quota_bytes:
            problems += 1
            yield Finding(
                name, Level.WARN, f"pins fill {tier.path}: little can be evicted", "unpin, or raise the quota"
            )
    if status.traffic.crc_failures:
        problems += 1
        fix = "check the cache's disk (smartctl); jindopy doctor --scrub checks every block"
        yield Finding(
            name, Level.WARN, f"{count(status.traffic.crc_failures, 'cached block')} found bad and healed", fix
        )
    for mount in status.mounts:
        if mount.consistency == "weak":
            problems += 1
            fix = "nothing, unless objects change and keep both: then jindopy evict them"
            yield Finding(name, Level.WARN, f"{mount.uri} tells changes by size and time only", fix)
    if status.traffic.bad_objects:
        problems += 1
        objects = count(status.traffic.bad_objects, "object")
        fix = "look for what changes bytes between here and the storage: proxies, memory; its log names the objects"
        yield Finding(name, Level.WARN, f"{objects} arrived with wrong bytes", fix)
    for note in status.notes:
        if not any(part in note for part in _CHECKED_ABOVE):
            problems += 1
            yield Finding(name, Level.WARN, note, "docs/TROUBLESHOOTING.md explains it")
    if not problems:
        yield Finding(name, Level.OK, f"answers (pid {status.pid}, {status.transport})")


def check_skipped(status: DaemonStatus, client: ControlClient, shown_max: int = SKIPPED_SHOWN) -> Iterator[Finding]:
    """Keys that no path can hold, named; the daemon remembers the first thousand."""
    if not status.skipped_keys:
        return
    keys = client.skipped_keys()
    for uri, reason in keys[:shown_max]:
        yield Finding("skipped key", Level.WARN, f"{shown(uri)}: {reason}", "rename the object to see it in the mount")
    left = status.skipped_keys - min(len(keys), shown_max)
    if left > 0:
        yield Finding("skipped key", Level.WARN, f"... and {left:,} more", f"--json names up to {SKIPPED_MAX:,}")
