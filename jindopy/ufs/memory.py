"""A UFS in memory, for tests and demonstrations: strong tokens, versions, symbolic links, steerable from outside.

``memory://name`` names one store of this process: two drivers of one name see the same objects, as two clients of one
bucket do.  A store lives until the process ends or ``forget`` drops it.  Every call takes the store's one lock for the
time of a dictionary look-up; a body keeps the bytes of its version, so it can be read after an overwrite.

``on_call`` lets a test change the store between two calls of whatever is under test: it is called with the operation's
name and key before each call, without the lock.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, final

from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import BadAnswer, KeyRefused, ObjectNotFound, VersionChanged
from jindopy.base.ident import Kind, UfsId
from jindopy.ufs.base import Capability, ListPage, ObjectStat
from jindopy.ufs.bodies import ToldBody
from jindopy.ufs.uri import UfsUri

KEY_BYTES_MAX = 1023
"""As OSS has it, so that tests meet the limit here first."""


class _Stored(NamedTuple):
    data: bytes
    mtime_ns: int
    token: bytes
    kind: Kind


@final
class MemoryStore:
    """The objects behind one name."""

    def __init__(self, clock: Clock = REAL_CLOCK) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._objects: dict[bytes, _Stored] = {}
        self._keys: list[bytes] = []
        self._writes = 0

    def put(self, key: bytes, data: bytes, kind: Kind = Kind.FILE) -> ObjectStat:
        """Write or overwrite; every write makes a new token, even with equal bytes."""
        with self._lock:
            self._writes += 1
            stored = _Stored(bytes(data), self._clock.wall_ns(), b"W%015X" % self._writes, kind)
            if key not in self._objects:
                bisect.insort(self._keys, key)
            self._objects[key] = stored
        return _stat(key, stored)

    def delete(self, key: bytes) -> None:
        """Forget an object; a missing one is no error."""
        with self._lock:
            if self._objects.pop(key, None) is not None:
                del self._keys[bisect.bisect_left(self._keys, key)]

    def find(self, key: bytes) -> _Stored | None:
        """The object as it is now."""
        with self._lock:
            return self._objects.get(key)

    def page(self, prefix: bytes, delimiter: bool, after: bytes, limit: int) -> ListPage:
        """Entries above ``after`` in key order, at most ``limit`` of them."""
        objects: list[ObjectStat] = []
        prefixes: list[bytes] = []
        with self._lock:
            index = bisect.bisect_right(self._keys, after) if after else bisect.bisect_left(self._keys, prefix)
            last = after
            while index < len(self._keys) and (key := self._keys[index]).startswith(prefix):
                cut = key.find(b"/", len(prefix)) if delimiter else -1
                entry = key[: cut + 1] if cut >= 0 else key
                if entry == after:  # the rest of a common prefix that the page before ended with
                    index = bisect.bisect_left(self._keys, _successor(entry))
                    continue
                if len(objects) + len(prefixes) >= limit:
                    return ListPage(objects, prefixes, last.hex())
                last = entry
                if cut >= 0:
                    prefixes.append(entry)
                    index = bisect.bisect_left(self._keys, _successor(entry))
                else:
                    objects.append(_stat(key, self._objects[key]))
                    index += 1
        return ListPage(objects, prefixes, "")


def _successor(prefix: bytes) -> bytes:
    """The first key above everything that starts with ``prefix``, which ends in ``/``."""
    return prefix[:-1] + b"0"


def _stat(key: bytes, stored: _Stored) -> ObjectStat:
    return ObjectStat(key, len(stored.data), stored.mtime_ns, stored.token, stored.kind)


_stores: dict[str, MemoryStore] = {}
_stores_lock = threading.Lock()


def store(name: str) -> MemoryStore:
    """The store of that name, made on first use."""
    with _stores_lock:
        return _stores.setdefault(name, MemoryStore())


def forget(name: str) -> None:
    """Drop a store; drivers that have it keep it."""
    with _stores_lock:
        _stores.pop(name, None)


@final
class _MemoryBody(ToldBody):
    def __init__(self, data: memoryview, token: bytes, object_bytes: int, deadline: Deadline) -> None:
        super().__init__(token, object_bytes)
        self._data = data
        self._at = 0
        self._deadline = deadline

    def readinto(self, target: memoryview) -> int:
        self._deadline.check("memory get")
        part = self._data[self._at : self._at + len(target)]
        target[: len(part)] = part
        self._at += len(part)
        return len(part)

    def close(self) -> None:
        self._data = memoryview(b"")


@final
class MemoryDriver:
    """Driver over a MemoryStore."""

    def __init__(self, name: str, objects: MemoryStore | None = None) -> None:
        self._name = name
        self.store = objects if objects is not None else store(name)
        self.on_call: Callable[[str, bytes], None] | None = None

    @property
    def scheme(self) -> str:
        return "memory"

    @property
    def ufs_id(self) -> UfsId:
        return UfsId(f"memory://{self._name}")

    @property
    def endpoint(self) -> str:
        return f"memory://{self._name}"

    @property
    def capabilities(self) -> Capability:
        return (
            Capability.CONDITIONAL_GET
            | Capability.STRONG_TOKEN
            | Capability.FLAT_LIST
            | Capability.SYMLINK
            | Capability.WRITE
        )

    def stat(self, key: bytes, *, deadline: Deadline) -> ObjectStat:
        return _stat(key, self._found("stat", key, deadline))

    def list_page(
        self, prefix: bytes, *, delimiter: bool, cursor: str = "", limit: int = 1000, deadline: Deadline
    ) -> ListPage:
        self._enter("list", prefix, deadline)
        try:
            after = bytes.fromhex(cursor)
        except ValueError:
            raise BadAnswer(f"not a cursor of this driver: {cursor!r}", endpoint=self.endpoint) from None
        return self.store.page(prefix, delimiter, after, max(1, limit))

    def get(self, key: bytes, offset: int, size_bytes: int, *, token: bytes | None, deadline: Deadline) -> _MemoryBody:
        stored = self._found("get", key, deadline)
        if token is not None and token != stored.token:
            raise VersionChanged("the object was overwritten", endpoint=self.endpoint, key=key)
        if offset < 0 or size_bytes < 0 or offset + size_bytes > len(stored.data):
            raise BadAnswer(
                f"range {offset}+{size_bytes} is beyond the object's {len(stored.data)} bytes",
                endpoint=self.endpoint,
                key=key,
            )
        data = memoryview(stored.data)[offset : offset + size_bytes]
        return _MemoryBody(data, stored.token, len(stored.data), deadline)

    def read_link(self, key: bytes, *, deadline: Deadline) -> bytes:
        stored = self._found("read_link", key, deadline)
        if stored.kind is not Kind.SYMLINK:
            raise ObjectNotFound("not a symbolic link", endpoint=self.endpoint, key=key)
        return stored.data

    def put(self, key: bytes, data: bytes | Iterator[bytes], *, deadline: Deadline) -> ObjectStat:
        self._enter("put", key, deadline)
        self._accept(key)
        return self.store.put(key, data if isinstance(data, bytes) else b"".join(data))

    def delete(self, keys: list[bytes], *, deadline: Deadline) -> None:
        for key in keys:
            self._enter("delete", key, deadline)
            self.store.delete(key)

    def check(self, *, deadline: Deadline) -> None:
        self._enter("check", b"", deadline)

    def close(self) -> None:
        """Nothing to drop."""

    def _enter(self, operation: str, key: bytes, deadline: Deadline) -> None:
        deadline.check(f"memory {operation}")
        if self.on_call is not None:
            self.on_call(operation, key)

    def _accept(self, key: bytes) -> None:
        if not key or len(key) > KEY_BYTES_MAX:
            raise KeyRefused(f"a key has 1 to {KEY_BYTES_MAX} bytes", endpoint=self.endpoint, key=key)

    def _found(self, operation: str, key: bytes, deadline: Deadline) -> _Stored:
        self._enter(operation, key, deadline)
        self._accept(key)
        stored = self.store.find(key)
        if stored is None:
            raise ObjectNotFound("no such object", endpoint=self.endpoint, key=key)
        return stored


def open_uri(uri: UfsUri, _options: Mapping[str, str], _credentials: object) -> MemoryDriver:
    """Driver for ``memory://name``."""
    return MemoryDriver(uri.authority)
