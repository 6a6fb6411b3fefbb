"""Ending a mount: drain, detach, and cut what will not let go.

    umount ──busy──▶ again until the drain is over ──▶ abort our own connection ──▶ lazy umount

A mount that nobody uses goes at the first try.  The abort fails the requests of whoever still holds files, so that the
daemon can end and its cache is closed in order; the lazy umount makes the path usable again at once.
"""

from __future__ import annotations

import logging
from typing import Final

from jindopy.base import mountinfo
from jindopy.base.clock import Clock, Deadline
from jindopy.base.errors import MountPointError

LOG = logging.getLogger("jindopy.fuse")

RETRY_SECONDS: Final = 0.05
"""Between two tries: short beside a human's patience, long beside an umount's cost (under 1 ms)."""


def detach(mount_point: str, drain_seconds: float, clock: Clock) -> None:
    """Take our mount away within ``drain_seconds`` and a moment, whoever uses it.  Harmless when it is gone."""
    deadline = Deadline.after(drain_seconds, clock)
    while True:
        entry = mountinfo.at(mount_point, mountinfo.read())
        if entry is None or entry.fs_type != mountinfo.FS_TYPE:
            return
        try:
            mountinfo.unmount(mount_point)
            return
        except (OSError, MountPointError) as error:
            if deadline.passed:
                LOG.warning(
                    "%s is in use (%s): detaching it all the same, open files end with an error", mount_point, error
                )
                break
        clock.sleep(RETRY_SECONDS)
    try:
        mountinfo.abort(entry)
        mountinfo.unmount(mount_point, lazy=True)
    except OSError as error:
        # A forced umount may have taken it away already.
        LOG.debug("%s: %s", mount_point, error)
    except MountPointError as error:
        LOG.warning("%s", error)
