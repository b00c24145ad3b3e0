"""A full disk: containers run and end as ever, users are told what could not be done, and they can make room."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import CACHE, Engine

FILL = "dd if=/dev/zero of=/big bs=64k"


@pytest.fixture
def small(_images: None) -> Iterator[Engine]:
    """An engine with 32 MB for all that it keeps."""
    engine = Engine()
    engine.data_root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", engine.data_root], check=True)
    try:
        engine.start()
        engine.load(CACHE / "busybox.image.tar")
        yield engine
        engine.remove_containers()
        engine.stop()
    finally:
        engine.kill()
        subprocess.run(["umount", "--lazy", engine.data_root], check=True)
        engine.discard()


def test_containers_end_on_a_full_disk_and_room_can_be_made(small: Engine) -> None:
    small.docker("run", "-d", "--name", "waits", "-i", "busybox", "sh", "-c", "read; exit 5", check=True)
    small.docker("run", "-d", "--name", "stays", "busybox", "sleep", "1000", check=True)
    filled = small.docker("run", "--name", "filler", "busybox", "sh", "-c", FILL)
    assert filled.returncode == 1 and "No space left on device" in filled.stderr
    _fill(small.data_root)

    assert small.docker("exec", "stays", "echo", "here", check=True).stdout == "here\n"
    assert small.docker("attach", "waits", input="\n").returncode == 5
    assert small.docker("wait", "waits", check=True).stdout == "5\n"
    small.docker("kill", "stays", check=True)
    refused = small.docker("run", "--rm", "busybox", "true")
    assert refused.returncode == 125 and "no space left on device" in refused.stderr.lower()
    refused = small.docker("load", "-i", str(CACHE / "busybox.image.tar"))
    assert refused.returncode == 1 and refused.stderr.strip() == "No space left on device"

    small.kill()
    small.start()
    states = {each["Names"][0]: each["Status"] for each in small.request("GET", "/containers/json?all=1").body}
    assert {name: status[: status.find(")") + 1] for name, status in states.items()} == {
        "/waits": "Exited (5)",
        "/stays": "Exited (137)",
        "/filler": "Exited (1)",
    }
    small.docker("rm", "filler", "waits", "stays", check=True)
    assert small.docker("run", "--rm", "busybox", "echo", "again", check=True).stdout == "again\n"


def _fill(directory: Path) -> None:
    with pytest.raises(OSError, match="No space left"), (directory / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
