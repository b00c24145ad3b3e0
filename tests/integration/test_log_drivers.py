"""Log drivers, by the docker CLI: what they write, and what ``logs`` reads back of it."""

import contextlib
import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from tests.support.engine import Engine, docker_cli
from tests.support.frames import frames

Run = Callable[..., subprocess.CompletedProcess[str]]

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
SECONDS = 20  # until a test that waits for a socket has failed


def inspect(docker: Run, template: str) -> str:
    return docker("inspect", "-f", template, "talker", check=True).stdout.strip()


def logs(docker: Run, *options: str) -> str:
    return docker("logs", *options, "talker", check=True).stdout


@contextlib.contextmanager
def following(engine: Engine) -> Iterator[TextIO]:
    """What ``logs -f`` shows."""
    command = [docker_cli(), "logs", "-f", "talker"]
    with subprocess.Popen(
        command, env={**os.environ, "DOCKER_HOST": engine.host}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout


def options_of(driver: str, *options: str) -> list[str]:
    return ["--log-driver", driver, *(word for option in options for word in ("--log-opt", option))]


def run(docker: Run, busybox: str, driver: str, line: str, *options: str) -> None:
    arguments = ["-d", "--name", "talker", *options_of(driver, *options), "-l", "who=me", busybox, "sh", "-c", line]
    docker("run", *arguments, check=True)
    docker("wait", "talker", check=True)


@pytest.mark.parametrize(("limit", "kept"), [((), b"\xff"), (("max-size=1m",), "\N{REPLACEMENT CHARACTER}".encode())])
def test_json_file_on_disk(docker: Run, busybox: str, engine: Engine, limit: tuple[str, ...], kept: bytes) -> None:
    """JSON has no room for a byte that is no UTF-8; ``logs`` has it where there is another file besides."""
    run(docker, busybox, "json-file", "printf '<a>\\t\"b\"\\n\\377\\nend'", "labels=who", "tag={{.Name}}", *limit)
    path = Path(inspect(docker, "{{.LogPath}}"))
    assert path.name == f"{inspect(docker, '{{.Id}}')}-json.log"
    texts, times = zip(*(line.split(',"time":') for line in path.read_text().splitlines()), strict=True)
    rest = '","stream":"stdout","attrs":{"tag":"talker","who":"me"}'
    assert texts == (
        r'{"log":"\u003ca\u003e\u0009\"b\"\n' + rest, r'{"log":"\ufffd\n' + rest, '{"log":"end' + rest
    )  # fmt: skip
    assert all(re.fullmatch(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"}', time) for time in times)
    framed = engine.request("GET", "/containers/talker/logs?stdout=1").body
    assert b"".join(text for _, text in frames(framed)) == b'<a>\t"b"\n' + kept + b"\nend"


FLOOD = "seq 200000; until [ -e /go ]; do sleep 0.01; done; seq 200001 400000"


def lines_of(path: Path) -> list[int]:
    return [int(json.loads(line)["log"]) for line in path.read_text().splitlines()]


def test_the_default_driver(docker: Run, busybox: str) -> None:
    """cri-dockerd links to the file only where both say json-file."""
    docker("run", "--name", "talker", busybox, "echo", "one", check=True)
    assert inspect(docker, "{{json .HostConfig.LogConfig}}") == '{"Type":"json-file","Config":{}}'
    assert docker("info", "-f", "{{.LoggingDriver}}", check=True).stdout == "json-file\n"
    (line,) = Path(inspect(docker, "{{.LogPath}}")).read_text().splitlines()
    assert json.loads(line) | {"time": ""} == {"log": "one\n", "stream": "stdout", "time": ""}


def test_a_log_is_whole_when_it_is_opened(docker: Run, busybox: str) -> None:
    docker("run", "-d", "--name", "talker", busybox, "sh", "-c", FLOOD, check=True)
    path = Path(inspect(docker, "{{.LogPath}}"))
    while len(shown := logs(docker).splitlines()) < 200_000:
        assert lines_of(path)[: len(shown)] == [int(line) for line in shown]
    assert lines_of(path) == list(range(1, 200_001))
    docker("exec", "talker", "touch", "/go")
    docker("wait", "talker", check=True)
    assert lines_of(path) == list(range(1, 400_001))
    assert logs(docker) == "".join(f"{number}\n" for number in range(1, 400_001))


def test_a_shipper_that_has_it_open_sees_it_grow(docker: Run, busybox: str) -> None:
    line = "echo 0; until [ -e /go ]; do sleep 0.01; done; seq 200000; sleep 1000"
    docker("run", "-d", "--name", "talker", busybox, "sh", "-c", line, check=True)
    with open(inspect(docker, "{{.LogPath}}")) as shipper:
        docker("exec", "talker", "touch", "/go", check=True)
        deadline = time.monotonic() + SECONDS
        seen = ""
        while seen.count("\n") < 200_001:
            assert time.monotonic() < deadline
            seen += shipper.read()
    assert [int(json.loads(line)["log"]) for line in seen.splitlines()] == list(range(200_001))


def test_a_log_is_whole_although_its_monitor_was_killed(docker: Run, busybox: str, engine: Engine) -> None:
    docker("run", "-d", "--name", "talker", busybox, "sh", "-c", FLOOD, check=True)
    container = inspect(docker, "{{.Id}}")
    (monitor,) = [
        pid
        for pid in engine.processes()
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(f"wherry-monitor {container}".encode())
    ]
    os.kill(monitor, signal.SIGKILL)
    docker("wait", "talker", check=True)
    path = Path(inspect(docker, "{{.LogPath}}"))
    shown = [int(line) for line in logs(docker).splitlines()]
    deadline = time.monotonic() + SECONDS
    while lines_of(path) != shown:
        assert time.monotonic() < deadline
    assert shown == list(range(1, len(shown) + 1))


def test_local_has_no_log_path(docker: Run, busybox: str) -> None:
    run(docker, busybox, "local", "echo one")
    assert inspect(docker, "{{.LogPath}}|{{.HostConfig.LogConfig.Type}}") == "|local"
    assert logs(docker) == "one\n"


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_rotated_and_compressed(docker: Run, busybox: str, engine: object, driver: str) -> None:
    run(docker, busybox, driver, "seq 20000", "max-size=100k", "max-file=4", "compress=true")
    directory = Path(inspect(docker, "{{.HostsPath}}")).parent
    stem = f"{inspect(docker, '{{.Id}}')}-json.log" if driver == "json-file" else "container.log"
    files = {path.name.removeprefix(stem): path for path in directory.glob(f"{stem}*")}
    expected = ["", ".1.gz", ".2.gz", ".3.gz"] if driver == "json-file" else ["", ".1.gz"]
    assert sorted(files) == expected
    assert files[""].stat().st_size <= 100 << 10
    assert all(len(gzip.decompress(files[name].read_bytes())) <= 100 << 10 for name in expected[1:])
    found = [int(line) for line in logs(docker).splitlines()]
    assert found == list(range(found[0], 20001))
    assert logs(docker, "--tail", str(len(found) - 5)) == "".join(f"{number}\n" for number in found[5:])


@pytest.mark.parametrize("driver", ["json-file", "local"])
@pytest.mark.parametrize(("size", "files"), [("2k", "1"), ("2k", "2"), ("200k", "3")])
def test_following_across_rotations(
    docker: Run, busybox: str, engine: Engine, driver: str, size: str, files: str
) -> None:
    line = "echo 0; until [ -e /go ]; do sleep 0.01; done; seq 20000"
    options = options_of(driver, f"max-size={size}", f"max-file={files}")
    docker("run", "-d", "--name", "talker", *options, busybox, "sh", "-c", line, check=True)
    with following(engine) as output:
        assert output.readline() == "0\n"
        docker("exec", "talker", "touch", "/go", check=True)
        assert [int(number) for number in output] == list(range(1, 20001))


@pytest.mark.parametrize("driver", ["json-file", "local"])
@pytest.mark.parametrize("way", ["truncate", "copytruncate", "rename"])
def test_a_log_that_others_cut(docker: Run, busybox: str, engine: Engine, driver: str, way: str) -> None:
    line = "seq 1000; until [ -e /go ]; do sleep 0.01; done; seq 1001 3000"
    docker("run", "-d", "--name", "talker", *options_of(driver), busybox, "sh", "-c", line, check=True)
    directory = Path(inspect(docker, "{{.HostsPath}}")).parent
    path = inspect(docker, "{{.LogPath}}") or f"{directory}/container.log"
    with following(engine) as output:
        assert [int(output.readline()) for _ in range(1000)] == list(range(1, 1001))
        if way == "rename":
            os.rename(path, f"{path}-old")
        else:
            if way == "copytruncate":
                shutil.copy(path, f"{path}-old")
            os.truncate(path, 0)
        docker("exec", "talker", "touch", "/go", check=True)
        assert [int(number) for number in output] == list(range(1001, 3001))
    assert [int(number) for number in logs(docker).splitlines()] == list(range(1001, 3001))


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_what_logs_can_choose(docker: Run, busybox: str, driver: str) -> None:
    run(docker, busybox, driver, "echo one; sleep 0.1; echo two; sleep 0.1; echo three >&2", "labels=who")
    finished = docker("logs", "talker", check=True)
    assert (finished.stdout, finished.stderr) == ("one\ntwo\n", "three\n")
    first, second = (line.split(" ") for line in logs(docker, "-t").splitlines())
    assert _TIME.fullmatch(first[0])
    assert _TIME.fullmatch(second[0])
    assert logs(docker, "--since", second[0]) == "two\n"
    assert logs(docker, "--until", first[0]) == "one\n"
    assert logs(docker, "--tail", "2") == "two\n"
    assert logs(docker, "--details", "--tail", "2") == "who=me two\n"


def test_many_lines_come_back(docker: Run, busybox: str) -> None:
    run(docker, busybox, "json-file", "seq 200000 >/dev/stdout")
    assert logs(docker) == "".join(f"{number}\n" for number in range(1, 200001))
    path = Path(inspect(docker, "{{.LogPath}}"))
    with path.open() as lines:
        assert [json.loads(line)["log"] for line in lines] == [f"{number}\n" for number in range(1, 200001)]


def test_syslog(docker: Run, busybox: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(f"{tmp_path}/syslog")
        server.settimeout(SECONDS)
        run(
            docker,
            busybox,
            "syslog",
            "echo one; echo two",
            f"syslog-address=unixgram://{tmp_path}/syslog",
            "tag={{.Name}}",
        )
        received = [server.recv(65536) for _ in range(2)]
    assert [re.sub(rb">.*? talker\[\d+\]", b"> talker", message) for message in received] == [
        b"<30> talker: one\n", b"<30> talker: two\n"
    ]  # fmt: skip
    assert logs(docker) == "one\ntwo\n"


def test_syslog_without_a_file_beside(docker: Run, busybox: str) -> None:
    run(docker, busybox, "syslog", "echo one", "syslog-address=udp://127.0.0.1:9", "cache-disabled=true")
    failed = docker("logs", "talker")
    assert failed.stderr == "Error response from daemon: configured logging driver does not support reading\n"


def test_nobody_to_send_to(docker: Run, busybox: str) -> None:
    failed = docker("run", *options_of("syslog", "syslog-address=tcp://127.0.0.1:1"), busybox, "true")
    assert "failed to initialize logging driver" in failed.stderr
    assert "onnection refused" in failed.stderr


def test_what_the_engine_offers(docker: Run, engine: object) -> None:
    offered = json.loads(docker("info", "-f", "{{json .Plugins.Log}}", check=True).stdout)
    assert offered == ["journald", "json-file", "local", "syslog"]


def test_unknown_drivers_and_options(docker: Run, busybox: str) -> None:
    def refusal(driver: str, *options: str) -> str:
        return docker("create", *options_of(driver, *options), busybox).stderr.split("\n")[0].partition(": ")[2]

    assert refusal("nope") == 'error looking up logging plugin nope: plugin "nope" not found'
    assert refusal("json-file", "foo=bar") == "unknown log opt 'foo' for json-file log driver"
    assert refusal("json-file", "mode=x") == "logger: logging mode not supported: x"
