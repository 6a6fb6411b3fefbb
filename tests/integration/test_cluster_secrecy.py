"""Who may join a cluster, and what may travel in plain text."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from contracts.namespace_tools import Wanted, new_driver, soon
from contracts.test_namespace_remote import served

from jindopy.base.clock import Deadline
from jindopy.base.errors import BadCredentials, ConfigError, MasterAway
from jindopy.client.master import RemoteMaster
from jindopy.rpc.channel import Security, check_secrecy, make_server, open_channel, read_token

TOKEN = "0123456789abcdef-token"


class Authority:
    """A throw-away certificate authority."""

    def __init__(self, folder: Path, name: str) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.file = str(folder / f"{name}.pem")
        Path(self.file).write_bytes(self._signed(self._name, self._key.public_key(), [], authority=True))

    def _signed(self, subject, key, names, authority):  # type: ignore[no-untyped-def]
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), True)
        )
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(names), False)
        return made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> tuple[str, str]:
        """Certificate and key of a member at 127.0.0.1."""
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate, private = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(self._signed(subject, key.public_key(), names, authority=False))
        form = serialization.PrivateFormat.PKCS8
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return str(certificate), str(private)


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(TOKEN + "\n")
    return str(path)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


def ask(address: str, security: Security, seconds: float = 5.0) -> str:
    remote = RemoteMaster(address, security, "test")
    try:
        remote.start(Deadline.after(seconds))
        return remote.resolve(b"f", deadline=soon()).name.decode()
    finally:
        remote.close()


def refused(address: str, security: Security) -> Exception:
    with pytest.raises((BadCredentials, MasterAway)) as failure:
        ask(address, security, 2.0)
    assert TOKEN not in str(failure.value)
    return failure.value


@pytest.fixture
def state(tmp_path: Path) -> Iterator[tuple[Path, tuple[Wanted, ...]]]:
    yield tmp_path / "state", (Wanted(new_driver(b"f")),)


@pytest.mark.expect_log("join token|is away|authority|certificate|handshake")
def test_the_token_is_asked_of_everybody(
    state: tuple[Path, tuple[Wanted, ...]], token_file: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.touch(mode=0o600)
    other.write_text("another-token-of-a-good-length")
    with served(*state, security=Security(token_file=token_file)) as address:
        assert ask(address, Security(token_file=token_file)) == "f"
        for wrong in (Security(), Security(token_file=str(other))):
            assert "join token" in str(refused(address, wrong))


@pytest.mark.expect_log("is away|authority|certificate|handshake")
def test_tls_and_mutual_tls(
    state: tuple[Path, tuple[Wanted, ...]], authority: Authority, token_file: str, tmp_path: Path
) -> None:
    certificate, key = authority.issue("server")
    mine = authority.issue("client")
    stranger = Authority(tmp_path, "stranger")
    theirs = stranger.issue("intruder")
    serving = Security(certificate_file=certificate, key_file=key)
    with served(*state, security=serving) as address:
        assert ask(address, Security(authority_file=authority.file)) == "f"
        refused(address, Security(authority_file=stranger.file))
        refused(address, Security())
    mutual = Security(token_file, certificate, key, authority.file)
    with served(*state, security=mutual) as address:
        assert ask(address, Security(token_file, *mine, authority.file)) == "f"
        refused(address, Security(token_file, authority_file=authority.file))
        refused(address, Security(token_file, *theirs, authority.file))


def test_plain_text_beyond_the_loopback_interface_is_asked_for_by_name(token_file: str) -> None:
    with pytest.raises(ConfigError, match="--plaintext"):
        open_channel("10.0.0.1:1", Security())
    with pytest.raises(ConfigError, match="--plaintext"):
        make_server("0.0.0.0:0", Security(token_file), lambda _: None)
    with pytest.raises(ConfigError, match="--token-file"):
        make_server("0.0.0.0:0", Security(plaintext=True), lambda _: None)
    for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        check_secrecy(host, "--listen", Security(), tls=False)
    for host in ("localhost.example.com", "0.0.0.0", "::", "128.0.0.1"):
        with pytest.raises(ConfigError):
            check_secrecy(host, "--listen", Security(), tls=False)


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="cannot listen"):
            make_server(address, Security(), lambda _: None)


@pytest.mark.parametrize("text", ["short", "with blanks in it, quite long", "", "\u00fcberlanges-token-mit-umlaut"])
def test_tokens_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(ConfigError) as failure:
        read_token(str(path))
    assert not text or text not in str(failure.value)
    path.write_text(TOKEN)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_token(str(path))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["master", "--data-dir", "d", "--mount", "local:///", "--listen", "0.0.0.0:0"], "--plaintext"),
        (["master", "--data-dir", "d", "--mount", "local:///", "--listen", "nonsense"], "HOST:PORT"),
        (["worker", "--master", "h", "--cache-dir", "c", "--quota", "16M"], "HOST:PORT"),
        (["worker", "--master", "h:1", "--cache-dir", "c", "--quota", "16M"], "--plaintext"),
    ],
)
def test_services_refuse_in_one_line(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jindopy", *arguments, "--log-level", "error"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert "Traceback" not in done.stderr
