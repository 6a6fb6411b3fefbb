"""What is derived from settings and machine, and each contradiction's one line."""

from dataclasses import replace

import pytest

from jindopy.base.errors import ConfigError
from jindopy.config.params import Loaded, Settings
from jindopy.config.rationalize import (
    DiskFacts,
    Facts,
    directories,
    memory_budget,
    mount_settings,
    parse_ufs,
    tier_paths,
)
from jindopy.config.settings import CacheTier, MountSettings, UfsMount

G = 1 << 30
ROOMY = DiskFacts(total_bytes=100 * G, free_bytes=80 * G, own_bytes=0)
ROOT = Facts(0, 0, "/root", "", "", "", memory_bytes=4 * G, user_allow_other=False)
USER = replace(ROOT, uid=1000, gid=100, home="/home/u")


def _settle(
    facts: Facts = ROOT,
    disk: DiskFacts = ROOMY,
    ufs: tuple[str, ...] = ("local:///d",),
    driver: dict[str, str] | None = None,
    per_mount: dict[str, dict[str, str]] | None = None,
    foreground: bool = False,
    **settings: object,
) -> tuple[MountSettings, list[str]]:
    loaded = Loaded(Settings(**settings), driver or {}, per_mount or {}, {})  # type: ignore[arg-type]
    disks = dict.fromkeys(tier_paths(loaded.settings, directories(loaded.settings, facts)), disk)
    return mount_settings(loaded, replace(facts, disks=disks), mount_point="/mnt/d", ufs=ufs, foreground=foreground)


def test_defaults_of_root() -> None:
    settings, notes = _settle()
    assert notes == []
    assert settings.tiers == (CacheTier("SSD", "/var/cache/jindopy", 20 * G, 0.95, 0.8, 10 * G),)
    assert settings.mount_id == "110f235a8408"
    assert settings.state_dir == f"/var/lib/jindopy/{settings.mount_id}"
    assert settings.control_socket == f"/run/jindopy/{settings.mount_id}.sock"
    assert settings.log_file == f"/var/log/jindopy/{settings.mount_id}.log"
    assert settings.allow_other
    assert (settings.uid, settings.gid, settings.umask) == (0, 0, 0o022)
    assert settings.memory_bytes == G // 2
    assert settings.read_ahead_bytes_max == 64 << 20
    assert settings.prefetch_bytes_max == min(4 * G, settings.tiers[0].quota_bytes // 4)


def test_defaults_of_a_user() -> None:
    settings, _ = _settle(USER)
    assert settings.tiers[0].path == "/home/u/.cache/jindopy"
    assert settings.state_dir.startswith("/home/u/.local/state/jindopy/")
    assert settings.log_file.startswith("/home/u/.local/state/jindopy/")
    assert settings.run_dir == "/tmp/jindopy-1000"
    assert not settings.allow_other
    assert (settings.uid, settings.gid) == (1000, 100)
    xdg = replace(USER, xdg_cache_home="/c", xdg_state_home="/s", xdg_runtime_dir="/r")
    settings, _ = _settle(xdg)
    assert (settings.tiers[0].path, settings.run_dir) == ("/c/jindopy", "/r/jindopy")
    assert settings.state_dir.startswith("/s/jindopy/")


def test_foreground_logs_to_the_terminal_unless_told_otherwise() -> None:
    assert _settle(foreground=True)[0].log_file == ""
    assert _settle(foreground=True, log_file="/l")[0].log_file == "/l"


def test_quota_follows_free_space_and_counts_the_old_cache_as_room() -> None:
    assert _settle(disk=DiskFacts(100 * G, 30 * G, 0))[0].tiers[0].quota_bytes == 15 * G
    assert _settle(disk=DiskFacts(100 * G, 15 * G, 15 * G))[0].tiers[0].quota_bytes == 15 * G
    assert _settle(disk=DiskFacts(100 * G, 12 * G, 0))[0].tiers[0].quota_bytes == 2 * G, "10 % stay free"
    nearly_full, notes = _settle(disk=DiskFacts(100 * G, 5 * G, 0))
    assert nearly_full.tiers[0].quota_bytes == 16 << 20
    assert "only 0 B can be used" in notes[0]


def test_a_quota_beyond_what_is_free_is_noted_not_refused() -> None:
    settings, notes = _settle(quota=90 * G)
    assert settings.tiers[0].quota_bytes == 90 * G
    assert "only 70.0 GiB can be used" in notes[0]


def test_tiers() -> None:
    settings, _ = _settle(tier=("MEM:/dev/shm/j:1G", "SSD:/a:2G:0.9:0.5", "HDD:/b"))
    assert [(t.name, t.path, t.quota_bytes, t.high, t.low) for t in settings.tiers] == [
        ("MEM", "/dev/shm/j", G, 0.95, 0.8),
        ("SSD", "/a", 2 * G, 0.9, 0.5),
        ("HDD", "/b", 20 * G, 0.95, 0.8),
    ]


def test_a_mem_tier_counts_as_memory() -> None:
    settings, _ = _settle(tier=("MEM:/t:1G", "SSD:/a:2G"), memory=2 * G)
    assert settings.memory_bytes == G
    settings, _ = _settle(tier=("MEM:/t:1G", "SSD:/a:2G"))
    assert settings.memory_bytes == G // 2


def test_driver_options_reach_the_right_storage() -> None:
    settings, _ = _settle(
        ufs=("oss://a=/a", "s3://b/p=/b", "/plain=/c"),
        endpoint="e",
        credentials_file="/k",
        driver={"fs.oss.x": "1", "fs.s3.endpoint": "f"},
        per_mount={"a": {"fs.oss.endpoint": "g"}},
    )
    assert settings.mounts == (
        UfsMount("oss://a", "a", {"fs.oss.endpoint": "g", "credentials.file": "/k", "fs.oss.x": "1"}),
        UfsMount("s3://b/p", "b", {"fs.s3.endpoint": "f", "credentials.file": "/k"}),
        UfsMount("/plain", "c", {}),
    )


def test_ufs_arguments() -> None:
    assert parse_ufs(["oss://b/date=2020/"]) == (UfsMount("oss://b/date=2020/", ""),)
    assert parse_ufs(["oss://b/k=v=/x/y"]) == (UfsMount("oss://b/k=v", "x/y"),)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"quota": 101 * G}, "the quota 101.0 GiB is larger than the disk (100.0 GiB); at most 70.0 GiB"),
        ({"quota": 1 << 20}, "too small; give at least 16.0 MiB"),
        ({"high": 0.5, "low": 0.8}, "the low watermark (0.8) must be above 0 and below the high one (0.5)"),
        ({"low": 0.0}, "the low watermark (0)"),
        ({"disk": replace(ROOMY, writable=False)}, "not writable"),
        ({"tier": ("RAM:/x",)}, "--tier RAM:/x: write NAME:PATH:QUOTA:HIGH:LOW"),
        ({"tier": ("SSD:/x:1G:a",)}, "watermarks are numbers"),
        ({"tier": ("SSD:/x:1Q",)}, "not a size"),
        ({"tier": ("SSD:/x:1G:1.2:0.5",)}, "at most 1"),
        ({"tier": ("SSD:x",)}, "is relative"),
        ({"tier": ("SSD:/x", "HDD:/x/")}, "named twice"),
        ({"cache_dir": "cache"}, "cache_dir: 'cache' is relative"),
        ({"cache_dir": "/mnt/d/cache"}, "lies below the mount point /mnt/d"),
        ({"memory": 5 * G}, "more than this machine or cgroup has"),
        ({"memory": 1 << 20}, "too little"),
        ({"tier": ("MEM:/t:4G",)}, "tier MEM: its quota of 4.0 GiB and 512.0 MiB for the mount itself are more than"),
        ({"tier": ("MEM:/t:1G",), "memory": G}, "give memory at least 1.1 GiB, or the tier less"),
        ({"memory": 64 << 20, "fetch_threads": 65}, "fetch_threads: 65 GETs of 1 MiB need more"),
        ({"read_ahead": G}, "read_ahead: 1.0 GiB is more than the memory budget"),
        ({"fetch_threads": 0}, "fetch_threads: give a number from 1 to 256"),
        ({"uid": -1}, "uid: -1 is no user or group number"),
        ({"umask": 0o1000}, "umask: 1000 is more than 777"),
        ({"timeout": 0.0}, "timeout: must be more than 0"),
        ({"facts": USER, "allow_other": True}, "user_allow_other"),
        ({"ufs": ("oss://a", "oss://b")}, "two storages would show at /; give each its path: oss://a=/a oss://b=/b"),
        ({"ufs": ("local:///d=/../x",)}, "is no path"),
        ({"per_mount": {"z": {"fs.oss.x": "1"}}}, "-o /z:...: nothing is mounted at that path"),
    ],
)
def test_contradictions_are_told_in_one_line(change: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        _settle(**change)  # type: ignore[arg-type]
    assert told in error.value.message
    assert "\n" not in error.value.message


def test_allow_other_for_users_where_the_machine_allows_it() -> None:
    assert _settle(replace(USER, user_allow_other=True), allow_other=True)[0].allow_other
    assert not _settle(allow_other=False)[0].allow_other


def test_memory_budget_has_a_floor_and_a_ceiling() -> None:
    assert memory_budget(Settings(), replace(ROOT, memory_bytes=128 << 20)) == 64 << 20
    assert memory_budget(Settings(), replace(ROOT, memory_bytes=64 * G)) == G
    assert memory_budget(Settings(memory=2 * G), ROOT) == 2 * G
