"""Cgroups on directories of our own: what is found, what is written, what is read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.linux.cgroups import (
    DEFAULT_DEVICE_RULES,
    BlkioEntry,
    CgroupError,
    CpuStats,
    DeviceRule,
    Hierarchies,
    MemoryStats,
    PidsStats,
    Resources,
    ThrottleDevice,
    host_cpu_time,
    types,
    v1,
    v2,
)
from wherry.linux.cgroups.types import needed_controllers

Writes = list[tuple[str, str]]

V1_CGROUP = """\
3:cpu,cpuacct:/user
2:memory:/user
1:name=systemd:/
"""


def fake_proc(tmp_path: Path, cgroup: str, *mounts: tuple[str, str, str, str]) -> str:
    """A /proc with these own cgroups and mounts: root, mount point below tmp_path, type, options."""
    own = tmp_path / "proc" / "self"
    own.mkdir(parents=True)
    (own / "cgroup").write_text(cgroup)
    lines = ["20 1 0:20 / /proc rw,relatime - proc proc rw"]
    for index, (root, point, kind, options) in enumerate(mounts):
        directory = tmp_path / point
        directory.mkdir(parents=True, exist_ok=True)
        lines.append(f"{30 + index} 20 0:{30 + index} {root} {directory} rw shared:9 - {kind} cgroup {options}")
    (own / "mountinfo").write_text("\n".join(lines) + "\n")
    return str(tmp_path / "proc")


class TestDetect:
    def test_v1_knows_controllers_that_are_mounted_together(self, tmp_path: Path) -> None:
        proc = fake_proc(
            tmp_path,
            V1_CGROUP,
            ("/", "cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
            ("/", "memory", "cgroup", "rw,memory"),
            ("/", "systemd", "cgroup", "rw,xattr,name=systemd"),
        )
        found = Hierarchies.detect(proc=proc)
        assert found.version == 1
        assert found.controllers == {"cpu", "cpuacct", "memory", "name=systemd"}
        cgroup = found.open("/wherry/a")
        assert cgroup.directories["cpu"] == cgroup.directories["cpuacct"] == f"{tmp_path}/cpu,cpuacct/wherry/a"
        assert len(cgroup.all_directories()) == 3
        assert cgroup.clone_target() is None

    def test_v2(self, tmp_path: Path) -> None:
        proc = fake_proc(tmp_path, "0::/init.scope\n", ("/", "cgroup", "cgroup2", "rw,nsdelegate"))
        (tmp_path / "cgroup" / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids\n")
        found = Hierarchies.detect(proc=proc)
        assert found.version == 2
        assert found.controllers == {"cpuset", "cpu", "io", "memory", "hugetlb", "pids"}
        assert found.open("/wherry/a").unified == f"{tmp_path}/cgroup/wherry/a"

    @pytest.mark.parametrize(("controllers", "used"), [("hugetlb misc", False), ("hugetlb memory", True)])
    def test_a_hybrids_v2_side_counts_only_when_it_has_something(
        self, tmp_path: Path, controllers: str, used: bool
    ) -> None:
        proc = fake_proc(
            tmp_path, "2:freezer:/\n0::/\n", ("/", "freezer", "cgroup", "rw,freezer"), ("/", "u", "cgroup2", "rw")
        )
        (tmp_path / "u" / "cgroup.controllers").write_text(controllers)
        found = Hierarchies.detect(proc=proc)
        assert found.version == 1
        assert (found.unified is not None) == used
        assert ("memory" in found.controllers) == used

    def test_systemd_beside_v2_is_v2(self, tmp_path: Path) -> None:
        proc = fake_proc(
            tmp_path, "1:name=systemd:/\n0::/\n", ("/", "s", "cgroup", "rw,name=systemd"), ("/", "u", "cgroup2", "rw")
        )
        (tmp_path / "u" / "cgroup.controllers").write_text("memory")
        found = Hierarchies.detect(proc=proc)
        assert found.version == 2
        assert found.unified is not None

    def test_inside_a_container_paths_start_at_the_mount(self, tmp_path: Path) -> None:
        proc = fake_proc(tmp_path, "2:memory:/docker/x\n", ("/docker/x", "memory", "cgroup", "rw,memory"))
        assert Hierarchies.detect(proc=proc).open("/a").directories["memory"] == f"{tmp_path}/memory/a"
        assert Hierarchies.detect(".", proc).open("/a").directories["memory"] == f"{tmp_path}/memory/a"

    def test_a_delegated_cgroup_is_our_own(self, tmp_path: Path) -> None:
        proc = fake_proc(tmp_path, V1_CGROUP, ("/", "memory", "cgroup", "rw,memory"))
        assert Hierarchies.detect(".", proc).open("/a").directories["memory"] == f"{tmp_path}/memory/user/a"
        assert Hierarchies.detect("/b", proc).open("/a").directories["memory"] == f"{tmp_path}/memory/b/a"

    def test_own_cgroup_outside_of_the_namespace(self, tmp_path: Path) -> None:
        proc = fake_proc(tmp_path, "2:memory:/../..\n", ("/", "memory", "cgroup", "rw,memory"))
        with pytest.raises(CgroupError, match="outside of this cgroup namespace"):
            Hierarchies.detect(".", proc)

    def test_the_first_mount_of_two_counts_and_blanks_are_read(self, tmp_path: Path) -> None:
        proc = fake_proc(
            tmp_path, V1_CGROUP, ("/", "a b", "cgroup", "rw,memory"), ("/", "second", "cgroup", "rw,memory")
        )
        info = Path(proc, "self", "mountinfo")
        info.write_text(info.read_text().replace("a b", "a\\040b"))
        assert Hierarchies.detect(proc=proc).open("/x").directories["memory"] == f"{tmp_path}/a b/x"

    def test_nothing_mounted(self, tmp_path: Path) -> None:
        with pytest.raises(CgroupError, match="no cgroup file system is mounted"):
            Hierarchies.detect(proc=fake_proc(tmp_path, V1_CGROUP))

    @pytest.mark.parametrize("path", ["a", "/a/../b", "", "/./a"])
    def test_paths_lead_nowhere_else(self, tmp_path: Path, path: str) -> None:
        proc = fake_proc(tmp_path, V1_CGROUP, ("/", "memory", "cgroup", "rw,memory"))
        with pytest.raises(CgroupError, match="must be absolute"):
            Hierarchies.detect(proc=proc).open(path)


@pytest.fixture
def directory(tmp_path: Path) -> Callable[..., str]:
    """A cgroup's directory with these files."""

    def make(**files: str) -> str:
        for name, content in files.items():
            (tmp_path / name.replace("__", ".")).write_text(content)
        return str(tmp_path)

    return make


def written(path: str, name: str) -> str:
    return Path(path, name).read_text()


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    """Every write in its order, as file name and value."""
    order: Writes = []

    def record(path: str, value: str | int) -> None:
        order.append((os.path.basename(path), str(value)))

    for module in (types, v1, v2):
        monkeypatch.setattr(module, "write", record)
    return order


class TestV1Limits:
    def test_raising_both_raises_the_sum_first(self, directory: Callable[..., str], writes: Writes) -> None:
        path = directory(memory__limit_in_bytes="100\n", memory__memsw__limit_in_bytes="200\n")
        v1.set_memory(path, Resources(memory=300, memory_swap=600))
        assert writes == [("memory.memsw.limit_in_bytes", "600"), ("memory.limit_in_bytes", "300")]

    def test_lowering_both_lowers_memory_first(self, directory: Callable[..., str], writes: Writes) -> None:
        path = directory(memory__limit_in_bytes="9223372036854771712\n")
        v1.set_memory(path, Resources(memory=300, memory_swap=600))
        assert writes == [("memory.limit_in_bytes", "300"), ("memory.memsw.limit_in_bytes", "600")]

    def test_no_limit_on_memory_is_none_on_the_sum(self, directory: Callable[..., str], writes: Writes) -> None:
        path = directory(memory__limit_in_bytes="100\n", memory__memsw__limit_in_bytes="200\n")
        v1.set_memory(path, Resources(memory=-1))
        assert writes == [("memory.memsw.limit_in_bytes", "-1"), ("memory.limit_in_bytes", "-1")]

    def test_without_swap_accounting_memory_alone_is_set(self, directory: Callable[..., str], writes: Writes) -> None:
        v1.set_memory(directory(memory__limit_in_bytes="100\n"), Resources(memory=-1))
        assert writes == [("memory.limit_in_bytes", "-1")]

    def test_the_rest_of_memory(self, directory: Callable[..., str], writes: Writes) -> None:
        v1.set_memory(directory(), Resources(memory_reservation=5, memory_swappiness=0, oom_kill_disable=True))
        assert writes == [
            ("memory.soft_limit_in_bytes", "5"),
            ("memory.swappiness", "0"),
            ("memory.oom_control", "1"),
        ]

    def test_a_limit_that_the_kernel_does_not_have(self, directory: Callable[..., str]) -> None:
        with pytest.raises(CgroupError, match=r"memory\.swappiness: .*this kernel does not offer this limit"):
            v1.set_memory(directory(), Resources(memory_swappiness=1))

    def test_shares_that_the_kernel_corrects_are_refused(
        self, directory: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = directory(cpu__shares="2\n")
        monkeypatch.setattr(v1, "write", lambda *_: None)
        with pytest.raises(CgroupError, match="the minimum allowed cpu-shares is 2"):
            v1.set_cpu(path, Resources(cpu_shares=1))
        with pytest.raises(CgroupError, match="the maximum allowed cpu-shares is 2"):
            v1.set_cpu(path, Resources(cpu_shares=5))

    def test_a_period_that_comes_too_early_is_set_again(
        self, directory: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order: list[str] = []

        def write(path: str, value: str | int) -> None:
            order.append(os.path.basename(path))
            if order == ["cpu.cfs_period_us"]:
                raise CgroupError(22, "write", path)

        monkeypatch.setattr(v1, "write", write)
        v1.set_cpu(directory(), Resources(cpu_quota=1000, cpu_period=2000))
        assert order == ["cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.cfs_period_us"]
        order.clear()
        with pytest.raises(CgroupError):
            v1.set_cpu(directory(), Resources(cpu_period=2000))

    def test_pids(self, directory: Callable[..., str], writes: Writes) -> None:
        for limit in (7, -1, 0):
            types.set_pids(directory(), Resources(pids=limit))
        assert [value for _, value in writes] == ["7", "max", "max"]

    @pytest.mark.parametrize(("file", "prefix"), [("blkio.weight", "blkio."), ("blkio.bfq.weight", "blkio.bfq.")])
    def test_blkio(self, directory: Callable[..., str], writes: Writes, file: str, prefix: str) -> None:
        path = directory(**{file: ""})
        disk = (ThrottleDevice(8, 0, 99),)
        v1.set_blkio(path, Resources(blkio_weight=500, blkio_weight_device=disk, blkio_write_iops=disk))
        assert writes == [
            (f"{prefix}weight", "500"),
            (f"{prefix}weight_device", "8:0 99"),
            ("blkio.throttle.write_iops_device", "8:0 99"),
        ]

    def test_device_rules_one_a_write(self) -> None:
        lines = [("allow" if rule.allow else "deny", v1.device_rule_line(rule)) for rule in DEFAULT_DEVICE_RULES]
        assert lines[0] == ("deny", "a")
        assert ("allow", "c *:* m") in lines
        assert ("allow", "c 1:3 rwm") in lines
        assert lines[-1] == ("allow", "c 10:200 rwm")


class TestV2Limits:
    @pytest.mark.parametrize(
        ("shares", "weight"),
        [(0, 1), (2, 1), (3, 2), (512, 59), (1024, 100), (2048, 174), (100000, 4340), (262144, 10000), (999999, 10000)],
    )
    def test_shares_become_weights(self, shares: int, weight: int) -> None:
        assert v2.cpu_weight(shares) == weight

    def test_io_weights(self) -> None:
        assert [v2.io_weight(weight) for weight in (10, 500, 1000)] == [1, 4950, 10000]

    @pytest.mark.parametrize(
        ("both", "memory", "swap"), [(600, 200, 400), (200, 200, 0), (-1, 200, -1), (300, -1, 300), (300, None, 300)]
    )
    def test_swap_is_what_is_left_of_the_sum(self, both: int, memory: int | None, swap: int) -> None:
        assert v2.swap_limit(both, memory) == swap

    def test_a_sum_below_the_memory_is_refused(self, directory: Callable[..., str]) -> None:
        with pytest.raises(CgroupError, match="must be at least the memory alone"):
            v2.set_memory(directory(), Resources(memory=300, memory_swap=200))

    def test_memory(self, directory: Callable[..., str], writes: Writes) -> None:
        path = directory(memory__swap__max="")
        v2.set_memory(path, Resources(memory=300, memory_swap=500, memory_reservation=-1))
        assert writes == [("memory.swap.max", "200"), ("memory.max", "300"), ("memory.low", "max")]

    def test_an_update_of_swap_alone_counts_from_the_memory_that_is_set(
        self, directory: Callable[..., str], writes: Writes
    ) -> None:
        v2.set_memory(directory(memory__max="300\n", memory__swap__max=""), Resources(memory_swap=1000))
        assert writes == [("memory.swap.max", "700")]

    def test_no_limit_on_memory_is_none_on_swap(self, directory: Callable[..., str], writes: Writes) -> None:
        v2.set_memory(directory(memory__swap__max=""), Resources(memory=-1))
        assert writes == [("memory.swap.max", "max"), ("memory.max", "max")]

    def test_without_swap_accounting_no_swap_is_what_there_is(
        self, directory: Callable[..., str], writes: Writes
    ) -> None:
        v2.set_memory(directory(), Resources(memory=300, memory_swap=300))
        assert writes == [("memory.max", "300")]

    @pytest.mark.parametrize("resources", [Resources(memory_swappiness=1), Resources(oom_kill_disable=True)])
    def test_what_v2_does_not_have(self, directory: Callable[..., str], resources: Resources) -> None:
        with pytest.raises(CgroupError, match="cgroup v2 has no"):
            v2.set_memory(directory(), resources)

    @pytest.mark.parametrize(
        ("resources", "expected"),
        [
            (Resources(cpu_quota=50000), "50000 200000"),
            (Resources(cpu_period=1000), "max 1000"),
            (Resources(cpu_quota=-1, cpu_period=1000), "max 1000"),
            (Resources(cpu_quota=5, cpu_period=6), "5 6"),
        ],
    )
    def test_quota_and_period_share_a_file(
        self, directory: Callable[..., str], resources: Resources, expected: str
    ) -> None:
        path = directory(cpu__max="max 200000\n")
        v2.set_cpu(path, resources)
        assert written(path, "cpu.max").startswith(expected)

    def test_io(self, directory: Callable[..., str], writes: Writes) -> None:
        disk = (ThrottleDevice(8, 0, 100),)
        v2.set_io(directory(), Resources(blkio_weight=500, blkio_weight_device=disk, blkio_read_bps=disk))
        assert writes == [("io.weight", "4950"), ("io.weight", "8:0 910"), ("io.max", "8:0 rbps=100")]

    def test_io_with_bfq(self, directory: Callable[..., str], writes: Writes) -> None:
        disk = (ThrottleDevice(8, 0, 100),)
        v2.set_io(directory(io__bfq__weight=""), Resources(blkio_weight=500, blkio_weight_device=disk))
        assert writes == [("io.bfq.weight", "500"), ("io.bfq.weight", "8:0 100")]


class TestNeeds:
    def test_nothing(self) -> None:
        assert needed_controllers(Resources()) == []

    def test_zero_is_a_limit(self) -> None:
        assert needed_controllers(Resources(memory_swappiness=0, pids=0)) == ["memory", "pids"]

    def test_all(self) -> None:
        device = (ThrottleDevice(1, 2, 3),)
        everything = Resources(oom_kill_disable=True, cpu_rt_period=1, cpuset_mems="0", pids=1, blkio_read_bps=device)
        assert needed_controllers(everything) == ["memory", "cpu", "cpuset", "pids", "blkio"]
        assert needed_controllers(Resources(devices=(DeviceRule(allow=True),))) == ["devices"]

    def test_a_controller_that_is_not_there(self, tmp_path: Path) -> None:
        proc = fake_proc(tmp_path, V1_CGROUP, ("/", "memory", "cgroup", "rw,memory"))
        with pytest.raises(CgroupError, match="the pids controller is not there"):
            Hierarchies.detect(proc=proc).open("/a").update(Resources(pids=1))


class TestStats:
    def test_v1(self, directory: Callable[..., str]) -> None:
        path = directory(
            cpu__stat="nr_periods 4\nnr_throttled 3\nthrottled_time 7000\n",
            cpuacct__usage="5000\n",
            cpuacct__usage_percpu="2000 3000 \n",
            cpuacct__stat="user 2\nsystem 1\n",
            memory__usage_in_bytes="100\n",
            memory__max_usage_in_bytes="200\n",
            memory__limit_in_bytes="9223372036854771712\n",
            memory__failcnt="9\n",
            memory__stat="cache 1\ntotal_inactive_file 2\n",
            pids__current="3\n",
            pids__max="max\n",
            blkio__bfq__io_service_bytes_recursive="Total 0\n",
            blkio__throttle__io_service_bytes_recursive="8:0 Read 4096\n8:0 Total 4096\nTotal 4096\n",
            blkio__throttle__io_serviced_recursive="8:0 Read 1\nTotal 1\n",
        )
        stats = v1.read_stats(dict.fromkeys(("cpu", "cpuacct", "memory", "pids", "blkio"), path))
        assert stats.cpu == CpuStats(5000, 20_000_000, 10_000_000, (2000, 3000), 4, 3, 7000)
        assert stats.memory == MemoryStats(100, 200, None, 9, {"cache": 1, "total_inactive_file": 2})
        assert stats.pids == PidsStats(3, None)
        assert stats.blkio.service_bytes == (BlkioEntry(8, 0, "Read", 4096), BlkioEntry(8, 0, "Total", 4096))
        assert stats.blkio.serviced == (BlkioEntry(8, 0, "Read", 1),)

    def test_v2(self, directory: Callable[..., str]) -> None:
        path = directory(
            cpu__stat="usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 4\nnr_throttled 3\nthrottled_usec 7\n",
            memory__current="100\n",
            memory__max="max\n",
            memory__events="low 0\nhigh 0\nmax 8\noom 2\noom_kill 1\n",
            memory__stat="anon 1\nfile 2\n",
            pids__current="3\n",
            pids__max="9\n",
            io__stat="8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n7:1\n",
        )
        stats = v2.read_stats(path, ["cpu", "memory", "pids", "io"])
        assert stats.cpu == CpuStats(5000, 3000, 2000, (), 4, 3, 7000)
        assert stats.memory == MemoryStats(100, 0, None, 2, {"anon": 1, "file": 2})
        assert stats.pids == PidsStats(3, 9)
        assert stats.blkio.service_bytes == (BlkioEntry(8, 0, "read", 1), BlkioEntry(8, 0, "write", 2))
        assert stats.blkio.serviced == (BlkioEntry(8, 0, "read", 3), BlkioEntry(8, 0, "write", 4))

    def test_without_controllers_only_the_time_is_counted(self, directory: Callable[..., str]) -> None:
        stats = v2.read_stats(directory(cpu__stat="usage_usec 5\n"), [])
        assert stats.cpu.total == 5000
        assert stats.memory.usage == 0

    def test_the_whole_machine(self, tmp_path: Path) -> None:
        (tmp_path / "stat").write_text("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 0 0 0\ncpu1 1 0 0 0\nintr 5\n")
        assert host_cpu_time(str(tmp_path)) == (360_000_000, 2)


class FakeKernel:
    """A v2 tree on a plain file system, in which new directories get files as the kernel would give them."""

    FILES = ("cgroup.procs", "cgroup.subtree_control", "cpu.max", "memory.max", "memory.swap.max", "pids.max")

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.real_mkdir, self.real_rmdir = os.mkdir, os.rmdir
        self.root = root
        self.fill(str(root))
        monkeypatch.setattr(os, "mkdir", self.mkdir)
        monkeypatch.setattr(os, "rmdir", self.rmdir)

    def fill(self, directory: str) -> None:
        for name in self.FILES:
            Path(directory, name).touch()
        Path(directory, "cgroup.controllers").write_text("cpu memory pids\n")

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self.real_mkdir(path, mode)
        self.fill(path)

    def rmdir(self, path: str) -> None:
        for entry in os.scandir(path):
            if not entry.is_dir():
                os.unlink(entry.path)
        self.real_rmdir(path)


class TestV2Tree:
    @pytest.fixture
    def found(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hierarchies:
        proc = fake_proc(tmp_path, "0::/\n", ("/", "cgroup", "cgroup2", "rw"))
        FakeKernel(tmp_path / "cgroup", monkeypatch)
        return Hierarchies.detect(proc=proc)

    def test_controllers_are_on_all_the_way_down_but_for_the_last(self, found: Hierarchies, tmp_path: Path) -> None:
        cgroup = found.create("/wherry/a", Resources(memory=300, memory_swap=400, pids=5))
        root = tmp_path / "cgroup"
        for directory in (root, root / "wherry"):
            assert (directory / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
        assert (root / "wherry" / "a" / "cgroup.subtree_control").read_text() == ""
        assert (root / "wherry" / "a" / "memory.max").read_text() == "300"
        assert (root / "wherry" / "a" / "memory.swap.max").read_text() == "100"
        assert (root / "wherry" / "a" / "pids.max").read_text() == "5"
        assert cgroup.exists()
        cgroup.remove()
        assert not cgroup.exists()
        cgroup.remove()

    def test_a_limit_that_cannot_be_set_leaves_nothing(self, found: Hierarchies) -> None:
        with pytest.raises(CgroupError, match="this kernel does not offer this limit"):
            found.create("/wherry/a", Resources(cpuset_cpus="0"))
        assert not found.open("/wherry/a").exists()

    def test_a_leftover_is_replaced(self, found: Hierarchies, tmp_path: Path) -> None:
        found.create("/wherry/a", Resources(pids=5))
        found.create("/wherry/a", Resources(pids=6))
        assert (tmp_path / "cgroup" / "wherry" / "a" / "pids.max").read_text() == "6"

    def test_a_parent_that_went_away_is_made_again(self, found: Hierarchies) -> None:
        found.create("/wherry/a", Resources()).remove()
        found.open("/wherry").remove()
        assert found.create("/wherry/b", Resources()).exists()

    def test_one_that_is_in_use_is_left_alone(self, found: Hierarchies, tmp_path: Path) -> None:
        found.create("/wherry/a", Resources())
        (tmp_path / "cgroup" / "wherry" / "a" / "cgroup.procs").write_text("1\n")
        with pytest.raises(CgroupError, match="with processes in it"):
            found.create("/wherry/a", Resources())

    def test_joining_is_one_write(self, found: Hierarchies, tmp_path: Path) -> None:
        cgroup = found.create("/wherry/a", Resources())
        cgroup.join(cloned=True)
        assert (tmp_path / "cgroup" / "wherry" / "a" / "cgroup.procs").read_text() == ""
        cgroup.join()
        assert (tmp_path / "cgroup" / "wherry" / "a" / "cgroup.procs").read_text() == "0"

    def test_what_is_supported(self, found: Hierarchies) -> None:
        assert found.supports("memory.swap")
        assert not found.supports("memory.swappiness")
        assert not found.supports("cpu.realtime")
        assert found.supports("devices")
