"""What a running mount answers to the command line: ``control.api.DaemonApi`` over the parts of the mount.

Flow     Each request is one method, called on a thread of the control server.  Streams (load, scrub) are generators:
         ending one leaves a load running and stops a scrub.
Figures  come from where they arise: tiers and hits from the block store, requests and bytes from ``base.metrics``, file
         counts from the namespace.  Counters of the process are shown from the daemon's start on.
Life     Making it takes up unfinished loads and brings pins up to date in the background; ``close`` ends both.
Failure  JindoErrors go to the asker as one line; nothing here can harm the mount.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, final

from jindopy.base.clock import REAL_CLOCK, Clock, Deadline
from jindopy.base.errors import UsageError
from jindopy.base.ident import Cid, FileVersion, Kind, MountId
from jindopy.base.units import format_size
from jindopy.cache.fill import Filler
from jindopy.cache.store import Cache
from jindopy.control.api import (
    DaemonStatus,
    EntryInfo,
    LoadFailure,
    LoadProgress,
    LoadRequest,
    MountStatus,
    PathsResult,
    ScrubProgress,
    TierStatus,
)
from jindopy.master.jobs import Job, Jobs, JobStore
from jindopy.master.loadrun import FileLoader, LoadSpec
from jindopy.master.pins import Pins
from jindopy.master.progress import Figures
from jindopy.master.selection import Found, Selection, Versions, walk_node
from jindopy.modes.figures import MemoryUse, Traffic, resident_bytes
from jindopy.namespace.api import MasterApi, MountInfo, Node
from jindopy.ufs.base import Capability, Driver
from jindopy.vfs.operations import Vfs
from jindopy.worker.loader import Loader

REQUEST_SECONDS_MAX: Final = 60.0
"""Metadata a request needs from the UFS: as long as a FUSE request would wait."""
MESSAGES_MAX: Final = 1000
"""Names in one answer."""
EVICT_BATCH: Final = 500
SCRUB_TICK_SECONDS: Final = 0.25
"""Between two figures of a scrub."""


class DaemonMaster(MasterApi, JobStore, Protocol):
    """A namespace that also keeps load jobs."""


class Elsewhere(FileLoader, Protocol):
    """The workers of a cluster, for a client of them."""

    def evict(self, cids: Sequence[Cid]) -> list[int]:
        """Drop versions there; bytes that each freed."""
        ...


@dataclass(frozen=True)
class DaemonFacts:
    """What never changes while a mount lives."""

    mount_id: str
    mount_point: str
    version: str
    transport: str
    endpoints: Mapping[MountId, Driver]
    """Driver of each mount: its endpoint and what it can do are shown."""
    notes: list[str]
    """Of the transport; may grow."""


@final
class Daemon:
    """Answers for one mount."""

    def __init__(
        self,
        *,
        master: DaemonMaster,
        cache: Cache,
        filler: Filler,
        vfs: Vfs,
        facts: DaemonFacts,
        fuse_requests: Callable[[], int],
        shutdown: Callable[[float], None],
        memory: MemoryUse | None = None,
        elsewhere: Elsewhere | None = None,
        clock: Clock = REAL_CLOCK,
    ) -> None:
        self._master = master
        self._cache = cache
        self._vfs = vfs
        self._facts = facts
        self._shutdown = shutdown
        self._memory = memory
        self._clock = clock
        self._started = clock.monotonic()
        self._traffic = Traffic(cache, fuse_requests)
        self._versions = Versions(master.mounts())
        self._elsewhere = elsewhere
        self._loader: FileLoader = elsewhere or Loader(cache, filler)
        self._pins = Pins(master, cache)
        self._jobs = Jobs(master, master, self._loader, clock=clock, on_over=self._pins.reconcile)

    def close(self) -> None:
        """End loads (unfinished ones go on at the next start) and background work; the parts stay."""
        self._jobs.close()
        self._pins.close()

    def shutdown(self, drain_seconds: float) -> None:
        """Have the mount end; returns at once."""
        self._shutdown(max(0.0, drain_seconds))

    # Figures.

    def status(self) -> DaemonStatus:
        mounts = [self._mount_status(mount) for mount in self._master.mounts()]
        skipped = len(self._master.skipped())
        return DaemonStatus(
            mount_id=self._facts.mount_id,
            mount_point=self._facts.mount_point,
            pid=os.getpid(),
            version=self._facts.version,
            transport=self._facts.transport,
            uptime_seconds=self._clock.monotonic() - self._started,
            mounts=mounts,
            tiers=self._tiers(),
            traffic=self._traffic.status(),
            open_files=self._vfs.open_files,
            memory_bytes=resident_bytes(),
            skipped_keys=skipped,
            notes=self._notes(mounts, skipped),
            memory_budget_bytes=self._memory.budget_bytes if self._memory else 0,
            memory=self._memory.parts() if self._memory else [],
        )

    def _mount_status(self, mount: MountInfo) -> MountStatus:
        driver = self._facts.endpoints[mount.id]
        root = self._master.resolve(mount.path, deadline=self._deadline())
        count = self._master.count(root.inode)
        cached_bytes, cached_files = self._cache.owner_bytes(mount.ufs_id)
        return MountStatus(
            path=_text(mount.path),
            uri=mount.uri,
            endpoint=driver.endpoint,
            consistency="strong" if Capability.STRONG_TOKEN in driver.capabilities else "weak",
            files=count.files,
            size_bytes=count.size,
            cached_bytes=cached_bytes,
            cached_files=cached_files,
            ttl_seconds=mount.ttl_seconds,
        )

    def _tiers(self) -> list[TierStatus]:
        state = self._cache.disk_state.value
        return [
            TierStatus(
                name=stat.name,
                path=stat.path,
                quota_bytes=stat.quota_bytes,
                used_bytes=stat.used_bytes,
                cached_bytes=stat.cached_bytes,
                pinned_bytes=stat.pinned_bytes,
                files=stat.files,
                high=spec.high,
                low=spec.low,
                state=state,
                evicted_bytes=stat.evicted_bytes,
            )
            for stat, spec in zip(self._cache.stats(), self._cache.tiers, strict=True)
        ]

    def _notes(self, mounts: list[MountStatus], skipped: int) -> list[str]:
        notes = list(self._facts.notes)
        notes += [
            f"{mount.uri}: changes are told by size and time only (weak consistency)"
            for mount in mounts
            if mount.consistency == "weak"
        ]
        state = self._cache.disk_state.value
        if state != "normal":
            notes.append(f"the cache disk is {state}: reads go on from the store; check the disk")
        if skipped:
            notes.append("some keys cannot be shown as paths; `jindopy doctor` lists them")
        return notes

    # Entries.

    def list_dir(self, path: str) -> list[EntryInfo]:
        where, node = self._literal(path)
        if node.kind is not Kind.DIRECTORY:
            return [self._entry(where, node)]
        entries = [
            self._entry(where + b"/" + child.name if where else child.name, child)
            for page in self._master.read_dir(node.inode, deadline=self._deadline())
            for child in page.nodes
        ]
        return sorted(entries, key=lambda entry: os.fsencode(entry.path))

    def stat(self, path: str) -> EntryInfo:
        """One entry; of a directory the sums over all files below it that are known."""
        where, node = self._literal(path)
        entry = self._entry(where, node)
        if node.kind is not Kind.DIRECTORY:
            return entry
        size_bytes = cached_bytes = 0
        for below, found in walk_node(self._master, where, node):
            size_bytes += found.size
            cached_bytes += self._loader.cached_bytes(self._versions.of(below, found))
        return EntryInfo(**{**vars(entry), "size_bytes": size_bytes, "cached_bytes": cached_bytes})

    def _literal(self, path: str) -> tuple[bytes, Node]:
        """Path below the root and node of a path without globs."""
        selection = Selection(self._master, [path], literal=True)
        (pattern,) = selection.patterns
        return pattern.base, selection.base(pattern, self._deadline())

    def _entry(self, path: bytes, node: Node) -> EntryInfo:
        is_file = node.kind is Kind.FILE
        return EntryInfo(
            path=_text(path),
            kind=node.kind.name.lower(),
            size_bytes=node.size,
            mtime_ns=node.mtime_ns,
            etag=_text(node.token),
            crc64=node.crc64,
            cached_bytes=self._loader.cached_bytes(self._versions.of(path, node)) if is_file else 0,
            pinned=self._pins.covers(path),
            ufs=self._versions.uri(path, node.mount),
            inode=node.inode,
        )

    def skipped_keys(self) -> list[tuple[str, str]]:
        uris = {mount.id: (mount.uri.rstrip("/"), len(mount.prefix)) for mount in self._master.mounts()}
        return [
            (f"{uris[key.mount][0]}/{_text(key.key[uris[key.mount][1] :])}", key.reason)
            for key in self._master.skipped(MESSAGES_MAX)
        ]

    # Loads, eviction, pins.

    def load(self, request: LoadRequest) -> Iterator[LoadProgress]:
        job = self._jobs.submit(
            LoadSpec(request.paths, metadata=request.metadata, data=request.data, dry_run=request.dry_run)
        )
        for figures in self._jobs.watch(job):
            yield _progress(job, figures)

    def cancel_load(self, job: str) -> bool:
        return self._jobs.cancel(job)

    def evict(self, paths: list[str]) -> PathsResult:
        """Drop what is cached of the current versions, by the kernel too; pinned files stay and are named."""
        selection = Selection(self._master, paths)
        deadline = self._deadline()
        selection.check(deadline)
        counts = [0] * len(selection.patterns)
        files = freed_bytes = pinned = 0
        messages: list[str] = []
        for path, version, there in self._evicted_elsewhere(selection.files(deadline, counts)):
            known = self._cache.peek(version.cid)
            if known is None or not known.cached_bytes:
                if there:
                    files += 1
                    freed_bytes += there
                    self._vfs.forget_content(path)
                continue
            if known.pinned:
                pinned += 1
                if len(messages) < MESSAGES_MAX:
                    messages.append(f"pinned, not evicted: {_text(path)}")
                continue
            files += 1
            freed_bytes += max(there, self._cache.evict(version.cid))
            self._vfs.forget_content(path)
        if pinned > len(messages):
            messages.append(f"... and {pinned - len(messages)} more pinned files")
        messages += _unmatched(selection, counts)
        return PathsResult(files, freed_bytes, messages)

    def _evicted_elsewhere(self, files: Iterator[Found]) -> Iterator[tuple[bytes, FileVersion, int]]:
        """Each with the bytes that workers dropped of it."""
        while batch := list(itertools.islice(files, EVICT_BATCH)):
            freed = [0] * len(batch)
            if self._elsewhere is not None:
                freed = self._elsewhere.evict([found.version.cid for found in batch])
            for found, size in zip(batch, freed, strict=True):
                yield found.path, found.version, size

    def pin(self, paths: list[str]) -> PathsResult:
        if self._elsewhere is not None:
            raise UsageError("workers keep no pins yet: a pin would hold only in this client's own cache")
        done = self._pins.pin(paths, self._loader.room_bytes())
        missing_bytes = done.bytes - done.cached_bytes
        messages = []
        if missing_bytes:
            messages.append(f"{format_size(missing_bytes)} of it are not cached yet; `jindopy load` brings them")
        return PathsResult(done.files, done.bytes, messages)

    def unpin(self, paths: list[str]) -> PathsResult:
        done = self._pins.unpin(paths)
        return PathsResult(done.files, done.bytes, [] if done.files else ["nothing was pinned there"])

    def scrub(self) -> Iterator[ScrubProgress]:
        """Read and check every cached block; bad ones are dropped and named."""
        cids = self._cache.cids()
        files_checked = blocks_checked = blocks_bad = 0
        bad: set[bytes] = set()
        tick = Deadline.after(SCRUB_TICK_SECONDS, self._clock)
        for number, cid in enumerate(cids):
            if tick.passed:
                yield ScrubProgress(False, len(cids), number, blocks_checked, blocks_bad)
                tick = Deadline.after(SCRUB_TICK_SECONDS, self._clock)
            result = self._cache.scrub(cid)
            # An open version of which nothing is cached has an entry too.
            files_checked += result.checked_blocks > 0
            blocks_checked += result.checked_blocks
            if result.bad_blocks:
                blocks_bad += len(result.bad_blocks)
                bad.add(cid)
        names = self._names_of(bad)[:MESSAGES_MAX] if bad else []
        yield ScrubProgress(True, files_checked, files_checked, blocks_checked, blocks_bad, names)

    def _names_of(self, cids: set[bytes]) -> list[str]:
        """Paths of cached versions; the cid in hex for one that is current nowhere."""
        names, left = [], set(cids)
        for path, node in walk_node(self._master, b"", self._master.root()):
            cid = self._versions.of(path, node).cid
            if cid in left:
                left.discard(cid)
                names.append(_text(path))
        return names + sorted(cid.hex() for cid in left)

    def _deadline(self) -> Deadline:
        return Deadline.after(REQUEST_SECONDS_MAX, self._clock)


def _progress(job: Job, figures: Figures) -> LoadProgress:
    return LoadProgress(
        job=job.id,
        phase=figures.phase.value,
        done=figures.phase.done,
        directories=figures.directories,
        files_total=figures.files_total,
        files_done=figures.files_done,
        bytes_total=figures.bytes_total,
        bytes_done=figures.bytes_done,
        bytes_fetched=figures.bytes_fetched,
        failures=[LoadFailure(_text(failure.path), failure.error) for failure in figures.failures],
        failure_count=figures.failure_count,
        notes=list(figures.notes),
    )


def _unmatched(selection: Selection, counts: list[int]) -> list[str]:
    return [
        f"no file matches {_text(pattern.text)!r}"
        for pattern, count in zip(selection.patterns, counts, strict=True)
        if not count and pattern.rest
    ]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
