"""What every master promises (``namespace.api.MasterApi``), as a suite.

A subclass gives a ``make`` fixture: a callable that starts a master over mounts and can be called again for a restart
on the same state.  The UFS are memory stores, steered from the test; the master may run anywhere that sees their
drivers.  A wait in these tests is for an event, never for a time.
"""

from __future__ import annotations

import pytest
from contracts.namespace_listings import ListingContract
from contracts.namespace_tools import Changes, Make, Wanted, counting, find, listed, new_driver, pages, paths, soon

from jindopy.base.errors import (
    NamespaceError,
    NoSuchEntry,
    NotADirectory,
)
from jindopy.base.ident import ROOT_INODE, Inode, Kind
from jindopy.ufs.memory import MemoryDriver


class NamespaceContract(ListingContract):
    """The suite."""

    # One mount

    def test_a_directory_is_listed_on_first_touch_only(self, make: Make) -> None:
        driver = new_driver(b"a", b"d/1", b"d/e/2", b"z")
        with make(Wanted(driver)) as master:
            calls = counting(driver)
            nodes = listed(master, ROOT_INODE)
            assert {name: node.kind for name, node in nodes.items()} == {
                b"a": Kind.FILE,
                b"d": Kind.DIRECTORY,
                b"z": Kind.FILE,
            }
            assert calls == [("list", b"")]
            assert listed(master, ROOT_INODE) == nodes
            assert len(calls) == 1
            assert set(listed(master, nodes[b"d"].inode)) == {b"1", b"e"}
            assert calls == [("list", b""), ("list", b"d/")]

    def test_attributes(self, make: Make) -> None:
        driver = new_driver()
        stat = driver.store.put(b"f", b"12345")
        with make(Wanted(driver)) as master:
            node = find(master, b"f")
            assert (node.size, node.mtime_ns, node.token, node.version) == (5, stat.mtime_ns, stat.token, 1)
            assert (node.perm, node.nlink, node.crc64, node.parent) == (0o644, 1, None, ROOT_INODE)
            assert master.node(node.inode) == node
            root = master.root()
            assert (root.inode, root.parent, root.name, root.kind, root.perm) == (1, 0, b"", Kind.DIRECTORY, 0o755)

    def test_a_lookup_needs_no_listing(self, make: Make) -> None:
        driver = new_driver(b"f", b"d/1")
        with make(Wanted(driver)) as master:
            calls = counting(driver)
            file = master.lookup(ROOT_INODE, b"f", deadline=soon())
            assert file.node is not None
            assert file.node.kind is Kind.FILE
            assert file.ttl_seconds == float("inf")
            assert calls == [("stat", b"f")]
            assert master.lookup(ROOT_INODE, b"f", deadline=soon()) == file
            directory = master.lookup(ROOT_INODE, b"d", deadline=soon())
            assert directory.node is not None
            assert directory.node.kind is Kind.DIRECTORY
            assert calls == [("stat", b"f"), ("stat", b"d"), ("list", b"d/")]
            listed(master, ROOT_INODE)
            assert master.lookup(ROOT_INODE, b"d", deadline=soon()).node == directory.node

    def test_absence_is_believed_only_from_a_complete_listing(self, make: Make) -> None:
        driver = new_driver(b"f")
        with make(Wanted(driver)) as master:
            calls = counting(driver)
            assert master.lookup(ROOT_INODE, b"no", deadline=soon()) == (None, 0.0)
            assert master.lookup(ROOT_INODE, b"no", deadline=soon()) == (None, 0.0)
            assert calls.count(("stat", b"no")) == 2
            listed(master, ROOT_INODE)
            calls.clear()
            assert master.lookup(ROOT_INODE, b"no", deadline=soon()) == (None, float("inf"))
            assert calls == []

    def test_resolve(self, make: Make) -> None:
        with make(Wanted(new_driver(b"d/e/f"))) as master:
            assert find(master, b"") == master.root()
            assert find(master, b"/d//e/f").name == b"f"
            with pytest.raises(NoSuchEntry):
                find(master, b"d/x")
            with pytest.raises(NotADirectory):
                find(master, b"d/e/f/g")

    def test_object_keys(self, make: Make) -> None:
        with make(Wanted(new_driver(b"p/d/f", b"q"), prefix=b"p")) as master:
            file = find(master, b"d/f")
            info, key = master.object_key(file.inode)
            assert (info.prefix, key) == (b"p/", b"p/d/f")
            assert master.object_key(file.parent)[1] == b"p/d/"
            assert master.object_key(ROOT_INODE)[1] == b"p/"
            assert set(listed(master, ROOT_INODE)) == {b"d"}
            with pytest.raises(NoSuchEntry):
                master.object_key(Inode(1 << 40))

    def test_wrong_inodes(self, make: Make) -> None:
        with make(Wanted(new_driver(b"f"))) as master:
            file = find(master, b"f").inode
            for inode, error in ((Inode(1 << 40), NoSuchEntry), (file, NotADirectory)):
                with pytest.raises(error):
                    pages(master, inode)
                with pytest.raises(error):
                    master.lookup(inode, b"x", deadline=soon())
                with pytest.raises(error):
                    master.sync_tree(inode, deadline=soon())
                with pytest.raises(error):
                    list(master.walk(inode))
            with pytest.raises(NoSuchEntry):
                master.node(Inode(1 << 40))

    def test_many_pages(self, make: Make) -> None:
        names = [b"part-%05d.bin" % number for number in range(3500)]
        with make(Wanted(new_driver(*(b"d/" + name for name in names), b"d/part/x"))) as master:
            directory = find(master, b"d").inode
            assert sorted(listed(master, directory)) == sorted([b"part", *names])
            assert sorted(listed(master, directory)) == sorted([b"part", *names])
            assert master.count(directory) == (3500, 1, 3500 * (2 + len(names[0])))

    # Changes

    def test_changes_are_noticed_at_the_next_listing(self, make: Make) -> None:
        driver = new_driver(b"gone", b"same", b"other", b"turn", b"back/1", b"dir/1")
        with make(Wanted(driver)) as master:
            changes = Changes()
            master.subscribe(changes)
            before = listed(master, ROOT_INODE)
            assert changes.directories == []
            driver.store.delete(b"gone")
            driver.store.put(b"other", b"new")
            driver.store.delete(b"turn")
            driver.store.put(b"turn/now", b"")
            driver.store.delete(b"back/1")
            driver.store.put(b"back", b"file")
            driver.store.put(b"new", b"")
            assert listed(master, ROOT_INODE) == before
            after = listed(master, ROOT_INODE, refresh=True)
            assert changes.first(1) == [ROOT_INODE]
            assert set(after) == {b"same", b"other", b"turn", b"back", b"new", b"dir"}
            assert after[b"same"] == before[b"same"]
            assert after[b"dir"] == before[b"dir"]
            assert after[b"other"].inode == before[b"other"].inode
            assert (after[b"other"].version, after[b"other"].size) == (2, 3)
            assert after[b"turn"].kind is Kind.DIRECTORY
            assert after[b"back"].kind is Kind.FILE
            assert after[b"turn"].inode not in {node.inode for node in before.values()}
            assert after[b"back"].inode not in {node.inode for node in before.values()}
            for name in (b"gone", b"turn", b"back"):
                with pytest.raises(NoSuchEntry):
                    master.node(before[name].inode)
            listed(master, ROOT_INODE, refresh=True)
            assert changes.first(1) == [ROOT_INODE]

    def test_a_dropped_directory_takes_its_tree_along(self, make: Make) -> None:
        driver = new_driver(*(b"d/e/%d" % number for number in range(50)), b"k")
        with make(Wanted(driver)) as master:
            master.sync_tree(ROOT_INODE, deadline=soon())
            assert master.count(ROOT_INODE).files == 51
            for number in range(50):
                driver.store.delete(b"d/e/%d" % number)
            listed(master, ROOT_INODE, refresh=True)
            assert paths(master) == [b"k"]
            assert master.count(ROOT_INODE) == (1, 0, 1)

    def test_a_file_and_a_directory_of_one_name(self, make: Make) -> None:
        driver = new_driver(b"n", b"n-1", b"n.txt", b"n/1", b"o")
        with make(Wanted(driver)) as master:
            before = listed(master, ROOT_INODE)
            assert set(before) == {b"n", b"n-1", b"n.txt", b"o"}
            assert before[b"n"].kind is Kind.DIRECTORY
            assert [(skip.key, skip.reason) for skip in master.skipped()] == [(b"n", "clash")]
            assert listed(master, ROOT_INODE, refresh=True) == before
            driver.store.delete(b"n")
            assert listed(master, ROOT_INODE, refresh=True) == before
            assert master.skipped() == []

    def test_a_clash_over_the_end_of_a_page(self, make: Make) -> None:
        fill = [b"n!%04d" % number for number in range(2500)]
        driver = new_driver(b"n", *fill, b"n/1")
        with make(Wanted(driver)) as master:
            assert listed(master, ROOT_INODE)[b"n"].kind is Kind.DIRECTORY
            driver.store.delete(b"n/1")
            after = listed(master, ROOT_INODE, refresh=True)
            assert after[b"n"].kind is Kind.FILE
            assert len(after) == 2501
            driver.store.put(b"n/1", b"")
            assert listed(master, ROOT_INODE, refresh=True)[b"n"].kind is Kind.DIRECTORY

    def test_markers_are_directories(self, make: Make) -> None:
        driver = new_driver()
        marker = driver.store.put(b"m/", b"")
        with make(Wanted(driver)) as master:
            start_ns = master.root().mtime_ns
            node = listed(master, ROOT_INODE)[b"m"]
            assert node.kind is Kind.DIRECTORY
            assert listed(master, node.inode) == {}
            assert master.node(node.inode).mtime_ns == marker.mtime_ns
            driver.store.delete(b"m/")
            driver.store.put(b"m/f", b"")
            assert set(listed(master, node.inode, refresh=True)) == {b"f"}
            assert master.node(node.inode).mtime_ns == start_ns

    def test_revalidate(self, make: Make) -> None:
        driver = new_driver(b"f", b"g")
        with make(Wanted(driver)) as master:
            changes = Changes()
            nodes = listed(master, ROOT_INODE)
            master.subscribe(changes)
            assert master.revalidate(nodes[b"f"].inode, deadline=soon()).node == nodes[b"f"]
            assert changes.directories == []
            driver.store.put(b"f", b"new")
            answer = master.revalidate(nodes[b"f"].inode, deadline=soon())
            assert answer.node is not None
            assert (answer.node.inode, answer.node.version, answer.node.size) == (nodes[b"f"].inode, 2, 3)
            assert master.node(nodes[b"f"].inode) == answer.node
            driver.store.delete(b"g")
            assert master.revalidate(nodes[b"g"].inode, deadline=soon()).node is None
            assert changes.first(2) == [ROOT_INODE, ROOT_INODE]
            with pytest.raises(NoSuchEntry):
                master.node(nodes[b"g"].inode)

    def test_crc64_stays_with_its_version(self, make: Make) -> None:
        driver = new_driver(b"f")
        crc64 = (1 << 64) - 5
        with make(Wanted(driver)) as master:
            node = find(master, b"f")
            master.note_crc64(node.inode, node.version + 1, 7)
            assert master.node(node.inode).crc64 is None
            master.note_crc64(node.inode, node.version, crc64)
            assert master.node(node.inode).crc64 == crc64
            master.note_crc64s(
                [(node.inode, node.version, 9), (node.inode, node.version + 1, 7), (Inode(1 << 40), 1, 7)]
            )
            assert master.node(node.inode).crc64 == 9
            master.note_crc64s([(node.inode, node.version, crc64)])
            assert listed(master, ROOT_INODE, refresh=True)[b"f"].crc64 == crc64
            driver.store.put(b"f", b"new")
            assert listed(master, ROOT_INODE, refresh=True)[b"f"].crc64 is None

    def test_links(self, make: Make) -> None:
        driver = new_driver(b"p/d/f", b"out")
        for key, target in (
            (b"p/up", b"p/d/f"),
            (b"p/d/x/deep", b"p/d/f"),
            (b"p/bad", b"out"),
            (b"p/worse", b"p/../out"),
        ):
            driver.store.put(key, target, Kind.SYMLINK)
        with make(Wanted(driver, prefix=b"p/")) as master:
            link = find(master, b"up")
            assert link.kind is Kind.SYMLINK
            assert master.read_link(link.inode, deadline=soon()) == b"d/f"
            assert master.read_link(find(master, b"d/x/deep").inode, deadline=soon()) == b"../f"
            for name in (b"bad", b"worse", b"d/f"):
                with pytest.raises(NamespaceError):
                    master.read_link(find(master, name).inode, deadline=soon())

    # Keys that are no paths

    def test_hostile_keys_never_break_a_walk(self, make: Make) -> None:
        long = b"L" * 256
        bad = {
            b"/lead": (b"/", "empty-component"),
            b"a//b": (b"a//", "empty-component"),
            b"a/./b": (b"a/./", "dot"),
            b"a/../b": (b"a/../", "dotdot"),
            b"..": (b"..", "dotdot"),
            b".": (b".", "dot"),
            b"nul\0": (b"nul\0", "nul"),
            b"a/n\0l/x": (b"a/n\0l/", "nul"),
            long: (long, "too-long"),
            b"a/" + long + b"/x": (b"a/" + long + b"/", "too-long"),
        }
        good = [b"a/ok", b"a/\xff\xfe", b"...", b"..a", b"M" * 255, b" ", b"a/new\nline"]
        with make(Wanted(new_driver(*bad, *good))) as master:
            master.sync_tree(ROOT_INODE, deadline=soon())
            assert paths(master) == sorted(good)
            found = {(skip.key, skip.reason) for skip in master.skipped()}
            assert found == set(bad.values())
            assert len(master.skipped(3)) == 3
            for name in (b"..", b".", b"", b"a/b", b"x" * 256):
                assert master.lookup(ROOT_INODE, name, deadline=soon()).node is None

    # Several mounts

    def test_federation(self, make: Make) -> None:
        one, two, three = new_driver(b"f1"), new_driver(b"f2", b"sub/x"), new_driver(b"f3")
        with make(Wanted(one, b"a"), Wanted(two, b"b/c"), Wanted(three, b"b/d/e")) as master:
            assert [info.path for info in master.mounts()] == [b"a", b"b/c", b"b/d/e"]
            assert set(listed(master, ROOT_INODE)) == {b"a", b"b"}
            assert set(listed(master, find(master, b"b").inode)) == {b"c", b"d"}
            assert find(master, b"b").mount == 0
            assert find(master, b"b/d/e/f3").mount == master.mounts()[2].id
            assert master.lookup(ROOT_INODE, b"zz", deadline=soon()) == (None, float("inf"))
            with pytest.raises(NoSuchEntry):
                master.object_key(find(master, b"b").inode)
            assert master.sync_tree(ROOT_INODE, deadline=soon()).files == 4
            assert paths(master) == [b"a/f1", b"b/c/f2", b"b/c/sub/x", b"b/d/e/f3"]
            assert paths(master, find(master, b"b/c").inode) == [b"b/c/f2", b"b/c/sub/x"]

    def test_a_mount_hides_what_the_outer_one_has(self, make: Make) -> None:
        outer, inner = new_driver(b"d/n/hidden", b"d/shown", b"e", b"m"), new_driver(b"in")
        with make(Wanted(outer), Wanted(inner, b"d/n"), Wanted(inner, b"m/deep", prefix=b"none")) as master:
            master.sync_tree(ROOT_INODE, deadline=soon())
            assert paths(master) == [b"d/n/in", b"d/shown", b"e"]
            assert find(master, b"d").mount == find(master, b"e").mount
            assert find(master, b"m").kind is Kind.DIRECTORY
            assert [(skip.key, skip.reason) for skip in master.skipped()] == [(b"m", "clash")]
            assert set(listed(master, find(master, b"m").inode, refresh=True)) == {b"deep"}
            assert set(listed(master, ROOT_INODE, refresh=True)) == {b"d", b"e", b"m"}

    def test_restarts_keep_what_is_the_same(self, make: Make) -> None:
        one, two = new_driver(b"f"), new_driver(b"g")
        two_id = Wanted(MemoryDriver("another", two.store), b"b/c")
        with make(Wanted(one, b"a"), two_id) as master:
            before = {path: (find(master, path).inode, find(master, path).mount) for path in (b"a/f", b"b/c/g", b"b")}
        with make(Wanted(one, b"a"), two_id) as master:
            assert before == {path: (find(master, path).inode, find(master, path).mount) for path in before}
        with make(Wanted(one, b"a", prefix=b"p"), two_id) as master:
            assert set(listed(master, find(master, b"a").inode)) == set()
            assert find(master, b"b/c/g").inode == before[b"b/c/g"][0]
            assert find(master, b"a").mount not in {mount for _, mount in before.values()}
        with make(two_id) as master:
            assert set(listed(master, ROOT_INODE)) == {b"b"}
        with make(Wanted(one), two_id) as master:
            assert set(listed(master, ROOT_INODE)) == {b"f", b"b"}
            assert find(master, b"b/c/g").inode == before[b"b/c/g"][0]

    def test_the_tree_survives_a_restart(self, make: Make) -> None:
        driver = new_driver(b"d/f", b"e")
        with make(Wanted(driver)) as master:
            master.sync_tree(ROOT_INODE, deadline=soon())
            mount = master.mounts()[0].id
            master.set_pin(mount, b"d", True)
            master.set_pin(mount, b"e", True)
            master.set_pin(mount, b"e", False)
        with make(Wanted(driver)) as master:
            calls = counting(driver)
            assert paths(master) == [b"d/f", b"e"]
            assert set(listed(master, ROOT_INODE)) == {b"d", b"e"}
            assert calls == []
            assert master.pins() == [(mount, b"d")]
