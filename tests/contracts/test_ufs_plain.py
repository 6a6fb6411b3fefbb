"""The UFS contract over the drivers that need no network."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from contracts.ufs import UfsContract, keys, soon

from jindopy.base.errors import AccessDenied, BucketNotFound, ObjectNotFound, VersionChanged
from jindopy.base.ident import Kind
from jindopy.base.retry import RetryPolicy
from jindopy.ufs import memory
from jindopy.ufs.base import Driver
from jindopy.ufs.layer_faults import Fault, FaultPlan
from jindopy.ufs.layers import LayerConfig, wrap
from jindopy.ufs.local import LocalDriver
from jindopy.ufs.memory import MemoryDriver


class TestMemory(UfsContract):
    @pytest.fixture
    def driver(self) -> Driver:
        return MemoryDriver("contract", memory.MemoryStore())

    def test_overwritten_between_two_calls(self) -> None:
        driver = MemoryDriver("x", memory.MemoryStore())
        old = driver.put(b"k", b"old", deadline=soon())
        driver.on_call = lambda operation, key: driver.store.put(b"k", b"new") if operation == "get" else None
        with pytest.raises(VersionChanged):
            driver.get(b"k", 0, 3, token=old.token, deadline=soon())

    def test_two_drivers_of_one_name_share_a_store(self) -> None:
        MemoryDriver("shared-name").put(b"k", b"v", deadline=soon())
        assert MemoryDriver("shared-name").stat(b"k", deadline=soon()).size == 1
        memory.forget("shared-name")
        with pytest.raises(ObjectNotFound):
            MemoryDriver("shared-name").stat(b"k", deadline=soon())
        memory.forget("shared-name")


def faulty(driver: Driver) -> Driver:
    """Through all layers: a third of all requests and a tenth of all reads fail, and nobody notices."""
    rates = {Fault.ERROR: 0.2, Fault.THROTTLED: 0.1, Fault.RESET: 0.05, Fault.TRUNCATED: 0.05}
    policy = RetryPolicy(attempts=20, base_seconds=0.0005, cap_seconds=0.002)
    return wrap(driver, LayerConfig(retry=policy, faults=FaultPlan(rates, seed=7)))


class TestMemoryThroughFaults(UfsContract):
    @pytest.fixture
    def driver(self) -> Driver:
        return faulty(MemoryDriver("contract", memory.MemoryStore()))


class TestLocalThroughFaults(UfsContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> Iterator[Driver]:
        driver = faulty(LocalDriver(tmp_path))
        yield driver
        driver.close()


class TestLocal(UfsContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        root = tmp_path / "exported"
        root.mkdir()
        return root

    @pytest.fixture
    def driver(self, root: Path) -> Iterator[Driver]:
        driver = LocalDriver(root)
        yield driver
        driver.close()

    def test_no_link_leads_out(self, driver: Driver, root: Path, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("secret")
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "file").write_text("secret")
        (root / "inside").write_text("fine")
        (root / "dir").mkdir()
        (root / "out-file").symlink_to("../secret")
        (root / "out-dir").symlink_to(tmp_path / "outside")
        (root / "dir" / "deep").symlink_to("../../secret")
        (root / "dir" / "good").symlink_to("../inside")
        assert keys(driver, b"") == [b"dir/good", b"inside"]
        for key in (b"out-file", b"out-dir/file", b"dir/deep", b"dir/good"):
            with pytest.raises(ObjectNotFound):
                driver.get(key, 0, 1, token=None, deadline=soon())
        for key in (b"out-file", b"dir/deep"):
            with pytest.raises(ObjectNotFound):
                driver.read_link(key, deadline=soon())
            with pytest.raises(ObjectNotFound):
                driver.stat(key, deadline=soon())
        assert driver.read_link(b"dir/good", deadline=soon()) == b"inside"
        assert driver.stat(b"dir/good", deadline=soon()).kind is Kind.SYMLINK
        with pytest.raises(ObjectNotFound):
            driver.put(b"out-dir/new", b"x", deadline=soon())
        assert not (tmp_path / "outside" / "new").exists()

    def test_special_files_are_skipped_and_never_waited_for(self, driver: Driver, root: Path) -> None:
        os.mkfifo(root / "pipe")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(root / "socket"))
            (root / "file").write_text("x")
            assert keys(driver, b"") == [b"file"]
            for key in (b"pipe", b"socket"):
                with pytest.raises(ObjectNotFound):
                    driver.get(key, 0, 0, token=None, deadline=soon())

    def test_write_during_a_read_is_noticed(self, driver: Driver, root: Path) -> None:
        (root / "f").write_bytes(b"a" * 100)
        with driver.get(b"f", 0, 100, token=None, deadline=soon()) as body:
            assert body.readinto(memoryview(bytearray(10))) == 10
            (root / "f").write_bytes(b"b" * 50)
            with pytest.raises(VersionChanged):
                body.readinto(memoryview(bytearray(90)))

    def test_empty_directories_are_markers(self, driver: Driver, root: Path) -> None:
        (root / "empty").mkdir()
        (root / "full").mkdir()
        (root / "full" / "f").write_text("x")
        flat = driver.list_page(b"", delimiter=False, deadline=soon())
        assert [(entry.key, entry.kind) for entry in flat.objects] == [
            (b"empty/", Kind.DIRECTORY),
            (b"full/f", Kind.FILE),
        ]
        assert driver.list_page(b"", delimiter=True, deadline=soon()).prefixes == [b"empty/", b"full/"]
        assert driver.stat(b"full/", deadline=soon()).kind is Kind.DIRECTORY
        with pytest.raises(ObjectNotFound):
            driver.stat(b"full", deadline=soon())

    def test_a_large_directory_is_sorted_once_and_again_after_a_change(self, root: Path) -> None:
        driver = LocalDriver(root)
        for index in range(1500):
            (root / f"{index:04d}").touch()
        os.utime(root, (1_600_000_000, 1_600_000_000))
        assert len(keys(driver, b"", limit=100)) == 1500
        (root / "new").touch()
        (root / "0000").unlink()
        found = keys(driver, b"", limit=100)
        assert len(found) == 1500
        assert b"new" in found
        assert b"0000" not in found
        driver.close()

    def test_missing_root(self, tmp_path: Path) -> None:
        with pytest.raises(BucketNotFound, match="no such directory; create it"):
            LocalDriver(tmp_path / "none")
        (tmp_path / "file").touch()
        with pytest.raises(BucketNotFound, match="is not a directory"):
            LocalDriver(tmp_path / "file")

    def test_permission_denied_is_told_as_such(self, root: Path) -> None:
        driver = LocalDriver(root)
        told = driver.translated(PermissionError(errno.EACCES, "no"), b"f")
        assert isinstance(told, AccessDenied)
        assert "permission denied" in told.message
        driver.close()
