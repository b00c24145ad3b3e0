"""Devices that a vendor's file describes, in containers: nodes, mounts, variables, groups and hooks."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import CACHE, Engine

BOAT = "wharf.example/boat"
HOOK = r"""#!/bin/sh
# As vendors' hooks do: the state, the configuration it leads to, and the root that this names.
state=$(cat)
bundle=$(printf %s "$state" | sed 's/.*"bundle":"\([^"]*\)".*/\1/')
root=$(sed 's/.*"root":{"path":"\([^"]*\)"}.*/\1/' "$bundle/config.json")
test -c "$root/dev/boat" || { echo "no device in $root"; exit 3; }
printf %s "$state" > "$root/state"
echo "$0 $* $FLAG $(pwd) $(id -u)" > "$root/hook"
grep NSpid: /proc/self/status > "$root/pids"
"""


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for vendors' files, with one in it."""
    found = tmp_path_factory.mktemp("cdi")
    (found / "hook.sh").write_text(HOOK)
    (found / "hook.sh").chmod(0o755)
    (found / "cargo").write_text("cargo\n")
    return found


@pytest.fixture(scope="module")
def vendor(harbour: Path, _images: None) -> Iterator[Engine]:
    engine = Engine(arguments=["--cdi-spec-dir", str(harbour)])
    try:
        engine.start()
        engine.load(CACHE / "busybox.image.tar")
        yield engine
        engine.check_log()
        engine.remove_containers()
        engine.stop()
    finally:
        engine.discard()


def write(harbour: Path, *devices: dict[str, Any], kind: str = BOAT, **edits: Any) -> None:
    document = {"cdiVersion": "0.6.0", "kind": kind, "devices": devices, "containerEdits": edits}
    (harbour / "boat.json").write_text(json.dumps(document))


def _device(name: str, **edits: Any) -> dict[str, Any]:
    return {"name": name, "containerEdits": edits}


@pytest.mark.parametrize("client", ["wherry", "docker"])
def test_all_that_a_device_brings(vendor: Engine, harbour: Path, client: str) -> None:
    nodes = [
        {"path": "/dev/boat", "hostPath": "/dev/zero"},
        {"path": "/dev/river", "type": "c", "major": 1, "minor": 11, "fileMode": 0o640, "gid": 44, "permissions": "r"},
        {"path": "/dev/pipes/tap", "type": "p", "fileMode": 0o622},
    ]
    mounts = [
        {"hostPath": str(harbour / "cargo"), "containerPath": "/hold/cargo", "options": ["ro", "nosuid", "bind"]},
        {"hostPath": "tmpfs", "containerPath": "/hold/loose", "type": "tmpfs", "options": ["size=64k"]},
    ]
    hook = {
        "hookName": "createContainer",
        "path": str(harbour / "hook.sh"),
        "args": ["hook", "one"],
        "env": ["FLAG=blue"],
    }
    write(
        harbour,
        _device("one", deviceNodes=nodes, mounts=mounts, hooks=[hook], additionalGids=[44, 45]),
        env=["BOAT=afloat"],
    )
    line = (
        "head -c 3 /dev/boat | od -An -tx1; stat -c '%F %a %t:%T %g' /dev/river; stat -c '%F %a' /dev/pipes/tap; "
        "cat /hold/cargo; echo more 2>&1 >>/hold/cargo; df -k /hold/loose | tail -n1 | tr -s ' ' | cut -d ' ' -f 2,6; "
        "echo $BOAT; cat /hook; head -c 0 /dev/river; echo written 2>&1 >/dev/river; id -G"
    )
    run = vendor.wherry if client == "wherry" else vendor.docker
    shown = run("run", "--rm", "--device", f"{BOAT}=one", "busybox", "sh", "-c", line, check=True).stdout
    assert shown.splitlines() == [
        " 00 00 00",
        "character special file 640 1:b 44",
        "fifo 622",
        "cargo",
        "sh: can't create /hold/cargo: Read-only file system",
        "64 /hold/loose",
        "afloat",
        f"{harbour}/hook.sh one blue / 0",
        "sh: can't create /dev/river: Operation not permitted",
        "0 44 45",
    ]


def test_a_hook_is_told_of_the_container(vendor: Engine, harbour: Path) -> None:
    hook = {"hookName": "createContainer", "path": str(harbour / "hook.sh")}
    write(harbour, _device("one", deviceNodes=[{"path": "/dev/boat", "hostPath": "/dev/zero"}], hooks=[hook]))
    vendor.wherry("run", "-d", "--name", "box", "--device", f"{BOAT}=one", "busybox", "sleep", "1000", check=True)
    inspected = vendor.request("GET", "/containers/box/json").body
    state = json.loads(vendor.wherry("exec", "box", "cat", "/state", check=True).stdout)
    assert (state["id"], state["pid"], state["status"]) == (inspected["Id"], inspected["State"]["Pid"], "creating")
    vendor.wherry("rm", "-f", "box", check=True)


def test_a_hook_is_not_seen_by_a_container_whose_processes_are_joined(vendor: Engine, harbour: Path) -> None:
    """It is in the host's pid namespace then, with one number, and in the container's own otherwise, with two."""
    hook = {"hookName": "createContainer", "path": str(harbour / "hook.sh")}
    write(harbour, _device("one", deviceNodes=[{"path": "/dev/boat", "hostPath": "/dev/zero"}], hooks=[hook]))
    vendor.wherry("run", "-d", "--name", "box", "busybox", "sleep", "1000", check=True)
    for pid, numbers in (("container:box", 1), ("", 2)):
        words = ["--pid", pid, "--device", f"{BOAT}=one", "busybox", "cat", "/pids"]
        shown = vendor.wherry("run", "--rm", *words, check=True).stdout
        assert len(shown.split()) == 1 + numbers
    vendor.wherry("rm", "-f", "box", check=True)


@pytest.mark.parametrize(
    ("script", "timeout", "text"),
    [
        ("echo what is wrong >&2; exit 7", 0, "exit status 7, output: what is wrong"),
        ("exec sleep 1000", 1, "no end within 1 seconds"),
    ],
)
def test_a_hook_that_fails(vendor: Engine, harbour: Path, script: str, timeout: int, text: str) -> None:
    hook = {"hookName": "createContainer", "path": "/bin/sh", "args": ["sh", "-c", script], "timeout": timeout or None}
    write(harbour, _device("one", hooks=[hook]))
    refused = vendor.wherry("run", "--rm", "--device", f"{BOAT}=one", "busybox", "true")
    assert refused.returncode == 125
    assert f"error running createContainer hook /bin/sh: {text}" in refused.stderr
    write(harbour, _device("one", hooks=[hook | {"path": "/nowhere"}]))
    refused = vendor.wherry("run", "--rm", "--device", f"{BOAT}=one", "busybox", "true")
    assert "hook /nowhere: no such file or directory" in refused.stderr


def test_what_cannot_be_had_is_told_at_the_start(vendor: Engine, harbour: Path) -> None:
    write(harbour, _device("one", hooks=[{"hookName": "poststart", "path": "/bin/true"}]), _device("two"))
    container = vendor.wherry("create", "--device", f"{BOAT}=none", "busybox", "true", check=True).stdout.strip()
    answer = vendor.request("POST", f"/containers/{container}/start")
    assert (answer.status, answer.body["message"]) == (
        500, f"CDI device injection failed: unresolvable CDI devices {BOAT}=none",
    )  # fmt: skip
    refused = vendor.wherry("run", "--rm", "--device", f"{BOAT}=one", "busybox", "true")
    assert "/bin/true is a poststart hook, and only createContainer hooks are run here" in refused.stderr
    write(harbour, _device("none", env=["LATE=but there"]))
    vendor.wherry("start", container, check=True)
    vendor.wherry("rm", "-f", container, check=True)


def test_devices_of_a_privileged_container_and_of_a_user(vendor: Engine, harbour: Path) -> None:
    write(
        harbour,
        _device("one", deviceNodes=[{"path": "/dev/boat", "hostPath": "/dev/zero", "uid": 1000, "fileMode": 0o600}]),
    )
    words = ["--device", f"{BOAT}=one", "busybox", "head", "-c", "3", "/dev/boat"]
    assert vendor.wherry("run", "--rm", "--privileged", *words, check=True).stdout == "\0\0\0"
    assert vendor.wherry("run", "--rm", "--user", "1000", *words, check=True).stdout == "\0\0\0"
    assert vendor.wherry("run", "--rm", "--user", "1001", *words).returncode != 0
    write(harbour, _device("one", deviceNodes=[{"path": "/dev/boat", "hostPath": "/dev/zero", "fileMode": 0o600}]))
    assert vendor.wherry("run", "--rm", "--user", "1001:7", *words, check=True).stdout == "\0\0\0"


def test_gpus(vendor: Engine, harbour: Path) -> None:
    names = ("0", "1", "all")
    write(harbour, *(_device(name, env=[f"GPU_{name}=1"]) for name in names), kind="nvidia.com/gpu")

    def gpus(words: str) -> list[str]:
        shown = vendor.docker("run", "--rm", "--gpus", words, "busybox", "env", check=True).stdout
        return sorted(line for line in shown.splitlines() if line.startswith("GPU_"))

    assert gpus("all") == ["GPU_all=1"]
    assert gpus("2") == ["GPU_0=1", "GPU_1=1"]
    assert gpus("device=1") == ["GPU_1=1"]
    refused = vendor.docker("run", "--rm", "--gpus", "3", "busybox", "true")
    assert "unresolvable CDI devices nvidia.com/gpu=2" in refused.stderr
    write(harbour, _device("one"))
    refused = vendor.docker("run", "--rm", "--gpus", "all", "busybox", "true")
    assert 'could not select device driver "" with capabilities: [[gpu]]' in refused.stderr


def test_a_name_in_the_place_of_a_path(vendor: Engine, harbour: Path) -> None:
    """As Compose sends it that knows no device requests; paths beside it are paths."""
    write(harbour, _device("one", env=["BOAT=afloat"]))
    names = {"PathOnHost": f"{BOAT}=one", "PathInContainer": f"{BOAT}=one", "CgroupPermissions": "rwm"}
    path = {"PathOnHost": "/dev/full", "PathInContainer": "/dev/hold", "CgroupPermissions": "r"}
    command = ["sh", "-c", "echo $BOAT; test -c /dev/hold && echo node"]
    body = {"Image": "busybox", "Cmd": command, "HostConfig": {"Devices": [names, path]}}
    container = vendor.request("POST", "/containers/create", body).body["Id"]
    assert vendor.wherry("start", "-a", container, check=True).stdout == "afloat\nnode\n"
    vendor.wherry("rm", container, check=True)


def test_info(vendor: Engine, harbour: Path) -> None:
    write(harbour, _device("one"), _device("two"))
    (harbour / "broken.yaml").write_text("kind: [")
    info = vendor.request("GET", "/info").body
    assert info["CDISpecDirs"] == [str(harbour)]
    assert info["DiscoveredDevices"] == [{"Source": "cdi", "ID": f"{BOAT}={name}"} for name in ("one", "two")]
    assert any(text.startswith(f"WARNING: CDI: {harbour}/broken.yaml: ") for text in info["Warnings"])
    shown = [
        run("info").stdout.partition("CDI spec")[2].partition(" Swarm")[0] for run in (vendor.wherry, vendor.docker)
    ]
    assert shown[0] == shown[1] and f" Discovered Devices:\n  cdi: {BOAT}=one\n" in shown[0]
    (harbour / "broken.yaml").unlink()
    assert "DiscoveredDevices" not in vendor.request("GET", "/v1.49/info").body


def test_what_a_vendor_changes_holds_from_the_next_start_on(vendor: Engine, harbour: Path) -> None:
    write(harbour, _device("one", env=["BOAT=first"]))
    vendor.wherry("run", "--name", "box", "--device", f"{BOAT}=one", "busybox", "sh", "-c", "echo $BOAT", check=True)
    write(harbour, _device("one", env=["BOAT=second"]))
    vendor.kill()
    vendor.start()
    assert vendor.wherry("start", "-a", "box", check=True).stdout == "second\n"
    vendor.wherry("rm", "box", check=True)
