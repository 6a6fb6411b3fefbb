"""A machine as a user without root finds it: ``/dev/fuse`` for everybody, fusermount3, a home, no XDG variables.

with plain_user() as user:
    user.run(sys.executable, "-m", "jindopy", "status")

The user exists only in a mount namespace of the test's own, in which the interpreter and this tree can be read even
where they lie in a closed home directory.  Needs root.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

UID = 64321
NAME = "jindopy-test"
TREE = Path(__file__).parents[1]


@dataclass
class PlainUser:
    """Somebody who is not root."""

    work: Path
    """Closed to nobody; what is below it is gone afterwards."""
    holder: int
    """The process that keeps the namespace."""

    @property
    def home(self) -> Path:
        return self.work / "home"

    @property
    def run_dir(self) -> Path:
        return Path(f"/tmp/jindopy-{UID}")

    def run(self, *words: object, timeout: float = 60, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a program as the user."""
        return subprocess.run(
            self._command(words, environ), capture_output=True, text=True, check=False, timeout=timeout
        )

    def start(self, *words: object, **environ: str) -> subprocess.Popen[str]:
        """Start one, its output piped."""
        return subprocess.Popen(self._command(words, environ), stdout=subprocess.PIPE, text=True)

    def processes(self) -> list[int]:
        """The user's processes."""
        return _processes()

    def jindopy(self, *words: object, **environ: str) -> subprocess.CompletedProcess[str]:
        """The command."""
        return self.run(sys.executable, "-m", "jindopy", *words, **environ)

    def _command(self, words: tuple[object, ...], environ: dict[str, str]) -> list[str]:
        mark = {name: value for name, value in os.environ.items() if name.startswith("JINDOPY_TEST")}
        given = {"HOME": str(self.home), "PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(TREE)}
        return [
            "nsenter",
            f"--mount=/proc/{self.holder}/ns/mnt",
            "setpriv",
            *(f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--inh-caps=-all"),
            *("env", "-i", "-C", str(self.home)),
            *(f"{name}={value}" for name, value in {**mark, **given, **environ}.items()),
            *map(str, words),
        ]


@contextlib.contextmanager
def plain_user() -> Iterator[PlainUser]:
    """Make one; its processes, mounts and files end with the block."""
    work = Path(tempfile.mkdtemp(prefix="jindopy-user-", dir="/tmp"))
    work.chmod(0o755)
    (work / "home").mkdir(mode=0o700)
    os.chown(work / "home", UID, UID)
    script = "\n".join(["set -e", *_machine(work), "echo ready", "exec cat"])
    holder = subprocess.Popen(
        # A slave: what others unmount meanwhile must not be kept alive here.
        ["unshare", "--mount", "--propagation=slave", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
        yield PlainUser(work, holder.pid)
    finally:
        for pid in _processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 10
        while _processes() and time.monotonic() < end:
            time.sleep(0.02)
        holder.communicate(timeout=10)  # the namespace goes with it, and with that every mount
        shutil.rmtree(work)
        shutil.rmtree(f"/tmp/jindopy-{UID}", ignore_errors=True)


def _machine(work: Path) -> Iterator[str]:
    """Shell commands that make the namespace."""
    yield "for point in $(findmnt -rn -o TARGET -t fuse.jindopy); do umount -l $point; done"  # of other tests
    yield "mountpoint -q /sys/fs/fuse/connections || mount -t fusectl none /sys/fs/fuse/connections"
    passwd = work / "passwd"
    passwd.write_text(f"{Path('/etc/passwd').read_text()}{NAME}:x:{UID}:{UID}::{work}/home:/bin/sh\n")
    yield f"mount --bind {passwd} /etc/passwd"
    if Path("/etc/fuse.conf").exists():
        (work / "fuse.conf").write_text("# nothing allowed\n")
        yield f"mount --bind {work}/fuse.conf /etc/fuse.conf"
    yield f"mkdir {work}/dev && mount -t tmpfs none {work}/dev"
    yield f"mknod {work}/dev/fuse c 10 229 && chmod 666 {work}/dev/fuse && mount --bind {work}/dev/fuse /dev/fuse"
    closed: dict[Path, list[Path]] = {}
    for needed in {TREE, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}:
        for place in reversed(needed.parents):
            if not place.stat().st_mode & 0o001:
                closed.setdefault(place, []).append(needed)
                break
    for number, (place, inside) in enumerate(closed.items()):
        kept = [(shlex.quote(str(needed)), f"{work}/keep-{number}-{index}") for index, needed in enumerate(inside)]
        for path, keep in kept:
            yield f"mkdir {keep} && mount --bind {path} {keep}"
        yield f"mount -t tmpfs -o mode=755 none {shlex.quote(str(place))}"
        for path, keep in kept:
            yield f"mkdir -p {path} && mount --bind {keep} {path}"


def _processes() -> list[int]:
    """Those of the user that have not ended: of one that waits to be collected no command is left."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and folder.stat().st_uid == UID and (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found
