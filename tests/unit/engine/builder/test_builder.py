"""Builds without files of a context: configurations, stages, the cache, what a RUN is given, and what goes wrong."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.bare_engine import BareEngine, Started, frame
from tests.support.laid_images import lay_image
from wherry.common.errors import EngineError, InvalidParameter, NotFound
from wherry.engine.builder.progress import Built, Done, Event, Failed, Planned, Printed, Warned
from wherry.engine.builder.request import (
    HOST_NETWORK,
    INSECURE,
    Attachables,
    BuildRequest,
    Limits,
    NamedContext,
    StepFailed,
)
from wherry.model.container import ContainerConfig, Ulimit


class Builds:
    def __init__(self, bare: BareEngine, directory: Path) -> None:
        self.bare = bare
        self.directory = directory
        self.events: list[Event] = []

    async def __call__(self, dockerfile: str, *tags: str, ignore: bytes | None = None, **request: Any) -> str:
        """The image's id. The events, also of one that fails, are in ``events``."""
        self.events = []
        asked, builder = BuildRequest(tags=tags, **request), self.bare.engine.builder
        find = builder.from_directory(asked, str(self.directory), dockerfile.encode(), ignore)
        async for event in builder.build(asked, find):
            self.events.append(event)
        built = self.events[-1]
        assert isinstance(built, Built)
        return built.id

    def config(self, image_id: str) -> ContainerConfig:
        found = self.bare.store.images.get(image_id).config.config
        assert found is not None
        return found

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def cached(self) -> list[bool]:
        return [event.cached for event in self.of(Done)]


@pytest.fixture
def build(bare: BareEngine, tmp_path: Path) -> Builds:
    directory = tmp_path / "context"
    directory.mkdir()
    return Builds(bare, directory)


ALL = """\
FROM app
ARG VERSION=1
ENV VERSION=$VERSION WHERE=/srv
LABEL version=${VERSION}
USER nobody
EXPOSE 80 53/udp
VOLUME /data
STOPSIGNAL SIGQUIT
SHELL ["/bin/bash", "-c"]
HEALTHCHECK --interval=5s CMD check
ONBUILD LABEL child=yes
ENTRYPOINT ["/entry"]
CMD ["all"]
"""


async def test_what_the_instructions_say_is_in_the_image(build: Builds) -> None:
    image_id = await build(ALL, "built:1", "other", build_args={"VERSION": "2"}, labels={"by": "test"})
    config = build.config(image_id)
    assert config.env and config.env[-2:] == ["VERSION=2", "WHERE=/srv"]
    assert config.labels == {"version": "2", "by": "test"}
    assert (config.user, config.stop_signal, config.shell) == ("nobody", "SIGQUIT", ["/bin/bash", "-c"])
    assert config.exposed_ports == {"53/udp": {}, "80/tcp": {}} and config.volumes == {"/data": {}}
    assert (config.entrypoint, config.cmd, config.on_build) == (["/entry"], ["all"], ["LABEL child=yes"])
    built = build.of(Built)[0]
    assert (built.names, built.is_new) == (["built:1", "other:latest"], True)
    told = build.bare.engine.events.subscribe({"type": ["image"]}, since=0, until=time.time_ns())
    assert [(event["Action"], event["Actor"]["ID"], event["Actor"]["Attributes"]["name"]) async for event in told] == [
        ("create", image_id, image_id),  # as since API 1.46, also for an image that is given no name
        ("tag", image_id, "built:1"),
        ("tag", image_id, "other:latest"),
    ]
    image = build.bare.store.images.get("built:1")
    assert [layer.chain_id for layer in build.bare.store.images.layers(image)] == [
        layer.chain_id for layer in build.bare.store.images.layers(build.bare.store.images.get("app"))
    ], "no step has changed a file"
    history = build.bare.engine.images.history("built:1")
    assert history[0]["CreatedBy"] == 'CMD ["all"]' and history[0]["Comment"].startswith("buildkit")


async def test_the_second_time_all_is_found(build: Builds) -> None:
    first = await build(ALL, "one")
    assert not any(build.cached())
    assert await build(ALL, "two") == first
    assert build.cached() == [False, *[True] * 9, False, True, True]
    assert not build.of(Built)[0].is_new
    await build(ALL, no_cache=True)
    assert not any(build.cached())
    await build(ALL, build_args={"VERSION": "3"})
    assert build.cached()[1:4] == [True, False, False]
    assert build.bare.engine.builder.cache.usage() == [], "nothing of it takes room"


async def test_what_is_pruned_of_the_cache(build: Builds) -> None:
    build.bare.launcher.begun = writing("made")
    await build(RUN)
    prune, usage = build.bare.engine.builder.cache.prune, build.bare.engine.builder.cache.usage
    (record,) = usage()
    for filters in ({"id": ["no"]}, {"type": ["exec.cachemount"]}, {"inuse": ["true"]}, {"until": ["10m"]}):
        assert not prune(everything=True, filters=filters)["CachesDeleted"], filters
    with pytest.raises(InvalidParameter, match="invalid filter 'colour'"):
        prune(everything=True, filters={"colour": ["red"]})
    assert not prune(everything=True, filters={}, min_free=1)["CachesDeleted"]
    assert not prune(everything=True, filters={}, max_used=1 << 40)["CachesDeleted"]
    assert not prune(everything=True, filters={}, min_free=1 << 60, reserved=1 << 40)["CachesDeleted"]
    assert prune(everything=True, filters={"id": [record["ID"]]})["CachesDeleted"] == [record["ID"]]


async def test_only_the_stages_that_the_target_needs(build: Builds) -> None:
    text = "FROM app AS base\nENV at=base\nFROM base AS one\nENV at=one\nFROM base AS two\nENV at=two\n"
    assert (build.config(await build(text, target="one")).env or [])[-1] == "at=one"
    (planned,) = build.of(Planned)
    assert planned.total == 4 and set(planned.stages) == {0, 1}
    assert (build.config(await build(text)).env or [])[-1] == "at=two"
    with pytest.raises(EngineError, match=r"target stage .*three.* could not be found|three"):
        await build(text, target="three")


async def test_a_base_s_triggers_run(build: Builds) -> None:
    await build("FROM app\nONBUILD LABEL child=yes\nONBUILD ENV from=trigger", "parent")
    config = build.config(await build("FROM parent\nLABEL own=1"))
    assert config.labels == {"child": "yes", "own": "1"} and not config.on_build
    assert "from=trigger" in (config.env or [])


async def test_from_scratch(build: Builds) -> None:
    image_id = await build('FROM scratch\nCMD ["/x"]')
    assert build.bare.store.images.get(image_id).config.rootfs.diff_ids == []
    assert build.config(image_id).cmd == ["/x"]


async def test_a_time_that_is_said_makes_the_same_image_everywhere(build: Builds) -> None:
    text = "FROM scratch\nENV a=b"
    arguments = {"SOURCE_DATE_EPOCH": "1700000000"}
    first = await build(text, build_args=arguments)
    assert build.bare.store.images.get(first).config.created == "2023-11-14T22:13:20Z"
    assert await build(text, build_args=arguments, no_cache=True) == first
    with pytest.raises(EngineError, match="invalid SOURCE_DATE_EPOCH: yesterday"):
        await build(text, build_args={"SOURCE_DATE_EPOCH": "yesterday"})


async def test_a_name_may_mean_another_image(build: Builds) -> None:
    lay_image(build.bare.store, "z", tag="stand-in", config=ContainerConfig(labels={"stand": "in"}))
    image_id = await build("FROM nowhere", contexts={"nowhere": NamedContext(image="stand-in")})
    assert build.config(image_id).labels == {"stand": "in"}


async def test_the_cache_of_an_image(build: Builds) -> None:
    text = "FROM app\nENV a=b\nENV c=d"
    await build(text, "first", build_args={"BUILDKIT_INLINE_CACHE": "1"})
    await build(text, cache_from=("first",), classic=True)
    assert build.cached() == [False, True, True]
    await build(text, cache_from=("app",), classic=True)
    assert build.cached() == [False, False, False]
    await build(text, cache_from=("127.0.0.1:1/gone",))
    assert "no cache from 127.0.0.1:1/gone" in build.of(Warned)[0].text


@pytest.mark.parametrize(
    ("text", "request_", "message"),
    [
        ("FROM app\nENV", {}, "ENV"),
        ("FROM app\nCOLOUR red", {}, "COLOUR"),
        ("", {}, "no instructions|empty|no build stage"),
        ("FROM app\nUSER ${x?unset}", {}, "unset"),
        ("FROM app", {"tags": ("UPPER",)}, "lowercase"),
        ("FROM app", {"platform": "beos/ppc"}, "unknown operating system"),
    ],
)
async def test_what_cannot_be_built(build: Builds, text: str, request_: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        await build(text, *request_.pop("tags", ()), **request_)


async def test_an_error_has_its_place(build: Builds) -> None:
    with pytest.raises(StepFailed) as caught:
        await build("FROM app\nENV a=b\nUSER ${x:?no user}\n")
    assert "no user" in caught.value.message and "Dockerfile:3" in caught.value.message
    assert build.of(Failed)[0].step == 3
    await build("FROM app\nENV a=b\n")
    assert build.cached()[1], "what was done before it is in the cache"


async def test_arguments_that_nobody_takes_are_told_of(build: Builds) -> None:
    await build("FROM app", build_args={"UNKNOWN": "1"})
    assert any("[UNKNOWN] were not consumed" in each.text for each in build.of(Warned))


async def test_what_a_client_hands_over_is_taken_once(bare: BareEngine) -> None:
    token = bare.engine.builder.hold(Attachables(allow=(INSECURE,)))
    assert bare.engine.builder.take(token).allow == (INSECURE,)
    with pytest.raises(NotFound, match="is not here any more"):
        bare.engine.builder.take(token)


# --- RUN


def upper_of(spec: Any) -> str:
    (options,) = (mount.options for mount in spec.rootfs)
    return next(option.removeprefix("upperdir=") for option in options if option.startswith("upperdir="))


def writing(name: str, text: bytes = b"", code: int = 0) -> Callable[[Started], None]:
    """A command that makes a file, prints ``text`` and ends."""

    def begun(started: Started) -> None:
        with open(f"{upper_of(started.spec)}/{name}", "w", encoding="ascii"):
            pass
        if text:
            started.streams[0].send(frame(text))
        started.exit(code)

    return begun


RUN = "FROM app\nARG A=1\nENV B=2\nUSER nobody\nRUN --network=none make it\n"


async def test_a_run_s_changes_become_a_layer(build: Builds) -> None:
    build.bare.launcher.begun = writing("made", b"making it\n")
    image_id = await build(RUN)
    assert [(each.stream, each.text) for each in build.of(Printed)] == [(1, "making it\n")]
    image = build.bare.store.images.get(image_id)
    assert sorted(os.listdir(build.bare.store.layers.path(image.chain_id))) == ["dev", "made", "proc", "sys"]
    (started,) = build.bare.launcher.started
    process = started.spec.process
    assert (process.args, process.user) == (("/bin/sh", "-c", "make it"), "nobody")
    assert {"A=1", "B=2"} <= set(process.env)
    assert started.spec.hostname == "wherry-build" and started.spec.interfaces == ()
    assert started.spec.id not in os.listdir(build.bare.config.exec_root)
    await build(RUN)
    assert len(build.bare.launcher.started) == 1, "it was found in the cache"
    assert build.cached()[-1]
    await build(RUN, build_args={"A": "5"})
    assert len(build.bare.launcher.started) == 2, "the argument counts, since the command can see it"


async def test_a_run_that_changes_nothing_makes_no_layer(build: Builds) -> None:
    build.bare.launcher.begun = lambda started: started.exit(0)
    image_id = await build("FROM app\nRUN --network=none true")
    assert len(build.bare.store.images.get(image_id).config.rootfs.diff_ids) == len(
        build.bare.store.images.get("app").config.rootfs.diff_ids
    ) + (1 if os.listdir(build.bare.store.layers.path(build.bare.store.images.get(image_id).chain_id)) else 0)


async def test_a_run_that_fails_says_how_and_leaves_nothing(build: Builds) -> None:
    build.bare.launcher.begun = writing("made", code=3)
    layers = os.listdir(f"{build.bare.config.data_root}/layers")
    with pytest.raises(StepFailed) as caught:
        await build(RUN)
    assert caught.value.code == 3
    assert "The command '/bin/sh -c make it' returned a non-zero code: 3" in caught.value.message
    assert caught.value.headline.startswith('process "/bin/sh -c make it" did not complete successfully')
    assert os.listdir(f"{build.bare.config.data_root}/layers") == layers
    assert os.listdir(f"{build.bare.config.data_root}/containers") == []


async def test_who_stops_listening_ends_the_command(build: Builds) -> None:
    running = asyncio.Event()
    build.bare.launcher.begun = lambda started: running.set()
    building = asyncio.create_task(build(RUN))
    await running.wait()
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    (started,) = build.bare.launcher.started
    assert not os.path.exists(f"/proc/{started.pid}")  # noqa: ASYNC240


async def test_what_a_run_may_have(build: Builds) -> None:
    build.bare.launcher.begun = lambda started: started.exit(0)
    limits = Limits(memory=64 << 20, cpu_shares=5, ulimits=(Ulimit("nofile", 10, 5),), cgroup_parent="/builds")
    text = "FROM app\nRUN --network=host --security=insecure true"
    given = Attachables(allow=(INSECURE, HOST_NETWORK))
    await build(text, limits=limits, given=given, extra_hosts=("box:10.0.0.1",))
    spec = build.bare.launcher.started[0].spec
    assert "net" not in {each.kind for each in spec.namespaces} and spec.process.seccomp == b""
    assert (spec.resources.memory, spec.resources.cpu_shares) == (64 << 20, 5)
    assert spec.cgroup.startswith("/builds/") and spec.process.rlimits[0].soft == 5
    for allowed, message in (((HOST_NETWORK,), "--security=insecure"), ((INSECURE,), "--network=host")):
        with pytest.raises(EngineError, match=f"RUN {message} needs to be allowed"):
            await build(text, given=Attachables(allow=allowed))


async def test_a_script_is_bound_into_the_container(build: Builds) -> None:
    found: list[str] = []

    def begun(started: Started) -> None:
        (mount,) = (each for each in started.spec.mounts if each.source.endswith("/script"))
        with open(mount.source, encoding="utf-8") as file:
            found.append(file.read())
        started.exit(0)

    build.bare.launcher.begun = begun
    await build("FROM app\nRUN --network=none <<EOF\n#!/bin/python\nprint(1)\nEOF\n")
    assert found == ["#!/bin/python\nprint(1)\n"]


async def test_mounts_of_a_run(build: Builds) -> None:
    specs: list[Any] = []
    contents: list[bytes] = []

    def begun(started: Started) -> None:
        specs.append(started.spec)
        contents.extend(
            Path(each.source).read_bytes() for each in started.spec.mounts if each.target.startswith("/run/secrets/")
        )
        started.exit(0)

    build.bare.launcher.begun = begun
    uid = os.getuid()
    options = f"uid={uid},gid={os.getgid()}"
    text = (
        "FROM app\nRUN --network=none "
        f"--mount=type=cache,target=/cache,{options} --mount=type=tmpfs,target=/t,size=1m "
        f"--mount=type=secret,id=key,{options} --mount=type=secret,id=word,env=WORD "
        "--mount=type=bind,target=/src true\n"
    )
    (build.directory / "file").write_text("x")
    await build(text, given=Attachables(secrets={"key": b"k3y", "word": b"w0rd"}))
    mounts = {each.target: each for each in specs[0].mounts}
    assert {"/cache", "/t", "/run/secrets/key", "/src"} <= set(mounts)
    assert mounts["/src"].source == str(build.directory) and "ro" in mounts["/src"].options
    assert "WORD=w0rd" in specs[0].process.env and contents == [b"k3y"]
    await build(text + "RUN --network=none --mount=type=cache,target=/cache again\n")
    again = {each.target: each for each in specs[-1].mounts}
    assert again["/cache"].source == mounts["/cache"].source, "what is in a cache stays"
    assert [each["Type"] for each in build.bare.engine.builder.cache.usage()].count("exec.cachemount") == 1
    for asked, message in (
        ("type=secret,id=gone,required=true", "secret gone: not found: give it with --secret id=gone"),
        ("type=ssh,required=true", "ssh agent default: not found: give it with --ssh default"),
        ("type=bind,source=gone,target=/x", "gone.*not found"),
    ):
        with pytest.raises(EngineError, match=message):
            await build(f"FROM app\nRUN --network=none --mount={asked} true")
    await build("FROM app\nRUN --network=none --mount=type=secret,id=gone --mount=type=ssh true")


async def test_an_agent_is_lent_to_a_run(build: Builds, tmp_path: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"agent: " + await reader.read(100))
        writer.write_eof()

    server = await asyncio.start_unix_server(echo, str(tmp_path / "agent"))
    answers: list[bytes] = []

    async def ask(started: Started) -> None:
        (mount,) = (each for each in started.spec.mounts if "/agent-" in each.source)
        directory = os.open(os.path.dirname(mount.source), os.O_PATH)
        reader, writer = await asyncio.open_unix_connection(
            f"/proc/self/fd/{directory}/{os.path.basename(mount.source)}"
        )
        os.close(directory)
        writer.write(b"sign")
        writer.write_eof()
        answers.append(await reader.read())
        writer.close()
        started.exit(0)

    tasks = []
    build.bare.launcher.begun = lambda started: tasks.append(asyncio.create_task(ask(started)))
    own = f"uid={os.getuid()},gid={os.getgid()}"
    await build(
        f"FROM app\nRUN --network=none --mount=type=ssh,{own} x",
        given=Attachables(ssh={"default": f"{tmp_path}/agent"}),
    )
    server.close()
    assert answers == [b"agent: sign"]
    spec = build.bare.launcher.started[0].spec
    assert "SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0" in spec.process.env


@pytest.mark.parametrize("dockerfile", ["FROM app\nCOPY --from=other f /", "FROM far.example/away"])
async def test_what_is_being_fetched_ends_with_its_build(
    build: Builds, monkeypatch: pytest.MonkeyPatch, dockerfile: str
) -> None:
    """Files go into the workspace, which goes with the build; a pull is for nobody any more."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def fetch(workspace: object, address: str) -> str:
        begun.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()
        return ""

    async def pull(*_: object) -> AsyncIterator[dict[str, str]]:
        yield {"status": await fetch(None, "")}

    monkeypatch.setattr("wherry.engine.builder.context.fetch_files", fetch)
    monkeypatch.setattr(build.bare.engine.builder, "_pull", pull)
    other = {"other": NamedContext(address="https://example.org/repository.git")}
    building = asyncio.ensure_future(build(dockerfile, contexts=other))
    await begun.wait()
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert ended.is_set()
