"""``jindopy mount``: one process that holds embedded master, cache, FUSE client and control socket.

Started by exec of a fresh interpreter (``cli.mount``), so that nothing was ever forked with threads in it.  Order of
life:

    settings ← pipe · logs · signals blocked · drivers checked · cache taken · namespace opened · vfs · mount
    · control socket · first stat answered → readiness line · serve … SIGTERM or umount → drain · detach · close all

Parts are closed in the reverse order of their making, whatever ended the mount; a part that cannot be made undoes those
before it and is the one line the user sees.

Threads: the main thread runs the transport; one waits for signals (they are blocked everywhere else); the control
socket, the fill and the directory loaders have their own.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

from jindopy import __version__
from jindopy._ext.iobuf import limit_heap
from jindopy.base import logs
from jindopy.base.clock import REAL_CLOCK
from jindopy.base.errors import JindoError, MountPointError
from jindopy.config.settings import MountSettings, Readiness
from jindopy.control.server import ControlServer
from jindopy.fuse import mounting
from jindopy.fuse.transport import Transport, TransportConfig, make_transport
from jindopy.modes.daemon import Daemon, DaemonFacts
from jindopy.modes.figures import MemoryUse
from jindopy.modes.parts import Parts, open_parts

LOG = logging.getLogger("jindopy.mount")

GIL_SWITCH_SECONDS: Final = 0.0005
"""A thread that comes back from I/O waits for the GIL of a busy one: 0.6 ms in the median with this, 5 ms without."""
MALLOC_ARENAS: Final = 2
"""With the C library's 8 a core each thread leaves its own gaps: 1,000 open files and 800 random reads by 8 threads in
a budget of 64 MiB took 70 MiB, with 2 arenas 59, with one 57.  Whole blocks do not come from arenas; their shorter
last ones neither: 64 readers of large objects in such a budget took 53-54 MiB instead of 55-56."""
ENDING_SIGNALS: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


@final
class MountProcess:
    """All parts of one mount, made in order and closed in reverse."""

    def __init__(
        self,
        settings: MountSettings,
        opener: Callable[[MountSettings, contextlib.ExitStack], Parts] = open_parts,
    ) -> None:
        """``opener`` makes what the transport stands on: with an embedded master, or a client of a cluster."""
        self._settings = settings
        self._open_parts = opener
        self._parts = contextlib.ExitStack()
        self._stopping = threading.Event()
        self._transport: Transport | None = None
        self._failure: JindoError | None = None

    def run(self, ready: Callable[[Readiness], None]) -> None:
        """Serve until unmounted; ``ready`` is told once, when the mount answers.  Raises what kept it from starting."""
        settings = self._settings
        with self._parts:
            transport = self._build()
            self._transport = transport
            self._start_thread("signals", self._wait_for_signals)
            self._start_thread("readiness", lambda: self._announce(ready))
            transport.serve()
            LOG.info("the mount at %s has ended", settings.mount_point)
        if self._failure is not None:
            raise self._failure

    def _build(self) -> Transport:
        settings = self._settings
        parts = self._open_parts(settings, self._parts)
        vfs = parts.vfs
        transport = make_transport(settings.transport, vfs, self._transport_config())
        transport.mount()
        self._parts.callback(transport.close)
        daemon = Daemon(
            master=parts.master,
            cache=parts.cache,
            filler=parts.filler,
            vfs=vfs,
            facts=DaemonFacts(
                mount_id=settings.mount_id,
                mount_point=settings.mount_point,
                version=__version__,
                transport=transport.name,
                endpoints={mount.id: parts.drivers.driver(mount.id) for mount in parts.master.mounts()},
                notes=transport.notes,
            ),
            fuse_requests=lambda: transport.requests,
            shutdown=self.stop,
            memory=MemoryUse(
                settings.memory_shares, parts.pool, vfs.table, parts.cache, lambda: transport.request_threads
            ),
            elsewhere=parts.elsewhere,
        )
        self._parts.callback(daemon.close)
        server = ControlServer(Path(settings.control_socket), daemon)
        self._parts.callback(server.close)
        server.start()
        return transport

    def _transport_config(self) -> TransportConfig:
        settings = self._settings
        first = settings.mounts[0]
        return TransportConfig(
            mount_point=settings.mount_point,
            source=first.uri if len(settings.mounts) == 1 else f"jindopy:{settings.mount_id}",
            allow_other=settings.allow_other,
            kernel_read_ahead_bytes=settings.kernel_read_ahead_bytes,
            passthrough=settings.passthrough,
            request_threads_max=settings.memory_shares.request_threads,
        )

    def _announce(self, ready: Callable[[Readiness], None]) -> None:
        """Once the kernel gets an answer through the mount, say so."""
        settings = self._settings
        try:
            Path(settings.mount_point).stat()
        except OSError as error:
            self._failure = MountPointError(f"the mount at {settings.mount_point} does not answer: {error.strerror}")
            self.stop(0.0)
            return
        notes: list[str] = []
        if self._transport is not None:
            self._transport.set_read_ahead()
            notes += self._transport.notes
        for note in notes:
            LOG.warning("%s", note)
        LOG.info("%s", settings.mounted_line(os.getpid()))
        ready(Readiness(ready=True, mount_id=settings.mount_id, pid=os.getpid(), notes=notes))

    def _wait_for_signals(self) -> None:
        number = signal.sigwait(ENDING_SIGNALS)
        LOG.info("%s: unmounting %s", signal.Signals(number).name, self._settings.mount_point)
        self.stop(self._settings.drain_seconds)

    def stop(self, drain_seconds: float) -> None:
        """Detach the mount, waiting at most so long for its users; ``run`` returns when it is gone.  Does not block."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._start_thread("detach", lambda: mounting.detach(self._settings.mount_point, drain_seconds, REAL_CLOCK))

    @staticmethod
    def _start_thread(name: str, body: Callable[[], object]) -> None:
        threading.Thread(target=body, name=name, daemon=True).start()


def _read_settings(descriptor: int) -> MountSettings:
    with os.fdopen(descriptor, encoding="utf-8") as stream:
        return MountSettings.from_json(stream.read())


def _ready_writer(descriptor: int | None) -> Callable[[Readiness], None]:
    """Writes one line and closes the pipe; later calls do nothing."""
    waiting = [descriptor] if descriptor is not None else []
    lock = threading.Lock()

    def write(readiness: Readiness) -> None:
        with lock:
            if not waiting:
                return
            # The command may have given up waiting; the mount is there all the same.
            with contextlib.suppress(BrokenPipeError), os.fdopen(waiting.pop(), "w", encoding="utf-8") as stream:
                stream.write(readiness.to_line())

    return write


def _terminal_writer(settings: MountSettings) -> Callable[[Readiness], None]:
    """In the foreground: the error, or the line about the mount unless the log shows it on the terminal already."""

    def write(readiness: Readiness) -> None:
        if not readiness.ready:
            sys.stderr.write(f"jindopy: {readiness.error}\n")
        elif settings.log_file:
            sys.stderr.write(settings.mounted_line(readiness.pid) + "\n")

    return write


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the daemon process; returns its exit code."""
    parser = argparse.ArgumentParser(prog="jindopy-mount-daemon")
    parser.add_argument("--settings-fd", type=int, required=True)
    parser.add_argument("--ready-fd", type=int)
    options = parser.parse_args(arguments)
    ready = _ready_writer(options.ready_fd)
    log_is_terminal = False
    try:
        settings = _read_settings(options.settings_fd)
        if options.ready_fd is None:
            ready = _terminal_writer(settings)
            log_is_terminal = not settings.log_file
        # Blocked before any thread exists, so that only the one that waits for them gets them.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        # llfuse wakes its workers with SIGUSR1 at the end; its default action would kill the process.
        signal.signal(signal.SIGUSR1, lambda *_: None)
        sys.setswitchinterval(GIL_SWITCH_SECONDS)
        limit_heap(MALLOC_ARENAS)
        logs.configure(settings.log_file, settings.log_format, settings.log_level)
        MountProcess(settings).run(ready)
    except JindoError as error:
        if not log_is_terminal:
            LOG.error("%s", error)
        ready(Readiness(ready=False, pid=os.getpid(), error=error.message, exit_code=error.exit_code))
        return error.exit_code
    except Exception as error:
        LOG.exception("the mount ended by an internal error")
        ready(Readiness(ready=False, pid=os.getpid(), error=f"internal error: {error!r}; see the log", exit_code=1))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
