"""The namespace against a dictionary: random puts, deletes, overwrites, turns and restarts, read in every way."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jindopy.base.clock import Deadline, SimulatedClock
from jindopy.base.errors import NoSuchEntry, NotADirectory, Unavailable
from jindopy.base.ident import ROOT_INODE, Inode, Kind
from jindopy.namespace.api import Node
from jindopy.namespace.keys import name_fault
from jindopy.namespace.service import EmbeddedMaster, MountRequest
from jindopy.ufs.memory import MemoryDriver, MemoryStore

TTL = 60.0
# "-" sorts below "/", "0" above it; the others are names no path can hold.
COMPONENT = st.sampled_from([b"a", b"b", b"a-", b"a0", b"c", b"", b"..", b"n\0"])
KEY = st.lists(COMPONENT, min_size=1, max_size=3).map(b"/".join).filter(bool)


def soon() -> Deadline:
    return Deadline.after(20.0)


class Oracle:
    """What a tree of these objects looks like: files by path, and every directory."""

    def __init__(self, objects: dict[bytes, bytes]) -> None:
        self.directories: set[bytes] = {b""}
        files: dict[bytes, bytes] = {}
        for key, data in objects.items():
            *above, last = key.split(b"/")
            good: list[bytes] = []
            for part in above:
                if name_fault(part) is not None:
                    break
                good.append(part)
                self.directories.add(b"/".join(good))
            else:
                if last and name_fault(last) is None:
                    files[b"/".join([*good, last])] = data
        self.files = {path: data for path, data in files.items() if path not in self.directories}

    def children(self, directory: bytes) -> dict[bytes, Kind]:
        base = directory + b"/" if directory else b""
        found: dict[bytes, Kind] = {}
        for paths, kind in ((self.files, Kind.FILE), (self.directories - {b""}, Kind.DIRECTORY)):
            for path in paths:
                if path.startswith(base) and b"/" not in path[len(base) :]:
                    found[path[len(base) :]] = kind
        return found


class NamespaceMachine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        # In memory where there is such a place: each restart syncs the file, which is not what is tested.
        memory = Path("/dev/shm")
        self.directory = Path(tempfile.mkdtemp(prefix="namespace-model-", dir=memory if memory.is_dir() else None))
        self.clock = SimulatedClock()
        self.driver = MemoryDriver("model", MemoryStore(self.clock))
        self.objects: dict[bytes, bytes] = {}
        self.seen: dict[Inode, tuple[bytes, Kind]] = {}
        self.tokens: dict[tuple[Inode, int], bytes] = {}
        self.master: EmbeddedMaster | None = None

    @initialize()
    def start(self) -> None:
        request = MountRequest(b"", "memory://model", self.driver, ttl_seconds=TTL)
        self.master = EmbeddedMaster(self.directory, [request], clock=self.clock)

    def teardown(self) -> None:
        if self.master is not None:
            self.master.close()
        shutil.rmtree(self.directory)

    @property
    def m(self) -> EmbeddedMaster:
        assert self.master is not None
        return self.master

    def check_node(self, path: bytes, node: Node) -> None:
        """An inode is one name and kind for ever; a version one token for ever."""
        assert self.seen.setdefault(node.inode, (path, node.kind)) == (path, node.kind)
        assert self.tokens.setdefault((node.inode, node.version), node.token) == node.token

    # The world changes

    @rule(key=KEY, size=st.integers(0, 3))
    def put(self, key: bytes, size: int) -> None:
        self.objects[key] = b"x" * size
        self.driver.store.put(key, self.objects[key])

    @precondition(lambda self: self.objects)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.objects)))
        del self.objects[key]
        self.driver.store.delete(key)

    @precondition(lambda self: self.objects)
    @rule(data=st.data())
    def turn(self, data: st.DataObject) -> None:
        """A file becomes a directory, or the other way round."""
        key = data.draw(st.sampled_from(sorted(self.objects)))
        del self.objects[key]
        self.driver.store.delete(key)
        top, slash, _ = key.rpartition(b"/")
        turned = top if slash and top else key + b"/a"
        self.objects[turned] = b"turned"
        self.driver.store.put(turned, b"turned")

    @rule(seconds=st.sampled_from([1.0, TTL]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def restart(self) -> None:
        self.m.close()
        self.start()

    # Reading

    def list(self, directory: Inode) -> list[Node]:
        return [node for page in self.m.read_dir(directory, deadline=soon(), refresh=True) for node in page.nodes]

    @rule(data=st.data())
    def list_anew(self, data: st.DataObject) -> None:
        oracle = Oracle(self.objects)
        path = data.draw(st.sampled_from(sorted(oracle.directories)))
        self.clock.advance(TTL)  # what was probed or listed before is no longer believed
        nodes = self.list(ROOT_INODE)
        for part in path.split(b"/") if path else []:
            nodes = self.list(next(node.inode for node in nodes if node.name == part))
        assert {n.name: n.kind for n in nodes} == oracle.children(path)
        base = path + b"/" if path else b""
        for child in nodes:
            self.check_node(base + child.name, child)
            if child.kind is Kind.FILE:
                assert child.size == len(oracle.files[base + child.name])
                assert self.m.object_key(child.inode)[1] == base + child.name

    @rule(path=KEY)
    def look_up(self, path: bytes) -> None:
        oracle = Oracle(self.objects)
        self.clock.advance(TTL)
        for clash in [key for key in self.objects if key in oracle.directories and self.objects[key]]:
            if path == clash or path.startswith(clash + b"/"):
                return  # without a listing, a probe takes the file of the two unless it is empty
        try:
            node = self.m.resolve(path, deadline=soon())
        except (NoSuchEntry, NotADirectory):
            parts = [part for part in path.split(b"/") if part]
            wanted = b"/".join(parts)
            assert wanted not in oracle.files
            assert wanted not in oracle.directories
            return
        clean = b"/".join(part for part in path.split(b"/") if part)
        self.check_node(clean, node)
        if node.kind is Kind.FILE:
            assert node.size == len(oracle.files[clean])
        else:
            assert clean in oracle.directories

    @rule()
    def sync_everything(self) -> None:
        oracle = Oracle(self.objects)
        count = self.m.sync_tree(ROOT_INODE, deadline=soon())
        walked = dict(self.m.walk(ROOT_INODE))
        assert {path: node.size for path, node in walked.items()} == {p: len(d) for p, d in oracle.files.items()}
        assert count == (len(oracle.files), len(oracle.directories) - 1, sum(map(len, oracle.files.values())))
        for path, node in walked.items():
            self.check_node(path, node)
            assert self.m.revalidate(node.inode, deadline=soon()).node == node

    @rule(calls=st.integers(0, 3))
    def fail_in_the_middle(self, calls: int) -> None:
        left = calls

        def fail(operation: str, key: bytes) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Unavailable("no route")

        self.driver.on_call = fail
        try:
            self.m.sync_tree(ROOT_INODE, deadline=soon())
        except Unavailable:
            pass
        finally:
            self.driver.on_call = None
        # What an interrupted tree had listed is not listed again when it goes on: begin with a finished one.
        self.m.sync_tree(ROOT_INODE, deadline=soon())

    @invariant()
    def what_is_known_hangs_together(self) -> None:
        if self.master is None:
            return
        files = list(self.m.walk(ROOT_INODE))
        assert len({node.inode for _, node in files}) == len(files)
        assert self.m.count(ROOT_INODE).files == len(files)
        for path, node in files:
            self.check_node(path, node)
            assert self.m.object_key(node.inode)[1] == path


NamespaceMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestNamespaceModel = NamespaceMachine.TestCase
