"""Facts about the machine, read from files as kernels write them."""

from pathlib import Path

from jindopy.config.facts import disk_facts, gather, memory_bytes, used_below, user_allow_other

MIB = 1 << 20


def _proc(root: Path, cgroup: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemTotal:       1048576 kB\nMemFree: 1 kB\n")
    (root / "proc/self/cgroup").write_text(cgroup)
    return root / "proc"


def test_memory_without_limits_is_the_machines(tmp_path: Path) -> None:
    assert memory_bytes(_proc(tmp_path, "0::/\n"), tmp_path / "none") == 1024 * MIB


def test_memory_limit_of_cgroup_v2_is_the_lowest_on_the_way_up(tmp_path: Path) -> None:
    proc = _proc(tmp_path, "0::/pods/one\n")
    (tmp_path / "cg/pods/one").mkdir(parents=True)
    (tmp_path / "cg/pods/one/memory.max").write_text("max\n")
    assert memory_bytes(proc, tmp_path / "cg") == 1024 * MIB
    (tmp_path / "cg/pods/memory.max").write_text(f"{512 * MIB}\n")
    assert memory_bytes(proc, tmp_path / "cg") == 512 * MIB
    (tmp_path / "cg/pods/one/memory.max").write_text(f"{256 * MIB}\n")
    assert memory_bytes(proc, tmp_path / "cg") == 256 * MIB


def test_memory_limit_of_cgroup_v1_and_of_a_container(tmp_path: Path) -> None:
    # In a container the path of /proc/self/cgroup is the host's and does not exist inside.
    proc = _proc(tmp_path, "9:cpu,memory:/docker/abc\n1:name=systemd:/\n0::/\n")
    (tmp_path / "cg/memory").mkdir(parents=True)
    (tmp_path / "cg/memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert memory_bytes(proc, tmp_path / "cg") == 1024 * MIB
    (tmp_path / "cg/memory/memory.limit_in_bytes").write_text(f"{128 * MIB}\n")
    assert memory_bytes(proc, tmp_path / "cg") == 128 * MIB


def test_disk_of_a_directory_that_is_still_to_come(tmp_path: Path) -> None:
    facts = disk_facts(str(tmp_path / "a/b/c"))
    assert facts.total_bytes >= facts.free_bytes > 0
    assert facts.own_bytes == 0
    assert facts.writable


def test_what_lies_below_is_counted_in_disk_space(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/x").write_bytes(b"x" * 100_000)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert 100_000 <= used_below(str(tmp_path)) < 200_000
    assert used_below(str(tmp_path / "none")) == 0


def test_fuse_conf(tmp_path: Path) -> None:
    conf = tmp_path / "fuse.conf"
    assert not user_allow_other(conf)
    conf.write_text("# user_allow_other\nmount_max = 5\n")
    assert not user_allow_other(conf)
    conf.write_text("user_allow_other\n")
    assert user_allow_other(conf)


def test_gather_describes_this_process(tmp_path: Path) -> None:
    facts = gather({"HOME": "/h"}, [str(tmp_path)])
    assert facts.home == "/h"
    assert facts.memory_bytes > MIB
    assert facts.disks[str(tmp_path)].free_bytes > 0
