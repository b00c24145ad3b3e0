"""docker-py: what Python programs do with an engine."""

import io
import socket
import tarfile
import threading
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound

from tests.support.api_definition import ApiDefinition


@pytest.fixture
def client(docker_client: Any, busybox: str) -> Any:
    return docker_client


@pytest.fixture
def sleeper(client: Any, busybox: str) -> Any:
    return client.containers.run(busybox, ["sleep", "1000"], detach=True, name="sleeper")


def test_run_gives_the_output(client: Any, busybox: str) -> None:
    assert client.containers.run(busybox, "echo hello", remove=True) == b"hello\n"
    line = ["sh", "-c", "echo out; echo err >&2"]
    assert client.containers.run(busybox, line, remove=True) == b"out\n"
    assert client.containers.run(busybox, line, remove=True, stderr=True, stdout=False) == b"err\n"
    assert client.containers.list(all=True) == []


def test_run_as_a_stream_is_a_line_an_item(client: Any, busybox: str) -> None:
    assert list(client.containers.run(busybox, ["printf", "one\ntwo\nthree"], stream=True)) == [
        b"one\n",
        b"two\n",
        b"three",
    ]


def test_run_that_fails(client: Any, busybox: str) -> None:
    with pytest.raises(ContainerError) as failure:
        client.containers.run(busybox, ["sh", "-c", "echo why >&2; exit 3"], remove=True)
    assert (failure.value.exit_status, failure.value.stderr) == (3, b"why\n")
    with pytest.raises(APIError, match="executable file not found"):
        client.containers.run(busybox, "nosuchprogram", remove=True)
    with pytest.raises(NotFound, match="No such container: absent"):
        client.containers.get("absent")
    with pytest.raises(ImageNotFound):
        client.images.get("absent")


def test_a_container_from_start_to_end(client: Any, busybox: str) -> None:
    container = client.containers.create(
        busybox, ["sh", "-c", "trap 'exit 5' TERM; echo $A; while :; do sleep 0.05; done"],
        name="made", environment={"A": "value"}, labels={"a": "b"}, hostname="host", mem_limit="64m",
    )  # fmt: skip
    assert (container.status, container.name, container.labels) == ("created", "made", {"a": "b"})
    container.start()
    assert next(container.logs(stream=True, follow=True)) == b"value\n"
    container.reload()
    assert container.status == "running"
    assert client.containers.list(filters={"label": "a=b"}) == [container]
    container.pause()
    container.unpause()
    container.rename("other")
    container.restart(timeout=10)
    while container.logs() != b"value\n" * 2:
        pass
    container.stop(timeout=10)
    assert container.wait() == {"StatusCode": 5}
    assert container.logs(tail=1) == b"value\n"
    container.remove()
    assert client.containers.list(all=True) == []


def test_exec_run(sleeper: Any) -> None:
    assert sleeper.exec_run(["sh", "-c", "echo out; exit 3"]) == (3, b"out\n")
    assert sleeper.exec_run("sh -c 'echo out; echo err >&2'", demux=True) == (0, (b"out\n", b"err\n"))
    assert sleeper.exec_run("id -u", user="1234").output == b"1234\n"
    assert sleeper.exec_run("pwd", workdir="/tmp").output == b"/tmp\n"
    assert sleeper.exec_run(["sh", "-c", "echo $A"], environment={"A": "1"}).output == b"1\n"
    assert sleeper.exec_run("nosuchprogram").exit_code == 126
    code, stream = sleeper.exec_run(["sh", "-c", "echo one; sleep 0.2; echo two"], stream=True)
    assert (code, list(stream)) == (None, [b"one\n", b"two\n"])
    code, pairs = sleeper.exec_run(["sh", "-c", "echo out; sleep 0.1; echo err >&2"], stream=True, demux=True)
    assert list(pairs) == [(b"out\n", None), (None, b"err\n")]


def test_exec_on_a_terminal_is_framed_where_the_client_wants_frames(sleeper: Any) -> None:
    assert sleeper.exec_run(["sh", "-c", "tty >/dev/null && echo terminal"], tty=True).output == b"terminal\r\n"
    api = sleeper.client.api
    made = api.exec_create(sleeper.id, ["echo", "hello"], tty=True)
    assert api.exec_start(made, demux=True) == (b"hello\r\n", None)


def test_exec_by_its_socket(sleeper: Any) -> None:
    _, stream = sleeper.exec_run("cat", stdin=True, socket=True)
    with stream._sock as sock:
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := sock.recv(4096):
            received += chunk
    assert received == b"\x01\0\0\0\0\0\0\x05hello"


def test_attach(client: Any, busybox: str) -> None:
    container = client.containers.create(busybox, "cat", stdin_open=True)
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    with stream._sock as sock:
        sock.sendall(b"back\n")
        assert sock.recv(100) == b"\x01\0\0\0\0\0\0\x05back\n"
    container.kill()
    talker = client.containers.create(busybox, ["sh", "-c", "echo one; echo two >&2"])
    output = talker.attach(stream=True, demux=True)
    talker.start()
    assert sorted(output, key=str) == [(None, b"two\n"), (b"one\n", None)]


def test_logs_follow_to_the_end_and_can_be_left(client: Any, busybox: str) -> None:
    container = client.containers.run(busybox, ["sh", "-c", "seq 3; sleep 1000"], detach=True)
    logs = container.logs(stream=True, follow=True)
    assert [next(logs) for _ in range(3)] == [b"1\n", b"2\n", b"3\n"]
    threading.Timer(0.1, logs.close).start()
    assert list(logs) == []


def test_stats(sleeper: Any, api_definition: ApiDefinition) -> None:
    sample = sleeper.stats(stream=False)
    api_definition.check("GET", "/containers/sleeper/stats", 200, sample)
    assert sample["memory_stats"]["usage"] > 0
    assert sample["pids_stats"]["current"] == 1
    assert next(sleeper.stats(decode=True))["name"] == "/sleeper"


def test_events(client: Any, busybox: str) -> None:
    events = client.events(decode=True, filters={"type": "container"})
    seen: list[str] = []

    def listen() -> None:
        seen.extend(event["Action"] for _, event in zip(range(4), events, strict=False))

    listener = threading.Thread(target=listen)
    listener.start()
    client.containers.run(busybox, "true", remove=True, name="eventful")
    listener.join(20)
    events.close()
    assert seen == ["create", "start", "die", "destroy"]


def test_files_in_and_out(client: Any, busybox: str) -> None:
    container = client.containers.create(busybox, ["cat", "/tmp/file"])
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("file")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"hello"))
    assert container.put_archive("/tmp", buffer.getvalue())
    container.start()
    container.wait()
    assert container.logs() == b"hello"
    chunks, stat = container.get_archive("/tmp/file")
    assert (stat["name"], stat["size"]) == ("file", 5)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        extracted = archive.extractfile("file")
        assert extracted is not None
        assert extracted.read() == b"hello"
    with pytest.raises(NotFound, match="Could not find the file /absent in container"):
        container.get_archive("/absent")


def test_diff_commit_and_the_image(client: Any, busybox: str, clean_images: None) -> None:
    container = client.containers.run(busybox, ["touch", "/new"], detach=True)
    container.wait()
    assert container.diff() == [{"Path": "/new", "Kind": 1}]
    image = container.commit(repository="made", tag="one", message="why", changes=["CMD echo made"])
    assert image.tags == ["made:one"]
    assert client.containers.run("made:one", remove=True) == b"made\n"
    assert image.history()[0]["Comment"] == "why"
    assert image.tag("again", "two")
    assert sorted(client.images.get("again:two").tags) == ["again:two", "made:one"]
    saved = b"".join(image.save(named=True))
    client.images.remove("made:one")
    client.images.remove("again:two")
    assert "made:one" in {tag for loaded in client.images.load(saved) for tag in loaded.tags}
    with pytest.raises(docker.errors.ImageLoadError):
        client.images.load(b"this is no archive" * 100)


def test_top_and_ports(client: Any, busybox: str, sleeper: Any) -> None:
    assert sleeper.top()["Processes"][0][-1] == "sleep 1000"
    made = client.containers.create(busybox, ports={"80/tcp": ("127.0.0.1", 8080), "53/udp": None})
    bindings = client.api.inspect_container(made.id)["HostConfig"]["PortBindings"]
    assert bindings == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
        "53/udp": [{"HostIp": "", "HostPort": ""}],
    }


def test_volumes(client: Any, busybox: str, shared_directory: Path) -> None:
    volume = client.volumes.create("named", labels={"a": "b"})
    assert client.volumes.list(filters={"label": "a=b"}) == [volume]
    mounts = {"named": {"bind": "/data", "mode": "rw"}, str(shared_directory): {"bind": "/bound", "mode": "ro"}}
    client.containers.run(busybox, ["touch", "/data/x"], volumes=mounts, remove=True)
    assert client.containers.run(busybox, ["ls", "/data"], volumes=mounts, remove=True) == b"x\n"
    with pytest.raises(ContainerError):
        client.containers.run(busybox, ["touch", "/bound/x"], volumes=mounts, remove=True)
    volume.remove()
    with pytest.raises(NotFound):
        client.volumes.get("named")
    made = client.api.create_volume()
    assert client.api.inspect_volume(made["Name"]) == made
    assert made in client.api.volumes()["Volumes"]
    assert client.volumes.prune()["VolumesDeleted"] == [made["Name"]]
    with pytest.raises(NotFound):
        client.api.create_volume("named", "no-such-driver")
    with pytest.raises(NotFound):
        client.api.remove_volume(made["Name"])


def test_the_engine(client: Any, api_definition: ApiDefinition) -> None:
    assert client.ping()
    api_definition.check("GET", "/info", 200, client.info())
    assert client.version()["ApiVersion"] == "1.54"
    for version in ("1.24", "1.41", "1.51", "1.54"):
        older = docker.APIClient(
            base_url=client.api.base_url.replace("http+docker://localhost", _address(client)), version=version
        )
        assert older.version()["Os"] == "linux"
        older.close()


def _address(client: Any) -> str:
    return f"unix://{client.api._custom_adapter.socket_path}"


def test_without_a_network(client: Any, busybox: str) -> None:
    shown = client.containers.run(busybox, ["ls", "/sys/class/net"], network_disabled=True)
    assert shown.split() == [b"lo"]
    container = client.containers.list(all=True)[0]
    assert container.attrs["NetworkSettings"]["Networks"] == {}
