"""``async with wherry.aconnect()``: all that ``connect`` has, many at once, and nothing left of what is cancelled."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

import wherry
from tests.support.engine import Engine

Main = Callable[[wherry.AsyncEngine], Coroutine[Any, Any, None]]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def go(request: pytest.FixtureRequest, engine: Engine, busybox: str) -> Callable[[Main], None]:
    """Runs a test's coroutine with a connection to the tests' engine."""

    async def connected(main: Main) -> None:
        async with wherry.aconnect(engine.host) as connection:
            await asyncio.wait_for(main(connection), 110)

    def run(main: Main) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(connected(main))

    return run


async def until(condition: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    while not await condition():  # noqa: ASYNC110 - what happens in a container sets no event
        await asyncio.sleep(0.01)


async def marked(container: wherry.AsyncContainer, mark: str) -> bool:
    found = await container.top()
    return any(mark in " ".join(row) for row in found["Processes"])


def test_all_that_the_plain_one_has(go: Callable[[Main], None]) -> None:
    for name in ("Engine", "Container", "Image", "Network", "Volume", "Process"):
        plain, core = getattr(wherry, name), getattr(wherry, f"Async{name}")
        public = {key for key in vars(core) if key[0] != "_"} - {"__annotations__"}
        assert public <= set(dir(plain))

    async def main(engine: wherry.AsyncEngine) -> None:
        assert await engine.ping()
        assert (await engine.run("busybox", ["cat"], input=b"x" * 300_000)).stdout == b"x" * 300_000
        image = await engine.build(context={"Dockerfile": "FROM busybox\nRUN true\n"})
        await image.remove()
        async with await engine.networks.create("async-net") as network, await engine.volumes.create() as volume:
            options = {"network": "async-net", "volumes": {volume.name: "/v"}}
            async with await engine.start("busybox", ["sleep", "60"], **options) as container:
                assert await container.status == "running"
                assert await network.containers == [container]
                await container.write("/v/file", pieces())
                assert await container.read("/v/file") == b"onetwo"
                assert await container.logs() == ""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.sleep(0)
        yield b"two"

    go(main)


def test_an_exec_that_is_cancelled_ends(go: Callable[[Main], None]) -> None:
    async def main(engine: wherry.AsyncEngine) -> None:
        async with await engine.start("busybox", ["sleep", "60"]) as container:
            task = asyncio.create_task(container.exec("sleep 51 & sleep 52; true"))
            await until(lambda: marked(container, "sleep 52"))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

            async def gone() -> bool:
                return not await marked(container, "sleep 5")

            await until(gone)
            assert (await container.exec("echo on")).output == "on\n"

    go(main)


def test_an_exec_that_takes_too_long_says_what_it_has_said(go: Callable[[Main], None]) -> None:
    async def main(engine: wherry.AsyncEngine) -> None:
        async with await engine.start("busybox", ["sleep", "60"]) as container:
            with pytest.raises(wherry.CommandTimedOut, match="was killed") as caught:
                await container.exec("echo so far; sleep 53", timeout=5)
            assert (caught.value.result.stdout, caught.value.result.exit_code) == (b"so far\n", 137)
            assert not await marked(container, "sleep 53")

    go(main)


def test_a_run_that_is_cancelled_leaves_nothing(go: Callable[[Main], None]) -> None:
    async def main(engine: wherry.AsyncEngine) -> None:
        for wait in (0, 0.001, 0.01, 0.1):
            task = asyncio.create_task(engine.run("busybox", ["sleep", "60"]))
            await asyncio.sleep(wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

            async def gone() -> bool:
                return not await engine.containers.list(all=True)

            await until(gone)

    go(main)


def test_a_stream_that_is_left_lets_its_connection_go(go: Callable[[Main], None]) -> None:
    async def main(engine: wherry.AsyncEngine) -> None:
        async with await engine.start("busybox", "while true; do echo line; sleep 0.01; done") as container:
            await engine.ping()
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(5):
                async with contextlib.aclosing(container.logs(stream=True)) as lines:  # type: ignore[type-var]
                    async for line in lines:
                        assert line
                        break
            assert len(os.listdir("/proc/self/fd")) <= before + 1

    go(main)


def test_three_hundred_execs_at_once(go: Callable[[Main], None]) -> None:
    async def main(engine: wherry.AsyncEngine) -> None:
        async with await engine.start("busybox", ["sleep", "60"]) as container:
            results = await asyncio.gather(*(container.exec(["echo", str(n)]) for n in range(300)))
        assert [result.output for result in results] == [f"{n}\n" for n in range(300)]

    go(main)


def test_a_process_with_streams_both_ways(go: Callable[[Main], None]) -> None:
    async def main(engine: wherry.AsyncEngine) -> None:
        async with (
            await engine.start("busybox", ["sleep", "60"]) as container,
            await container.exec("read a; echo got $a; read b; exit $b", stream=True, stdin=True) as process,
        ):
            await process.write("one\n")
            async for piece in process:
                assert piece == b"got one\n"
                break
            await process.write("7\n")
            assert await process.wait() == 7

    go(main)


def test_folders_in_and_out(go: Callable[[Main], None], tmp_path: Path) -> None:
    (tmp_path / "in" / "below").mkdir(parents=True)
    (tmp_path / "in" / "below" / "file").write_text("content")

    async def main(engine: wherry.AsyncEngine) -> None:
        async with await engine.create("busybox", ["true"]) as container:
            await container.copy_to(tmp_path / "in", "/srv")
            await container.copy_from("/srv", tmp_path / "out")
            (tmp_path / "into").mkdir()
            await container.copy_from("/srv/below/file", tmp_path / "into")

    go(main)
    assert (tmp_path / "out" / "below" / "file").read_text() == "content"
    assert (tmp_path / "into" / "file").read_text() == "content"


def test_a_containers_files_stay_where_they_are_put(engine: Engine, busybox: str, tmp_path: Path) -> None:
    """Links that lead out of the destination, as a container that means harm has them."""
    with wherry.connect(engine.host) as connection, connection.create("busybox", ["true"]) as container:
        container.put_archive("/tmp", _tar_with_link("bad", "/etc", "../../../outside"))
        with pytest.raises(Exception, match=r"outside|link|absolute"):
            container.copy_from("/tmp", tmp_path / "out")
    assert not (tmp_path.parent / "outside").exists()


def _tar_with_link(name: str, *targets: str) -> bytes:
    import io
    import tarfile

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for number, target in enumerate(targets):
            member = tarfile.TarInfo(f"{name}{number}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return packed.getvalue()


def test_importing_asyncio_is_for_those_who_use_it() -> None:
    import subprocess

    code = "import sys, wherry; wherry.connect; print('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
