"""The API of a real engine: every answer is checked against the API's own definition."""

import base64
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.api_definition import ApiDefinition
from tests.support.engine import Engine, Response
from tests.support.frames import frames

Ask = Callable[..., Response]


@pytest.fixture
def ask(engine: Engine, api_definition: ApiDefinition) -> Ask:
    """Asks the engine, and checks what it answers: ``ask("GET", "/info")``; ``status`` is the one expected."""

    def ask(method: str, path: str, body: Any = None, status: int = 200) -> Response:
        response = engine.request(method, f"/v1.54{path}", body)
        assert response.status == status, response
        check(api_definition, method, path, response)
        return response

    return ask


def check(api_definition: ApiDefinition, method: str, path: str, response: Response) -> None:
    """Docker gives errors that its definition does not list; they are of the one shape that errors have."""
    try:
        api_definition.check(method, path, response.status, response.body)
    except KeyError:
        assert response.status >= 400
        assert list(response.body) == ["message"]


@pytest.fixture
def make(ask: Ask, busybox: str) -> Callable[..., str]:
    """Makes a container that runs a line of shell: ``make("sleep 100", Tty=True)`` is its id."""

    def make(line: str, **config: Any) -> str:
        body = {"Image": busybox, "Cmd": ["sh", "-c", line], **config}
        container_id: str = ask("POST", "/containers/create", body, status=201).body["Id"]
        return container_id

    return make


@pytest.fixture
def running(ask: Ask, make: Callable[..., str]) -> str:
    """The id of a container that sleeps."""
    container_id = make("sleep 1000")
    ask("POST", f"/containers/{container_id}/start", status=204)
    return container_id


def wait(ask: Ask, container_id: str) -> int:
    code: int = ask("POST", f"/containers/{container_id}/wait").body["StatusCode"]
    return code


class Stream:
    """A connection that was taken over."""

    def __init__(self, engine: Engine, path: str, body: Any = None) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(engine.socket))
        data = b"" if body is None else json.dumps(body).encode()
        head = f"POST /v1.54{path} HTTP/1.1\r\nHost: e\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        if data:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        self.sock.sendall(f"{head}\r\n".encode() + data)
        self.rest = b""
        while b"\r\n\r\n" not in self.rest:
            self.rest += self.sock.recv(65536)
        self.head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        assert self.head.startswith(b"HTTP/1.1 101 UPGRADED"), self.head

    def read(self) -> bytes:
        """All that comes."""
        data = self.rest
        while chunk := self.sock.recv(65536):
            data += chunk
        return data

    def until(self, text: bytes) -> bytes:
        while text not in self.rest:
            chunk = self.sock.recv(65536)
            assert chunk, self.rest
            self.rest += chunk
        return self.rest


@pytest.fixture
def open_stream(engine: Engine) -> Iterator[Callable[..., Stream]]:
    opened: list[Stream] = []

    def open_stream(path: str, body: Any = None) -> Stream:
        opened.append(Stream(engine, path, body))
        return opened[-1]

    yield open_stream
    for each in opened:
        each.sock.close()


def test_the_engine_describes_itself(ask: Ask, engine: Engine) -> None:
    assert ask("GET", "/version").body["ApiVersion"] == "1.54"
    assert ask("GET", "/info").body["OSType"] == "linux"
    for method, body in (("GET", b"OK"), ("HEAD", b"")):
        pong = engine.request(method, "/_ping")
        assert (pong.status, pong.body, pong.headers["Content-Type"]) == (200, body, "text/plain; charset=utf-8")
        assert (pong.headers["Api-Version"], pong.headers["Ostype"]) == ("1.54", "linux")


def test_a_container_from_its_creation_to_its_removal(ask: Ask, make: Callable[..., str]) -> None:
    container_id = make("exit 3", Labels={"test": "life"})
    listed = ask("GET", '/containers/json?all=1&filters={"label":["test=life"]}&size=1').body
    assert [(each["Id"], each["State"]) for each in listed] == [(container_id, "created")]
    assert ask("GET", f"/containers/{container_id}/json?size=1").body["State"]["Status"] == "created"
    ask("POST", f"/containers/{container_id}/start", status=204)
    assert wait(ask, container_id) == 3
    assert ask("GET", f"/containers/{container_id}/json").body["State"]["ExitCode"] == 3
    ask("POST", f"/containers/{container_id}/stop", status=304)
    ask("DELETE", f"/containers/{container_id}", status=204)
    ask("GET", f"/containers/{container_id}/json", status=404)


def test_a_running_container_is_looked_at_and_signalled(ask: Ask, running: str) -> None:
    ask("POST", f"/containers/{running}/start", status=304)
    assert ask("GET", f"/containers/{running}/json").body["State"]["Running"] is True
    assert ask("GET", f"/containers/{running}/top").body["Titles"]
    assert ask("GET", f"/containers/{running}/stats?stream=0&one-shot=1").body["id"] == running
    ask("POST", f"/containers/{running}/pause", status=204)
    assert ask("GET", "/containers/json").body[0]["State"] == "paused"
    ask("POST", f"/containers/{running}/unpause", status=204)
    ask("POST", f"/containers/{running}/rename?name=renamed", status=204)
    ask("POST", "/containers/renamed/restart?t=0", status=204)
    ask("POST", f"/containers/{running}/kill?signal=KILL", status=204)
    assert wait(ask, running) == 137
    ask("POST", f"/containers/{running}/kill", status=409)


@pytest.mark.parametrize("network", ["bridge", "none", "host", "container"])
def test_every_state_of_a_container(ask: Ask, running: str, make: Callable[..., str], network: str) -> None:
    mode = f"container:{running}" if network == "container" else network
    policy = {"Name": "on-failure", "MaximumRetryCount": 1}
    container_id = make("sleep 1000", HostConfig={"NetworkMode": mode, "RestartPolicy": policy})

    def state() -> str:
        listed = {each["Id"]: each["State"] for each in ask("GET", "/containers/json?all=1").body}
        found = ask("GET", f"/containers/{container_id}/json").body["State"]["Status"]
        assert listed[container_id] == found
        return str(found)

    assert state() == "created"
    ask("POST", f"/containers/{container_id}/start", status=204)
    assert state() == "running"
    ask("POST", f"/containers/{container_id}/pause", status=204)
    assert state() == "paused"
    ask("POST", f"/containers/{container_id}/unpause", status=204)
    ask("POST", f"/containers/{container_id}/stop?t=0", status=204)
    assert state() == "exited"
    for condition in ("", "not-running"):
        assert ask("POST", f"/containers/{container_id}/wait?condition={condition}").body == {"StatusCode": 137}
    ask("POST", f"/containers/{container_id}/wait?condition=never", status=400)


def test_bad_requests_leave_nothing_behind(ask: Ask, busybox: str) -> None:
    body: dict[str, Any] = {"Image": busybox, "Cmd": ["true"]}
    assert (
        "HostConfig.Memory"
        in ask("POST", "/containers/create", body | {"HostConfig": {"Memory": "1g"}}, status=400).body["message"]
    )
    assert ask("POST", "/containers/create", body | {"Image": "no-such-image"}, status=404).body["message"] == (
        "No such image: no-such-image:latest"
    )
    ask("POST", "/containers/create?name=mine", body, status=201)
    assert "already in use" in ask("POST", "/containers/create?name=mine", body, status=409).body["message"]
    assert ask("GET", '/containers/json?filters={"sparkle":["x"]}', status=400).body["message"] == (
        "invalid filter 'sparkle'"
    )
    assert len(ask("GET", "/containers/json?all=1").body) == 1


@pytest.mark.parametrize(("command", "code"), [("nosuch", 127), ("/etc/passwd", 126)])
def test_a_command_that_cannot_be_run(ask: Ask, busybox: str, command: str, code: int) -> None:
    container_id = ask("POST", "/containers/create", {"Image": busybox, "Cmd": [command]}, status=201).body["Id"]
    assert command in ask("POST", f"/containers/{container_id}/start", status=400).body["message"]
    state = ask("GET", f"/containers/{container_id}/json").body["State"]
    assert (state["Status"], state["ExitCode"]) == ("created", code)


def test_attach_before_the_start_sees_everything(
    ask: Ask, make: Callable[..., str], open_stream: Callable[..., Stream]
) -> None:
    container_id = make("read line; echo got $line; echo oh >&2", OpenStdin=True, StdinOnce=True)
    stream = open_stream(f"/containers/{container_id}/attach?stream=1&stdin=1&stdout=1&stderr=1")
    ask("POST", f"/containers/{container_id}/start", status=204)
    stream.sock.sendall(b"this\n")
    stream.sock.shutdown(socket.SHUT_WR)
    assert sorted(frames(stream.read())) == [(1, b"got this\n"), (2, b"oh\n")]


def test_attach_to_a_terminal_and_detach(
    ask: Ask, make: Callable[..., str], open_stream: Callable[..., Stream]
) -> None:
    container_id = make("exec sh", Tty=True, OpenStdin=True)
    stream = open_stream(f"/containers/{container_id}/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,d")
    ask("POST", f"/containers/{container_id}/start", status=204)
    ask("POST", f"/containers/{container_id}/resize?h=40&w=132")
    stream.sock.sendall(b"stty size\r")
    assert b"40 132" in stream.until(b"40 132")
    stream.sock.sendall(b"\x01")
    stream.sock.sendall(b"d")
    stream.read()
    assert ask("GET", f"/containers/{container_id}/json").body["State"]["Running"] is True


def test_logs(ask: Ask, engine: Engine, make: Callable[..., str]) -> None:
    container_id = make("echo one; echo two; sleep 0.1; echo oh >&2")
    ask("POST", f"/containers/{container_id}/start", status=204)
    followed = engine.request("GET", f"/containers/{container_id}/logs?stdout=1&stderr=1&follow=1")
    assert frames(followed.body) == [(1, b"one\ntwo\n"), (2, b"oh\n")]
    last = engine.request("GET", f"/containers/{container_id}/logs?stdout=1&tail=1&timestamps=1").body
    assert frames(last)[0][1].endswith(b"Z two\n")
    ask("GET", f"/containers/{container_id}/logs", status=400)


def test_exec(ask: Ask, running: str, open_stream: Callable[..., Stream]) -> None:
    body = {"Cmd": ["sh", "-c", "cat; exit 5"], "AttachStdin": True, "AttachStdout": True, "AttachStderr": True}
    exec_id = ask("POST", f"/containers/{running}/exec", body, status=201).body["Id"]
    stream = open_stream(f"/exec/{exec_id}/start", {"Detach": False})
    stream.sock.sendall(b"through")
    stream.sock.shutdown(socket.SHUT_WR)
    assert frames(stream.read()) == [(1, b"through")]
    inspected = ask("GET", f"/exec/{exec_id}/json").body
    assert (inspected["Running"], inspected["ExitCode"]) == (False, 5)
    terminal = ask("POST", f"/containers/{running}/exec", {"Cmd": ["sleep", "100"], "Tty": True}, status=201).body["Id"]
    ask("POST", f"/exec/{terminal}/start", {"Detach": True, "Tty": True})
    ask("POST", f"/exec/{terminal}/resize?h=20&w=30")
    ask("POST", f"/exec/{exec_id}/start", {"Detach": True}, status=409)
    ask("POST", f"/containers/{running}/exec", {"Cmd": []}, status=400)


def test_an_exec_that_cannot_be_run(ask: Ask, running: str, open_stream: Callable[..., Stream]) -> None:
    exec_id = ask("POST", f"/containers/{running}/exec", {"Cmd": ["nosuch"], "AttachStdout": True}, status=201).body[
        "Id"
    ]
    assert b"executable file not found in $PATH" in open_stream(f"/exec/{exec_id}/start", {}).read()
    assert ask("GET", f"/exec/{exec_id}/json").body["ExitCode"] == 126


@pytest.fixture
def three_containers(ask: Ask, busybox: str) -> None:
    """One that runs, one that has ended with 3, and one that was never started, made in this order."""
    for name, command in (("running", "sleep 1000"), ("gone", "exit 3"), ("new", "true")):
        body = {"Image": busybox, "Cmd": ["sh", "-c", command]}
        ask("POST", f"/containers/create?name={name}", body, status=201)
        if name != "new":
            ask("POST", f"/containers/{name}/start", status=204)
    ask("POST", "/containers/gone/wait")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("limit=-1", 1), ("limit=0", 1), ("limit=", 1), ("limit=1", 1), ("limit=5", 3), ("all=1&limit=-1", 3),
        ("all=0", 1),
        ('filters={"since":["running"]}', 0), ('filters={"before":["new"]}', 1), ('filters={"exited":["3"]}', 0),
        ('filters={"status":["exited"]}', 1), ('all=1&filters={"since":["running"]}', 2),
    ],
)  # fmt: skip
def test_which_containers_are_listed(
    ask: Ask, three_containers: None, query: str, found: int
) -> None:  # fmt: skip
    """As Docker 26 answers: docker-py always sends limit=-1, and only what runs is meant."""
    assert len(ask("GET", f"/containers/json?{query}").body) == found


def test_an_exec_belongs_to_one_run_of_its_container(ask: Ask, running: str) -> None:
    """As in Docker 26: what was made before a restart and never started is gone; what ran can be asked for."""
    made = ask("POST", f"/containers/{running}/exec", {"Cmd": ["true"]}, status=201).body["Id"]
    ran = ask("POST", f"/containers/{running}/exec", {"Cmd": ["sleep", "100"]}, status=201).body["Id"]
    ask("POST", f"/exec/{ran}/start", {"Detach": True})
    ask("POST", f"/containers/{running}/restart?t=0", status=204)
    ask("GET", f"/exec/{made}/json", status=404)
    ask("POST", f"/exec/{made}/start", {"Detach": True}, status=404)
    assert ask("GET", f"/exec/{ran}/json").body["ExitCode"] == 137
    ask("DELETE", f"/containers/{running}?force=1", status=204)
    ask("GET", f"/exec/{ran}/json", status=404)


def test_changes_commit_history_tag_and_removal(ask: Ask, make: Callable[..., str], busybox: str) -> None:
    container_id = make("echo new > /tmp/made; rm /bin/true")
    ask("POST", f"/containers/{container_id}/start", status=204)
    wait(ask, container_id)
    changes = {each["Path"]: each["Kind"] for each in ask("GET", f"/containers/{container_id}/changes").body}
    assert (changes["/tmp"], changes["/tmp/made"], changes["/bin/true"]) == (0, 1, 2)
    image_id = ask("POST", f"/commit?container={container_id}&repo=made&tag=1&comment=hello", status=201).body["Id"]
    assert ask("GET", "/images/made:1/json").body["Id"] == image_id
    assert ask("GET", "/images/made:1/history").body[0]["Comment"] == "hello"
    ask("POST", "/images/made:1/tag?repo=a/b/again&tag=2", status=201)
    assert any(each["RepoTags"] == ["a/b/again:2", "made:1"] or each["RepoTags"] == ["made:1", "a/b/again:2"]
               for each in ask("GET", "/images/json").body)  # fmt: skip
    assert ask("DELETE", "/images/made:1").body == [{"Untagged": "made:1"}]
    assert {"Deleted": image_id} in ask("DELETE", "/images/a/b/again:2").body
    ask("GET", "/images/made:1/json", status=404)


def test_an_image_goes_out_and_comes_in_again(ask: Ask, engine: Engine, busybox: str) -> None:
    saved = engine.request("GET", f"/images/get?names={busybox}")
    assert (saved.status, saved.headers["Content-Type"]) == (200, "application/x-tar")
    loaded = engine.request("POST", "/images/load", saved.body)
    assert "Loaded image" in json.dumps(loaded.body)
    ask("GET", "/images/no-such-image/get", status=404)
    broken = engine.request("POST", "/images/load", b"this is no tar" * 100)
    assert broken.status == 400 or "errorDetail" in json.dumps(broken.body)


def test_export_is_a_tar(engine: Engine, make: Callable[..., str]) -> None:
    exported = engine.request("GET", f"/containers/{make('true')}/export")
    assert exported.status == 200
    assert exported.body[257:262] == b"ustar"


def test_events_of_the_past(ask: Ask, engine: Engine, make: Callable[..., str], api_definition: ApiDefinition) -> None:
    container_id = make("true")
    ask("POST", f"/containers/{container_id}/start", status=204)
    wait(ask, container_id)
    query = f'since=0&until=9999999999&filters={{"container":["{container_id}"]}}'
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(engine.socket))
        sock.sendall(
            f"GET /v1.54/events?{query.replace('9999999999', '4000000000')} HTTP/1.1\r\nHost: e\r\n\r\n".encode()
        )
        data = b""
        while b'"die"' not in data:
            data += sock.recv(65536)
    events = [json.loads(line) for line in data.split(b"\r\n") if line.startswith(b"{")]
    assert [event["Action"] for event in events] == ["create", "start", "die"]
    for event in events:
        told = {name: value for name, value in event.items() if name not in ("status", "id", "from")}  # of API 1.21
        api_definition.check("GET", "/events", 200, told)


def test_volumes(ask: Ask) -> None:
    ask("POST", "/volumes/create", {"Name": "data", "Labels": {"a": "b"}}, status=201)
    assert [each["Name"] for each in ask("GET", "/volumes").body["Volumes"]] == ["data"]
    assert ask("GET", "/volumes/data").body["Labels"] == {"a": "b"}
    ask("DELETE", "/volumes/data", status=204)
    ask("GET", "/volumes/data", status=404)
    ask("POST", "/volumes/prune")


def test_a_container_with_everything(ask: Ask, busybox: str) -> None:
    """What is asked for is what is told of it, in the shape that the API defines."""
    host = {
        "Memory": 64 << 20, "NanoCpus": 500_000_000, "PidsLimit": 20, "CpusetCpus": "0", "ShmSize": 1 << 20,
        "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}], "Sysctls": {"net.ipv4.ip_forward": "1"},
        "CapAdd": ["NET_ADMIN"], "CapDrop": ["CHOWN"], "SecurityOpt": ["no-new-privileges"], "ReadonlyRootfs": True,
        "Tmpfs": {"/t": "size=1m"}, "Binds": ["told:/data:ro"], "ExtraHosts": ["db:10.0.0.1"], "Dns": ["9.9.9.9"],
        "Mounts": [{"Type": "volume", "Target": "/other", "VolumeOptions": {"Labels": {"a": "b"}}}],
        "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}, "Init": True, "OomScoreAdj": 5,
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}, "LogConfig": {"Type": "json-file"},
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}],
        "Annotations": {"k": "v"},
    }  # fmt: skip
    config = {
        "Image": busybox, "Cmd": ["sleep", "1000"], "Env": ["A=1"], "Labels": {"l": ""}, "User": "1:2",
        "WorkingDir": "/w", "Hostname": "h", "Domainname": "d", "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGINT",
        "StopTimeout": 3, "Healthcheck": {"Test": ["CMD", "true"], "Interval": 50_000_000}, "HostConfig": host,
    }  # fmt: skip
    container_id = ask("POST", "/containers/create?name=full", config, status=201).body["Id"]
    ask("POST", "/containers/full/start", status=204)
    found = ask("GET", "/containers/full/json?size=1").body
    for name, value in host.items():
        if name not in ("Mounts", "LogConfig", "CapAdd", "CapDrop"):
            assert found["HostConfig"][name] == value, name
    for name in config.keys() - {"HostConfig", "Image", "Env"}:
        assert found["Config"][name] == config[name], name
    assert found["Config"]["Env"][0] == "A=1"  # what the image has comes after it
    while found["State"]["Health"]["Status"] == "starting":
        found = ask("GET", "/containers/full/json").body
    assert found["State"]["Health"]["Log"][0]["ExitCode"] == 0
    listed = ask("GET", "/containers/json?size=1").body[0]
    assert {port["PrivatePort"] for port in listed["Ports"]} == {80}
    changed = {"Memory": 32 << 20, "MemorySwap": 64 << 20, "RestartPolicy": {"Name": "no"}}
    assert ask("POST", "/containers/full/update", changed).body == {"Warnings": []}
    assert ask("GET", f"/containers/{container_id}/json").body["HostConfig"]["Memory"] == 32 << 20
    ask("GET", "/containers/full/stats?stream=0")
    ask("DELETE", "/containers/full?force=1&v=1", status=204)
    ask("DELETE", "/volumes/told", status=204)


def test_files_of_a_container(ask: Ask, engine: Engine, make: Callable[..., str]) -> None:
    path = f"/v1.54/containers/{make('true')}/archive?path=/etc/passwd"
    stat = json.loads(base64.b64decode(engine.request("HEAD", path).headers["X-Docker-Container-Path-Stat"]))
    assert set(stat) == {"name", "size", "mode", "mtime", "linkTarget"}
    got = engine.request("GET", path)
    assert got.headers["Content-Type"] == "application/x-tar"
    put = engine.request("PUT", path.replace("/etc/passwd", "/tmp"), got.body)
    assert (put.status, put.body) == (200, b"")
    ask("GET", path.replace("/v1.54", "").replace("passwd", "nothing"), status=404)
    ask("PUT", path.replace("/v1.54", "").replace("/etc/passwd", "/none"), b"", status=404)


def test_networks(ask: Ask, running: str) -> None:
    config = {"Name": "made", "Labels": {"a": "b"}, "IPAM": {"Config": [{"Subnet": "10.199.7.0/24"}]}}
    made = ask("POST", "/networks/create", config, status=201).body["Id"]
    ask("POST", "/networks/create", config, status=409)
    assert {"bridge", "host", "none", "made"} <= {each["Name"] for each in ask("GET", "/networks").body}
    wanted = {"Container": running, "EndpointConfig": {"IPAMConfig": {"IPv4Address": "10.199.7.9"}}}
    ask("POST", "/networks/made/connect", wanted)
    assert ask("GET", "/networks/made").body["Containers"][running]["IPv4Address"] == "10.199.7.9/24"
    assert ask("GET", f"/containers/{running}/json").body["NetworkSettings"]["Networks"]["made"]["NetworkID"] == made
    ask("DELETE", "/networks/made", status=403)
    ask("POST", "/networks/made/disconnect", {"Container": running})
    ask("DELETE", "/networks/made", status=204)
    ask("GET", "/networks/made", status=404)
    assert ask("POST", '/networks/prune?filters={"label":["a"]}').body == {"NetworksDeleted": None}


def test_what_the_disk_holds_and_what_is_taken_away(ask: Ask, make: Callable[..., str]) -> None:
    container_id = make("echo 123 > /f", Labels={"pruned": ""})
    ask("POST", f"/containers/{container_id}/start", status=204)
    wait(ask, container_id)
    image_id = ask("POST", f"/commit?container={container_id}&changes=LABEL+pruned=1", status=201).body["Id"]
    used = ask("GET", "/system/df?verbose=1").body
    assert [each["SizeRw"] for each in used["ContainerUsage"]["Items"]] == [4]
    assert used["ContainerUsage"]["Reclaimable"] == used["ContainerUsage"]["TotalSize"] == 4
    assert image_id in [each["Id"] for each in used["ImageUsage"]["Items"]]
    assert all(usage["ActiveCount"] <= usage["TotalCount"] == len(usage["Items"]) for usage in used.values())
    assert ask("GET", "/system/df?type=volume&verbose=1").body.keys() == {"VolumeUsage"}
    only = '?filters={"label":["pruned"]}'
    assert ask("POST", f"/containers/prune{only}").body == {"ContainersDeleted": [container_id], "SpaceReclaimed": 4}
    assert {"Deleted": image_id} in ask("POST", f"/images/prune{only}").body["ImagesDeleted"]
    ask("POST", f"/volumes/prune{only}")
    ask("POST", "/build/prune")


def test_images_in_every_form(ask: Ask, busybox: str) -> None:
    for query in ("all=1", "digests=1", "shared-size=1", "manifests=1"):
        assert busybox in [tag for each in ask("GET", f"/images/json?{query}").body for tag in each["RepoTags"]]
    ask("GET", f"/images/{busybox}/json?manifests=1")
    ask("GET", "/plugins")
    ask("GET", "/containers/none/json", status=404)


def test_an_image_tells_the_repositories_that_have_it(ask: Ask, engine: Engine, busybox: str) -> None:
    def identities() -> list[Any]:
        listed = ask("GET", "/images/json?manifests=1&identity=1").body
        return [each["ImageData"].get("Identity") for image in listed for each in image["Manifests"]]

    assert "Identity" not in ask("GET", f"/images/{busybox}/json").body
    assert ask("GET", "/images/json?identity=1", status=400).body == {
        "message": "conflicting options: identity requires manifests=1"
    }
    assert identities() == [None] * len(identities())


def test_a_network_tells_how_many_addresses_are_left(ask: Ask, running: str) -> None:
    config = {"Name": "made", "IPAM": {"Config": [{"Subnet": "10.199.8.0/24", "IPRange": "10.199.8.16/28"}]}}
    ask("POST", "/networks/create", config, status=201)
    before = ask("GET", "/networks/made").body["Status"]["IPAM"]["Subnets"]
    ask("POST", "/networks/made/connect", {"Container": running})
    after = ask("GET", "/networks/made").body["Status"]["IPAM"]["Subnets"]
    ask("POST", "/networks/made/disconnect", {"Container": running})
    ask("DELETE", "/networks/made", status=204)
    # Its own address, the one for all of it, and the gateway, which is of the range
    assert before == {"10.199.8.0/24": {"IPsInUse": 3, "DynamicIPsAvailable": 15}}
    assert after == {"10.199.8.0/24": {"IPsInUse": 4, "DynamicIPsAvailable": 14}}


def test_there_is_no_swarm(ask: Ask) -> None:
    for noun in ("swarm", "services", "nodes", "tasks", "secrets", "configs"):
        ask("GET", f"/{noun}", status=503)


@pytest.mark.parametrize("version", ["1.24", "1.30", "1.41", "1.43", "1.51"])
def test_older_clients_are_served(engine: Engine, busybox: str, version: str) -> None:
    prefix = f"/v{version}"
    created = engine.request("POST", f"{prefix}/containers/create", {"Image": busybox, "Cmd": ["true"]})
    assert created.status == 201, created
    container = f"{prefix}/containers/{created.body['Id']}"
    assert engine.request("POST", f"{container}/start").status == 204
    assert engine.request("POST", f"{container}/wait").body == {"StatusCode": 0}
    assert engine.request("GET", f"{container}/json").status == 200
    assert ("VirtualSize" in engine.request("GET", f"{prefix}/images/json").body[0]) is (version != "1.51")
    assert "IPAddress" in engine.request("GET", f"{container}/json").body["NetworkSettings"]
    usage = engine.request("GET", f"{prefix}/system/df?type=image").body  # a part of it can be asked for since 1.42
    assert ("Volumes" in usage) is (version < "1.42")
