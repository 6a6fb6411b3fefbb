"""The mount that some settings describe, with its parts as processes of their own: a master, two workers, a client."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from pathlib import Path
from typing import Any

from jindopy.config.settings import MountSettings

READY_SECONDS = 60.0
WORKERS = 2


def _flags(**values: object) -> list[str]:
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def _toml(settings: MountSettings, path: Path) -> list[str]:
    options = {name: value for mount in settings.mounts for name, value in mount.options.items()}
    lines = [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in options.items()]
    path.write_text("\n".join(["[options]", *lines, ""]))
    return ["--config", str(path)]


def _start(arguments: list[str], env: dict[str, str], log: Path) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "jindopy", *arguments, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **env},
        )
    assert process.stdout is not None
    with process.stdout as stdout, selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        line = stdout.readline() if selector.select(READY_SECONDS) else b""
    if not line:
        process.kill()
        process.wait(30)
        raise AssertionError(f"{arguments[0]} did not start: {log.read_text()[-3000:]}")
    return process, json.loads(line)


def start_cluster(
    settings: MountSettings, env: dict[str, str]
) -> tuple[subprocess.Popen[bytes], list[subprocess.Popen[bytes]]]:
    """The client's process, and the others in the order in which they end; nobody is left when one does not start."""
    work = Path(settings.state_dir).parent
    shared = _toml(settings, work / "options.toml")
    processes: list[subprocess.Popen[bytes]] = []
    try:
        master = ["master", *shared, *_flags(data_dir=settings.state_dir, listen="127.0.0.1:0")]
        ttl = "once" if settings.ttl_seconds == float("inf") else f"{settings.ttl_seconds}s"
        master += _flags(ttl=ttl, uid=settings.uid, gid=settings.gid, umask=f"{settings.umask:o}")
        for mount in settings.mounts:
            master += ["--mount", f"{mount.uri}=/{mount.path}" if mount.path else mount.uri]
        process, ready = _start(master, env, work / "master.log")
        processes.append(process)
        shared += ["--master", ready["address"]]
        (tier,) = settings.tiers
        for number in range(WORKERS):
            worker = ["worker", *shared, *_flags(listen="127.0.0.1:0", rpc_listen="127.0.0.1:0", min_free=0)]
            worker += _flags(cache_dir=work / f"worker{number}", quota=tier.quota_bytes)
            processes.append(_start(worker, env, work / f"worker{number}.log")[0])
        client = ["fuse", *shared, settings.mount_point]
        client += _flags(
            cache_dir=tier.path,
            quota=tier.quota_bytes,
            min_free=0,
            run_dir=settings.run_dir,
            log_file=settings.log_file,
            log_level=settings.log_level,
            transport=settings.transport,
            memory=settings.memory_bytes,
            fetch_threads=settings.fetch_threads,
            read_ahead=settings.read_ahead_bytes_max,
            prefetch=settings.prefetch_bytes_max,
            kernel_read_ahead=settings.kernel_read_ahead_bytes,
            drain=f"{settings.drain_seconds}s",
            meta_timeout=f"{settings.request_timeout_seconds}s",
        )
        process, _ = _start(client, env, Path(settings.log_file).with_suffix(".stderr"))
    except BaseException:
        for process in processes:
            process.kill()
            process.wait(30)
        raise
    return process, processes[::-1]
