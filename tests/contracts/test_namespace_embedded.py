"""The namespace contract over the embedded master (SQLite)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from contracts.namespace import Make, NamespaceContract, Wanted

from jindopy.namespace.api import MasterApi
from jindopy.namespace.service import EmbeddedMaster, MountRequest


class TestEmbedded(NamespaceContract):
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
                        driver=mount.driver,
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
