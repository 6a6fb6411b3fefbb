"""What reaches a log: one line an event, never a secret, never a forged line, never a flood."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from jindopy.base import logs
from jindopy.base.errors import ConfigError
from jindopy.base.logs import fields, request_id

log = logging.getLogger("jindopy.cache.store")

pytestmark = pytest.mark.expect_log("")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    logs.take_down()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_text_lines_carry_facts_and_the_next_step(tmp_path: Path) -> None:
    file = tmp_path / "sub/a.log"
    logs.configure(file=str(file), line_format="text", level="info")
    token = request_id.set("r-1")
    log.warning("disk %s is full", "/c", extra=fields(block=3, key=b"a b\xff", next_step="free space"))
    request_id.reset(token)
    log.info("plain")
    log.debug("not shown")
    first, second = _lines(file)
    stamp, rest = first.split(" ", 1)
    assert stamp.endswith("Z")
    assert len(stamp) == len("2026-01-31T12:00:00.000Z")
    assert rest == ('WARNING cache.store: disk /c is full block=3 key="a b\\\\xff" next_step="free space" request=r-1')
    assert second.endswith("INFO cache.store: plain")
    assert file.stat().st_mode & 0o777 == 0o640


def test_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    logs.configure(file=str(file), line_format="json", level="debug")
    log.debug("x", extra=fields(n=1, text="é\n"))
    document = json.loads(_lines(file)[0])
    assert document.pop("time").endswith("Z")
    assert document == {"level": "debug", "logger": "jindopy.cache.store", "message": "x", "n": 1, "text": "é\n"}


@pytest.mark.parametrize("line_format", ["text", "json"])
def test_secrets_never_arrive(tmp_path: Path, line_format: str) -> None:
    file = tmp_path / "a.log"
    logs.configure(file=str(file), line_format=line_format, level="info")
    log.error("GET /x?Signature=hush1&Expires=1", extra=fields(header="Authorization: OSS4-HMAC-SHA256 hush2"))
    try:
        raise ValueError("accessKeySecret=hush3")
    except ValueError:
        log.exception("failed: password: %s", "hush4")
    text = file.read_text()
    assert "hush" not in text
    assert text.count("***") >= 4
    assert "ValueError" in text


def test_a_hostile_name_cannot_forge_a_line(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    logs.configure(file=str(file), line_format="text", level="info")
    log.info("key %s", "x\n2026 ERROR forged", extra=fields(key="y\nz", esc="\x1b[31m"))
    (line,) = _lines(file)
    assert "\x1b" not in line


def test_a_flood_is_counted_instead_of_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.log"
    logs.configure(file=str(file), line_format="text", level="info")
    for number in range(100):
        log.warning("block %d lost", number)
    log.warning("something else")
    assert len(_lines(file)) == logs.FLOOD_LINES + 1
    monkeypatch.setattr(logs, "FLOOD_SECONDS", 0.0)
    log.warning("block %d lost", 100)
    assert _lines(file)[-1].endswith(f"block 100 lost left_out={100 - logs.FLOOD_LINES}")


def test_files_rotate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES_MAX", 1000)
    logs.configure(file=str(tmp_path / "a.log"), line_format="text", level="info")
    for number in range(100):
        log.info(f"line {number}")  # its own template each time, or the flood filter would stop it
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1", "a.log.2", "a.log.3"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())


def test_set_up_twice_writes_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        logs.configure(file=str(tmp_path / name), line_format="text", level="info")
    log.info("x")
    assert (tmp_path / "a").read_text() == ""
    assert len(_lines(tmp_path / "b")) == 1


def test_standard_error_when_no_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(file="", line_format="text", level="info")
    log.info("here")
    assert capsys.readouterr().err.endswith("cache.store: here\n")


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="choose another with --log-file"):
        logs.configure(file=str(tmp_path / "file/a.log"), line_format="text", level="info")
