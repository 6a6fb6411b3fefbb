"""Rules that hold for every test.

- A skip says why; with ``JINDOPY_NO_SKIP=1`` (CI) it is a failure.
- Silence: a warning or error logged below ``jindopy`` fails the test, unless ``@pytest.mark.expect_log("regex")`` or
  the ``expected_logs`` fixture announced it.
- Unit tests and twins leave as many native objects alive as they found (``live_counts`` of ``jindopy._ext``).
- Processes and mounts that outlive the run are ended, named with the test that started them, and fail the run.  They
  are told by an environment variable of this run: a daemon is nobody's child, but keeps its environment.
- ``--soak`` runs the long form of the tests marked so (see the ``rounds`` fixture).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jindopy.fuse.transport import TRANSPORTS
from tests import mount_fixture

TESTS = Path(__file__).parent
RUN_MARK = "JINDOPY_TEST_RUN"
NATIVE_MODULES = ("iobuf", "crc64", "blockstore", "inodes")
BALANCED_FOLDERS = ("unit", "twins")

_run_id = uuid.uuid4().hex
_first_seen: dict[int, str] = {}
_leaks: list[str] = []
_base_temp = pytest.StashKey[Path]()
_failed = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long form of the tests marked soak")


def pytest_configure(config: pytest.Config) -> None:
    os.environ[RUN_MARK] = _run_id
    config.stash[_base_temp] = Path("/nonexistent")


def pytest_report_header(config: pytest.Config) -> list[str]:
    flavour = "asan" if os.environ.get("JINDOPY_ASAN") else "debug" if os.environ.get("JINDOPY_DEBUG") else "release"
    try:
        crc_kernel = importlib.import_module("jindopy._ext.crc64").kernel()
    except ImportError as error:
        crc_kernel = f"not built ({error})"
    fuse = "/dev/fuse" if os.access("/dev/fuse", os.R_OK | os.W_OK) else "no access to /dev/fuse"
    return [
        f"jindopy: {flavour} build, crc64 kernel {crc_kernel}, {fuse}",
        f"machine: Linux {platform.release()} {platform.machine()}, {os.cpu_count()} cores, uid {os.getuid()}",
    ]


# --- what may run -----------------------------------------------------------------------------------------------------


def _why_not(item: pytest.Item) -> str | None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        return "needs root"
    if item.get_closest_marker("node") and not (shutil.which("node") and shutil.which("npm")):
        return "needs node and npm"
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if reason := _why_not(item):
            item.add_marker(pytest.mark.skip(reason=reason))
        if config.getoption("--soak"):
            item.add_marker(pytest.mark.timeout(7200))


def _no_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("JINDOPY_NO_SKIP") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _no_skip(report)
    if report.failed:
        item.stash[_failed] = True
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Iterator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _no_skip(report)
    return report


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A directory on a disk: /tmp is memory on some machines, and what is in memory is never waited for."""
    path = Path(tempfile.mkdtemp(prefix="jindopy-test-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module", params=list(TRANSPORTS))
def each_transport(request: pytest.FixtureRequest) -> Iterator[str]:
    """The tests of a module once with every FUSE transport there is."""
    mount_fixture.default_transport = request.param
    yield request.param
    mount_fixture.default_transport = "auto"


@pytest.fixture(scope="module", params=[*TRANSPORTS, pytest.param("cluster", marks=pytest.mark.slow)])
def each_way(request: pytest.FixtureRequest) -> Iterator[str]:
    """The tests of a module once with every FUSE transport, and once more with the parts as processes of their own."""
    if request.param == "cluster":
        mount_fixture.as_cluster = True
    else:
        mount_fixture.default_transport = request.param
    yield request.param
    mount_fixture.default_transport, mount_fixture.as_cluster = "auto", False


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """How often to repeat: ``rounds(short, soak)``."""
    return lambda short, soak: soak if request.config.getoption("--soak") else short


# --- silence ----------------------------------------------------------------------------------------------------------


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.name}: {record.getMessage()}")


class ExpectedLogs:
    """Patterns of the warnings a test provokes on purpose."""

    def __init__(self, patterns: list[str]) -> None:
        self._patterns = patterns

    def add(self, pattern: str) -> None:
        self._patterns.append(pattern)

    def covers(self, line: str) -> bool:
        return any(re.search(pattern, line) for pattern in self._patterns)


@pytest.fixture(autouse=True)
def expected_logs(request: pytest.FixtureRequest) -> Iterator[ExpectedLogs]:
    """Fails the test on a warning that neither ``expect_log`` nor ``add`` announced."""
    expected = ExpectedLogs([text for mark in request.node.iter_markers("expect_log") for text in mark.args])
    collector = _Collector()
    logger = logging.getLogger("jindopy")
    logger.addHandler(collector)
    try:
        yield expected
    finally:
        logger.removeHandler(collector)
    unexpected = [line for line in collector.lines if not expected.covers(line)]
    if unexpected:
        pytest.fail("logged, but not announced by expect_log:\n" + "\n".join(unexpected[:20]), pytrace=False)


# --- native objects ---------------------------------------------------------------------------------------------------


def _live_counts() -> dict[str, int]:
    counts = {}
    for name in NATIVE_MODULES:
        module = sys.modules.get(f"jindopy._ext.{name}")
        if module is not None and hasattr(module, "live_counts"):
            counts.update({f"{name}.{key}": number for key, number in module.live_counts().items()})
    return counts


@pytest.fixture(autouse=True)
def _native_balance(request: pytest.FixtureRequest) -> Iterator[None]:
    folder = Path(request.path).relative_to(TESTS).parts[0]
    if folder not in BALANCED_FOLDERS:
        yield
        return
    before = _live_counts()
    yield
    if request.node.stash.get(_failed, False):
        return  # the failure's traceback keeps its frames' objects alive
    for _ in range(20):
        after = _live_counts()
        # Fewer than before is an earlier test's garbage, collected only now.
        left = {key: number - before.get(key, 0) for key, number in after.items() if number > before.get(key, 0)}
        if not left:
            return
        gc.collect()
        time.sleep(0.01)  # a thread may be about to release its last buffer
    pytest.fail(f"native objects left alive: {left}", pytrace=False)


# --- what outlives the run --------------------------------------------------------------------------------------------


def _processes_of_this_run() -> dict[int, str]:
    mark = f"{RUN_MARK}={_run_id}".encode()
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                found[int(folder.name)] = command
    return found


def _mounts_below(folder: Path) -> list[str]:
    points = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code.group(1), 8)), line.split()[4])
        if point.startswith(f"{folder}/"):
            points.append(point)
    return points


@pytest.fixture(scope="session", autouse=True)
def _remember_base_temp(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    request.config.stash[_base_temp] = tmp_path_factory.getbasetemp()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    if item.path.relative_to(TESTS).parts[0] not in BALANCED_FOLDERS:
        for pid in _processes_of_this_run():
            _first_seen.setdefault(pid, item.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    for point in reversed(_mounts_below(session.config.stash[_base_temp])):
        _leaks.append(f"mount {point}")
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)
    for pid, command in _processes_of_this_run().items():
        _leaks.append(f"process {pid} ({command}), first seen after {_first_seen.get(pid, 'the last test')}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if _leaks and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _leaks:
        terminalreporter.section("left behind by the tests, now ended")
        for leak in _leaks:
            terminalreporter.write_line(leak)
