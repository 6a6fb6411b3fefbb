"""What the services of a cluster share: signals, the word that they are ready, and their end in order."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Callable
from typing import Final

from jindopy._ext.iobuf import limit_heap
from jindopy.base import logs
from jindopy.config.cluster import ControlSettings, LogSettings
from jindopy.modes.mount import ENDING_SIGNALS, GIL_SWITCH_SECONDS, MALLOC_ARENAS
from jindopy.rpc.channel import Security

LOG = logging.getLogger("jindopy.cluster")

GRACE_SECONDS: Final = 2.0
"""Calls that run may take so long at the end."""


def security(control: ControlSettings) -> Security:
    """Settings as the rooms take them."""
    return Security(
        control.token_file, control.certificate_file, control.key_file, control.authority_file, control.plaintext
    )


def prepare(log: LogSettings) -> None:
    """Before any thread exists: signals are for ``serve`` alone, and logs go where they should."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    sys.setswitchinterval(GIL_SWITCH_SECONDS)
    limit_heap(MALLOC_ARENAS)
    logs.configure(log.file, log.format, log.level)


def serve(name: str, build: Callable[[contextlib.ExitStack], str], ready: Callable[[str], None]) -> None:
    """Build all parts, say where they are, and serve until a signal; parts close in reverse."""
    with contextlib.ExitStack() as parts:
        address = build(parts)
        LOG.info("%s is ready at %s", name, address)
        ready(address)
        number = signal.sigwait(ENDING_SIGNALS)
        LOG.info("%s: the %s ends", signal.Signals(number).name, name)
