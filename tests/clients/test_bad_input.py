"""What users get wrong: one clear line, Docker's exit code, and nothing half-made."""

import pytest

from tests.clients.conftest import Cli
from tests.support.engine import Engine, Response


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--nosuch"], "unknown flag: --nosuch"),
        (["-m", "much"], 'invalid argument "much" for "-m, --memory" flag'),
        (["--cpus", "1000"], "Range of CPUs is from 0.01 to "),
        (["--cpuset-cpus", "999"], "Requested CPUs are not available - requested 999, available: 0"),
        (["--cpuset-cpus", "x"], "Invalid value x for cpuset cpus"),
        (["--memory-swap", "50m"], "You should always set the Memory limit when using Memoryswap limit, see usage"),
        (["--restart", "always", "--rm"], "conflicting options: cannot specify both --restart and --rm"),
        (["--restart", "nosuch"], "invalid restart policy"),
        (["--runtime", "nosuch"], "nosuch"),
        (["--log-driver", "nosuch"], "nosuch"),
        (["--log-opt", "nosuch=1"], "unknown log opt 'nosuch' for "),
        (["--stop-signal", "NOSUCH"], "nvalid signal: NOSUCH"),
        (["--isolation", "hyperv"], "linux only supports 'default'"),
        (["--network", "nosuch"], "network nosuch not found"),
        (["--ulimit", "nosuch=1"], "invalid ulimit type: nosuch"),
        (["--name", "-bad"], "Invalid container name (-bad), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        (["--rm", "-u", "4294967296"], "Error response from daemon: uids and gids must be in range 0-2147483647"),
        (["--rm", "-u", "nobody", "--group-add", "nosuch"], "Error response from daemon: unable to find "),
        (["-w", "relative"], "it needs to be an absolute path"),
        (["--health-cmd", "x", "--health-interval", "1us"], "Interval in Healthcheck cannot be less than 1ms"),
        (["--platform", "linux/s390x", "--pull", "never"], "linux/s390x"),
    ],
)  # fmt: skip
def test_run_refuses(cli: Cli, busybox: str, arguments: list[str], text: str) -> None:
    said = cli.fails("run", *arguments, busybox, "true", code=125)
    assert text in said
    assert cli.ok("ps", "-aq") == "" or "network" in text
    assert "Traceback" not in said


def test_an_image_that_does_not_exist(cli: Cli, busybox: str) -> None:
    said = cli.fails("run", "--pull", "never", "no/such:image", code=125)
    assert said.startswith("PROGRAM: Error response from daemon: No such image: no/such:image\n")
    assert "invalid reference format" in cli.fails("run", "BAD", code=125)
    assert cli.ok("ps", "-aq") == ""


def test_ipc_is_shared_only_by_those_who_want_to(cli: Cli, busybox: str, sleeper: str) -> None:
    said = cli.fails("run", "--rm", "--ipc", f"container:{sleeper}", busybox, "true", code=125)
    assert "non-shareable IPC (hint: use IpcMode:shareable for the donor container)" in said


def test_commands_that_do_not_exist(cli: Cli, engine: Engine) -> None:
    assert "unknown command: PROGRAM nosuch" in cli.fails("nosuch")
    assert "unknown flag: --nosuch" in cli.fails("ps", "--nosuch", code=125)
    assert "requires at least 1 argument" in cli.fails("run", code=1)
    assert "requires 1 argument" in cli.fails("logs")


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"{", 400, "invalid JSON"),
        (b"[]", 400, ""),
        (b'"text"', 400, ""),
        (b"", 400, "invalid JSON: got EOF while reading request body"),
        (b" ", 400, "invalid JSON: got EOF while reading request body"),
        (b"{}", 400, ""),
        (b'{"Image": 3}', 400, "Image"),
        (b'{"Image": "busybox", "Cmd": 3}', 400, "Cmd"),
        (b'{"Image": "busybox", "Env": {"A": "1"}}', 400, "Env"),
        (b'{"Image": "busybox", "HostConfig": {"Memory": "64m"}}', 400, "Memory"),
        (b'{"Image": "busybox", "HostConfig": []}', 400, "HostConfig"),
        (b'{"Image": "busybox", "Labels": {"a": 1}}', 400, "Labels"),
        (b'{"Image": "busybox", "Tty": "yes"}', 400, "Tty"),
        (b'{"Image": "absent"}', 404, "No such image: absent:latest"),
    ],
)
def test_json_of_the_wrong_shape(engine: Engine, busybox: str, body: bytes, status: int, text: str) -> None:
    answer = engine.request("POST", "/v1.51/containers/create", body, {"Content-Type": "application/json"})
    assert answer.status == status, answer
    assert list(answer.body) == ["message"]
    assert text in answer.body["message"]
    assert "\n" not in answer.body["message"].strip()
    assert engine.request("GET", "/v1.51/containers/json?all=1").body == []


def test_what_does_not_say_that_it_is_json(engine: Engine) -> None:
    answer = engine.request("POST", "/v1.51/containers/create", b"{}", {"Content-Type": "text/plain"})
    assert answer.status == 400
    assert answer.body["message"] == "unsupported Content-Type header (text/plain): must be 'application/json'"


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1.51/nosuch", 404, "page not found"),
        ("/v1.99/info", 400, "client version 1.99 is too new. Maximum supported API version is 1.54"),
        ("/v1.51/containers/absent/json", 404, "No such container: absent"),
        ("/v1.51/containers/json?limit=x", 400, 'strconv.Atoi: parsing "x": invalid syntax'),
        ("/v1.51/containers/json?filters=x", 400, "invalid filter"),
        ("/v1.51/containers/absent/logs?stdout=1", 404, "No such container: absent"),
        ("/v1.51/exec/absent/json", 404, "No such exec instance: absent"),
        ("/v1.51/images/absent/json", 404, "No such image: absent:latest"),
        ("/v1.51/volumes/absent", 404, "get absent: no such volume"),
        ("/v1.51/services", 503, None),
    ],
)  # fmt: skip
def test_paths_that_lead_nowhere(engine: Engine, path: str, status: int, message: str | None) -> None:
    answer: Response = engine.request("GET", path)
    assert answer.status == status
    if message is not None:
        assert answer.body == {"message": message}


@pytest.mark.parametrize("options", [["--device", "/dev/later"], ["--device-read-bps", "/dev/later:1mb"]])
def test_a_device_may_come_after_the_container_was_made(cli: Cli, busybox: str, options: list[str]) -> None:
    made = cli.ok("create", *options, busybox, "true")
    assert "/dev/later" in cli.fails("start", made)
    assert cli.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", made) == "created 128"
