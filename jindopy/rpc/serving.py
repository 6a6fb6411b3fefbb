"""What servicers do with errors: a JindoError ends the call under its name, anything else is for the log here."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import grpc

from jindopy.base.errors import JindoError
from jindopy.rpc.errors import outward

LOG = logging.getLogger("jindopy.rpc")

_INTERNAL: Final = "internal error; the log of the process that was asked says more"

Request = TypeVar("Request")
Reply = TypeVar("Reply")


def answering(
    method: Callable[[Any, Request, grpc.ServicerContext], Reply],
) -> Callable[[Any, Request, grpc.ServicerContext], Reply]:
    """Errors of a unary call, translated."""

    @functools.wraps(method)
    def call(self: Any, request: Request, context: grpc.ServicerContext) -> Reply:
        with _translated(method.__name__, context):
            return method(self, request, context)

    return call


def streaming(
    method: Callable[[Any, Request, grpc.ServicerContext], Iterator[Reply]],
) -> Callable[[Any, Request, grpc.ServicerContext], Iterator[Reply]]:
    """Errors of a stream, translated."""

    @functools.wraps(method)
    def call(self: Any, request: Request, context: grpc.ServicerContext) -> Iterator[Reply]:
        with _translated(method.__name__, context):
            yield from method(self, request, context)

    return call


@contextlib.contextmanager
def _translated(name: str, context: grpc.ServicerContext) -> Iterator[None]:
    error: JindoError
    try:
        yield
        return
    except JindoError as raised:
        error = raised
    except Exception:
        LOG.exception("%s failed unexpectedly", name)
        context.abort(grpc.StatusCode.INTERNAL, _INTERNAL)
    code, text, metadata = outward(error)
    context.set_trailing_metadata(metadata)
    context.abort(code, text)
