"""One precedence over files, environment, flags and options; every error names its source; secrets are refused."""

from pathlib import Path

import pytest

from jindopy.base.errors import ConfigError
from jindopy.config.load import load
from jindopy.config.params import Loaded


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".config/jindopy").mkdir(parents=True)
    return tmp_path


def _load(home: Path, **kwargs: object) -> Loaded:
    environ = {"HOME": str(home)} | kwargs.pop("environ", {})  # type: ignore[arg-type, operator]
    return load(environ=environ, system_file=home / "system.toml", **kwargs)  # type: ignore[arg-type]


def test_each_source_beats_the_one_before(home: Path) -> None:
    assert _load(home).settings.ttl == 60
    (home / "system.toml").write_text("ttl = 1\nquota = '1G'\nlist_threads = 9")
    (home / ".config/jindopy/config.toml").write_text("ttl = '2s'")
    (home / "own.toml").write_text("ttl = 3.0")
    assert _load(home).settings.ttl == 2
    own = {"config_file": str(home / "own.toml")}
    assert _load(home, **own).settings.ttl == 3
    environ = {"JINDOPY_TTL": "4", "JINDOPY_CONFIG": str(home / "own.toml")}
    assert _load(home, environ=environ).settings.ttl == 4
    assert _load(home, environ=environ, flags={"ttl": "5"}).settings.ttl == 5
    last = _load(home, environ=environ, flags={"ttl": "5", "quota": None, "tier": ()}, options=["ro,attr_timeout=6"])
    assert last.settings.ttl == 6
    assert last.settings.quota == 1 << 30
    assert last.settings.list_threads == 9
    assert last.settings.tier == ()
    assert last.origins["ttl"] == "-o attr_timeout"
    assert last.origins["quota"] == f"{home}/system.toml: quota"


def test_jindo_names_and_driver_options(home: Path) -> None:
    (home / "system.toml").write_text('fs.oss.endpoint = "a"\n[options]\n"fs.s3.endpoint" = "b"\nfs.oss.x = 7')
    loaded = _load(home, options=["fs.oss.y=1,/data:fs.oss.endpoint=c"])
    assert loaded.settings.endpoint == "a"
    assert loaded.driver == {"fs.s3.endpoint": "b", "fs.oss.x": "7", "fs.oss.y": "1"}
    assert loaded.per_mount == {"data": {"fs.oss.endpoint": "c"}}


def test_usual_variables_of_the_store_are_read(home: Path) -> None:
    assert _load(home, environ={"OSS_ENDPOINT": "e"}).settings.endpoint == "e"
    assert _load(home, environ={"OSS_ENDPOINT": "e", "JINDOPY_ENDPOINT": "f"}).settings.endpoint == "f"
    assert _load(home, environ={"JINDOPY_ENDPOINT": ""}).settings.endpoint is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ttl = ", "not valid TOML"),
        ("tll = 1", "system.toml: tll: there is no setting 'tll' (did you mean 'ttl'?)"),
        ("quota = 'x'", "system.toml: quota: not a size"),
        ("options = 1", "options must be a table"),
        ("fs.oss.accessKeySecret = 'hush'", "secrets may not stand in"),
        ("quota = [1]", "size is due, not a list"),
    ],
)
def test_bad_files_are_refused_in_one_line(home: Path, text: str, told: str) -> None:
    (home / "system.toml").write_text(text)
    with pytest.raises(ConfigError) as error:
        _load(home)
    assert told in error.value.message
    assert "\n" not in error.value.message
    assert "hush" not in error.value.message


def test_files_that_cannot_be_read(home: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        _load(home, config_file=str(home / "none.toml"))
    with pytest.raises(ConfigError, match="Is a directory"):
        _load(home, config_file=str(home))
    (home / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(ConfigError, match="not valid TOML"):
        _load(home, config_file=str(home / "latin.toml"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["fs.oss.accessKeySecret=hush"], "secrets may not stand in -o fs.oss.accessKeySecret; keys are read from"),
        (["fs.oss.securityToken=hush"], "secrets may not stand in"),
        (["/d:fs.oss.accessKeyId=hush"], "only driver options"),
        (["/d:ttl=1"], "only driver options"),
        (["kernel_cash"], "there is no setting"),
        (["quota=lots"], "-o quota: not a size"),
    ],
)
def test_bad_options_are_refused(home: Path, options: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        _load(home, options=options)
    assert told in error.value.message
    assert "hush" not in error.value.message


def test_a_slip_in_a_variable_is_told_and_strangers_are_left_alone(home: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean JINDOPY_QUOTA"):
        _load(home, environ={"JINDOPY_QOUTA": "1G"})
    _load(home, environ={"JINDOPY_CRC64": "scalar", "JINDOPY_NO_SKIP": "1"})


def test_what_fstab_brings_along_means_nothing(home: Path) -> None:
    assert _load(home, options=["rw,_netdev,noauto,x-systemd.automount,kernel_cache"]) == _load(home)
