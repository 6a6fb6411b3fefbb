"""The storage of a cluster's mounts, as this process reaches it: drivers by mount id, opened as the master tells them.

The master's options (endpoint, region) hold unless this process was given its own.  Credentials are always this
process's own: none ever comes over the network.  Storage that cannot be opened here is stood in for by ``_Absent``,
whose calls say why, and is tried again with the next news of the mount table, at most every RETRY_SECONDS.

Locks    ``_lock`` guards the table; drivers are opened outside it, by the one thread that gets the news.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, cast, final

from jindopy.base.clock import REAL_CLOCK, Clock
from jindopy.base.errors import AccessDenied, JindoError, UsageError
from jindopy.base.ident import MountId, UfsId
from jindopy.config.settings import UfsMount
from jindopy.modes.parts import open_ufs
from jindopy.rpc.convert import MountFacts
from jindopy.ufs.base import Capability, Driver, Rate

LOG = logging.getLogger("jindopy.cluster")

RETRY_SECONDS: Final = 30.0


@final
class _Absent:
    """Stands for storage that this process cannot reach."""

    capabilities = Capability.NONE
    endpoint = ""
    scheme = ""

    def __init__(self, mount: MountFacts, why: str) -> None:
        self.ufs_id = mount.info.ufs_id
        self._uri = mount.info.uri
        self._why = why

    def close(self) -> None:
        """Nothing is open."""

    def __getattr__(self, name: str) -> Any:
        def refuse(*_: object, **__: object) -> Any:
            raise AccessDenied(f"{self._uri} cannot be read from here without the workers: {self._why}")

        if name.startswith("_") or name in ("block_gets", "refresh_credentials", "limit_downloads"):
            raise AttributeError(name)
        return refuse


@final
class UfsTable:
    """See the module; ``cache.fill.Drivers``."""

    def __init__(
        self, options: Callable[[UfsMount], UfsMount], rate: Rate | None = None, clock: Clock = REAL_CLOCK
    ) -> None:
        """``options`` adds what this process itself was told about a mount's storage."""
        self._options = options
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._drivers: dict[MountId, Driver] = {}
        self._facts: dict[MountId, MountFacts] = {}
        self._retry_at: dict[MountId, float] = {}
        self._old: list[Driver] = []

    def update(self, mounts: Iterable[MountFacts]) -> None:
        """The master's mount table, whole."""
        told = {mount.info.id: mount for mount in mounts}
        for number, mount in told.items():
            again = self._clock.monotonic() >= self._retry_at.get(number, float("inf"))
            if self._facts.get(number) != mount or again:
                self._set(number, mount, self._opened(mount))
        with self._lock:
            for number in self._facts.keys() - told.keys():
                del self._facts[number]
                # Closed at the end: reads of it may be under way.
                self._old.append(self._drivers.pop(number))

    def _set(self, number: MountId, mount: MountFacts, driver: Driver) -> None:
        with self._lock:
            before = self._drivers.get(number)
            if before is not None:
                self._old.append(before)
            self._drivers[number] = driver
            self._facts[number] = mount

    def _opened(self, mount: MountFacts) -> Driver:
        number = mount.info.id
        self._retry_at.pop(number, None)
        wanted = self._options(UfsMount(mount.info.uri, "", dict(mount.options)))
        try:
            driver, _ = open_ufs(wanted, self._rate)
            if driver.ufs_id != mount.info.ufs_id:
                found = driver.ufs_id
                driver.close()
                raise UsageError(f"it is {found} here and {mount.info.ufs_id} for the master")
        except JindoError as error:
            LOG.warning("%s: cannot be reached from here: %s", mount.info.uri, error)
            self._retry_at[number] = self._clock.monotonic() + RETRY_SECONDS
            return cast(Driver, _Absent(mount, error.message))
        return driver

    def driver(self, mount: MountId) -> Driver:
        """Raises UsageError for a mount that the master does not have."""
        with self._lock:
            driver = self._drivers.get(mount)
        if driver is None:
            raise UsageError(f"the cluster has no mount {mount}")
        return driver

    def check(self, mount: MountId, ufs_id: UfsId) -> None:
        """Raises UsageError unless the mount is of this storage."""
        with self._lock:
            known = self._facts.get(mount)
        if known is None or known.info.ufs_id != ufs_id:
            raise UsageError(f"the cluster has no mount {mount} of that storage")

    def close(self) -> None:
        """Close all drivers."""
        with self._lock:
            drivers = [*self._drivers.values(), *self._old]
            self._drivers.clear()
            self._old.clear()
        for driver in drivers:
            driver.close()
