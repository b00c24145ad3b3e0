"""stop, kill, rm, wait, port, top, logs, export and their like, against an engine that answers from a script."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripted_engine import Request, ScriptedEngine, answer, error, frame, json_answer
from wherry.cli import main

Call = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("verb", ["stop", "kill", "pause", "unpause", "restart"])
def test_all_are_asked_and_the_errors_told_at_the_end(engine: ScriptedEngine, call: Call, verb: str) -> None:
    engine.on("POST", f"/containers/(a|c)/{verb}", answer(status=204))
    engine.on("POST", f"/containers/b/{verb}", error(404, "No such container: b"))
    engine.on("POST", f"/containers/d/{verb}", error(409, "conflict"))
    code, out, err = call(verb, "a", "b", "c", "d")
    assert (code, out) == (1, "a\nc\n")
    assert err == "Error response from daemon: No such container: b\nError response from daemon: conflict\n"


def test_more_than_fifty(engine: ScriptedEngine, call: Call) -> None:
    engine.on("DELETE", "/containers/.*", answer(status=204))
    names = [f"c{number}" for number in range(120)]
    assert call("rm", *names) == (0, "".join(f"{name}\n" for name in names), "")
    assert engine.connections <= 50


def test_stops_are_under_way_together(engine: ScriptedEngine, call: Call) -> None:
    together = threading.Barrier(3, timeout=20)

    def stop(request: Request, connection: socket.socket) -> bool:
        together.wait()
        return answer(status=204)(request, connection)

    engine.on("POST", ".*/stop", stop)
    assert call("stop", "a", "b", "c") == (0, "a\nb\nc\n", "")


def test_rm_by_force_of_what_is_not_there(engine: ScriptedEngine, call: Call) -> None:
    engine.on("DELETE", "/containers/a", error(404, "No such container: a"))
    engine.on("DELETE", "/containers/b", answer(status=204))
    assert call("rm", "-f", "a", "b") == (0, "b\n", "Error response from daemon: No such container: a\n")
    assert call("rm", "a") == (1, "", "Error response from daemon: No such container: a\n")
    assert call("rm", "/") == (1, "", "container name cannot be empty\n")


def test_wait(engine: ScriptedEngine, call: Call) -> None:
    engine.on("POST", "/containers/a/wait", json_answer({"StatusCode": 137}))
    engine.on("POST", "/containers/b/wait", error(404, "No such container: b"))
    assert call("wait", "b", "a") == (1, "137\n", "Error response from daemon: No such container: b\n")


def test_rename(engine: ScriptedEngine, call: Call) -> None:
    engine.on("POST", "/containers/a/rename", error(409, "in use"))
    assert call("rename", "a", "b") == (
        1,
        "",
        "Error response from daemon: in use\nError: failed to rename container named a\n",
    )


def test_update(engine: ScriptedEngine, call: Call) -> None:
    engine.on("POST", "/containers/a/update", json_answer({"Warnings": ["no swap limit"]}))
    engine.on("POST", "/containers/b/update", error(404, "No such container: b"))
    assert call("update", "--cpus", "1", "a", "b") == (
        1,
        "a\nno swap limit\n",
        "Error response from daemon: No such container: b\n",
    )


PORTS = {
    "443/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8443"}, {"HostIp": "::", "HostPort": "8443"}],
    "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
    "53/udp": None,
}


def test_port(engine: ScriptedEngine, call: Call) -> None:
    engine.on("GET", "/containers/a/json", json_answer({"NetworkSettings": {"Ports": PORTS}}))
    assert call("port", "a") == (
        0,
        "80/tcp -> 127.0.0.1:8080\n443/tcp -> 0.0.0.0:8443\n443/tcp -> [::]:8443\n",
        "",
    )
    assert call("port", "a", "80") == (0, "127.0.0.1:8080\n", "")
    assert call("port", "a", "443/tcp") == (0, "0.0.0.0:8443\n[::]:8443\n", "")
    assert call("port", "a", "53/udp") == (1, "", "Error: No public port '53/udp' published for a\n")
    assert call("port", "a", "x") == (
        1,
        "",
        'Error: invalid port (x): strconv.ParseUint: parsing "x": invalid syntax\n',
    )


def test_top(engine: ScriptedEngine, call: Call) -> None:
    engine.on(
        "GET",
        "/containers/a/top",
        json_answer({"Titles": ["PID", "CMD"], "Processes": [["1", "sleep 1"], ["22", "x"]]}),
    )
    code, out, _ = call("top", "a", "-o", "pid,cmd")
    assert (code, out.splitlines()) == (
        0,
        ["PID                 CMD", "1                   sleep 1", "22                  x"],
    )
    assert engine.requests[0].query == {"ps_args": ["-o pid,cmd"]}


def test_diff(engine: ScriptedEngine, call: Call) -> None:
    engine.on(
        "GET",
        ".*/changes",
        json_answer([{"Kind": 0, "Path": "/a"}, {"Kind": 1, "Path": "/a/b"}, {"Kind": 2, "Path": "/c"}]),
    )
    assert call("diff", "a") == (0, "C /a\nA /a/b\nD /c\n", "")
    engine.on("GET", ".*/changes", json_answer(None))
    assert call("diff", "a") == (0, "", "")


def test_commit(engine: ScriptedEngine, call: Call) -> None:
    engine.on("POST", "/commit", json_answer({"Id": "sha256:1"}, status=201))
    assert call("commit", "a") == (0, "sha256:1\n", "")


def inspected(tty: bool) -> Any:
    return json_answer({"Id": "a", "Config": {"Tty": tty}})


def test_logs(engine: ScriptedEngine, call: Call) -> None:
    engine.on("GET", "/containers/a/json", inspected(False))
    engine.on("GET", "/containers/a/logs", answer(frame(1, b"out\n") + frame(2, b"err\n")))
    assert call("logs", "-t", "--tail", "5", "--since", "1700000000", "a") == (0, "out\n", "err\n")
    assert engine.requests[-1].query == {
        "stdout": ["1"], "stderr": ["1"], "since": ["1700000000"], "timestamps": ["1"], "tail": ["5"],
    }  # fmt: skip
    assert call("logs", "--until", "x", "a")[2] == (
        'invalid value for "until": failed to parse value as time or duration: "x"\n'
    )


def test_logs_of_a_terminal(engine: ScriptedEngine, call: Call) -> None:
    engine.on("GET", "/containers/a/json", inspected(True))
    engine.on("GET", "/containers/a/logs", answer(b"\x01\x00 raw\r\n"))
    assert call("logs", "a") == (0, "\x01\x00 raw\r\n", "")


def test_export(engine: ScriptedEngine, call: Call, tmp_path: Path) -> None:
    engine.on("GET", "/containers/a/export", answer(b"tar" * 100_000))
    assert call("export", "a") == (0, "tar" * 100_000, "")
    path = tmp_path / "out.tar"
    assert call("export", "-o", str(path), "a") == (0, "", "")
    assert path.read_bytes() == b"tar" * 100_000
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_export_that_breaks_leaves_nothing(engine: ScriptedEngine, call: Call, tmp_path: Path) -> None:
    path = tmp_path / "out.tar"

    def broken(request: Request, connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegin")
        return False

    engine.on("GET", "/containers/a/export", broken)
    code, _, err = call("export", "-o", str(path), "a")
    assert (code, err) == (1, "error during connect: unexpected EOF\n")
    assert list(tmp_path.glob("*out.tar*")) == []


def test_no_engine(call: Call, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    address = f"unix://{tmp_path}/none"
    cannot = f"Cannot connect to the wherry daemon at {address}. Is the wherry daemon running?\n"
    assert main.run(["-H", address, "stop", "a", "b"]) == 1
    assert capfd.readouterr().err == cannot * 2
    assert main.run(["-H", address, "run", "x"]) == 125
    assert capfd.readouterr().err == f"wherry: {cannot}\nRun 'wherry run --help' for more information\n"
