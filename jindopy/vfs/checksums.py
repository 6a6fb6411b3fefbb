"""Passes object checksums, learned from GET answers, to the master.

A fetch thread only puts the checksum into a bounded queue; one thread hands them on: the first at once, then all that
gathered in GATHER_SECONDS, because a transaction for each costs 0.1 ms of CPU, a fifth of a cold small file.  When the
queue is full they are dropped: a checksum that is not known costs an ENODATA on an attribute, never a wrong byte.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from typing import Final, Protocol, final

from jindopy.base.errors import JindoError
from jindopy.base.ident import FileVersion, Inode

LOG = logging.getLogger("jindopy.vfs")

GATHER_SECONDS: Final = 0.1

QUEUE_MAX: Final = 10_000
"""A few seconds of small-file loading; about 3 MB."""


class Noter(Protocol):
    """A master, as far as checksums go."""

    def note_crc64s(self, told: Sequence[tuple[Inode, int, int]]) -> None:
        """See ``MasterApi``."""
        ...


@final
class ChecksumLearner:
    """Hands learned checksums to the master."""

    def __init__(self, master: Noter) -> None:
        self._master = master
        self._queue: queue.Queue[tuple[FileVersion, int] | None] = queue.Queue(QUEUE_MAX)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="checksums", daemon=True)
        self._thread.start()

    def learn(self, version: FileVersion, crc64: int) -> None:
        """Note the CRC of a version; never blocks."""
        if version.inode:
            try:
                self._queue.put_nowait((version, crc64))
            except queue.Full:
                LOG.debug("checksum of %r not kept: queue full", version.key)

    def _serve(self) -> None:
        while (item := self._queue.get()) is not None:
            told = [item]
            while not self._queue.empty():
                if (item := self._queue.get()) is None:
                    self._queue.put(None)
                    break
                told.append(item)
            try:
                self._master.note_crc64s([(version.inode, version.number, crc64) for version, crc64 in told])
            except JindoError as error:
                LOG.debug("%d checksums not kept: %s", len(told), error)
            self._closing.wait(GATHER_SECONDS)

    def close(self) -> None:
        """Hand on what is queued, then end."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join()
