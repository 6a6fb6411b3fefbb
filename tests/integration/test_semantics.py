"""Runs the examples of docs/SEMANTICS.md in a mount of the bucket that the document describes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import oss2
import pytest

from jindopy.config.settings import UfsMount
from tests.emulator_fixture import running_emulator
from tests.mount_fixture import running_mount

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("each_way")]

DOCUMENT = Path(__file__).parents[2] / "docs" / "SEMANTICS.md"
BUCKET = "semantics"
OBJECTS: dict[str, bytes] = {
    "a.txt": b"hello\n",
    "dir/b.bin": os.urandom(3 << 20),
    "dir/empty": b"",
    "marker/": b"",
    "both": b"file",
    "both/inner": b"x",
    "odd//name": b"x",
    "odd/../name": b"x",
}


def examples() -> list[tuple[str, str]]:
    """(command, what it prints) of each console block, in order."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    work = tmp_path_factory.mktemp("semantics")
    with running_emulator(work / "store", buckets=[BUCKET]) as emulator:
        auth = oss2.AuthV4(*emulator.keys)
        bucket = oss2.Bucket(auth, emulator.endpoint, BUCKET, region="cn-hangzhou", is_path_style=True)
        for key, content in OBJECTS.items():
            bucket.put_object(key, content)
        options = {"fs.oss.endpoint": emulator.endpoint, "fs.oss.region": "cn-hangzhou"}
        keys = {"OSS_ACCESS_KEY_ID": emulator.access_key_id, "OSS_ACCESS_KEY_SECRET": emulator.access_key_secret}
        with running_mount(work / "mount", [UfsMount(f"oss://{BUCKET}/", "", options)], env=keys) as mount:
            yield mount.path


def test_the_document_has_examples() -> None:
    assert len(examples()) >= 12


@pytest.mark.parametrize(("command", "expected"), examples(), ids=[command for command, _ in examples()])
def test_example(tree: Path, command: str, expected: str) -> None:
    program, *_ = command.split()
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tree,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        env={**os.environ, "LC_ALL": "C"},
    )
    printed = done.stdout if done.stdout.endswith("\n") or not done.stdout else done.stdout + "\n"
    assert printed == expected
