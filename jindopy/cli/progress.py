"""How a load shows that it goes on, always on standard error: a bar on a terminal, else a line every few seconds.

A line is plain text, so that logs of jobs and containers can hold it: phase, files, bytes, rate since the data began to
come, time to go.  What is over before the first line is due prints none.  Notes of the load are told as they come.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Final, final

from jindopy.base.clock import REAL_CLOCK, Clock
from jindopy.base.units import format_duration, format_rate
from jindopy.cli.output import cached_share, count, shown, tell
from jindopy.control.api import LoadProgress

LINE_SECONDS: Final = 5.0
"""Often enough to see that it goes on, seldom enough for a log: 720 lines an hour."""

Show = Callable[[LoadProgress], None]


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Show]:
    """Something to give each state of a load to."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield Lines().show


@final
class Lines:
    """A line every ``LINE_SECONDS``."""

    def __init__(self, clock: Clock = REAL_CLOCK, tell: Callable[[str], None] = tell) -> None:
        self._clock = clock
        self._tell = tell
        self._due = clock.monotonic() + LINE_SECONDS
        self._notes = 0
        self._began: tuple[float, int] | None = None
        """When bytes began to come, and how many there were then."""

    def show(self, now: LoadProgress) -> None:
        """Tell of ``now`` if it is time."""
        for note in now.notes[self._notes :]:
            self._tell(f"note: {note}")
        self._notes = len(now.notes)
        seconds = self._clock.monotonic()
        if now.phase == "loading" and self._began is None:
            self._began = (seconds, now.bytes_done)
        if now.done or seconds < self._due:
            return
        self._due = seconds + LINE_SECONDS
        self._tell(self._line(now, seconds))

    def _line(self, now: LoadProgress, seconds: float) -> str:
        if self._began is None:
            return f"{now.phase}: {count(now.files_total, 'file')} in {count(now.directories, 'directory')} so far"
        began, before = self._began
        line = (
            f"{now.phase}: {now.files_done:,} of {count(now.files_total, 'file')},"
            f" {cached_share(now.bytes_done, now.bytes_total)}"
        )
        rate = (now.bytes_done - before) / (seconds - began) if seconds > began else 0.0
        if rate <= 0:
            return line
        left = (now.bytes_total - now.bytes_done) / rate
        return f"{line}, {format_rate(rate)}, {format_duration(left) if left >= 60 else f'{left:.0f} s'} to go"


@contextlib.contextmanager
def _bar() -> Iterator[Show]:
    """A bar with rate and time to go."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("listing", total=None)
        told = 0

        def show(now: LoadProgress) -> None:
            nonlocal told
            for note in now.notes[told:]:
                bar.console.print(f"jindopy: note: {shown(note)}", markup=False, highlight=False)
            told = len(now.notes)
            bar.update(
                task,
                description=f"{now.phase}, {now.files_done:,}/{count(now.files_total, 'file')}",
                completed=now.bytes_done,
                total=now.bytes_total if now.phase != "listing" else None,
            )

        yield show
