"""What a container has when nobody asks for anything: Docker 26.1.5's answers in one table, and where ours is stricter.

``DOCKER`` is what Docker said; with a dockerd at hand it is asked again. ``STRICTER_HOST_CONFIG`` is what differs here.
"""

import json
import os
import resource
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.docker_engine import DockerEngine
from tests.support.engine import Engine
from wherry.linux.cgroups import Hierarchies

V1 = bool(Hierarchies.detect().legacy)

# name: a command in the container, whose lines are compared in any order
PROBES = {
    "environment": "env | grep -v -e ^PWD= -e ^SHLVL= | sed s/^HOSTNAME=.*/HOSTNAME=/",
    "capabilities": "grep ^Cap /proc/1/status | tr '\\t' ' '",
    "confinement": "grep -E '^(NoNewPrivs|Seccomp|Umask|Groups):' /proc/1/status | tr '\\t' ' ' | sed 's/ *$//'",
    "scores": "cat /proc/1/oom_score_adj /proc/1/personality",
    # core is there where the kernel has the file that it leads to
    "nodes": (
        "cd /dev && for each in *; do [ $each = core ] && [ -e /proc/kcore ] && continue;"
        " stat -c '%N %A %u:%g %t:%T' $each; done"
    ),
    "directories": "stat -c '%n %a %u:%g' / /dev /dev/pts /dev/shm /dev/mqueue /proc /sys /etc/hosts /etc/resolv.conf",
    # Of mounts the flags that hold processes back; of those on the kernel's files, those that all kernels have.
    "mounts": (
        """awk '{ n = split($4, o, ","); f = ""
                  for (i = 1; i <= n; i++) if (o[i] ~ /^(ro|rw|nosuid|nodev|noexec)$/) f = f " " o[i]
                  print $2 f }' /proc/mounts | grep -E '^/( |dev|etc|proc (rw|ro)|proc/(bus|fs|irq|sys) |sys )'"""
    ),
    "hidden": (
        "for each in /proc/keys /proc/timer_list; do head -c 1 $each | wc -c; done; ls -A /sys/firmware | wc -l"
    ),
    "sysctls": (
        "cd /proc/sys; for each in net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range net/ipv4/ip_forward"
        " kernel/shm_rmid_forced; do echo $each=$(cat $each); done"
    ),
    "namespaces": "for each in ipc mnt net pid uts; do readlink /proc/1/ns/$each | sed 's/:.*//'; done",
    # The hierarchy of version 2 beside those of version 1 has nothing for a container, and is not used here.
    "cgroup": (
        f"grep -v {'^0::' if V1 else '^$'} /proc/1/cgroup"
        " | sed -E 's/^[0-9]+:[^:]*://; s/(docker|wherry).[0-9a-f]{64}/ENGINE\\/ID/' | sort -u"
    ),
    "streams": "ls -l /proc/1/fd | grep -o '[0-9]* -> [a-z/]*' | sed 's/^[0-9][0-9] .*//' | grep .",
    "devices": "cat /sys/fs/cgroup/devices/devices.list" if V1 else "echo",
}
DOCKER = {
    "environment": (
        "HOME=/root",
        "HOSTNAME=",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    "capabilities": (
        "CapAmb: 0000000000000000",
        "CapBnd: 00000000a80425fb",
        "CapEff: 00000000a80425fb",
        "CapInh: 0000000000000000",
        "CapPrm: 00000000a80425fb",
    ),
    "confinement": ("Groups: 0", "NoNewPrivs: 0", "Seccomp: 2", "Umask: 0022"),
    "scores": ("0", "00000000"),
    "nodes": (
        "'fd' -> '/proc/self/fd' lrwxrwxrwx 0:0 0:0",
        "'ptmx' -> 'pts/ptmx' lrwxrwxrwx 0:0 0:0",
        "'stderr' -> '/proc/self/fd/2' lrwxrwxrwx 0:0 0:0",
        "'stdin' -> '/proc/self/fd/0' lrwxrwxrwx 0:0 0:0",
        "'stdout' -> '/proc/self/fd/1' lrwxrwxrwx 0:0 0:0",
        "full crw-rw-rw- 0:0 1:7",
        "mqueue drwxrwxrwt 0:0 0:0",
        "null crw-rw-rw- 0:0 1:3",
        "pts drwxr-xr-x 0:0 0:0",
        "random crw-rw-rw- 0:0 1:8",
        "shm drwxrwxrwt 0:0 0:0",
        "tty crw-rw-rw- 0:0 5:0",
        "urandom crw-rw-rw- 0:0 1:9",
        "zero crw-rw-rw- 0:0 1:5",
    ),
    "directories": (
        "/ 755 0:0",
        "/dev 755 0:0",
        "/dev/mqueue 1777 0:0",
        "/dev/pts 755 0:0",
        "/dev/shm 1777 0:0",
        "/etc/hosts 644 0:0",
        "/etc/resolv.conf 644 0:0",
        "/proc 555 0:0",
        "/sys 555 0:0",
    ),
    "mounts": (
        "/ rw",
        "/dev rw nosuid",
        "/dev/mqueue rw nosuid nodev noexec",
        "/dev/pts rw nosuid noexec",
        "/dev/shm rw nosuid nodev noexec",
        "/etc/hostname rw",
        "/etc/hosts rw",
        "/etc/resolv.conf rw",
        "/proc rw nosuid nodev noexec",
        "/proc/bus ro nosuid nodev noexec",
        "/proc/fs ro nosuid nodev noexec",
        "/proc/irq ro nosuid nodev noexec",
        "/proc/sys ro nosuid nodev noexec",
        "/sys ro nosuid nodev noexec",
    ),
    "hidden": ("0", "0", "0"),
    "sysctls": (
        "kernel/shm_rmid_forced=0",
        "net/ipv4/ip_forward=1",
        "net/ipv4/ip_unprivileged_port_start=0",
        "net/ipv4/ping_group_range=0 2147483647",
    ),
    "namespaces": ("ipc", "mnt", "net", "pid", "uts"),
    "cgroup": ("/ENGINE/ID" if V1 else "/",),
    "streams": ("0 -> /dev/null", "1 -> pipe", "2 -> pipe"),
    "devices": (
        "b *:* m",
        "c *:* m",
        "c 10:200 rwm",
        "c 136:* rwm",
        "c 1:3 rwm",
        "c 1:5 rwm",
        "c 1:7 rwm",
        "c 1:8 rwm",
        "c 1:9 rwm",
        "c 5:0 rwm",
        "c 5:1 rwm",
        "c 5:2 rwm",
    ),
}
HOST_CONFIG: dict[str, Any] = {
    "CapAdd": None,
    "CapDrop": None,
    "CgroupParent": "",
    "CgroupnsMode": "host" if V1 else "private",
    "IpcMode": "private",
    "MaskedPaths": [
        "/proc/asound",
        "/proc/acpi",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ],
    "Memory": 0,
    "NetworkMode": "bridge",
    "OomKillDisable": False,
    "OomScoreAdj": 0,
    "PidMode": "",
    "PidsLimit": None,
    "Privileged": False,
    "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    "ReadonlyRootfs": False,
    "SecurityOpt": None,
    "ShmSize": 64 << 20,
    "UTSMode": "",
    "Ulimits": [],
    "UsernsMode": "",
}
STRICTER_HOST_CONFIG = {
    # The counts of interrupts tell of the keys that are pressed on the host: Docker masks them from version 28 on.
    "MaskedPaths": sorted([*HOST_CONFIG["MaskedPaths"], "/proc/interrupts"]),
}


def probe(run: Callable[..., Any]) -> dict[str, tuple[str, ...]]:
    script = "\n".join(f"echo '== {name}'; ({command})" for name, command in PROBES.items())
    shown = run("run", "--rm", "busybox:latest", "sh", "-c", script, check=True).stdout
    parts = (part.partition("\n") for part in shown.split("== ")[1:])
    return {name: tuple(sorted(lines.splitlines())) for name, _, lines in parts}


def host_config(run: Callable[..., Any]) -> dict[str, Any]:
    name = run("create", "busybox:latest", check=True).stdout.strip()
    (shown,) = json.loads(run("inspect", name, check=True).stdout)
    run("rm", name, check=True)
    found = {key: shown["HostConfig"][key] for key in HOST_CONFIG}
    return found | {"MaskedPaths": sorted(found["MaskedPaths"])}


@pytest.fixture
def probed(engine: Engine, busybox: str) -> dict[str, tuple[str, ...]]:
    return probe(engine.wherry)


def test_every_default(probed: dict[str, tuple[str, ...]]) -> None:
    expected = {name: tuple(sorted(lines)) for name, lines in DOCKER.items()}
    if not V1:
        expected["devices"] = ("",)
    assert probed == expected


def test_the_host_configuration(engine: Engine, busybox: str) -> None:
    expected = HOST_CONFIG | {"MaskedPaths": sorted(HOST_CONFIG["MaskedPaths"])} | STRICTER_HOST_CONFIG
    assert host_config(engine.wherry) == expected


def test_limits_are_those_that_the_engine_was_started_with(engine: Engine, busybox: str) -> None:
    shown = engine.wherry(
        "run", "--rm", busybox, "sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc; ulimit -Su"
    )
    said = [-1 if word == "unlimited" else int(word) for word in shown.stdout.split()]
    files, core = resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE)
    in_blocks = [limit if limit == -1 else limit // 512 for limit in core]
    assert said == [*files, *in_blocks, resource.getrlimit(resource.RLIMIT_NPROC)[0]]


def test_a_tunnel_of_the_container_s_own(engine: Engine, busybox: str) -> None:
    """VPN containers make /dev/net/tun themselves, with CAP_MKNOD and CAP_NET_ADMIN."""
    if not os.path.exists("/dev/net/tun"):
        pytest.skip("this kernel has no tun devices")
    line = "mkdir /dev/net && mknod /dev/net/tun c 10 200 && tunctl -t tun7 >/dev/null && ip -o link show tun7"
    shown = engine.wherry("run", "--rm", "--cap-add", "NET_ADMIN", busybox, "sh", "-c", line, check=True)
    assert "tun7" in shown.stdout
    refused = engine.wherry("run", "--rm", busybox, "sh", "-c", line)
    assert refused.returncode != 0


def test_docker_says_so(dockerd: DockerEngine) -> None:
    if dockerd.version != 26:
        pytest.skip("the table is of Docker 26")
    assert probe(dockerd) == {name: tuple(sorted(lines)) for name, lines in DOCKER.items()}
    assert host_config(dockerd) == HOST_CONFIG | {"MaskedPaths": sorted(HOST_CONFIG["MaskedPaths"])}
