"""From settings and facts to what a mount really does.  P: the machine is described by ``Facts``, never looked at.

Derives what was left open (directories, quota, memory, read-ahead), checks values against each other and against the
disk, and maps UFS arguments and ``--tier`` lines.  Every contradiction is one ConfigError that says what to change;
what is merely worth knowing becomes a note.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jindopy.base.errors import ConfigError
from jindopy.base.ident import BLOCK_BYTES, mount_point_id
from jindopy.base.units import format_size, parse_size
from jindopy.config.params import PARAMS, Loaded, Settings
from jindopy.config.settings import CacheTier, MountSettings, UfsMount

DEFAULT_QUOTA_BYTES = 20 << 30
DEFAULT_QUOTA_OF_FREE = 0.5

# As many blocks as GETs are in flight by default: with less, what was just fetched is evicted before it is read.
QUOTA_BYTES_MIN = 16 << 20

MEMORY_SHARE = 8
MEMORY_BYTES_MIN = 64 << 20
MEMORY_BYTES_MAX = 1 << 30
READ_AHEAD_BYTES_MAX = 64 << 20
PREFETCH_BYTES_MAX = 4 << 30
# What is fetched ahead and never opened pushes out at most so much of what was read.
PREFETCH_OF_QUOTA = 0.25

TIER_NAMES = ("MEM", "SSD", "HDD")

# These have no server: an endpoint or region given for the others is not passed to them.
_LOCAL_SCHEMES = frozenset({"local", "file", "memory"})


@dataclass(frozen=True)
class DiskFacts:
    """The file system that holds a directory."""

    total_bytes: int
    free_bytes: int
    """What an unprivileged process may still write."""
    own_bytes: int
    """Taken by the directory itself: an older run's cache is room we already have."""
    writable: bool = True


@dataclass(frozen=True)
class Facts:
    """The machine and the user, as far as settings depend on them."""

    uid: int
    gid: int
    home: str
    xdg_cache_home: str
    xdg_state_home: str
    xdg_runtime_dir: str
    memory_bytes: int
    """The machine's memory or the cgroup's limit, whichever is less."""
    user_allow_other: bool
    disks: Mapping[str, DiskFacts] = field(default_factory=dict)


@dataclass(frozen=True)
class Directories:
    """Where files go by default."""

    cache: str
    state: str
    run: str
    log: str


def directories(settings: Settings, facts: Facts) -> Directories:
    """root: the system's places; a user: the XDG ones."""
    if facts.uid == 0:
        cache, state, run = "/var/cache/jindopy", "/var/lib/jindopy", "/run/jindopy"
        log = "/var/log/jindopy"
    else:
        cache = (facts.xdg_cache_home or f"{facts.home}/.cache") + "/jindopy"
        state = (facts.xdg_state_home or f"{facts.home}/.local/state") + "/jindopy"
        run = f"{facts.xdg_runtime_dir}/jindopy" if facts.xdg_runtime_dir else f"/tmp/jindopy-{facts.uid}"  # noqa: S108
        log = state
    return Directories(
        cache=_absolute(settings.cache_dir or cache, "cache_dir"),
        state=_absolute(settings.state_dir or state, "state_dir"),
        run=_absolute(settings.run_dir or run, "run_dir"),
        log=log,
    )


def _absolute(path: str, name: str) -> str:
    if not posixpath.isabs(path):
        raise ConfigError(f"{name}: {path!r} is relative; give the path from the root")
    return posixpath.normpath(path)


def parse_ufs(arguments: Sequence[str]) -> tuple[UfsMount, ...]:
    """``oss://a=/a``, or one plain ``oss://a/prefix`` for the root of the tree."""
    mounts = []
    for argument in arguments:
        # The last "=/" parts URI and path, so that keys like date=2020 stay what they are.
        uri, separator, path = argument.rpartition("=/")
        mounts.append(UfsMount(uri, path.strip("/")) if separator else UfsMount(argument, ""))
    for mount in mounts:
        if mount.path and any(part in ("", ".", "..") for part in mount.path.split("/")):
            raise ConfigError(f"{mount.uri}: /{mount.path} is no path to show it at; write it without . and ..")
    paths = [mount.path for mount in mounts]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        example = " ".join(f"{mount.uri}=/{'ab'[index % 2]}" for index, mount in enumerate(mounts[:2]))
        raise ConfigError(f"two storages would show at /{twice}; give each its path: {example}")
    return tuple(mounts)


def scheme_of(uri: str) -> str:
    """``oss`` of ``oss://bucket``; a plain path is local (``ufs.uri`` checks the rest)."""
    return "local" if uri.startswith("/") else uri.partition(":")[0].lower()


def ufs_mounts(mounts: tuple[UfsMount, ...], loaded: Loaded) -> tuple[UfsMount, ...]:
    """Give each UFS its driver options: the settings', then ``fs.<scheme>.*``, then those given for it alone."""
    unknown = set(loaded.per_mount) - {mount.path for mount in mounts}
    if unknown:
        raise ConfigError(f"-o /{min(unknown)}:...: nothing is mounted at that path")
    result = []
    for mount in mounts:
        scheme = scheme_of(mount.uri)
        options: dict[str, str] = {}
        if scheme not in _LOCAL_SCHEMES:
            for param in PARAMS:
                value = getattr(loaded.settings, param.name)
                if param.driver_option and value is not None:
                    options[param.driver_option.format(scheme=scheme)] = str(value)
        options |= {name: value for name, value in loaded.driver.items() if name.startswith(f"fs.{scheme}.")}
        options |= loaded.per_mount.get(mount.path, {})
        result.append(UfsMount(mount.uri, mount.path, options))
    return tuple(result)


def tier_paths(settings: Settings, dirs: Directories) -> list[str]:
    """Directories whose DiskFacts ``cache_tiers`` will ask for."""
    return [_split_tier(text)[1] for text in settings.tier] or [dirs.cache]


def _split_tier(text: str) -> tuple[str, str, list[str]]:
    name, _, rest = text.partition(":")
    path, *numbers = rest.split(":")
    if name.upper() not in TIER_NAMES or not path or len(numbers) > 3:
        raise ConfigError(f"--tier {text}: write NAME:PATH:QUOTA:HIGH:LOW with NAME one of {', '.join(TIER_NAMES)}")
    return name.upper(), _absolute(path, "--tier"), numbers


def cache_tiers(settings: Settings, dirs: Directories, facts: Facts) -> tuple[tuple[CacheTier, ...], list[str]]:
    """The tiers and notes about them."""
    tiers, notes = [], []
    if not settings.tier:
        tier, note = _tier("SSD", dirs.cache, settings.quota, settings.high, settings.low, settings, facts)
        return (tier,), note
    for text in settings.tier:
        name, path, numbers = _split_tier(text)
        quota = parse_size(numbers[0]) if numbers and numbers[0] else None
        try:
            high, low = (
                float(numbers[index]) if len(numbers) > index and numbers[index] else default
                for index, default in ((1, settings.high), (2, settings.low))
            )
        except ValueError:
            raise ConfigError(f"--tier {text}: watermarks are numbers such as 0.95:0.8") from None
        tier, note = _tier(name, path, quota, high, low, settings, facts)
        tiers.append(tier)
        notes += note
    paths = [tier.path for tier in tiers]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise ConfigError(f"--tier: {twice} is named twice; each tier needs its own directory")
    return tuple(tiers), notes


def _tier(
    name: str, path: str, quota: int | None, high: float, low: float, settings: Settings, facts: Facts
) -> tuple[CacheTier, list[str]]:
    disk = facts.disks[path]
    if not 0 < low < high <= 1:
        raise ConfigError(
            f"cache at {path}: the low watermark ({low:g}) must be above 0 and below the high one ({high:g}), and that"
            " at most 1; eviction starts at high and stops at low"
        )
    if not disk.writable:
        raise ConfigError(f"cache at {path}: not writable for this user; give another --cache-dir or change its owner")
    min_free = round(disk.total_bytes * settings.min_free)
    room = max(0, disk.free_bytes + disk.own_bytes - min_free)
    notes = []
    if quota is None:
        quota = min(DEFAULT_QUOTA_BYTES, round((disk.free_bytes + disk.own_bytes) * DEFAULT_QUOTA_OF_FREE), room)
        # A nearly full disk still gives a working mount, with a token cache; the note says why it is slow.
        quota = max(quota, QUOTA_BYTES_MIN)
    elif quota > disk.total_bytes:
        raise ConfigError(
            f"cache at {path}: the quota {format_size(quota)} is larger than the disk"
            f" ({format_size(disk.total_bytes)}); at most {format_size(room)} can be used now"
        )
    elif quota < QUOTA_BYTES_MIN:
        raise ConfigError(
            f"cache at {path}: the quota {format_size(quota)} is too small; give at least"
            f" {format_size(QUOTA_BYTES_MIN)}"
        )
    if quota > room:
        notes.append(
            f"cache at {path}: the quota is {format_size(quota)}, but only {format_size(room)} can be used before the"
            f" disk has less than {settings.min_free:.0%} free"
        )
    return CacheTier(name, path, quota, high, low, min_free), notes


def memory_budget(settings: Settings, facts: Facts, tiers: Sequence[CacheTier] = ()) -> int:
    """Bytes for the process itself: what is given, or derived, less what MEM tiers may hold."""
    in_memory = sum(tier.quota_bytes for tier in tiers if tier.name == "MEM")
    if settings.memory is None:
        own = max(MEMORY_BYTES_MIN, min(MEMORY_BYTES_MAX, facts.memory_bytes // MEMORY_SHARE))
        if in_memory and in_memory + own > facts.memory_bytes:
            raise ConfigError(
                f"tier MEM: its quota of {format_size(in_memory)} and {format_size(own)} for the mount itself are more"
                f" than this machine or cgroup has ({format_size(facts.memory_bytes)}); give the tier at most"
                f" {format_size(max(0, facts.memory_bytes - own))}"
            )
        return own
    if settings.memory < MEMORY_BYTES_MIN:
        raise ConfigError(f"memory: {format_size(settings.memory)} is too little, give at least 64 MiB")
    if settings.memory > facts.memory_bytes:
        raise ConfigError(
            f"memory: {format_size(settings.memory)} is more than this machine or cgroup has"
            f" ({format_size(facts.memory_bytes)})"
        )
    if settings.memory - in_memory < MEMORY_BYTES_MIN:
        raise ConfigError(
            f"tier MEM: its quota of {format_size(in_memory)} counts as memory, and of {format_size(settings.memory)}"
            f" that leaves less than the {format_size(MEMORY_BYTES_MIN)} the mount itself needs; give memory at least"
            f" {format_size(in_memory + MEMORY_BYTES_MIN)}, or the tier less"
        )
    return settings.memory - in_memory


def prefetch_bytes(settings: Settings, tiers: Sequence[CacheTier]) -> int:
    """Bytes of small files ahead of their readers."""
    quota = sum(tier.quota_bytes for tier in tiers)
    if settings.prefetch is None:
        return min(PREFETCH_BYTES_MAX, round(quota * PREFETCH_OF_QUOTA))
    if settings.prefetch > quota:
        raise ConfigError(
            f"prefetch: {format_size(settings.prefetch)} is more than the cache's quota of {format_size(quota)}"
        )
    return settings.prefetch


def _check_numbers(settings: Settings, memory_bytes: int, read_ahead_bytes: int) -> None:
    for name in ("fetch_threads", "list_threads"):
        if not 1 <= getattr(settings, name) <= 256:
            raise ConfigError(f"{name}: give a number from 1 to 256")
    for name in ("uid", "gid"):
        value = getattr(settings, name)
        if value is not None and not 0 <= value < 1 << 32:
            raise ConfigError(f"{name}: {value} is no user or group number")
    for name in ("timeout", "request_timeout"):
        if getattr(settings, name) <= 0:
            raise ConfigError(f"{name}: must be more than 0")
    if settings.umask > 0o777:
        raise ConfigError(f"umask: {settings.umask:o} is more than 777")
    if settings.fetch_threads * BLOCK_BYTES > memory_bytes:
        raise ConfigError(
            f"fetch_threads: {settings.fetch_threads} GETs of 1 MiB need more than the memory budget of"
            f" {format_size(memory_bytes)}; lower it or raise memory"
        )
    if read_ahead_bytes > memory_bytes:
        raise ConfigError(
            f"read_ahead: {format_size(read_ahead_bytes)} is more than the memory budget of {format_size(memory_bytes)}"
        )


def _check_outside(mount_point: str, paths: Sequence[str]) -> None:
    """A cache below its own mount point would wait for itself."""
    for path in paths:
        if path == mount_point or path.startswith(mount_point.rstrip("/") + "/"):
            raise ConfigError(f"{path} lies below the mount point {mount_point}; choose a directory outside it")


def mount_settings(
    loaded: Loaded, facts: Facts, *, mount_point: str, ufs: Sequence[str], foreground: bool = False
) -> tuple[MountSettings, list[str]]:
    """Everything a daemon needs to know, and notes for the user; ``mount_point`` is a real path."""
    settings = loaded.settings
    dirs = directories(settings, facts)
    mounts = ufs_mounts(parse_ufs(ufs), loaded)
    tiers, notes = cache_tiers(settings, dirs, facts)
    memory_bytes = memory_budget(settings, facts, tiers)
    read_ahead = settings.read_ahead
    if read_ahead is None:
        read_ahead = min(READ_AHEAD_BYTES_MAX, memory_bytes // 4)
    _check_numbers(settings, memory_bytes, read_ahead)
    if settings.allow_other and facts.uid != 0 and not facts.user_allow_other:
        raise ConfigError("allow_other: only root may, unless /etc/fuse.conf has the line user_allow_other")
    identity = mount_point_id(mount_point)
    state_dir = f"{dirs.state}/{identity}"
    log_file = "" if foreground and settings.log_file is None else settings.log_file or f"{dirs.log}/{identity}.log"
    _check_outside(mount_point, [*(tier.path for tier in tiers), state_dir, dirs.run])
    return MountSettings(
        mount_id=identity,
        mount_point=mount_point,
        mounts=mounts,
        tiers=tiers,
        state_dir=state_dir,
        run_dir=dirs.run,
        log_file=log_file,
        log_format=settings.log_format,
        log_level=settings.log_level,
        ttl_seconds=settings.ttl,
        uid=facts.uid if settings.uid is None else settings.uid,
        gid=facts.gid if settings.gid is None else settings.gid,
        umask=settings.umask,
        allow_other=facts.uid == 0 if settings.allow_other is None else settings.allow_other,
        transport=settings.transport,
        passthrough=settings.passthrough,
        read_ahead_bytes_max=read_ahead,
        prefetch_bytes_max=prefetch_bytes(settings, tiers),
        kernel_read_ahead_bytes=settings.kernel_read_ahead,
        memory_bytes=memory_bytes,
        fetch_threads=settings.fetch_threads,
        list_threads=settings.list_threads,
        request_timeout_seconds=settings.request_timeout,
        drain_seconds=settings.drain,
        foreground=foreground,
        download_bytes_per_second=settings.download_limit or 0,
    ), notes
