"""The table of settings: what text it takes, and that names never clash."""

import pytest

from jindopy.base.errors import ConfigError
from jindopy.config.params import PARAMS, Kind, Settings, by_name, find
from jindopy.fuse.transport import TRANSPORTS


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("quota", "20G", 20 << 30),
        ("quota", 1048576, 1 << 20),
        ("fs.oss.download.thread.concurrency", "32", 32),
        ("ttl", "5m", 300.0),
        ("ttl", "ONCE", float("inf")),
        ("high", "95%", 0.95),
        ("low", 0.5, 0.5),
        ("umask", "027", 0o27),
        ("umask", "0o002", 0o2),
        ("umask", "0", 0),
        ("allow_other", True, True),
        ("allow-other", "no", False),
        ("allow_other", "", True),
        ("log_format", "json", "json"),
        ("tier", ["SSD:/a:1G", "HDD:/b"], ("SSD:/a:1G", "HDD:/b")),
        ("tier", "SSD:/a HDD:/b", ("SSD:/a", "HDD:/b")),
    ],
)
def test_values_are_read(name: str, text: object, value: object) -> None:
    assert find(name, "here").parse(text, "here") == value


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("quota", "20 apples", "here: not a size: '20 apples'"),
        ("ttl", "soon", "here: not a duration: 'soon'"),
        ("high", "1.5", "here: a ratio from 0 to 1 is due, not '1.5'"),
        ("high", "nan", "here: a ratio"),
        ("fetch_threads", "many", "here: a number is due, not 'many'"),
        ("umask", "9", "here: an octal number is due"),
        ("allow_other", "perhaps", "here: true or false is due, not 'perhaps'"),
        ("log_format", "xml", "here: one of text, json is due, not 'xml'"),
        ("cache_dir", "cache", "here: 'cache' is relative; give the path from the root"),
        ("quota", ["1G"], "here: a size is due, not a list"),
    ],
)
def test_nonsense_is_refused_naming_its_origin(name: str, text: object, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        find(name, "here").parse(text, "here")
    assert error.value.message.startswith(told)


def test_unknown_names_suggest_what_was_meant() -> None:
    with pytest.raises(ConfigError, match="did you mean 'quota'"):
        find("qouta", "-o qouta")
    with pytest.raises(ConfigError, match=r"docs/CONFIGURATION\.md"):
        find("xyzzy", "-o xyzzy")


def test_transports_that_can_be_named_are_those_there_are() -> None:
    assert find("transport", "").choices == ("auto", *TRANSPORTS)


def test_names_are_unique_and_complete() -> None:
    names = [name for param in PARAMS for name in (param.name, *param.jindo)]
    assert len(names) == len(set(names)) == len(by_name())
    for param in PARAMS:
        assert param.help.endswith(".")
        assert bool(param.choices) == (param.kind is Kind.CHOICE)
        assert param.derived or param.default is not None, f"{param.name}: say what it is derived from"


def test_defaults_are_what_their_text_would_give() -> None:
    defaults = Settings()
    assert (defaults.high, defaults.low, defaults.ttl, defaults.umask) == (0.95, 0.8, 60.0, 0o022)
    for param in PARAMS:
        assert getattr(defaults, param.name) == param.default
