"""What every master promises of listings under way and of whole trees; part of the suite in ``namespace``."""

from __future__ import annotations

import threading

import pytest
from contracts.namespace_tools import (
    WAIT_SECONDS,
    Gate,
    Make,
    Wanted,
    counting,
    find,
    in_threads,
    listed,
    new_driver,
    pages,
    paths,
    soon,
)

from jindopy.base.clock import Deadline
from jindopy.base.errors import (
    DeadlineExceeded,
    Unavailable,
)
from jindopy.base.ident import ROOT_INODE


class ListingContract:
    """The suite."""

    # Listings under way

    def test_readers_join_a_running_listing(self, make: Make) -> None:
        names = [b"%05d" % number for number in range(2500)]
        driver = new_driver(*names)
        with make(Wanted(driver)) as master:
            gate = Gate(driver, b"", 1)
            stream = master.read_dir(ROOT_INODE, deadline=soon())
            first = next(stream)
            assert not first.last
            assert gate.reached.wait(WAIT_SECONDS)
            late = master.read_dir(ROOT_INODE, deadline=soon())
            assert [node.name for node in next(late).nodes] == [node.name for node in first.nodes]
            gate.open.set()
            for rest in (stream, late):
                found = [node.name for node in first.nodes] + [node.name for page in rest for node in page.nodes]
                assert sorted(found) == names

    def test_a_hundred_lookups_while_a_directory_is_listed_slowly(self, make: Make) -> None:
        names = [b"part-%05d" % number for number in range(3000)]
        driver = new_driver(*names)
        with make(Wanted(driver)) as master:
            gate = Gate(driver, b"", 1)
            stats: list[bytes] = []
            blocked = driver.on_call
            assert blocked is not None

            def on_call(operation: str, key: bytes) -> None:
                if operation == "stat":
                    stats.append(key)
                blocked(operation, key)

            driver.on_call = on_call
            reader = threading.Thread(target=lambda: pages(master, ROOT_INODE))
            reader.start()
            assert gate.reached.wait(WAIT_SECONDS)

            def check(name: bytes) -> None:
                node = master.lookup(ROOT_INODE, name, deadline=soon()).node
                assert node is not None
                assert node.name == name

            in_threads([lambda name=name: check(name) for name in names[100:150] + names[2800:2850]])
            assert sorted(stats) == names[2800:2850]
            gate.open.set()
            reader.join(WAIT_SECONDS)
            assert len(listed(master, ROOT_INODE)) == 3000

    def test_a_failed_listing_leaves_the_last_one_as_it_was(self, make: Make) -> None:
        names = [b"%05d" % number for number in range(2500)]
        driver = new_driver(*names)
        with make(Wanted(driver)) as master:
            before = listed(master, ROOT_INODE)
            for name in names[::100]:
                driver.store.delete(name)
            driver.store.put(b"000001", b"new")
            gate = Gate(driver, b"", 2)
            gate.error = Unavailable("no route")
            gate.open.set()
            with pytest.raises(Unavailable):
                pages(master, ROOT_INODE, refresh=True)
            assert listed(master, ROOT_INODE) == before
            driver.on_call = None
            after = listed(master, ROOT_INODE, refresh=True)
            assert set(after) == set(names) - set(names[::100]) | {b"000001"}

    def test_a_stream_shows_one_generation(self, make: Make) -> None:
        names = [b"%05d" % number for number in range(2500)]
        driver = new_driver(*names)
        with make(Wanted(driver)) as master:
            before = listed(master, ROOT_INODE)
            stream = master.read_dir(ROOT_INODE, deadline=soon())
            seen = list(next(stream).nodes)
            for name in names[1::2]:
                driver.store.delete(name)
            for name in names[::2]:
                driver.store.put(name + b"x", b"")
            assert len(listed(master, ROOT_INODE, refresh=True)) == 2500
            for page in stream:
                seen += page.nodes
            assert {node.name: node for node in seen} == before

    def test_a_reader_that_gives_up_harms_nobody(self, make: Make) -> None:
        driver = new_driver(*(b"%05d" % number for number in range(2500)))
        with make(Wanted(driver)) as master:
            gate = Gate(driver, b"", 1)
            impatient = master.read_dir(ROOT_INODE, deadline=Deadline.after(0.2))
            assert not next(impatient).last
            with pytest.raises(DeadlineExceeded):
                for _ in impatient:
                    pass
            gate.open.set()
            assert len(listed(master, ROOT_INODE)) == 2500

    def test_many_threads(self, make: Make) -> None:
        driver = new_driver(*(b"d%d/%d" % (number % 10, number) for number in range(500)))
        with make(Wanted(driver, ttl_seconds=0.0)) as master:

            def read(number: int) -> None:
                directory = find(master, b"d%d" % (number % 10))
                assert len(listed(master, directory.inode)) == 50
                assert master.lookup(directory.inode, b"no", deadline=soon()).node is None
                assert master.count(ROOT_INODE).files <= 500

            in_threads([lambda number=number: read(number) for number in range(32)])
            assert master.sync_tree(ROOT_INODE, deadline=soon()).files == 500

    # Trees

    def test_sync_tree(self, make: Make) -> None:
        keys = [b"a%d/b%d/f%d" % (i, j, k) for i in range(3) for j in range(4) for k in range(5)]
        driver = new_driver(*keys, b"top")
        with make(Wanted(driver)) as master:
            seen: list[tuple[int, int]] = []

            class Progress:
                def listed(self, directories: int, entries: int) -> None:
                    seen.append((directories, entries))

            count = master.sync_tree(ROOT_INODE, deadline=soon(), progress=Progress())
            assert count == (61, 15, sum(len(key) for key in keys) + 3)
            assert sum(directories for directories, _ in seen) == 16
            assert sum(entries for _, entries in seen) == 61 + 15
            assert paths(master) == sorted([*keys, b"top"])
            calls = counting(driver)
            master.sync_tree(ROOT_INODE, deadline=soon(), refresh=False)
            assert calls == []
            driver.store.put(b"a0/b0/new", b"")
            assert master.sync_tree(ROOT_INODE, deadline=soon()).files == 62

    def test_an_interrupted_tree_goes_on(self, make: Make) -> None:
        # Ten directories a page: few enough that each is listed on its own, whatever the driver can.
        driver = new_driver(*(b"d%02d/%d" % (number % 20, number) for number in range(2000)))
        with make(Wanted(driver)) as master:
            calls: list[bytes] = []

            def fail_at_last(operation: str, key: bytes) -> None:
                calls.append(key)
                if key == b"d00/":
                    raise Unavailable("no route")

            driver.on_call = fail_at_last
            with pytest.raises(Unavailable):
                master.sync_tree(ROOT_INODE, deadline=soon())
            done = set(calls) - {b"d00/"}
        with make(Wanted(driver)) as master:
            again = counting(driver)
            assert master.sync_tree(ROOT_INODE, deadline=soon()).files == 2000
            assert {key for _, key in again}.isdisjoint(done)
            again.clear()
            master.sync_tree(ROOT_INODE, deadline=soon())
            assert {key for _, key in again} == {b""} | {b"d%02d/" % number for number in range(20)}
