"""The command itself: what it lists, how errors look, how quickly it starts."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from jindopy import __version__
from jindopy.base.errors import BadCredentials, Unavailable
from jindopy.cli.main import COMMANDS, main

HEAVY = {"rich", "oss2", "requests", "llfuse", "sqlite3", "prometheus_client", "concurrent.futures", "asyncio", "ssl"}


def _commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


def test_help_lists_every_command_without_loading_one() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name, known in COMMANDS.items():
        assert f"  {name} " in result.output
        assert known.help in result.output


@pytest.mark.parametrize(("name", "command"), list(_commands(main)), ids=str)
def test_every_command_has_help_with_examples(name: str, command: click.Command) -> None:
    result = CliRunner().invoke(main, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert command.help
    assert f"jindopy {name}" in result.output.partition("Example")[2]
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, f"{name} {parameter.name}"


def test_commands_that_print_data_print_json() -> None:
    silent = {"completion"}  # a script
    for name, command in _commands(main):
        has_json = any("--json" in parameter.opts for parameter in command.params)
        assert has_json == (name not in silent), name


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "jindopy: No such command 'nonsense'. (see jindopy --help)"),
        (["status", "--nonsense"], "jindopy: No such option '--nonsense'. (see jindopy status --help)"),
        (["stat"], "jindopy: Missing argument 'PATH'. (see jindopy stat --help)"),
        (["mount", "oss://b"], "jindopy: give storage and directory: jindopy mount oss://bucket/prefix /mnt/data"),
        (
            ["umount", "--lazy", "--force", "/x"],
            "jindopy: --lazy keeps serving open files, --force ends them; choose one",
        ),
        (["umount", "--wait", "soon", "/x"], "jindopy: not a duration: 'soon' (write 500ms, 60s, 5m or 1h)"),
        (["load"], "jindopy: name paths to load, or --all for everything of every mount"),
        (["load", "--all", "--metadata", "--data"], "jindopy: --metadata and --data exclude each other; without both"),
        (["doctor", "--scrub"], "jindopy: --scrub checks the cache of a running mount: jindopy doctor --scrub DIR"),
        (["doctor", "--scrub", "oss://b"], "jindopy: --scrub checks the cache of a running mount"),
        (["doctor", "-o", "qouta=1"], "jindopy: -o qouta: there is no setting 'qouta' (did you mean 'quota'?)"),
        (["mount", "oss://b", "/x", "--config", "/none"], "jindopy: /none: no such configuration file"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.output.startswith(told)
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "exit_code", "told"),
    [
        (BadCredentials("wrong\nkey", endpoint="http://e", key="k"), 3, "jindopy: http://e 'k': wrong key"),
        (Unavailable("no answer"), 4, "jindopy: no answer"),
        (KeyboardInterrupt(), 130, "jindopy: interrupted"),
        (click.Abort(), 130, "jindopy: interrupted"),
    ],
)
def test_errors_become_a_line_and_a_code(error: BaseException, exit_code: int, told: str) -> None:
    @click.command()
    def failing() -> None:
        raise error

    main.add_command(failing, "failing")
    try:
        result = CliRunner().invoke(main, ["failing"])
    finally:
        del main.commands["failing"]
    assert (result.exit_code, result.output.lstrip("\n")) == (exit_code, told + "\n")


def test_version() -> None:
    assert __version__ in CliRunner().invoke(main, ["--version"]).output
    result = CliRunner().invoke(main, ["version"])
    assert result.output.startswith(f"jindopy {__version__} (Python {sys.version.split()[0]}, Linux ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_back(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_JINDOPY_COMPLETE={shell}_complete" in result.output
    words = {"COMP_WORDS": "jindopy um", "COMP_CWORD": "1", "_JINDOPY_COMPLETE": "bash_complete"}
    assert CliRunner().invoke(main, [], env=words, prog_name="jindopy").output == "plain,umount\n"


def test_a_reader_that_stops_reading_is_no_error() -> None:
    command = f"{sys.executable} -m jindopy completion bash | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom jindopy.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stderr.split())


def test_help_starts_quickly() -> None:
    """CPU time, because the machine may be busy; the bar is 150 ms."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    costs = []
    for _ in range(5):
        before = used()
        subprocess.run([sys.executable, "-m", "jindopy", "--help"], stdout=subprocess.DEVNULL, check=True)
        costs.append(used() - before)
    assert min(costs) < 0.15, costs
