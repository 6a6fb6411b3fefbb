"""Which worker should hold an extent.  P: weighted rendezvous hashing.

Every client computes the same order from the same workers, so nobody has to be asked.  Each pair of extent and worker
gets a number from a hash, and the worker's weight turns it into a score; the best score places the extent, the next
ones are where to go when that worker is not there.  A worker that comes takes exactly what it now scores best for, one
that goes leaves its extents to the next in their own orders: nothing else moves.

score = weight / -ln(u), with u uniform in (0, 1): the share of extents that a worker wins is its share of all weights.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from typing import Final

from jindopy.base.ident import BLOCK_BYTES, EXTENT_BYTES, Cid

BLOCKS_AN_EXTENT: Final = EXTENT_BYTES // BLOCK_BYTES
_NUMBER = struct.Struct("<Q")
_UNIT: Final = 2.0**-53


def extent_of(block: int) -> int:
    """Number of the extent that a block of an object is in."""
    return block // BLOCKS_AN_EXTENT


def rank(cid: Cid, extent: int, weights: Mapping[str, float], first: int | None = None) -> list[str]:
    """Workers by their score for an extent, best first; at most ``first`` of them.  Weights of 0 never win."""
    identity = cid + _NUMBER.pack(extent)
    scored = sorted(
        ((_score(identity, worker, weight), worker) for worker, weight in weights.items() if weight > 0), reverse=True
    )
    return [worker for _, worker in scored[:first]]


def _score(identity: bytes, worker: str, weight: float) -> float:
    digest = hashlib.blake2b(identity, key=hashlib.blake2b(worker.encode(), digest_size=32).digest(), digest_size=8)
    uniform = ((_NUMBER.unpack(digest.digest())[0] >> 11) + 0.5) * _UNIT
    return weight / -math.log(uniform)
