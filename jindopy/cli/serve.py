"""``master``, ``worker``, ``fuse``: the processes of a cluster, each in the foreground of whatever keeps services.

They print one line when they are ready and log to standard error (or ``--log-file``); SIGTERM ends them in order.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from jindopy.base.errors import ConfigError
from jindopy.base.ident import mount_point_id
from jindopy.base.records import encode
from jindopy.cli.mount import check_fuse, check_mount_point, make_directories
from jindopy.cli.options import config_option, load_settings, settings_options
from jindopy.cli.output import examples, json_option, tell
from jindopy.config.cluster import ClientSettings, ControlSettings, LogSettings, MasterSettings, WorkerSettings
from jindopy.config.facts import gather
from jindopy.config.params import Loaded
from jindopy.config.rationalize import (
    Directories,
    cache_tiers,
    memory_budget,
    mount_settings,
    parse_ufs,
    tier_paths,
    ufs_mounts,
)
from jindopy.config.settings import Readiness, UfsMount

Command = TypeVar("Command", bound=Callable[..., Any])

CLIENT_QUOTA_BYTES: Final = 1 << 30
"""A client's own cache: enough for what is read twice within minutes; the workers keep the rest."""
_STORAGE = ("endpoint", "region", "signature", "credentials_file", "credentials_dir")
_LOGS = ("log_file", "log_format", "log_level")
_CACHE = ("cache_dir", "quota", "high", "low", "min_free", "tier", "memory", "fetch_threads", "download_limit")


def control_options(command: Command) -> Command:
    """Flags of the control plane, the same for all members."""
    for option in reversed(
        [
            click.option("--token-file", metavar="PATH", help="The token all members show, on one line (mode 0600)."),
            click.option("--tls-cert", metavar="PATH", help="Certificate chain of this process (PEM)."),
            click.option("--tls-key", metavar="PATH", help="Its private key."),
            click.option("--tls-ca", metavar="PATH", help="Authority that other members' certificates are checked by."),
            click.option("--plaintext", is_flag=True, help="Talk without TLS beyond the loopback interface."),
        ]
    ):
        command = option(command)
    return command


master_option = click.option(
    "--master",
    metavar="HOST:PORT",
    required=True,
    envvar="JINDOPY_MASTER",
    help="The master's address.",
)


def control_settings(flags: dict[str, Any]) -> ControlSettings:
    """What they said; they are taken out of ``flags``."""

    def path(name: str) -> str:
        given = flags.pop(name)
        return os.path.abspath(given) if given else ""  # noqa: PTH100 - text in, text out

    return ControlSettings(
        token_file=path("token_file"),
        certificate_file=path("tls_cert"),
        key_file=path("tls_key"),
        authority_file=path("tls_ca"),
        plaintext=flags.pop("plaintext"),
    )


@dataclass(frozen=True)
class Ready:
    """What ``--json`` prints, on one line, once a service is ready."""

    role: str
    address: str
    """Of a client: where it is mounted."""
    pid: int


def _say_ready(role: str, address: str, as_json: bool, line: str = "") -> None:
    if as_json:
        click.echo(json.dumps(encode(Ready(role, address, os.getpid()))))
    else:
        click.echo(line or f"{role} ready at {address} (pid {os.getpid()})")
    sys.stdout.flush()


def _log(loaded: Loaded) -> LogSettings:
    settings = loaded.settings
    return LogSettings(settings.log_file or "", settings.log_format, settings.log_level)


def _own_options(loaded: Loaded) -> Callable[[UfsMount], UfsMount]:
    """What this process was told about storage, over what the master says."""

    def add(mount: UfsMount) -> UfsMount:
        (own,) = ufs_mounts((UfsMount(mount.uri, ""),), loaded)
        return UfsMount(mount.uri, mount.path, mount.options | own.options)

    return add


@click.command(
    epilog=examples(
        "jindopy master --data-dir /var/lib/jindopy/master --mount oss://bucket/prefix",
        "jindopy master --data-dir /srv/m --mount oss://a=/a --mount oss://b=/b --listen 0.0.0.0:18101"
        " --token-file /etc/jindopy/token --tls-cert m.pem --tls-key m.key",
    )
)
@click.option("--data-dir", metavar="PATH", required=True, help="Directory of the namespace; one master owns it.")
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:18101", show_default=True, help="Control plane.")
@click.option("--mount", "ufs", multiple=True, required=True, metavar="UFS[=/PATH]", help="Storage to show; repeat.")
@control_options
@config_option
@json_option
@settings_options(*_STORAGE, "ttl", "uid", "gid", "umask", "list_threads", *_LOGS)
def master(
    data_dir: str, listen: str, ufs: tuple[str, ...], config_file: str | None, as_json: bool, **flags: Any
) -> int:
    """Run a cluster's master: the namespace, who the workers are, and what changed."""
    from jindopy.modes import master as mode

    control = control_settings(flags)
    loaded, _, facts = load_settings(flags, (), config_file)
    settings = loaded.settings
    mode.run(
        MasterSettings(
            data_dir=str(Path(data_dir).absolute()),
            listen=listen,
            mounts=ufs_mounts(parse_ufs(ufs), loaded),
            ttl_seconds=settings.ttl,
            uid=facts.uid if settings.uid is None else settings.uid,
            gid=facts.gid if settings.gid is None else settings.gid,
            umask=settings.umask,
            list_threads=settings.list_threads,
            control=control,
            log=_log(loaded),
        ),
        lambda address: _say_ready("master", address, as_json),
    )
    return 0


@click.command(
    epilog=examples(
        "jindopy worker --master 127.0.0.1:18101 --cache-dir /mnt/ssd/jindopy --quota 200G",
        "jindopy worker --master m:18101 --listen 0.0.0.0:18102 --rpc-listen 0.0.0.0:18105 --advertise-host w1"
        " --token-file /etc/jindopy/token --plaintext",
    )
)
@master_option
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:18102", show_default=True, help="Data plane.")
@click.option("--rpc-listen", metavar="HOST:PORT", default="127.0.0.1:18105", show_default=True, help="Control plane.")
@click.option("--advertise-host", metavar="HOST", default="", help="Where others reach this worker.")
@control_options
@config_option
@json_option
@settings_options(*_STORAGE, *_CACHE, *_LOGS)
def worker(
    master: str, listen: str, rpc_listen: str, advertise_host: str, config_file: str | None, as_json: bool, **flags: Any
) -> int:
    """Run a worker: blocks on this machine's disks, fetched once from the storage and served to all clients."""
    from jindopy.modes import worker as mode

    control = control_settings(flags)
    loaded, dirs, _ = load_settings(flags, (), config_file)
    if not loaded.settings.cache_dir and not loaded.settings.tier:
        dirs = dataclasses.replace(dirs, cache=f"{dirs.cache}/worker")
    facts = gather(os.environ, tier_paths(loaded.settings, dirs))
    tiers, notes = cache_tiers(loaded.settings, dirs, facts)
    for note in notes:
        tell(f"note: {note}")
    for tier in tiers:
        _make_private(tier.path)
    mode.run(
        WorkerSettings(
            master=master,
            listen=listen,
            rpc_listen=rpc_listen,
            advertise_host=advertise_host,
            tiers=tiers,
            memory_bytes=memory_budget(loaded.settings, facts, tiers),
            fetch_threads=loaded.settings.fetch_threads,
            control=control,
            download_bytes_per_second=loaded.settings.download_limit or 0,
            log=_log(loaded),
        ),
        _own_options(loaded),
        lambda address: _say_ready("worker", address, as_json),
    )
    return 0


@click.command(
    epilog=examples(
        "jindopy fuse --master 127.0.0.1:18101 /mnt/data",
        "jindopy fuse --master m:18101 /mnt/data --token-file /etc/jindopy/token --tls-ca ca.pem",
    )
)
@master_option
@click.argument("directory", metavar="DIR")
@click.option("--meta-timeout", metavar="TIME", help="How long a path that is not listed waits for the master.  [60s]")
@control_options
@config_option
@json_option
@settings_options(
    *_STORAGE,
    *_CACHE,
    *("allow_other", "transport", "drain", "read_ahead", "prefetch", "kernel_read_ahead", "run_dir"),
    *_LOGS,
)
def fuse(
    master: str, directory: str, meta_timeout: str | None, config_file: str | None, as_json: bool, **flags: Any
) -> int:
    """Mount a cluster's files at the directory DIR, which must exist and be empty."""
    from jindopy.modes import fuse as mode

    control = control_settings(flags)
    loaded, dirs, _ = load_settings({**flags, "request_timeout": meta_timeout}, (), config_file)
    check_fuse()
    point = check_mount_point(directory, Path(dirs.run))
    loaded, dirs = _client_cache(loaded, dirs, point)
    facts = gather(os.environ, tier_paths(loaded.settings, dirs))
    settings, notes = mount_settings(loaded, facts, mount_point=point, ufs=[f"jindopy://{master}"], foreground=True)
    for note in notes:
        tell(f"note: {note}")

    def ready(readiness: Readiness) -> None:
        _say_ready("fuse", point, as_json, settings.mounted_line(readiness.pid))

    with ExitStack() as undo:
        make_directories(settings, undo)
        undo.pop_all()
    mode.run(settings, ClientSettings(master, control), _own_options(loaded), ready)
    return 0


def _client_cache(loaded: Loaded, dirs: Directories, point: str) -> tuple[Loaded, Directories]:
    """A client's cache is small and its own, unless told otherwise."""
    settings = loaded.settings
    if settings.tier:
        return loaded, dirs
    cache = settings.cache_dir or f"{dirs.cache}/client-{mount_point_id(point)}"
    quota = CLIENT_QUOTA_BYTES if settings.quota is None else settings.quota
    changed = dataclasses.replace(settings, cache_dir=cache, quota=quota)
    return dataclasses.replace(loaded, settings=changed), dataclasses.replace(dirs, cache=cache)


def _make_private(path: str) -> None:
    try:
        Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be made: {error.strerror}; choose another directory") from None
