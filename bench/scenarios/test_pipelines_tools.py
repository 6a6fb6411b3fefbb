"""A tree of source files and data through cp, rsync, grep and git, beside the same on a plain disk."""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.lib import content, pagecache
from bench.lib.mounts import Client
from bench.lib.pairs import Pairs, Record, median_ratio, traffic_facts
from bench.lib.server import BUCKET, Server

URI = f"oss://{BUCKET}/"
FILES = 1_500
LARGE_BYTES = 64 << 20
WORDS = ("and", "block", "cache", "data", "evict", "fetch", "graph", "hash", "index", "join", "key", "lease")
TIMEOUT_SECONDS = 300
GIT = {
    **{f"GIT_{who}_{what}": "bench@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}


def write_tree(folder: Path) -> None:
    """Text of 1 to 40 kB in 50 folders, and two large files."""
    source = random.Random(1)
    for number in range(FILES):
        path = folder / f"d{number % 50:02}" / f"f{number:04}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (" ".join(source.choices(WORDS, k=10)) for _ in range(source.randrange(20, 700)))
        path.write_text("\n".join(lines) + "\n")
    for number in range(2):
        content.write_file(folder / f"large{number}", LARGE_BYTES, seed=number)


def command(*words: object, code: int = 0) -> None:
    """Run a program that must end with ``code``."""
    done = subprocess.run(
        [str(word) for word in words],
        env={**os.environ, **GIT},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )
    if done.returncode != code:
        raise RuntimeError(f"{words[0]}: exit {done.returncode}: {done.stderr[-500:]!r}")


class Setting:
    """The tree and a repository of it, in a bucket, in a client's cache and on the plain disk."""

    def __init__(self, disk: Path, cgroup: str) -> None:
        self.cgroup = cgroup
        self.reference = disk / "reference"
        self.target = disk / "target"
        write_tree(self.reference / "tree")
        self._make_repository(disk / "work")
        self.server = Server(disk / "store")
        shutil.copytree(self.reference, self.server.bucket, dirs_exist_ok=True)
        self.client = Client(disk / "client", self.server.environment)
        with self.client.mounted(URI) as folder:
            self.client.run("load", str(folder))

    def _make_repository(self, work: Path) -> None:
        shutil.copytree(self.reference / "tree", work)
        bare = self.reference / "repo.git"
        command("git", "init", "-q", "-b", "main", work)
        command("git", "-C", work, "add", "-A")
        command("git", "-C", work, "commit", "-q", "-m", "all")
        command("git", "clone", "-q", "--bare", "--no-hardlinks", work, bare)
        command("git", "-C", bare, "repack", "-adq")
        # A bucket has no empty directories, and git takes a folder without refs/ for no repository.
        shutil.copyfile(work / ".git/refs/heads/main", bare / "refs/heads/main")
        (bare / "packed-refs").unlink()

    def end(self) -> None:
        self.client.end()
        self.server.stop()


@pytest.fixture(scope="module")
def setting(disk: Path, memory_cgroup: str) -> Iterator[Setting]:
    made = Setting(disk, memory_cgroup)
    yield made
    made.end()


Tool = Callable[[Path, Path], None]
"""``tool(from, to)``"""


def measure(setting: Setting, pairs: Pairs, record: Record, figure: str, tool: Tool) -> None:
    resident, traffic = [], []

    def timed(source: Path, paths: list[Path]) -> float:
        shutil.rmtree(setting.target, ignore_errors=True)
        resident.append(pagecache.drop_and_check(paths))
        start = time.perf_counter()
        tool(source, setting.target)
        return time.perf_counter() - start

    def raw() -> float:
        return timed(setting.reference, pagecache.files_below(setting.reference))

    def mounted() -> float:
        with setting.client.mounted(URI) as folder:
            seconds = timed(folder, setting.client.cache_files())
            traffic.append(setting.client.status()["traffic"])
        return seconds

    raw_seconds, mount_seconds = pairs(raw, mounted)
    record(
        figure,
        median_ratio(mount_seconds, raw_seconds),
        **traffic_facts(traffic),
        resident_pages=max(resident),
        seconds=statistics.median(mount_seconds),
        reference_seconds=statistics.median(raw_seconds),
        cgroup=setting.cgroup,
    )


@pytest.mark.figure_cp_vs_raw
def test_cp(setting: Setting, pairs: Pairs, record: Record) -> None:
    measure(setting, pairs, record, "cp_vs_raw", lambda source, to: command("cp", "-r", source / "tree", to))
    command("diff", "-r", setting.reference / "tree", setting.target)


@pytest.mark.figure_rsync_vs_raw
def test_rsync(setting: Setting, pairs: Pairs, record: Record) -> None:
    if shutil.which("rsync") is None:
        pytest.skip("needs rsync")
    measure(setting, pairs, record, "rsync_vs_raw", lambda source, to: command("rsync", "-rt", f"{source}/tree/", to))
    command("diff", "-r", setting.reference / "tree", setting.target)


@pytest.mark.figure_grep_vs_raw
def test_grep(setting: Setting, pairs: Pairs, record: Record) -> None:
    def grep(source: Path, _to: Path) -> None:
        command("grep", "-r", "no such word", source / "tree", code=1)

    measure(setting, pairs, record, "grep_vs_raw", grep)


@pytest.mark.figure_git_clone_vs_raw
def test_git_clone(setting: Setting, pairs: Pairs, record: Record) -> None:
    def clone(source: Path, to: Path) -> None:
        command("git", "clone", "-q", "--no-local", source / "repo.git", to)

    measure(setting, pairs, record, "git_clone_vs_raw", clone)
    command("git", "-C", setting.target, "fsck", "--full", "--no-progress")
