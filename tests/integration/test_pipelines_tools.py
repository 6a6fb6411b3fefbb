"""What people do with a mounted bucket before they write any code: cp, rsync, grep, git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines_fixture import Bucket, bucket_on_slow_store, files_below, needs, tree_of_files

pytestmark = pytest.mark.root


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    with bucket_on_slow_store(tmp_path) as bucket:
        yield bucket


def run(*command: object, cwd: Path | None = None, codes: tuple[int, ...] = (0,), **environ: str) -> str:
    """Standard output of a command that ends with one of ``codes`` and says nothing on standard error."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C.UTF-8", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode in codes, done
    assert done.stderr == ""
    return done.stdout


def test_cp_copies_a_tree_once(bucket: Bucket, tmp_path: Path) -> None:
    content = tree_of_files(bucket.folder)
    mount = bucket.mount()
    run("cp", "-r", mount, tmp_path / "copy")
    assert files_below(tmp_path / "copy") == content
    blocks = sum(-(-len(data) // (1 << 20)) for data in content.values())
    assert bucket.gets <= blocks, "an object was fetched more than once"
    run("cp", "-a", mount, tmp_path / "again")
    assert bucket.gets <= blocks, "a second copy asked the store"
    assert run("diff", "-r", tmp_path / "again", bucket.folder) == ""
    for name in ("top.bin", "d0/naïve-ü.txt"):
        assert int((tmp_path / "again" / name).stat().st_mtime) == int((bucket.folder / name).stat().st_mtime)


def test_rsync_copies_a_tree_and_then_finds_nothing_to_do(bucket: Bucket, tmp_path: Path) -> None:
    rsync = needs("rsync")
    content = tree_of_files(bucket.folder)
    mount = bucket.mount()
    run(rsync, "-rt", f"{mount}/", tmp_path / "copy")
    assert files_below(tmp_path / "copy") == content
    # Sizes and times are believed; then every byte is compared.
    assert run(rsync, "-rt", "--dry-run", "--itemize-changes", "--omit-dir-times", f"{mount}/", tmp_path / "copy") == ""
    (tmp_path / "copy/top.bin").write_bytes(b"x" + content["top.bin"][1:])
    told = run(rsync, "-rc", "--dry-run", "--itemize-changes", "--omit-dir-times", f"{mount}/", tmp_path / "copy")
    assert [line.split()[-1] for line in told.splitlines()] == ["top.bin"]


def test_rsync_follows_a_change_in_the_bucket(bucket: Bucket, tmp_path: Path) -> None:
    rsync = needs("rsync")
    content = tree_of_files(bucket.folder)
    mount = bucket.mount()
    run(rsync, "-rt", f"{mount}/", tmp_path / "copy")
    bucket.put("top.bin", b"new")
    (bucket.folder / "d2/empty").unlink()
    bucket.list_anew()
    run(rsync, "-rt", "--delete", f"{mount}/", tmp_path / "copy")
    del content["d2/empty"]
    assert files_below(tmp_path / "copy") == content | {"top.bin": b"new"}


def test_grep_finds_what_is_there_and_nothing_else(bucket: Bucket) -> None:
    grep = needs("grep")
    content = tree_of_files(bucket.folder)
    hidden = sorted(name for number, name in enumerate(content) if number % 10 == 3)
    for name in hidden:
        (bucket.folder / name).write_bytes(content[name] + b"\nthe needle in line two\n")
    mount = bucket.mount()
    found = run(grep, "-rl", "the needle", ".", cwd=mount)
    assert sorted(line.removeprefix("./") for line in found.splitlines()) == hidden
    asked = bucket.gets
    assert run(grep, "-rc", "--binary-files=text", "no such words", ".", cwd=mount, codes=(1,)).count(":0\n") == len(
        content
    )
    assert bucket.gets == asked


GIT = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}


@pytest.mark.parametrize("options", [[], ["--no-local"]], ids=["copied", "by upload-pack"])
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "loose"])
def test_git_clones_a_repository_kept_in_the_bucket(
    bucket: Bucket, tmp_path: Path, packed: bool, options: list[str]
) -> None:
    git = needs("git")
    work = tmp_path / "work"
    run(git, "init", "-q", "-b", "main", work, **GIT)
    content = tree_of_files(work)
    for number in range(5):
        (work / "d0/-dash").write_bytes(b"%d" % number)
        run(git, "add", "-A", cwd=work, **GIT)
        run(git, "commit", "-q", "-m", f"change {number}", cwd=work, **GIT)
    content["d0/-dash"] = b"4"
    run(git, "clone", "-q", "--bare", "--no-hardlinks", work, bucket.folder / "repo.git", **GIT)
    if packed:
        run(git, "repack", "-adq", cwd=bucket.folder / "repo.git", **GIT)
    # A bucket has no empty directories, and git takes a folder without refs/ for no repository.
    head = run(git, "rev-parse", "HEAD", cwd=work, **GIT)
    (bucket.folder / "repo.git/refs/heads/main").write_text(head)
    (bucket.folder / "repo.git/packed-refs").unlink(missing_ok=True)
    mount = bucket.mount()
    run(git, "clone", "-q", *options, mount / "repo.git", tmp_path / "clone", **GIT)
    run(git, "fsck", "--full", "--no-progress", cwd=tmp_path / "clone", **GIT)
    assert run(git, "rev-parse", "HEAD", cwd=tmp_path / "clone", **GIT) == head
    assert len(run(git, "log", "--oneline", cwd=tmp_path / "clone", **GIT).splitlines()) == 5
    cloned = {name: data for name, data in files_below(tmp_path / "clone").items() if not name.startswith(".git/")}
    assert cloned == content
