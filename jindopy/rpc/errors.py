"""Errors on both ends of a call: a JindoError becomes a status and its class's name, and a JindoError again.

Only classes of the table below travel by name; what else a server raises is an internal error of its own, whose text
stays in its log.  A status without a name comes from the way there: the peer is gone, or too slow.
"""

from __future__ import annotations

from typing import Final, cast

import grpc

from jindopy.base import errors
from jindopy.base.errors import BadFrame, DeadlineExceeded, JindoError, PeerError, PeerGone

ERROR_KEY: Final = "jindo-error"
"""Metadata behind a failed call: the error's class."""
_TEXT_CHARACTERS_MAX: Final = 1000

_TRAVELLERS: Final[dict[type[JindoError], grpc.StatusCode]] = {
    errors.UsageError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UfsError: grpc.StatusCode.UNKNOWN,
    errors.ObjectNotFound: grpc.StatusCode.NOT_FOUND,
    errors.BucketNotFound: grpc.StatusCode.NOT_FOUND,
    errors.AccessDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.BadCredentials: grpc.StatusCode.PERMISSION_DENIED,
    errors.ClockSkewed: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotRestored: grpc.StatusCode.FAILED_PRECONDITION,
    errors.VersionChanged: grpc.StatusCode.ABORTED,
    errors.KeyRefused: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Throttled: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNKNOWN,
    errors.ShortBody: grpc.StatusCode.UNKNOWN,
    errors.BadAnswer: grpc.StatusCode.UNKNOWN,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.TicketRefused: grpc.StatusCode.PERMISSION_DENIED,
    errors.CacheError: grpc.StatusCode.UNKNOWN,
    errors.CacheFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.CacheCorrupt: grpc.StatusCode.DATA_LOSS,
    errors.ObjectCorrupt: grpc.StatusCode.DATA_LOSS,
    errors.NamespaceError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NoSuchEntry: grpc.StatusCode.NOT_FOUND,
    errors.NameTooLong: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotADirectory: grpc.StatusCode.FAILED_PRECONDITION,
    errors.IsADirectory: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StaleVersion: grpc.StatusCode.ABORTED,
    errors.ReadOnly: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NamespaceCorrupt: grpc.StatusCode.DATA_LOSS,
}
_BY_NAME: Final = {kind.__name__: kind for kind in _TRAVELLERS}


def outward(error: JindoError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Status, text and metadata for an error that ends a call."""
    for kind in type(error).__mro__:
        if kind in _TRAVELLERS:
            return _TRAVELLERS[kind], error.message[:_TEXT_CHARACTERS_MAX], ((ERROR_KEY, kind.__name__),)
    return grpc.StatusCode.INTERNAL, error.message[:_TEXT_CHARACTERS_MAX], ()


def inward(error: grpc.RpcError, endpoint: str, call: str) -> JindoError:
    """What a failed call means here; names the endpoint and the call."""
    failed = cast(grpc.Call, error)  # as every error that a call raises is, though no stub says so
    code = failed.code()
    text = (failed.details() or code.name)[:_TEXT_CHARACTERS_MAX]
    named = dict(failed.trailing_metadata() or ()).get(ERROR_KEY)
    kind = _BY_NAME.get(named) if isinstance(named, str) else None
    if kind is not None:
        return kind(text)
    where = f"{endpoint}: {call}"
    match code:
        # RESOURCE_EXHAUSTED: it is there, but all its threads are busy.
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED | grpc.StatusCode.RESOURCE_EXHAUSTED:
            return PeerGone(f"{where}: {text}")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"{where}: no answer in time")
        case grpc.StatusCode.UNAUTHENTICATED:
            return errors.BadCredentials(f"{call}: {text}", endpoint=endpoint)
        case grpc.StatusCode.UNIMPLEMENTED:
            return BadFrame(f"{where}: {text}")
        case _:
            return PeerError(f"{where}: {text}")
