"""Mountinfo as kernels write it; probing, finding open files and unmounting on the real system."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jindopy.base import mountinfo
from jindopy.base.errors import MountPointError
from jindopy.base.mountinfo import Liveness, abort, at, find, open_files, parse, probe

TEXT = r"""23 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw
28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
90 28 0:52 / /mnt/a\040b\134c rw,nosuid,nodev shared:9 master:3 - fuse.jindopy oss://b/x\040y rw,user_id=0
91 28 0:53 /sub /mnt rw - fuse /dev/x rw
92 91 0:54 / /mnt rw - tmpfs tmpfs rw
not a line
93 28 0:55 / /caf\303\251 rw - fuse.sshfs h: rw
"""


def test_lines_are_taken_apart() -> None:
    entries = parse(TEXT)
    assert [entry.mount_id for entry in entries] == [23, 28, 90, 91, 92, 93]
    ours = entries[2]
    assert ours.mount_point == "/mnt/a b\\c"
    assert ours.source == "oss://b/x y"
    assert ours.device == (0, 52)
    assert ours.options == ("rw", "nosuid", "nodev")
    assert ours.ours
    assert ours.is_fuse
    assert [entry.is_fuse for entry in entries] == [False, False, True, True, False, True]
    assert entries[3].root == "/sub"
    assert entries[5].mount_point == "/café"


def test_the_deepest_and_topmost_mount_is_found() -> None:
    entries = parse(TEXT)
    for path, expected in [("/", 28), ("/etc/x", 28), ("/mnt/z", 92), ("/mnt/a b\\c/d", 90), ("/mnt/a b\\cd", 92)]:
        found = find(path, entries)
        assert found is not None
        assert found.mount_id == expected
    assert find("/x", []) is None
    assert at("/mnt/z", entries) is None
    assert at("/mnt", entries) == entries[4]


def test_the_real_file_can_be_read() -> None:
    root = find("/", mountinfo.read())
    assert root is not None
    assert root.mount_point == "/"


def test_probe_of_living_and_missing_paths(tmp_path: Path) -> None:
    assert probe(str(tmp_path)) is Liveness.ALIVE
    assert probe(str(tmp_path / "none")) is Liveness.ABSENT


def test_a_probe_without_answer_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(mountinfo.os, "statvfs", lambda path: os.read(reader, 1))
    assert probe(str(tmp_path), 0.05) is Liveness.STUCK
    os.close(writer)
    os.close(reader)


@pytest.mark.parametrize("number", [107, 103])
def test_a_dead_mount_is_told_by_its_error(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(path: str) -> None:
        raise OSError(number, "x")

    monkeypatch.setattr(mountinfo.os, "statvfs", dead)
    assert probe(str(tmp_path)) is Liveness.DEAD


def test_open_mapped_and_current_paths_of_other_processes_are_found(tmp_path: Path) -> None:
    (tmp_path / "open file").write_bytes(b"x" * 4096)
    (tmp_path / "mapped").write_bytes(b"x" * 4096)
    (tmp_path / "cwd").mkdir()
    code = """
import mmap, os, sys
f = open(sys.argv[1] + '/open file')
fd = os.open(sys.argv[1] + '/mapped', os.O_RDONLY)
m = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
os.close(fd)
print('ready', flush=True)
sys.stdin.read()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path / "cwd",
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        found = open_files(str(tmp_path))
        assert [(file.pid, file.path) for file in found] == [
            (child.pid, str(tmp_path / name)) for name in ("cwd", "mapped", "open file")
        ]
        assert all(sys.executable in file.command for file in found)
        assert open_files(str(tmp_path), ignore=frozenset({child.pid})) == []
        child.communicate()
    assert open_files(str(tmp_path)) == []


def test_only_fuse_connections_can_be_aborted() -> None:
    with pytest.raises(MountPointError, match="is no FUSE mount"):
        abort(parse(TEXT)[1])


def test_an_abort_writes_to_its_own_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountinfo, "CONNECTIONS", tmp_path)
    (tmp_path / "52").mkdir()
    abort(parse(TEXT)[2])
    assert (tmp_path / "52/abort").read_text() == "1"
    with pytest.raises(MountPointError, match="mount -t fusectl"):
        abort(parse(TEXT)[3])


@pytest.mark.root
def test_unmounting_what_is_mounted_and_what_is_busy(tmp_path: Path) -> None:
    point = tmp_path / "m"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(point)], check=True)
    try:
        with (point / "file").open("w"):
            with pytest.raises(OSError, match="busy"):
                mountinfo.unmount(str(point))
            assert at(str(point), mountinfo.read()) is not None
            mountinfo.unmount(str(point), lazy=True)
        assert at(str(point), mountinfo.read()) is None
    finally:
        subprocess.run(["umount", "-l", str(point)], check=False, capture_output=True)
    with pytest.raises(OSError, match="Invalid argument"):
        mountinfo.unmount(str(point))


def test_without_root_the_helper_unmounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "fusermount3"
    helper.write_text('#!/bin/sh\necho "$@" >> "$0.log"\n[ -e "$0.fail" ] && { cat "$0.fail" >&2; exit 1; }\nexit 0\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(mountinfo.os, "geteuid", lambda: 1000)
    mountinfo.unmount("/x y", lazy=True)
    mountinfo.unmount("/x y")
    assert (tmp_path / "fusermount3.log").read_text() == "-u -z /x y\n-u /x y\n"
    (tmp_path / "fusermount3.fail").write_text("fusermount3: failed to unmount /x: Device or resource busy")
    with pytest.raises(OSError, match="busy"):
        mountinfo.unmount("/x")
    (tmp_path / "fusermount3.fail").write_text("fusermount3: entry for /x not found in /etc/mtab")
    with pytest.raises(MountPointError, match="not found"):
        mountinfo.unmount("/x")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MountPointError, match="install the package fuse3"):
        mountinfo.unmount("/x")
