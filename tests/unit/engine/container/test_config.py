"""What a user asks for and what the image says: Docker's rules of putting the two together."""

import msgspec
import pytest

from wherry.common.errors import EngineError, InvalidParameter
from wherry.engine.config import EngineConfig
from wherry.engine.container import config
from wherry.model.container import ContainerConfig, HealthConfig, HostConfig, RestartPolicy

IMAGE = ContainerConfig(
    user="app",
    env=["PATH=/bin", "LANG=C"],
    cmd=["serve"],
    entrypoint=["/entry"],
    labels={"a": "image", "b": "image"},
    exposed_ports={"80/tcp": {}},
    volumes={"/data": {}},
    working_dir="/srv",
    stop_signal="SIGQUIT",
    healthcheck=HealthConfig(test=["CMD", "true"], retries=5),
)


def test_what_is_not_said_comes_from_the_image() -> None:
    merged = config.merge(ContainerConfig(), IMAGE)
    assert (merged.user, merged.working_dir, merged.stop_signal) == ("app", "/srv", "SIGQUIT")
    assert config.command_line(merged) == ["/entry", "serve"]
    assert merged.volumes == {"/data": {}}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"cmd": ["other"]}, ["/entry", "other"]),
        ({"entrypoint": ["/mine"]}, ["/mine"]),
        ({"entrypoint": ["/mine"], "cmd": ["x"]}, ["/mine", "x"]),
        ({"entrypoint": [""], "cmd": ["x"]}, ["x"]),
        ({"entrypoint": []}, ["serve"]),
    ],
)
def test_entrypoint_and_command(asked: dict[str, list[str]], expected: list[str]) -> None:
    merged = config.merge(ContainerConfig(**asked), IMAGE)
    assert config.command_line(merged) == expected


def test_no_command_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="no command specified"):
        config.command_line(ContainerConfig())


def test_environment_labels_and_ports_add_up() -> None:
    asked = ContainerConfig(env=["LANG=de", "NEW=1"], labels={"b": "user"}, exposed_ports={"443/tcp": {}})
    merged = config.merge(asked, IMAGE)
    assert merged.env == ["LANG=de", "NEW=1", "PATH=/bin"]
    assert merged.labels == {"a": "image", "b": "user"}
    assert merged.exposed_ports == {"80/tcp": {}, "443/tcp": {}}


def test_health_check_is_merged_field_by_field() -> None:
    merged = config.merge(ContainerConfig(healthcheck=HealthConfig(interval=10**9)), IMAGE)
    assert merged.healthcheck == HealthConfig(test=["CMD", "true"], interval=10**9, retries=5)


def test_merging_changes_neither_side() -> None:
    before = msgspec.json.encode(IMAGE)
    merged = config.merge(ContainerConfig(), IMAGE)
    merged.labels["new"] = "x"
    assert msgspec.json.encode(IMAGE) == before


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (HostConfig(memory=1 << 20), "Minimum memory limit allowed is 6MB"),
        (HostConfig(memory=-5), "Minimum memory limit allowed is 6MB"),
        (HostConfig(cpuset_cpus="0-99999999999"), "Invalid value 0-99999999999 for cpuset cpus"),
        (HostConfig(extra_hosts=["x"]), 'bad format for add-host: "x"'),
        (HostConfig(extra_hosts=["x:y"]), 'invalid IP address in add-host: "y"'),
        (HostConfig(memory=64 << 20, memory_swap=32 << 20), "Minimum memoryswap limit"),
        (HostConfig(memory_swap=32 << 20), "You should always set the Memory limit"),
        (HostConfig(nano_cpus=1, cpu_quota=5), "Conflicting options"),
        (HostConfig(restart_policy=RestartPolicy("sometimes")), "unknown policy 'sometimes'"),
        (HostConfig(restart_policy=RestartPolicy("always", 3)), "maximum retry count can only be used"),
        (HostConfig(restart_policy=RestartPolicy("always"), auto_remove=True), "can't create 'AutoRemove'"),
        (HostConfig(oom_score_adj=1001), r"range for oom score adj is \[-1000, 1000\]"),
        (HostConfig(pid_mode="nowhere"), "invalid PID mode: nowhere"),
        (HostConfig(ipc_mode="container:"), "invalid IPC mode: container:"),
    ],
)
def test_contradictions_are_refused(host: HostConfig, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        config.complete_host_config(host, EngineConfig())


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (HostConfig(storage_opt={"size": "10G"}), "supported only for overlay over xfs with 'pquota' mount option"),
        (HostConfig(storage_opt={"colour": "red"}), "Unknown option colour"),
        (HostConfig(isolation="hyperv"), "Invalid isolation: \"hyperv\" - linux only supports 'default'"),
    ],
)
def test_what_docker_answers_with_500(host: HostConfig, message: str) -> None:
    with pytest.raises(EngineError, match=message) as refused:
        config.complete_host_config(host, EngineConfig())
    assert refused.value.status == 500


def test_defaults_are_filled_in() -> None:
    host = config.complete_host_config(HostConfig(memory=64 << 20), EngineConfig())
    assert (host.network_mode, host.ipc_mode, host.restart_policy.name) == ("bridge", "private", "no")
    assert (host.shm_size, host.memory_swap) == (64 << 20, 128 << 20)
    assert host.log_config.type == "json-file"
    assert "/proc/kcore" in (host.masked_paths or ()) and "/proc/sys" in (host.readonly_paths or ())


def test_privileged_masks_nothing() -> None:
    host = config.complete_host_config(HostConfig(privileged=True), EngineConfig())
    assert host.masked_paths == [] and host.readonly_paths == []


@pytest.mark.parametrize(
    ("name", "number"),
    [("SIGTERM", 15), ("term", 15), ("9", 9), ("+065", 65), ("RTMIN+3", 37), ("sigrtmax-1", 63)],
)
def test_signals(name: str, number: int) -> None:
    assert config.parse_signal(name) == number


@pytest.mark.parametrize("name", ["SIGNOTHING", "0", "-1", "", "SIG_DFL", "RTMIN+16", "RTMAX-15"])
def test_bad_signals(name: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid signal"):
        config.parse_signal(name)


def test_labels_are_sorted() -> None:
    merged = config.merge(ContainerConfig(labels={"c": "", "a": "mine"}), IMAGE)
    assert list(merged.labels.items()) == [("a", "mine"), ("b", "image"), ("c", "")]
