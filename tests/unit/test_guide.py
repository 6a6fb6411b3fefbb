"""The published quick start (tests/data/fluid/guide.toml): what it mounts and measures, ours takes and repeats."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from bench import demo
from jindopy.base.units import format_fluid_size, parse_rate
from jindopy.config.params import Loaded, Settings
from jindopy.config.rationalize import DiskFacts, Facts, directories, mount_settings, tier_paths
from jindopy.ufs import uri
from jindopy.ufs.credentials import from_secret_dir
from jindopy.ufs.oss_options import parse_options

ROOT = Path(__file__).parents[2]
GIB = 1 << 30


@pytest.fixture(scope="module")
def guide() -> dict[str, Any]:
    return tomllib.loads((ROOT / "tests/data/fluid/guide.toml").read_text())


def test_the_demo_copies_its_file_over_its_link(guide: dict[str, Any]) -> None:
    file = guide["file"]
    assert (file["name"], file["size_bytes"]) == (demo.NAME, demo.SIZE_BYTES)
    assert format_fluid_size(demo.SIZE_BYTES) == "210.00MiB"
    assert parse_rate(demo.BANDWIDTH) == pytest.approx(file["size_bytes"] / file["cold_seconds"], rel=0.01)


def test_the_readme_quotes_its_figures(guide: dict[str, Any]) -> None:
    readme = (ROOT / "README.md").read_text()
    for figure in (guide["file"]["cold_seconds"], guide["file"]["warm_seconds"]):
        assert f"{figure} s" in readme
    assert f"{100 - guide['training']['time_saved_percent']} %" in readme


def test_its_options_and_secret_are_taken(guide: dict[str, Any], tmp_path: Path) -> None:
    dataset = guide["dataset"]
    place = uri.parse(dataset["mount_point"].replace("_", "-"))  # a placeholder: no bucket's name has underscores
    options = parse_options(place, dict.fromkeys(dataset["options"], "oss-cn-shanghai.aliyuncs.com"), {})
    assert (options.region, options.request_host) == ("cn-shanghai", "oss-bucket.oss-cn-shanghai.aliyuncs.com")
    for name in dataset["encrypt_options"]:
        (tmp_path / name).write_text(name.rpartition(".")[2])
    keys = from_secret_dir(tmp_path).current()
    assert (keys.access_key_id, keys.access_key_secret) == ("accessKeyId", "accessKeySecret")


def test_its_storage_level_is_a_tier(guide: dict[str, Any]) -> None:
    (level,) = guide["runtime"]["levels"]
    settings = Settings(tier=(":".join(level[name] for name in ("mediumtype", "path", "quota", "high", "low")),))
    facts = Facts(0, 0, "/root", "", "", "", memory_bytes=4 * GIB, user_allow_other=False)
    paths = tier_paths(settings, directories(settings, facts))
    disks = dict.fromkeys(paths, DiskFacts(total_bytes=200 * GIB, free_bytes=150 * GIB, own_bytes=0))
    settled, _ = mount_settings(
        Loaded(settings, {}, {}, {}),
        Facts(**{**vars(facts), "disks": disks}),
        mount_point="/mnt/d",
        ufs=("local:///d",),
        foreground=False,
    )
    (tier,) = settled.tiers
    assert (tier.name, tier.path, tier.quota_bytes, tier.high, tier.low) == ("HDD", "/mnt/disk1", 100 * GIB, 0.99, 0.8)
