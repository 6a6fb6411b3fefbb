"""What a mount answers to ``status``, ``ls``, ``stat``, ``doctor --scrub`` and ``umount``, figure by figure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from load_fixture import LoadBench

from jindopy.base.errors import NoSuchEntry, UsageError
from jindopy.base.records import decode, encode
from jindopy.control.api import DaemonApi, DaemonStatus, ScrubProgress
from jindopy.ufs.base import Capability

MIB = 1 << 20


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LoadBench]:
    made = LoadBench(tmp_path, request.node.name)
    made.put("a/one", b"1" * 3 * MIB)
    made.put("a/two", b"2" * 1000)
    made.put("b/deep/three", b"3" * 10)
    made.put("top \xe9", b"")
    yield made
    made.stop()


def test_the_daemon_is_what_the_socket_serves(bench: LoadBench) -> None:
    api: DaemonApi = bench.daemon
    api.shutdown(5.0)
    api.shutdown(-1.0)
    assert bench.ended == [5.0, 0.0]


def test_status_of_a_fresh_mount(bench: LoadBench) -> None:
    status = bench.daemon.status()
    assert (status.mount_id, status.mount_point, status.pid) == ("0123456789ab", "/mnt/data", os.getpid())
    assert status.traffic.hit_ratio == 1.0
    assert status.traffic.read_bytes == status.traffic.saved_bytes == 0
    assert status.memory_bytes > 10 * MIB
    assert status.notes == ["read-ahead is not set"]
    assert decode(DaemonStatus, encode(status)) == status


def test_status_counts_files_and_cached_bytes(bench: LoadBench) -> None:
    bench.load("a")
    status = bench.daemon.status()
    (mount,) = status.mounts
    assert (mount.path, mount.uri, mount.consistency) == ("", f"memory://{bench.name}", "strong")
    assert (mount.cached_bytes, mount.cached_files) == (3 * MIB + 1000, 2)
    bench.load(data=False)
    (mount,) = bench.daemon.status().mounts
    assert (mount.files, mount.size_bytes) == (4, 3 * MIB + 1010)
    (tier,) = status.tiers
    assert (tier.name, tier.quota_bytes, tier.state, tier.high, tier.low) == ("SSD", 1 << 30, "normal", 0.95, 0.8)
    assert tier.cached_bytes == 3 * MIB + 1000
    assert tier.used_bytes >= tier.cached_bytes


def test_status_counts_open_files_and_reads(bench: LoadBench) -> None:
    bench.load()
    assert bench.read("a/one") == b"1" * 3 * MIB
    bench.read("a/two")
    status = bench.daemon.status()
    assert status.traffic.read_bytes == status.traffic.cache_read_bytes == 3 * MIB + 1000
    assert status.traffic.saved_bytes == 3 * MIB + 1000  # the bare driver here counts no requests
    assert status.traffic.saved_gets == 4  # of 1 MiB at most
    assert status.traffic.hit_ratio == 1.0
    nodeid = bench.vfs.lookup(bench.vfs.lookup(1, b"a").nodeid, b"one").nodeid
    bench.vfs.open(nodeid)
    assert bench.daemon.status().open_files == 1
    bench.vfs.release(nodeid)


def test_status_starts_from_zero_in_a_new_daemon(bench: LoadBench) -> None:
    bench.load()
    bench.read("a/one")
    bench.restart()
    assert bench.daemon.status().traffic.read_bytes == 0
    assert bench.daemon.status().mounts[0].cached_files == 3


def test_status_tells_of_weak_consistency(bench: LoadBench) -> None:
    bench.gate.capabilities = Capability.NONE
    status = bench.daemon.status()
    assert status.mounts[0].consistency == "weak"
    assert any("weak consistency" in note for note in status.notes)


def test_ls_shows_children_sorted(bench: LoadBench) -> None:
    bench.load("a/two")
    assert [(entry.path, entry.kind) for entry in bench.daemon.list_dir("")] == [
        ("a", "directory"),
        ("b", "directory"),
        ("top \xe9", "file"),
    ]
    one, two = bench.daemon.list_dir("/a/")
    assert (one.path, one.size_bytes, one.cached_bytes) == ("a/one", 3 * MIB, 0)
    assert (two.path, two.size_bytes, two.cached_bytes) == ("a/two", 1000, 1000)
    assert two.ufs == f"memory://{bench.name}/a/two"
    assert two.etag == bench.version("a/two").token.decode()
    assert bench.daemon.list_dir("a/two") == [two]


def test_stat_of_a_file_and_sums_of_a_directory(bench: LoadBench) -> None:
    bench.load()
    file = bench.daemon.stat("b/deep/three")
    assert (file.kind, file.size_bytes, file.cached_bytes, file.crc64, file.pinned) == ("file", 10, 10, None, False)
    bench.daemon.evict(["a/one"])
    directory = bench.daemon.stat("a")
    assert (directory.kind, directory.size_bytes, directory.cached_bytes) == ("directory", 3 * MIB + 1000, 1000)
    assert bench.daemon.stat("").size_bytes == 3 * MIB + 1010
    assert bench.daemon.stat("").ufs == f"memory://{bench.name}"


def test_stat_takes_names_as_they_are(bench: LoadBench) -> None:
    bench.store.put(b"we*ird[1]\xff", b"x")
    entry = bench.daemon.stat("we*ird[1]\udcff")
    assert entry.size_bytes == 1
    assert entry.path == "we*ird[1]\udcff"
    with pytest.raises(NoSuchEntry, match="no such file"):
        bench.daemon.stat("we*")
    with pytest.raises(UsageError):
        bench.daemon.stat("../etc/passwd")


def test_skipped_keys_are_told_with_their_uri(bench: LoadBench) -> None:
    bench.store.put(b"a/../x", b"")
    bench.store.put(b"a//y", b"")
    bench.load(data=False)
    assert sorted(bench.daemon.skipped_keys()) == [
        (f"memory://{bench.name}/a/../", "dotdot"),
        (f"memory://{bench.name}/a//", "empty-component"),
    ]
    status = bench.daemon.status()
    assert status.skipped_keys == 2
    assert any("doctor" in note for note in status.notes)


def scrub(bench: LoadBench) -> ScrubProgress:
    *before, last = bench.daemon.scrub()
    assert last.done
    assert not any(progress.done for progress in before)
    return last


def test_scrub_finds_nothing_wrong(bench: LoadBench) -> None:
    bench.load()
    last = scrub(bench)
    assert (last.files_total, last.files_checked, last.blocks_checked, last.blocks_bad) == (3, 3, 5, 0)
    assert last.bad_files == []


def test_scrub_names_damaged_files_and_drops_their_blocks(bench: LoadBench) -> None:
    bench.load()
    old = bench.version("a/two").cid
    bench.put("a/two", b"new")
    bench.load("a/two", data=False)
    for cid in (bench.version("a/one").cid, old):
        (path,) = (bench.root / "cache").rglob(cid.hex())
        with path.open("r+b") as stream:
            stream.write(b"X")
    last = scrub(bench)
    assert last.blocks_bad == 2
    assert last.bad_files == ["a/one", old.hex()]
    assert bench.cached("a/one") == 2 * MIB
    assert bench.daemon.status().traffic.crc_failures == 2
