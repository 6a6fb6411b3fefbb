"""Load jobs: persisted, joined, resumed, cancelled, watched.

Flow     ``submit`` checks the paths, joins a running load that covers them, else saves a row and queues the job; one of
         RUNNING_MAX threads runs it (``loadrun``).  ``watch`` is a stream of figures until the job is over; whoever
         stops watching leaves it running.
Restart  Rows of unfinished jobs are queued again when the object is made: listing goes on where it stopped (the
         namespace keeps the cursor), what is cached already costs a look.
Bounds   RUNNING_MAX jobs at a time, JOBS_KEPT finished ones remembered.
Lock     ``_lock`` guards the table of jobs; never held across the store, the namespace or a load.
Failure  Whatever ends a job badly is in its figures; a bug ends its job alone and is logged.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, final

from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import JindoError, UsageError
from jindopy.base.records import RecordError, decode, encode
from jindopy.master.loadrun import FileLoader, LoadRun, LoadSpec
from jindopy.master.progress import Failure, Figures, Phase, Progress
from jindopy.master.selection import Selection
from jindopy.namespace.api import MasterApi
from jindopy.namespace.sqlite_store import Job as JobRow

LOG = logging.getLogger("jindopy.load")

RUNNING_MAX: Final = 4
"""Loads share one link and one cache: more at a time make none of them end sooner."""
JOBS_KEPT: Final = 100
"""Finished jobs remembered, for those who ask later."""
WATCH_SECONDS: Final = 0.25
"""Between two figures of a watched job."""
CHECK_SECONDS_MAX: Final = 60.0
"""Finding the paths of a request."""


class JobStore(Protocol):
    """Where jobs survive a restart."""

    def save_job(self, job: JobRow) -> None:
        """Insert or replace a row."""
        ...

    def load_jobs(self) -> list[JobRow]:
        """All rows, oldest first."""
        ...

    def delete_job(self, job: str) -> None:
        """Drop a row; a missing one is no error."""
        ...


@final
class Job:
    """A load, from its submission on."""

    def __init__(self, job_id: str, spec: LoadSpec, selection: Selection, created_ns: int) -> None:
        self.id = job_id
        self.spec = spec
        self.selection = selection
        self.created_ns = created_ns
        self.progress = Progress()
        self.cancelled = False

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.progress.ended

    def row(self, phase: Phase) -> JobRow:
        """As it is persisted."""
        return JobRow(self.id, json.dumps(encode(self.spec)), phase.value, "", self.created_ns)

    def serves(self, spec: LoadSpec, selection: Selection) -> bool:
        """Whether who wants that load can watch this one instead."""
        if self.over or self.cancelled or spec.dry_run or self.spec.dry_run:
            return False
        listing = self.progress.figures().phase is Phase.LISTING
        if spec.metadata and not (self.spec.metadata and (listing or spec.data)):
            # What was uploaded since its listing would stay unseen, and that is all a metadata load is for.
            return False
        return self.spec.data >= spec.data and self.selection.covers(selection)


@final
class Jobs:
    """All loads of a mount."""

    def __init__(
        self,
        master: MasterApi,
        store: JobStore,
        loader: FileLoader,
        *,
        clock: Clock = REAL_CLOCK,
        on_over: Callable[[], None] = lambda: None,
    ) -> None:
        """Take up unfinished jobs; ``on_over`` is called at each job's end, before its watchers hear of it."""
        self._master = master
        self._store = store
        self._loader = loader
        self._clock = clock
        self._on_over = on_over
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._closing = False
        self._threads = ThreadPoolExecutor(RUNNING_MAX, thread_name_prefix="load")
        self._resume()

    def _resume(self) -> None:
        rows = self._store.load_jobs()
        finished = [row for row in rows if row.state in {phase.value for phase in Phase if phase.done}]
        for row in finished[: max(0, len(finished) - JOBS_KEPT)]:
            self._store.delete_job(row.id)
        for row in rows:
            if row in finished:
                continue
            try:
                spec = decode(LoadSpec, json.loads(row.spec), "load job")
                job = Job(row.id, spec, Selection(self._master, spec.paths), row.created_ns)
            except (RecordError, ValueError, UsageError) as error:
                LOG.warning("load %s cannot be resumed and is dropped: %s", row.id, error)
                self._store.delete_job(row.id)
                continue
            LOG.info("load %s goes on after a restart", row.id)
            self._queue(job)

    def submit(self, spec: LoadSpec) -> Job:
        """Start a load, or join one that covers it.  Raises UsageError, NoSuchEntry and what the UFS says."""
        if not (spec.metadata or spec.data):
            raise UsageError("nothing to load: neither metadata nor data is asked for")
        selection = Selection(self._master, spec.paths)
        selection.check(Deadline.after(CHECK_SECONDS_MAX))
        job = Job(secrets.token_hex(6), spec, selection, self._clock.wall_ns())
        with self._lock:
            for other in self._jobs.values():
                if other.serves(spec, selection):
                    return other
            self._jobs[job.id] = job
        if not spec.dry_run:
            self._store.save_job(job.row(Phase.LISTING))
        self._queue(job)
        return job

    def _queue(self, job: Job) -> None:
        with self._lock:
            self._jobs[job.id] = job
            if self._closing:
                raise JindoError("the mount is shutting down")
            over = [other for other in self._jobs.values() if other.over]
            for other in over[: max(0, len(over) - JOBS_KEPT)]:
                del self._jobs[other.id]
            self._threads.submit(self._run, job)

    def get(self, job_id: str) -> Job:
        """Raises UsageError when there is no such job."""
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            raise UsageError(f"no load {job_id!r} on this mount since it started")
        return job

    def watch(self, job: Job) -> Iterator[Figures]:
        """Figures several times a second; the last ones are done.  Raises JindoError when the process ends before."""
        while not job.progress.wait_ended(WATCH_SECONDS):
            yield job.progress.figures()
        last = job.progress.figures()
        if not last.phase.done:
            raise JindoError("the mount is shutting down; the load goes on when it is mounted again")
        yield last

    def cancel(self, job_id: str) -> bool:
        """Stop a load; False when it is over.  What it loaded stays.  Raises UsageError."""
        job = self.get(job_id)
        if job.over:
            return False
        job.cancelled = True
        return True

    def _run(self, job: Job) -> None:
        def stopping() -> bool:
            return job.cancelled or self._closing

        try:
            run = LoadRun(
                self._master,
                self._loader,
                job.selection,
                job.spec,
                job.progress,
                stopping=stopping,
                on_phase=lambda phase: self._enter(job, phase),
            )
            failures, failure_count = run.run()
        except JindoError as error:
            failures, failure_count = (Failure(b"", str(error)),), 1
        except Exception as error:
            # A bug must not leave its watchers waiting for ever.
            LOG.exception("load %s failed unexpectedly", job.id)
            failures, failure_count = (Failure(b"", f"internal error: {error!r}"),), 1
        if stopping():
            failures, failure_count = (), 0
            if not job.cancelled:
                job.progress.interrupt()
                return
        self._finish(job, failures, failure_count)

    def _enter(self, job: Job, phase: Phase) -> None:
        job.progress.enter(phase)
        self._save(job, phase)

    def _finish(self, job: Job, failures: tuple[Failure, ...], failure_count: int) -> None:
        phase = Phase.CANCELLED if job.cancelled else Phase.FAILED if failure_count else Phase.COMPLETE
        self._save(job, phase)
        self._on_over()
        job.progress.finish(phase, failures, failure_count)

    def _save(self, job: Job, phase: Phase) -> None:
        if job.spec.dry_run:
            return
        try:
            self._store.save_job(job.row(phase))
        except JindoError as error:
            LOG.warning("load %s is %s, but that could not be recorded: %s", job.id, phase.value, error)

    def close(self) -> None:
        """Stop the loads; unfinished ones are taken up by the next start."""
        with self._lock:
            self._closing = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        for job in list(self._jobs.values()):
            if not job.over:
                job.progress.interrupt()
