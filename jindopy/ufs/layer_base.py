"""A driver and a body that pass everything on to another: what the layers are made of.  P.

``Layer`` sends every call through ``_around``, told the operation's name as metrics have it, so that a layer is one
method; only ``get`` needs a second one where a layer also has to do with the body.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TypeVar

from jindopy.base.clock import Deadline
from jindopy.base.ident import UfsId
from jindopy.ufs.base import (
    BlockGets,
    Body,
    Capability,
    Driver,
    HasBlockGets,
    ListPage,
    ObjectStat,
    Refreshable,
)
from jindopy.ufs.bodies import Closing

T = TypeVar("T")


class BodyLayer(Closing):
    """A body that passes everything on."""

    def __init__(self, inner: Body) -> None:
        self._inner = inner

    @property
    def token(self) -> bytes:
        return self._inner.token

    @property
    def object_bytes(self) -> int:
        return self._inner.object_bytes

    @property
    def object_crc64(self) -> int | None:
        return self._inner.object_crc64

    def readinto(self, target: memoryview) -> int:
        return self._inner.readinto(target)

    def close(self) -> None:
        self._inner.close()


class Layer(ABC):
    """A driver that passes everything on through ``_around``."""

    def __init__(self, inner: Driver) -> None:
        self._inner = inner

    @property
    def scheme(self) -> str:
        return self._inner.scheme

    @property
    def ufs_id(self) -> UfsId:
        return self._inner.ufs_id

    @property
    def endpoint(self) -> str:
        return self._inner.endpoint

    @property
    def capabilities(self) -> Capability:
        return self._inner.capabilities

    def stat(self, key: bytes, *, deadline: Deadline) -> ObjectStat:
        return self._around("head", deadline, lambda: self._inner.stat(key, deadline=deadline))

    def list_page(
        self, prefix: bytes, *, delimiter: bool, cursor: str = "", limit: int = 1000, deadline: Deadline
    ) -> ListPage:
        return self._around(
            "list",
            deadline,
            lambda: self._inner.list_page(prefix, delimiter=delimiter, cursor=cursor, limit=limit, deadline=deadline),
        )

    def get(self, key: bytes, offset: int, size_bytes: int, *, token: bytes | None, deadline: Deadline) -> Body:
        return self._around(
            "get", deadline, lambda: self._inner.get(key, offset, size_bytes, token=token, deadline=deadline)
        )

    def read_link(self, key: bytes, *, deadline: Deadline) -> bytes:
        return self._around("read_link", deadline, lambda: self._inner.read_link(key, deadline=deadline))

    def put(self, key: bytes, data: bytes | Iterator[bytes], *, deadline: Deadline) -> ObjectStat:
        return self._around("put", deadline, lambda: self._inner.put(key, data, deadline=deadline))

    def delete(self, keys: list[bytes], *, deadline: Deadline) -> None:
        self._around("delete", deadline, lambda: self._inner.delete(keys, deadline=deadline))

    def check(self, *, deadline: Deadline) -> None:
        self._around("check", deadline, lambda: self._inner.check(deadline=deadline))

    def refresh_credentials(self) -> None:
        """See ``base.Refreshable``; nothing where the driver has no credentials."""
        if isinstance(self._inner, Refreshable):
            self._inner.refresh_credentials()

    def block_gets(self) -> BlockGets | None:
        """See ``base.HasBlockGets``; a layer that has to do with every GET does its part, or says None."""
        return self._inner.block_gets() if isinstance(self._inner, HasBlockGets) else None

    def close(self) -> None:
        self._inner.close()

    @abstractmethod
    def _around(self, operation: str, deadline: Deadline, call: Callable[[], T]) -> T:
        """Make the call ``operation`` (named as metrics have it) and do what this layer is for."""
