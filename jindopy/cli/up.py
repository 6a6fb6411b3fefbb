"""``up``: read a cluster's document and keep its processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click
import yaml

from jindopy.base.errors import ConfigError
from jindopy.cli.output import examples, json_option, print_json, tell
from jindopy.config.cluster_file import ClusterPlan, plan

FILE_BYTES_MAX: Final = 1 << 20


@click.command(
    epilog=examples(
        "jindopy up -f manifests/cluster.yaml",
        "jindopy up -f cluster.yaml --dry-run",
    )
)
@click.option("-f", "--file", "path", metavar="FILE", required=True, help="The cluster, as YAML.")
@click.option("--dry-run", is_flag=True, help="Print the command lines and start nothing.")
@json_option
def up(path: str, dry_run: bool, as_json: bool) -> int:
    """Start a small cluster on this host: master, workers and clients, ended in order by Ctrl-C."""
    found = plan(read(Path(path)), path)
    if dry_run:
        _show(found, as_json)
        return 0
    from jindopy.modes.up import Up

    return Up(found, tell).run()


def read(path: Path) -> Any:
    """A YAML document; raises ConfigError."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigError(f"{path}: larger than any cluster's description; is it the right file?")
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{path}: not valid YAML{line}") from None


def _show(found: ClusterPlan, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for number, member in enumerate(found.members):
        words = ["jindopy", *member.arguments, *([] if number == 0 else ["--master", "HOST:PORT"])]
        click.echo(" ".join(words))
