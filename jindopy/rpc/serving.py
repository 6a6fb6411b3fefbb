"""What servicers do with errors: a JindoError ends the call under its name, anything else is for the log here."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn, TypeVar

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
        error: JindoError
        try:
            return method(self, request, context)
        except JindoError as raised:
            error = raised
        except Exception:
            LOG.exception("%s failed unexpectedly", method.__name__)
            context.abort(grpc.StatusCode.INTERNAL, _INTERNAL)
        _abort(context, error)

    return call


def streaming(
    method: Callable[[Any, Request, grpc.ServicerContext], Iterator[Reply]],
) -> Callable[[Any, Request, grpc.ServicerContext], Iterator[Reply]]:
    """Errors of a stream, translated."""

    @functools.wraps(method)
    def call(self: Any, request: Request, context: grpc.ServicerContext) -> Iterator[Reply]:
        error: JindoError
        try:
            yield from method(self, request, context)
            return
        except JindoError as raised:
            error = raised
        except Exception:
            LOG.exception("%s failed unexpectedly", method.__name__)
            context.abort(grpc.StatusCode.INTERNAL, _INTERNAL)
        _abort(context, error)

    return call


def _abort(context: grpc.ServicerContext, error: JindoError) -> NoReturn:
    code, text, metadata = outward(error)
    context.set_trailing_metadata(metadata)
    context.abort(code, text)
