"""Builds that come as graphs (LLB), made by hand: what each operation does, and what hostile ones get."""

import asyncio
import io
import json
import os
import secrets
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.buildkit import Client, client
from tests.support.builds import file_server, git_server
from tests.support.engine import Engine
from tests.support.llb import NOTHING, Definition, action
from wherry.buildkit import messages
from wherry.buildkit.grpc import UNIMPLEMENTED, RpcError

Build = Callable[..., Any]


@pytest.fixture
async def asking(engine: Engine, busybox: str) -> AsyncIterator[Client]:
    files = {"one": b"1\n", "two": b"2\n", "left.log": b"x"}
    async with client(engine.socket, files, {"key": b"a secret"}) as made:
        yield made
    engine.wherry("rmi", "--force", "graph")


async def build(asking: Client, definition: Any, *, entitlements: tuple[str, ...] = (), **attributes: str) -> Any:
    """Solves by Control; the image is called graph."""
    request = messages.SolveRequest(
        ref=secrets.token_hex(8), session=asking.session_id, definition=definition, entitlements=entitlements,
        exporter="moby", exporter_attrs={"name": "graph", **{k.replace("_", "."): v for k, v in attributes.items()}},
    )  # fmt: skip
    return (await asking.control("Solve", request, messages.SolveResponse)).exporter_response


def shows(engine: Engine, *command: str) -> str:
    return engine.wherry("run", "--rm", "--network", "none", "graph", *command, check=True).stdout


async def test_a_command_on_an_image(asking: Client, engine: Engine) -> None:
    graph = Definition()
    first = graph.run(graph.image("busybox"), "sh", "-c", "echo said; echo $A > /made", meta={"hostname": "here"})
    second = graph.run(first, "sh", "-c", "cat /made /proc/sys/kernel/random/uuid > /more")
    await build(asking, graph.end(second))
    before = shows(engine, "cat", "/more")
    await build(asking, graph.end(second))
    assert shows(engine, "cat", "/more") == before, "it was found in the cache"


async def test_progress_has_the_names_that_the_client_gives(asking: Client, engine: Engine) -> None:
    graph = Definition()
    step = graph.run(graph.image("busybox"), "sh", "-c", "echo said; exit 3", name="what people see")
    request = messages.SolveRequest(ref="named", session=asking.session_id, definition=graph.end(step))
    told, failed = await asyncio.gather(
        asking.progress("named"), asking.control("Solve", request, messages.SolveResponse), return_exceptions=True
    )
    assert isinstance(failed, RpcError) and isinstance(told, list)
    assert failed.message == 'process "sh -c echo said; exit 3" did not complete successfully: exit code: 3'
    vertices = {vertex.name: vertex for message in told for vertex in message.vertexes}
    assert vertices["what people see"].error == failed.message
    assert b"said\n" in [log.msg for message in told for log in message.logs]


async def test_mounts(asking: Client, engine: Engine) -> None:
    graph = Definition()
    base = graph.image("busybox")
    mounts = [
        messages.MountOp(input=1, dest="/context", output=NOTHING, readonly=True),
        messages.MountOp(input=2, dest="/written", output=NOTHING),
        messages.MountOp(input=NOTHING, dest="/out", output=1),
        messages.MountOp(input=NOTHING, dest="/run/secret", output=NOTHING, type=1,
                         secret=messages.SecretOpt(id="key", mode=0o400)),
        messages.MountOp(input=NOTHING, dest="/cache", output=NOTHING, type=3,
                         cache=messages.CacheOpt(id=secrets.token_hex())),
        messages.MountOp(input=NOTHING, dest="/tmpfs", output=NOTHING, type=4),
        messages.MountOp(input=1, dest="/part", selector="one", output=NOTHING, readonly=True),
    ]  # fmt: skip
    exclude = graph.source("local://context", local_excludepatterns=json.dumps(["*.log"]))
    step = graph.run(
        base, "sh", "-c", "cat /context/two /part /run/secret > /out/all; echo >> /written/bin/x; touch /cache/x; "
        "mount | grep -c ' /tmpfs ' >> /out/all; echo $KEY >> /out/all",
        mounts=mounts, inputs=[exclude, base], secret_env=[messages.SecretEnv(id="key", name="KEY")],
    )  # fmt: skip
    copied = graph.file(
        base, messages.Input(digest=step.digest, index=1), actions=[action("copy", second=1, src="/all", dest="/all")]
    )
    await build(asking, graph.end(copied))
    assert shows(engine, "cat", "/all") == "2\n1\na secret1\na secret\n"
    saved = engine.request("GET", "/images/graph/json").body
    assert "a secret" not in json.dumps(saved) and "a secret" not in engine.log_text()


async def test_file_operations(asking: Client, engine: Engine) -> None:
    graph = Definition()
    base, context = graph.image("busybox"), graph.source("local://context")
    owner = messages.ChownOpt(user=messages.UserOpt(by_id=1))
    changed = graph.file(
        base,
        context,
        actions=[
            action("mkdir", output=NOTHING, path="/a/b", mode=0o750, make_parents=True, owner=owner),
            action("mkfile", input=2, output=NOTHING, path="/a/b/file", mode=0o640, data=b"content\0", timestamp=10**9),
            action("symlink", input=3, output=NOTHING, oldpath="file", newpath="/a/b/link"),
            action("copy", input=4, second=1, output=NOTHING, src="/", dest="/all/", dir_copy_contents=True,
                   create_dest_path=True, exclude=["*.log"]),
            action("copy", input=5, second=1, output=NOTHING, src="/t*", dest="/wild/", allow_wildcard=True,
                   create_dest_path=True, mode=0o600, timestamp=0),
            action("copy", input=6, second=0, output=NOTHING, src="/etc", dest="/a", create_dest_path=True),
            action("copy", input=7, second=1, output=NOTHING, src="/", dest="/only/", dir_copy_contents=True,
                   create_dest_path=True, include=["o*"]),
            action("rm", input=8, output=NOTHING, path="/bin/b*x", allow_wildcard=True),
            action("rm", input=9, path="/nothing", allow_not_found=True),
        ],
    )  # fmt: skip
    await build(asking, graph.end(changed))
    files = _files(engine)
    assert "bin/busybox" not in files and "bin/sh" in files
    assert (files["a/b"].mode, files["a/b"].uname or files["a/b"].uid) != (0, 0)
    assert oct(files["a/b"].mode) == "0o750" and files["a/b"].uid == files["a"].uid == 1
    assert oct(files["a/b/file"].mode) == "0o640" and files["a/b/file"].size == 8 and files["a/b/file"].mtime == 1
    assert files["a/b/link"].linkname == "file"
    assert {name for name in files if name.startswith("all/")} == {"all/one", "all/two"}
    assert {name for name in files if name.startswith("only/")} == {"only/one"}
    assert oct(files["wild/two"].mode) == "0o600" and files["wild/two"].mtime == 0
    assert "a/etc/passwd" in files


def _files(engine: Engine) -> dict[str, Any]:
    answer = engine.request("GET", "/build/files?image=graph")
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        return {member.name: member for member in tar}


def _diff(graph: Definition, lower: Any, upper: Any) -> Any:
    inputs = {"lower": messages.OpInput(input=0), "upper": messages.OpInput(input=1)}
    return graph.add(lower, upper, diff=messages.DiffOp(**inputs))


async def test_merge_and_diff(asking: Client, engine: Engine) -> None:
    graph = Definition()
    base = graph.image("busybox")
    left = graph.run(base, "sh", "-c", "echo left > /left; rm /etc/group; echo left > /both")
    right = graph.run(base, "sh", "-c", "echo right > /right; echo right > /both")
    of_left = graph.add(
        base, left, diff=messages.DiffOp(lower=messages.OpInput(input=0), upper=messages.OpInput(input=1))
    )
    of_right = graph.add(
        base, right, diff=messages.DiffOp(lower=messages.OpInput(input=0), upper=messages.OpInput(input=1))
    )
    parts = [messages.OpInput(input=number) for number in range(3)]
    merged = graph.add(base, of_right, of_left, merge=messages.MergeOp(inputs=parts))
    await build(asking, graph.end(merged))
    assert shows(engine, "cat", "/left", "/right", "/both") == "left\nright\nleft\n"
    assert "etc/group" not in _files(engine)
    await build(asking, graph.end(of_left))
    assert {name for name in _files(engine) if "etc" not in name} == {"left", "both"}
    other = graph.add(
        left, right, diff=messages.DiffOp(lower=messages.OpInput(input=0), upper=messages.OpInput(input=1))
    )
    with pytest.raises(RpcError, match="do not stand on one another") as refused:
        await build(asking, graph.end(other))
    assert refused.value.code == UNIMPLEMENTED


async def test_sources(asking: Client, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "f").write_text("by http")
    with git_server(tmp_path, {"sub/g": "by git"}) as (repository, _), file_server(tmp_path / "served") as address:
        graph = Definition()
        http = graph.source(f"{address}/f", http_filename="named", http_perm="755", http_uid="7")
        git = graph.source(f"git://{repository.removeprefix('git://')}#main:sub", git_fullurl=repository)
        both = graph.file(
            graph.image("busybox"), http, git,
            actions=[
                action("copy", second=1, output=NOTHING, src="/named", dest="/named"),
                action("copy", input=3, second=2, src="/g", dest="/g"),
            ],
        )  # fmt: skip
        await build(asking, graph.end(both))
        assert shows(engine, "cat", "/named", "/g") == "by httpby git"
        files = _files(engine)
        assert (oct(files["named"].mode), oct(files["g"].mode)) == ("0o755", "0o644")
        wrong = graph.source(f"{address}/f", http_checksum="sha256:" + "0" * 64)
        with pytest.raises(RpcError, match="digest mismatch"):
            await build(asking, graph.end(wrong))


async def test_a_graph_in_a_file(asking: Client, engine: Engine) -> None:
    inner = Definition()
    made = inner.file(inner.image("busybox"), actions=[action("mkfile", path="/inner", mode=0o644, data=b"in")])
    graph = Definition()
    written = graph.file(
        actions=[action("mkfile", input=NOTHING, path="/graph", mode=0o600, data=inner.end(made).SerializeToString())]
    )
    nested = messages.BuildOp(
        builder=NOTHING, inputs={"buildkit.llb.definition": messages.OpInput(input=0)},
        attrs={"llbbuild.filename": "graph"},
    )  # fmt: skip
    await build(asking, graph.end(graph.add(written, build=nested)))
    assert shows(engine, "cat", "/inner") == "in"


async def test_the_configuration_is_the_clients(asking: Client, engine: Engine) -> None:
    graph = Definition()
    made = graph.file(graph.image("busybox"), actions=[action("mkfile", path="/f", mode=0o644, data=b"f")])
    config = {"architecture": "amd64", "os": "linux", "config": {"Env": ["A=b"], "Cmd": ["cat", "/f"]}, "history": []}
    await build(asking, graph.end(made), containerimage_config=json.dumps(config))
    image = engine.request("GET", "/images/graph/json").body
    assert image["Config"]["Env"] == ["A=b"] and len(image["RootFS"]["Layers"]) == 2
    assert shows(engine) == "f"
    with pytest.raises(RpcError, match="invalid image config"):
        await build(asking, graph.end(made), containerimage_config='{"rootfs": 3}')


class _Gateway:
    """The calls of a build that the client directs itself."""

    def __init__(self, asking: Client) -> None:
        self.asking, self.ref = asking, secrets.token_hex(8)
        request = messages.SolveRequest(
            ref=self.ref, session=asking.session_id, exporter="moby", exporter_attrs={"name": "graph"},
            frontend_inputs={"given": Definition().end()},
        )  # fmt: skip
        self.result = asyncio.create_task(asking.control("Solve", request, messages.SolveResponse))

    async def ask(self, method: str, request: Any, answer: Any) -> Any:
        assert self.asking.channel is not None
        path = f"/moby.buildkit.v1.frontend.LLBBridge/{method}"
        metadata = [("buildkit-controlapi-buildid", self.ref)]
        return await self.asking.channel.ask(path, request, answer, metadata)


async def test_a_client_looks_into_results_and_decides(asking: Client, engine: Engine) -> None:
    before = len(engine.request("GET", "/images/json?all=1").body)
    gateway = _Gateway(asking)
    graph = Definition()
    made = graph.file(
        graph.image("busybox"),
        actions=[
            action("mkfile", path="/d/../f", mode=0o640, data=b"0123456789", output=NOTHING),
            action("symlink", input=1, oldpath="f", newpath="/l"),
        ],
    )
    request = messages.GatewaySolveRequest(
        definition=graph.end(made), allow_result_return=True, allow_result_array_ref=True
    )
    ref = (await gateway.ask("Solve", request, messages.GatewaySolveResponse)).result.ref.id
    part = messages.ReadFileRequest(ref=ref, path="/l", range=messages.FileRange(offset=2, length=3))
    assert (await gateway.ask("ReadFile", part, messages.ReadFileResponse)).data == b"234"
    found = (await gateway.ask("StatFile", messages.StatFileRequest(ref=ref, path="l"), messages.StatFileResponse)).stat
    assert (found.path, found.size, found.mode) == ("l", 10, 0o640)
    listed = messages.ReadDirRequest(ref=ref, path="/", include_pattern="[fl]")
    entries = (await gateway.ask("ReadDir", listed, messages.ReadDirResponse)).entries
    assert [(each.path, each.linkname) for each in entries] == [("f", ""), ("l", "f")]
    await gateway.ask("Evaluate", messages.EvaluateRequest(ref=ref), messages.EvaluateResponse)
    assert list((await gateway.ask("Inputs", messages.InputsRequest(), messages.InputsResponse)).definitions) == [
        "given"
    ]
    for path, said in (
        ("/nowhere", "no such file"),
        ("/etc", "not a regular file"),
        ("/../../../nowhere", "no such file"),
    ):
        with pytest.raises(RpcError, match=said):
            await gateway.ask("ReadFile", messages.ReadFileRequest(ref=ref, path=path), messages.ReadFileResponse)
    with pytest.raises(RpcError, match="no such reference"):
        await gateway.ask("ReadFile", messages.ReadFileRequest(ref="x", path="/"), messages.ReadFileResponse)
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["cat", "/l"]}}).encode()
    decided = messages.ReturnRequest(
        result=messages.Result(ref=messages.Ref(id=ref), metadata={"containerimage.config": config})
    )
    await gateway.ask("Return", decided, messages.ReturnResponse)
    await gateway.result
    assert shows(engine) == "0123456789"
    assert len(engine.request("GET", "/images/json?all=1").body) == before + 1, "what was on the way is gone"


async def test_a_graph_is_a_dockerfiles_context(asking: Client, engine: Engine) -> None:
    graph = Definition()
    made = graph.file(graph.image("busybox"), actions=[action("mkfile", path="/f", mode=0o644, data=b"of a graph")])
    asking.files = {"Dockerfile": b"FROM lower\nCOPY --from=lower /f /g\n"}
    request = messages.SolveRequest(
        ref=secrets.token_hex(8), session=asking.session_id, frontend="dockerfile.v0",
        frontend_attrs={"context:lower": "input:lower"}, frontend_inputs={"lower": graph.end(made)},
        exporter="moby", exporter_attrs={"name": "graph"},
    )  # fmt: skip
    await asking.control("Solve", request, messages.SolveResponse)
    assert shows(engine, "cat", "/f", "/g") == "of a graphof a graph"


# --- hostile graphs


def _circle(graph: Definition) -> Any:
    """An action that builds on itself: digests rule out that an operation does."""
    return graph.end(graph.file(graph.image("busybox"), actions=[action("rm", input=1, path="/x")]))


def _missing(graph: Definition) -> Any:
    return graph.end(graph.run(messages.Input(digest="sha256:" + "0" * 64), "true"))


def _no_such_output(graph: Definition) -> Any:
    image = graph.image("busybox")
    return graph.end(messages.Input(digest=image.digest, index=7))


def _no_such_input(graph: Definition) -> Any:
    return graph.end(graph.file(graph.image("busybox"), actions=[action("copy", second=9, src="/", dest="/")]))


def _outputs_far_off(graph: Definition) -> Any:
    return graph.end(graph.file(graph.image("busybox"), actions=[action("rm", output=1 << 40, path="/x")]))


def _many_actions(graph: Definition) -> Any:
    return graph.end(graph.file(graph.image("busybox"), actions=[action("rm", output=NOTHING, path="/x")] * 1001))


def _many_operations(graph: Definition) -> Any:
    for number in range(10_001):
        last = graph.image(f"busybox:{number}")
    return graph.end(last)


def _remove_the_root(graph: Definition) -> Any:
    return graph.end(graph.file(graph.image("busybox"), actions=[action("rm", path="/a/../..")]))


def _two_kinds(graph: Definition) -> Any:
    return graph.end(graph.add(source=messages.SourceOp(identifier="docker-image://busybox"), merge=messages.MergeOp()))


def _no_end(graph: Definition) -> Any:
    graph.image("busybox")
    return messages.Definition(def_=graph.ops)


def _garbage(graph: Definition) -> Any:
    return messages.Definition(def_=[b"\xff\xff\xff", b"\x0a\x00"])


def _strange_source(graph: Definition) -> Any:
    return graph.end(graph.source("file:///etc"))


def _strange_operation(graph: Definition) -> Any:
    return graph.end(graph.add(graph.image("busybox")))


def _nested_without_end(graph: Definition) -> Any:
    """A file that says to read a file."""
    nested = messages.BuildOp(builder=NOTHING, inputs={"buildkit.llb.definition": messages.OpInput(input=0)})
    data = b""
    for _ in range(20):
        inner = Definition()
        written = inner.file(
            actions=[action("mkfile", input=NOTHING, path="/buildkit.llb.definition", mode=0o600, data=data)]
        )
        data = inner.end(inner.add(written, build=nested)).SerializeToString()
    return messages.Definition.FromString(data)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_circle, "its input 1 is asked for"),
        (_missing, "not whole"),
        (_no_such_output, "its output 7 is asked for"),
        (_no_such_input, "its input 9 is asked for"),
        (_outputs_far_off, "the outputs of an operation are"),
        (_many_actions, "more than 1000 actions"),
        (_many_operations, "more than 10000 operations"),
        (_remove_the_root, "cannot be removed"),
        (_two_kinds, "several kinds"),
        (_no_end, "no end"),
        (_garbage, "cannot be read"),
        (_strange_source, "is not supported: expected docker-image"),
        (_strange_operation, "kind that is not supported"),
        (_nested_without_end, "one inside the other"),
    ],
)
async def test_hostile_graphs(asking: Client, engine: Engine, make: Callable[[Definition], Any], said: str) -> None:
    with pytest.raises(RpcError, match=said):
        await build(asking, make(Definition()))
    assert "Traceback" not in engine.log_text()


@pytest.mark.parametrize("path", ["../../../../victim", "/link/victim", "/../victim"])
async def test_no_file_operation_leads_out(asking: Client, engine: Engine, tmp_path: Path, path: str) -> None:
    """A hole would be a file of the host's that is made or removed."""
    (tmp_path / "victim").write_text("whole")
    graph = Definition()
    above = f"{'../' * 12}{str(tmp_path).lstrip('/')}"
    made = graph.file(
        graph.image("busybox"), graph.source("local://context"),
        actions=[
            action("symlink", output=NOTHING, oldpath=f"/../../../..{tmp_path}", newpath="/link"),
            action("mkdir", input=2, output=NOTHING, path=str(tmp_path), mode=0o755, make_parents=True),
            action("mkfile", input=3, output=NOTHING, path=path, mode=0o644, data=b"x"),
            action("mkfile", input=4, output=NOTHING, path=f"{above}/victim", mode=0o644, data=b"x"),
            action("copy", input=5, second=1, output=NOTHING, src="/../../one", dest=f"{above}/victim"),
            action("rm", input=6, output=NOTHING, path="/link/victim", allow_not_found=True),
            action("rm", input=7, path=f"{above}/victim", allow_not_found=True),
        ],
    )  # fmt: skip
    await build(asking, graph.end(made))
    assert (tmp_path / "victim").read_text() == "whole"
    assert os.listdir(tmp_path) == ["victim"]


async def test_what_a_graph_may_have(asking: Client, engine: Engine) -> None:
    for more, name in (({"network": 1}, "network.host"), ({"security": 1}, "security.insecure")):
        graph = Definition()
        wanted = graph.end(graph.run(graph.image("busybox"), "true", **more))
        with pytest.raises(RpcError, match=f"{name} is not allowed"):
            await build(asking, wanted)
        await build(asking, wanted, entitlements=(name,))


async def test_a_client_that_goes_ends_its_graph(asking: Client, engine: Engine) -> None:
    graph = Definition()
    step = graph.run(graph.image("busybox"), "sleep", "4321")
    going = asyncio.create_task(build(asking, graph.end(step)))

    def runs() -> bool:
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        return "sleep 4321" in listed.splitlines()

    await _until(runs)
    asking.close()
    await asyncio.gather(going, return_exceptions=True)
    await _until(lambda: not runs())


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  # nobody tells when a process has ended
            await asyncio.sleep(0.05)
