"""Between messages and the types of the namespace and the cluster; what comes from outside is checked here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from jindopy.base.errors import BadFrame, UsageError
from jindopy.base.ident import CID_BYTES, Cid, FileVersion, Inode, Kind, MountId, UfsId
from jindopy.cluster.cachemap import Held
from jindopy.cluster.membership import WorkerFacts
from jindopy.namespace.api import Answer, DirPage, MountInfo, Node, TreeCount
from jindopy.rpc.v1.gen import master_pb2 as pb
from jindopy.rpc.v1.gen import worker_pb2 as wpb

INODE_MAX = (1 << 63) - 1
OBJECT_BYTES_MAX = 48 << 40
BLOCKS_MAX = 256
KEY_BYTES_MAX = 8192
TOKEN_BYTES_MAX = 1024
TEXT_BYTES_MAX = 4096


class MountFacts(NamedTuple):
    """A mount and how to reach its storage."""

    info: MountInfo
    options: dict[str, str]
    """Of the driver; never secrets."""


def node_out(node: Node) -> pb.Node:
    return pb.Node(
        inode=node.inode,
        parent=node.parent,
        name=node.name,
        mount=node.mount,
        kind=int(node.kind),
        perm=node.perm,
        uid=node.uid,
        gid=node.gid,
        nlink=node.nlink,
        size=node.size,
        mtime_ns=node.mtime_ns,
        version=node.version,
        token=node.token,
        crc64=node.crc64,
    )


def node_in(node: pb.Node) -> Node:
    """Raises BadFrame: a master of another kind is at the other end."""
    try:
        kind = Kind(node.kind)
    except ValueError:
        raise BadFrame(f"the master told of a node of kind {node.kind}, which is not known here") from None
    if not 0 < node.inode <= INODE_MAX or len(node.name) > 255 or len(node.token) > TOKEN_BYTES_MAX:
        raise BadFrame("the master told of a node that cannot be")
    return Node(
        Inode(node.inode),
        Inode(node.parent),
        node.name,
        MountId(node.mount),
        kind,
        node.perm,
        node.uid,
        node.gid,
        node.nlink,
        node.size,
        node.mtime_ns,
        node.version,
        node.token,
        node.crc64 if node.HasField("crc64") else None,
    )


def answer_out(answer: Answer) -> pb.Answer:
    return pb.Answer(node=None if answer.node is None else node_out(answer.node), ttl_seconds=answer.ttl_seconds)


def answer_in(answer: pb.Answer) -> Answer:
    return Answer(node_in(answer.node) if answer.HasField("node") else None, answer.ttl_seconds)


def page_out(page: DirPage) -> pb.DirPage:
    return pb.DirPage(
        nodes=map(node_out, page.nodes), last=page.last, generation=page.generation, ttl_seconds=page.ttl_seconds
    )


def page_in(page: pb.DirPage) -> DirPage:
    return DirPage([node_in(node) for node in page.nodes], page.last, page.generation, page.ttl_seconds)


def count_out(count: TreeCount) -> pb.TreeCount:
    return pb.TreeCount(files=count.files, directories=count.directories, size=count.size)


def count_in(count: pb.TreeCount) -> TreeCount:
    return TreeCount(count.files, count.directories, count.size)


def mount_out(mount: MountFacts) -> pb.MountInfo:
    info = mount.info
    return pb.MountInfo(
        id=info.id,
        path=info.path,
        ufs_id=info.ufs_id,
        uri=info.uri,
        prefix=info.prefix,
        ttl_seconds=info.ttl_seconds,
        read_only=info.read_only,
        options=mount.options,
    )


def mount_in(mount: pb.MountInfo) -> MountFacts:
    info = MountInfo(
        MountId(mount.id),
        mount.path,
        UfsId(mount.ufs_id),
        mount.uri,
        mount.prefix,
        mount.ttl_seconds,
        mount.read_only,
    )
    return MountFacts(info, dict(mount.options))


def worker_out(worker: WorkerFacts) -> pb.WorkerInfo:
    return pb.WorkerInfo(
        id=worker.id,
        data_address=worker.data_address,
        rpc_address=worker.rpc_address,
        capacity_bytes=worker.capacity_bytes,
        cached_bytes=worker.cached_bytes,
        files=worker.files,
    )


def worker_in(worker: pb.WorkerInfo) -> WorkerFacts:
    """Raises UsageError."""
    return WorkerFacts(
        worker.id,
        worker.data_address,
        worker.rpc_address,
        worker.capacity_bytes,
        worker.cached_bytes,
        worker.files,
    ).checked()


def held_out(held: Held) -> pb.Extent:
    return pb.Extent(cid=held.cid, number=held.number, cached_bytes=held.cached_bytes)


def held_in(extents: Iterable[pb.Extent]) -> list[Held]:
    """Raises UsageError."""
    held = [Held(Cid(extent.cid), extent.number, extent.cached_bytes) for extent in extents]
    if any(len(one.cid) != CID_BYTES for one in held):
        raise UsageError(f"a cid has {CID_BYTES} bytes")
    return held


def fetch_out(version: FileVersion, first: int, count: int, *, background: bool) -> wpb.FetchRequest:
    return wpb.FetchRequest(
        mount=version.mount,
        ufs_id=version.ufs_id,
        key=version.key,
        token=version.token,
        size=version.size,
        first_block=first,
        block_count=count,
        background=background,
        inode=version.inode,
        number=version.number,
    )


def fetch_in(request: wpb.FetchRequest) -> tuple[FileVersion, int, int]:
    """Version, first block and count; raises UsageError."""
    if not (
        0 < len(request.key) <= KEY_BYTES_MAX
        and 0 < len(request.token) <= TOKEN_BYTES_MAX
        and 0 < request.size <= OBJECT_BYTES_MAX
        and len(request.ufs_id) <= TEXT_BYTES_MAX
        and 0 < request.block_count <= BLOCKS_MAX
        and request.inode <= INODE_MAX
    ):
        raise UsageError("a fetch names a version and 1 to 256 blocks of it")
    version = FileVersion.of(
        MountId(request.mount),
        UfsId(request.ufs_id),
        request.key,
        request.token,
        request.size,
        Inode(request.inode),
        request.number,
    )
    if request.first_block + request.block_count > version.block_count:
        raise UsageError(f"the object has {version.block_count} blocks only")
    return version, request.first_block, request.block_count
