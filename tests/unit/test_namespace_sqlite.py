"""The namespace's file and its statements."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jindopy.base.clock import Deadline
from jindopy.base.errors import (
    CacheBusy,
    DeadlineExceeded,
    FormatTooNew,
    NamespaceCorrupt,
    NamespaceError,
    UsageError,
)
from jindopy.base.ident import ROOT_INODE
from jindopy.namespace import sqlite_file
from jindopy.namespace.diff import Changes
from jindopy.namespace.service import EmbeddedMaster, MountRequest
from jindopy.namespace.sqlite_rows import DirState
from jindopy.namespace.sqlite_store import Job, SqliteStore
from jindopy.ufs.memory import MemoryDriver, MemoryStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "namespace.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(path)
    with made.write() as tx:
        tx.insert_root()
    yield made
    made.close()


def put(store: SqliteStore, parent: int, *names: bytes) -> int:
    changes = Changes()
    changes.inserts = [(name, 0, 1, 2, b"t", None) for name in names]
    with store.write() as tx:
        generation = tx.draw_generation()
        tx.apply(parent, 1, generation, changes)
    return generation


def names(rows: list[tuple]) -> list[bytes]:  # type: ignore[type-arg]
    return [row[2] for row in rows]


# The file


def test_a_new_file_has_the_format(path: Path) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as db:
        meta = dict(db.execute("SELECT key, value FROM meta"))
    db.close()
    assert (meta["format_version"], meta["min_reader"]) == (sqlite_file.FORMAT_VERSION, sqlite_file.MIN_READER)
    assert meta["clean"] == 1


def test_opening_a_current_file_does_not_import_sqlite_utils(path: Path) -> None:
    SqliteStore(path).close()
    program = (
        "import sys\nfrom pathlib import Path\nfrom jindopy.namespace.sqlite_store import SqliteStore\n"
        "SqliteStore(Path(sys.argv[1])).close()\nassert 'sqlite_utils' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program, path], check=True, timeout=60)


@pytest.mark.parametrize(("min_reader", "refused"), [(1, False), (2, True)])
def test_a_file_of_a_newer_release(path: Path, min_reader: int, refused: bool) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = 2 WHERE key = 'format_version'")
        db.execute("UPDATE meta SET value = ? WHERE key = 'min_reader'", (min_reader,))
    db.close()
    if refused:
        before = path.read_bytes()
        with pytest.raises(FormatTooNew, match="upgrade jindopy"):
            SqliteStore(path)
        assert path.read_bytes() == before
    else:
        SqliteStore(path).close()


def test_no_database_at_all(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(NamespaceCorrupt, match="damaged"):
        SqliteStore(path)


def damage(path: Path) -> None:
    """Overwrite the pages of the tree, not the header."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xa5" * (size - 3 * 4096))


def test_damage_is_found_after_an_unclean_end(path: Path) -> None:
    store = SqliteStore(path)
    with store.write() as tx:
        tx.insert_root()
    put(store, 1, *(b"%05d" % number for number in range(5000)))
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = 0 WHERE key = 'clean'")
    db.close()
    damage(path)
    with pytest.raises(NamespaceCorrupt):
        SqliteStore(path)


def test_a_damaged_file_is_refused_untouched_and_its_error_tells_the_way_out(tmp_path: Path) -> None:
    driver = MemoryDriver("x", MemoryStore())
    driver.store.put(b"f", b"1")
    request = MountRequest(b"", "memory://x", driver, ttl_seconds=float("inf"))
    home = tmp_path / "a state"
    home.mkdir()
    (home / "namespace.db").write_bytes(b"garbage" * 999)
    for _ in range(2):
        with pytest.raises(NamespaceCorrupt) as caught:
            EmbeddedMaster(home, [request])
        assert caught.value.exit_code == 5
        assert (home / "namespace.db").read_bytes() == b"garbage" * 999
    fix = re.search(r"run: (mv .*) and mount again", caught.value.message)
    assert fix is not None
    subprocess.run(fix[1], shell=True, check=True)  # the very words the user is told
    master = EmbeddedMaster(home, [request])
    assert master.resolve(b"f", deadline=Deadline.after(5)).size == 1
    master.close()
    assert (home / "namespace.db.damaged").read_bytes() == b"garbage" * 999


def test_damage_met_at_work_is_remembered(path: Path, store: SqliteStore) -> None:
    put(store, 1, *(b"%05d" % number for number in range(20_000)))
    store.close()
    again = SqliteStore(path)
    damage(path)
    with pytest.raises(NamespaceCorrupt):
        again.count(1)
    again.close()
    with pytest.raises(NamespaceCorrupt):
        SqliteStore(path)


def test_a_full_disk_stops_writing_only(store: SqliteStore) -> None:
    generation = put(store, 1, b"a")
    with store.write() as tx:
        tx.db.execute("PRAGMA max_page_count = 60")
    with pytest.raises(NamespaceError, match="disk is full"):
        put(store, 1, *(b"%05d" % number for number in range(5000)))
    assert names(store.children(1, generation, b"", None, 10)) == [b"a"]
    put(store, 1, b"b")


def test_a_state_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    driver = MemoryDriver("x", MemoryStore())
    for directory in (tmp_path / "file", Path("/proc/jindopy")):
        with pytest.raises(UsageError, match="choose another state directory"):
            EmbeddedMaster(directory, [MountRequest(b"", "memory://x", driver)])


def test_one_owner(path: Path, store: SqliteStore) -> None:
    with pytest.raises(CacheBusy, match=r"in use by process \d+"):
        SqliteStore(path)
    store.close()
    SqliteStore(path).close()


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.s3fs", "9p"])
def test_network_file_systems_are_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UsageError, match="local disk"):
        sqlite_file.refuse_network_file_system(tmp_path, kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs", "overlay", "fuse.fuse-overlayfs", ""])
def test_local_file_systems_are_not(tmp_path: Path, kind: str) -> None:
    sqlite_file.refuse_network_file_system(tmp_path, kind)


def test_the_file_system_is_recognised() -> None:
    assert sqlite_file.file_system_type(Path("/proc")) == "proc"


def test_sqlite_errors_are_translated(path: Path) -> None:
    with pytest.raises(NamespaceError, match="no such table"), sqlite_file.translated(path):
        raise sqlite3.OperationalError("no such table: t")
    with pytest.raises(sqlite3.IntegrityError), sqlite_file.translated(path):
        raise sqlite3.IntegrityError


def test_readers_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "READERS_MAX", 3)
    file = sqlite_file.SqliteFile(path)
    out = [file.acquire() for _ in range(3)]
    with pytest.raises(DeadlineExceeded):
        file.acquire(Deadline.after(0.01))
    waiting = threading.Thread(target=lambda: file.release(file.acquire(Deadline.after(10))))
    waiting.start()
    file.release(out.pop())
    waiting.join(10)
    assert not waiting.is_alive()
    for connection in out:
        file.release(connection)
    file.close()
    with pytest.raises(NamespaceError, match="closed"):
        file.acquire()


# Transactions


def test_a_rollback_wastes_its_numbers(path: Path, store: SqliteStore) -> None:
    class Stop(Exception):
        pass

    with pytest.raises(Stop), store.write() as tx:
        wasted = tx.insert_directory(1, b"d", 1, tx.draw_generation())
        raise Stop
    assert store.child(1, b"d") is None
    with store.write() as tx:
        inode = tx.insert_directory(1, b"d", 1, 1)
        tx.drop([inode])
    store.close()
    again = SqliteStore(path)
    with again.write() as tx:
        assert tx.insert_directory(1, b"d", 1, 1) > inode > wasted
    again.close()


def test_generations_rise_over_restarts(path: Path, store: SqliteStore) -> None:
    first = put(store, 1, b"a")
    store.close()
    again = SqliteStore(path)
    assert put(again, 1, b"b") > first
    again.close()


def test_rows_of_a_generation(store: SqliteStore) -> None:
    old = put(store, 1, b"a", b"b")
    new = put(store, 1, b"c")
    a = store.child(1, b"a")
    assert a is not None
    gone = Changes()
    gone.gone = [a.inode]
    with store.write() as tx:
        tx.apply(1, 1, new, gone)
    assert names(store.children(1, old, b"", None, 10)) == [b"a", b"b"]
    assert names(store.children(1, new, b"", None, 10)) == [b"b", b"c"]
    assert names(store.children(1, new, b"b", b"c", 10)) == [b"c"]
    assert names(store.children(1, new, b"", None, 1)) == [b"b"]
    assert names(store.named(1, old, [b"a", b"c", b"x"])) == [b"a"]
    assert store.count(1) == (2, 0, 2)
    with store.write() as tx:
        tx.sweep(1)
    assert store.row(a.inode) is None


def test_a_snapshot_stands_still(store: SqliteStore) -> None:
    generation = put(store, 1, b"a")
    snapshot = store.snapshot()
    a = store.child(1, b"a")
    assert a is not None
    with store.write() as tx:
        tx.drop([a.inode])
    assert names(snapshot.children(1, generation, b"", None, 10)) == [b"a"]
    assert names(snapshot.named(1, generation, [b"a"])) == [b"a"]
    assert store.children(1, generation, b"", None, 10) == []
    snapshot.close()
    snapshot.close()


def test_dropped_trees_go_in_small_steps(store: SqliteStore) -> None:
    with store.write() as tx:
        top = tx.insert_directory(1, b"d", 1, 1)
        below = tx.insert_directory(top, b"e", 1, 1)
        tx.save_dir_state(below, DirState(1, 1))
        tx.note_skipped(1, below, 1, [(b"d/e//", "empty-component")])
    put(store, below, *(b"%d" % number for number in range(10)))
    with store.write() as tx:
        tx.drop([top])
    steps = 0
    while store.purge(limit=4):
        steps += 1
    assert steps >= 4
    assert store.row(below) is None
    assert store.present_children(below, b"", 100) == []
    assert store.dir_state(below) == DirState()
    assert store.skipped(10) == []


def test_skipped_keys_are_bounded(store: SqliteStore) -> None:
    with store.write() as tx:
        for start in (0, 700):
            tx.note_skipped(1, 1, 5, [(b"%d//" % number, "empty-component") for number in range(start, start + 700)])
    assert len(store.skipped(5000)) == 1000
    with store.write() as tx:
        tx.forget_skipped(1, 6)
    assert store.skipped(10) == []


def test_crc64_of_all_sizes(store: SqliteStore) -> None:
    from jindopy.namespace.sqlite_rows import signed, unsigned

    for value in (0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
        kept = signed(value)
        assert kept is not None
        assert -(1 << 63) <= kept < 1 << 63
        assert unsigned(kept) == value
    assert signed(None) is None


def test_a_deep_tree(store: SqliteStore) -> None:
    at = int(ROOT_INODE)
    for _ in range(600):
        with store.write() as tx:
            at = tx.insert_directory(at, b"d", 1, 1)
    put(store, at, b"f")
    assert store.count(1) == (1, 600, 1)


def test_jobs(path: Path, store: SqliteStore) -> None:
    first, second = Job("b", "{}", "running", "", 1), Job("a", "{}", "running", "x", 2)
    for job in (second, first):
        store.save_job(job)
    done = Job("b", '{"n": 1}', "done", "c", 1)
    store.save_job(done)
    assert store.jobs() == [done, second]
    store.delete_job("a")
    store.close()
    again = SqliteStore(path)
    assert again.jobs() == [done]
    again.close()
