"""The ``jindopy`` command: which subcommands there are, how they are found, and what an error looks like.

A table maps each command to the module that holds it and to its line in ``jindopy --help``; a module is imported when
its command is called, so that help and completion stay quick and a broken optional library breaks only its own command.

Every error is one line on standard error, ``jindopy: what is wrong and what to do``, and an exit code from
``base.errors``.  Commands return their exit code; None is 0.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any, Final, NamedTuple, cast

import click

from jindopy import __version__
from jindopy.base.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_USAGE, JindoError
from jindopy.cli.output import tell


class Known(NamedTuple):
    """Where a command is, and its line of help."""

    target: str
    help: str


COMMANDS: Final = {
    "mount": Known("jindopy.cli.mount:mount", "Mount storage at a directory."),
    "umount": Known("jindopy.cli.umount:umount", "Take a mount away."),
    "status": Known("jindopy.cli.admin:status", "Show running mounts: cache, hit ratio, requests saved."),
    "ls": Known("jindopy.cli.data:ls", "List a directory with what is cached of each file."),
    "stat": Known("jindopy.cli.data:stat", "Show all that is known of a file or directory."),
    "load": Known("jindopy.cli.load:load", "Bring metadata and data into the cache before they are read."),
    "evict": Known("jindopy.cli.data:evict", "Drop files from the cache; the storage keeps them."),
    "pin": Known("jindopy.cli.data:pin", "Keep files in the cache whatever else is read."),
    "unpin": Known("jindopy.cli.data:unpin", "Let pinned files be evicted again."),
    "master": Known("jindopy.cli.serve:master", "Run a cluster's master: the namespace and the roll of workers."),
    "worker": Known("jindopy.cli.serve:worker", "Run a cluster's worker: blocks on local disks for all clients."),
    "fuse": Known("jindopy.cli.serve:fuse", "Mount a cluster's files."),
    "up": Known("jindopy.cli.up:up", "Start a small cluster on this host from one file."),
    "report": Known("jindopy.cli.report:report", "Show a cluster: workers, what they cache, clients."),
    "doctor": Known("jindopy.cli.doctor:doctor", "Check kernel, permissions, storage, clock and disk."),
    "bench": Known("jindopy.cli.bench:bench", "Measure storage, a mount or a directory, and say what limits it."),
    "emulator": Known("jindopy.cli.emulator:emulator", "Serve a directory as object storage, for tests and demos."),
    "completion": Known("jindopy.cli.admin:completion", "Print the completion script of a shell."),
    "version": Known("jindopy.cli.admin:version", "Print version and build."),
}


class _Lazy(MutableMapping[str, click.Command]):
    """Commands by name, each imported when it is looked up."""

    def __init__(self) -> None:
        self._found: dict[str, click.Command | None] = dict.fromkeys(COMMANDS)

    def __getitem__(self, name: str) -> click.Command:
        command = self._found[name]
        if command is None:
            module, _, attribute = COMMANDS[name].target.partition(":")
            command = self._found[name] = cast(click.Command, getattr(importlib.import_module(module), attribute))
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._found[name] = command

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class MainGroup(click.Group):
    """The table as a click group, with our way of telling errors."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands = _Lazy()

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, known.help) for name, known in COMMANDS.items()])

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> Any:  # type: ignore[override]  # never returns
        extra["standalone_mode"] = False
        sys.exit(_run(lambda: super(MainGroup, self).main(args, prog_name or "jindopy", **extra)))


def _run(call: Callable[[], Any]) -> int:
    """Exit code of a call; tells what went wrong."""
    try:
        result = call()
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return EXIT_USAGE
    except click.ClickException as error:
        tell(f"{_one_line(error.format_message())}{_help_hint(error)}")
        return EXIT_USAGE
    except JindoError as error:
        tell(_one_line(error.message))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        tell("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has enough.  Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    return result if isinstance(result, int) else 0


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _help_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f" (see {context.command_path} --help)" if context is not None else ""


@click.group(
    name="jindopy",
    cls=MainGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: jindopy mount oss://bucket/prefix DIR.  Each command has examples: jindopy mount --help.",
)
@click.version_option(__version__, message="jindopy %(version)s")
def main() -> None:
    """Make object storage read like a local disk.

    The first read of a file comes from the bucket, every later one from the cache on the local disk.
    """
