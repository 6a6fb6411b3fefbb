"""Buckets whose keys and contents are made by a formula: a million objects without a file.

``name=meta,prefixes=200,objects=1000,size=100kB``: keys ``p000/o000000`` to ``p199/o000999`` (``prefixes=0``: flat).
Content: a tile of 1 MiB pseudo-random bytes, repeated for ever; object number n begins at offset ``4099 n`` of the
repetition (modulo the tile), so neighbours differ.  The tile lives in a memfd, so that ``sendfile`` serves it as any
file; ``content`` is the same as bytes, for tests.  ETag and CRC are true of the content in that two objects with the
same bytes have the same CRC; the ETag is made from bucket, key and size.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from jindopy._ext.crc64 import combine, crc64
from jindopy.base.errors import ConfigError
from jindopy.base.units import parse_size
from jindopy.emulator.answers import FileBody
from jindopy.emulator.errors import Refused, no_such_bucket, no_such_key
from jindopy.emulator.listing import Directory
from jindopy.emulator.names import check_bucket_name
from jindopy.emulator.objects import ObjectInfo

TILE_BYTES: Final = 1 << 20
STEP_BYTES: Final = 4099
"""A prime near the page size: neighbours begin at different offsets in a page, and all 2**20 offsets occur."""

MTIME_NS: Final = 1_700_000_000_000_000_000
SEED: Final = 20


@dataclass(frozen=True, slots=True)
class SyntheticBucket:
    """One bucket's formula."""

    name: str
    prefixes: int
    """0: all objects lie at the top."""
    objects: int
    """Of each prefix."""
    size_bytes: int

    @classmethod
    def parse(cls, text: str) -> SyntheticBucket:
        """From ``name=...,prefixes=...,objects=...,size=...``; raises ConfigError."""
        values = {"name": "synthetic", "prefixes": "0", "objects": "1000", "size": "100kB"}
        for part in text.split(","):
            name, equals, value = part.strip().partition("=")
            if not equals or name not in values:
                raise ConfigError(f"--synthetic: {part!r}: write name=NAME,prefixes=200,objects=1000,size=100kB")
            values[name] = value
        try:
            check_bucket_name(values["name"])
            counts = [int(values[name]) for name in ("prefixes", "objects")]
        except Refused as refused:
            raise ConfigError(f"--synthetic: {values['name']!r} is no bucket name: {refused.message}") from None
        except ValueError:
            raise ConfigError("--synthetic: prefixes and objects are whole numbers") from None
        if not 0 <= counts[0] <= 10_000 or not 0 < counts[1] <= 10_000_000:
            raise ConfigError("--synthetic: 0 to 10,000 prefixes of 1 to 10,000,000 objects are possible")
        return cls(values["name"], counts[0], counts[1], parse_size(values["size"]))

    def number(self, key: bytes) -> int:
        """The number of a key's object; -1 for a key that the formula does not make."""
        prefix, slash, name = key.rpartition(b"/")
        if bool(slash) != (self.prefixes > 0) or name[:1] != b"o" or not name[1:].isdigit():
            return -1
        group = 0
        if slash:
            if prefix[:1] != b"p" or not prefix[1:].isdigit():
                return -1
            group = int(prefix[1:])
        index = int(name[1:])
        if index >= self.objects or group >= max(1, self.prefixes) or key != self.key(group, index):
            return -1
        return group * self.objects + index

    def key(self, group: int, index: int) -> bytes:
        """The key of an object."""
        return (b"p%03d/o%06d" % (group, index)) if self.prefixes else b"o%06d" % index


class Synthetic:
    """All synthetic buckets of a server."""

    def __init__(self, buckets: Sequence[SyntheticBucket]) -> None:
        self.buckets = {bucket.name: bucket for bucket in buckets}
        self._tile = random.Random(SEED).randbytes(TILE_BYTES) if buckets else b""  # noqa: S311 (no secret)
        self._fd = -1
        if buckets:
            self._fd = os.memfd_create("synthetic-tile", os.MFD_CLOEXEC)
            os.write(self._fd, self._tile)
        self._directories: dict[tuple[str, bytes], Directory] = {}
        self._crc_of: Callable[[int, int], int] = lru_cache(maxsize=100_000)(self._crc)

    def open(self, bucket: str, key: bytes) -> tuple[FileBody, ObjectInfo]:
        """Body and facts of an object; raises Refused."""
        formula = self.buckets[bucket]
        number = formula.number(key)
        if number < 0:
            raise no_such_key(key)
        start = number * STEP_BYTES % TILE_BYTES
        info = self._info(formula, key)
        info.crc64 = self._crc_of(start, info.size)
        return FileBody(self._fd, start, info.size, TILE_BYTES, owned=False), info

    def content(self, bucket: str, key: bytes) -> bytes:
        """An object's bytes."""
        body, info = self.open(bucket, key)
        repeated = self._tile * ((body.offset + info.size) // TILE_BYTES + 1)
        return repeated[body.offset : body.offset + info.size]

    @staticmethod
    def _info(formula: SyntheticBucket, key: bytes) -> ObjectInfo:
        text = b"%s %s %d" % (formula.name.encode(), key, formula.size_bytes)
        etag = blake2b(text, digest_size=16).hexdigest().upper()
        return ObjectInfo(formula.size_bytes, MTIME_NS, 0, etag, None)

    def _crc(self, start: int, size: int) -> int:
        head = self._tile[start : start + size]
        crc, left = crc64(head), size - len(head)
        if left:
            whole = crc64(self._tile)
            for _ in range(left // TILE_BYTES):
                crc = combine(crc, whole, TILE_BYTES)
            rest = self._tile[: left % TILE_BYTES]
            crc = combine(crc, crc64(rest), len(rest))
        return crc

    def directory(self, bucket: str, key: bytes) -> Directory | None:
        """A directory for listings; None when the formula makes none of that key."""
        formula = self.buckets.get(bucket)
        if formula is None:
            raise no_such_bucket(bucket)
        found = self._directories.get((bucket, key))
        if found is None:
            names = self._names(formula, key)
            if names is None:
                return None
            found = Directory(key, names, lambda index: self._info(formula, key + names[index]))
            self._directories[bucket, key] = found
        return found

    @staticmethod
    def _names(formula: SyntheticBucket, key: bytes) -> list[bytes] | None:
        if not formula.prefixes:
            return None if key else sorted(formula.key(0, index) for index in range(formula.objects))
        if not key:
            return sorted(b"p%03d/" % group for group in range(formula.prefixes))
        if formula.number(key + b"o000000") < 0:
            return None
        return sorted(b"o%06d" % index for index in range(formula.objects))

    @staticmethod
    def has_objects(bucket: str, key: bytes) -> bool:
        """Every prefix the formula makes has objects."""
        return bool(bucket and key)
