"""``jindopy up``: a small cluster on one host, kept in the foreground.

    master → workers → clients, each started when the one before is ready … SIGINT or SIGTERM → clients, workers, master

Each member is a process of its own in a session of its own, so that Ctrl-C reaches this one alone and the order of the
end is kept.  A member that ends by itself is told and stays away, as a machine that fails would; the others go on, and
the exit code says that one was lost.  When a member does not come up, those that are there are ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import ConfigError, JindoError
from jindopy.config.cluster_file import ClusterPlan, Member

READY_SECONDS: Final = 90.0
"""A client waits up to 60 s for the master's first word."""
END_SECONDS: Final = 30.0
"""Longer than the drain of a mount."""
_WORDS_BYTES_MAX: Final = 4096
_WAITED: Final = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}


class MemberFailed(JindoError):
    """A member did not come up; the message is its own."""


@final
class _Running:
    """A member's process."""

    def __init__(self, member: Member, process: subprocess.Popen[bytes]) -> None:
        self.member = member
        self.process = process
        self.lost = False


@final
class Up:
    """See the module."""

    def __init__(self, plan: ClusterPlan, say: Callable[[str], None], clock: Clock = REAL_CLOCK) -> None:
        self._plan = plan
        self._say = say
        self._clock = clock
        self._running: list[_Running] = []

    def run(self) -> int:
        """Start, keep, end; the exit code is 0 when nobody was lost.  Raises what kept a member from starting."""
        # Members inherit this, and wait for these signals by themselves once they are up.
        signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED)
        try:
            address = ""
            for member in self._plan.members:
                found = self._start(member, address)
                address = address or found
            self._say(f"the cluster is up, logs are in {self._plan.work_dir}/log; Ctrl-C ends it")
            self._keep()
        finally:
            self._end()
        return 1 if any(running.lost for running in self._running) else 0

    def _start(self, member: Member, master: str) -> str:
        for directory in member.directories:
            try:
                Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"{member.name}: {directory}: {error.strerror}") from None
        to_master = ["--master", master] if master else []
        arguments = [sys.executable, "-m", "jindopy", *member.arguments, *to_master, "--json"]
        process = subprocess.Popen(  # noqa: S603 - our own program
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._running.append(_Running(member, process))
        line = self._first_line(process)
        try:
            address = str(json.loads(line)["address"])
        except (ValueError, KeyError, TypeError):
            raise MemberFailed(f"{member.name} did not start: {self._last_words(process)}") from None
        self._say(f"{member.name}: {address} (pid {process.pid})")
        return address

    def _first_line(self, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None
        deadline = Deadline.after(READY_SECONDS, self._clock)
        received = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while b"\n" not in received and len(received) < _WORDS_BYTES_MAX:
                if not selector.select(deadline.remaining()):
                    break
                part = os.read(process.stdout.fileno(), _WORDS_BYTES_MAX)
                if not part:
                    break
                received += part
        return received

    @staticmethod
    def _last_words(process: subprocess.Popen[bytes]) -> str:
        process.kill()
        _, errors = process.communicate()
        lines = errors[-_WORDS_BYTES_MAX:].decode("utf-8", "replace").strip().splitlines()
        return lines[-1].removeprefix("jindopy: ") if lines else "it said nothing in time"

    def _keep(self) -> None:
        while signal.sigwait(_WAITED) == signal.SIGCHLD:
            for running in self._running:
                if not running.lost and running.process.poll() is not None:
                    running.lost = True
                    self._say(f"{running.member.name} has ended (exit code {running.process.returncode}); others go on")
            if all(running.lost for running in self._running):
                return

    def _end(self) -> None:
        for running in reversed(self._running):
            process = running.process
            if process.poll() is None:
                self._say(f"ending {running.member.name}")
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(END_SECONDS)
                except subprocess.TimeoutExpired:
                    self._say(f"{running.member.name} does not end: killing it")
                    process.kill()
                    process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
