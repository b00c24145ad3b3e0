"""What ``run`` can be told about isolation and limits: capabilities, devices, namespaces, cgroups."""

import os
import re
import signal
from pathlib import Path

import pytest

from tests.clients.conftest import Cli
from tests.support.engine import Engine

CHOWN, NET_ADMIN, NET_RAW, SYS_ADMIN = 0, 12, 13, 21
DEFAULT = 0x00000000A80425FB  # Docker's fourteen


def effective(cli: Cli, image: str, *options: str) -> int:
    output = cli.ok("run", "--rm", *options, image, "grep", "CapEff", "/proc/self/status")
    return int(output.split()[1], 16)


def test_capabilities(cli: Cli, busybox: str) -> None:
    possible = DEFAULT & int(re.findall(r"CapBnd:\s*(\w+)", Path("/proc/self/status").read_text())[0], 16)
    assert effective(cli, busybox) == possible
    assert effective(cli, busybox, "--cap-add", "NET_ADMIN") == possible | 1 << NET_ADMIN
    assert effective(cli, busybox, "--cap-drop", "cap_chown") == possible & ~(1 << CHOWN)
    assert effective(cli, busybox, "--cap-drop", "ALL", "--cap-add", "net_raw") == 1 << NET_RAW
    assert effective(cli, busybox, "--cap-drop", "ALL") == 0
    said = cli.fails("run", "--rm", "--cap-add", "NOSUCH", busybox, "true", code=125)
    assert 'invalid CapAdd: unknown capability: "CAP_NOSUCH"' in said


def test_privileged(cli: Cli, busybox: str) -> None:
    assert effective(cli, busybox, "--privileged") & 1 << SYS_ADMIN
    assert cli.ok("run", "--rm", "--privileged", busybox, "sh", "-c", "test -e /dev/kmsg && echo there") == "there"
    assert cli("run", "--rm", busybox, "test", "-e", "/dev/kmsg").returncode == 1
    assert cli.ok("run", "--rm", "--privileged", busybox, "sh", "-c", "mount -t tmpfs none /tmp && echo done") == "done"


def test_what_is_not_allowed_by_default(cli: Cli, busybox: str) -> None:
    finished = cli("run", "--rm", busybox, "mount", "-t", "tmpfs", "none", "/tmp")
    assert (finished.returncode, finished.stderr) == (1, "mount: permission denied (are you root?)\n")


def test_no_new_privileges_and_seccomp(cli: Cli, busybox: str) -> None:
    def status(*options: str) -> str:
        line = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | awk '{print $2}'"
        return cli.ok("run", "--rm", *options, busybox, "sh", "-c", line)

    assert status() == "0\n2"
    assert status("--security-opt", "no-new-privileges") == "1\n2"
    assert status("--security-opt", "seccomp=unconfined") == "0\n0"
    said = cli.fails("run", "--rm", "--security-opt", "nosuch=1", busybox, "true", code=125)
    assert "nosuch" in said


def test_a_seccomp_profile_of_the_users_own(cli: Cli, busybox: str, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}'
    )
    finished = cli("run", "--rm", "--security-opt", f"seccomp={profile}", busybox, "mkdir", "/x")
    assert "Operation not permitted" in finished.stderr


def test_devices(cli: Cli, busybox: str) -> None:
    line = "ls -l /dev/mem-too /dev/null | awk '{print $1}'"
    output = cli.ok("run", "--rm", "--device", "/dev/zero:/dev/mem-too:r", busybox, "sh", "-c", line)
    assert output == "crw-rw-rw-\ncrw-rw-rw-"
    # read is allowed, write is not
    line = "head -c 1 /dev/mem-too | wc -c; echo x > /dev/mem-too"
    finished = cli("run", "--rm", "--device", "/dev/zero:/dev/mem-too:r", busybox, "sh", "-c", line)
    assert finished.stdout == "1\n"
    said = cli.fails("run", "--rm", "--device", "/dev/nosuch", busybox, "true", code=127)
    assert "/dev/nosuch" in said


@pytest.mark.parametrize(("option", "name"), [("pid", "pid"), ("ipc", "ipc"), ("network", "net"), ("uts", "uts")])
def test_the_hosts_namespaces(cli: Cli, engine: Engine, busybox: str, option: str, name: str) -> None:
    link = ("readlink", f"/proc/self/ns/{name}")
    host = os.readlink(f"/proc/{engine.pid}/ns/{name}")
    assert cli.ok("run", "--rm", f"--{option}", "host", busybox, *link) == host
    assert cli.ok("run", "--rm", busybox, *link) != host


@pytest.mark.parametrize(("option", "name"), [("pid", "pid"), ("ipc", "ipc"), ("network", "net")])
def test_the_namespaces_of_another_container(cli: Cli, busybox: str, option: str, name: str) -> None:
    cli.ok("run", "-d", "--name", "other", "--ipc", "shareable", busybox, "sleep", "1000")
    link = ("readlink", f"/proc/self/ns/{name}")
    joined = cli.ok("run", "--rm", f"--{option}", "container:other", busybox, *link)
    assert joined == cli.ok("exec", "other", *link)
    said = cli.fails("run", "--rm", f"--{option}", "container:absent", busybox, "true", code=125)
    assert "No such container: absent" in said
    cli.ok("kill", "other")
    said = cli.fails("run", "--rm", f"--{option}", "container:other", busybox, "true", code=125)
    assert "is not running" in said or "non running container" in said


def test_processes_of_a_joined_pid_namespace_are_seen(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "other", busybox, "sleep", "4321")
    assert "sleep 4321" in cli.ok("run", "--rm", "--pid", "container:other", busybox, "ps")


def test_with_another_s_network_goes_its_name(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "xx", "-h", "of-x", "--domainname", "dom", busybox, "sleep", "1000")
    line = "hostname; cat /etc/hostname; echo $HOSTNAME; cat /proc/sys/kernel/domainname"
    cli.ok("create", "--name", "yy", "--network", "container:xx", busybox, "sh", "-c", f"{line}; sleep 1000")
    cli.ok("start", "yy")
    cli.wait_for_output("yy")
    assert cli.ok("logs", "yy") == "of-x\nof-x\nof-x\ndom"
    shown = "{{.Config.Hostname}} {{.Config.Domainname}} {{.HostnamePath}} {{.HostsPath}} {{.ResolvConfPath}}"
    assert cli.inspect("yy", shown) == cli.inspect("xx", shown)
    assert cli.ok("run", "--rm", "--network", "container:yy", busybox, "hostname") == "of-x"
    assert (
        cli.ok("run", "--rm", "--network", "container:xx", "--uts", "host", busybox, "hostname") == os.uname().nodename
    )


@pytest.mark.parametrize("mode", ["host", "shareable"])
def test_the_ipc_of_another(cli: Cli, busybox: str, mode: str) -> None:
    """And of one that has it from yet another."""
    cli.ok("run", "-d", "--name", "xx", "--ipc", mode, busybox, "sleep", "1000")
    own = cli.ok("exec", "xx", "readlink", "/proc/self/ns/ipc")
    assert (own == os.readlink("/proc/self/ns/ipc")) == (mode == "host")
    cli.ok("run", "-d", "--name", "yy", "--ipc", "container:xx", busybox, "sleep", "1000")
    for other in ("xx", "yy"):
        assert cli.ok("run", "--rm", "--ipc", f"container:{other}", busybox, "readlink", "/proc/self/ns/ipc") == own
    cli.ok("exec", "xx", "touch", f"/dev/shm/wherry-test-{os.getpid()}")
    assert cli.ok("exec", "yy", "rm", "-v", f"/dev/shm/wherry-test-{os.getpid()}").startswith("removed")


@pytest.mark.parametrize("mode", ["private", "none"])
def test_the_ipc_of_one_that_keeps_it(cli: Cli, busybox: str, mode: str) -> None:
    cli.ok("run", "-d", "--name", "xx", "--ipc", mode, busybox, "sleep", "1000")
    container = cli.inspect("xx", "{{.Id}}")
    said = cli.fails("run", "--rm", "--ipc", "container:xx", busybox, "true", code=125)
    assert f"failed to join IPC namespace: container {container}: non-shareable IPC" in said


def test_limits_are_in_the_cgroup(cli: Cli, busybox: str) -> None:
    line = (
        "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.shares cpu/cpu.cfs_quota_us "
        "2>/dev/null || cat memory.max pids.max cpu.weight cpu.max"
    )
    options = ("-m", "64m", "--pids-limit", "50", "--cpu-shares", "512", "--cpus", "0.5")
    output = cli.ok("run", "--rm", *options, busybox, "sh", "-c", line).split("\n")
    assert output[:2] == ["67108864", "50"]
    assert output[2:] in (["512", "50000"], ["59", "50000 100000"])
    said = cli.fails("run", "--rm", "-m", "1m", busybox, "true", code=125)
    assert "Minimum memory limit allowed is 6MB" in said


def test_a_container_that_takes_too_much_memory(cli: Cli, busybox: str) -> None:
    hog = "x=a; while :; do x=$x$x; done"
    assert cli("run", "--name", "hog", "-m", "16m", "--memory-swap", "16m", busybox, "sh", "-c", hog).returncode == 137
    assert cli.inspect("hog", "{{.State.OOMKilled}} {{.State.ExitCode}}") == "true 137"
    container = cli.inspect("hog", "{{.Id}}")
    assert cli.past_events(f"container={container}", "event=oom", "event=die") == ["oom", "die"]


def test_which_cgroup_namespace_is_the_default(cli: Cli, busybox: str) -> None:
    """The host's with version 1, as in Docker: what is in there looks for its own cgroup below the host's path."""
    container = cli.ok("create", busybox, "cat", "/proc/self/cgroup")
    mode = "host" if cli.ok("info", "-f", "{{.CgroupVersion}}") == "1" else "private"
    assert cli.inspect(container, "{{.HostConfig.CgroupnsMode}}") == mode
    paths = [line.split(":")[2] for line in cli.ok("start", "-a", container).split("\n")]
    assert any(path.endswith(container) for path in paths) == (mode == "host")


def test_cgroup_namespaces(cli: Cli, busybox: str) -> None:
    private = cli.ok("run", "--rm", "--cgroupns", "private", busybox, "cat", "/proc/self/cgroup")
    assert all(line.endswith(":/") for line in private.split("\n"))
    host = cli.ok("run", "--rm", "--cgroupns", "host", busybox, "cat", "/proc/self/cgroup")
    assert not all(line.endswith(":/") for line in host.split("\n"))


def test_signals_of_the_wrong_name(cli: Cli, sleeper: str) -> None:
    said = cli.fails("kill", "-s", "NOSUCH", sleeper)
    assert said.strip().lower().endswith("invalid signal: nosuch")
    assert cli.inspect(sleeper, "{{.State.Running}}") == "true"
    cli.ok("kill", "-s", str(int(signal.SIGTERM)), sleeper)
    assert cli.ok("wait", sleeper) == "0"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--uts", "host", "-h", "x"], "conflicting options: hostname and the UTS mode"),
        (["--network", "container:box", "--dns", "1.2.3.4"], "conflicting options: dns and the network mode"),
        (["--ipc", "container:nosuch"], "No such container: nosuch"),
        (["--pid", "container:nosuch"], "No such container: nosuch"),
        (["--network", "host", "--sysctl", "net.core.somaxconn=99"], 'sysctl "net.core.somaxconn" not allowed'),
        (["--gpus", "all"], 'could not select device driver "" with capabilities: [[gpu]]'),
        (["--storage-opt", "size=1G"], "--storage-opt is supported only for overlay over xfs"),
        (["--volumes-from", ""], "volumes-from specification cannot be an empty string"),
    ],
)
def test_what_cannot_be_had(cli: Cli, busybox: str, options: list[str], text: str) -> None:
    cli.ok("create", "--name", "box", busybox)
    assert text in cli.fails("run", "--rm", *options, busybox, "true", code=125)
    assert cli.ok("ps", "-aq", "--filter", "name=box").count("\n") == 0, "nothing of it stays"


def test_memory_that_runs_out_is_told_when_it_does(cli: Cli, busybox: str) -> None:
    """What is killed need not be the first process."""
    line = 'sh -c "x=a; while :; do x=\\$x\\$x; done"; echo still here; exec sleep 1000'
    box = cli.ok("run", "-d", "--name", "box", "-m", "20m", "--memory-swap", "20m", busybox, "sh", "-c", line)
    cli.wait_for_output("box")
    assert "oom" in cli.past_events(f"container={box}", "event=oom")
    assert cli.inspect("box", "{{.State.Running}} {{.State.OOMKilled}}") == "true false"
    cli.ok("stop", "-t", "0", "box")
    assert cli.inspect("box", "{{.State.OOMKilled}}") == "true"
    assert cli.past_events(f"container={box}", "event=oom", "event=die")[-1] == "die", "it is not told again"


def test_weights_that_a_device_s_scheduler_does_not_know_are_discarded(cli: Cli, busybox: str) -> None:
    schedulers = {f"/dev/{file.parts[3]}": file.read_text() for file in Path("/sys/block").glob("*/queue/scheduler")}
    device = next((path for path, text in schedulers.items() if os.path.exists(path) and "[bfq]" not in text), None)
    if device is None:
        pytest.skip("every disk's scheduler is bfq, or there is none")
    run = cli("run", "--rm", "--blkio-weight-device", f"{device}:300", busybox, "true")
    assert (run.returncode, run.stderr.strip()) == (
        0,
        "WARNING: Your kernel does not support Block I/O weight_device or the cgroup is not mounted. "
        "Weight-device discarded.",
    )
