"""A small cluster on one host as a document, made into command lines.  P.

    work_dir: /srv/jindopy-demo          data, caches and logs go below it
    mounts: [oss://bucket/prefix]        as `jindopy mount` takes them: UFS, or UFS=/PATH
    storage: {endpoint: ...}             flags of every process that reaches the storage
    control: {token_file: ...}           flags of every process about the control plane
    master: {listen: 127.0.0.1:18101}    flags of the master
    workers: [{quota: 20G}, {quota: 20G}]
    clients: [{dir: /mnt/data}]          flags of each client, and where it mounts

Keys are the long flags of `jindopy master`, `worker` and `fuse` with underscores; values are what the flags take,
`true` for those that take none.  The command line judges them; here only the shape is checked, and secrets are refused.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from jindopy.base.errors import ConfigError

SECTIONS: Final = ("work_dir", "mounts", "storage", "control", "master", "workers", "clients")
MEMBERS_MAX: Final = 64
"""Workers, or clients: more on one host is a mistake."""
_FLAG = re.compile(r"[a-z][a-z_-]{0,63}")
_SECRET = re.compile(r"(?i)(access[._-]?key|secret|security[._-]?token|password|sts[._-]?token)")


@dataclass(frozen=True)
class Member:
    """One process to start."""

    name: str
    arguments: tuple[str, ...]
    """Behind ``jindopy``; all but the master's are without ``--master``."""
    directories: tuple[str, ...] = ()
    """To be made before."""


@dataclass(frozen=True)
class ClusterPlan:
    """The master, then workers, then clients."""

    work_dir: str
    members: tuple[Member, ...]


def plan(document: object, where: str) -> ClusterPlan:
    """Raises ConfigError, naming ``where`` and the key."""
    if not isinstance(document, dict):
        raise ConfigError(f"{where}: is no cluster; write work_dir, mounts, workers and clients")
    unknown = [str(key) for key in document if key not in SECTIONS]
    if unknown:
        raise ConfigError(f"{where}: there is no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    work_dir = document.get("work_dir")
    if not isinstance(work_dir, str) or not posixpath.isabs(work_dir):
        raise ConfigError(f"{where}: work_dir must be a path from the root")
    work_dir = posixpath.normpath(work_dir)
    mounts = document.get("mounts")
    if not isinstance(mounts, list) or not mounts or not all(isinstance(mount, str) for mount in mounts):
        raise ConfigError(f"{where}: mounts must be a list, as [oss://bucket/prefix]")
    storage = _flags(document.get("storage", {}), f"{where}: storage")
    control = _flags(document.get("control", {}), f"{where}: control")
    shared = storage | control
    members = [_master(document.get("master", {}), f"{where}: master", work_dir, mounts, shared)]
    workers = _list(document.get("workers", []), f"{where}: workers")
    if not workers:
        raise ConfigError(f"{where}: workers must be a list of at least one, as [{{quota: 20G}}]")
    for number, flags in enumerate(workers, 1):
        given: dict[str, Any] = {"listen": "127.0.0.1:0", "rpc-listen": "127.0.0.1:0"} | shared | flags
        members.append(_member("worker", f"worker-{number}", work_dir, given, "cache-dir"))
    for number, flags in enumerate(_list(document.get("clients", []), f"{where}: clients"), 1):
        point = flags.pop("dir", None)
        if not isinstance(point, str) or not posixpath.isabs(point):
            raise ConfigError(f"{where}: clients[{number - 1}]: dir must be a path from the root")
        given = {"run-dir": f"{work_dir}/run", **shared, **flags}
        members.append(_member("fuse", f"client-{number}", work_dir, given, "cache-dir", point))
    return ClusterPlan(work_dir, tuple(members))


def _master(data: object, where: str, work_dir: str, mounts: list[str], shared: dict[str, Any]) -> Member:
    given = shared | _flags(data, where)
    member = _member("master", "master", work_dir, given, "data-dir")
    mounting = tuple(word for mount in mounts for word in ("--mount", mount))
    return Member(member.name, member.arguments + mounting, member.directories)


def _member(
    command: str, name: str, work_dir: str, flags: Mapping[str, Any], place_flag: str, point: str = ""
) -> Member:
    log_file = f"{work_dir}/log/{name}.log"
    given = {"log-file": log_file, place_flag: f"{work_dir}/{name}", **flags}
    words = [command]
    for flag, value in given.items():
        words += [f"--{flag}"] if value is True else [] if value is False else [f"--{flag}", str(value)]
    if point:
        words.append(point)
    made = (posixpath.dirname(log_file), str(given[place_flag]), *([point] if point else []))
    return Member(name, tuple(words), made)


def _list(data: object, where: str) -> list[dict[str, Any]]:
    if not isinstance(data, list) or len(data) > MEMBERS_MAX:
        raise ConfigError(f"{where} must be a list of at most {MEMBERS_MAX}")
    return [_flags(item, f"{where}[{number}]") for number, item in enumerate(data)]


def _flags(data: object, where: str) -> dict[str, Any]:
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{where} must hold flags, as {{quota: 20G}}")
    flags = {}
    for key, value in data.items():
        name = str(key)
        if _SECRET.search(name):
            raise ConfigError(f"{where}: secrets may not stand here; give them by credentials_file or the environment")
        if not _FLAG.fullmatch(name) or not isinstance(value, bool | int | float | str):
            raise ConfigError(f"{where}: {name!r} is no flag with a value")
        flags[name.replace("_", "-")] = value
    return flags
