"""``wherry.embedded()``: an engine that belongs to a process, and ends with it."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import wherry
from tests.support.engine import CACHE
from tests.support.networks import interfaces
from wherry.client.local import StartFailed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")
ARCHIVE = CACHE / "busybox.image.tar"

_PROGRAM = """
import sys, time, wherry
own = wherry.embedded()
engine = own.connect()
engine.images.load(sys.argv[1])
container = engine.start("busybox", ["sleep", "600"])
print(own.pid, container.inspect()["State"]["Pid"], own.root, flush=True)
time.sleep(600)
"""


def wait_for_end(pid: int) -> None:
    """Of a process that is not this one's child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with open(descriptor, "rb"):
        assert select.select([descriptor], [], [], 60)[0]


def test_it_ends_with_its_process_whatever_ends_that() -> None:
    program = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(ARCHIVE)], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    with program.stdout:
        engine, container, root = program.stdout.readline().split()
    program.send_signal(signal.SIGKILL)
    program.wait()
    wait_for_end(int(container))
    wait_for_end(int(engine))
    assert not Path(root).exists()
    assert interfaces(Path(root) / "data") == []


def test_what_is_in_a_folder_is_found_again(tmp_path: Path) -> None:
    root = Path(f"/var/tmp/wherry-test-{os.getpid()}")
    try:
        with wherry.embedded(root) as engine:
            engine.images.load(ARCHIVE)
            engine.volumes.create("kept")
            running = engine.start("busybox", ["sleep", "600"], name="sleeper")
            assert running.status == "running"
        with wherry.embedded(root) as engine:
            assert engine.run("busybox", ["echo", "again"]).output == "again\n"
            assert [volume.name for volume in engine.volumes.list()] == ["kept"]
            assert engine.containers.get("sleeper").status == "exited"
    finally:
        subprocess.run(["rm", "-rf", str(root)], check=True)


def test_with_asyncio() -> None:
    own = wherry.embedded()

    async def main() -> None:
        async with own as engine:
            assert await engine.images.list() == []
            assert own.host == f"unix://{own.root}/wherry.sock"

    asyncio.run(main())
    assert not Path(own.root).exists()


def test_one_that_cannot_start_says_why() -> None:
    own = wherry.embedded(arguments=["--no-such-flag"])
    with pytest.raises(StartFailed, match="unknown flag: --no-such-flag"):
        own.start()
    assert not Path(own.root).exists()
