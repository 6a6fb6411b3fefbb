"""Tickets (P): who holds one may read blocks of the mounts it names, until it expires.

A ticket is bytes signed with HMAC-SHA256 by a key that whoever signs and all servers share; servers hold several keys
by id, so that keys can be changed without a gap.  It is shown once, when a connection opens; what is open stays open.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from jindopy.base.errors import TicketRefused
from jindopy.dataplane.frames import TICKET_BYTES_MAX

TICKET_VERSION: Final = 1
LIFETIME_SECONDS: Final = 600
"""Long enough for a client to fetch the next one in time, short enough that a leaked one is soon worth nothing."""
SKEW_SECONDS: Final = 60
"""What the clocks of two machines may differ by."""
KEY_BYTES_MIN: Final = 32
_HEAD = struct.Struct("<BBHQ")
_SIGNATURE_BYTES = hashlib.sha256().digest_size
_MOUNT = struct.Struct("<Q")


class Ticket(NamedTuple):
    """What a good ticket says."""

    key_id: str
    mounts: frozenset[int]
    """Owner tags of the block store (``cache.store.owner_tag``) that may be read."""
    expires_at: int
    """Seconds since 1970."""


def sign(key_id: str, secret: bytes, mounts: Iterable[int], now_seconds: float) -> bytes:
    """A ticket that is good from now on."""
    if len(secret) < KEY_BYTES_MIN:
        raise ValueError(f"a ticket key has at least {KEY_BYTES_MIN} bytes")
    name = key_id.encode()
    tags = sorted(set(mounts))
    if not 1 <= len(name) <= 64 or not tags:
        raise ValueError("a ticket needs a key id of 1 to 64 bytes and a mount")
    signed = _HEAD.pack(TICKET_VERSION, len(name), len(tags), int(now_seconds) + LIFETIME_SECONDS)
    signed += name + b"".join(_MOUNT.pack(tag) for tag in tags)
    ticket = signed + _digest(secret, signed)
    if len(ticket) > TICKET_BYTES_MAX:
        raise ValueError(f"{len(tags)} mounts are too many for one ticket")
    return ticket


def check(ticket: bytes, keys: Mapping[str, bytes], now_seconds: float) -> Ticket:
    """What the ticket says, or TicketRefused with the reason.  Nothing of it is believed before its signature."""
    signed, signature = ticket[:-_SIGNATURE_BYTES], ticket[-_SIGNATURE_BYTES:]
    if len(signed) < _HEAD.size:
        raise TicketRefused("the ticket is too short")
    version, name_bytes, mounts, expires_at = _HEAD.unpack_from(signed)
    if version != TICKET_VERSION:
        raise TicketRefused(f"tickets of version {version} are not known here")
    if len(signed) != _HEAD.size + name_bytes + mounts * _MOUNT.size or not mounts:
        raise TicketRefused("the ticket's length is wrong")
    name = signed[_HEAD.size : _HEAD.size + name_bytes].decode("utf-8", "replace")
    secret = keys.get(name)
    if secret is None or not hmac.compare_digest(signature, _digest(secret, signed)):
        raise TicketRefused("the ticket is signed by no key of this server")
    if now_seconds > expires_at + SKEW_SECONDS:
        raise TicketRefused(f"the ticket expired {now_seconds - expires_at:.0f} s ago")
    if expires_at > now_seconds + LIFETIME_SECONDS + SKEW_SECONDS:
        raise TicketRefused("the ticket is of the future: the clock of who signed it, or of this server, is wrong")
    tags = struct.unpack_from(f"<{mounts}Q", signed, _HEAD.size + name_bytes)
    return Ticket(name, frozenset(tags), expires_at)


def _digest(secret: bytes, signed: bytes) -> bytes:
    return hmac.digest(secret, b"JINDODAT ticket\0" + signed, "sha256")
