"""A bucket full of keys that no path can hold, mounted: walks go on, what is left out is counted and listed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.command_fixture import installed_command
from tests.emulator_fixture import running_emulator
from tests.fault_fixture import BUCKET, KEYS, REGION, store_bucket

pytestmark = pytest.mark.root

GOOD = {"d/ok": b"1", "d/new\nline": b"22", "...": b"333", "M" * 255: b"4444", "n/inside": b"55555"}
BAD = {
    "d//below": "empty-component",
    "d/./below": "dot",
    "d/../below": "dotdot",
    "d/nul\0": "nul",
    "L" * 256 + "/below": "too-long",
    "n": "clash",
}


def test_walks_go_on_and_doctor_lists_what_is_left_out(tmp_path: Path) -> None:
    with running_emulator(tmp_path / "store", buckets=[BUCKET]) as emulator, installed_command(tmp_path) as command:
        bucket = store_bucket(emulator)
        for key in (*GOOD, *BAD):
            bucket.put_object(key, GOOD.get(key, b"hidden"))
        keys = {"OSS_ENDPOINT": emulator.endpoint, "OSS_REGION": REGION} | KEYS
        done = command.mount(f"oss://{BUCKET}", **keys)
        assert done.returncode == 0, done
        for _ in range(2):  # listed on touch, then known
            walk = subprocess.run(
                ["find", ".", "-type", "f", "-print0"], cwd=command.point, capture_output=True, check=False
            )
            assert (walk.returncode, walk.stderr) == (0, b"")
            assert sorted(walk.stdout.split(b"\0")[:-1]) == sorted(b"./" + key.encode() for key in GOOD)
        assert {key: (command.point / key).read_bytes() for key in GOOD} == GOOD
        assert command.run("load", str(command.point)).returncode == 0

        status = json.loads(command.run("status", str(command.point), "--json").stdout)
        assert status["skipped_keys"] == len(BAD)
        findings = json.loads(command.run("doctor", str(command.point), "--json", **keys).stdout)
        told = [finding["message"] for finding in findings if finding["check"] == "skipped key"]
        shown = {key.partition("below")[0].replace("\0", "\\x00"): reason for key, reason in BAD.items()}
        assert sorted(told) == sorted(f"oss://{BUCKET}/{key}: {reason}" for key, reason in shown.items())
