"""``make demo``: what the cache brings, in a minute.

A file of 210 MiB lies in a bucket behind a link as slow as the one of JindoRuntime's quick start. It is copied through
a mount with an empty cache, then through a new mount whose data is on disk but not in memory, then once more from the
page cache. Every copy is compared with the object, outside the timing. Nothing stays behind, on Ctrl-C neither.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.lib import content, pagecache
from bench.lib.mounts import Client, CommandFailed
from bench.lib.server import BUCKET, Server

NAME = "spark-3.0.1-bin-hadoop2.7.tgz"
SIZE_BYTES = 210 << 20
BANDWIDTH = "12MB/s"
LATENCY = "20ms"
BLOCK_BYTES = 1 << 20


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
    work = Path(tempfile.mkdtemp(prefix="jindopy-demo-", dir="/var/tmp"))
    try:
        return run(work)
    except KeyboardInterrupt:
        print("\ndemo: interrupted, cleaned up")
        return 130
    except (CommandFailed, RuntimeError) as error:
        print(f"demo: {error}")
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run(work: Path) -> int:
    obj = work / "store" / BUCKET / NAME
    say(f"bucket: {NAME}, 210 MiB, behind a link of {BANDWIDTH} with {LATENCY} to the first byte")
    content.write_file(obj, SIZE_BYTES)
    expected = content.digest(obj)
    with Server(work / "store", "--bandwidth", BANDWIDTH, "--latency", LATENCY) as server:
        client = Client(work, server.environment)
        try:
            reason = fuse_reason()
            if reason:
                say(f"{reason}: nothing can be mounted here; the same through the Python reader")
            cold, warm = (read_twice if reason else copy_twice)(client, expected)
        finally:
            client.end()
    print(f"cold {cold:.2f} s, warm {warm:.2f} s, {cold / warm:.0f}x faster")
    return 0


def copy_twice(client: Client, expected: str) -> tuple[float, float]:
    """Through two mounts; returns the seconds of both copies."""
    uri = f"oss://{BUCKET}/"
    say("mount with an empty cache")
    with client.mounted(uri) as folder:
        cold = timed("cold copy, from the bucket", lambda: copy(folder / NAME))
        check(folder / NAME, expected)
    say("new mount, cached data on disk only")
    with client.mounted(uri) as folder:
        pagecache.drop_and_check(client.cache_files())
        warm = timed("warm copy, from the disk", lambda: copy(folder / NAME))
        timed("once more, from the page cache (kernel only)", lambda: copy(folder / NAME))
        check(folder / NAME, expected)
    return cold, warm


def read_twice(client: Client, expected: str) -> tuple[float, float]:
    """Without FUSE: two processes that read through the same cache."""
    seconds = []
    for what in ("cold read, from the bucket", "warm read, from the disk"):
        pagecache.drop_and_check(client.cache_files())
        told = json.loads(client.python("bench.lib.python_reader", f"oss://{BUCKET}/", NAME))
        if (told["bytes"], told["sha256"]) != (SIZE_BYTES, expected):
            raise RuntimeError("what was read differs from the object")
        say(f"{what}: {told['seconds']:.2f} s, {SIZE_BYTES / told['seconds'] / 1e6:,.0f} MB/s")
        seconds.append(told["seconds"])
    return seconds[0], seconds[1]


def copy(path: Path) -> None:
    """To nowhere, as ``cp FILE /dev/null`` does, and all of it."""
    buffer = bytearray(BLOCK_BYTES)
    done = 0
    with path.open("rb", buffering=0) as file:
        while got := file.readinto(buffer):
            done += got
            show_progress(done)
    if done != SIZE_BYTES:
        raise RuntimeError(f"{path}: {done} bytes instead of {SIZE_BYTES}")


def check(path: Path, expected: str) -> None:
    if content.digest(path) != expected:
        raise RuntimeError(f"{path} differs from the object")


def timed(what: str, action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    seconds = time.perf_counter() - start
    say(f"{what}: {seconds:.2f} s, {SIZE_BYTES / seconds / 1e6:,.0f} MB/s")
    return seconds


def fuse_reason() -> str | None:
    """Why nothing can be mounted here; None when it can."""
    if not Path("/dev/fuse").exists():
        return "/dev/fuse is missing"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse may not be opened by this user"
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        return "fusermount3 is missing (package fuse3)"
    return None


def say(text: str) -> None:
    clear = "\r\x1b[K" if sys.stdout.isatty() else ""
    print(f"{clear}demo: {text}", flush=True)


def show_progress(done: int) -> None:
    if sys.stdout.isatty() and done % (4 << 20) == 0:
        print(f"\r\x1b[K  {done >> 20} of {SIZE_BYTES >> 20} MiB", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
