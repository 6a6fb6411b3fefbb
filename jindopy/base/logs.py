"""Logs of a daemon: one line an event, ``key=value`` or JSON, to a rotating file or standard error.

    log.warning("block dropped, fetched again", extra=fields(key=key, block=3))
    log.error("cache disk is full", extra=fields(path=path, next_step="free space or lower quota"))

Each line passes ``redact``, tracebacks included, whoever wrote it.  ``request_id`` follows a read through threads that
copy the context.  Values are quoted where they hold blanks or control characters, so that a hostile object key cannot
forge a line.  A message that repeats more than ``FLOOD_LINES`` times in ``FLOOD_SECONDS`` is counted instead of
written; the first line after that says how many were left out.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import re
import sys
import threading
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jindopy.base.errors import ConfigError, redact

FILE_BYTES_MAX = 10 << 20
FILES_KEPT = 3
FLOOD_LINES = 20
FLOOD_SECONDS = 10.0
_TEMPLATES_MAX = 1000

request_id: ContextVar[str] = ContextVar("jindopy_request_id", default="")
"""Names the FUSE request or RPC on whose behalf code runs; empty outside of one."""

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,*()\[\]<>-]+")


def fields(**values: object) -> dict[str, Any]:
    """For ``extra=``: facts that belong to an event; ``next_step`` tells the reader what to do."""
    return {"jindopy_fields": values}


class _LineFormatter(logging.Formatter):
    """Renders a record; everything that leaves passes ``redact``."""

    def _facts(self, record: logging.LogRecord) -> dict[str, object]:
        facts: dict[str, object] = dict(getattr(record, "jindopy_fields", {}))
        if name := request_id.get():
            facts["request"] = name
        if left_out := getattr(record, "jindopy_left_out", 0):
            facts["left_out"] = left_out
        return facts

    @staticmethod
    def _time(record: logging.LogRecord) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextFormatter(_LineFormatter):
    """``2026-01-31T12:00:00.000Z WARNING cache.store: message key=value``; a traceback follows indented."""

    def format(self, record: logging.LogRecord) -> str:
        name = record.name.removeprefix("jindopy.")
        parts = [f"{self._time(record)} {record.levelname} {name}: {_one_line(record.getMessage())}"]
        parts += [f"{key}={_quoted(value)}" for key, value in self._facts(record).items()]
        text = " ".join(parts)
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info).replace("\n", "\n    ")
        return redact(text)


class JsonFormatter(_LineFormatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, object] = {
            "time": self._time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        document |= {
            key: redact(_text(value)) if not _number(value) else value for key, value in self._facts(record).items()
        }
        if record.exc_info:
            document["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(document, ensure_ascii=True)


def _number(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float)


def _text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _quoted(value: object) -> str:
    text = _text(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _one_line(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)[1:-1]


class FloodFilter(logging.Filter):
    """Lets a message template through ``FLOOD_LINES`` times in ``FLOOD_SECONDS``, and counts the rest."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key = (record.name, str(record.msg))
        with self._lock:
            since, count = self._seen.get(key, (record.created, 0))
            if record.created - since >= FLOOD_SECONDS:
                record.jindopy_left_out = max(0, count - FLOOD_LINES)
                since, count = record.created, 0
            if len(self._seen) >= _TEMPLATES_MAX and key not in self._seen:
                self._seen.clear()
            self._seen[key] = (since, count + 1)
            return count < FLOOD_LINES


def configure(file: str, line_format: str, level: str) -> None:
    """Send what the package logs to ``file`` (empty: standard error) from now on; replaces an earlier set-up.

    Raises ConfigError when the file cannot be opened.
    """
    handler = _open(file)
    handler.setFormatter(JsonFormatter() if line_format == "json" else TextFormatter())
    handler.addFilter(FloodFilter())
    logger = logging.getLogger("jindopy")
    take_down()
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False


def take_down() -> None:
    """Undo ``configure``: close the file and leave the logger as it was."""
    logger = logging.getLogger("jindopy")
    for handler in list(logger.handlers):
        if isinstance(handler.formatter, _LineFormatter):
            logger.removeHandler(handler)
            handler.close()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def _open(file: str) -> logging.Handler:
    if not file:
        return logging.StreamHandler(sys.stderr)
    path = Path(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        path.touch(mode=0o640)  # object names are nobody else's business
        return logging.handlers.RotatingFileHandler(
            path, maxBytes=FILE_BYTES_MAX, backupCount=FILES_KEPT, encoding="utf-8", errors="backslashreplace"
        )
    except OSError as error:
        raise ConfigError(f"log file {file}: {error.strerror}; choose another with --log-file") from None
