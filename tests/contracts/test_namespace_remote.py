"""The namespace contract over a master at the other end of a connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from contracts.namespace import NamespaceContract
from contracts.namespace_tools import Make, Wanted, soon

from jindopy.client.master import RemoteMaster
from jindopy.master.identity import Identity
from jindopy.master.roll import Roll
from jindopy.master.service import MasterService, NewsDesk
from jindopy.namespace.api import MasterApi
from jindopy.namespace.service import EmbeddedMaster, MountRequest
from jindopy.rpc.channel import Security, make_server
from jindopy.rpc.convert import MountFacts
from jindopy.rpc.v1.gen.master_pb2_grpc import add_MasterServicer_to_server

PLAIN = Security()


@contextmanager
def served(directory: Path, mounts: tuple[Wanted, ...], security: Security = PLAIN) -> Iterator[str]:
    """A master on this directory; gives its address."""
    api = EmbeddedMaster(
        directory,
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
    identity = Identity(directory)
    desk = NewsDesk(identity.epoch)
    roll = Roll(lambda members: desk.tell(members=members))
    service = MasterService(
        api, lambda: [MountFacts(info, {}) for info in api.mounts()], identity, roll, desk, lambda: [1]
    )
    server, address = make_server("127.0.0.1:0", security, lambda server: add_MasterServicer_to_server(service, server))
    server.start()
    try:
        yield address
    finally:
        desk.close()
        server.stop(0.5).wait()
        roll.close()
        api.close()


@pytest.mark.expect_log("the master is away")  # where a test ends, or starts it again
class TestRemote(NamespaceContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        @contextmanager
        def started(*mounts: Wanted) -> Iterator[MasterApi]:
            with served(tmp_path / "state", mounts) as address:
                remote = RemoteMaster(address, PLAIN, "contract")
                try:
                    remote.start(soon())
                    yield remote
                finally:
                    remote.close()

        return started
