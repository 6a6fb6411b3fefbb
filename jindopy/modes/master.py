"""``jindopy master``: the namespace, the roll of workers and the news of both, on the control plane.

identity (epoch) · drivers checked · namespace opened · roll · server → ready … SIGTERM → in reverse
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from jindopy.base.ident import UfsId
from jindopy.cache.store import owner_tag
from jindopy.config.cluster import MasterSettings
from jindopy.config.settings import UfsMount
from jindopy.master.identity import Identity
from jindopy.master.roll import Roll
from jindopy.master.service import MasterService, NewsDesk
from jindopy.modes.parts import open_ufs
from jindopy.modes.service import GRACE_SECONDS, prepare, security, serve
from jindopy.namespace.mounts import MountRequest
from jindopy.namespace.service import EmbeddedMaster
from jindopy.rpc.channel import make_server
from jindopy.rpc.convert import MountFacts
from jindopy.rpc.v1.gen.master_pb2_grpc import add_MasterServicer_to_server


def run(settings: MasterSettings, ready: Callable[[str], None]) -> None:
    """Serve until a signal; ``ready`` is told the address.  Raises what kept it from starting."""
    prepare(settings.log)
    serve("master", lambda parts: _build(settings, parts), ready)


def _build(settings: MasterSettings, parts: contextlib.ExitStack) -> str:
    options: dict[tuple[bytes, UfsId], dict[str, str]] = {}
    requests = []
    for mount in settings.mounts:
        driver, prefix = open_ufs(mount)
        parts.callback(driver.close)
        path = os.fsencode(mount.path)
        options[path, driver.ufs_id] = _public(mount)
        requests.append(MountRequest(path, mount.uri, driver, prefix, settings.ttl_seconds))
    api = EmbeddedMaster(
        Path(settings.data_dir),
        requests,
        uid=settings.uid,
        gid=settings.gid,
        umask=settings.umask,
        list_threads=settings.list_threads,
    )
    parts.callback(api.close)
    # After the namespace, whose lock says that no other master lives here.
    identity = Identity(Path(settings.data_dir))

    def mounts() -> list[MountFacts]:
        return [MountFacts(info, options.get((info.path, info.ufs_id), {})) for info in api.mounts()]

    desk = NewsDesk(identity.epoch)
    roll = Roll(lambda members: desk.tell(members=members))
    parts.callback(roll.close)
    service = MasterService(
        api, mounts, identity, roll, desk, lambda: [owner_tag(info.ufs_id) for info in api.mounts()]
    )
    server, address = make_server(
        settings.listen, security(settings.control), lambda server: add_MasterServicer_to_server(service, server)
    )
    parts.callback(lambda: server.stop(GRACE_SECONDS).wait())
    parts.callback(desk.close)
    server.start()
    return address


def _public(mount: UfsMount) -> dict[str, str]:
    """Options that others may use: how to reach the storage, never where keys are."""
    return {name: value for name, value in mount.options.items() if name.startswith("fs.")}
