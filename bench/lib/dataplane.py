"""Servers that a client on loopback measures: the data plane over a block store, and bare ``sendfile``.

``python -m bench.lib.dataplane FOLDER`` writes one hot file into a block store, opens both and prints their ports.
Each bare connection is sent so many bytes as its first eight say.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from jindopy._ext.blockstore import BlockStore, TierSpec
from jindopy._ext.dataclient import BlockRequest
from jindopy._ext.iobuf import BufferPool
from jindopy.base.clock import Deadline
from jindopy.dataplane import ticket
from jindopy.dataplane.greeting import BlockService, connect

MIB = 1 << 20
HOT_BLOCKS = 256
IN_FLIGHT = 8
RECEIVE_BYTES = 131072
OWNER = 1
CID = bytes(16)
KEYS = {"bench": b"no secret: loopback only, for tests...."}


class Run(NamedTuple):
    """One transfer: wall time, and CPU of client and server."""

    seconds: float
    cpu_seconds: float


class Servers(NamedTuple):
    """Both, in one process."""

    process: psutil.Process
    bare_port: int
    data_port: int


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[Servers]:
    """Runs them."""
    command = [sys.executable, "-m", "bench.lib.dataplane", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            bare_port, data_port = map(int, process.stdout.readline().split())
            yield Servers(psutil.Process(process.pid), bare_port, data_port)
        finally:
            process.send_signal(signal.SIGTERM)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system) + time.process_time()


def bare(target: Servers, blocks: int) -> Run:
    """Receive so many MiB into one buffer, which stays in the nearest caches as the client's pieces do."""
    buffer = bytearray(RECEIVE_BYTES)
    left = blocks * MIB
    cpu, begun = _cpu(target.process), time.perf_counter()
    with socket.create_connection(("127.0.0.1", target.bare_port)) as server:
        server.sendall(left.to_bytes(8, "little"))
        while left:
            left -= server.recv_into(buffer)
    return Run(time.perf_counter() - begun, _cpu(target.process) - cpu)


def data(target: Servers, blocks: int) -> Run:
    """Receive and check so many blocks, ``IN_FLIGHT`` asked for ahead."""
    pool = BufferPool(2 * IN_FLIGHT * MIB)
    shown = ticket.sign("bench", KEYS["bench"], [OWNER], time.time())
    link = connect(("127.0.0.1", target.data_port), shown, Deadline.after(10))
    under_way: deque[BlockRequest] = deque()
    cpu, begun = _cpu(target.process), time.perf_counter()
    for number in range(blocks + IN_FLIGHT):
        if number >= IN_FLIGHT:
            (block,) = under_way.popleft().wait()
            assert block is not None
            block.release()
        if number < blocks:
            under_way.append(link.start(CID, number % HOT_BLOCKS, [pool.acquire(MIB)], 60))
    run = Run(time.perf_counter() - begun, _cpu(target.process) - cpu)
    link.close()
    return run


def _serve_bare(listener: socket.socket, path: Path) -> None:
    with path.open("rb") as file:
        while True:
            client, _ = listener.accept()
            with client:
                left = int.from_bytes(client.recv(8, socket.MSG_WAITALL), "little")
                while left:
                    for block in range(HOT_BLOCKS):
                        offset, size = block * MIB, min(MIB, left)
                        left -= size
                        while size:
                            sent = os.sendfile(client.fileno(), file.fileno(), offset, size)
                            offset, size = offset + sent, size - sent


def main() -> None:
    """Serve until SIGTERM."""
    folder = Path(sys.argv[1])
    store = BlockStore([TierSpec("SSD", str(folder), 2 * HOT_BLOCKS * MIB, 0.95, 0.8, 0)])
    pool = BufferPool(4 * MIB)
    file = store.open(CID, HOT_BLOCKS * MIB, OWNER)
    for block in range(HOT_BLOCKS):
        buffer = pool.acquire(MIB)
        memoryview(buffer)[:] = os.urandom(MIB)
        file.put(block, buffer.seal())
    file.close()
    bare_listener = socket.create_server(("127.0.0.1", 0))
    data_listener = socket.create_server(("127.0.0.1", 0))
    path = next(path for path in folder.rglob(CID.hex()))
    threading.Thread(target=_serve_bare, args=(bare_listener, path), daemon=True).start()
    service = BlockService(store, data_listener, lambda: KEYS)
    print(bare_listener.getsockname()[1], data_listener.getsockname()[1], flush=True)
    signal.sigwait({signal.SIGTERM})
    service.close()
    store.close()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    main()
