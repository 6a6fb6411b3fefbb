"""Getting a FUSE descriptor from ``fusermount3``, which may mount for everybody who may use /dev/fuse.

The program mounts and hands the descriptor over a socket whose number it finds in ``_FUSE_COMMFD`` (fusermount3(1),
libfuse's own way).  It is a process of a moment: nothing of it stays.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Sequence
from typing import Final

from jindopy.base.errors import MountPointError

PROGRAM: Final = "fusermount3"
TIMEOUT_SECONDS: Final = 20.0
"""It asks no one but the kernel; on a mount point that hangs it would wait for ever."""


def attach(mount_point: str, options: Sequence[str]) -> int:
    """Mount; returns the descriptor.  Raises MountPointError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        with theirs:
            try:
                process = subprocess.Popen(  # noqa: S603
                    [PROGRAM, "-o", ",".join(options), "--", mount_point],
                    env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="backslashreplace",
                )
            except OSError as error:
                raise MountPointError(f"cannot run {PROGRAM}: {error.strerror}; install the package fuse3") from None
        ours.settimeout(TIMEOUT_SECONDS)
        descriptors: list[int] = []
        with contextlib.suppress(OSError):
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    said = _end(process)
    if not descriptors:
        why = said.removeprefix(f"{PROGRAM}: ") or f"{PROGRAM} did not answer in {TIMEOUT_SECONDS:.0f} s"
        raise MountPointError(f"cannot mount at {mount_point}: {why}; run 'jindopy doctor' to see what is missing")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def _end(process: subprocess.Popen[str]) -> str:
    """What the program said, on one line."""
    try:
        _, said = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
    return " ".join(said.split())
