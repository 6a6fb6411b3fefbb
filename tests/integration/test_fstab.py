"""A line of fstab mounts: mount(8), the helper in /sbin, the command, the daemon, and umount(8) back.

The helper is put into a private copy of /usr/sbin, seen only inside a mount namespace of the test's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mount_fixture import wait_until

HELPER = Path(__file__).parents[2] / "manifests/systemd/mount.jindopy"

pytestmark = pytest.mark.root

SCRIPT = """
set -e
cp -a /usr/sbin {work}/sbin
cp {helper} {work}/sbin/
mount --bind {work}/sbin /usr/sbin
mount -T {work}/fstab {work}/m
cat {work}/m/file
mount -a -T {work}/fstab   # mounted already: nothing happens
grep -c ' {work}/m ' /proc/self/mounts
umount {work}/m
for try in $(seq 200); do [ -z "$(ls {work}/run)" ] && exit 0; sleep 0.05; done
exit 9
"""


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or only waits to be collected: then it has no command line."""
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


def test_a_line_of_fstab(tmp_path: Path) -> None:
    for name in ("m", "source"):
        (tmp_path / name).mkdir()
    (tmp_path / "source/file").write_text("from the storage\n")
    command = tmp_path / "jindopy"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m jindopy "$@"\n')
    command.chmod(0o755)
    places = ",".join(f"{name}_dir={tmp_path}/{name}" for name in ("cache", "state", "run"))
    options = f"_netdev,nofail,x-systemd.automount,ttl=once,{places},log_file={tmp_path}/log"
    (tmp_path / "fstab").write_text(f"local://{tmp_path}/source {tmp_path}/m jindopy {options} 0 0\n")
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", SCRIPT.format(work=tmp_path, helper=HELPER)],
        env={**os.environ, "JINDOPY": str(command)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done
    mounted, content, mounts = done.stdout.splitlines()
    assert mounted.startswith(f"mounted local://{tmp_path}/source at {tmp_path}/m (pid ")
    assert content == "from the storage"
    wait_until(lambda: has_ended(int(mounted.partition("(pid ")[2].partition(",")[0])))  # later than its socket
    assert mounts == "1"
