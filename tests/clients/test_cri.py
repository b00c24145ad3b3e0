"""What cri-dockerd asks an engine for, in the order of a pod's life, and what it reads of each answer.

The fields and the forms of the messages are those that its source reads (version 0.4): whoever changes one of them
breaks Kubernetes nodes.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine, Response
from tests.support.frames import frames

SANDBOX = "k8s_POD_web_default_0123_0"
APP = "k8s_app_web_default_0123_0"
SHM = 64 << 20
MASKED = ["/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


@pytest.fixture(params=["/v1.43", "/v1.51"])
def version(request: pytest.FixtureRequest) -> str:
    """The API's, which cri-dockerd negotiates: that of 0.3.4, and today's."""
    return str(request.param)


@pytest.fixture
def parent(engine: Engine) -> Iterator[str]:
    """The cgroup of a pod, which the kubelet makes and takes away."""
    name = f"/kubepods-{engine.mark}/besteffort/pod0123"
    yield name
    engine.remove_containers()
    for directory, _, _ in os.walk("/sys/fs/cgroup", topdown=False):
        if engine.mark in directory:
            with contextlib.suppress(OSError):
                Path(directory).rmdir()


def _create(engine: Engine, version: str, name: str, host: dict[str, Any], **config: Any) -> Response:
    body = {
        "Image": "busybox:latest",
        "Healthcheck": {"Test": ["NONE"]},
        "OpenStdin": False,
        "HostConfig": {"ShmSize": SHM} | host,
        "NetworkingConfig": None,
    }
    return engine.request("POST", f"{version}/containers/create?name={name}", body | config)


def _sandbox(engine: Engine, version: str, parent: str) -> str:
    labels = {
        "io.kubernetes.docker.type": "podsandbox",
        "io.kubernetes.container.name": "POD",
        "annotation.kubernetes.io/config.seen": "x",
    }
    host = {
        "NetworkMode": "none",  # the network plug-in makes the interfaces
        "IpcMode": "shareable",
        "CgroupParent": parent,
        "SecurityOpt": ["seccomp=unconfined"],
        "OomScoreAdj": 998,
        "CpuShares": 2,
        "Sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"},
        "RestartPolicy": {},
        "LogConfig": {},
    }
    made = _create(engine, version, SANDBOX, host, Hostname="web", Labels=labels, Cmd=["sleep", "1000"])
    assert made.status == 201, made
    _ask(engine, "POST", f"{version}/containers/{made.body['Id']}/start", 204)
    return str(made.body["Id"])


def _ask(engine: Engine, method: str, path: str, status: int, body: Any = None) -> Any:
    answer = engine.request(method, path, body)
    assert answer.status == status, answer
    return answer.body


def test_what_it_asks_before_any_pod(engine: Engine, busybox: str, version: str) -> None:
    found = _ask(engine, "GET", f"{version}/version", 200)
    assert tuple(map(int, found["ApiVersion"].split("."))) >= (1, 43) and found["Version"]
    info = _ask(engine, "GET", f"{version}/info", 200)
    assert info["CgroupDriver"] in ("cgroupfs", "systemd") and Path(info["DockerRootDir"]).is_dir()
    assert info["DefaultRuntime"] in info["Runtimes"]
    images = _ask(engine, "GET", f"{version}/images/json?all=1&shared-size=1", 200)
    ours = next(image for image in images if busybox in image["RepoTags"])
    assert ours["Size"] >= ours["SharedSize"] >= 0 and ours["RepoDigests"] is not None
    found = _ask(engine, "GET", f"{version}/images/{busybox}/json", 200)
    assert busybox in found["RepoTags"] and found["Config"]["User"] == "" and found["Id"] == ours["Id"]
    layers = _ask(engine, "GET", f"{version}/images/{found['Id']}/history", 200)
    assert {"Created", "CreatedBy", "Comment", "Size"} <= set(layers[0])
    missing = _ask(engine, "GET", f"{version}/images/nosuch:1/json", 404)
    assert missing["message"] == "No such image: nosuch:1"


def test_a_sandbox(engine: Engine, busybox: str, version: str, parent: str) -> None:
    sandbox = _sandbox(engine, version, parent)
    found = _ask(engine, "GET", f"{version}/containers/{sandbox}/json", 200)
    state = found["State"]
    assert (found["Name"], found["Config"]["Hostname"], found["Config"]["Image"]) == (f"/{SANDBOX}", "web", busybox)
    assert state["Running"] and state["Pid"] > 0 and state["FinishedAt"] == "0001-01-01T00:00:00Z"
    assert found["HostConfig"]["NetworkMode"] == "none" and found["HostConfig"]["Runtime"]
    assert found["Config"]["Labels"]["annotation.kubernetes.io/config.seen"] == "x"
    groups = Path(f"/proc/{state['Pid']}/cgroup").read_text().splitlines()
    assert any(line.endswith(f"{parent}/{sandbox}") for line in groups), groups
    assert Path(f"/proc/{state['Pid']}/ns/net").exists()  # which the network plug-in is given
    assert Path(f"/proc/{state['Pid']}/oom_score_adj").read_text() == "998\n"
    Path(found["ResolvConfPath"]).write_text("nameserver 10.96.0.10\n")  # it is written over, in its place
    assert _output(engine, version, sandbox, "cat", "/etc/resolv.conf") == "nameserver 10.96.0.10\n"

    taken = _create(engine, version, SANDBOX, {}, Cmd=["true"])
    holder = re.search(r'(?i)conflict. (?:.)*already in use by container "?([0-9a-z]+)"?', taken.body["message"])
    assert taken.status == 409 and holder and holder[1] == sandbox


def _output(engine: Engine, version: str, container: str, *command: str) -> str:
    """By exec, as a probe does."""
    body = {"Cmd": command, "AttachStdout": True, "AttachStderr": True}
    exec_id = _ask(engine, "POST", f"{version}/containers/{container}/exec", 201, body)["Id"]
    output = _ask(engine, "POST", f"{version}/exec/{exec_id}/start", 200, {"Detach": False, "Tty": False})
    found = _ask(engine, "GET", f"{version}/exec/{exec_id}/json", 200)
    assert (found["Running"], found["ExitCode"], found["ContainerID"]) == (False, 0, container), (found, output)
    return b"".join(data for _, data in frames(output)).decode()


def test_a_container_of_a_pod(engine: Engine, busybox: str, version: str, parent: str, tmp_path: Path) -> None:
    sandbox = _sandbox(engine, version, parent)
    (tmp_path / "file").write_text("mounted")
    mount = {
        "Type": "bind",
        "Source": str(tmp_path),
        "Target": "/data",
        "ReadOnly": True,
        "BindOptions": {"Propagation": "rprivate"},
    }
    shared = f"container:{sandbox}"
    host = {
        "NetworkMode": shared,
        "IpcMode": shared,
        "PidMode": shared,
        "CgroupParent": parent,
        "ReadonlyRootfs": True,
        "SecurityOpt": ["no-new-privileges"],
        "CapAdd": ["NET_ADMIN"],
        "CapDrop": ["ALL"],
        "MaskedPaths": MASKED,
        "ReadonlyPaths": READ_ONLY,
        "Mounts": [mount],
        "Memory": 64 << 20,
        "CpuPeriod": 100_000,
        "CpuQuota": 50_000,
    }
    log = str(tmp_path / "0.log")
    labels = {"io.kubernetes.docker.type": "container", "io.kubernetes.container.logpath": log}
    labels["io.kubernetes.sandbox.id"] = sandbox
    made = _create(engine, version, APP, host, Labels=labels, Entrypoint=["sh"], Cmd=["-c", "echo begun; sleep 1000"])
    assert made.status == 201, made
    app = made.body["Id"]
    listed = _list(engine, version, sandbox)
    assert listed["Status"].startswith("Created") and listed["State"] == "created" and listed["Names"] == [f"/{APP}"]
    _ask(engine, "POST", f"{version}/containers/{app}/start", 204)
    listed = _list(engine, version, sandbox)
    assert listed["Status"].startswith("Up") and listed["Image"] == busybox and listed["Labels"] == labels

    found = _ask(engine, "GET", f"{version}/containers/{app}/json?size=1", 200)
    assert found["SizeRw"] >= 0 and found["Image"] == listed["ImageID"]
    mounts = [(each["Source"], each["Destination"], each["RW"], each["Propagation"]) for each in found["Mounts"]]
    assert mounts == [(str(tmp_path), "/data", False, "rprivate")]
    status = _output(engine, version, app, "sh", "-c", "grep NoNewPrivs /proc/self/status; hostname; cat /data/file")
    assert status == "NoNewPrivs:\t1\nweb\nmounted"
    assert _output(engine, version, app, "ps").count("sleep 1000") >= 2  # the sandbox's, by its pid namespace
    pid, first = found["State"]["Pid"], _ask(engine, "GET", f"{version}/containers/{sandbox}/json", 200)["State"]["Pid"]
    for kind in ("net", "ipc", "pid"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/{first}/ns/{kind}")

    os.symlink(found["LogPath"], log)  # where the kubelet looks for it
    lines = [json.loads(line) for line in Path(log).read_text().splitlines()]
    assert [(line["log"], line["stream"]) for line in lines] == [("begun\n", "stdout")] and lines[0]["time"]

    usage = _ask(engine, "GET", f"{version}/containers/{app}/stats?stream=0&one-shot=1", 200)
    assert usage["cpu_stats"]["cpu_usage"]["total_usage"] > 0 and usage["memory_stats"]["usage"] > 0 and usage["read"]
    limits = {"CpuShares": 512, "CpuQuota": 60_000, "Memory": 96 << 20, "MemorySwap": -1}
    _ask(engine, "POST", f"{version}/containers/{app}/update", 200, limits)
    assert _ask(engine, "GET", f"{version}/containers/{app}/json", 200)["HostConfig"]["Memory"] == 96 << 20

    _ask(engine, "POST", f"{version}/containers/{app}/stop?t=0", 204)
    _ask(engine, "POST", f"{version}/containers/{app}/stop?t=0", 304)
    state = _ask(engine, "GET", f"{version}/containers/{app}/json", 200)["State"]
    assert (state["Running"], state["OOMKilled"], state["Error"]) == (False, False, "")
    assert state["ExitCode"] in (137, 143)  # it is not the first process of its pid namespace
    assert state["FinishedAt"] > state["StartedAt"] and _list(engine, version, sandbox)["Status"].startswith("Exited")
    _ask(engine, "DELETE", f"{version}/containers/{app}?v=1&force=1", 204)
    for method, path in (("GET", "/json"), ("POST", "/start"), ("POST", "/stop"), ("DELETE", "?v=1&force=1")):
        message = _ask(engine, method, f"{version}/containers/{app}{path}", 404)["message"]
        assert re.search(r"No such container: [0-9a-z]+", message), message


def _list(engine: Engine, version: str, sandbox: str) -> Any:
    filters = json.dumps({"label": ["io.kubernetes.docker.type=container", f"io.kubernetes.sandbox.id={sandbox}"]})
    (found,) = _ask(engine, "GET", f"{version}/containers/json?all=1&limit=0&filters={filters.replace(' ', '')}", 200)
    return found


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["no-new-privileges"], "1"),
        (["no-new-privileges:true"], "1"),
        (["no-new-privileges=true"], "1"),
        (["no-new-privileges:false"], "0"),
        ([], "0"),
    ],
)
def test_privileges(engine: Engine, busybox: str, options: list[str], expected: str) -> None:
    made = _create(engine, "/v1.43", APP, {"SecurityOpt": options, "NetworkMode": "none"}, Cmd=["sleep", "1000"])
    _ask(engine, "POST", f"/v1.43/containers/{made.body['Id']}/start", 204)
    assert _output(engine, "/v1.43", made.body["Id"], "grep", "NoNewPrivs", "/proc/1/status").split()[1] == expected


def test_one_that_cannot_be_started(engine: Engine, busybox: str, version: str) -> None:
    """What the kubelet shows of it, and how it is known for what it is."""
    made = _create(engine, version, APP, {"NetworkMode": "none"}, Entrypoint=["/nosuch"])
    message = _ask(engine, "POST", f"{version}/containers/{made.body['Id']}/start", 400)["message"]
    assert "no such file or directory" in message
    state = _ask(engine, "GET", f"{version}/containers/{made.body['Id']}/json", 200)["State"]
    assert (state["Status"], state["ExitCode"]) == ("created", 127) and state["Error"]
