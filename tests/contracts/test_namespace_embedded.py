"""The namespace contract over the embedded master (SQLite)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from contracts.namespace import NamespaceContract
from contracts.namespace_tools import Make, Wanted

from jindopy.namespace.api import MasterApi
from jindopy.namespace.service import EmbeddedMaster, MountRequest
from jindopy.ufs.base import Capability, Driver
from jindopy.ufs.memory import MemoryDriver


class ByDelimiter:
    """A driver that lists directory by directory only."""

    def __init__(self, driver: MemoryDriver) -> None:
        self._driver = driver
        self.capabilities = driver.capabilities & ~Capability.FLAT_LIST

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)


class TestEmbedded(NamespaceContract):
    by_delimiter = False

    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        @contextmanager
        def started(*mounts: Wanted) -> Iterator[MasterApi]:
            master = EmbeddedMaster(
                tmp_path / "state",
                [
                    MountRequest(
                        path=mount.path,
                        uri=mount.driver.endpoint,
                        driver=cast(Driver, ByDelimiter(mount.driver)) if self.by_delimiter else mount.driver,
                        prefix=mount.prefix,
                        ttl_seconds=mount.ttl_seconds,
                    )
                    for mount in mounts
                ],
            )
            try:
                yield master
            finally:
                master.close()

        return started


class TestEmbeddedByDelimiter(TestEmbedded):
    by_delimiter = True
