"""``jindopy bench`` as users run it: the limit it names is the one that was built in."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jindopy.base import mountinfo
from tests.command_fixture import Command, installed_command
from tests.emulator_fixture import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator, running_emulator

MIB = 1 << 20
BUCKET = "bench"


def fill(folder: Path) -> Path:
    (folder / "small").mkdir(parents=True)
    (folder / "large").write_bytes(os.urandom(24 * MIB))
    for number in range(60):
        (folder / f"small/f{number:02}").write_bytes(os.urandom(20_000))
    return folder


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    with installed_command(tmp_path) as command:
        yield command


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    fill(tmp_path / "store" / BUCKET)
    with running_emulator(tmp_path / "store", buckets=[BUCKET]) as emulator:
        yield emulator


def keys(emulator: Emulator) -> dict[str, str]:
    return {
        "OSS_ENDPOINT": emulator.endpoint,
        "OSS_REGION": "cn-hangzhou",
        "OSS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "OSS_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
    }


def report(command: Command, *arguments: str, **environ: str) -> dict[str, Any]:
    done = command.run("bench", *arguments, "--json", **environ)
    assert (done.returncode, done.stderr) == (0, "")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def limits(document: dict[str, Any]) -> dict[tuple[str, int], str]:
    return {(row["measured"]["test"], row["measured"]["readers"]): row["limit"] for row in document["rows"]}


@pytest.mark.slow
def test_a_far_store_is_told_by_its_latency(command: Command, emulator: Emulator) -> None:
    emulator.set_conditions(latency_seconds=0.15)  # far more than a busy machine adds to a request
    tests = ("--test", "random", "--test", "small", "--test", "stat", "--time", "2s", "--readers", "4")
    document = report(command, f"oss://{BUCKET}/", *tests, **keys(emulator))
    assert 0.14 < document["latency_seconds"] < 0.4
    found = limits(document)
    named = {found[test] for test in (("random 4 KiB", 4), ("small files", 1), ("stat", 1))}
    assert named == {"store latency"}, found


def test_a_narrow_link_is_told_by_its_rate(command: Command, emulator: Emulator) -> None:
    emulator.set_conditions(bandwidth_bytes=4_000_000)
    options = ("--test", "sequential", "--time", "2s", "--readers", "16")
    document = report(command, f"oss://{BUCKET}/", *options, **keys(emulator))
    assert 3_000_000 < document["link_bytes_per_second"] < 5_000_000
    assert set(limits(document).values()) == {"link"}
    assert [row["measured"]["readers"] for row in document["rows"]] == [1, 4, 16]
    assert all(row["shares"]["link"] > 0.7 for row in document["rows"])


def test_connections_that_are_each_slow_are_no_link(command: Command, emulator: Emulator) -> None:
    emulator.set_conditions(bandwidth_per_client_bytes=1_000_000)
    options = ("--test", "sequential", "--time", "2s", "--readers", "16")
    document = report(command, f"oss://{BUCKET}/", *options, **keys(emulator))
    assert document["link_bytes_per_second"] is None
    assert limits(document)["sequential", 1] == "one connection"


def test_a_bench_reads_no_more_than_it_was_told(command: Command, emulator: Emulator) -> None:
    emulator.reset_stats()
    report(command, f"oss://{BUCKET}/", "--size", "1M", "--test", "sequential", "--readers", "1", **keys(emulator))
    counted = emulator.stats()
    # What was in the sockets when the reader had enough was sent all the same.
    assert counted["bytes_sent"] < 10 * MIB
    asked = {name for name, number in counted.items() if number and name[:1].isupper()}
    assert asked <= {"GetObject", "HeadObject", "ListObjectsV2", "ListObjects", "GetBucketInfo"}
    assert sorted(path.name for path in emulator.root.joinpath(BUCKET).iterdir()) == ["large", "small"]


def test_requests_that_were_repeated_are_told(command: Command, emulator: Emulator) -> None:
    emulator.set_faults({"kind": "error", "status": 503, "operations": ["GetObject"], "limit": 3})
    document = report(command, f"oss://{BUCKET}/", "--test", "small", **keys(emulator))
    assert any(note.startswith("3 requests were refused or lost and repeated") for note in document["notes"])


def test_one_file_may_be_named(command: Command, emulator: Emulator) -> None:
    document = report(command, f"oss://{BUCKET}/small", "--file", "f07", "--test", "sequential", **keys(emulator))
    assert {row["measured"]["bytes"] for row in document["rows"]} == {20_000}
    done = command.run("bench", f"oss://{BUCKET}/small", "--file", "none", **keys(emulator))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "small/none" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["/no/such/place"], 2, "No such file"),
        (["--size", "1k", "/"], 2, "give at least 1M"),
        (["--time", "0s", "/"], 2, "more than 0"),
        (["--size", "much", "/"], 2, "not a size"),
        (["oss://x"], 2, "bucket name"),
        (["--test", "write", "/"], 2, "Invalid value"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_is_wrong_is_one_line(command: Command, arguments: list[str], code: int, told: str) -> None:
    done = command.run("bench", *arguments)
    assert done.returncode == code
    assert told in done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("jindopy: ")


def test_a_store_that_refuses_or_is_not_there_is_one_line(command: Command, emulator: Emulator) -> None:
    wrong = keys(emulator) | {"OSS_ACCESS_KEY_SECRET": "wrong"}
    refused = command.run("bench", f"oss://{BUCKET}/", **wrong)
    assert refused.returncode == 3
    empty = command.run("bench", f"oss://{BUCKET}/none", **keys(emulator))
    assert empty.returncode == 2
    assert "holds no files" in empty.stderr
    for done in (refused, empty):
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""


def test_a_directory_in_memory_is_not_mistaken_for_a_disk(command: Command, tmp_path: Path) -> None:
    folder = fill(tmp_path / "data")
    for path in folder.rglob("*"):
        if path.is_file():
            path.read_bytes()
    kept = report(command, str(folder), "--test", "sequential", "--keep-page-cache")
    assert set(limits(kept).values()) == {"page cache"}
    assert any("page cache answered" in note and "--keep-page-cache" in note for note in kept["notes"])


def test_a_directory_on_disk_is_read_from_the_disk(command: Command, tmp_path: Path) -> None:
    entry = mountinfo.find(str(tmp_path), mountinfo.read())
    if entry is None or not entry.source.startswith("/dev/"):
        pytest.skip("the tests' directory is on no disk")
    folder = fill(tmp_path / "data")
    os.sync()  # only pages that are on disk can be dropped
    document = report(command, str(folder), "--test", "sequential", "--test", "small")
    assert "page cache" not in limits(document).values()
    assert all(row["measured"]["disk_bytes"] >= 0.9 * row["measured"]["bytes"] for row in document["rows"])


@pytest.mark.root
def test_a_mount_is_measured_cold_and_warm_beside_its_disk(command: Command, emulator: Emulator) -> None:
    emulator.set_conditions(latency_seconds=0.05)
    done = command.mount(f"oss://{BUCKET}/", **keys(emulator))
    assert done.returncode == 0, done.stderr
    document = report(command, str(command.point), "--test", "list", "--test", "sequential", "--test", "small")
    assert document["kind"] == "mount"
    rows = {
        (row["measured"]["test"], row["measured"]["readers"], row["measured"]["state"]): row for row in document["rows"]
    }
    assert rows["list", 1, "first"]["limit"] == "storage"
    cold, warm = rows["sequential", 1, "first"], rows["sequential", 1, "again"]
    assert cold["measured"]["store_bytes"] >= 24 * MIB
    assert warm["measured"]["store_bytes"] == 0
    assert warm["measured"]["served_bytes"] >= 0.9 * 24 * MIB
    assert warm["bytes_per_second"] > cold["bytes_per_second"]
    assert warm["raw_bytes_per_second"] or any("disk was not measured" in note for note in document["notes"])
    shown = command.run("bench", str(command.point), "--test", "sequential")
    assert shown.returncode == 0
    assert "mount, pid" in shown.stdout and "sequential" in shown.stdout
    # Nothing that a bench opened keeps the mount busy.
    assert command.run("umount", str(command.point)).returncode == 0


@pytest.mark.root
def test_a_mount_whose_daemon_died_is_one_line(command: Command, tmp_path: Path) -> None:
    assert command.mount(f"local://{fill(tmp_path / 'data')}").returncode == 0
    (pid,) = command.processes()
    os.kill(pid, signal.SIGKILL)
    while command.processes():
        time.sleep(0.01)
    done = command.run("bench", str(command.point))
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "not connected" in done.stderr


def test_the_table_says_what_was_found_and_what_it_means(command: Command, emulator: Emulator) -> None:
    emulator.set_conditions(latency_seconds=0.05)
    done = command.run(
        "bench", f"oss://{BUCKET}/", "--test", "list", "--test", "small", "--time", "1s", **keys(emulator)
    )
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"oss://{BUCKET}/  (storage, {emulator.endpoint}): 61 files, 25.1 MiB")
    assert lines[1].startswith("  the store answers after 5")
    assert lines[2].split()[:2] == ["TEST", "READERS"]
    assert any(line.startswith("small files") and "store latency" in line for line in lines)
    assert any(line.startswith("store latency: readers wait") for line in lines)


def start_on_terminal(command: Command, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "jindopy", "bench", *arguments],
        env={**os.environ, **command.environ, "TERM": "xterm", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    return process, ours


def read_terminal(descriptor: int) -> bytes:
    shown = b""
    try:
        while part := os.read(descriptor, 65536):
            shown += part
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(descriptor)
    return shown


def test_progress_is_shown_on_a_terminal_only(command: Command, tmp_path: Path) -> None:
    folder = fill(tmp_path / "data")
    process, terminal = start_on_terminal(command, str(folder), "--test", "small")
    shown = read_terminal(terminal)
    assert process.communicate(timeout=60)[0].startswith(os.fsencode(folder))
    assert b"small files" in shown
    plain = command.run("bench", str(folder), "--test", "small")
    assert all(line.startswith("jindopy: ") for line in plain.stderr.splitlines())


def test_an_interrupt_ends_it_at_once(command: Command, emulator: Emulator) -> None:
    command.environ |= keys(emulator)
    emulator.set_conditions(bandwidth_bytes=100_000)
    process, terminal = start_on_terminal(command, f"oss://{BUCKET}/", "--time", "60s", "--test", "sequential")
    shown = b""
    while b"sequential" not in shown:
        shown += os.read(terminal, 65536)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    shown += read_terminal(terminal)
    assert process.wait(30) == 130
    assert time.monotonic() - started < 15
    assert b"interrupted" in shown
    assert process.stdout is not None
    process.stdout.close()
