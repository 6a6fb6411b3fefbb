"""What a mounted bucket shows beyond names and bytes: links, checksums, archives, attributes; and who may ask it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import oss2
import psutil
import pytest

from jindopy.config.settings import UfsMount
from jindopy.control.api import LoadRequest
from tests.emulator_fixture import Emulator, running_emulator
from tests.fault_fixture import BUCKET, KEYS, REGION, control, store_bucket
from tests.mount_fixture import RunningMount, running_mount, wait_until

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("each_way")]

CONTENT = b"0123456789" * 1000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Emulator]:
    with running_emulator(tmp_path / "store", buckets=[BUCKET]) as emulator:
        bucket = store_bucket(emulator)
        for key in ("in/file", "in/deep/file", "outside"):
            bucket.put_object(key, CONTENT)
        yield emulator


@pytest.fixture
def bucket(store: Emulator) -> oss2.Bucket:
    return store_bucket(store)


@contextlib.contextmanager
def mounted(work: Path, store: Emulator, **changes: object) -> Iterator[RunningMount]:
    options = {"fs.oss.endpoint": store.endpoint, "fs.oss.region": REGION}
    with running_mount(work, [UfsMount(f"oss://{BUCKET}/in", "", options)], KEYS, **changes) as made:
        yield made


def test_symbolic_links(tmp_path: Path, store: Emulator, bucket: oss2.Bucket) -> None:
    bucket.put_symlink("in/file", "in/deep/up")
    bucket.put_symlink("in/deep/file", "in/down")
    bucket.put_symlink("in/nothing", "in/dangling")
    bucket.put_symlink("outside", "in/out")
    with mounted(tmp_path / "work", store) as mount:
        assert {entry.name for entry in os.scandir(mount.path) if entry.is_symlink()} == {"down", "dangling", "out"}
        assert os.readlink(mount.path / "deep" / "up") == "../file"
        assert os.readlink(mount.path / "down") == "deep/file"
        for link in ("deep/up", "down"):
            assert stat.S_ISLNK((mount.path / link).lstat().st_mode)
            assert (mount.path / link).read_bytes() == CONTENT
        with pytest.raises(FileNotFoundError):
            (mount.path / "dangling").read_bytes()
        with pytest.raises(OSError) as out:
            os.readlink(mount.path / "out")
        assert out.value.errno == errno.EIO
        assert "points out of the mount, to outside" in mount.log


def test_the_checksum_is_told_once_a_request_has_told_it(tmp_path: Path, store: Emulator, bucket: oss2.Bucket) -> None:
    with mounted(tmp_path / "work", store) as mount:
        path = mount.path / "file"
        heads = store.stats().get("HeadObject", 0)
        with pytest.raises(OSError) as unknown:
            os.getxattr(path, "user.jindo.crc64")
        assert unknown.value.errno == errno.ENODATA
        assert store.stats().get("HeadObject", 0) == heads, "no hidden request"
        assert path.read_bytes() == CONTENT
        told = bucket.head_object("in/file")

        def known() -> bool:  # it is handed on behind the bytes
            with contextlib.suppress(OSError):
                return bool(os.getxattr(path, "user.jindo.crc64"))
            return False

        wait_until(known)
        assert int(os.getxattr(path, "user.jindo.crc64"), 16) == int(told.headers["x-oss-hash-crc64ecma"])
        assert os.getxattr(path, "user.jindo.etag").decode() == told.etag
        assert os.getxattr(path, "user.jindo.ufs") == f"oss://{BUCKET}/in/file".encode()
        assert os.listxattr(mount.path / "deep") == ["user.jindo.ufs"]


def test_archived_objects(tmp_path: Path, store: Emulator, bucket: oss2.Bucket) -> None:
    bucket.put_object("in/frozen", CONTENT, headers={"x-oss-storage-class": "Archive"})
    with mounted(tmp_path / "work", store) as mount:
        with pytest.raises(OSError) as frozen:
            (mount.path / "frozen").read_bytes()
        assert frozen.value.errno == errno.EIO
        assert "restore it" in mount.log
        bucket.restore_object("in/frozen")
        assert (mount.path / "frozen").read_bytes() == CONTENT


def test_owner_and_permissions_are_those_asked_for(tmp_path: Path, store: Emulator) -> None:
    with mounted(tmp_path / "work", store, uid=1234, gid=2345, umask=0o077, ttl_seconds=float("inf")) as mount:
        for path, mode in ((mount.path / "file", 0o100600), (mount.path / "deep", 0o040700), (mount.path, 0o040700)):
            seen = path.stat()
            assert (seen.st_mode, seen.st_uid, seen.st_gid, seen.st_nlink) == (mode, 1234, 2345, 1)
        # No marker says when: the start of the mount does.
        namespace = mount.others[-1] if mount.others else mount.process
        started = psutil.Process(namespace.pid).create_time()
        assert started - 1 <= (mount.path / "deep").stat().st_mtime <= started + 30
        assert os.access(mount.path / "file", os.R_OK)
        assert not os.access(mount.path / "file", os.X_OK)
        assert not os.access(mount.path / "file", os.W_OK)
        list(mount.path.rglob("*"))
        figures = os.statvfs(mount.path)
        assert figures.f_flag & os.ST_RDONLY
        assert figures.f_bfree == figures.f_bavail == 0


def test_the_whole_tree_in_statfs(tmp_path: Path, store: Emulator) -> None:
    with mounted(tmp_path / "work", store) as mount:
        assert sorted(str(path.relative_to(mount.path)) for path in mount.path.rglob("*")) == [
            "deep",
            "deep/file",
            "file",
        ]
        figures = os.statvfs(mount.path)
        assert figures.f_blocks * figures.f_frsize >= 2 * len(CONTENT)
        assert figures.f_files >= 3


def test_a_metadata_load_takes_back_what_the_kernel_believes_for_ever(
    tmp_path: Path, store: Emulator, bucket: oss2.Bucket
) -> None:
    with mounted(tmp_path / "work", store, ttl_seconds=float("inf")) as mount:
        assert (mount.path / "file").read_bytes() == CONTENT
        assert (mount.path / "deep" / "file").exists()
        assert not (mount.path / "deep" / "new").exists()
        changed = CONTENT[::-1]  # of the same size
        bucket.put_object("in/file", changed)
        bucket.delete_object("in/deep/file")
        bucket.put_object("in/deep/new", b"new")
        with (mount.path / "file").open("rb") as old:
            assert old.read() == CONTENT, "nobody has said anything yet"
            *_, last = control(mount).load(LoadRequest([], data=False))
            assert last.phase == "complete"
            wait_until(lambda: (mount.path / "file").read_bytes() == changed)
            wait_until(lambda: not (mount.path / "deep" / "file").exists())
            wait_until((mount.path / "deep" / "new").exists)
            old.seek(0)
            assert old.read() == CONTENT


def test_what_is_evicted_is_asked_for_again(tmp_path: Path, store: Emulator) -> None:
    with mounted(tmp_path / "work", store) as mount:
        path = mount.path / "deep" / "file"
        assert path.read_bytes() == path.read_bytes() == CONTENT
        gets = store.stats()["GetObject"]
        done = control(mount).evict(["deep"])
        assert (done.files, done.bytes) == (1, len(CONTENT))

        def asked_again() -> bool:  # the kernel hears of it a moment later
            assert path.read_bytes() == CONTENT
            return bool(store.stats()["GetObject"] > gets)

        wait_until(asked_again)
        assert int(os.getxattr(path, "user.jindo.cached")) == len(CONTENT)
        assert control(mount).evict(["file"]).files == 0


def test_no_port_is_opened(tmp_path: Path, store: Emulator) -> None:
    with mounted(tmp_path / "work", store) as mount:
        assert (mount.path / "file").read_bytes() == CONTENT
        daemon = psutil.Process(mount.process.pid)
        listening = [c for c in daemon.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert listening == []
        assert daemon.children() == []
        assert [c for c in daemon.net_connections("unix") if c.laddr] != []
