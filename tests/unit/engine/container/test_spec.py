"""The spec of a container: what each of the user's words comes to."""

import os
from pathlib import Path
from typing import Any

import pytest

from wherry.common.errors import EngineError, InvalidParameter, NotSupported
from wherry.common.platforms import host_architecture
from wherry.engine.config import EngineConfig
from wherry.engine.container import spec
from wherry.engine.container.config import complete_host_config
from wherry.engine.network.attach import Sandbox
from wherry.linux import capabilities
from wherry.linux.cgroups import DeviceRule
from wherry.linux.mounts import Mount
from wherry.model.container import Container, ContainerConfig, DeviceMapping, ExecConfig, HostConfig, LogConfig, Ulimit
from wherry.runtime.spec import Namespace, Rlimit, Spec

ENGINE = EngineConfig(data_root="/data", exec_root="/exec")
PIDS = {"db": 77}
EVERYTHING = capabilities.resolve((), (), privileged=True)  # that this process has itself


def container(host: HostConfig | None = None, *, architecture: str = "", **config: Any) -> Container:
    return Container(
        id="ab" * 32,
        name="web",
        created=1,
        image="app",
        image_id="sha256:1",
        chain_id="",
        path="serve",
        args=["--all"],
        config=ContainerConfig(**{"hostname": "box"} | config),
        host_config=complete_host_config(host or HostConfig(), ENGINE),
        log=LogConfig("none"),
        architecture=architecture,
    )


def written(
    host: HostConfig | None = None, directory: str = "/none", volumes: tuple[Mount, ...] = (), **config: Any
) -> Spec:
    return spec.write_spec(container(host, **config), (), directory, ENGINE, PIDS.__getitem__, Sandbox(), volumes)


def kinds(found: Spec) -> dict[str, int | None]:
    return {each.kind: each.pid for each in found.namespaces}


def test_a_container_of_which_nothing_is_said() -> None:
    found = written()
    assert (found.exec_dir, found.cgroup) == (f"/exec/{'ab' * 32}", f"/wherry/{'ab' * 32}")
    assert kinds(found) == dict.fromkeys(("mnt", "pid", "net", "ipc", "uts", "cgroup"))
    assert (found.process.args, found.process.cwd, found.hostname) == (("serve", "--all"), "/", "box")
    assert found.process.env == (spec.PATH, "HOSTNAME=box")
    assert found.process.seccomp and "CAP_CHOWN" in found.process.capabilities
    assert "CAP_SYS_ADMIN" not in found.process.capabilities
    assert "/proc/kcore" in found.masked_paths and found.readonly_proc
    assert found.sysctls["net.ipv4.ip_unprivileged_port_start"] == "0"
    assert not found.init and not found.readonly_root
    assert found.log.driver == "none"


def test_the_host_s_namespaces_are_not_entered_and_a_container_s_are_by_its_pid() -> None:
    found = written(HostConfig(network_mode="container:db", pid_mode="host", ipc_mode="container:db", uts_mode="host"))
    assert kinds(found) == {"mnt": None, "net": 77, "ipc": 77, "cgroup": None}
    assert (found.hostname, found.domainname) == ("", "")
    assert found.sysctls == {}, "they are the other's to set"
    assert Namespace("mnt") in found.namespaces


def test_a_privileged_container_has_no_fence() -> None:
    found = written(HostConfig(privileged=True))
    assert found.process.capabilities == EVERYTHING and found.process.seccomp == b""
    assert found.masked_paths == () and not found.readonly_proc
    assert found.resources.devices == (DeviceRule(True),)
    assert {device.path for device in found.devices} >= {"/dev/null"}
    options = {mount.target: mount.options for mount in found.mounts}
    assert "rw" in options["/sys"] and "rw" in options["/sys/fs/cgroup"]
    assert "cgroup" not in kinds(found)


def test_a_privileged_container_has_the_profile_that_is_asked_for() -> None:
    host = HostConfig(privileged=True, security_opt=["seccomp=builtin"])
    assert written(host).process.seccomp != b""
    profile = '{"defaultAction": "SCMP_ACT_ERRNO"}'
    assert written(HostConfig(security_opt=[f"seccomp={profile}"])).process.seccomp != written().process.seccomp


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("no-new-privileges", True),
        ("no-new-privileges=true", True),
        ("no-new-privileges:1", True),
        ("no-new-privileges=false", False),
        ("seccomp=unconfined", False),
    ],
)
def test_no_new_privileges(option: str, expected: bool) -> None:
    found = written(HostConfig(security_opt=[option]))
    assert found.process.no_new_privileges is expected
    assert (found.process.seccomp == b"") is (option == "seccomp=unconfined")


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ("no-new-privileges=perhaps", EngineError, 'invalid --security-opt 2: "no-new-privileges=perhaps"'),
        ("colour=red", EngineError, 'invalid --security-opt 2: "colour=red"'),
        ("seccomp={", InvalidParameter, "seccomp"),
        ("apparmor=mine", NotSupported, "does not use apparmor"),
        ("label=type:x", NotSupported, "does not use label"),
    ],
)
def test_bad_security_options(option: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        spec.check_security_options(HostConfig(security_opt=[option]))


def test_security_options_that_change_nothing_here() -> None:
    spec.check_security_options(
        HostConfig(security_opt=["apparmor=unconfined", "label:disable", "systempaths=unconfined", "seccomp=builtin"])
    )


def test_unknown_capabilities() -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid CapAdd: "):
        spec.resolve_capabilities(HostConfig(cap_add=["CAP_FLY"]), privileged=False)
    with pytest.raises(InvalidParameter, match=r"^invalid CapDrop: "):
        spec.resolve_capabilities(HostConfig(cap_drop=["CAP_FLY"]), privileged=False)


def test_the_environment_s_later_entries_stand_in_place_of_earlier_ones() -> None:
    found = spec.write_spec(
        container(env=["A=1", "B=2", "A=3", "PATH", "DB_PORT=mine"], tty=True),
        (),
        "/none",
        ENGINE,
        PIDS.__getitem__,
        Sandbox(environment=("DB_PORT=theirs", "DB_NAME=/web/db")),
    )
    assert found.process.env == (*("HOSTNAME=box", "TERM=xterm", "DB_PORT=mine", "DB_NAME=/web/db", "A=3", "B=2"),)


def test_an_exec_has_the_container_s_settings_but_where_it_has_its_own() -> None:
    record = container(HostConfig(group_add=["audio"]), user="app", working_dir="/srv", env=["A=1"])
    plain = spec.exec_process(record, ExecConfig(cmd=["ls", "-l"]), ("DB_NAME=x",))
    assert (plain.args, plain.user, plain.cwd, plain.groups) == (("ls", "-l"), "app", "/srv", ("audio",))
    assert plain.env == (spec.PATH, "HOSTNAME=box", "DB_NAME=x", "A=1")
    own = spec.exec_process(
        record,
        ExecConfig(
            cmd=["ls"], user="0", working_dir="/", env=["A=2"], tty=True, console_size=(24, 80), privileged=True
        ),
        (),
    )
    assert (own.user, own.cwd, own.tty, own.console_size) == ("0", "/", True, (24, 80))
    assert own.env == (spec.PATH, "HOSTNAME=box", "TERM=xterm", "A=2")
    assert own.capabilities == EVERYTHING and own.seccomp == plain.seccomp


def test_why_an_exec_fails() -> None:
    assert spec.exec_failure("no such file").endswith("unable to start container process: no such file: unknown")
    unknown = "unable to find user nobody-at-all: no matching entries in passwd file"
    assert spec.exec_failure(unknown) == unknown


def test_limits_as_the_kernel_counts_them() -> None:
    found = spec.write_resources(HostConfig(nano_cpus=500_000_000, memory=64 << 20, memory_swap=-1, pids_limit=0))
    assert (found.cpu_quota, found.cpu_period) == (50_000, 100_000)
    assert (found.memory, found.memory_swap, found.pids) == (64 << 20, -1, None)
    nothing = spec.write_resources(HostConfig())
    assert (nothing.memory, nothing.cpu_quota, nothing.cpu_shares, nothing.memory_swappiness) == (None,) * 4


def test_devices_and_ulimits() -> None:
    found = written(
        HostConfig(
            devices=[DeviceMapping("/dev/null", "/dev/nothing", "r")],
            device_cgroup_rules=["c 7:* rwm"],
            ulimits=[Ulimit("NOFILE", hard=20, soft=10)],
            oom_score_adj=-5,
        )
    )
    assert [(each.source, each.path) for each in found.devices] == [("/dev/null", "/dev/nothing")]
    assert DeviceRule(True, "c", 1, 3, "r") in found.resources.devices
    assert DeviceRule(True, "c", 7, None, "rwm") in found.resources.devices
    assert found.process.rlimits == (Rlimit("nofile", 10, 20),)
    assert found.process.oom_score_adj == -5


def test_shared_memory() -> None:
    def shm(mode: str) -> list[Mount]:
        return [
            each for each in written(HostConfig(ipc_mode=mode, shm_size=1 << 20)).mounts if each.target == "/dev/shm"
        ]

    assert shm("private")[0].options[-1] == f"size={1 << 20}"
    assert shm("none") == []
    assert (shm("host")[0].type, shm("host")[0].source) == ("bind", "/dev/shm")
    assert shm("container:db")[0].source == "/proc/77/root/dev/shm"


def test_what_the_user_mounts_goes_before_the_engine_s(tmp_path: Path) -> None:
    for name in ("hosts", "hostname"):
        (tmp_path / name).touch()
    own = (Mount("bind", "/mine", "/etc/hosts"), Mount("bind", "/shm", "/dev/shm"), Mount("bind", "/e", "/etc"))
    found = written(HostConfig(readonly_rootfs=True), str(tmp_path), own)
    targets = [each.target for each in found.mounts]
    assert len(targets) == len(set(targets))
    sources = {each.target: each.source for each in found.mounts}
    assert sources["/etc/hosts"] == "/mine" and sources["/dev/shm"] == "/shm"
    assert sources["/etc/hostname"] == f"{tmp_path}/hostname" and "/etc/resolv.conf" not in sources
    assert targets.index("/etc") < targets.index("/etc/hostname")
    assert "ro" in next(each.options for each in found.mounts if each.target == "/etc/hostname")
    assert found.readonly_root


def test_a_program_of_32_bits_sees_such_a_machine() -> None:
    of_32_bits = {"amd64": "386", "arm64": "arm"}.get(host_architecture())
    if of_32_bits is None:
        pytest.skip("no such thing on this machine")
    assert (
        spec.write_spec(
            container(architecture=of_32_bits), (), "/none", ENGINE, PIDS.__getitem__, Sandbox()
        ).process.personality
        == "linux32"
    )
    assert written().process.personality == ""


def test_the_cgroup_is_below_the_parent() -> None:
    assert spec.cgroup_path(container(HostConfig(cgroup_parent="/a/b/"))) == f"/a/b/{'ab' * 32}"


def test_init_is_the_engine_s_unless_said() -> None:
    engine = EngineConfig(init=True)
    for host, expected in ((HostConfig(), True), (HostConfig(init=False), False)):
        found = spec.write_spec(container(host), (), "/none", engine, PIDS.__getitem__, Sandbox())
        assert found.init is expected


def test_host_ipc_has_the_message_queues_where_the_host_has_them() -> None:
    targets = [each.target for each in written(HostConfig(ipc_mode="host")).mounts if each.type == "bind"]
    assert ("/dev/mqueue" in targets) is os.path.isdir("/dev/mqueue")
