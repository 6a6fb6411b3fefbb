"""The chain of credentials: order, formats, permissions, rotation, and that nothing of a secret is ever shown."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from jindopy.base.clock import SimulatedClock
from jindopy.base.errors import ConfigError
from jindopy.ufs.credentials import ANONYMOUS, Chain, Credentials, Static, default_chain, from_file, from_secret_dir

SECRET = "hush-hush-secret"
TOKEN = "hush-hush-token"


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def chain(tmp_path: Path, options: dict[str, str] | None = None, **more: object) -> Chain:
    given: dict[str, object] = {"environ": {}, "home": tmp_path / "home", "clock": SimulatedClock()} | more
    return default_chain(options or {}, **given)  # type: ignore[arg-type]


def test_nothing_found_is_anonymous(tmp_path: Path) -> None:
    assert chain(tmp_path).current() is ANONYMOUS
    assert chain(tmp_path).refresh().anonymous


def test_order(tmp_path: Path) -> None:
    file = private(tmp_path / "keys", f"fs.oss.accessKeyId = file\nfs.oss.accessKeySecret = {SECRET}\n")
    (tmp_path / "home").mkdir()
    private(tmp_path / "home" / ".ossutilconfig", f"[Credentials]\naccessKeyID=home\naccessKeySecret={SECRET}\n")
    options = {"fs.oss.accessKeyId": "option", "fs.oss.accessKeySecret": SECRET}
    environ = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "env", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET}
    kubelet_writes(tmp_path / "secret", 1, {"AccessKeyId": "dir", "AccessKeySecret": SECRET})
    named = {"credentials_file": file, "secret_dir": tmp_path / "secret"}
    assert chain(tmp_path, options, environ=environ, **named).current().access_key_id == "option"
    assert chain(tmp_path, environ=environ, **named).current().access_key_id == "file"
    assert chain(tmp_path, environ=environ, secret_dir=tmp_path / "secret").current().access_key_id == "dir"
    by_name = {"credentials.file": str(file)}
    assert chain(tmp_path, by_name, environ=environ).current().access_key_id == "file"
    assert chain(tmp_path, environ=environ).current().access_key_id == "env"
    assert chain(tmp_path).current().access_key_id == "home"


def test_files_are_named_by_options_or_environment_too(tmp_path: Path) -> None:
    file = private(tmp_path / "keys", f"fs.oss.accessKeyId = file\nfs.oss.accessKeySecret = {SECRET}\n")
    kubelet_writes(tmp_path / "secret", 1, {"AccessKeyId": "dir", "AccessKeySecret": SECRET})
    for options, environ, found in (
        ({"credentials.file": str(file)}, {}, "file"),
        ({"credentials.dir": str(tmp_path / "secret")}, {}, "dir"),
        ({}, {"JINDOPY_CREDENTIALS_FILE": str(file)}, "file"),
        ({}, {"JINDOPY_CREDENTIALS_DIR": str(tmp_path / "secret")}, "dir"),
    ):
        assert chain(tmp_path, options, environ=environ).current().access_key_id == found


@pytest.mark.parametrize(
    ("prefix", "token"),
    [("ALIBABA_CLOUD_", "SECURITY_TOKEN"), ("OSS_", "SESSION_TOKEN"), ("OSS_", "SECURITY_TOKEN"), ("ALIYUN_", "")],
)
def test_environment(tmp_path: Path, prefix: str, token: str) -> None:
    environ = {
        f"{prefix}ACCESS_KEY_ID": "id",
        f"{prefix}ACCESS_KEY_SECRET": SECRET,
        "ACCESS_KEY_ID": "of another cloud",
    }
    if token:
        environ[prefix + token] = TOKEN
    found = chain(tmp_path, environ=environ).current()
    assert (found.access_key_id, found.access_key_secret) == ("id", SECRET)
    assert found.security_token == (TOKEN if token else "")


def test_a_pair_is_never_put_together_from_two_families(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="environment: the access key secret is missing"):
        chain(tmp_path, environ={"OSS_ACCESS_KEY_ID": "id", "ALIYUN_ACCESS_KEY_SECRET": SECRET})


def test_options_for_one_bucket(tmp_path: Path) -> None:
    options = {
        "fs.oss.accessKeyId": "all",
        "fs.oss.accessKeySecret": SECRET,
        "fs.oss.bucket.mine.accessKeyId": "mine",
        "fs.oss.bucket.mine.accessKeySecret": SECRET,
    }
    assert chain(tmp_path, options, bucket="mine").current().access_key_id == "mine"
    assert chain(tmp_path, options, bucket="other").current().access_key_id == "all"


@pytest.mark.parametrize(
    "text",
    [
        f"fs.oss.accessKeyId = id\nfs.oss.accessKeySecret = {SECRET}\nfs.oss.securityToken = {TOKEN}\n",
        f'# keys\n"fs.oss.accessKeyId" = "id"\naccess_key_secret = "{SECRET}"\nsecurity_token = "{TOKEN}"\n',
        f"[Credentials]\nlanguage=EN\naccessKeyID=id\naccessKeySecret={SECRET}\nstsToken={TOKEN}\n",
        json.dumps({"AccessKeyId": "id", "AccessKeySecret": SECRET, "SecurityToken": TOKEN, "Code": "Success"}),
    ],
)
def test_formats_of_files(tmp_path: Path, text: str) -> None:
    found = from_file(private(tmp_path / "keys", text)).current()
    assert (found.access_key_id, found.access_key_secret, found.security_token) == ("id", SECRET, TOKEN)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "holds no key pair"),
        (f"fs.oss.accessKeySecret = {SECRET}", "access key id is missing"),
        (f"{SECRET} without an equals sign", "every line must be name = value"),
        ('{"AccessKeyId": "' + SECRET, "no valid JSON"),
        (f"accessKeyId=a\naccessKeySecret={SECRET}\nexpiration=tomorrow", "the expiration must look like"),
        ("x" * 100_000, "larger than any credentials"),
    ],
)
def test_bad_files_are_named_without_what_they_hold(tmp_path: Path, text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint) as caught:
        from_file(private(tmp_path / "keys", text))
    assert SECRET not in str(caught.value)
    assert str(tmp_path / "keys") in str(caught.value)


def test_a_file_that_others_can_read_is_refused_with_the_chmod_to_run(tmp_path: Path) -> None:
    path = private(tmp_path / "keys", f"accessKeyId=a\naccessKeySecret={SECRET}")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match=f"chmod 600 {path}"):
        from_file(path)
    with pytest.raises(ConfigError, match="No such file"):
        from_file(tmp_path / "none")
    with pytest.raises(ConfigError, match="not a file"):
        from_file(tmp_path)


def test_nothing_shows_a_secret() -> None:
    made = Credentials("the-id", SECRET, TOKEN, None, "options")
    for text in (repr(made), str(made), f"{made}", repr(Static(made)), repr(Chain([Static(made)])), repr([made])):
        assert SECRET not in text
        assert TOKEN not in text
        assert "the-id" not in text
    assert repr(made) == "<Credentials STS from options>"


# --- rotation ---------------------------------------------------------------------------------------------------------


def kubelet_writes(directory: Path, generation: int, values: dict[str, str]) -> None:
    """As the kubelet does it: a new directory, then the ``..data`` link swapped in one step."""
    data = directory / f"..{generation}"
    data.mkdir(parents=True)
    for name, value in values.items():
        (data / name).write_text(value)
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(Path("..data") / name)
    (directory / "..data_tmp").symlink_to(data.name)
    os.rename(directory / "..data_tmp", directory / "..data")


FLUID_NAMES = ("fs.oss.accessKeyId", "fs.oss.accessKeySecret", "fs.oss.securityToken")
JINDO_NAMES = ("AccessKeyId", "AccessKeySecret", "SecurityToken")


@pytest.mark.parametrize("names", [FLUID_NAMES, JINDO_NAMES])
def test_secret_directory_is_read_again_when_it_is_swapped(tmp_path: Path, names: tuple[str, str, str]) -> None:
    kubelet_writes(tmp_path, 1, dict(zip(names, ("id-1", "secret-1\n", "token-1"), strict=True)))
    clock = SimulatedClock()
    source = from_secret_dir(tmp_path, clock)
    first = source.current()
    assert (first.access_key_id, first.access_key_secret, first.security_token) == ("id-1", "secret-1", "token-1")
    kubelet_writes(tmp_path, 2, dict(zip(names, ("id-2", "secret-2", "token-2"), strict=True)))
    assert source.current() is first, "not looked at again within a second"
    clock.advance(1.1)
    second = source.current()
    assert (second.access_key_id, second.access_key_secret) == ("id-2", "secret-2")
    assert source.current() is second
    kubelet_writes(tmp_path, 3, dict(zip(names, ("id-3", "secret-3", "token-3"), strict=True)))
    assert source.refresh().access_key_id == "id-3", "at once after a refusal"


def test_jindos_secrets_url_names_the_directory(tmp_path: Path) -> None:
    kubelet_writes(tmp_path, 1, {"AccessKeyId": "id", "AccessKeySecret": SECRET})
    found = chain(tmp_path, {"fs.oss.provider.endpoint": f"secrets://{tmp_path}/"}).current()
    assert found.access_key_id == "id"
    with pytest.raises(ConfigError, match="Secret directory"):
        chain(tmp_path, secret_dir=tmp_path / "none")


@pytest.mark.expect_log("keeping the last credentials")
def test_a_half_written_file_does_not_take_the_keys_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = private(tmp_path / "keys", f"accessKeyId=one\naccessKeySecret={SECRET}\n")
    clock = SimulatedClock()
    source = from_file(path, clock)
    path.write_text(f"accessKeySecret={SECRET}")
    for _ in range(3):
        clock.advance(2)
        assert source.current().access_key_id == "one"
    assert source.refresh().access_key_id == "one"
    assert len(caplog.records) == 1
    assert SECRET not in caplog.text
    path.write_text(f"accessKeyId=two\naccessKeySecret={SECRET}\n")
    clock.advance(2)
    assert source.current().access_key_id == "two"


def test_expired_token_is_looked_for_again_at_once(tmp_path: Path) -> None:
    clock = SimulatedClock(wall_ns=1_800_000_000 * 10**9)
    path = tmp_path / "keys"
    text = '{"AccessKeyId": "%s", "AccessKeySecret": "s", "SecurityToken": "t", "Expiration": "%s"}'
    private(path, text % ("one", "2027-01-15T08:00:10Z"))  # ten seconds from now
    source = from_file(path, clock)
    assert source.current().access_key_id == "one"
    stamp = path.stat()
    path.write_text(text % ("two", "2027-01-15T09:00:00Z"))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    clock.advance(0.1)
    assert source.current().access_key_id == "one"
    clock.advance(10)
    assert source.current().access_key_id == "two"
