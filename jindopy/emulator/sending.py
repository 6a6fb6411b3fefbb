"""One answer on its way out: paced, cut short, slowed or spoiled where that is asked for.

The head and the first bytes leave in one packet (``MSG_MORE``), the rest by ``sendfile``, or, over TLS and where a bit
is to be flipped, read and sent in pieces of LOADED_BYTES.  The line is asked for each chunk before it is sent, and
never between a head that was sent with MSG_MORE and its body: the kernel would hold the head back for 200 ms.
A turn sends at most TURN_BYTES.  Descriptors are the connection's; the body's file is closed here.
"""

from __future__ import annotations

import os
import socket
import ssl
from enum import Enum, auto
from typing import Final

from jindopy.base.clock import Clock
from jindopy.emulator.answers import FileBody
from jindopy.emulator.faults import FaultRule
from jindopy.emulator.shared import BURST_NS, SLOT, Shared, chunk_bytes

TURN_BYTES: Final = 1 << 20
LOADED_BYTES: Final = 256 << 10
_BYTES_SENT: Final = SLOT["bytes_sent"]
_WOULD_BLOCK: Final = (BlockingIOError, InterruptedError, ssl.SSLWantWriteError, ssl.SSLWantReadError)


class Outcome(Enum):
    """How a turn ended."""

    SENT = auto()
    """All is out."""
    BLOCKED = auto()
    """The socket takes no more now."""
    WAIT = auto()
    """The line is taken until ``wait_seconds`` from now."""
    BROKEN = auto()
    """The file is shorter than announced."""


class OwnLine:
    """One connection's share of time, when connections have a rate of their own."""

    __slots__ = ("_clock", "_free_ns")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free_ns = 0

    def reserve(self, size: int, rate_bytes: int) -> float:
        """Seconds until ``size`` bytes may go; as ``Shared.reserve``."""
        now_ns = round(self._clock.monotonic() * 1e9)
        start_ns = max(self._free_ns, now_ns - BURST_NS)
        self._free_ns = start_ns + size * 1_000_000_000 // rate_bytes
        return max(0.0, (start_ns - now_ns) / 1e9)


class Sending:
    """One answer; ``turn`` until it is SENT."""

    __slots__ = (
        "_corrupt_at",
        "_counters",
        "_file",
        "_granted",
        "_left",
        "_loaded",
        "_out",
        "_own_line",
        "_shared",
        "_slow_bytes",
        "_sock",
        "cut",
        "delay_seconds",
        "wait_seconds",
    )

    def __init__(
        self,
        sock: socket.socket,
        shared: Shared,
        counters: memoryview,
        own_line: OwnLine,
        head: bytes,
        body: bytes,
        file: FileBody | None,
        fault: FaultRule | None,
    ) -> None:
        self._sock = sock
        self._shared = shared
        self._counters = counters
        self._own_line = own_line
        self._file = file
        self._left = file.size if file is not None else 0
        self._granted = 0
        self._loaded = isinstance(sock, ssl.SSLSocket)
        self._corrupt_at = -1
        self._slow_bytes = 0
        self.cut = ""
        """``reset`` or ``truncate``: how the connection ends behind a body that was cut."""
        conditions = shared.conditions()
        self.delay_seconds = conditions.latency_seconds
        """To wait before the first turn."""
        self.wait_seconds = 0.0
        if fault is not None:
            body = self._spoil(fault, body)
        if body and conditions.bandwidth_bytes:
            self.delay_seconds += shared.reserve(len(body), conditions.bandwidth_bytes)
        self._out = memoryview(head + body)

    def _spoil(self, rule: FaultRule, body: bytes) -> bytes:
        if rule.kind == "slow":
            self._slow_bytes = rule.bytes_per_second
            self.delay_seconds += rule.delay_seconds
        elif rule.kind == "corrupt":
            if self._left:
                self._corrupt_at = self._left // 2
                self._loaded = True
        else:
            self.cut = rule.kind
            total = self._left or len(body)
            at = min(total, rule.after_bytes if rule.after_bytes >= 0 else total // 2)
            if not self._left:
                return body[:at]
            self._left = at
        return body

    def turn(self) -> Outcome:
        """Send what can be sent now; raises OSError when the client is gone."""
        room = TURN_BYTES
        try:
            while room > 0:
                if self._left and not self._granted:
                    self.wait_seconds = self._grant()
                    if self.wait_seconds > 0:
                        return Outcome.WAIT
                if self._out:
                    count = self._sock.send(self._out, 0 if not self._left or self._loaded else socket.MSG_MORE)
                    self._out = self._out[count:]
                elif not self._left:
                    return Outcome.SENT
                elif self._loaded:
                    if not self._load(min(self._granted, LOADED_BYTES)):
                        return Outcome.BROKEN
                    continue
                else:
                    count = self._send_file(min(self._granted, room))
                    if count == 0:
                        return Outcome.BROKEN
                room -= count
                self._counters[_BYTES_SENT] += count
        except _WOULD_BLOCK:
            pass
        return Outcome.BLOCKED

    def _grant(self) -> float:
        """Reserve the next chunk of the line; returns the seconds until it may go."""
        conditions = self._shared.conditions()
        rate, own_rate = conditions.bandwidth_bytes, conditions.bandwidth_per_client_bytes
        if self._slow_bytes:
            own_rate = min(own_rate, self._slow_bytes) if own_rate else self._slow_bytes
        if not rate and not own_rate:
            self._granted = self._left
            return 0.0
        self._granted = min(self._left, chunk_bytes(min(value for value in (rate, own_rate) if value)))
        wait_seconds = self._shared.reserve(self._granted, rate) if rate else 0.0
        if own_rate:
            wait_seconds = max(wait_seconds, self._own_line.reserve(self._granted, own_rate))
        return wait_seconds

    def _next(self, size: int) -> tuple[FileBody, int, int]:
        file = self._file
        assert file is not None
        if not file.period_bytes:
            return file, file.offset, size
        at = file.offset % file.period_bytes
        return file, at, min(size, file.period_bytes - at)

    def _send_file(self, size: int) -> int:
        file, at, size = self._next(size)
        count = os.sendfile(self._sock.fileno(), file.fd, at, size)
        self._moved(file, count)
        return count

    def _load(self, size: int) -> int:
        file, at, size = self._next(size)
        data = os.pread(file.fd, size, at)
        if 0 <= self._corrupt_at < len(data):
            wrong = bytearray(data)
            wrong[self._corrupt_at] ^= 1
            data = bytes(wrong)
        self._corrupt_at -= len(data)
        self._moved(file, len(data))
        self._out = memoryview(data)
        return len(data)

    def _moved(self, file: FileBody, count: int) -> None:
        file.offset += count
        self._left -= count
        self._granted -= count

    def close(self) -> None:
        """Close the body's file; harmless when repeated."""
        if self._file is not None:
            self._file.close()
            self._file = None
