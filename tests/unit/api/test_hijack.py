"""Endpoints that turn into streams, on real sockets: attach and exec."""

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from wherry.common.errors import InvalidParameter, NotFound
from wherry.runtime.logging.reader import LogQuery

UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}
ALL = "stream=1&stdin=1&stdout=1&stderr=1"


class Container:
    """A container at the other end of what the engine hands out; ``sock`` is the monitor's end."""

    def __init__(self, engine: SimpleNamespace) -> None:
        ours, self.sock = socket.socketpair()
        ours.setblocking(False)
        self.sock.setblocking(False)
        self.config = SimpleNamespace(tty=False, open_stdin=True, stdin_once=True)
        self.attached: list[dict[str, bool]] = []
        self.detached = 0
        self._engine_end: socket.socket | None = ours

        async def attach(name: str, **streams: bool) -> socket.socket:
            self.attached.append(streams)
            assert self._engine_end is not None
            sock, self._engine_end = self._engine_end, None
            return sock

        def detached(name: str, client: int | None) -> None:
            self.detached += 1

        engine.containers.get = lambda name: SimpleNamespace(id=name, config=self.config)
        engine.containers.attach = attach
        engine.containers.detached = detached

    async def read(self) -> bytes:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, 65536), 5)

    async def write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    def end(self) -> None:
        self.sock.close()
        if self._engine_end is not None:
            self._engine_end.close()


@pytest.fixture
async def container(engine: SimpleNamespace) -> AsyncIterator[Container]:
    made = Container(engine)
    yield made
    made.end()


async def test_attach_upgrades_and_passes_frames_on_unchanged(client: Any, container: Container) -> None:
    reader, writer = await client.send("POST", f"/containers/x/attach?{ALL}", **UPGRADE)
    status, headers = await client.head(reader)
    assert status == 101
    assert headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
    assert (headers["Connection"], headers["Upgrade"]) == ("Upgrade", "tcp")
    assert container.attached == [{"stdin": True, "stdout": True, "stderr": True}]
    await container.write(b"\1\0\0\0\0\0\0\2hi")
    assert await reader.readexactly(10) == b"\1\0\0\0\0\0\0\2hi"
    writer.write(b"input")
    assert await container.read() == b"input"
    container.sock.close()
    assert await reader.read() == b""
    writer.close()


async def test_content_types(client: Any, container: Container) -> None:
    reader, writer = await client.send("POST", f"/v1.41/containers/x/attach?{ALL}", **UPGRADE)
    assert (await client.head(reader))[1]["Content-Type"] == "application/vnd.docker.raw-stream"
    writer.close()


async def test_a_client_that_does_not_ask_to_upgrade_gets_200(client: Any, container: Container) -> None:
    reader, writer = await client.send("POST", f"/containers/x/attach?{ALL}")
    status, headers = await client.head(reader)
    assert (status, headers["Content-Type"]) == (200, "application/vnd.docker.raw-stream")
    writer.write(b"input")
    assert await container.read() == b"input"
    writer.close()


async def test_input_sent_before_the_answer_is_not_lost(client: Any, container: Container) -> None:
    reader, writer = await client.open()
    head = f"POST /containers/x/attach?{ALL} HTTP/1.1\r\nHost: e\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    writer.write(head.encode() + b"early ")
    await client.head(reader)
    writer.write(b"late")
    got = await container.read()
    while len(got) < 10:
        got += await container.read()
    assert got == b"early late"
    writer.close()


async def test_the_end_of_input_closes_stdin_and_output_goes_on(client: Any, container: Container) -> None:
    reader, writer = await client.send("POST", f"/containers/x/attach?{ALL}", **UPGRADE)
    await client.head(reader)
    writer.write(b"all")
    writer.write_eof()
    assert await container.read() == b"all"
    assert await container.read() == b""
    await container.write(b"answer")
    container.sock.close()
    assert await reader.read() == b"answer"
    writer.close()


async def test_the_end_of_input_without_stdin_changes_nothing(client: Any, container: Container) -> None:
    """The docker CLI without -i closes its writing half at once."""
    reader, writer = await client.send("POST", "/containers/x/attach?stream=1&stdout=1", **UPGRADE)
    await client.head(reader)
    writer.write_eof()
    await container.write(b"answer")
    assert await reader.readexactly(6) == b"answer"
    writer.close()


@pytest.mark.parametrize(("tty", "stdin_once"), [(True, True), (False, False)])
async def test_the_end_of_input_ends_the_attachment_where_it_may_not_close_stdin(
    client: Any, container: Container, tty: bool, stdin_once: bool
) -> None:
    container.config.tty, container.config.stdin_once = tty, stdin_once
    reader, writer = await client.send("POST", f"/containers/x/attach?{ALL}", **UPGRADE)
    await client.head(reader)
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    assert await container.read() == b""
    writer.close()


async def test_a_client_that_goes_after_its_end_of_input_is_noticed(client: Any, container: Container) -> None:
    reader, writer = await client.send("POST", "/containers/x/attach?stream=1&stdout=1", **UPGRADE)
    await client.head(reader)
    writer.write_eof()
    await asyncio.sleep(0.05)
    writer.transport.abort()
    assert await container.read() == b""


async def test_a_client_that_goes_is_noticed(client: Any, container: Container) -> None:
    reader, writer = await client.send("POST", f"/containers/x/attach?{ALL}", **UPGRADE)
    await client.head(reader)
    writer.close()
    assert await container.read() == b""


async def test_output_is_not_lost_when_input_is_left_unread(client: Any, container: Container) -> None:
    """Closing a socket with unread input in its queue would throw away output under way."""
    reader, writer = await client.send("POST", "/containers/x/attach?stream=1&stdout=1", **UPGRADE)
    await client.head(reader)
    await container.write(b"a" * 100_000)
    writer.write(b"nobody reads this" * 1000)
    container.sock.close()
    assert len(await reader.read()) == 100_000
    writer.close()


async def test_output_is_not_lost_when_input_meets_the_container_s_end(client: Any, container: Container) -> None:
    """The input is read first, cannot be written any more, and the last words of the container lie there unread."""
    reader, writer = await client.send("POST", f"/containers/x/attach?{ALL}", **UPGRADE)
    await client.head(reader)
    await asyncio.sleep(0.05)
    os.write(writer.get_extra_info("socket").fileno(), b"input")  # both before the engine looks at either
    container.sock.send(b"last words")
    container.sock.close()
    assert await asyncio.wait_for(reader.read(), 5) == b"last words"
    writer.close()


async def test_detach_keys_across_packets(client: Any, container: Container) -> None:
    container.config.tty = True
    reader, writer = await client.send("POST", f"/containers/x/attach?{ALL}&detachKeys=ctrl-a,x", **UPGRADE)
    assert (await client.head(reader))[1]["Content-Type"] == "application/vnd.docker.raw-stream"
    writer.write(b"\x01y")
    assert await container.read() == b"\x01y"
    writer.write(b"ls\x01")
    assert await container.read() == b"ls"
    writer.write(b"xrm -rf /")
    assert await reader.read() == b""
    assert await container.read() == b""
    assert container.detached == 1
    writer.close()


async def test_without_a_terminal_there_are_no_detach_keys(client: Any, container: Container) -> None:
    reader, writer = await client.send("POST", f"/containers/x/attach?{ALL}", **UPGRADE)
    await client.head(reader)
    writer.write(b"\x10\x11")
    assert await container.read() == b"\x10\x11"
    writer.close()


async def test_invalid_detach_keys(client: Any, container: Container) -> None:
    answer = await client("POST", f"/containers/x/attach?{ALL}&detachKeys=ctrl-pq")
    assert (answer.status, answer.message) == (400, "Invalid detach keys (ctrl-pq) provided")


async def test_attach_to_nothing_is_answered_as_http(client: Any, engine: SimpleNamespace) -> None:
    def get(name: str) -> Any:
        raise NotFound(f"No such container: {name}")

    engine.containers.get = get
    reader, writer = await client.send("POST", f"/containers/x/attach?{ALL}", **UPGRADE)
    assert (await client.head(reader))[0] == 404
    writer.close()


async def test_history_comes_first(client: Any, engine: SimpleNamespace, container: Container) -> None:
    async def logs(name: str, wanted: LogQuery) -> AsyncIterator[bytes]:
        yield b"before "
        await asyncio.sleep(0.01)
        yield b"still before "

    engine.views.logs = logs
    await container.write(b"after")
    reader, writer = await client.send("POST", "/containers/x/attach?logs=1&stream=1&stdout=1", **UPGRADE)
    await client.head(reader)
    assert await reader.readexactly(25) == b"before still before after"
    writer.close()


async def test_history_alone(client: Any, engine: SimpleNamespace, container: Container) -> None:
    async def logs(name: str, wanted: LogQuery) -> AsyncIterator[bytes]:
        yield b"all there was"

    engine.views.logs = logs
    reader, writer = await client.send("POST", "/containers/x/attach?logs=1&stdout=1", **UPGRADE)
    await client.head(reader)
    assert await reader.read() == b"all there was"
    assert container.attached == []
    writer.close()


async def test_much_output_passes_whole_and_is_held_back(client: Any, container: Container) -> None:
    size = 20 << 20
    block = os.urandom(1 << 16)
    reader, writer = await client.send("POST", "/containers/x/attach?stream=1&stdout=1", **UPGRADE)
    await client.head(reader)
    sent = 0

    async def write() -> None:
        nonlocal sent
        for _ in range(size // len(block)):
            await container.write(block)
            sent += len(block)
        container.sock.close()

    writing = asyncio.ensure_future(write())
    before = -1
    while sent != before:
        before = sent
        await asyncio.sleep(0.05)
    assert sent < 4 << 20
    got = 0
    while chunk := await reader.read(1 << 20):
        got += len(chunk)
    assert got == size
    await writing
    writer.close()


async def test_much_input_is_held_back(client: Any, container: Container) -> None:
    reader, writer = await client.send("POST", f"/containers/x/attach?{ALL}", **UPGRADE)
    await client.head(reader)
    size = 8 << 20

    async def write() -> None:
        for _ in range(size >> 16):
            writer.write(bytes(1 << 16))
            await writer.drain()
        writer.write_eof()

    writing = asyncio.ensure_future(write())
    await asyncio.sleep(0.1)
    assert not writing.done()
    got = 0
    while chunk := await container.read():
        got += len(chunk)
    assert got == size
    await writing
    writer.close()


async def test_nothing_is_left_open(client: Any, engine: SimpleNamespace) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for half_close in (False, True):
        container = Container(engine)
        reader, writer = await client.send("POST", f"/containers/x/attach?{ALL}", **UPGRADE)
        await client.head(reader)
        if half_close:
            writer.write_eof()
            assert await container.read() == b""
        container.sock.close()
        await reader.read()
        writer.close()
        await writer.wait_closed()
    for _ in range(100):
        if len(os.listdir("/proc/self/fd")) <= before:
            break
        await asyncio.sleep(0.02)
    assert len(os.listdir("/proc/self/fd")) <= before


def give_exec(
    engine: SimpleNamespace, result: Any, exited: asyncio.Future[int] | None = None, **config: Any
) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = []
    settings = {"tty": False, "attach_stdin": True, "detach_keys": ""} | config

    async def start(exec_id: str, **options: Any) -> Any:
        asked.append(options)
        if isinstance(result, Exception):
            raise result
        return result

    engine.execs.get = lambda exec_id: SimpleNamespace(config=SimpleNamespace(**settings), exited=exited)
    engine.execs.start = start
    return asked


async def test_exec_reads_its_body_and_then_streams(client: Any, engine: SimpleNamespace) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    asked = give_exec(engine, ours, tty=True)
    body = {"Detach": False, "Tty": True, "ConsoleSize": [24, 80]}
    reader, writer = await client.send("POST", "/exec/1/start", body, **UPGRADE)
    status, headers = await client.head(reader)
    assert (status, headers["Content-Type"]) == (101, "application/vnd.docker.raw-stream")
    assert asked == [{"tty": True, "detach": False, "console_size": (24, 80)}]
    writer.write(b"ls\r")
    loop = asyncio.get_running_loop()
    assert await loop.sock_recv(theirs, 10) == b"ls\r"
    await loop.sock_sendall(theirs, b"file")
    theirs.close()
    assert await reader.read() == b"file"
    writer.close()


async def test_the_end_of_an_exec_is_not_seen_before_its_exit_code_is_known(
    client: Any, engine: SimpleNamespace
) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    give_exec(engine, ours, exited)
    reader, writer = await client.send("POST", "/exec/1/start", {}, **UPGRADE)
    await client.head(reader)
    theirs.sendall(b"all")
    theirs.close()
    assert await reader.readexactly(3) == b"all"
    end = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0.05)
    assert not end.done()
    exited.set_result(3)
    assert await asyncio.wait_for(end, 5) == b""
    writer.close()


async def test_a_detached_exec_is_plain_http(client: Any, engine: SimpleNamespace) -> None:
    give_exec(engine, None)
    answer = await client("POST", "/exec/1/start", {"Detach": True})
    assert (answer.status, answer.body) == (200, b"")


async def test_an_exec_that_cannot_start_is_told_of_in_the_stream(client: Any, engine: SimpleNamespace) -> None:
    give_exec(engine, InvalidParameter('exec: "x": executable file not found in $PATH'))
    reader, writer = await client.send("POST", "/exec/1/start", {}, **UPGRADE)
    assert (await client.head(reader))[0] == 101
    text = b'exec: "x": executable file not found in $PATH\r\n'
    assert await reader.read() == b"\1\0\0\0" + len(text).to_bytes(4) + text
    writer.close()
    assert (await client("POST", "/exec/1/start", {"Detach": True})).status == 400


async def test_an_exec_that_is_not_there(client: Any, engine: SimpleNamespace) -> None:
    def get(exec_id: str) -> Any:
        raise NotFound(f"No such exec instance: {exec_id}")

    engine.execs.get = get
    answer = await client("POST", "/exec/1/start", {})
    assert (answer.status, answer.message) == (404, "No such exec instance: 1")


async def test_output_does_not_follow_the_head_before_it_is_read(client: Any, engine: SimpleNamespace) -> None:
    """An HTTP library that reads ahead of the head loses what it finds there."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    give_exec(engine, ours)
    theirs.sendall(b"output")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(client.path)
        sock.sendall(
            b"POST /exec/1/start HTTP/1.1\r\nHost: e\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        )
        await asyncio.sleep(0.05)
        assert sock.recv(65536).endswith(b"\r\n\r\n")
        sock.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(sock, 65536) == b"output"
    theirs.close()


async def test_a_websocket_carries_output_without_frames(client: Any, container: Container) -> None:
    key = base64.b64encode(bytes(16)).decode()
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec_WebSocket_Key": key,
        "Sec_WebSocket_Version": "13",
    }
    reader, writer = await client.send("GET", f"/containers/x/attach/ws?{ALL}", **handshake)
    assert (await client.head(reader))[0] == 101
    await container.write(b"\1\0\0\0\0\0\0\2hi\2\0\0\0\0\0")
    assert await reader.readexactly(4) == b"\x82\x02hi"
    await container.write(b"\0\3err")
    assert await reader.readexactly(5) == b"\x82\x03err"
    writer.write(b"\x82\x82\0\0\0\0ls")
    assert await container.read() == b"ls"
    container.sock.close()
    assert (await reader.readexactly(2))[:1] == b"\x88"
    writer.close()


async def test_a_websocket_needs_a_handshake(client: Any, container: Container) -> None:
    answer = await client("GET", f"/containers/x/attach/ws?{ALL}")
    assert answer.status == 400
    assert container.attached == []
