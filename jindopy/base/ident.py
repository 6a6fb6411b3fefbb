"""Typed identities, so that the type checker refuses a key where a path is due.

*Key* is the name of an object in its UFS, *path* is where it shows in the mounted tree; both are bytes, because that is
what file systems hold.  A *token* tells one state (version) of an object from all others: the etag as sent without its
quotes, or ``size-mtime_ns`` where a store has no etag.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from typing import Final, NamedTuple, NewType

Inode = NewType("Inode", int)
"""Number of a file or directory in the namespace; persists across mounts."""

NodeId = NewType("NodeId", int)
"""Number by which the kernel asks for one version of a file; never reused within a mount."""

BlockIndex = NewType("BlockIndex", int)
"""Number of a block within its object, from 0."""

Epoch = NewType("Epoch", int)
"""Counts a master's lives; what an older epoch said is void."""

UfsId = NewType("UfsId", str)
"""Names a UFS without anything that may differ between its users (see ``Driver.ufs_id``)."""

MountId = NewType("MountId", int)
"""Row number in the mount table of a namespace."""

Cid = NewType("Cid", bytes)
"""16 bytes that name one version of one object everywhere: cache file, placement, cache map."""

ROOT_INODE: Final = Inode(1)

BLOCK_BYTES: Final = 1 << 20
"""Unit of fetching, caching and checksums (1 MiB): one GET's overhead is below 2 % of its transfer at 100 MB/s, and a
random 4 KiB read costs at most 10 ms of such a link."""

EXTENT_BYTES: Final = 256 << 20
"""Unit of placement only: small enough to spread one model file over workers, large enough that a million-file
dataset needs one entry a file."""

CID_BYTES: Final = 16


class Kind(enum.IntEnum):
    """What an inode is; stored in the namespace, so numbers never change."""

    FILE = 0
    DIRECTORY = 1
    SYMLINK = 2


def mount_point_id(mount_point: str) -> str:
    """Names a mount everywhere outside its tree (state, socket, log): 12 hex digits from its real mount point."""
    return hashlib.blake2b(mount_point.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def make_cid(ufs_id: UfsId, key: bytes, token: bytes) -> Cid:
    """BLAKE2b-128 over ``ufs_id``, ``key`` and ``token``, each behind its length (u32, little endian)."""
    digest = hashlib.blake2b(digest_size=CID_BYTES)
    for field in (ufs_id.encode(), key, token):
        digest.update(struct.pack("<I", len(field)))
        digest.update(field)
    return Cid(digest.digest())


class FileVersion(NamedTuple):
    """One state of one object: all that is needed to fetch, check and cache its bytes."""

    mount: MountId
    ufs_id: UfsId
    key: bytes
    token: bytes
    size: int
    """Bytes."""
    cid: Cid
    inode: Inode = Inode(0)
    """Where the namespace keeps it; 0 when it is not known.  No part of the identity, nor is ``number``."""
    number: int = 0
    """The namespace's count of this inode's versions (``namespace.api.Node.version``)."""

    @classmethod
    def of(
        cls,
        mount: MountId,
        ufs_id: UfsId,
        key: bytes,
        token: bytes,
        size: int,
        inode: Inode = Inode(0),
        number: int = 0,
    ) -> FileVersion:
        """Build it and compute the cid."""
        return cls(mount, ufs_id, key, token, size, make_cid(ufs_id, key, token), inode, number)

    @property
    def block_count(self) -> int:
        """Number of blocks; the last one may be short, an empty object has none."""
        return -(-self.size // BLOCK_BYTES)

    def block_bytes(self, index: BlockIndex) -> int:
        """Length of block ``index`` in bytes."""
        return min(BLOCK_BYTES, self.size - index * BLOCK_BYTES)
