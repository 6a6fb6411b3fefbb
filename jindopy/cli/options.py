"""Flags made from the table of settings, and what every command needs to find running mounts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from jindopy.base.errors import MountPointError
from jindopy.config.facts import gather
from jindopy.config.load import load
from jindopy.config.params import PARAMS, Kind, Loaded, Param
from jindopy.config.rationalize import Directories, Facts, directories
from jindopy.control.client import ControlClient, Located, locate

Command = TypeVar("Command", bound=Callable[..., Any])

_METAVARS = {
    Kind.SIZE: "SIZE",
    Kind.RATE: "RATE",
    Kind.DURATION: "TIME",
    Kind.TTL: "TIME|once",
    Kind.COUNT: "N",
    Kind.RATIO: "RATIO",
    Kind.TEXT: "TEXT",
    Kind.PATH: "PATH",
    Kind.OCTAL: "MODE",
    Kind.TIERS: "NAME:PATH[:QUOTA[:HIGH[:LOW]]]",
}


_PATHS = frozenset(param.name for param in PARAMS if param.kind is Kind.PATH)


def settings_options(*names: str) -> Callable[[Command], Command]:
    """Give a command the flags of the named settings, or of all; the command gets them as keyword arguments."""

    def add(command: Command) -> Command:
        for param in reversed([param for param in PARAMS if not names or param.name in names]):
            command = _option(param)(command)
        return command

    return add


def _option(param: Param) -> Callable[[Command], Command]:
    declaration = f"{param.flag}/--no-{param.flag[2:]}" if param.kind is Kind.BOOL else param.flag
    metavar = "|".join(param.choices) if param.choices else _METAVARS.get(param.kind)
    return click.option(
        declaration,
        param.name,
        default=None,
        multiple=param.kind is Kind.TIERS,
        metavar=None if param.kind is Kind.BOOL else metavar,
        help=f"{param.help}  [{param.default_text}]",
    )


config_option = click.option(
    "--config", "config_file", metavar="FILE", help="A configuration file read after the usual ones."
)

run_dir_option = settings_options("run_dir")


def load_settings(
    flags: Mapping[str, object], options: Sequence[str] = (), config_file: str | None = None
) -> tuple[Loaded, Directories, Facts]:
    """Settings from all sources, the directories that follow from them, and facts without any disk's."""
    from_here = {name: _from_here(name, value) for name, value in flags.items()}
    loaded = load(environ=os.environ, flags=from_here, options=options, config_file=config_file)
    facts = gather(os.environ, [])
    return loaded, directories(loaded.settings, facts), facts


def _from_here(name: str, value: object) -> object:
    """A path on the command line is one from where the command is called; the daemon works elsewhere."""
    return os.path.abspath(value) if name in _PATHS and isinstance(value, str) and value else value  # noqa: PTH100


def run_dirs(run_dir: str | None) -> list[Path]:
    """Where to look for control sockets."""
    _, dirs, _ = load_settings({"run_dir": run_dir})
    return [Path(dirs.run)]


def connect(path: str, run_dir: str | None) -> tuple[ControlClient, Located]:
    """The running mount of a path or mount id."""
    located = locate(path, run_dirs(run_dir))
    return ControlClient(located.socket_path), located


def connect_paths(paths: Sequence[str], run_dir: str | None) -> list[tuple[ControlClient, Located, list[str]]]:
    """Paths grouped by their mounts, as paths inside those; raises when one lies below no mount."""
    if not paths:
        raise MountPointError("no path given; name a file or directory below a mount")
    groups: dict[Path, tuple[ControlClient, Located, list[str]]] = {}
    for path in paths:
        client, located = connect(path, run_dir)
        groups.setdefault(located.socket_path, (client, located, []))[2].append(located.inner_path)
    return list(groups.values())
