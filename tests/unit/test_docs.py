"""The documents are true where a machine can tell: commands, options, links, figures."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(?:#[^)]*)?\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
MAKE = re.compile(r"`(?:JINDOPY_\w+=\S+ )*make (\w+)")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def main_group() -> click.Group:
    group = importlib.import_module("jindopy.cli.main").main
    assert isinstance(group, click.Group)
    return group


def command_lines(document: Path) -> Iterator[str]:
    """Calls of jindopy: lines of console blocks, and code between backticks."""
    text = document.read_text()
    for language, body in FENCE.findall(text):
        if language == "console":
            for line in body.splitlines():
                if line.startswith("$ "):
                    yield line[2:].split("  #")[0].strip()
    for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)):
        yield code.strip()


def jindopy_calls() -> list[tuple[str, str]]:
    return [
        (name(document), line.removeprefix(".venv/bin/"))
        for document in DOCUMENTS
        for line in command_lines(document)
        if re.match(r"(\.venv/bin/)?jindopy [a-z]", line)
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    missing = [link for link in LINK.findall(document.read_text()) if not (document.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(MAKE.findall(document.read_text()))
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_files_named_in_code_exist(document: Path) -> None:
    """Paths with a folder and an ending, as `tests/conftest.py`; short ones may leave out the package."""
    missing = [
        path
        for path in re.findall(r"`((?:[\w.]+/)+[\w.]+\.(?:py|pyx|md|toml|sh))`", document.read_text())
        if not any((top / path).exists() for top in (ROOT, ROOT / "jindopy"))
    ]
    assert not missing


@pytest.mark.parametrize(("document", "line"), jindopy_calls())
def test_documented_commands_exist_with_their_options(document: str, line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = main_group()
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        child = command.commands.get(words[0])
        assert child is not None, f"{document}: no command {words[0]!r} in {line!r}"
        command, words = child, words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert used <= known | {"--help"}, f"{document}: {line!r}"


def all_commands(group: click.Group, prefix: str = "jindopy") -> Iterator[str]:
    for word, command in group.commands.items():
        if command.hidden:
            continue
        if isinstance(command, click.Group):
            yield from all_commands(command, f"{prefix} {word}")
        else:
            yield f"{prefix} {word}"


def test_every_command_is_documented_and_has_help() -> None:
    texts = "\n".join(document.read_text() for document in DOCUMENTS)
    undocumented = [command for command in all_commands(main_group()) if not re.search(rf"{command}\b", texts)]
    assert not undocumented


def test_the_figures_in_the_readme_are_those_measured() -> None:
    check = subprocess.run(
        [sys.executable, "scripts/figures.py", "--check"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_the_version_is_said_once() -> None:
    package = importlib.import_module("jindopy").__version__
    assert f'version = "{package}"' in (ROOT / "pyproject.toml").read_text()
    assert f"## {package}" in (ROOT / "CHANGELOG.md").read_text()
