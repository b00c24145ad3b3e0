import socket
from typing import Any

import pytest

from tests.support.scripted_engine import (
    Request,
    ScriptedContainer,
    ScriptedEngine,
    answer,
    error,
    frame,
    head,
    json_answer,
)
from wherry.client.blocking import Client, plain
from wherry.client.client import API_VERSION, quote
from wherry.client.streams import frames
from wherry.client.transport import APIError, ConnectionFailed, ConnectionLost


def test_get_and_the_query(engine: ScriptedEngine, client: Client) -> None:
    engine.on("GET", "/containers/json", json_answer([{"Id": "a"}]))
    assert client.get(
        "/containers/json", all=True, size=False, limit=None, filters={"name": ["ä b"]}, x=["1", "2"]
    ) == [{"Id": "a"}]
    [request] = engine.requests
    assert request.path == f"/v{API_VERSION}/containers/json"
    assert request.query == {"all": ["1"], "filters": ['{"name":["\\u00e4 b"]}'], "x": ["1", "2"]}


def test_one_connection_serves_one_request_after_another(engine: ScriptedEngine, client: Client) -> None:
    engine.on("POST", "/x", json_answer({"a": 1}))
    for _ in range(5):
        assert client.post("/x", {"b": None}) == {"a": 1}
    assert engine.connections == 1
    assert engine.requests[-1].json == {"b": None}
    assert engine.requests[-1].headers["content-type"] == "application/json"


def test_several_requests_are_under_way_at_once(engine: ScriptedEngine, client: Client) -> None:
    engine.on("POST", "/stop/.", lambda request, connection: answer(request.path[-1].encode())(request, connection))
    pending = [client.begin("POST", f"/stop/{name}") for name in "abc"]
    assert [each.response().read() for each in pending] == [b"a", b"b", b"c"]
    assert engine.connections == 3


def test_an_idle_connection_that_has_ended_is_not_used(engine: ScriptedEngine, client: Client) -> None:
    def once(request: Request, connection: socket.socket) -> bool:
        json_answer(1)(request, connection)
        return False

    engine.on("GET", "/x", once)
    assert [client.get("/x") for _ in range(3)] == [1, 1, 1]
    assert engine.connections == 3


def test_errors(engine: ScriptedEngine, client: Client) -> None:
    engine.on("GET", "/containers/x/json", error(404, "No such container: x"))
    engine.on("GET", "/plain", answer(b"502 bad gateway\n", status=502))
    engine.on("GET", "/empty", answer(status=500))
    engine.on("GET", "/list", json_answer([], status=500))
    with pytest.raises(APIError) as caught:
        client.containers.inspect("x")
    assert (caught.value.status, caught.value.message) == (404, "No such container: x")
    assert str(caught.value) == "Error response from daemon: No such container: x"
    for path, message in (("/plain", "502 bad gateway"), ("/empty", "500 Whatever"), ("/list", "[]")):
        with pytest.raises(APIError) as caught:
            client.get(path)
        assert caught.value.message == message


def old(request: Request, connection: socket.socket) -> bool:
    """An engine of 2020."""
    if request.path.startswith("/v1.54"):
        text = b'{"message":"client version 1.54 is too new. Maximum supported API version is 1.41"}'
        connection.sendall(head(400, {"Api-Version": "1.41", "Content-Length": str(len(text))}) + text)
        return True
    return answer(request.path.encode())(request, connection)


def test_an_older_engine_is_asked_in_its_own_version(engine: ScriptedEngine, client: Client) -> None:
    engine.on("POST", "/x", old)
    assert client.request("POST", "/x", body={"a": 1}).read() == b"/v1.41/x"
    assert client.request("POST", "/x").read() == b"/v1.41/x"
    assert len(engine.requests) == 3
    assert engine.requests[1].json == {"a": 1}


def test_data_that_can_be_sent_once_is_sent_in_the_right_version(engine: ScriptedEngine, client: Client) -> None:
    engine.on("HEAD", "/_ping", answer(Api_Version="1.41"))
    engine.on("POST", "/x", old)
    assert client.request("POST", "/x", data=iter([b"a", b"b"])).read() == b"/v1.41/x"
    assert engine.requests[-1].body == b"ab"


def test_a_version_that_is_pinned_is_kept(engine: ScriptedEngine) -> None:
    engine.on("POST", "/x", old)
    with Client(engine.host, version="1.54") as client, pytest.raises(APIError, match="too new"):
        client.post("/x")


def test_no_engine(tmp_path: Any) -> None:
    address = f"unix://{tmp_path}/none.sock"
    with pytest.raises(ConnectionFailed) as caught:
        Client(address).get("/info")
    assert str(caught.value) == (f"Cannot connect to the wherry daemon at {address}. Is the wherry daemon running?")


def test_an_engine_that_can_be_started_is_started_once(engine: ScriptedEngine, tmp_path: Any) -> None:
    engine.on("GET", "/x", json_answer(1))
    path = tmp_path / "later.sock"
    calls = []

    def start() -> bool:
        calls.append(1)
        path.symlink_to(engine.path)
        return True

    with Client(f"unix://{path}", unreachable=start) as client:
        assert client.get("/x") == 1
    assert calls == [1]


def test_hijack(engine: ScriptedEngine, client: Client) -> None:
    container = ScriptedContainer(engine, lambda connection: connection.sendall(connection.recv(100)) or 0)
    container.start()
    stream, leftover = client.containers.attach("x", stdin=True).take_over()
    stream.sendall(b"hello")
    buffer = bytearray(100)
    count = stream.recv_into(buffer)
    assert leftover + bytes(buffer[:count]) == b"hello"
    stream.close()
    [request] = engine.requests
    assert request.headers["upgrade"] == "tcp" and request.headers["connection"] == "Upgrade"
    assert request.query == {"stream": ["1"], "stdin": ["1"], "stdout": ["1"], "stderr": ["1"]}


def test_bytes_that_come_with_the_head_are_not_lost(engine: ScriptedEngine, client: Client) -> None:
    def at_once(request: Request, connection: socket.socket) -> bool:
        connection.sendall(head(200, {"Content-Type": "application/vnd.docker.raw-stream"}) + frame(1, b"early"))
        return False

    engine.on("POST", ".*/attach", at_once)
    stream, leftover = client.hijack("POST", "/containers/x/attach")
    buffer = bytearray(100)
    while count := stream.recv_into(buffer):
        leftover += buffer[:count]
    assert leftover == frame(1, b"early")
    stream.close()


def test_an_engine_that_does_not_give_the_connection(engine: ScriptedEngine, client: Client) -> None:
    engine.on("POST", "/exec/x/start", answer(status=204))
    with pytest.raises(ConnectionLost, match="unable to upgrade to tcp, received 204"):
        client.hijack("POST", "/exec/x/start")


def test_a_framed_body(engine: ScriptedEngine, client: Client) -> None:
    engine.on("GET", ".*/logs", answer(frame(1, b"out") + frame(2, b"err")))
    assert list(plain(frames(client.containers.logs("x", stdout=True, tail="all")._core))) == [(1, b"out"), (2, b"err")]


def test_names_are_quoted_in_paths(engine: ScriptedEngine, client: Client) -> None:
    engine.on("DELETE", ".*", answer(status=204))
    client.containers.remove("../images/x?force=1#a", force=True)
    assert engine.requests[0].path == f"/v{API_VERSION}/containers/..%2Fimages%2Fx%3Fforce%3D1%23a"
    assert quote("a\udcffé/", "/") == "a%FF%C3%A9/"


def test_headers_go_with_every_request(engine: ScriptedEngine) -> None:
    engine.on("GET", "/x", json_answer(None))
    with Client(engine.host, headers={"X-Meta": "yes"}) as client:
        client.get("/x")
    assert engine.requests[0].headers["x-meta"] == "yes"
