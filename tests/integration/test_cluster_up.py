"""``jindopy up``: a cluster from one file, ended in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jindopy.base.errors import ConfigError
from jindopy.config.cluster_file import plan
from tests.mount_fixture import wait_until

ROOT = Path(__file__).parents[2]


def document(work: Path, **changes: object) -> dict[str, object]:
    return {
        "work_dir": str(work / "cluster"),
        "mounts": [f"local://{work}/data"],
        "master": {"listen": "127.0.0.1:0", "ttl": "1s"},
        "workers": [{"quota": "64M", "min_free": 0}, {"quota": "64M", "min_free": 0}],
        "clients": [{"dir": str(work / "mnt"), "quota": "32M", "min_free": 0}],
    } | changes


def write(work: Path, content: object) -> Path:
    import yaml

    path = work / "cluster.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def start(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "jindopy", "up", "-f", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.root
def test_a_cluster_comes_up_survives_a_loss_and_ends_in_order(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(b"hello" * 1000)
    process = start(write(tmp_path, document(tmp_path)))
    try:
        assert process.stderr is not None
        lines = []
        while not lines or "is up" not in lines[-1]:
            line = process.stderr.readline()
            assert line, lines
            lines.append(line)
        assert [line.split(":")[1].strip() for line in lines[:-1]] == ["master", "worker-1", "worker-2", "client-1"]
        assert (tmp_path / "mnt" / "file").read_bytes() == b"hello" * 1000
        worker = int(lines[1].rpartition("pid ")[2].strip(")\n"))
        os.kill(worker, signal.SIGKILL)
        assert "worker-1 has ended" in process.stderr.readline()
        (tmp_path / "data" / "other").write_bytes(b"2")
        wait_until((tmp_path / "mnt" / "other").exists)
        assert (tmp_path / "mnt" / "other").read_bytes() == b"2"
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(60) == 1, "one was lost"
        assert [line.rpartition(" ")[2] for line in rest.splitlines()] == ["client-1", "worker-2", "master"]
        assert not os.path.ismount(tmp_path / "mnt")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(100)
        process.stderr.close()


def test_a_member_that_cannot_start_is_told_and_the_others_end(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    broken = document(tmp_path, workers=[{"quota": "1G", "listen": "nonsense"}])
    process = start(write(tmp_path, broken))
    assert process.stderr is not None
    said = process.stderr.read()
    assert process.wait(60) != 0
    process.stderr.close()
    assert "worker-1 did not start: --listen: 'nonsense' is no address" in said
    assert "ending master" in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"work_dir": "relative"}, "work_dir"),
        ({"mounts": []}, "mounts"),
        ({"mounts": "oss://b"}, "mounts"),
        ({"workers": []}, "at least one"),
        ({"workers": [{}] * 65}, "at most 64"),
        ({"workers": {"quota": "1G"}}, "must be a list"),
        ({"workers": ["1G"]}, "workers.0. must hold flags"),
        ({"clients": [{}]}, "dir must be"),
        ({"storage": {"access_key_secret": "x"}}, "secrets may not"),
        ({"storage": {"--endpoint": "x"}}, "no flag"),
        ({"storage": {"endpoint": ["x"]}}, "no flag"),
        ({"worker": []}, "no section 'worker'"),
    ],
)
def test_documents_that_are_none(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan(document(tmp_path) | changes, "cluster.yaml")
    with pytest.raises(ConfigError, match="is no cluster"):
        plan([], "cluster.yaml")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jindopy", "up", *arguments], capture_output=True, text=True, check=False, timeout=30
    )


def test_the_sample_is_one(tmp_path: Path) -> None:
    done = run("-f", str(ROOT / "manifests/cluster.yaml"), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["master", "worker", "worker", "fuse"]
    (tmp_path / "broken.yaml").write_text("a: [")
    assert "not valid YAML in line" in run("-f", str(tmp_path / "broken.yaml")).stderr
    assert "No such file" in run("-f", str(tmp_path / "absent.yaml")).stderr
