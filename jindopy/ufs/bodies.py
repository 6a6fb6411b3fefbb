"""What the bodies of all drivers have in common: closed by ``with``, and what the answer's headers told.  P.

``Closing`` is for whatever has a ``close``; ``ToldBody`` is a ``base.Body`` whose facts are known when it is made, so
that a driver writes ``readinto`` and ``close``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Closing(ABC):
    """Closed at the end of its ``with`` block."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ToldBody(Closing):
    """A body that knows from the start whose bytes it has."""

    def __init__(self, token: bytes, object_bytes: int, object_crc64: int | None = None) -> None:
        self._token = token
        self._object_bytes = object_bytes
        self._object_crc64 = object_crc64

    @property
    def token(self) -> bytes:
        return self._token

    @property
    def object_bytes(self) -> int:
        return self._object_bytes

    @property
    def object_crc64(self) -> int | None:
        return self._object_crc64

    @abstractmethod
    def readinto(self, target: memoryview) -> int: ...
