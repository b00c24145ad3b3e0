"""What type checkers see of the plain functions is what the coroutines' classes say."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.engine import PROJECT
from wherry.client import blocking, sync

_USER = """
import asyncio
import wherry

def plain() -> int:
    with wherry.connect() as engine:
        for container in engine.containers.list(all=True):
            text: str = container.logs(tail=1)
            pieces: list[bytes] = list(container.logs(stream=True))
            name: str = container.name
        result: wherry.Result = engine.run("busybox", ["true"], memory="64m", ports={80: ("127.0.0.1", 0)})
        with engine.run("busybox", "true", stream=True) as process:
            lines: list[bytes] = list(process)
        return result.exit_code + process.wait()

async def awaited() -> int:
    async with wherry.aconnect() as engine:
        for container in await engine.containers.list(all=True):
            text: str = await container.logs(tail=1)
            pieces: list[bytes] = [piece async for piece in container.logs(stream=True)]
            name: str = await container.name
        result: wherry.Result = await engine.run("busybox", ["true"], memory="64m")
        async with await engine.run("busybox", "true", stream=True) as process:
            lines: list[bytes] = [line async for line in process]
        return result.exit_code + await process.wait()

asyncio.run(awaited())
"""
_WRONG = """
import wherry

with wherry.connect() as engine:
    engine.run("busybox", "true", enviroment={})
    engine.containers.get("x").logs(stream=True).strip()
async def awaited(engine: wherry.AsyncEngine) -> None:
    (await engine.containers.get("x")).exec("true").exit_code
"""


def test_the_stubs_are_up_to_date() -> None:
    script = PROJECT / "scripts" / "blocking_stubs.py"
    checked = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def checked(program: str, directory: Path) -> str:
    (directory / "program.py").write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(directory / "cache"), "program.py"]
    # A program of a user's sees the package as it is installed, whatever this project's own settings are
    return subprocess.run(command, cwd=directory, capture_output=True, text=True).stdout


@pytest.mark.timeout(300)
def test_a_users_program_is_typed(tmp_path: Path) -> None:
    assert checked(_USER, tmp_path).startswith("Success")
    wrong = checked(_WRONG, tmp_path)
    assert (
        "error: Unexpected keyword argument" in wrong or 'Extra key "enviroment"' in wrong or "call-overload" in wrong
    )
    assert 'has no attribute "strip"' in wrong
    assert 'has no attribute "exit_code"' in wrong


@pytest.mark.parametrize("name", ["Client", "Response", "Pending"])
def test_the_faces_have_what_the_stubs_say(name: str) -> None:
    assert inspect.getdoc(getattr(blocking, name))


def test_a_face_says_what_it_takes() -> None:
    assert "timeout" in inspect.signature(sync.Container.exec).parameters
    assert not inspect.iscoroutinefunction(sync.Container.exec)
    assert sync.Container.__name__ == "Container"
