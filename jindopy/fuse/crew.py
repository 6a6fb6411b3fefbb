"""How many threads read requests from the kernel: one while all is fast, more while some wait.

llfuse gives each thread a loop "receive, answer, receive ..." and no way to leave it.  With many such threads the
kernel hands consecutive requests to different ones, and each hand-over costs a fight for the GIL: measured on 2 cores,
a cached 100 kB file cost 80 us of CPU with one thread and 160-250 us with 32.  With one thread, one slow read would
stop the whole mount.  So the crew keeps IDLE_THREADS receiving:

    a thread about to wait (``waiting``)   another is woken from the bench, or hired, before it does
    a thread that has waited               receives again; that makes one too many
    one too many                           the next thread that answers goes to the bench: its answer is wrapped so
                                           that dropping it, which llfuse does after the reply was sent, blocks the
                                           thread until it is needed (``bench``)

Bounds: ``threads_max`` threads; when all wait, requests queue in the kernel.  Locks: one, held for counting only.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Final, final

IDLE_THREADS: Final = 1
"""Threads that receive while nobody waits; two cost half as much again (see above)."""


@final
class Crew:
    """Counts receiving, waiting and benched threads."""

    def __init__(self, hire: Callable[[], None], threads_max: int, threads: int = 1) -> None:
        """``hire`` starts one more thread, up to ``threads_max``; ``threads`` are there already."""
        self._hire = hire
        self._threads_max = threads_max
        self._lock = threading.Lock()
        self._called = threading.Condition(self._lock)
        self._threads = threads
        self._waiting = 0
        self._benched = 0
        self._calls = 0
        self._dismissed = False
        self.surplus = False
        """More threads receive than need be: whoever answers next should go to the bench."""

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what may take long: somebody else receives meanwhile."""
        hire = False
        with self._lock:
            self._waiting += 1
            if self._receiving() < IDLE_THREADS:
                if self._benched > self._calls:
                    self._calls += 1
                    self._called.notify()
                elif self._threads < self._threads_max and not self._dismissed:
                    self._threads += 1
                    hire = True
            self._judge()
        if hire:
            self._hire()
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                self._judge()

    def bench(self) -> None:
        """Called after an answer was sent: wait here if there are threads enough."""
        with self._lock:
            if self._dismissed or self._receiving() <= IDLE_THREADS:
                self._judge()
                return
            self._benched += 1
            self._judge()
            while not self._calls and not self._dismissed:
                self._called.wait()
            if self._calls:
                self._calls -= 1
            self._benched -= 1
            self._judge()

    def dismiss(self) -> None:
        """Let everybody go: the session has ended."""
        with self._lock:
            self._dismissed = True
            self.surplus = False
            self._called.notify_all()

    def __len__(self) -> int:
        return self._threads

    def _receiving(self) -> int:
        return self._threads - self._waiting - (self._benched - self._calls)

    def _judge(self) -> None:
        self.surplus = not self._dismissed and self._receiving() > IDLE_THREADS
