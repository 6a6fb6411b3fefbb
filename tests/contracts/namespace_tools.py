"""What the namespace suites share: mounts as they ask for them, readers, a gate that stops a listing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from jindopy.base.clock import Deadline
from jindopy.base.ident import ROOT_INODE, Inode
from jindopy.namespace.api import DirPage, MasterApi, Node
from jindopy.ufs.memory import MemoryDriver, MemoryStore

WAIT_SECONDS = 20.0


@dataclass
class Wanted:
    """A mount as the suite asks for it."""

    driver: MemoryDriver
    path: bytes = b""
    prefix: bytes = b""
    ttl_seconds: float = float("inf")


class Make(Protocol):
    def __call__(self, *mounts: Wanted) -> AbstractContextManager[MasterApi]: ...


class Changes:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.directories: list[Inode] = []
        self._told = threading.Condition()

    def directory_changed(self, directory: Inode, generation: int) -> None:
        assert generation > 0
        with self._told:
            self.directories.append(directory)
            self._told.notify_all()

    def everything_changed(self) -> None:
        raise AssertionError("no news were missed")

    def first(self, count: int) -> list[Inode]:
        """All that was told once it is so many: news from another process come when they come."""
        with self._told:
            self._told.wait_for(lambda: len(self.directories) >= count, WAIT_SECONDS)
        return self.directories


def soon() -> Deadline:
    return Deadline.after(WAIT_SECONDS)


def new_driver(*keys: bytes) -> MemoryDriver:
    driver = MemoryDriver("contract", MemoryStore())
    for key in keys:
        driver.store.put(key, b"x" * len(key))
    return driver


def pages(master: MasterApi, inode: Inode, refresh: bool = False) -> list[DirPage]:
    return list(master.read_dir(inode, deadline=soon(), refresh=refresh))


def listed(master: MasterApi, inode: Inode, refresh: bool = False) -> dict[bytes, Node]:
    stream = pages(master, inode, refresh)
    assert [page.last for page in stream] == [False] * (len(stream) - 1) + [True]
    assert len({page.generation for page in stream}) == 1
    nodes = [node for page in stream for node in page.nodes]
    by_name = {node.name: node for node in nodes}
    assert len(by_name) == len(nodes), "a name came twice"
    return by_name


def find(master: MasterApi, path: bytes) -> Node:
    return master.resolve(path, deadline=soon())


def paths(master: MasterApi, inode: Inode = ROOT_INODE) -> list[bytes]:
    return sorted(path for path, _ in master.walk(inode))


def counting(driver: MemoryDriver) -> list[tuple[str, bytes]]:
    calls: list[tuple[str, bytes]] = []
    driver.on_call = lambda operation, key: calls.append((operation, key))
    return calls


class Gate:
    """Stops a driver's listing of one prefix after some pages until the test lets it go on."""

    def __init__(self, driver: MemoryDriver, prefix: bytes, after_pages: int) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        self.error: Exception | None = None
        self._prefix, self._left = prefix, after_pages
        driver.on_call = self._call

    def _call(self, operation: str, key: bytes) -> None:
        if operation != "list" or key != self._prefix:
            return
        self._left -= 1
        if self._left < 0:
            self.reached.set()
            assert self.open.wait(WAIT_SECONDS)
            if self.error is not None:
                raise self.error


def in_threads(works: Iterable[Callable[[], object]]) -> None:
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()
    if errors:
        raise errors[0]
