"""The inode table in plain Python: dictionaries, no bounds, no lock."""

from __future__ import annotations

from dataclasses import dataclass, field

from jindopy.base.ident import Kind

MISS = 0
NEGATIVE = -1
FOREVER_NS = 2**63 - 1

Attributes = tuple[int, int, int, int, int, int]
"""perm, uid, gid, nlink, size, mtime_ns"""


@dataclass(eq=False)
class Node:
    """One version of one inode."""

    nodeid: int
    inode: int
    version: int
    kind: int
    token: bytes
    name: bytes
    attributes: Attributes = (0, 0, 0, 0, 0, 0)
    mount: int = 0
    expires_ns: int = 0
    stamp: int = 0
    parent: Node | None = None
    lookups: int = 0
    holds: int = 0
    children: dict[bytes, Node] = field(default_factory=dict)
    dir_stamp: int = 0
    dir_state: tuple[int, int, bool] = (0, 0, False)

    @property
    def identity(self) -> tuple[int, int, int, bytes]:
        """What a number stands for."""
        if self.kind == Kind.DIRECTORY:
            return (self.inode, self.kind, 0, b"")
        return (self.inode, self.kind, self.version, self.token)


class Table:
    """As ``jindopy._ext.inodes.InodeTable``."""

    def __init__(self, uid: int, gid: int, perm: int, mtime_ns: int) -> None:
        self.root = Node(1, 1, 1, Kind.DIRECTORY, b"", b"", (perm, uid, gid, 1, 0, mtime_ns), expires_ns=FOREVER_NS)
        self.root.parent = self.root
        self.nodes = {1: self.root}
        self.named = {1: self.root.identity}  # what each inode's own number has stood for
        self.next_number = 2**63

    def directory(self, nodeid: int) -> Node:
        """KeyError when unknown or no directory."""
        node = self.nodes[nodeid]
        if node.kind != Kind.DIRECTORY:
            raise KeyError(nodeid)
        return node

    def settle(self, node: Node) -> None:
        """Free an unlinked node that nobody holds; one without a name has no children."""
        for child in list(node.children.values()):
            self.unlink(child)
        node.dir_state = (0, 0, False)
        if not node.lookups and not node.holds:
            del self.nodes[node.nodeid]

    def unlink(self, node: Node) -> None:
        """Take a child's name."""
        assert node.parent is not None
        del node.parent.children[node.name]
        node.parent = None
        self.settle(node)

    def put(
        self,
        parent: int,
        name: bytes,
        inode: int,
        version: int,
        kind: int,
        attributes: Attributes,
        mount: int,
        token: bytes,
        expires_ns: int,
    ) -> int:
        directory = self.directory(parent)
        new = Node(0, inode, version, kind, b"" if kind == Kind.DIRECTORY else token, name)
        known = directory.children.get(name)
        if known and known.identity == new.identity:
            node = known
        else:
            node = new
            if inode not in self.nodes and self.named.setdefault(inode, node.identity) == node.identity:
                node.nodeid = inode
            else:
                node.nodeid = self.next_number
                self.next_number += 1
            self.nodes[node.nodeid] = node
            directory.children[name] = node  # where the known one stood
            node.parent = directory
            if known:
                known.parent = None
                self.settle(known)
        node.version, node.attributes, node.mount, node.expires_ns = version, attributes, mount, expires_ns
        node.stamp = directory.dir_stamp
        return node.nodeid

    def remove(self, parent: int, name: bytes) -> int:
        node = self.nodes[parent].children.get(name) if parent in self.nodes else None
        if node is None:
            return 0
        self.unlink(node)
        return node.nodeid

    def lookup(self, parent: int, name: bytes, now_ns: int, count: bool) -> Node | int:
        if parent not in self.nodes:
            return MISS
        node = self.nodes[parent].children.get(name)
        if node is None:
            _, expires_ns, complete = self.nodes[parent].dir_state
            return NEGATIVE if complete and expires_ns > now_ns else MISS
        if node.expires_ns <= now_ns:
            return MISS
        node.lookups += count
        return node

    def path(self, nodeid: int) -> list[bytes]:
        names = []
        node = self.nodes[nodeid]
        while node is not self.root:
            if node.parent is None:
                raise KeyError(nodeid)
            names.append(node.name)
            node = node.parent
        return names[::-1]

    def forget(self, nodeid: int, count: int) -> bool:
        node = self.nodes.get(nodeid)
        if node is None:
            return True
        node.lookups = max(0, node.lookups - count)
        if node.parent is None and not node.lookups and not node.holds:
            self.settle(node)
        return node.lookups == 0

    def hold(self, nodeid: int) -> None:
        self.nodes[nodeid].holds += 1

    def unhold(self, nodeid: int) -> None:
        node = self.nodes[nodeid]
        if not node.holds:
            raise ValueError(nodeid)
        node.holds -= 1
        if node.parent is None and not node.lookups and not node.holds:
            self.settle(node)

    def begin_dir(self, nodeid: int) -> None:
        self.directory(nodeid).dir_stamp += 1

    def set_dir(self, nodeid: int, generation: int, expires_ns: int, complete: bool) -> list[int]:
        directory = self.directory(nodeid)
        gone = [child for child in directory.children.values() if complete and child.stamp != directory.dir_stamp]
        for child in gone:
            self.unlink(child)
        directory.dir_state = (generation, expires_ns, complete)
        return [child.nodeid for child in gone]

    def expire_dir(self, nodeid: int) -> None:
        directory = self.directory(nodeid)
        generation, _, complete = directory.dir_state
        directory.dir_state = (generation, 0, complete)
        for child in directory.children.values():
            child.expires_ns = 0

    def trim_all(self, directory: Node | None = None) -> None:
        """Trim to nothing: every leaf that nobody holds goes, from the bottom up; a held directory keeps its own."""
        directory = directory or self.root
        for child in list(directory.children.values()):
            self.trim_all(child)
            if not directory.holds and not child.children and not child.lookups and not child.holds:
                generation, expires_ns, _ = directory.dir_state
                directory.dir_state = (generation, expires_ns, False)
                self.unlink(child)

    def only_the_kernels(self) -> set[int]:
        """Files that a trim finds kept by lookups alone."""
        return {
            node.nodeid
            for node in self.nodes.values()
            if node.kind != Kind.DIRECTORY and node.parent and not node.parent.holds and node.lookups and not node.holds
        }
