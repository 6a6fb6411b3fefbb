"""The settings a daemon is started with survive JSON, and nothing else does."""

import json
from dataclasses import replace

import pytest

from jindopy.base.errors import ConfigError
from jindopy.config.settings import CacheTier, MountSettings, Readiness, UfsMount

SETTINGS = MountSettings(
    mount_id="0123456789ab",
    mount_point="/mnt/data",
    mounts=(UfsMount("oss://b/p", "", {"fs.oss.endpoint": "http://127.0.0.1:1"}), UfsMount("local:///d", "d")),
    tiers=(CacheTier("SSD", "/var/cache/jindopy", 20 << 30, 0.95, 0.8, 1 << 30),),
    state_dir="/var/lib/jindopy/0123456789ab",
    run_dir="/run/jindopy",
    log_file="",
    log_format="text",
    log_level="info",
    ttl_seconds=60.0,
    uid=0,
    gid=0,
    umask=0o022,
    allow_other=True,
    transport="auto",
    passthrough=True,
    read_ahead_bytes_max=64 << 20,
    prefetch_bytes_max=512 << 20,
    kernel_read_ahead_bytes=4 << 20,
    memory_bytes=512 << 20,
    fetch_threads=16,
    list_threads=16,
    request_timeout_seconds=60.0,
    drain_seconds=10.0,
    foreground=False,
)


def test_settings_survive_json() -> None:
    assert MountSettings.from_json(SETTINGS.to_json()) == SETTINGS
    forever = replace(SETTINGS, ttl_seconds=float("inf"))
    assert MountSettings.from_json(forever.to_json()).ttl_seconds == float("inf")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"uid": "root"}, "settings.uid: an integer is due, not 'root'"),
        ({"uid": True}, "settings.uid: an integer is due, not True"),
        ({"quota": 1}, "settings: unknown: quota"),
        ({"tiers": [{"name": "SSD"}]}, "settings.tiers[0]: missing: path, quota_bytes"),
        ({"tiers": {}}, "settings.tiers: a list is due"),
    ],
)
def test_other_settings_are_refused(change: dict[str, object], told: str) -> None:
    document = json.loads(SETTINGS.to_json()) | change
    with pytest.raises(ConfigError) as error:
        MountSettings.from_json(json.dumps(document))
    assert told in error.value.message


def test_no_json_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="bad settings"):
        MountSettings.from_json("{")


def test_readiness_is_one_line() -> None:
    ready = Readiness(ready=False, error="no such bucket\nat all", exit_code=3)
    assert ready.to_line().count("\n") == 1
    assert Readiness.from_line(ready.to_line()) == ready
    with pytest.raises(ConfigError, match="makes no sense"):
        Readiness.from_line("Traceback")


def test_mounted_line() -> None:
    assert SETTINGS.mounted_line(7) == (
        "mounted oss://b/p local:///d=/d at /mnt/data (pid 7, cache 20.0 GiB at /var/cache/jindopy)"
    )
    assert SETTINGS.control_socket == "/run/jindopy/0123456789ab.sock"
