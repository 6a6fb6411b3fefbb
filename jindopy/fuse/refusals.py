"""What the kernel is told of an error, and what of it the user should find in the log."""

from __future__ import annotations

import errno
import logging
from typing import Final

from jindopy.base.errors import Fault, JindoError

LOG = logging.getLogger("jindopy.fuse")

EXPECTED_ERRNOS: Final = frozenset(
    {errno.ENOENT, errno.ENODATA, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
)
"""Applications ask for these; they say nothing about the mount's health."""


def refused(operation: str, error: JindoError) -> int:
    """The errno; anything a program did not ask for is logged."""
    if error.errno not in EXPECTED_ERRNOS:
        level = logging.ERROR if error.fault is Fault.US else logging.WARNING
        LOG.log(level, "%s failed: %s (%s)", operation, error, errno.errorcode.get(error.errno, error.errno))
    return error.errno
