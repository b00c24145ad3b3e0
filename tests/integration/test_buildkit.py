"""BuildKit's protocol, by a client of the tests' own: what travels, what is built, and what hostile clients get."""

import asyncio
import json
import os
import secrets
import socket
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.buildkit import DATA, DIRECTORY, FIN, LINK, REQ, STAT, Client, Files, client
from tests.support.builds import file_server, git_server
from tests.support.engine import Engine
from wherry.buildkit import messages
from wherry.buildkit.definition import of_result
from wherry.buildkit.grpc import Call, RpcError
from wherry.buildkit.http2 import PREFACE, StreamReset

DOCKERFILE = b"FROM busybox\nCOPY a b /files/\nRUN cat /files/a /files/b\nLABEL made=yes\n"


@pytest.fixture
def inspect(engine: Engine) -> Callable[[str], Any]:
    return lambda name: engine.request("GET", f"/images/{name}/json").body


async def test_an_image_is_built_of_the_clients_files(engine: Engine, busybox: str, inspect: Any) -> None:
    async with client(engine.socket, {"Dockerfile": DOCKERFILE, "a": b"one\n", "b": b"two\n"}) as asking:
        response = await asking.build("built:kit")
    assert response["image.name"] == "docker.io/library/built:kit"
    image = inspect("built:kit")
    assert image["Id"] == response["containerimage.config.digest"]
    assert image["Config"]["Labels"] == {"made": "yes"}
    assert engine.wherry("run", "--rm", "built:kit", "cat", "/files/a", "/files/b").stdout == "one\ntwo\n"
    engine.wherry("rmi", "built:kit")


async def test_what_is_kept_of_a_clients_directory_is_pruned(engine: Engine, busybox: str) -> None:
    async with client(engine.socket, {"Dockerfile": DOCKERFILE, "a": b"a" * 3_000_000, "b": b""}) as asking:
        await asking.build("built:kit")
    kept = f"{engine.data_root}/build-contexts"
    assert os.listdir(kept)
    assert engine.request("POST", "/build/prune").body["SpaceReclaimed"] >= 3_000_000
    assert not os.listdir(kept)
    engine.wherry("rmi", "built:kit")


async def test_http2_from_the_first_byte(engine: Engine, busybox: str) -> None:
    """With the session as a call on the same connection."""
    large = bytes(range(256)) * 20_000
    dockerfile = b"FROM busybox\nCOPY a /a\nRUN --mount=type=secret,id=key cat /run/secrets/key >/key\n"
    async with client(engine.socket, {"Dockerfile": dockerfile, "a": large}, {"key": b"x"}, natively=True) as asking:
        await asking.build("built:kit", no_cache="")
    assert engine.wherry("run", "--rm", "built:kit", "wc", "-c", "/a").stdout.split()[0] == str(len(large))
    engine.wherry("rmi", "built:kit")


async def test_a_result_is_another_builds_context(engine: Engine, busybox: str) -> None:
    """As bake does it: the graph of one target comes back as an input of the next."""
    base = {"Dockerfile": b"FROM busybox\nRUN echo from base >/base\n"}
    async with client(engine.socket, base) as asking:
        made = (await asking.build())["containerimage.config.digest"]
        asking.files = {"Dockerfile": b"FROM lower\nRUN cat /base\nCOPY --from=lower /base /copied\n"}
        request = messages.SolveRequest(
            ref="linked",
            session=asking.session_id,
            frontend="dockerfile.v0",
            frontend_attrs={"context:lower": "input:0-lower"},
            frontend_inputs={"0-lower": of_result(made)},
        )
        await asking.control("Solve", request, messages.SolveResponse)
        request.frontend_inputs["0-lower"].def_[0] = b"\x12\x00"
        request.ref = "broken"
        with pytest.raises(RpcError):
            await asking.control("Solve", request, messages.SolveResponse)


async def test_contexts_that_have_names(engine: Engine, busybox: str, tmp_path: Path) -> None:
    """A folder, a repository, an archive and a file behind URLs: to copy from, to mount, and to begin with."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "f").write_text("file")
    with tarfile.open(tmp_path / "served" / "packed.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "served" / "f", "packed")
    dockerfile = (
        b"FROM folder AS begun\nFROM repository AS other\nFROM busybox\nCOPY --from=repository /g /\n"
        b"COPY --from=archive /packed /\nCOPY --from=alone /f /\nCOPY --from=begun /a /\nCOPY --from=other /g /h\n"
        b"RUN --mount=from=archive,target=/m cp /m/packed /mounted\n"
    )
    with git_server(tmp_path, {"sub/g": "git"}) as (repository, _), file_server(tmp_path / "served") as address:
        async with client(engine.socket, {"Dockerfile": dockerfile, "a": b"folder"}) as asking:
            said = {
                "context:folder": "local:folder",
                "context:repository": f"{repository}#main:sub",
                "context:archive": f"{address}/packed.tar.gz",
                "context:alone": f"{address}/f",
            }
            await asking.build("built:kit", said=said)
            said["context:folder"] = "nothing://x"
            with pytest.raises(RpcError, match="is not supported: expected a folder"):
                await asking.build(said=said)
    files = ("/g", "/packed", "/f", "/a", "/h", "/mounted")
    shown = engine.wherry("run", "--rm", "--network", "none", "built:kit", "tail", "-n1", *files, check=True).stdout
    assert [line for line in shown.splitlines() if line and "==>" not in line] == [
        "git", "file", "file", "folder", "git", "file",
    ]  # fmt: skip
    engine.wherry("rmi", "built:kit")


async def test_only_what_changed_travels_again(engine: Engine, busybox: str) -> None:
    files = {"Dockerfile": DOCKERFILE, "a": b"one", "b": b"two", "dir": messages.Stat(mode=DIRECTORY | 0o755)}
    async with client(engine.socket, {**files, "dir/c": b"three"}) as asking:
        await asking.build()
        assert sorted(set(asking.asked_for)) == ["Dockerfile", "a", "b", "dir/c"]
        asking.asked_for.clear()
        await asking.build()
        assert asking.asked_for == ["Dockerfile"]  # to read it, and of the context nothing
        asking.asked_for.clear()
        asking.files["b"] = b"2222"
        del asking.files["dir/c"]
        await asking.build()
        assert sorted(asking.asked_for) == ["Dockerfile", "b"]


async def test_a_file_becomes_a_directory_and_a_link(engine: Engine, busybox: str) -> None:
    dockerfile = b"FROM busybox\nCOPY . /all/\n"
    async with client(engine.socket, {"Dockerfile": dockerfile, "x": b"file"}) as asking:
        await asking.build()
        asking.files = {"Dockerfile": dockerfile, "x": messages.Stat(mode=DIRECTORY | 0o700), "x/y": b"inner"}
        await asking.build()
        asking.files = {"Dockerfile": dockerfile, "x": messages.Stat(mode=LINK | 0o777, linkname="Dockerfile")}
        await asking.build("built:kit")
    assert engine.wherry("run", "--rm", "built:kit", "readlink", "/all/x").stdout == "Dockerfile\n"
    engine.wherry("rmi", "built:kit")


async def test_the_progress_names_every_step(engine: Engine, busybox: str) -> None:
    async with client(engine.socket, {"Dockerfile": DOCKERFILE, "a": b"1", "b": b"2"}) as asking:
        told, _ = await asyncio.gather(asking.progress("seen"), asking.build(ref="seen"))
        again = await asking.progress("seen")
    names = {vertex.name for message in told for vertex in message.vertexes}
    assert {"[1/3] FROM busybox", "[2/3] COPY a b /files/", "[3/3] RUN cat /files/a /files/b"} <= names
    assert "exporting to image" in names
    assert all(vertex.HasField("completed") for vertex in {v.digest: v for m in told for v in m.vertexes}.values())
    assert {v.name for m in again for v in m.vertexes} == names


async def test_a_step_that_fails_says_where(engine: Engine, busybox: str) -> None:
    text = b"FROM busybox\nRUN echo said; exit 7\n"
    async with client(engine.socket, {"Dockerfile": text}) as asking:
        told, failure = await asyncio.gather(
            asking.progress("bad"), asking.build(ref="bad", no_cache=""), return_exceptions=True
        )
    assert isinstance(failure, RpcError)
    assert failure.message == 'process "/bin/sh -c echo said; exit 7" did not complete successfully: exit code: 7'
    assert isinstance(told, list)
    assert b"said\n" in [log.msg for message in told for log in message.logs]
    errors = [vertex.error for message in told for vertex in message.vertexes if vertex.error]
    assert errors == [failure.message]


async def test_a_secret_is_asked_for_and_kept_nowhere(engine: Engine, busybox: str, tmp_path: Path) -> None:
    text = b"FROM busybox\nRUN --mount=type=secret,id=key wc -c </run/secrets/key >/size\n"
    secret = b"Xq7-a-secret-of-30-characters-"
    async with client(engine.socket, {"Dockerfile": text}, {"key": secret}) as asking:
        await asking.build("built:kit", no_cache="")
    assert engine.wherry("run", "--rm", "built:kit", "cat", "/size").stdout.strip() == str(len(secret))
    assert secret.decode() not in json.dumps(engine.request("GET", "/images/built:kit/history").body)
    engine.wherry("save", "-o", str(tmp_path / "saved.tar"), "built:kit", check=True)
    assert secret not in (tmp_path / "saved.tar").read_bytes()
    assert secret.decode() not in engine.log_text()
    engine.wherry("rmi", "built:kit")


async def test_entitlements_are_asked_for(engine: Engine, busybox: str) -> None:
    async with client(engine.socket, {"Dockerfile": b"FROM busybox\nRUN --network=host true\n"}) as asking:
        with pytest.raises(RpcError, match=r"network\.host"):
            await asking.build()
        await asking.build(entitlements=("network.host",))
        with pytest.raises(RpcError, match="unknown entitlement"):
            await asking.build(entitlements=("everything",))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"platform": "linux/amd64,amiga/68k"}, 'invalid platform "amiga/68k"'),
        ({"filename": "nosuch"}, "failed to read dockerfile: open nosuch: no such file or directory"),
        ({"target": "nosuch"}, "nosuch"),
        ({"ulimit": "nofile=x"}, "invalid ulimit"),
        ({"shm_size": "x"}, "invalid shm-size"),
        ({"cache_imports": '[{"Type":"gha","Attrs":{}}]'}, "cache import of type gha is not supported"),
    ],
)
async def test_what_cannot_be_is_said(engine: Engine, busybox: str, options: dict[str, str], said: str) -> None:
    async with client(engine.socket, {"Dockerfile": b"FROM busybox\n"}) as asking:
        with pytest.raises(RpcError) as refused:
            await asking.build(**options)
    assert said in refused.value.message


async def test_a_dockerfile_that_copies_nothing_needs_no_context(engine: Engine, busybox: str) -> None:
    async with client(engine.socket, {"Dockerfile": b"FROM busybox\nLABEL a=b\n"}) as asking:

        async def serve(call: Call) -> None:
            if ("dir-name", "context") in call.metadata:
                raise RpcError(5, 'no access allowed to dir "context"')
            await asking.serve_files(call)

        asking.diff_copy = serve
        await asking.build()
        asking.files["Dockerfile"] = b"FROM busybox\nCOPY a /\n"
        with pytest.raises(RpcError, match=r'a": not found'):
            await asking.build()


async def test_another_frontend_is_refused(engine: Engine, busybox: str) -> None:
    async with client(engine.socket, {"Dockerfile": b"# syntax=some/frontend:1\nFROM busybox\n"}) as asking:
        with pytest.raises(RpcError, match="syntax some/frontend:1 is not supported"):
            await asking.build()


async def _history(asking: Client, **request: Any) -> list[Any]:
    """The events of the builds that have ended."""
    assert asking.channel is not None
    async with asking.channel.call("/moby.buildkit.v1.Control/ListenBuildHistory") as call:
        await call.send(messages.BuildHistoryRequest(early_exit=True, **request), end=True)
        return [message async for message in call.messages(messages.BuildHistoryEvent)]


async def test_the_history_of_builds(engine: Engine, busybox: str) -> None:
    async with client(engine.socket, {"Dockerfile": b"FROM busybox\nRUN true\n"}) as asking:
        await asking.build("built:kit", ref="good")
        asking.files["Dockerfile"] = b"FROM busybox\nRUN false\n"
        with pytest.raises(RpcError):
            await asking.build(ref="wrong")
        [good] = await _history(asking, ref="good")
        assert good.record.exporters[0].attrs["name"] == "built:kit"
        assert good.record.exporter_response["image.name"] == "docker.io/library/built:kit"
        assert good.record.completed_steps == good.record.total_steps > 2
        assert good.record.completed_at.seconds >= good.record.created_at.seconds > 0
        failed = await _history(asking, filter=["status==error,duration<1h"])
        assert "wrong" in [each.record.ref for each in failed]
        assert "good" not in [each.record.ref for each in failed]
        assert [each.record.ref for each in await _history(asking, filter=["ref==good", "ref==wrong"], limit=1)] == [
            "wrong"
        ]
        with pytest.raises(RpcError, match="invalid filter colour==red"):
            await _history(asking, filter=["colour==red"])
        await asking.control(
            "UpdateBuildHistory",
            messages.UpdateBuildHistoryRequest(ref="wrong", delete=True),
            messages.UpdateBuildHistoryResponse,
        )
        assert not await _history(asking, ref="wrong")
    engine.wherry("rmi", "built:kit")


async def test_the_history_outlives_the_engine(own_engine: Engine, busybox: str) -> None:
    async with client(own_engine.socket, {"Dockerfile": b"FROM scratch\nCOPY Dockerfile /\n"}) as asking:
        for ref in ("kept", "going", "pinned"):
            await asking.build(ref=ref)
        change = messages.UpdateBuildHistoryRequest(ref="pinned", pinned=True)
        await asking.control("UpdateBuildHistory", change, messages.UpdateBuildHistoryResponse)
        told = await asking.progress("kept")
    await asyncio.to_thread(own_engine.stop)
    own_engine.start()
    async with client(own_engine.socket, {}) as asking:
        found = {event.record.ref: event.record for event in await _history(asking)}
        assert [*found] == ["kept", "going", "pinned"]
        assert found["pinned"].pinned and not found["kept"].pinned
        assert await asking.progress("kept") == told
        change = messages.UpdateBuildHistoryRequest(ref="going", delete=True)
        await asking.control("UpdateBuildHistory", change, messages.UpdateBuildHistoryResponse)
    await asyncio.to_thread(own_engine.stop)
    own_engine.start()
    async with client(own_engine.socket, {}) as asking:
        assert [event.record.ref for event in await _history(asking)] == ["kept", "pinned"]
    assert len(os.listdir(f"{own_engine.data_root}/build-history")) == 4


# --- clients that break off, and clients that lie


async def test_a_client_that_goes_ends_its_build(engine: Engine, busybox: str) -> None:
    async with client(engine.socket, {"Dockerfile": b"FROM busybox\nRUN echo begun; sleep 1000\n"}) as asking:
        build = asyncio.create_task(asking.build(no_cache=""))
        await _until(lambda: b"sleep 1000" in _command_lines(engine))
        asking.close()
        with pytest.raises((RpcError, StreamReset)):
            await build
    await _until(lambda: b"sleep 1000" not in _command_lines(engine))


def _command_lines(engine: Engine) -> bytes:
    found = b""
    for pid in engine.processes():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                found += file.read().replace(b"\0", b" ") + b"\n"
        except OSError:
            continue
    return found


async def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


STATES = ("connected", "session", "asked", "file", "half a file", "running", "followed", "exporting")


@pytest.mark.parametrize("state", STATES)
async def test_a_client_that_breaks_off(engine: Engine, busybox: str, state: str) -> None:
    """Whenever it does: nothing of it stays, and the next one finds all as it was."""
    files: Files = {"Dockerfile": b"FROM busybox\nCOPY a /a\nRUN sleep 5555\n", "a": b"a" * 300_000}
    asking = Client(engine.socket, files)
    asking.shared_key = state
    reached = asyncio.Event()
    if state in ("file", "half a file"):
        asking.diff_copy = _stopping(asking, reached, sends=state == "half a file")
    if state == "exporting":
        files["Dockerfile"] = b"FROM busybox\n"
        asking.takes_files = reached
    await asking.connect()
    tasks = []
    if state != "connected" and state != "session":
        exporter = {"exporter": "local"} if state == "exporting" else {}
        tasks.append(asyncio.create_task(asking.build(ref=state, no_cache="", **exporter)))
    if state in ("running", "followed"):
        tasks.append(asyncio.create_task(asking.progress(state)))
        await _until(lambda: b"sleep 5555" in _command_lines(engine))
    elif state in ("file", "half a file", "exporting"):
        await asyncio.wait_for(reached.wait(), 20)
    asking.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    await _until(lambda: b"sleep 5555" not in _command_lines(engine))
    await _until(lambda: not [name for name in os.listdir(f"{engine.data_root}/tmp") if name.startswith("area-")])
    async with client(engine.socket, {"Dockerfile": b"FROM busybox\nCOPY a /a\n", "a": b"next"}) as other:
        other.shared_key = state
        await other.build("built:kit")
    assert engine.wherry("run", "--rm", "built:kit", "cat", "/a").stdout == "next"
    engine.wherry("rmi", "built:kit")
    assert "Traceback" not in engine.log_text()


async def test_a_build_that_is_given_up(engine: Engine, busybox: str) -> None:
    """As on Ctrl-C: the connection stays, and who follows the build sees its end at once."""
    async with client(engine.socket, {"Dockerfile": b"FROM busybox\nRUN sleep 6666\n"}) as asking:
        building = asyncio.create_task(asking.build(ref="given-up", no_cache=""))
        following = asyncio.create_task(asking.progress("given-up"))
        await _until(lambda: b"sleep 6666" in _command_lines(engine))
        building.cancel()
        assert await asyncio.wait_for(following, 20)
        await _until(lambda: b"sleep 6666" not in _command_lines(engine))


def _stopping(asking: Client, reached: asyncio.Event, *, sends: bool) -> Callable[[Call], Any]:
    """A session that stands still when it is asked for a file of the context, before its content or within."""

    async def serve(call: Call) -> None:
        if "dockerfile" in [value for name, value in call.metadata if name == "dir-name"]:
            await asking.serve_files(call)
            return
        await call.send(messages.Packet(type=STAT, stat=messages.Stat(path="a", mode=0o644, size=300_000)))
        await call.send(messages.Packet(type=STAT))
        packet = await call.receive(messages.Packet)
        if sends and packet is not None:
            await call.send(messages.Packet(type=DATA, id=packet.id, data=b"a" * 30_000))
        reached.set()
        await asyncio.sleep(60)

    return serve


async def test_what_a_secret_is_does_not_count_for_the_cache(engine: Engine, busybox: str) -> None:
    """Its value would otherwise be in the cache's keys, for whoever can guess it to confirm."""
    text = f"FROM busybox\nRUN --mount=type=secret,id=key echo {time.time_ns()}; wc -c </run/secrets/key >/size\n"
    async with client(engine.socket, {"Dockerfile": text.encode()}, {"key": b"one"}) as asking:
        await asking.build("built:kit")
        asking.secrets["key"] = b"another one"
        told, _ = await asyncio.gather(asking.progress("second"), asking.build("built:kit", ref="second"))
    assert any(vertex.cached and "RUN" in vertex.name for message in told for vertex in message.vertexes)
    assert engine.wherry("run", "--rm", "built:kit", "cat", "/size").stdout == "3\n"
    engine.wherry("rmi", "built:kit")


def _lying(stats: list[Any], contents: dict[int, bytes]) -> Callable[[Client], Callable[[Call], Any]]:
    """A session that serves the Dockerfile as it is, and tells these paths and contents of the context."""

    def make(asking: Client) -> Callable[[Call], Any]:
        async def serve(call: Call) -> None:
            if "dockerfile" in [value for name, value in call.metadata if name == "dir-name"]:
                await asking.serve_files(call)
                return
            for each in stats:
                await call.send(messages.Packet(type=STAT, stat=each))
            await call.send(messages.Packet(type=STAT))
            async for packet in call.messages(messages.Packet):
                if packet.type == REQ:
                    await call.send(messages.Packet(type=DATA, id=packet.id, data=contents.get(packet.id, b"")))
                    await call.send(messages.Packet(type=DATA, id=packet.id))
                elif packet.type == FIN:
                    await call.send(messages.Packet(type=FIN))
                    return

        return serve

    return make


@pytest.mark.parametrize(
    ("stats", "contents", "said"),
    [
        ([messages.Stat(path="../out", mode=0o644, size=1)], {}, "invalid path"),
        ([messages.Stat(path="/etc/out", mode=0o644, size=1)], {}, "invalid path"),
        ([messages.Stat(path="a/../../out", mode=0o644, size=1)], {}, "invalid path"),
        (
            [messages.Stat(path="l", mode=LINK, linkname="/"), messages.Stat(path="l/out", mode=0o644, size=1)],
            {1: b"x"},
            "was not sent as a directory",
        ),
        ([messages.Stat(path="a", mode=0o644, size=1)], {0: b"xx"}, "more content than was announced"),
        ([messages.Stat(path="a", mode=0o644), messages.Stat(path="a", mode=0o644)], {}, "sent twice"),
        ([messages.Stat(path="h", mode=0o644, linkname="/etc/passwd")], {}, "invalid path"),
    ],
    ids=[
        "dots",
        "absolute",
        "dots inside",
        "through a link",
        "more than said",
        "twice",
        "hard link out",
    ],
)
async def test_a_session_that_lies(
    engine: Engine, busybox: str, stats: list[Any], contents: dict[int, bytes], said: str
) -> None:
    """A hole would be a file outside the context's directory, or a disk filled with what nobody announced."""
    async with client(engine.socket, {"Dockerfile": b"FROM busybox\nCOPY . /\n"}) as asking:
        asking.diff_copy = _lying(stats, contents)(asking)
        with pytest.raises(RpcError) as refused:
            await asking.build()
    assert said in refused.value.message
    assert "Traceback" not in engine.log_text()


async def test_a_file_that_becomes_shorter_while_it_is_sent(engine: Engine, busybox: str) -> None:
    """It is as it came, and is asked for again the next time."""
    stats = [messages.Stat(path="a", mode=0o644, size=9, mtime=1)]
    async with client(engine.socket, {"Dockerfile": b"FROM busybox\nCOPY a /\n"}) as asking:
        for content in (b"short", b"all of it"):
            asking.diff_copy = _lying(stats, {0: content})(asking)
            await asking.build("built:kit")
            assert engine.wherry("run", "--rm", "built:kit", "cat", "/a").stdout == content.decode()
    engine.wherry("rmi", "built:kit")


async def test_devices_are_passed_over(engine: Engine, busybox: str) -> None:
    stats = [messages.Stat(path="disk", mode=1 << 26 | 0o666, devmajor=8), messages.Stat(path="f", mode=0o644, size=1)]
    async with client(engine.socket, {"Dockerfile": b"FROM busybox\nCOPY . /all/\n"}) as asking:
        asking.diff_copy = _lying(stats, {1: b"x"})(asking)
        await asking.build("built:kit")
    assert engine.wherry("run", "--rm", "built:kit", "ls", "/all").stdout == "f\n"
    engine.wherry("rmi", "built:kit")


_CONTINUATION = b"\x00\x40\x00\x09\x00\x00\x00\x00\x01" + b"\x82" * 16384


@pytest.mark.parametrize("path", ["/grpc", "/session"])
@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 100,
        PREFACE + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",  # a frame of 16 MB
        PREFACE + b"\x00\x00\x08\x06\x00\x00\x00\x00\x00........" * 5000,  # pings
        PREFACE + b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08" * 5000,  # resets
        PREFACE + b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82" + _CONTINUATION * 8,
        PREFACE + bytes(range(256)) * 50,
    ],
    ids=["http", "large frame", "pings", "resets", "headers without end", "noise"],
)
def test_what_is_no_http2_ends_the_connection(engine: Engine, path: str, sent: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(engine.socket))
        head = "Host: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nX-Docker-Expose-Session-Uuid: garbage\r\n\r\n"
        connection.sendall(f"POST {path} HTTP/1.1\r\n{head}".encode())
        try:
            connection.sendall(sent)
            while connection.recv(65536):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert engine.request("GET", "/_ping").status == 200
    assert "Traceback" not in engine.log_text()


_WAITS = (
    "FROM busybox\nRUN --mount=type=cache,id={id},target=/c "
    "echo ran >>/c/ran; until test -e /c/go; do sleep 0.05; done; cp /c/ran /ran\n"
    "RUN echo {id} >/id; wc -l </ran >/lines\n"
)
_GO = "FROM busybox\nRUN --mount=type=cache,id={id},target=/c touch /c/go\n"


async def _reaches(asking: Client, ref: str, step: str) -> None:
    """Follows a build until it has come to a step."""
    assert asking.channel is not None
    async with asking.channel.call("/moby.buildkit.v1.Control/Status") as call:
        await call.send(messages.StatusRequest(ref=ref), end=True)
        async for message in call.messages(messages.StatusResponse):
            if any(step in vertex.name and vertex.HasField("started") for vertex in message.vertexes):
                return
    raise AssertionError(f"the build {ref} has not come to {step}")


@pytest.mark.parametrize("leaves", [False, True])
async def test_equal_steps_of_builds_at_the_same_time_are_done_once(engine: Engine, busybox: str, leaves: bool) -> None:
    """Also where the client goes whose build had begun with it: the step is still wanted."""
    unique = secrets.token_hex(4)
    files = {"Dockerfile": _WAITS.format(id=unique).encode()}
    async with client(engine.socket, files) as one, client(engine.socket, files) as other:
        first = asyncio.create_task(one.build(ref=f"one-{unique}"))
        await _reaches(one, f"one-{unique}", "until test -e")
        second = asyncio.create_task(other.build(f"shared:{unique}", ref=f"other-{unique}"))
        await _reaches(other, f"other-{unique}", "until test -e")
        if leaves:
            one.close()
            with pytest.raises(RpcError):
                await first
        async with client(engine.socket, {"Dockerfile": _GO.format(id=unique).encode()}) as third:
            await third.build()
        await second
        if not leaves:
            await first
    shown = engine.wherry("run", "--rm", f"shared:{unique}", "cat", "/lines", "/id", check=True).stdout
    assert shown.split() == ["1", unique]
    engine.wherry("rmi", f"shared:{unique}", check=True)


async def test_a_step_that_failed_elsewhere_is_tried_again(engine: Engine, busybox: str) -> None:
    """Whose secret it was is not in its key."""
    unique = secrets.token_hex(4)
    text = (
        f"FROM busybox\nRUN --mount=type=secret,id=s --mount=type=cache,id={unique},target=/c "
        "until test -e /c/go; do sleep 0.05; done; grep right /run/secrets/s\n"
    )
    files = {"Dockerfile": text.encode()}
    async with (
        client(engine.socket, files, {"s": b"wrong"}) as one,
        client(engine.socket, files, {"s": b"right"}) as other,
    ):
        first = asyncio.create_task(one.build(ref=f"one-{unique}"))
        await _reaches(one, f"one-{unique}", "until test -e")
        second = asyncio.create_task(other.build(ref=f"other-{unique}"))
        await _reaches(other, f"other-{unique}", "until test -e")
        async with client(engine.socket, {"Dockerfile": _GO.format(id=unique).encode()}) as third:
            await third.build()
        with pytest.raises(RpcError, match="exit code: 1"):
            await first
        await second
