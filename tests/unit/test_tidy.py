"""The tree is tidy: what no linter checks, and what linters cannot see in Cython."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "jindopy"

MAX_LINES = 500
# path → (lines allowed, why it is one idea all the same)
LONGER_FILES: dict[str, tuple[int, str]] = {}

# Calls that read or wait for a clock; only base/clock.py makes them.
CLOCK_CALL = re.compile(
    r"\btime\.(time|time_ns|monotonic|monotonic_ns|perf_counter|perf_counter_ns|sleep)\(|\bdatetime\.(now|utcnow|today)\("
    r"|\bfrom time import\b.*\b(time|monotonic|sleep)\b"
)
GENERATED = PACKAGE / "rpc" / "v1" / "gen"  # as its generator wrote it; another test makes it anew and compares

CLOCK_READERS = {"jindopy/base/clock.py": "the clock itself"}

MARKERS = re.compile(r"\b(TODO|FIXME|XXX|HACK|WIP)\b|NotImplementedError|pragma: no cover|\bmark\.xfail\b")
# Host names of package registries and folders of one machine have no place in a project.
MACHINE = re.compile(
    r"/work/|/root/|pypi\.org|pythonhosted|npmjs|deb\.debian\.org|archive\.ubuntu\.com|/opt/pypi", re.I
)
# The project speaks of itself, not of how it was made.
MAKING = re.compile(r"\b(AI|LLM|claude|copilot|chatgpt|as an assistant|the brief|this session|the issue)\b", re.I)

# Native modules in the order in which they may cimport each other: only what stands before.
NATIVE_ORDER = (
    *("pthreads", "linux", "cursor", "crc64_kernels", "libcurl", "fusewire", "sockets"),  # declarations of foreign C
    *("crc64", "iobuf", "cid"),
    *("nodetree", "nodetrim", "nodesource", "inodes"),
    *("blockfiles", "blockindex", "blocktable", "blockjournal", "blockstate", "blockevict", "blockio", "blocklend"),
    *("blocksync", "blockkeep", "blockviews"),
    "blockstore",
    *("frames", "blocksend", "dataserver", "datalink", "dataclient"),
    *("httphead", "httpcrew", "httpblocks", "httpget"),
    *("fusefiles", "fuseknown", "fusepass", "fusereply", "fusechannel", "fuseopen", "fuseask", "fusesession"),
)


def tracked(*suffixes: str) -> list[Path]:
    """Files that are, or are about to be, in the repository."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    paths = [ROOT / name for name in listing.split("\0") if name.endswith(suffixes)]
    return [path for path in paths if path.is_file() and not path.is_relative_to(GENERATED)]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines_matching(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{relative(path)}:{number}: {line.strip()[:100]}"
        for path in paths
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]


SOURCES = tracked(".py", ".pyx", ".pxd", ".pyi", ".c", ".h", ".sh", "Makefile", ".ci/run")
TEXTS = tracked(
    ".py", ".pyx", ".pxd", ".pyi", ".c", ".h", ".sh", ".md", ".toml", ".json", ".txt", "Makefile", ".ci/run"
)


def test_one_idea_a_file() -> None:
    too_long = []
    for path in tracked(".py", ".pyx"):
        count = len(path.read_text().splitlines())
        allowed, _ = LONGER_FILES.get(relative(path), (MAX_LINES, ""))
        if count > allowed:
            too_long.append(f"{relative(path)}: {count} lines, {allowed} allowed")
    assert not too_long


def test_exceptions_are_still_needed() -> None:
    needless = [
        name
        for name in LONGER_FILES
        if (ROOT / name).exists() and len((ROOT / name).read_text().splitlines()) <= MAX_LINES
    ]
    assert not needless


def test_only_the_clock_reads_the_time() -> None:
    paths = [path for path in tracked(".py") if path.is_relative_to(PACKAGE) and relative(path) not in CLOCK_READERS]
    assert not lines_matching(CLOCK_CALL, paths)


def test_nothing_is_left_over() -> None:
    assert not lines_matching(MARKERS, SOURCES)


def test_no_file_knows_one_machine() -> None:
    assert not lines_matching(MACHINE, TEXTS)


def test_the_project_speaks_of_itself() -> None:
    assert not lines_matching(MAKING, TEXTS)


def cimported(path: Path) -> set[str]:
    return set(re.findall(r"^\s*from jindopy\._ext\.(\w+) cimport", path.read_text(), re.M)) | set(
        re.findall(r"^\s*cimport jindopy\._ext\.(\w+)", path.read_text(), re.M)
    )


@pytest.mark.parametrize("path", tracked(".pyx", ".pxd"), ids=relative)
def test_native_modules_cimport_downwards_only(path: Path) -> None:
    assert path.stem in NATIVE_ORDER, "a new native module: give it its place in NATIVE_ORDER"
    allowed = NATIVE_ORDER[: NATIVE_ORDER.index(path.stem) + 1]
    assert cimported(path) <= set(allowed)


@pytest.mark.parametrize("path", tracked(".pyx"), ids=relative)
def test_every_native_module_has_its_declarations(path: Path) -> None:
    assert (PACKAGE / "_ext" / f"{path.stem}.pyi").exists()


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def names_used(path: Path) -> set[str]:
    """Modules a file imports, and those it names in strings (registries load by dotted name)."""
    used: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            used |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("jindopy."):
            used.add(node.value.split(":")[0])
    return used


def test_no_module_is_dead() -> None:
    package = [path for path in tracked(".py") if path.is_relative_to(PACKAGE)]
    used = {"jindopy.cli.main"}  # the entry point in pyproject.toml
    for path in [*package, *(path for path in tracked(".py") if path.is_relative_to(ROOT / "bench"))]:
        used |= names_used(path)
    dead = [
        module_name(path)
        for path in package
        if path.name not in ("__init__.py", "__main__.py") and module_name(path) not in used
    ]
    assert not dead


def test_files_that_call_themselves_pure_are_held_to_it() -> None:
    """A module whose opening lines say ``P`` stands in the contract of pyproject.toml, and the other way round."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contract = next(one for one in config["tool"]["importlinter"]["contracts"] if one["name"].startswith("Pure files"))
    said = set()
    for path in tracked(".py"):
        opening = ast.get_docstring(ast.parse(path.read_text())) if path.is_relative_to(PACKAGE) else None
        if opening and re.search(r"(^|\s)P[.:](\s|$)", opening):
            said.add(module_name(path))
    listed = set(contract["source_modules"])
    assert said <= listed, "add them to the contract"
    assert all((ROOT / f"{name.replace('.', '/')}.py").exists() for name in listed)


def test_every_test_is_collected() -> None:
    """A file with tests under a name pytest does not collect would pass for ever."""
    lost = [
        relative(path)
        for path in tracked(".py")
        if path.is_relative_to(ROOT / "tests")
        and not path.name.startswith("test_")
        and not path.is_relative_to(ROOT / "tests" / "contracts")
        and re.search(r"^def test_", path.read_text(), re.M)
    ]
    assert not lost


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in tracked(".py") if path.is_relative_to(ROOT / "tests") and path.name != "conftest.py"]
    assert sorted(set(names)) == sorted(names)
