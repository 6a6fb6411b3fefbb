"""``doctor`` against a real server: keys, bucket, endpoint and clock, each with its cure."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from jindopy.base.clock import REAL_CLOCK, SimulatedClock
from jindopy.cli.checks import Finding, Level
from jindopy.cli.checks_storage import check_clock, check_storage
from jindopy.config.settings import UfsMount
from tests.emulator_fixture import Emulator, running_emulator


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with running_emulator(tmp_path_factory.mktemp("emulator"), buckets=["demo"]) as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def _keys(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    key_id, secret = emulator.keys
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", key_id)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", secret)


def _check(emulator: Emulator, uri: str = "oss://demo") -> dict[str, Finding]:
    options = {"fs.oss.endpoint": emulator.endpoint, "fs.oss.region": "cn-hangzhou"}
    return {finding.check.split()[0]: finding for finding in check_storage(UfsMount(uri, "", options))}


def test_all_is_well(emulator: Emulator) -> None:
    found = _check(emulator)
    assert {name: finding.level for name, finding in found.items()} == {
        "credentials": Level.OK,
        "clock": Level.OK,
        "storage": Level.OK,
    }
    assert found["credentials"].message == "from environment"
    assert emulator.keys[1] not in str(found)


def test_wrong_secret(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "hush")
    found = _check(emulator)
    assert found["storage"].level == Level.FAIL
    assert "check key id and secret" in found["storage"].fix
    assert "hush" not in str(found)


def test_keys_of_one_bucket(emulator: Emulator) -> None:
    options = {"fs.oss.endpoint": emulator.endpoint, "fs.oss.region": "cn-hangzhou"}
    options |= {
        "fs.oss.bucket.demo.accessKeyId": emulator.keys[0],
        "fs.oss.bucket.demo.accessKeySecret": emulator.keys[1],
    }
    found = {finding.check.split()[0]: finding for finding in check_storage(UfsMount("oss://demo/p", "", options))}
    assert (found["credentials"].message, found["storage"].level) == ("from options", Level.OK)


def test_no_keys(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OSS_ACCESS_KEY_ID")
    monkeypatch.delenv("OSS_ACCESS_KEY_SECRET")
    found = _check(emulator)
    assert (found["credentials"].level, found["storage"].level) == (Level.WARN, Level.FAIL)


def test_missing_bucket(emulator: Emulator) -> None:
    found = _check(emulator, "oss://nonesuch")
    assert found["storage"].level == Level.FAIL
    assert "name of bucket" in found["storage"].fix


def test_clock_that_the_server_refuses(emulator: Emulator) -> None:
    emulator.set_conditions(clock_offset_seconds=3600)
    try:
        found = _check(emulator)
    finally:
        emulator.set_conditions(clock_offset_seconds=0)
    assert (found["clock"].level, found["storage"].level) == (Level.FAIL, Level.FAIL)
    assert " s behind http://" in found["clock"].message
    assert "timedatectl" in found["clock"].fix
    assert "timedatectl" in found["storage"].fix


@pytest.mark.parametrize(
    ("off_seconds", "level"), [(5, Level.OK), (300, Level.WARN), (1000, Level.FAIL), (-1000, Level.FAIL)]
)
def test_how_far_clocks_may_differ(emulator: Emulator, off_seconds: int, level: Level) -> None:
    clock = SimulatedClock(wall_ns=REAL_CLOCK.wall_ns() + off_seconds * 10**9)
    (found,) = check_clock(emulator.endpoint, clock)
    assert found.level == level


def test_nobody_answers(emulator: Emulator) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        assert list(check_clock(endpoint, REAL_CLOCK)) == []
        options = {"fs.oss.endpoint": endpoint, "fs.oss.region": "cn-hangzhou"}
        found = list(check_storage(UfsMount("oss://demo", "", options)))[-1]
    assert found.level == Level.FAIL
    assert "firewall" in found.fix


def test_servers_that_speak_something_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        server.settimeout(10)

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nDate: yesterday\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert list(check_clock(endpoint, REAL_CLOCK)) == []
        thread.join()
