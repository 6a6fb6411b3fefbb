"""What the llfuse transport makes of errors: an exception that is no FUSEError would end the whole mount."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any, cast

import llfuse
import pytest

from jindopy.base.errors import AccessDenied, NoSuchEntry
from jindopy.base.ident import Kind
from jindopy.fuse.crew import Crew
from jindopy.fuse.llfuse_transport import _Operations
from jindopy.vfs.operations import DirEntry, Vfs


class FailingVfs:
    """Fails every request with one error; a listing after its first entry."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def readdir(self, handle: int, cookie: int) -> Iterator[DirEntry]:
        yield DirEntry(b".", 1, Kind.DIRECTORY, 1)
        raise self._error

    def __getattr__(self, name: str) -> Any:
        def fail(*_: object) -> None:
            raise self._error

        return fail


def operations(error: Exception) -> _Operations:
    return _Operations(cast(Vfs, FailingVfs(error)), Crew(lambda: None, 1))


REQUESTS = {
    "lookup": (1, b"name", None),
    "getattr": (1, None),
    "forget": ([(1, 1)],),
    "releasedir": (1,),
    "open": (1, 0, None),
    "release": (1,),
    "getxattr": (1, b"user.jindo.etag", None),
    "listxattr": (1, None),
}
"""Those that do not wait: without a mount there is no lock of llfuse to let go of."""


@pytest.mark.parametrize("name", [name for name in REQUESTS if name != "lookup"])
def test_every_error_has_its_number(name: str) -> None:
    with pytest.raises(llfuse.FUSEError) as refused:
        getattr(operations(NoSuchEntry("no such inode")), name)(*REQUESTS[name])
    assert refused.value.errno == errno.ENOENT


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.expect_log("failed unexpectedly; the caller got EIO")
def test_a_bug_is_eio_and_leaves_a_trace(name: str) -> None:
    with pytest.raises(llfuse.FUSEError) as refused:
        getattr(operations(RuntimeError("a bug")), name)(*REQUESTS[name])
    assert refused.value.errno == errno.EIO


@pytest.mark.parametrize(
    ("error", "number"),
    [
        pytest.param(AccessDenied("refused"), errno.EACCES, marks=pytest.mark.expect_log("readdir failed: refused")),
        pytest.param(KeyError(7), errno.EIO, marks=pytest.mark.expect_log("readdir failed unexpectedly")),
    ],
)
def test_a_listing_that_fails_in_its_middle(error: Exception, number: int) -> None:
    entries = operations(error).readdir(1, 0)
    assert next(entries)[0] == b"."
    with pytest.raises(llfuse.FUSEError) as refused:
        next(entries)
    assert refused.value.errno == number


def test_what_the_application_asks_for_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    made = operations(NoSuchEntry("absent"))
    with pytest.raises(llfuse.FUSEError):
        made.getattr(1, None)
    assert caplog.records == []
    assert made.requests == 1
