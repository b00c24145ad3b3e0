"""The keywords a container is made with: each arrives at the engine, and none is left out in silence."""

from typing import Any

import pytest

import wherry
from tests.support.scripted_engine import ScriptedEngine, json_answer
from wherry.client import options
from wherry.client.options import TABLE, Mount, container_body


def host(**given: Any) -> dict[str, Any]:
    body, _, _ = container_body("image", (), given)  # type: ignore[arg-type]
    found: dict[str, Any] = body["HostConfig"]
    return found


@pytest.mark.parametrize("word", ["enviroment", "detach", "mem", "gpu", "remove", "no_such_thing_at_all"])
def test_a_keyword_that_is_none_is_a_type_error(word: str) -> None:
    with pytest.raises(TypeError, match=f"'{word}' is not an option"):
        container_body("image", (), {word: "x"})  # type: ignore[typeddict-item]


def test_what_was_meant_is_told_with_dockers_word() -> None:
    for word, text in (
        ("enviroment", "did you mean 'environment', Docker's Env?"),
        ("mem_limt", "did you mean 'mem_limit', Docker's Memory?"),
        ("detach", r"start\(\) begins a container in the background"),
        ("qqqqqq", "host_config, in the words of the Engine API"),
    ):
        with pytest.raises(TypeError, match=text):
            container_body("image", (), {word: "x"})  # type: ignore[typeddict-item]


def test_the_engine_is_not_asked_for_what_cannot_be(engine: ScriptedEngine) -> None:
    with wherry.connect(engine.host) as connection:
        with pytest.raises(TypeError):
            connection.run("busybox", "true", memroy="64m")  # type: ignore[call-arg]
        with pytest.raises(ValueError, match=r"memory='64q' cannot be Docker's Memory: invalid suffix: 'q'"):
            connection.create("busybox", "true", memory="64q")
        with pytest.raises(TypeError, match="one text"):
            connection.create("busybox", "true", cap_add="NET_ADMIN")
        with pytest.raises(TypeError, match="memory and mem_limit are the same, Docker's Memory"):
            connection.create("busybox", "true", memory=1, mem_limit=2)
    assert engine.requests == []


def test_what_is_not_given_is_not_sent(engine: ScriptedEngine) -> None:
    engine.on("POST", "/containers/create", json_answer({"Id": "a" * 64}, status=201))
    with wherry.connect(engine.host) as connection:
        connection.create("busybox", ["true"], memory=None)  # type: ignore[arg-type]
    assert engine.requests[0].json["HostConfig"] == {}


def test_every_word_is_typed_and_the_other_way_round() -> None:
    typed = options.Options.__annotations__
    assert {*typed} == {*TABLE, "name", "platform", "config", "host_config"}


def test_sizes_as_text() -> None:
    given = host(mem_limit="64m", memswap_limit="-1", shm_size="1.5g", memory_reservation=5)
    assert given == {"Memory": 64 << 20, "MemorySwap": -1, "ShmSize": 3 << 29, "MemoryReservation": 5}


@pytest.mark.parametrize(
    ("given", "bindings"),
    [
        ({80: 8080}, {"80/tcp": [("", "8080")]}),
        ({"53/udp": None, 80: 0}, {"53/udp": [("", "")], "80/tcp": [("", "")]}),
        ({80: ("127.0.0.1", 8080)}, {"80/tcp": [("127.0.0.1", "8080")]}),
        ({80: ("127.0.0.1",)}, {"80/tcp": [("127.0.0.1", "")]}),
        ({80: ("::1", 8080)}, {"80/tcp": [("::1", "8080")]}),
        ({80: "127.0.0.1:8080"}, {"80/tcp": [("127.0.0.1", "8080")]}),
        ({80: [1, ("127.0.0.2", 2)]}, {"80/tcp": [("", "1"), ("127.0.0.2", "2")]}),
        (["127.0.0.1:8080:80", "53:53/udp"], {"80/tcp": [("127.0.0.1", "8080")], "53/udp": [("", "53")]}),
    ],
)
def test_ports(given: Any, bindings: dict[str, list[tuple[str, str]]]) -> None:
    found = host(ports=given)["PortBindings"]
    assert {port: [(each["HostIp"], each["HostPort"]) for each in several] for port, several in found.items()} == (
        bindings
    )
    body, _, _ = container_body("image", (), {"ports": given})
    assert set(body["ExposedPorts"]) == set(bindings)


def test_volumes() -> None:
    assert host(volumes=["name:/in:ro", "/a:/b"])["Binds"] == ["name:/in:ro", "/a:/b"]
    assert host(volumes={"/a": {"bind": "/b", "mode": "ro"}, "name": "/c"})["Binds"] == ["/a:/b:ro", "name:/c"]
    mixed = host(volumes=["name:/in", Mount("/bin", "/srv", "bind", read_only=True)])
    assert mixed["Binds"] == ["name:/in"]
    assert mixed["Mounts"] == [{"Type": "bind", "Target": "/bin", "Source": "/srv", "ReadOnly": True}]
    with pytest.raises(TypeError):
        host(volumes="name:/in")


def test_mounts() -> None:
    scratch = Mount("/t", type="tmpfs", tmpfs_size="1m", tmpfs_mode=0o1777).as_json()
    assert scratch["TmpfsOptions"] == {"SizeBytes": 1 << 20, "Mode": 0o1777}
    volume = Mount("/v", "name", driver="local", driver_opts={"type": "tmpfs"}, no_copy=True).as_json()
    assert volume["VolumeOptions"] == {
        "NoCopy": True,
        "DriverConfig": {"Name": "local", "Options": {"type": "tmpfs"}},
    }


def test_what_else_docker_has_words_for() -> None:
    assert host(gpus="all")["DeviceRequests"][0]["Count"] == -1
    assert host(gpus="device=0,1")["DeviceRequests"][0]["DeviceIDs"] == ["0", "1"]
    assert host(restart="on-failure:3")["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert host(ulimits={"nofile": (1, 2), "core": 0})["Ulimits"] == [
        {"Name": "nofile", "Soft": 1, "Hard": 2},
        {"Name": "core", "Soft": 0, "Hard": 0},
    ]
    assert host(devices=["/dev/a", "/dev/b:/dev/c:r", "/dev/d:rw"])["Devices"] == [
        {"PathOnHost": "/dev/a", "PathInContainer": "/dev/a", "CgroupPermissions": "rwm"},
        {"PathOnHost": "/dev/b", "PathInContainer": "/dev/c", "CgroupPermissions": "r"},
        {"PathOnHost": "/dev/d", "PathInContainer": "/dev/d", "CgroupPermissions": "rw"},
    ]
    assert host(log_driver="local", log_opts={"max-size": "1m"})["LogConfig"] == {
        "Type": "local",
        "Config": {"max-size": "1m"},
    }
    assert host(extra_hosts={"a": "1.2.3.4"})["ExtraHosts"] == ["a:1.2.3.4"]
    body, name, platform = container_body(
        "image", "echo hi", {"environment": {"A": 1, "B": None}, "name": "n", "stdin": True, "user": 0}
    )
    assert (body["Cmd"], body["Env"], body["User"], name, platform) == (
        ["/bin/sh", "-c", "echo hi"], ["A=1", "B"], "0", "n", "",
    )  # fmt: skip
    assert body["OpenStdin"] and body["StdinOnce"] and body["AttachStdin"]


def test_a_repl_completes_what_is_loaded_late() -> None:
    assert {"connect", "Container", "Mount", "__version__"} <= set(dir(wherry))
