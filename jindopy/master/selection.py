"""What a request's patterns select in the namespace, as a stream.

Two steps, so that a million files never stand in memory:

    refresh   brings the metadata up to date, only where the patterns can match: literal directories and those that a
              glob reaches are listed as trees, directories on the way one by one
    files     walks what the store then knows and yields each selected file once, with its version

Symbolic links are skipped: their targets are files of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, final

from jindopy.base.clock import Deadline
from jindopy.base.errors import NoSuchEntry
from jindopy.base.ident import FileVersion, Inode, Kind, MountId
from jindopy.master.patterns import ANY_DEPTH, Part, Pattern, matches, parse
from jindopy.namespace.api import MasterApi, MountInfo, Node, SyncProgress

LIST_FROM_FILES: Final = 64
"""So many files named one by one in a directory are brought up to date by listing it: as many HEADs take longer than
the pages of most directories."""


class Found(NamedTuple):
    """A selected file."""

    path: bytes
    """Below the root."""
    version: FileVersion


@final
class Versions:
    """Turns rows of the namespace into versions of objects."""

    def __init__(self, mounts: Sequence[MountInfo]) -> None:
        self._mounts: dict[MountId, tuple[MountInfo, int]] = {
            # Bytes of a path to cut off: the mount's own path and the slash behind it.
            mount.id: (mount, len(mount.path) + 1 if mount.path else 0)
            for mount in mounts
        }

    def of(self, path: bytes, node: Node) -> FileVersion:
        """The version of the file at ``path``."""
        mount, cut = self._mounts[node.mount]
        return FileVersion.of(
            mount.id, mount.ufs_id, mount.prefix + path[cut:], node.token, node.size, node.inode, node.version
        )

    def uri(self, path: bytes, mount_id: MountId) -> str:
        """What the UFS calls a path of that mount; empty outside all mounts."""
        if mount_id not in self._mounts:
            return ""
        mount, cut = self._mounts[mount_id]
        inner = path[cut:].decode("utf-8", "surrogateescape")
        return f"{mount.uri.rstrip('/')}/{inner}".rstrip("/") if inner else mount.uri


@final
class Selection:
    """The files that patterns select."""

    def __init__(self, master: MasterApi, paths: Sequence[str], *, literal: bool = False) -> None:
        """``literal``: wildcards mean themselves.  Raises UsageError on paths that cannot be."""
        self._master = master
        mounts = master.mounts()
        # Literal ones first: they never overlap (``parse`` saw to that), so only globs can meet a file again.
        self.patterns = sorted(parse(paths, mounts, literal=literal), key=lambda pattern: bool(pattern.rest))
        self.versions = Versions(mounts)
        self._literals = {pattern.base for pattern in self.patterns if not pattern.rest}
        self._globs = [pattern for pattern in self.patterns if pattern.rest]
        self._inodes: dict[bytes, Inode] = {}
        """Where bases were found: ten thousand files named one by one are not asked for in every round."""

    def covers(self, other: Selection) -> bool:
        """Whether everything ``other`` selects is selected here too (false when it takes thought to tell)."""
        mine = {pattern.text for pattern in self._globs}
        return all(self._is_literal(theirs.base) or (theirs.rest and theirs.text in mine) for theirs in other.patterns)

    def selects(self, path: bytes) -> bool:
        """Whether the path or a directory above it is matched."""
        return self._is_literal(path) or any(pattern.selects(path) for pattern in self._globs)

    def _is_literal(self, path: bytes) -> bool:
        """Whether the path or a directory above it is named without wildcards."""
        if b"" in self._literals:
            return True
        while path:
            if path in self._literals:
                return True
            path = path.rpartition(b"/")[0]
        return False

    def base(self, pattern: Pattern, deadline: Deadline) -> Node:
        """The node a pattern starts from; raises NoSuchEntry naming it."""
        known = self._inodes.get(pattern.base)
        if known is not None:
            try:
                return self._master.node(known)
            except NoSuchEntry:
                del self._inodes[pattern.base]  # replaced by another: look
        try:
            node = self._master.resolve(pattern.base, deadline=deadline)
        except NoSuchEntry:
            shown = pattern.base.decode("utf-8", "backslashreplace")
            raise NoSuchEntry(f"no such file or directory: {shown!r} (paths are below the mount point)") from None
        self._inodes[pattern.base] = node.inode
        return node

    def check(self, deadline: Deadline) -> None:
        """Raise NoSuchEntry for the first path that starts nowhere."""
        for pattern in self.patterns:
            self.base(pattern, deadline)

    def refresh(self, deadline: Deadline, progress: SyncProgress | None = None, *, anew: bool) -> None:
        """Have the store know what the UFS holds now (``anew``), or at least something that is still fresh."""
        files: dict[Inode, list[Node]] = {}
        for pattern in self.patterns:
            node = self.base(pattern, deadline)
            if node.kind is Kind.DIRECTORY:
                self._descend(node.inode, pattern.rest, deadline, progress, anew)
            elif anew:
                files.setdefault(node.parent, []).append(node)
        for directory, nodes in files.items():
            if len(nodes) >= LIST_FROM_FILES:
                for _ in self._children(directory, deadline, progress, anew):
                    pass  # what counts is that the store knows them now
            else:
                for node in nodes:
                    self._master.revalidate(node.inode, deadline=deadline)

    def _descend(
        self, directory: Inode, rest: tuple[Part, ...], deadline: Deadline, progress: SyncProgress | None, anew: bool
    ) -> None:
        if not rest or rest[0] is ANY_DEPTH:
            self._master.sync_tree(directory, deadline=deadline, progress=progress, refresh=anew)
            return
        below = [
            node.inode
            for node in self._children(directory, deadline, progress, anew)
            if node.kind is Kind.DIRECTORY and matches(rest[0], node.name)
        ]
        for inode in below:
            self._descend(inode, rest[1:], deadline, progress, anew)

    def _children(
        self, directory: Inode, deadline: Deadline, progress: SyncProgress | None, anew: bool
    ) -> Iterator[Node]:
        for page in self._master.read_dir(directory, deadline=deadline, refresh=anew):
            if progress is not None:
                progress.listed(int(page.last), len(page.nodes))
            yield from page.nodes

    def files(self, deadline: Deadline, counts: list[int] | None = None) -> Iterator[Found]:
        """Each selected file once, as the store knows it; ``counts`` is raised per pattern, -1: it starts nowhere."""
        for index, pattern in enumerate(self.patterns):
            try:
                node = self.base(pattern, deadline)
            except NoSuchEntry:  # it vanished since the request began
                if counts is not None:
                    counts[index] = -1
                continue
            earlier = self._globs[: index - (len(self.patterns) - len(self._globs))] if pattern.rest else []
            for path, found in walk_node(self._master, pattern.base, node):
                if pattern.rest and not pattern.selects(path):
                    continue
                if counts is not None:
                    counts[index] += 1
                if pattern.rest and (self._is_literal(path) or any(other.selects(path) for other in earlier)):
                    continue  # brought already
                yield Found(path, self.versions.of(path, found))

    def tops(self, deadline: Deadline) -> Iterator[tuple[bytes, Node]]:
        """(path, node) of what the patterns match themselves: directories as such, not what is below them."""
        for pattern in self.patterns:
            node = self.base(pattern, deadline)
            if not pattern.rest:
                yield pattern.base, node
            elif node.kind is Kind.DIRECTORY:
                yield from self._expand(pattern, pattern.base, node, pattern.rest, deadline)

    def _expand(
        self, pattern: Pattern, path: bytes, node: Node, rest: tuple[Part, ...], deadline: Deadline
    ) -> Iterator[tuple[bytes, Node]]:
        if rest == (ANY_DEPTH,):
            yield path, node
        elif rest[0] is ANY_DEPTH:
            for below, found in walk_node(self._master, path, node):
                if pattern.selects(below):
                    yield below, found
        else:
            below_path = path + b"/" if path else b""
            for page in self._master.read_dir(node.inode, deadline=deadline):
                for child in page.nodes:
                    if not matches(rest[0], child.name):
                        continue
                    if len(rest) == 1:
                        yield below_path + child.name, child
                    elif child.kind is Kind.DIRECTORY:
                        yield from self._expand(pattern, below_path + child.name, child, rest[1:], deadline)


def walk_node(master: MasterApi, path: bytes, node: Node) -> Iterator[tuple[bytes, Node]]:
    """(path, node) of every file below a directory at ``path``, or of the file there, as the store knows them."""
    if node.kind is Kind.FILE:
        yield path, node
    elif node.kind is Kind.DIRECTORY:
        for below, found in master.walk(node.inode):
            if found.kind is Kind.FILE:
                yield below, found
