"""Cgroups of this machine: made, entered, limited, frozen, ended, removed; v1, v2, whatever there is."""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from wherry.linux.cgroups import DEFAULT_DEVICE_RULES, Cgroup, CgroupError, DeviceRule, Hierarchies, Resources
from wherry.linux.cgroups.hierarchies import Hierarchy
from wherry.linux.cgroups.v2 import attach_device_filter

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="cgroups need root")

PARENT = f"/wherry-test-{os.getpid()}"
NO_LIMITS = Resources()
_children: list[int] = []


@pytest.fixture(scope="module")
def hierarchies() -> Iterator[Hierarchies]:
    found = Hierarchies.detect()
    yield found
    found.open(PARENT).kill()
    found.open(PARENT).remove()


@pytest.fixture
def create(hierarchies: Hierarchies) -> Iterator[Callable[..., Cgroup]]:
    made: list[Cgroup] = []

    def make(resources: Resources = NO_LIMITS, name: str = "one") -> Cgroup:
        made.append(hierarchies.create(f"{PARENT}/{name}", resources))
        return made[-1]

    yield make
    for cgroup in made:
        cgroup.kill()
        _reap()
        cgroup.remove()


def _reap() -> None:
    while _children:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(_children.pop(), 0)


def inside(cgroup: Cgroup, work: Callable[[], object]) -> int:
    """A child that enters the cgroup and does the work; returns when it is in. It exits with 1 if the work raises."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            cgroup.join()
            os.write(told, b"x")
            work()
            code = 0
        finally:
            os._exit(code)
    _children.append(pid)
    os.close(told)
    assert os.read(ready, 1), "the child could not join"
    os.close(ready)
    return pid


def exit_code(pid: int) -> int:
    _children.remove(pid)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_process_enters_every_hierarchy(create: Callable[..., Cgroup]) -> None:
    cgroup = create()
    pid = inside(cgroup, signal.pause)
    with open(f"/proc/{pid}/cgroup") as file:
        paths = {line.split(":", 2)[1]: line.split(":", 2)[2].strip() for line in file}
    assert paths
    for controllers, path in paths.items():
        if controllers or cgroup.unified:
            assert path.endswith(cgroup.path), controllers
    assert cgroup.processes() == [pid]
    os.kill(pid, signal.SIGKILL)
    exit_code(pid)
    assert cgroup.processes() == []


def test_nothing_is_left(hierarchies: Hierarchies, create: Callable[..., Cgroup]) -> None:
    cgroup = create()
    assert all(os.path.isdir(directory) for directory in cgroup.all_directories())
    cgroup.remove()
    assert not cgroup.exists()
    cgroup.remove()
    assert hierarchies.open(cgroup.path).processes() == []


def test_cgroups_below_are_removed_too(hierarchies: Hierarchies, create: Callable[..., Cgroup]) -> None:
    cgroup = create()
    for directory in cgroup.all_directories():
        os.makedirs(f"{directory}/a/b")
    cgroup.remove()
    assert not cgroup.exists()


def test_removal_waits_for_a_process_that_ends(create: Callable[..., Cgroup]) -> None:
    cgroup = create()
    go, gone = os.pipe()
    pid = inside(cgroup, lambda: os.read(go, 1))
    os.write(gone, b"x")
    cgroup.remove()
    assert not cgroup.exists()
    assert exit_code(pid) == 0
    os.close(go)
    os.close(gone)


def test_removal_names_who_stays(create: Callable[..., Cgroup], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wherry.linux.cgroups.cgroup.PATIENCE", 0.05)
    cgroup = create()
    pid = inside(cgroup, signal.pause)
    with pytest.raises(CgroupError, match=str(pid)):
        cgroup.remove()


def test_one_in_use_is_not_taken_over(create: Callable[..., Cgroup]) -> None:
    pid = inside(create(), signal.pause)
    with pytest.raises(CgroupError, match="with processes in it"):
        create()
    os.kill(pid, signal.SIGKILL)
    exit_code(pid)


def test_limits(create: Callable[..., Cgroup]) -> None:
    cgroup = create(Resources(memory=64 << 20, pids=10, cpu_quota=50_000, cpu_period=100_000, cpu_shares=512))
    stats = cgroup.stats()
    assert stats.memory.limit == 64 << 20
    assert stats.pids.limit == 10
    cgroup.update(Resources(memory=128 << 20, pids=-1))
    assert cgroup.stats().memory.limit == 128 << 20
    assert cgroup.stats().pids.limit is None


def test_memory_and_swap_go_up_and_down_together(hierarchies: Hierarchies, create: Callable[..., Cgroup]) -> None:
    if not hierarchies.supports("memory.swap"):
        pytest.skip("no swap accounting")
    cgroup = create(Resources(memory=64 << 20, memory_swap=64 << 20))
    for size in (256 << 20, 32 << 20, 128 << 20):
        cgroup.update(Resources(memory=size, memory_swap=size))
        assert cgroup.stats().memory.limit == size
    cgroup.update(Resources(memory=-1))
    assert cgroup.stats().memory.limit is None


def test_a_refused_limit_leaves_no_cgroup(hierarchies: Hierarchies) -> None:
    with pytest.raises(CgroupError, match=r"cpuset\.cpus"):
        hierarchies.create(f"{PARENT}/bad", Resources(cpuset_cpus="4000"))
    assert not hierarchies.open(f"{PARENT}/bad").exists()


def test_the_pids_limit_holds(create: Callable[..., Cgroup]) -> None:
    def fork_too_much() -> None:
        for _ in range(3):
            if os.fork() == 0:
                signal.pause()

    pid = inside(create(Resources(pids=3)), fork_too_much)
    assert exit_code(pid) == 1


def test_what_is_used_is_counted(create: Callable[..., Cgroup]) -> None:
    cgroup = create()
    pid = inside(cgroup, lambda: (sum(range(200_000)), bytearray(8 << 20)))
    assert exit_code(pid) == 0
    assert cgroup.stats().cpu.total > 0
    assert cgroup.stats().memory.peak >= 8 << 20


def test_frozen_processes_stand_still(create: Callable[..., Cgroup]) -> None:
    cgroup = create()
    ask, asked = os.pipe()
    answer, answered = os.pipe()
    pid = inside(cgroup, lambda: os.write(answered, os.read(ask, 1)))
    cgroup.freeze()
    os.write(asked, b"x")
    assert not select.select([answer], [], [], 0.05)[0]
    cgroup.thaw()
    assert os.read(answer, 1) == b"x"
    assert exit_code(pid) == 0
    for fd in (ask, asked, answer, answered):
        os.close(fd)


@pytest.mark.parametrize("frozen", [False, True])
def test_all_are_killed_whatever_they_fork_and_catch(create: Callable[..., Cgroup], frozen: bool) -> None:
    def breed() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for _ in range(20):
            if os.fork() == 0:
                os.setsid()
                signal.pause()
        signal.pause()

    cgroup = create()
    pid = inside(cgroup, breed)
    if frozen:
        cgroup.freeze()
    cgroup.kill()
    assert cgroup.processes() == []
    assert exit_code(pid) == -signal.SIGKILL
    cgroup.kill()


def test_running_out_of_memory_is_told_and_counted(create: Callable[..., Cgroup]) -> None:
    cgroup = create(Resources(memory=16 << 20, memory_swap=16 << 20))
    event = cgroup.oom_event_fd()
    assert cgroup.oom_kills() == 0
    assert not select.select([event], [], [], 0)[0]
    pid = inside(cgroup, lambda: bytearray(64 << 20))
    assert exit_code(pid) == -signal.SIGKILL
    assert select.select([event], [], [], 10)[0]
    assert os.read(event, 4096)
    assert cgroup.oom_kills() == 1
    os.close(event)


OPEN_DEVICES = """
import errno, os, sys
os.close(os.open("/dev/null", os.O_RDWR))
for kind, number in (0o060000, os.makedev(7, 200)), (0o020000, os.makedev(1, 11)):
    path = f"/var/tmp/wherry-device-{os.getpid()}"  # where /tmp is a tmpfs, systemd mounts it nodev
    os.mknod(path, kind | 0o600, number)
    try:
        os.open(path, os.O_RDONLY)
    except OSError as error:
        if error.errno != errno.EPERM:
            sys.exit(f"{error}")
    else:
        sys.exit("opened")
    finally:
        os.unlink(path)
"""


def test_devices_may_be_made_but_only_the_usual_ones_opened(create: Callable[..., Cgroup]) -> None:
    cgroup = create(Resources(devices=DEFAULT_DEVICE_RULES))
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", OPEN_DEVICES], preexec_fn=cgroup.join, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


class TestRealV2:
    """v2's own ways, on the v2 side of a hybrid machine (where it may have no controllers) or on v2."""

    @pytest.fixture
    def tree(self) -> Iterator[Hierarchies]:
        root = _v2_mount()
        if root is None:
            pytest.skip("no cgroup v2 is mounted")
        base = f"{root}{PARENT}-v2"
        os.mkdir(base)
        with open(f"{root}/cgroup.subtree_control") as file:
            controllers = tuple(file.read().split())
        found = Hierarchies((), Hierarchy(base, controllers, unified=True))
        yield found
        found.open("/").kill()
        _reap()
        found.open("/").remove()

    def test_the_way_of_a_process(self, tree: Hierarchies) -> None:
        cgroup = tree.create("/wherry/one", Resources())
        pid = inside(cgroup, signal.pause)
        assert cgroup.processes() == [pid]
        assert cgroup.unified is not None
        cgroup.freeze()
        with open(f"{cgroup.unified}/cgroup.events") as file:
            assert "frozen 1" in file.read()
        cgroup.thaw()
        cgroup.kill()
        assert exit_code(pid) == -signal.SIGKILL
        cgroup.remove()
        assert not cgroup.exists()

    def test_cloning_into_it(self, tree: Hierarchies) -> None:
        cgroup = tree.create("/one", Resources())
        target = cgroup.clone_target()
        assert target is not None
        arguments = (ctypes.c_uint64 * 11)(0x200000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, target)
        pid = ctypes.CDLL(None).syscall(ctypes.c_long(435), arguments, ctypes.c_size_t(88))
        if pid == 0:
            signal.pause()
        _children.append(pid)
        os.close(target)
        assert cgroup.processes() == [pid]
        cgroup.kill()
        assert exit_code(pid) == -signal.SIGKILL

    def test_devices_by_a_program(self, tree: Hierarchies) -> None:
        cgroup = tree.create("/one", Resources(devices=DEFAULT_DEVICE_RULES))
        command = [sys.executable, "-I", "-S", "-c", OPEN_DEVICES]
        result = subprocess.run(command, preexec_fn=cgroup.join, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert cgroup.unified is not None
        attach_device_filter(cgroup.unified, (DeviceRule(allow=False),))
        result = subprocess.run(
            [sys.executable, "-I", "-S", "-c", "open('/dev/zero')"], preexec_fn=cgroup.join, capture_output=True
        )
        assert b"Operation not permitted" in result.stderr
        attach_device_filter(cgroup.unified, (DeviceRule(allow=True),))
        subprocess.run([sys.executable, "-I", "-S", "-c", "open('/dev/zero')"], preexec_fn=cgroup.join, check=True)

    def test_our_own_processes_make_way_for_controllers(self) -> None:
        root = _v2_mount()
        if root is None:
            pytest.skip("no cgroup v2 is mounted")
        with open(f"{root}/cgroup.controllers") as file:
            free = file.read().split()
        with open(f"{root}/cgroup.subtree_control") as file:
            was_on = file.read().split()
        # misc and hugetlb limit nothing here; which of them there is does not matter
        controller = next((name for name in ("hugetlb", "misc", "pids") if name in free), None)
        if controller is None:
            pytest.skip("v2 has no controller")
        with open(f"{root}/cgroup.subtree_control", "w") as file:
            file.write(f"+{controller}")
        base = f"{root}{PARENT}-full"
        os.mkdir(base)
        tree = Hierarchies((), Hierarchy(base, (controller,), unified=True))
        pid = inside(tree.open("/"), signal.pause)
        try:
            cgroup = tree.create("/one", Resources())
            assert tree.open("/init").processes() == [pid]
            with open(f"{base}/one/cgroup.controllers") as file:
                assert file.read().split() == [controller]
            cgroup.remove()
        finally:
            os.kill(pid, signal.SIGKILL)
            exit_code(pid)
            tree.open("/").remove()
            if controller not in was_on:
                with open(f"{root}/cgroup.subtree_control", "w") as file:
                    file.write(f"-{controller}")


def _v2_mount() -> str | None:
    with open("/proc/self/mountinfo") as file:
        for line in file:
            fields = line.split()
            if fields[fields.index("-") + 1] == "cgroup2":
                return fields[4]
    return None
