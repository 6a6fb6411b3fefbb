"""Load jobs over a namespace and a loader that exist only in memory."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator

import pytest

from jindopy.base.clock import Deadline
from jindopy.base.errors import CacheFull, JindoError, NoSuchEntry, Throttled, UsageError
from jindopy.base.ident import ROOT_INODE, FileVersion, Inode, Kind, MountId, UfsId
from jindopy.master.jobs import JOBS_KEPT, Jobs
from jindopy.master.loadrun import STRIKES_MAX, Listener, LoadSpec
from jindopy.master.progress import FAILURES_MAX, Figures
from jindopy.namespace.api import Answer, MountInfo, Node, TreeCount
from jindopy.namespace.sqlite_store import Job as JobRow

MOUNT = MountInfo(MountId(1), b"", UfsId("memory://x"), "memory://x", b"", 60.0, True)
DIRECTORY = Node(ROOT_INODE, Inode(0), b"", MountId(1), Kind.DIRECTORY, 0, 0, 0, 1, 0, 0, 1, b"", None)


class FlatMaster:
    """One directory of ``count`` files of one kilobyte; nothing is stored."""

    def __init__(self, count: int) -> None:
        self.count_files = count
        self.listings: list[bool] = []
        self.block = threading.Event()
        self.block.set()
        self.rows: dict[str, JobRow] = {}

    def mounts(self) -> list[MountInfo]:
        return [MOUNT]

    def node_of(self, number: int) -> Node:
        name = b"f%d" % number
        return DIRECTORY._replace(inode=Inode(number + 2), name=name, kind=Kind.FILE, size=1024, token=b"t")

    def resolve(self, path: bytes, *, deadline: Deadline) -> Node:
        if not path:
            return DIRECTORY
        if not path.startswith(b"f"):
            raise NoSuchEntry("no")
        return self.node_of(int(path[1:]))

    def node(self, inode: Inode) -> Node:
        return DIRECTORY if inode == ROOT_INODE else self.node_of(inode - 2)

    def sync_tree(self, inode, *, deadline, progress=None, refresh=True) -> TreeCount:
        self.listings.append(refresh)
        while not self.block.wait(0.01):
            deadline.check("listing")
        progress.listed(1, self.count_files)
        return TreeCount(self.count_files, 1, 0)

    def walk(self, inode: Inode) -> Iterator[tuple[bytes, Node]]:
        for number in range(self.count_files):
            node = self.node_of(number)
            yield node.name, node

    def revalidate(self, inode: Inode, *, deadline: Deadline) -> Answer:
        return Answer(None, 0.0)

    def save_job(self, job: JobRow) -> None:
        self.rows[job.id] = job

    def load_jobs(self) -> list[JobRow]:
        return sorted(self.rows.values(), key=lambda row: row.created_ns)

    def delete_job(self, job: str) -> None:
        self.rows.pop(job, None)


class SetLoader:
    """Remembers in one set which versions are cached; ``verdict`` may refuse one."""

    def __init__(self) -> None:
        self.cached: set[int] = set()
        self.asked: list[int] = []
        self.keep = True
        self.room = 1 << 40
        self.verdict: Callable[[int], JindoError | None] = lambda inode: None

    def cached_bytes(self, version: FileVersion) -> int:
        return version.size if version.inode in self.cached else 0

    def room_bytes(self) -> int:
        return self.room

    def load(self, files: Iterable[tuple[bytes, FileVersion]], listener: Listener) -> None:
        for path, version in files:
            if listener.stopped:
                return
            self.asked.append(version.inode)
            error = self.verdict(version.inode)
            if error is None:
                listener.moved(version.size, version.size)
                if self.keep:
                    self.cached.add(version.inode)
            listener.ended(path, version, error)


@pytest.fixture
def world() -> Iterator[tuple[FlatMaster, SetLoader, Callable[[], Jobs]]]:
    master, loader = FlatMaster(100), SetLoader()
    made: list[Jobs] = []

    def make() -> Jobs:
        made.append(Jobs(master, master, loader))
        return made[-1]

    yield master, loader, make
    for jobs in made:
        jobs.close()


def finish(jobs: Jobs, *paths: str, **options: bool) -> Figures:
    return list(jobs.watch(jobs.submit(LoadSpec(list(paths), **options))))[-1]


def test_everything_is_looked_at_twice_and_loaded_once(world) -> None:
    _, loader, make = world
    last = finish(make())
    assert (last.phase, last.files_done, last.bytes_done) == ("complete", 100, 102_400)
    assert len(loader.asked) == 100


def test_what_is_not_kept_is_loaded_once_more_and_then_named(world) -> None:
    _, loader, make = world
    loader.keep = False
    last = finish(make())
    assert last.phase == "failed"
    assert len(loader.asked) == 200
    assert (last.failure_count, last.files_done, last.bytes_done) == (100, 0, 0)
    assert "evicted again" in last.failures[0].error


def test_a_file_evicted_by_the_second_round_is_found_by_the_third(world) -> None:
    _, loader, make = world

    def second_try_evicts(inode: int) -> JindoError | None:
        if inode == 50:
            if 50 in loader.asked[:-1]:
                loader.cached.discard(7)
                return None
            return Throttled("slow down")
        return None

    loader.verdict = second_try_evicts
    last = finish(make())
    assert [failure.path for failure in last.failures] == [b"f5"]
    assert (last.phase, last.files_done) == ("failed", 99)


def test_failures_in_a_row_end_the_load(world) -> None:
    _, loader, make = world
    loader.verdict = lambda inode: CacheFull("no room") if inode > 10 else None
    last = finish(make())
    assert (last.phase, last.failures[0].path) == ("failed", b"")
    assert "no room" in last.failures[0].error
    assert len(loader.asked) == 9 + STRIKES_MAX


def test_failures_now_and_then_do_not(world) -> None:
    _, loader, make = world
    loader.verdict = lambda inode: Throttled("slow down") if inode % 3 else None
    last = finish(make())
    assert (last.failure_count, last.files_done) == (67, 33)
    assert "slow down" in last.failures[-1].error
    assert len(loader.asked) == 100 + STRIKES_MAX


@pytest.mark.expect_log("the load needs")
def test_failures_are_named_up_to_a_bound(world) -> None:
    master, loader, make = world
    master.count_files = FAILURES_MAX + 500
    loader.room = 100 * 4096
    last = finish(make())
    assert len(last.failures) == FAILURES_MAX
    assert last.failure_count == FAILURES_MAX + 400
    assert len(loader.asked) == 100


def test_a_bug_fails_its_job_and_is_logged(world, expected_logs) -> None:
    _, loader, make = world
    expected_logs.add("failed unexpectedly")

    def bug(inode: int) -> JindoError | None:
        raise ZeroDivisionError("oops")

    loader.verdict = bug
    last = finish(make())
    assert (last.phase, last.failure_count) == ("failed", 1)
    assert "oops" in last.failures[0].error


def test_memory_does_not_grow_with_the_number_of_files() -> None:
    master, loader = FlatMaster(30_000), SetLoader()
    loader.cached = set(range(2, 30_002))
    loader.asked = Forgetful()
    jobs = Jobs(master, master, loader)
    tracemalloc.start()
    try:
        last = finish(jobs)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        jobs.close()
    assert last.files_done == 30_000
    assert peak < 1 << 20


class Forgetful(list):
    def append(self, item: object) -> None:
        pass


def test_data_alone_lists_only_what_is_not_fresh(world) -> None:
    master, loader, make = world
    jobs = make()
    finish(jobs, metadata=False)
    finish(jobs, data=False)
    assert master.listings == [False, True]
    assert len(loader.asked) == 100


@pytest.mark.parametrize(
    ("running", "wanted", "joins"),
    [
        (LoadSpec([""]), LoadSpec(["f1"]), True),
        (LoadSpec([""]), LoadSpec(["f*"]), True),
        (LoadSpec([""]), LoadSpec([""], metadata=False), True),
        (LoadSpec([""]), LoadSpec([""], data=False), True),
        (LoadSpec(["f1"]), LoadSpec([""]), False),
        (LoadSpec(["f1"]), LoadSpec(["f2"]), False),
        (LoadSpec([""], metadata=False), LoadSpec([""]), False),
        (LoadSpec([""], data=False), LoadSpec([""]), False),
        (LoadSpec([""]), LoadSpec([""], dry_run=True), False),
        (LoadSpec([""], dry_run=True), LoadSpec([""]), False),
    ],
)
def test_who_joins_a_load_that_is_listing(world, running: LoadSpec, wanted: LoadSpec, joins: bool) -> None:
    master, _, make = world
    jobs = make()
    master.block.clear()
    first = jobs.submit(running)
    second = jobs.submit(wanted)
    assert (first is second) is joins
    master.block.set()
    assert list(jobs.watch(first))[-1].phase == list(jobs.watch(second))[-1].phase == "complete"


def test_metadata_alone_does_not_join_a_load_that_has_listed(world) -> None:
    _, loader, make = world
    jobs = make()
    gate, reached = threading.Event(), threading.Event()

    def wait(inode: int) -> None:
        reached.set()
        assert gate.wait(10)

    loader.verdict = wait
    first = jobs.submit(LoadSpec([""]))
    assert reached.wait(10)
    assert jobs.submit(LoadSpec([""], data=False)) is not first
    assert jobs.submit(LoadSpec([""])) is first
    gate.set()


def test_a_listing_can_be_cancelled(world) -> None:
    master, loader, make = world
    jobs = make()
    master.block.clear()
    job = jobs.submit(LoadSpec([]))
    assert jobs.cancel(job.id)
    assert list(jobs.watch(job))[-1].phase == "cancelled"
    assert not jobs.cancel(job.id)
    assert not loader.asked
    assert master.rows[job.id].state == "cancelled"


def test_unfinished_jobs_go_on_after_a_restart_and_others_do_not(world) -> None:
    master, _, make = world
    first = make()
    master.block.clear()
    job = first.submit(LoadSpec(["f3", "f4"]))
    stuck = first.submit(LoadSpec([]))
    assert list(first.watch(job))[-1].phase == "complete"
    first.close()
    with pytest.raises(JindoError, match="shutting down"):
        list(first.watch(stuck))
    assert {row.state for row in master.rows.values()} == {"complete", "listing"}
    master.block.set()
    second = make()
    assert list(second.watch(second.get(stuck.id)))[-1].files_done == 100
    with pytest.raises(UsageError):
        second.get(job.id)


@pytest.mark.expect_log("cannot be resumed")
@pytest.mark.parametrize("spec", ["", "[]", '{"paths": 3}', json.dumps({"paths": ["../x"]}), '{"paths": [], "new": 1}'])
def test_a_row_that_makes_no_sense_is_dropped(world, spec: str) -> None:
    master, _, make = world
    master.rows["1"] = JobRow("1", spec, "loading", "", 0)
    make()
    assert not master.rows


def test_old_finished_jobs_are_forgotten(world) -> None:
    master, _, make = world
    for number in range(JOBS_KEPT + 20):
        master.rows[str(number)] = JobRow(str(number), "{}", "failed", "", number)
    make()
    assert len(master.rows) == JOBS_KEPT
    assert "0" not in master.rows
    assert str(JOBS_KEPT + 19) in master.rows


def test_a_dry_run_leaves_no_row(world) -> None:
    master, loader, make = world
    loader.cached = {2, 3}
    last = finish(make(), dry_run=True)
    assert (last.phase, last.files_total, last.files_done, last.bytes_done) == ("complete", 100, 2, 2048)
    assert not master.rows
    assert not loader.asked
