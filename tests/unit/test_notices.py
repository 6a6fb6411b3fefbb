"""News for the kernel: told by one thread, whoever brings them goes on."""

from __future__ import annotations

import threading

from jindopy.base.ident import NodeId
from jindopy.fuse.notices import Notices


class Kernel:
    """Answers calls once it is told to."""

    def __init__(self) -> None:
        self.told: list[tuple[int, bytes | None]] = []
        self.threads: set[str] = set()
        self.asked = threading.Event()
        self.answers = threading.Event()

    def entry(self, directory: int, name: bytes) -> None:
        self._tell(directory, name)

    def content(self, nodeid: int) -> None:
        self._tell(nodeid, None)

    def _tell(self, nodeid: int, name: bytes | None) -> None:
        self.asked.set()
        assert self.answers.wait(10)
        self.threads.add(threading.current_thread().name)
        self.told.append((nodeid, name))


def test_who_brings_news_does_not_wait_and_nothing_is_told_twice_for_nothing() -> None:
    kernel = Kernel()
    notices = Notices(entry=kernel.entry, content=kernel.content)
    notices.content_changed(NodeId(7))
    assert kernel.asked.wait(10)
    for _ in range(3):  # the kernel does not answer yet
        notices.entry_changed(NodeId(1), b"a")
        notices.content_changed(NodeId(7))  # may have changed since the call that is under way began
        notices.content_changed(NodeId(8))
    kernel.answers.set()
    notices.close()
    assert kernel.told == [(7, None), (1, b"a"), (7, None), (8, None)]
    assert kernel.threads == {"notices"}


def test_a_kernel_that_never_answers_does_not_keep_the_mount_from_ending() -> None:
    kernel = Kernel()
    notices = Notices(entry=kernel.entry, content=kernel.content)
    try:
        notices.entry_changed(NodeId(1), b"a")
        notices.close()
        notices.close()
        assert kernel.told == []
    finally:
        kernel.answers.set()
