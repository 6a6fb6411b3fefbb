"""URIs and the table of drivers."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

from jindopy.base.errors import BucketNotFound, ConfigError
from jindopy.ufs import credentials, layers, oss_options, registry
from jindopy.ufs.memory import MemoryDriver
from jindopy.ufs.uri import UfsUri, parse


@pytest.mark.parametrize(
    ("text", "parts", "prefix"),
    [
        ("oss://bucket", ("oss", "bucket", ""), b""),
        ("oss://bucket/", ("oss", "bucket", ""), b""),
        ("OSS://bucket/a/b", ("oss", "bucket", "a/b"), b"a/b/"),
        ("oss://bucket/a b%20/é/", ("oss", "bucket", "a b%20/é/"), "a b%20/é/".encode()),
        ("oss://bucket.oss-cn-x.aliyuncs.com/a", ("oss", "bucket.oss-cn-x.aliyuncs.com", "a"), b"a/"),
        ("local:///data//x/", ("local", "", "/data/x"), b""),
        ("file:///data", ("local", "", "/data"), b""),
        ("/data", ("local", "", "/data"), b""),
        ("memory://name/p", ("memory", "name", "p"), b"p/"),
    ],
)
def test_uris(text: str, parts: tuple[str, str, str], prefix: bytes) -> None:
    assert parse(text) == UfsUri(*parts)
    assert parse(text).prefix == prefix


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("bucket/prefix", "write oss://bucket/prefix"),
        ("", "write oss://bucket/prefix"),
        ("oss:bucket", "write oss://bucket/prefix"),
        ("oss:///prefix", "names no bucket"),
        ("local://relative", "three slashes"),
        ("oss://id:secret@bucket/x", "keys do not belong in a URI"),
        ("oss://bucket?x=y", "options do not belong in a URI"),
        ("oss://bucket/\x00", "control character"),
        ("nfs://host/x", "no driver for nfs://; known are local, memory, oss"),
    ],
)
def test_bad_uris_get_one_clear_line(text: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.open_driver(text)
    assert hint in caught.value.message
    assert "\n" not in caught.value.message
    assert "secret" not in caught.value.message


def test_opens_by_scheme(tmp_path: Path) -> None:
    driver, prefix = registry.open_driver(str(tmp_path))
    assert (driver.scheme, prefix) == ("local", b"")
    assert str(driver.ufs_id).endswith(str(tmp_path))
    driver.close()
    driver, prefix = registry.open_driver("memory://x/y")
    assert isinstance(driver, MemoryDriver)
    assert prefix == b"y/"
    with pytest.raises(BucketNotFound):
        registry.open_driver(str(tmp_path / "none"))


def test_options_that_nobody_reads_are_known() -> None:
    read = {"fs.oss.endpoint", "fs.oss.retry.count", "fs.oss.bucket.b.region", "credentials.file"}
    unread = {"fs.oss.endpiont", "fs.oss.bucket.other.region", "fs.s3.region"}
    assert registry.without_effect("oss://b.oss-cn-hangzhou.aliyuncs.com/x", read | unread) == unread
    assert registry.without_effect("/data", {"fs.oss.retry.count", "fs.oss.region"}) == {"fs.oss.region"}
    assert registry.without_effect("strange://x", {"fs.strange.y"}) == set(), "a stranger's driver reads what it likes"


@pytest.mark.parametrize("module", [oss_options, layers, credentials])
def test_every_option_that_is_read_is_known(module: ModuleType) -> None:
    """Names stand in the sources as text."""
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    read = set(re.findall(r'(?:get|_flag|_number|_whole)\((?:options|given), "(?:fs\.oss\.)?([a-z.]+)"', source))
    read |= set(re.findall(r'(?:options|given)\.get\("([a-z.]+)"', source))
    assert read, "the pattern fits no longer"
    assert read - {"credentials.file", "credentials.dir"} <= oss_options.NAMES | layers.NAMES


def test_failed_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "jindopy.ufs.oss", raising=False)
    monkeypatch.setitem(sys.modules, "jindopy.ufs.oss_http", None)
    with pytest.raises(ConfigError, match="pip install 'oss2"):
        registry.open_driver("oss://bucket")


def test_other_packages_join_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    points = metadata.EntryPoints(
        [
            metadata.EntryPoint("strange", "jindopy.ufs.memory:open_uri", registry.ENTRY_POINT_GROUP),
            metadata.EntryPoint("local", "os:getcwd", registry.ENTRY_POINT_GROUP),
            metadata.EntryPoint("broken", "no.such.module:open", registry.ENTRY_POINT_GROUP),
        ]
    )
    monkeypatch.setattr(metadata, "entry_points", points.select)
    driver, _ = registry.open_driver("strange://x")
    assert isinstance(driver, MemoryDriver)
    assert registry.schemes() == ["broken", "local", "memory", "oss", "strange"]
    with pytest.raises(ConfigError, match=r"no\.such\.module"):
        registry.open_driver("broken://x")
    driver, _ = registry.open_driver("/")
    assert driver.scheme == "local", "no package takes over a scheme of ours"
    driver.close()


def test_oss2_is_loaded_only_for_oss(tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys\n"
        "from jindopy.ufs.registry import open_driver\n"
        "from jindopy.ufs import layers, credentials\n"
        f"open_driver({str(tmp_path)!r})\n"
        "assert 'oss2' not in sys.modules and 'urllib3' not in sys.modules\n"
        "assert 'requests' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
