"""What strangers and liars send to the control plane is refused in one line and harms nobody."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from contracts.namespace_tools import Wanted, new_driver, soon
from contracts.test_namespace_remote import PLAIN, served

from jindopy._ext.blockstore import TierSpec
from jindopy._ext.iobuf import BufferPool
from jindopy.base.errors import UsageError
from jindopy.base.ident import MountId, UfsId
from jindopy.cache.fill import Filler
from jindopy.cache.store import Cache
from jindopy.client.master import RemoteMaster
from jindopy.cluster.membership import WorkerFacts
from jindopy.rpc.channel import make_server, open_channel
from jindopy.rpc.convert import worker_out
from jindopy.rpc.v1.gen import master_pb2 as pb
from jindopy.rpc.v1.gen import worker_pb2 as wpb
from jindopy.rpc.v1.gen.master_pb2_grpc import MasterStub
from jindopy.rpc.v1.gen.worker_pb2_grpc import WorkerStub, add_WorkerServicer_to_server
from jindopy.ufs.memory import MemoryDriver
from jindopy.worker.service import WorkerService

MIB = 1 << 20
HONEST = WorkerFacts("honest", "127.0.0.1:1", "127.0.0.1:2", 100)
SECONDS = 10


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with served(tmp_path / "state", (Wanted(new_driver(b"f", b"d/1")),)) as found:
        yield found


@pytest.fixture
def master(address: str) -> Iterator[MasterStub]:
    channel, _ = open_channel(address, PLAIN)
    with channel:
        yield MasterStub(channel)


def refused(call: Any, request: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as failure:
        answer = call(request, timeout=SECONDS)
        if isinstance(answer, Iterator):  # a stream
            list(answer)
    text = failure.value.details()
    assert "\n" not in text
    assert "Traceback" not in text
    return failure.value.code()


BAD_INODES = (0, 1 << 63, (1 << 64) - 1)


@pytest.mark.parametrize("inode", BAD_INODES)
def test_numbers_that_are_no_inodes(master: MasterStub, inode: int) -> None:
    for call in (master.GetNode, master.ObjectKey, master.ReadLink, master.Revalidate, master.Count, master.Walk):
        assert refused(call, pb.InodeRequest(inode=inode)) == grpc.StatusCode.INVALID_ARGUMENT
    for call, request in (
        (master.Lookup, pb.LookupRequest(parent=inode, name=b"f")),
        (master.ReadDir, pb.ReadDirRequest(inode=inode)),
        (master.SyncTree, pb.SyncTreeRequest(inode=inode)),
        (master.NoteChecksums, pb.Checksums(told=[pb.Checksum(inode=inode, version=1, crc64=1)])),
    ):
        assert refused(call, request) == grpc.StatusCode.INVALID_ARGUMENT


def test_names_that_cannot_be(master: MasterStub) -> None:
    # d/1 is an object, but no entry of the root.
    for name in (b"x" * 256, b"x" * 100_000, b"", b".", b"..", b"d/1", b"f\0"):
        answer = master.Lookup(pb.LookupRequest(parent=1, name=name), timeout=SECONDS)
        assert not answer.HasField("node")


def test_workers_that_lie_are_not_taken(master: MasterStub) -> None:
    for facts in (
        HONEST._replace(id="../../x"),
        HONEST._replace(data_address="unix:/etc/passwd"),
        HONEST._replace(rpc_address="h\n:1"),
        HONEST._replace(capacity_bytes=0),
        HONEST._replace(capacity_bytes=1 << 63),
    ):
        request = pb.HeartbeatRequest(worker=worker_out(facts))
        assert refused(master.Heartbeat, request) == grpc.StatusCode.INVALID_ARGUMENT
    extents = pb.HeartbeatRequest(worker=worker_out(HONEST), added=[pb.Extent(cid=b"short")])
    assert refused(master.Heartbeat, extents) == grpc.StatusCode.INVALID_ARGUMENT
    assert not master.Report(pb.Nothing(), timeout=SECONDS).workers
    assert refused(master.Locations, pb.LocationsRequest(cid=b"x" * 17)) == grpc.StatusCode.INVALID_ARGUMENT
    assert refused(master.Locations, pb.LocationsRequest(cid=b"x" * 16, extents=range(5000))) == (
        grpc.StatusCode.INVALID_ARGUMENT
    )


def test_a_heartbeat_is_asked_for_everything_when_its_news_cannot_be_understood(master: MasterStub) -> None:
    cid = b"c" * 16
    request = pb.HeartbeatRequest(worker=worker_out(HONEST), added=[pb.Extent(cid=cid, cached_bytes=5)])
    first = master.Heartbeat(request, timeout=SECONDS)
    assert first.resend, "the master knew nothing, and these are differences"
    request.epoch, request.all = first.epoch, True
    assert not master.Heartbeat(request, timeout=SECONDS).resend
    request.all = False
    assert not master.Heartbeat(request, timeout=SECONDS).resend
    (location,) = master.Locations(pb.LocationsRequest(cid=cid, extents=[0]), timeout=SECONDS).locations
    assert (list(location.placed), list(location.cached)) == (["honest"], ["honest"])
    master.Leave(pb.LeaveRequest(id="honest"), timeout=SECONDS)
    assert master.Heartbeat(request, timeout=SECONDS).resend


@pytest.mark.expect_log("the master is away")
def test_garbage_on_the_port_and_messages_too_large(address: str, master: MasterStub) -> None:
    host, _, port = address.rpartition(":")
    for stream in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64):
        with socket.create_connection((host, int(port)), 5) as client, contextlib.suppress(OSError):
            client.sendall(stream)
            client.settimeout(2)
            while client.recv(65536):
                pass
    # What is too large is cut off; whoever sent it hears no more of it.
    refused(master.Resolve, pb.ResolveRequest(path=b"x" * (8 * MIB)))
    remote = RemoteMaster(address, PLAIN, "afterwards")
    remote.start(soon())
    assert remote.resolve(b"d/1", deadline=soon()).size == 3
    remote.close()


class OneMount:
    def __init__(self, driver: MemoryDriver) -> None:
        self._driver = driver

    def driver(self, mount: MountId) -> MemoryDriver:
        return self._driver

    def check(self, mount: MountId, ufs_id: UfsId) -> None:
        if (mount, ufs_id) != (1, self._driver.ufs_id):
            raise UsageError("no such mount")


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[tuple[WorkerStub, MemoryDriver, Cache]]:
    driver = new_driver()
    driver.store.put(b"f", b"x" * (2 * MIB + 5))
    cache = Cache([TierSpec("SSD", str(tmp_path / "cache"), 64 * MIB, 0.95, 0.8, 0)])
    filler = Filler(cache, OneMount(driver), BufferPool(16 * MIB))
    service = WorkerService(cache, filler, OneMount(driver))
    server, found = make_server("127.0.0.1:0", PLAIN, lambda server: add_WorkerServicer_to_server(service, server))
    server.start()
    channel, _ = open_channel(found, PLAIN)
    try:
        with channel:
            yield WorkerStub(channel), driver, cache
    finally:
        server.stop(1).wait()
        filler.close()
        cache.close()


def test_what_a_worker_fetches_and_what_it_does_not(worker: tuple[WorkerStub, MemoryDriver, Cache]) -> None:
    stub, driver, cache = worker
    stat = driver.stat(b"f", deadline=soon())
    good = {
        "mount": 1,
        "ufs_id": driver.ufs_id,
        "key": b"f",
        "token": stat.token,
        "size": stat.size,
        "first_block": 0,
        "block_count": 3,
    }
    reply = stub.Fetch(wpb.FetchRequest(**good), timeout=SECONDS)
    assert (reply.stored, reply.fetched_bytes) == (3, stat.size)
    again = stub.Fetch(wpb.FetchRequest(**good), timeout=SECONDS)
    assert (again.stored, again.fetched_bytes) == (3, 0)
    for wrong in (
        {"mount": 2},
        {"ufs_id": "oss://other"},
        {"key": b""},
        {"key": b"k" * 10_000},
        {"token": b""},
        {"size": 0},
        {"size": 1 << 62},
        {"block_count": 0},
        {"block_count": 257},
        {"first_block": 3},
        {"inode": 1 << 63},
        # Known here with another size: somebody lies.
        {"size": stat.size + 1},
    ):
        assert refused(stub.Fetch, wpb.FetchRequest(**(good | wrong))) == grpc.StatusCode.INVALID_ARGUMENT, wrong
    gone = refused(stub.Fetch, wpb.FetchRequest(**(good | {"token": b"another"})))
    assert gone == grpc.StatusCode.ABORTED
    assert refused(stub.Fetch, wpb.FetchRequest(**(good | {"key": b"none"}))) == grpc.StatusCode.NOT_FOUND
    assert refused(stub.Evict, wpb.EvictRequest(cids=[b"short"])) == grpc.StatusCode.INVALID_ARGUMENT
    (cid,) = [cid for cid in cache.cids() if cache.peek(cid).cached_bytes]
    assert list(stub.Evict(wpb.EvictRequest(cids=[cid, b"u" * 16]), timeout=SECONDS).freed_bytes) == [stat.size, 0]


def test_a_fetch_ends_with_its_deadline(worker: tuple[WorkerStub, MemoryDriver, Cache]) -> None:
    stub, driver, _ = worker
    stat = driver.stat(b"f", deadline=soon())
    driver.on_call = lambda *_: time.sleep(3)
    request = wpb.FetchRequest(
        mount=1, ufs_id=driver.ufs_id, key=b"f", token=stat.token, size=stat.size, first_block=0, block_count=1
    )
    begun = time.monotonic()
    with pytest.raises(grpc.RpcError) as late:
        stub.Fetch(request, timeout=0.5)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - begun < 2
