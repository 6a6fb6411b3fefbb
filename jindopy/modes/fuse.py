"""``jindopy fuse``: a mount whose namespace is a remote master and whose blocks come from workers.

The same process as ``modes.mount`` over other parts: metadata by directory streams from the master, bytes from this
client's own small cache, then the workers, then the storage.  Loads asked for here are kept in memory: they end with
the mount, what they brought stays in the workers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import final

from jindopy.base.clock import Deadline
from jindopy.base.ident import Inode
from jindopy.cache.store import Cache
from jindopy.client.fleet import Fleet
from jindopy.client.links import WorkerLinks
from jindopy.client.master import RemoteMaster
from jindopy.client.peers import WorkerPeers
from jindopy.config.cluster import ClientSettings, LogSettings
from jindopy.config.settings import MountSettings, Readiness, UfsMount
from jindopy.modes.mount import MountProcess
from jindopy.modes.parts import Parts, close_cache, open_readers, tier_spec
from jindopy.modes.service import prepare, security
from jindopy.modes.ufs_table import UfsTable
from jindopy.namespace.sqlite_store import Job
from jindopy.ufs.layers import download_rate


@final
class ClientMaster(RemoteMaster):
    """A remote namespace with this client's own load jobs."""

    def __init__(self, client: ClientSettings, name: str) -> None:
        super().__init__(client.master, security(client.control), name)
        self._jobs: dict[str, Job] = {}

    def save_job(self, job: Job) -> None:
        """Keep it while this client lives."""
        self._jobs[job.id] = job

    def load_jobs(self) -> list[Job]:
        """All that are kept."""
        return list(self._jobs.values())

    def delete_job(self, job: str) -> None:
        """Forget it."""
        self._jobs.pop(job, None)


@final
class _MountTable:
    """Follows the master's mount table: it may be another one when the master comes back."""

    def __init__(self, master: RemoteMaster, table: UfsTable) -> None:
        self._master = master
        self._table = table
        self._lock = threading.Lock()

    def directory_changed(self, directory: Inode, generation: int) -> None:
        """No matter here."""

    def everything_changed(self) -> None:
        """Opening storage waits for it, so another thread does."""
        threading.Thread(target=self._update, name="mount-table", daemon=True).start()

    def _update(self) -> None:
        with self._lock:
            self._table.update(self._master.mount_facts())


def run(
    settings: MountSettings,
    client: ClientSettings,
    options: Callable[[UfsMount], UfsMount],
    ready: Callable[[Readiness], None],
) -> None:
    """Serve until unmounted; ``ready`` is told once, when the mount answers.  Raises what kept it from starting."""
    prepare(LogSettings(settings.log_file, settings.log_format, settings.log_level))
    # llfuse wakes its workers with SIGUSR1 at the end; its default action would kill the process.
    signal.signal(signal.SIGUSR1, lambda *_: None)
    MountProcess(settings, lambda mount, parts: _open(mount, client, options, parts)).run(ready)


def _open(
    settings: MountSettings,
    client: ClientSettings,
    options: Callable[[UfsMount], UfsMount],
    parts: contextlib.ExitStack,
) -> Parts:
    master = ClientMaster(client, f"{socket.gethostname()} pid {os.getpid()} at {settings.mount_point}")
    parts.callback(master.close)
    master.start(Deadline.after(settings.request_timeout_seconds))
    limit = settings.download_bytes_per_second
    table = UfsTable(options, download_rate(limit) if limit else None)
    parts.callback(table.close)
    table.update(master.mount_facts())
    master.subscribe(_MountTable(master, table))
    cache = Cache([tier_spec(tier) for tier in settings.tiers])
    parts.callback(close_cache, cache)
    links = WorkerLinks(master.workers, master.ticket, security(client.control))
    parts.callback(links.close)
    readers = open_readers(settings, parts, table, cache, master, WorkerPeers(links))
    return readers._replace(elsewhere=Fleet(links, cache))
