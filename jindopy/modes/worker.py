"""``jindopy worker``: blocks on local disks, fetched from the storage once for everybody, served on the data plane.

    cache taken · fill · data server · control server · heartbeats: mounts and keys from the master → ready … SIGTERM →
    leave the cluster, then in reverse

The worker's id is made with its cache and stays beside it, so that one that starts again gets back the extents it has.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from jindopy._ext.iobuf import BufferPool
from jindopy.base.clock import Deadline
from jindopy.base.errors import CacheError, ConfigError
from jindopy.cache.fill import FillConfig, Filler
from jindopy.cache.store import Cache
from jindopy.cluster.membership import WorkerFacts
from jindopy.config.cluster import WorkerSettings
from jindopy.config.settings import UfsMount
from jindopy.dataplane.greeting import BlockService
from jindopy.modes.parts import close_cache, tier_spec
from jindopy.modes.service import GRACE_SECONDS, prepare, security, serve
from jindopy.modes.ufs_table import UfsTable
from jindopy.rpc.channel import check_secrecy, is_loopback, join_address, make_server, split_address
from jindopy.rpc.v1.gen.worker_pb2_grpc import add_WorkerServicer_to_server
from jindopy.ufs.layers import download_rate
from jindopy.vfs.checksums import ChecksumLearner
from jindopy.worker.heart import Heart
from jindopy.worker.holdings import Holdings
from jindopy.worker.service import WorkerService

LOG = logging.getLogger("jindopy.worker")

ID_FILE: Final = "worker.id"
JOIN_NOTE_SECONDS: Final = 10.0
BACKLOG: Final = 128


def run(settings: WorkerSettings, options: Callable[[UfsMount], UfsMount], ready: Callable[[str], None]) -> None:
    """Serve until a signal; ``ready`` is told the data address.  Raises what kept it from starting."""
    prepare(settings.log)
    serve("worker", lambda parts: _build(settings, options, parts), ready)


def _build(settings: WorkerSettings, options: Callable[[UfsMount], UfsMount], parts: contextlib.ExitStack) -> str:
    shares = settings.memory_shares
    secrecy = security(settings.control)
    limit = settings.download_bytes_per_second
    table = UfsTable(options, download_rate(limit) if limit else None)
    parts.callback(table.close)
    cache = Cache([tier_spec(tier) for tier in settings.tiers])
    parts.callback(close_cache, cache)
    worker_id = _identity(Path(settings.tiers[0].path))
    filler = Filler(
        cache,
        table,
        BufferPool(shares.buffer_bytes),
        FillConfig(threads=shares.fetch_threads, recent_bytes=shares.recent_bytes),
        on_object_crc64=lambda version, crc64: learner.learn(version, crc64),  # noqa: PLW0108 - made below
    )
    parts.callback(filler.close)
    service = WorkerService(cache, filler, table)
    listener = _listen(settings)
    data_port = listener.getsockname()[1]
    parts.callback(listener.close)
    server, rpc_address = make_server(
        settings.rpc_listen,
        secrecy,
        lambda server: add_WorkerServicer_to_server(service, server),
        "--rpc-listen",
    )
    host = settings.advertise_host or _reachable(settings.listen)
    data_address = join_address(host, data_port)
    rpc_address = join_address(host, split_address(rpc_address, "--rpc-listen")[1])

    def facts() -> WorkerFacts:
        stats = cache.stats()
        return WorkerFacts(
            worker_id,
            data_address,
            rpc_address,
            settings.capacity_bytes,
            sum(stat.cached_bytes for stat in stats),
            sum(stat.files for stat in stats),
        )

    heart = Heart(settings.master, secrecy, facts, Holdings(cache), table.update)
    learner = ChecksumLearner(heart)
    data = BlockService(cache.blocks, listener, heart.keys)
    parts.callback(data.close)
    parts.callback(lambda: server.stop(GRACE_SECONDS).wait())
    parts.callback(heart.close)
    parts.callback(learner.close)
    server.start()
    heart.start()
    if not heart.wait_joined(Deadline.after(JOIN_NOTE_SECONDS)):
        LOG.warning("the master at %s has not answered yet; this worker goes on asking", settings.master)
    return data_address


def _listen(settings: WorkerSettings) -> socket.socket:
    host, port = split_address(settings.listen, "--listen")
    check_secrecy(host, "--listen", security(settings.control), tls=False)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(f"--listen {settings.listen}: {error.strerror}; choose another address") from None


def _reachable(listen: str) -> str:
    """The host to tell others; one that listens everywhere says its name."""
    host, _ = split_address(listen, "--listen")
    if is_loopback(host) or host not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not listened on
        return host
    return socket.gethostname()


def _identity(directory: Path) -> str:
    path = directory / ID_FILE
    try:
        if path.exists():
            known = path.read_text(encoding="ascii", errors="replace").strip()
            if re.fullmatch(r"[0-9a-f]{16}", known):
                return known
            LOG.warning("%s is damaged; this worker gets a new id, and other extents with it", path)
        made = secrets.token_hex(8)
        new = path.with_suffix(".new")
        with new.open("w", encoding="ascii") as file:
            file.write(made + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise CacheError(f"{path}: {error.strerror}") from None
    return made
