"""Each check of ``doctor`` on good and bad machines, and what the command prints; network checks are in integration."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from jindopy.base import mountinfo
from jindopy.base.errors import AccessDenied, BadCredentials, BucketNotFound, ClockSkewed, JindoError, ShortBody
from jindopy.base.ident import mount_point_id
from jindopy.cli import checks
from jindopy.cli.admin import Overview
from jindopy.cli.checks import (
    Finding,
    Level,
    check_allow_other,
    check_cache,
    check_fuse_device,
    check_fusermount,
    check_kernel,
    check_memory,
    check_native,
    check_nofile,
    check_plain_user,
    check_state,
)
from jindopy.cli.checks_storage import check_mount, check_mounts, check_skipped, check_storage, fix_of
from jindopy.cli.main import main
from jindopy.config.params import Settings
from jindopy.config.rationalize import Directories, DiskFacts, Facts
from jindopy.config.settings import UfsMount
from jindopy.control.server import ControlServer
from tests.fake_daemon import STATUS, FakeDaemon

G = 1 << 30
DIRS = Directories("/c", "/s", "/r", "/l")
DISK = DiskFacts(100 * G, 80 * G, 0)
FACTS = Facts(0, 0, "/root", "", "", "", 4 * G, False, {"/c": DISK})


def _entry(point: str, kind: str, device: tuple[int, int] = (0, 99999)) -> mountinfo.MountEntry:
    return mountinfo.MountEntry(1, 0, device, "/", point, (), kind, "x", ())


@pytest.mark.parametrize(
    ("release", "level"),
    [("6.18.1-x", Level.OK), ("5.4.0", Level.OK), ("4.20", Level.WARN), ("4.19.3", Level.WARN), ("odd", Level.WARN)],
)
def test_kernel(release: str, level: Level) -> None:
    assert check_kernel(release).level == level


def test_native_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_native().level == Level.OK

    def missing(name: str) -> None:
        raise ImportError(f"no {name}")

    monkeypatch.setattr(checks.importlib, "import_module", missing)
    assert check_native() == Finding(
        "native modules", Level.FAIL, "not built: no jindopy._ext.iobuf", "install again: pip install ."
    )
    assert checks.check_transports().level == Level.FAIL


def test_one_transport_is_enough() -> None:
    both = {"good": ("jindopy.fuse.transport:X", "never shown"), "bad": ("jindopy.fuse.nothing:X", "install it")}
    assert checks.check_transports(both) == Finding(
        "transport",
        Level.WARN,
        "good; bad cannot be loaded: No module named 'jindopy.fuse.nothing'",
        "install it",
    )
    assert checks.check_transports({"bad": both["bad"]}).level == Level.FAIL
    assert checks.check_transports().level == Level.OK


def test_fuse_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "fuse"
    assert "modprobe fuse" in check_fuse_device(device).fix
    device.touch()
    assert check_fuse_device(device).level == Level.OK
    monkeypatch.setattr(checks.os, "access", lambda path, mode: False)
    assert check_fuse_device(device).level == Level.FAIL


def test_fusermount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (check_fusermount(0).level, check_fusermount(1000).level) == (Level.WARN, Level.FAIL)
    helper = tmp_path / "fusermount3"
    helper.touch(mode=0o755)
    helper.chmod(0o755)
    assert check_fusermount(0).level == Level.OK
    assert check_fusermount(1000).fix == f"as root: chmod u+s {helper}"
    helper.chmod(0o4755)
    assert check_fusermount(1000).level == Level.OK


def test_other_users() -> None:
    assert check_allow_other(FACTS).level == Level.OK
    user = replace(FACTS, uid=1000)
    assert "user_allow_other" in check_allow_other(user).fix
    assert check_allow_other(replace(user, user_allow_other=True)).level == Level.OK


def test_what_else_it_costs_not_to_be_root() -> None:
    assert check_plain_user(FACTS) == []
    costs = check_plain_user(replace(FACTS, uid=1000))
    assert [finding.level for finding in costs] == [Level.WARN, Level.OK]
    assert "read_ahead_kb" in costs[0].fix


def test_open_files() -> None:
    assert check_nofile((1024, 65536)).fix == "ulimit -n 4096"
    assert "hard limit" in check_nofile((1024, 1024)).fix
    assert check_nofile((65536, 65536)).level == Level.OK
    assert check_nofile((resource.RLIM_INFINITY, resource.RLIM_INFINITY)).level == Level.OK


def test_memory() -> None:
    assert check_memory(Settings(), FACTS).level == Level.OK
    assert check_memory(Settings(), replace(FACTS, memory_bytes=100 << 20)).level == Level.WARN
    assert check_memory(Settings(memory=5 * G), FACTS).level == Level.FAIL


def test_cache(tmp_path: Path) -> None:
    def levels(settings: Settings, disk: DiskFacts = DISK) -> list[str]:
        dirs = replace(DIRS, cache=str(tmp_path))
        return [finding.level for finding in check_cache(settings, dirs, replace(FACTS, disks={str(tmp_path): disk}))]

    assert levels(Settings()) == [Level.OK, Level.OK]
    assert levels(Settings(quota=90 * G)) == [Level.WARN, Level.OK]
    assert levels(Settings(quota=101 * G)) == [Level.FAIL]
    assert levels(Settings(high=0.5)) == [Level.FAIL]
    assert levels(Settings(tier=(f"MEM:{tmp_path}:90G",))) == [Level.FAIL]
    assert levels(Settings(), replace(DISK, writable=False)) == [Level.FAIL]


def test_few_inodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "FREE_INODES_MIN", 1 << 62)
    dirs = replace(DIRS, cache=str(tmp_path / "to/come"))
    found = check_cache(Settings(), dirs, replace(FACTS, disks={dirs.cache: DISK}))
    assert [finding.level for finding in found if finding.check == "inodes"] == [Level.WARN]


def test_namespace_on_network_storage() -> None:
    assert check_state("/s", [_entry("/", "ext4")]).level == Level.OK
    assert check_state("/s", [_entry("/", "ext4"), _entry("/s", "nfs4")]).level == Level.FAIL


# --- mounts -----------------------------------------------------------------------------------------------------------


def test_a_good_mount_is_one_line() -> None:
    good = replace(STATUS, notes=[])
    assert [finding.level for finding in check_mount(good, None)] == [Level.OK]
    assert [finding.check for finding in check_mounts(Overview())] == ["mounts"]


def test_what_is_wrong_with_a_mount_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountinfo, "read_ahead_kb", lambda entry: 128)
    tier = replace(STATUS.tiers[0], state="down", pinned_bytes=9 * G)
    bad = replace(STATUS, tiers=[tier], traffic=replace(STATUS.traffic, crc_failures=3))
    told = [(finding.level, finding.message) for finding in check_mount(bad, _entry("/m", "fuse.jindopy", (0, 52)))]
    assert [level for level, _ in told] == [Level.WARN, Level.FAIL, Level.WARN, Level.WARN, Level.WARN]
    for part, (_, message) in zip(
        ("128 KiB ahead", "is down", "pins fill", "3 cached blocks", "not set"), told, strict=True
    ):
        assert part in message


def test_a_mount_that_tells_versions_apart_weakly_and_one_with_wrong_bytes() -> None:
    weak = replace(STATUS, mounts=[replace(STATUS.mounts[0], consistency="weak")], notes=[])
    (finding,) = check_mount(weak, None)
    assert "by size and time only" in finding.message
    assert "jindopy evict" in finding.fix
    told = ["oss://b: changes are told by size and time only (weak consistency)", "the kernel's read-ahead stays"]
    assert len(list(check_mount(replace(weak, notes=told), None))) == 1
    wrong = replace(STATUS, notes=[], traffic=replace(STATUS.traffic, bad_objects=2))
    assert "2 objects arrived with wrong bytes" in next(check_mount(wrong, None)).message


def test_dead_mounts_and_stray_sockets_are_failures() -> None:
    found = list(check_mounts(Overview([], ["/m: dead, and ...; clean up: jindopy umount /m", "/r/x.sock: no mount"])))
    assert [(finding.level, finding.fix) for finding in found] == [
        (Level.FAIL, "jindopy umount /m"),
        (Level.FAIL, "remove that socket file"),
    ]


@pytest.mark.parametrize(("level", "fix"), [(Level.WARN, ""), (Level.FAIL, ""), (Level.OK, "do it")])
def test_what_is_wrong_comes_with_what_to_do(level: Level, fix: str) -> None:
    with pytest.raises(ValueError, match="what to do"):
        Finding("a check", level, "so it is", fix)


def test_skipped_keys_are_named() -> None:
    class Client:
        def skipped_keys(self) -> list[tuple[str, str]]:
            return [(f"oss://b/{number}//y", "empty-component") for number in range(25)]

    status = replace(STATUS, skipped_keys=25)
    found = list(check_skipped(status, Client()))  # type: ignore[arg-type]
    assert len(found) == 21
    assert found[0].message == "oss://b/0//y: empty-component"
    assert found[-1].message == "... and 5 more"
    assert len(list(check_skipped(status, Client(), 1000))) == 25  # type: ignore[arg-type]
    assert list(check_skipped(replace(STATUS, skipped_keys=0), Client())) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (BadCredentials("x"), "key id and secret"),
        (AccessDenied("x"), "policy"),
        (ClockSkewed("x"), "timedatectl"),
        (BucketNotFound("x"), "name of bucket"),
        (ShortBody("x"), "firewall"),
        (JindoError("x"), "TROUBLESHOOTING"),
    ],
)
def test_every_error_has_its_cure(error: JindoError, part: str) -> None:
    assert part in fix_of(error)


def test_local_storage(tmp_path: Path) -> None:
    assert [finding.level for finding in check_storage(UfsMount(f"local://{tmp_path}", ""))] == [Level.OK]
    (bad,) = check_storage(UfsMount(f"local://{tmp_path}/none", ""))
    assert (bad.level, bad.fix) == (Level.FAIL, fix_of(BucketNotFound("x")))
    (odd,) = check_storage(UfsMount("nothing://b", ""))
    assert "no driver for nothing://" in odd.message


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    point = tmp_path / "m"
    point.mkdir()
    identity = mount_point_id(str(point))
    daemon = FakeDaemon(str(point), identity)
    local = replace(STATUS.mounts[0], uri=f"local://{tmp_path}", endpoint="")
    daemon.status_value = replace(daemon.status_value, mounts=[local], notes=[])
    monkeypatch.setattr(mountinfo, "read", lambda: [_entry(str(point), mountinfo.FS_TYPE)])
    monkeypatch.setenv("JINDOPY_RUN_DIR", str(tmp_path / "r"))
    server = ControlServer(tmp_path / "r" / f"{identity}.sock", daemon)
    server.start()
    yield daemon
    server.close()


def test_doctor_of_a_mount_with_scrub(daemon: FakeDaemon, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["doctor", "--scrub", str(tmp_path / "m")])
    assert f"OK    mount {tmp_path}/m: answers (pid 4242, llfuse)\n" in result.output
    assert "WARN  skipped key: oss://b/p/x//y: empty-component\n      → rename the object" in result.output
    assert f"OK    storage local://{tmp_path}: " in result.output
    assert result.output.endswith("OK    scrub: 3 blocks of 2 files found sound\n")
    daemon.bad_blocks = 2
    result = CliRunner().invoke(main, ["doctor", "--scrub", str(tmp_path / "m"), "--json"])
    assert result.exit_code == 1
    last = json.loads(result.output)[-1]
    assert last["level"] == "FAIL"
    assert last["message"] == "2 of 3 blocks found bad and dropped: oss://b/p/a"


def test_doctor_before_any_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountinfo, "read", lambda: [_entry("/", "ext4")])
    environ = {"JINDOPY_RUN_DIR": str(tmp_path / "r"), "JINDOPY_CACHE_DIR": str(tmp_path / "c")}
    result = CliRunner().invoke(main, ["doctor", f"local://{tmp_path}"], env=environ)
    assert "OK    mounts: none is running\n" in result.output
    assert f"OK    storage local://{tmp_path}: " in result.output
    failing = CliRunner().invoke(main, ["doctor", f"local://{tmp_path}/none"], env=environ)
    assert failing.exit_code == 1
    assert "FAIL  storage" in failing.output
