"""The OSS driver against the emulator: what users get wrong, what servers do wrong, and that no secret leaks of it."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contracts.ufs import pages, read_all, soon
from emulator_fixture import Emulator, certificate, running_emulator

from jindopy.base import errors
from jindopy.base.clock import Deadline
from jindopy.base.ident import Kind
from jindopy.base.retry import RetryPolicy
from jindopy.ufs.base import Driver
from jindopy.ufs.credentials import Credentials, CredentialSource, Static, from_file, from_secret_dir
from jindopy.ufs.layers import LayerConfig, wrap
from jindopy.ufs.registry import open_driver

QUICK = LayerConfig(retry=RetryPolicy(attempts=6, base_seconds=0.01, cap_seconds=0.05))


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    root = tmp_path_factory.mktemp("oss")
    with running_emulator(
        root, buckets=["bucket"], region="cn-hangzhou", cnames=["data.example.com=bucket"]
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def _calm(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("no_proxy", "*")  # whatever this machine's programs use
    yield
    emulator.set_conditions(faults=[], clock_offset_seconds=0.0, latency_seconds=0.0)


def opened(
    emulator: Emulator,
    *,
    bucket: str = "bucket",
    credentials: CredentialSource | None = None,
    layers: LayerConfig | None = None,
    **options: str,
) -> Driver:
    given = {"fs.oss.endpoint": emulator.endpoint, "fs.oss.region": "cn-hangzhou"}
    given |= {f"fs.oss.{name.replace('_', '.')}": value for name, value in options.items()}
    driver, _ = open_driver(f"oss://{bucket}", given, credentials or Static(Credentials(*emulator.keys)))
    return driver if layers is None else wrap(driver, layers)


# --- what users get wrong ---------------------------------------------------------------------------------------------


def failing(driver: Driver) -> list[errors.JindoError]:
    """What stat, list, get and check raise."""
    found = []
    for call in (
        lambda: driver.stat(b"some/key", deadline=soon()),
        lambda: driver.list_page(b"", delimiter=True, deadline=soon()),
        lambda: driver.get(b"some/key", 0, 1, token=None, deadline=soon()),
        lambda: driver.check(deadline=soon()),
    ):
        with pytest.raises(errors.JindoError) as caught:
            call()
        found.append(caught.value)
    driver.close()
    return found


@pytest.mark.parametrize("signer", ["4", "1"])
def test_wrong_secret(emulator: Emulator, signer: str) -> None:
    wrong = Static(Credentials(emulator.access_key_id, "wrong"))
    for error in failing(opened(emulator, credentials=wrong, signer_version=signer)):
        assert type(error) is errors.BadCredentials
        assert "check the access key secret" in error.message
        assert emulator.endpoint in error.message


def test_unknown_key_id(emulator: Emulator) -> None:
    for error in failing(opened(emulator, credentials=Static(Credentials("nobody", "wrong")))):
        assert type(error) is errors.BadCredentials
        assert "key id is unknown" in error.message
        assert isinstance(error, errors.UfsError)
        assert error.request_id


def test_anonymous(emulator: Emulator) -> None:
    for error in failing(opened(emulator, credentials=Static(Credentials("", "")))):
        assert type(error) is errors.AccessDenied


def test_missing_bucket(emulator: Emulator) -> None:
    found = failing(opened(emulator, bucket="no-such-bucket"))
    assert [type(error) for error in found[1:]] == [errors.BucketNotFound] * 3
    assert isinstance(found[0], errors.BucketNotFound | errors.ObjectNotFound)  # a HEAD's 404 has no body
    assert "check its spelling" in found[3].message


def test_wrong_region(emulator: Emulator) -> None:
    for error in failing(opened(emulator, region="cn-beijing")):
        assert type(error) is errors.AccessDenied
        assert "set fs.oss.region" in error.message


@pytest.mark.parametrize("signer", ["4", "1"])
def test_clock_skew_is_measured(emulator: Emulator, signer: str) -> None:
    emulator.set_conditions(clock_offset_seconds=7230.0)
    for error in failing(opened(emulator, signer_version=signer)):
        assert type(error) is errors.ClockSkewed
        assert "2 h 0 min behind; set it (NTP)" in error.message


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        options = {"fs.oss.endpoint": f"http://127.0.0.1:{port}", "fs.oss.region": "cn-x"}
        driver, _ = open_driver("oss://bucket", options, Static(Credentials("a", "b")))
        started = time.monotonic()
        for error in failing(wrap(driver, QUICK)):
            assert type(error) is errors.Unavailable
            assert "Connection refused" in error.message
            assert "fs.oss.endpoint" in error.message
        assert time.monotonic() - started < 5


def test_unknown_host() -> None:
    options = {"fs.oss.endpoint": "http://no-such-host.invalid", "fs.oss.region": "cn-x"}
    driver, _ = open_driver("oss://bucket", options, Static(Credentials("a", "b")))
    for error in failing(driver):
        assert "bucket.no-such-host.invalid cannot be resolved" in error.message


def test_a_server_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = {
            "fs.oss.endpoint": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "fs.oss.region": "cn-x",
            "fs.oss.timeout.millisecond": "200",
        }
        driver, _ = open_driver("oss://bucket", options, Static(Credentials("a", "b")))
        started = time.monotonic()
        with pytest.raises(errors.Unavailable, match=r"no answer within 0\.2 s"):
            driver.check(deadline=soon())
        with pytest.raises(errors.DeadlineExceeded):
            driver.check(deadline=Deadline.after(0.1))
        assert time.monotonic() - started < 2
        driver.close()


# --- credentials that change ------------------------------------------------------------------------------------------


def test_refused_key_is_read_again_once(emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "AccessKeyId").write_text(emulator.access_key_id)
    (tmp_path / "AccessKeySecret").write_text("the old one")
    driver = opened(emulator, credentials=from_secret_dir(tmp_path), layers=QUICK)
    emulator.reset_stats()
    with pytest.raises(errors.BadCredentials):
        driver.check(deadline=soon())
    assert sum(emulator.stats().get(name, 0) for name in ("ListObjects", "ListObjectsV2")) == 2
    (tmp_path / "AccessKeySecret").write_text(emulator.access_key_secret)
    driver.check(deadline=soon())
    driver.close()


def test_sts_token_expires_and_is_replaced(tmp_path: Path) -> None:
    def write(path: Path, value: Any) -> None:
        path.write_text(json.dumps(value))
        path.chmod(0o600)

    def key(number: int, seconds: float) -> dict[str, Any]:
        pair = {"access_key_id": f"STS.{number}", "access_key_secret": f"secret{number}"}
        return pair | {"security_token": f"token{number}", "expires": time.time() + seconds}

    server_keys, ours = tmp_path / "server.json", tmp_path / "ours.json"
    write(server_keys, [key(1, 1.0), key(2, 1000)])
    write(ours, {"AccessKeyId": "STS.1", "AccessKeySecret": "secret1", "SecurityToken": "token1"})
    with running_emulator(tmp_path / "root", buckets=["bucket"], credentials_file=server_keys) as emulator:
        driver = opened(emulator, credentials=from_file(ours), layers=QUICK)
        driver.check(deadline=soon())
        time.sleep(1.1)
        with pytest.raises(errors.BadCredentials, match="expired"):
            driver.check(deadline=soon())
        write(ours, {"AccessKeyId": "STS.2", "AccessKeySecret": "secret2", "SecurityToken": "token2"})
        driver.check(deadline=soon())
        driver.close()


def test_no_secret_in_any_log_or_error(
    emulator: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    secret, token, key_id = "s3cr3t-of-nobody", "t0ken-of-nobody", "STS.id-of-nobody"
    shown = []
    for credentials in (Credentials(key_id, secret, token), Credentials(key_id, secret)):
        for signer in ("4", "1"):
            driver = opened(emulator, credentials=Static(credentials), layers=QUICK, signer_version=signer)
            for error in failing(driver):
                shown += [str(error), repr(error), repr(error.__dict__), repr(error.__cause__)]
            shown.append(repr(driver))
    shown += [caplog.text, *capfd.readouterr()]
    assert "again in" in caplog.text
    for text in shown:
        for word in (secret, token, key_id, "Signature=", "Credential="):
            assert word not in text


# --- what servers do wrong --------------------------------------------------------------------------------------------


def test_broken_bodies_are_resumed(emulator: Emulator) -> None:
    data = os.urandom(6 << 20)
    driver = opened(emulator, layers=QUICK)
    made = driver.put(b"resumed", data, deadline=soon())
    for kind in ("truncate", "reset"):
        emulator.set_faults({"kind": kind, "operations": ["GetObject"], "after_bytes": 2_500_000, "limit": 2})
        emulator.reset_stats()
        assert read_all(driver, b"resumed", len(data), token=made.token) == data
        assert emulator.stats()["GetObject"] == 3
        # A reset throws away what the client has not read yet, so only an orderly end tells where it broke.
        if kind == "truncate":
            assert emulator.stats()["bytes_sent"] < len(data) + (3 << 20), "goes on near where it broke"
    driver.close()


def test_a_body_cut_short_is_an_error_without_retry(emulator: Emulator) -> None:
    driver = opened(emulator)
    driver.put(b"short", b"x" * 1000, deadline=soon())
    emulator.set_faults({"kind": "truncate", "operations": ["GetObject"], "after_bytes": 999})
    with (
        pytest.raises(errors.ShortBody, match="1 bytes early"),
        driver.get(b"short", 0, 1000, token=None, deadline=soon()) as body,
    ):
        body.readinto(memoryview(bytearray(1000)))
    driver.close()


def test_overwritten_while_it_was_broken(emulator: Emulator) -> None:
    driver = opened(emulator, layers=QUICK)
    driver.put(b"moved", b"A" * 3_000_000, deadline=soon())
    emulator.set_faults({"kind": "truncate", "operations": ["GetObject"], "after_bytes": 1_500_000, "limit": 1})
    with driver.get(b"moved", 0, 3_000_000, token=None, deadline=soon()) as body:
        assert body.readinto(memoryview(bytearray(1_000_000))) == 1_000_000
        driver.put(b"moved", b"B" * 3_000_000, deadline=soon())
        with pytest.raises(errors.VersionChanged):
            body.readinto(memoryview(bytearray(2_000_000)))
    driver.close()


def test_a_throttling_storm_ends_with_the_deadline(emulator: Emulator) -> None:
    emulator.set_faults({"kind": "error", "status": 503, "code": "SlowDown"})
    driver = opened(emulator, layers=LayerConfig(retry=RetryPolicy(attempts=1000, base_seconds=0.02, cap_seconds=0.1)))
    started = time.monotonic()
    threads = []
    raised: list[type[BaseException]] = []

    def storm() -> None:
        try:
            driver.stat(b"key", deadline=Deadline.after(0.7))
        except errors.JindoError as error:
            raised.append(type(error))

    for _ in range(8):
        threads.append(threading.Thread(target=storm))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert len(raised) == 8
    assert set(raised) <= {errors.Throttled, errors.DeadlineExceeded}  # the latter when it ends within a try
    assert 0.4 < time.monotonic() - started < 3
    driver.close()


def test_a_few_failures_are_not_noticed(emulator: Emulator) -> None:
    driver = opened(emulator, layers=QUICK)
    emulator.set_faults(
        {"kind": "error", "status": 500, "rate": 0.15}, {"kind": "reset", "rate": 0.1, "after_bytes": 0}
    )
    made = driver.put(b"few", b"data", deadline=soon())
    for _ in range(50):
        assert driver.stat(b"few", deadline=soon()).token == made.token
        assert read_all(driver, b"few", 4, token=made.token) == b"data"
    driver.close()


def test_a_dripping_body_ends_with_the_deadline(emulator: Emulator) -> None:
    driver = opened(emulator)
    driver.put(b"drip", b"x" * 500_000, deadline=soon())
    emulator.set_faults({"kind": "slow", "operations": ["GetObject"], "bytes_per_second": 100_000})
    started = time.monotonic()
    with (
        pytest.raises(errors.DeadlineExceeded),
        driver.get(b"drip", 0, 500_000, token=None, deadline=Deadline.after(0.5)) as body,
    ):
        body.readinto(memoryview(bytearray(500_000)))
    assert time.monotonic() - started < 3
    driver.close()


def test_archived_object(emulator: Emulator) -> None:
    import oss2

    auth = oss2.AuthV4(*emulator.keys)
    theirs = oss2.Bucket(auth, emulator.endpoint, "bucket", region="cn-hangzhou")
    theirs.put_object("frozen", b"ice", headers={"x-oss-storage-class": "Archive"})
    driver = opened(emulator)
    assert driver.stat(b"frozen", deadline=soon()).storage_class == "Archive"
    with pytest.raises(errors.NotRestored, match="restore it"):
        driver.get(b"frozen", 0, 3, token=None, deadline=soon())
    driver.close()


def test_symbolic_links(emulator: Emulator) -> None:
    import oss2

    theirs = oss2.Bucket(oss2.AuthV4(*emulator.keys), emulator.endpoint, "bucket", region="cn-hangzhou")
    theirs.put_object("links/target é", b"found")
    theirs.put_symlink("links/target é", "links/link")
    driver = opened(emulator)
    objects, _ = pages(driver, b"links/", delimiter=True)
    assert [(entry.key, entry.kind) for entry in objects] == [
        (b"links/link", Kind.SYMLINK),
        ("links/target é".encode(), Kind.FILE),
    ]
    assert driver.read_link(b"links/link", deadline=soon()) == "links/target é".encode()
    (listed, target) = objects
    link = driver.stat(b"links/link", deadline=soon())
    assert (link.kind, link.token, link.crc64) == (Kind.SYMLINK, listed.token, None), "the link's own, as listed"
    assert driver.stat(target.key, deadline=soon()).kind is Kind.FILE
    assert read_all(driver, b"links/link", 5) == b"found", "a GET follows the link"
    for key, kind in ((b"links/none", errors.ObjectNotFound), ("links/target é".encode(), errors.UfsError)):
        with pytest.raises(kind):
            driver.read_link(key, deadline=soon())
    driver.close()


# --- ways to address a bucket -----------------------------------------------------------------------------------------


@pytest.fixture
def _example_com_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest: real("127.0.0.1" if host.endswith(".example.com") else host, *rest),
    )


@pytest.mark.usefixtures("_example_com_is_here")
def test_a_domain_bound_to_the_bucket(emulator: Emulator) -> None:
    driver = opened(emulator, endpoint=f"http://data.example.com:{emulator.port}", cname_enable="true")
    made = driver.put(b"by/cname", b"x", deadline=soon())
    assert driver.stat(b"by/cname", deadline=soon()).token == made.token
    driver.close()


@pytest.mark.usefixtures("_example_com_is_here")
def test_bucket_in_the_host_name(tmp_path: Path) -> None:
    with running_emulator(tmp_path, buckets=["bucket"], domains=["oss.example.com"]) as emulator:
        driver = opened(emulator, endpoint=f"http://oss.example.com:{emulator.port}")
        made = driver.put(b"by/host", b"x", deadline=soon())
        assert driver.stat(b"by/host", deadline=soon()).token == made.token
        driver.close()


def test_tls_needs_a_certificate_it_trusts(tmp_path: Path) -> None:
    certificate_file, key_file = certificate(tmp_path)
    with running_emulator(
        tmp_path / "root", buckets=["bucket"], tls_cert=certificate_file, tls_key=key_file
    ) as emulator:
        assert emulator.endpoint.startswith("https://")
        for error in failing(opened(emulator)):
            assert type(error) is errors.BadAnswer
            assert "fs.oss.ca.file" in error.message
        driver = opened(emulator, ca_file=str(certificate_file))
        data = os.urandom(3_000_000)
        made = driver.put(b"secret", data, deadline=soon())
        assert read_all(driver, b"secret", len(data), token=made.token) == data
        driver.close()
        with pytest.raises(errors.ConfigError, match=r"fs\.oss\.ca\.file"):
            opened(emulator, ca_file=str(tmp_path / "none"))
        plain = opened(emulator, endpoint=emulator.endpoint.replace("https", "http"))
        with pytest.raises(errors.UfsError):
            plain.check(deadline=soon())
        plain.close()
