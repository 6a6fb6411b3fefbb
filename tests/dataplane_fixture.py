"""A block store with a data server before it, and a proxy that spoils what goes through."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jindopy._ext.blockstore import BlockStore, CacheFile, TierSpec
from jindopy._ext.iobuf import BufferPool
from jindopy.dataplane import ticket
from jindopy.dataplane.greeting import Address, BlockService

MIB = 1 << 20
OWNER = 77
KEYS = {"k1": bytes(range(32))}


def cid_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def content(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)


def fill(store: BlockStore, pool: BufferPool, number: int, size: int, owner: int = OWNER) -> CacheFile:
    data = content(number, size)
    file = store.open(cid_of(number), size, owner)
    for index in range((size + MIB - 1) // MIB):
        part = data[index * MIB : (index + 1) * MIB]
        buffer = pool.acquire(len(part))
        memoryview(buffer)[:] = part
        file.put(index, buffer.seal())
    return file


def open_store(folder: Path, quota: int = 256 * MIB) -> BlockStore:
    return BlockStore([TierSpec("SSD", str(folder), quota, 0.95, 0.8, 0)])


def good_ticket(*owners: int) -> bytes:
    return ticket.sign("k1", KEYS["k1"], owners or (OWNER,), time.time())


def listen(kind: str, folder: Path) -> tuple[socket.socket, Address]:
    if kind == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "data.sock"))
        listener.listen(64)
        return listener, str(folder / "data.sock")
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    return listener, ("127.0.0.1", listener.getsockname()[1])


@contextlib.contextmanager
def serving(store: BlockStore, kind: str, folder: Path) -> Iterator[tuple[BlockService, Address]]:
    listener, address = listen(kind, folder)
    service = BlockService(store, listener, lambda: KEYS)
    try:
        yield service, address
    finally:
        service.close()


@contextlib.contextmanager
def proxied(address: tuple[str, int], spoil: Callable[[int, bytes], bytes | None]) -> Iterator[tuple[str, int]]:
    """Passes on what the server says as ``spoil(offset, bytes)`` returns it; None: the connection ends there."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def upwards(client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)

    def serve() -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            with client, socket.create_connection(address) as server:
                thread = threading.Thread(target=upwards, args=(client, server))
                thread.start()
                threads.append(thread)
                offset = 0
                while data := server.recv(65536):
                    passed = spoil(offset, data)
                    if passed is None:
                        break
                    client.sendall(passed)
                    offset += len(data)
                client.shutdown(socket.SHUT_RDWR)
                server.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for each in (thread, *threads):
            each.join(10)
