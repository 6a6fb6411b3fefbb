"""The control socket, over real Unix sockets: every call, every refusal, and clients that misbehave."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jindopy.base import mountinfo
from jindopy.base.errors import (
    BadCredentials,
    CacheBusy,
    ConfigError,
    DeadlineExceeded,
    JindoError,
    MountPointError,
    NoSuchEntry,
)
from jindopy.base.ident import mount_point_id
from jindopy.control import client as client_module
from jindopy.control import protocol
from jindopy.control import server as server_module
from jindopy.control.api import PROTOCOL_VERSION, LoadRequest
from jindopy.control.client import ControlClient, locate, resolve, run_dirs_of, sockets
from jindopy.control.protocol import ProtocolError
from jindopy.control.server import ControlServer, prepare_directory
from tests.fake_daemon import FakeDaemon, SomethingElse

NAME = "0123456789ab.sock"


@pytest.fixture
def daemon() -> FakeDaemon:
    return FakeDaemon()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / NAME


@pytest.fixture
def server(path: Path, daemon: FakeDaemon) -> Iterator[ControlServer]:
    server = ControlServer(path, daemon)
    server.start()
    yield server
    daemon.gate.set()
    server.close()
    assert not path.exists()


@pytest.fixture
def client(path: Path, server: ControlServer) -> ControlClient:
    return ControlClient(path, answer_seconds=5)


def _raw(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(str(path))
    return connection


def _answer(connection: socket.socket) -> dict[str, object]:
    with connection.makefile("rb") as stream:
        document = json.loads(stream.readline())
    assert isinstance(document, dict)
    return document


def test_every_operation_of_the_api_has_its_line() -> None:
    names = {name for name in vars(FakeDaemon) if not name.startswith("_")}
    assert set(protocol.OPERATIONS) == names
    assert {name for name in vars(ControlClient) if not name.startswith("_")} == names | {"daemon_pid"}


def test_calls_come_back_as_they_left(client: ControlClient, daemon: FakeDaemon) -> None:
    assert client.status() == daemon.status_value
    assert client.stat("a") == daemon.entries["a"]
    assert client.list_dir("") == [daemon.entries["a"], daemon.entries["d"]]
    assert client.list_dir("d")[0].path == "d/b\udcff c"
    assert client.cancel_load("job-1") is True
    assert client.cancel_load("job-2") is False
    assert client.evict(["a", "z"]).messages == ["z: nothing matches"]
    assert client.pin(["a"]).files == 1
    assert client.unpin(["*"]).files == 4
    assert client.skipped_keys() == [("oss://b/p/x//y", "empty-component")]
    client.shutdown(2.5)
    assert daemon.calls[-1] == ("shutdown", 2.5)


def test_streams(client: ControlClient, daemon: FakeDaemon) -> None:
    request = LoadRequest(paths=["a*"], metadata=False)
    phases = [progress.phase for progress in client.load(request)]
    assert phases == ["listing", "loading", "complete"]
    assert ("load", request) in daemon.calls
    assert [progress.done for progress in client.scrub()] == [False, True]


def test_a_long_list_arrives_whole(client: ControlClient, daemon: FakeDaemon) -> None:
    first = daemon.entries["a"]
    daemon.entries |= {f"n{number:05}": first for number in range(2500)}
    assert len(client.list_dir("")) == 2502


@pytest.mark.parametrize(
    ("error", "kind", "exit_code"),
    [
        (NoSuchEntry("x: no"), NoSuchEntry, 1),
        (BadCredentials("wrong key", endpoint="e", key="k"), BadCredentials, 3),
        (SomethingElse("odd"), protocol.RemoteError, 5),
    ],
)
def test_errors_keep_class_message_and_exit_code(
    client: ControlClient, daemon: FakeDaemon, error: JindoError, kind: type[JindoError], exit_code: int
) -> None:
    daemon.error = error
    with pytest.raises(kind) as told:
        client.status()
    assert told.value.message == error.message
    assert told.value.exit_code == exit_code
    with pytest.raises(kind):
        list(client.load(LoadRequest([])))


@pytest.mark.expect_log("could not be answered")
def test_an_internal_error_is_logged_not_shown(client: ControlClient, daemon: FakeDaemon) -> None:
    daemon.error = ZeroDivisionError("secret detail")
    with pytest.raises(JindoError, match="internal error in the mount") as told:
        client.status()
    assert "secret detail" not in told.value.message
    daemon.error = None
    assert client.status() == daemon.status_value


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"hello", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "names no protocol version"),
        (b'{"op": "status", "args": {}}', "names no protocol version"),
        (b'{"v": 99, "op": "status", "args": {}}', "of different releases (control protocol 1 here, 99 there)"),
        (b'{"v": 1, "op": "rm", "args": {}}', "knows no operation 'rm'"),
        (b'{"v": 1, "op": ["status"], "args": {}}', "knows no operation"),
        (b'{"v": 1, "op": "_note", "args": {}}', "knows no operation"),
        (b'{"v": 1, "op": "stat", "args": {}}', "takes exactly these arguments: path"),
        (b'{"v": 1, "op": "stat", "args": {"path": 1}}', "stat: path: a string is due, not 1"),
        (b'{"v": 1, "op": "stat", "args": {"path": "a", "b": 1}}', "takes exactly these arguments"),
        (b'{"v": 1, "op": "load", "args": {"request": {"paths": [], "x": 1}}}', "unknown: x"),
    ],
)
def test_bad_requests_are_refused_in_one_line(path: Path, client: ControlClient, line: bytes, told: str) -> None:
    with _raw(path) as connection:
        connection.sendall(line + b"\n")
        error = _answer(connection)["error"]
    assert isinstance(error, dict)
    assert told in error["message"]
    client.status()


def test_a_request_without_end_is_bounded(path: Path, client: ControlClient) -> None:
    with _raw(path) as connection, pytest.raises(OSError, match=r"reset|pipe"):
        for _ in range(100):
            connection.sendall(b"x" * 65536)
        # The refusal may or may not be readable after the reset; what matters is that the server lives.
    client.status()
    with pytest.raises(ProtocolError, match="too many paths"):
        client.evict(["x" * 1000] * 2000)


def test_half_a_request_and_silence_end_by_themselves(
    path: Path, client: ControlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _raw(path) as connection:
        connection.sendall(b'{"v": 1,')
        connection.shutdown(socket.SHUT_WR)
        error = _answer(connection)["error"]
    assert "middle of a line" in str(error)
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.05)
    with _raw(path) as connection:
        assert connection.recv(1) == b"", "the server hung up"
    client.status()


def test_a_client_that_reads_nothing_is_dropped(
    path: Path, client: ControlClient, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "ANSWER_SECONDS", 0.1)
    daemon.entries |= {f"n{number:05}": daemon.entries["a"] for number in range(20_000)}
    with _raw(path) as connection:
        connection.sendall(protocol.encode_request("list_dir", {"path": ""}))
        time.sleep(0.4)
        assert client.status() == daemon.status_value
        received = b"".join(iter(lambda: connection.recv(1 << 20), b""))
    assert b'"end"' not in received


def test_a_client_that_leaves_closes_its_stream_only(client: ControlClient, daemon: FakeDaemon) -> None:
    stream = client.load(LoadRequest([]))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert daemon.streams_closed.acquire(timeout=5)
    assert client.status() == daemon.status_value


def test_streams_are_bounded_and_status_is_answered_meanwhile(client: ControlClient, daemon: FakeDaemon) -> None:
    daemon.blocked = True
    streams = [client.load(LoadRequest([])) for _ in range(server_module.STREAMS_MAX)]
    for stream in streams:
        assert next(stream).phase == "listing"
    with pytest.raises(JindoError, match="already serves 8 loads"):
        next(client.load(LoadRequest([])))
    assert client.status() == daemon.status_value
    daemon.gate.set()
    for stream in streams:
        assert [progress.phase for progress in stream][-1] == "complete"


def test_connections_are_bounded(path: Path, client: ControlClient) -> None:
    idle = [_raw(path) for _ in range(server_module.CONNECTIONS_MAX)]
    try:
        with pytest.raises(JindoError, match="already serves 16 commands"):
            client.status()
    finally:
        for connection in idle:
            connection.close()
    for _ in range(100):
        try:
            client.status()
            break
        except JindoError:
            time.sleep(0.02)
    else:
        pytest.fail("idle connections were never given back")


def test_other_users_are_refused(client: ControlClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "peer", lambda connection: (1, os.geteuid() + 1))
    with pytest.raises(ConfigError, match="only that user and root may ask"):
        client.status()


@pytest.mark.parametrize("told", [True, False])
def test_a_refusal_sent_before_the_request_is_read(path: Path, monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    refusal = protocol.encode_error(ConfigError("not you"))
    hung_up = threading.Event()

    def refuse(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(refusal if told else b"")
        hung_up.set()

    def late(operation: str, arguments: dict[str, object]) -> bytes:
        assert hung_up.wait(5)
        return b"{}\n"

    monkeypatch.setattr(client_module.protocol, "encode_request", late)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        thread = threading.Thread(target=refuse, args=(listener,))
        thread.start()
        try:
            with pytest.raises(ConfigError if told else MountPointError, match="not you" if told else "ended before"):
                ControlClient(path).status()
        finally:
            thread.join(5)


def test_the_socket_is_private(path: Path, server: ControlServer) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def test_one_daemon_a_socket_and_stale_ones_are_replaced(path: Path, daemon: FakeDaemon) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    first, second = ControlServer(path, daemon), ControlServer(path, daemon)
    first.start()
    try:
        with pytest.raises(CacheBusy, match="another daemon"):
            second.start()
        second.close()
        assert ControlClient(path).status() == daemon.status_value
    finally:
        first.close()
        first.close()


def test_long_paths_work(tmp_path: Path, daemon: FakeDaemon) -> None:
    path = tmp_path / ("d" * 120) / NAME
    server = ControlServer(path, daemon)
    server.start()
    try:
        assert ControlClient(path).status() == daemon.status_value
    finally:
        server.close()
    assert not path.exists()


def test_closing_ends_running_streams(path: Path, daemon: FakeDaemon) -> None:
    server = ControlServer(path, daemon)
    server.start()
    daemon.blocked = True
    stream = ControlClient(path).load(LoadRequest([]))
    next(stream)
    threading.Timer(0.1, daemon.gate.set).start()
    server.close()
    with pytest.raises(MountPointError, match="ended before it answered"):
        list(stream)


def test_directories_others_may_write_to_are_refused(tmp_path: Path, daemon: FakeDaemon) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(ConfigError, match="others may write"):
        ControlServer(open_to_all / NAME, daemon).start()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="choose another --run-dir"):
        prepare_directory(tmp_path / "file")


# --- the client's side ------------------------------------------------------------------------------------------------


class _Liar:
    """A server that answers each connection with fixed bytes."""

    def __init__(self, path: Path, answer: bytes, hold: bool = False) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._answer, self._hold = answer, hold
        self._release = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(self._answer)
            if self._hold:
                self._release.wait(10)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._release.set()
        self._thread.join()
        self._socket.close()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "ended before it answered"),
        (b'{"v":1,"resu', "middle of a line"),
        (b"?\n", "answer is no JSON"),
        (b'{"v":2,"result":{}}\n', "of different releases"),
        (b'{"v":1,"result":{"pid":"x"}}\n', "makes no sense"),
        (b'{"v":1,"error":7}\n', "makes no sense"),
    ],
)
def test_answers_that_make_no_sense(path: Path, answer: bytes, told: str) -> None:
    with _Liar(path, answer), pytest.raises(JindoError, match=told):
        ControlClient(path).status()


def test_an_answer_without_end_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "ANSWER_BYTES_MAX", 1000)
    with _Liar(path, b"x" * 2000, hold=True), pytest.raises(ProtocolError, match="longer than 1000 bytes"):
        ControlClient(path).status()


def test_no_answer_in_time(path: Path) -> None:
    with _Liar(path, b"", hold=True), pytest.raises(DeadlineExceeded, match="did not answer status within 0 s"):
        ControlClient(path, answer_seconds=0.05).status()


def test_who_listens_is_known_without_an_answer(client: ControlClient, daemon: FakeDaemon) -> None:
    assert client.daemon_pid() == os.getpid()
    assert daemon.calls == []


def test_nobody_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MountPointError, match="no mount answers at"):
        ControlClient(path).status()


def test_a_stranger_behind_the_socket_is_not_asked(
    client: ControlClient, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module.os, "geteuid", lambda: 77_777)
    monkeypatch.setattr(client_module, "peer", lambda connection: (1, 4))
    with pytest.raises(MountPointError, match="another user listens there"):
        client.status()
    assert daemon.calls == []


# --- finding a mount --------------------------------------------------------------------------------------------------


def _entry(point: str, kind: str = mountinfo.FS_TYPE, owner: str = "0") -> mountinfo.MountEntry:
    return mountinfo.MountEntry(1, 0, (0, 52), "/", point, (), kind, "oss://b", ("rw", f"user_id={owner}"))


def test_a_mount_is_found_by_path_and_by_id(tmp_path: Path) -> None:
    point = tmp_path / "m"
    (point / "d").mkdir(parents=True)
    (tmp_path / "link").symlink_to(point / "d")
    identity = mount_point_id(str(point))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f"{identity}.sock").touch()
    entries = [_entry("/", "ext4"), _entry(str(point))]
    for path, inner in [
        (point, ""),
        (point / "d/x", "d/x"),
        (tmp_path / "link/x", "d/x"),
        (tmp_path / "m/../m/d", "d"),
    ]:
        found = locate(str(path), [tmp_path / "run"], entries)
        assert (found.mount_id, found.inner_path, found.mount_point) == (identity, inner, str(point))
        assert found.socket_path == tmp_path / "run" / f"{identity}.sock"
    assert locate(identity, [tmp_path / "run"], entries).socket_path == found.socket_path
    assert sockets([tmp_path / "run", tmp_path / "none"]) == [found.socket_path]


def test_what_is_no_mount_is_told(tmp_path: Path) -> None:
    entries = [_entry("/", "ext4"), _entry(str(tmp_path / "m")), _entry(str(tmp_path / "s"), "fuse.sshfs")]
    with pytest.raises(MountPointError, match="not below a jindopy mount"):
        locate("/etc", [tmp_path], entries)
    with pytest.raises(MountPointError, match="not below a jindopy mount"):
        locate(str(tmp_path / "s/x"), [tmp_path], entries)
    with pytest.raises(MountPointError, match=r"no control socket \(looked in /run/jindopy"):
        locate(str(tmp_path / "m"), [tmp_path], entries)
    with pytest.raises(MountPointError, match="no running mount has the id"):
        locate("abcdefabcdef", [tmp_path], entries)


def test_the_mount_point_itself_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(path: str) -> str:
        raise AssertionError(path)

    monkeypatch.setattr(client_module.os.path, "realpath", touched)
    assert resolve("/m/../m", [_entry("/m")])[0] == "/m"


def test_sockets_of_other_users_mounts() -> None:
    assert run_dirs_of(_entry("/m")) == [Path("/run/jindopy")]
    assert run_dirs_of(_entry("/m", owner="7")) == [Path("/run/user/7/jindopy"), Path("/tmp/jindopy-7")]


def test_the_version_is_the_apis() -> None:
    assert json.loads(protocol.encode_end())["v"] == PROTOCOL_VERSION
