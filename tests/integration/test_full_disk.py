"""A full disk: containers run and end as ever, users are told what could not be done, and they can make room."""

import re
import subprocess
import time
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


@pytest.mark.parametrize("driver", ["local", "json-file"])
def test_lines_that_find_no_room_are_counted_where_they_are_missing(small: Engine, driver: str, tmp_path: Path) -> None:
    """The container runs on, and its log goes on when there is room again."""
    line = "echo begun; for each in full free; do until [ -e /signals/$each ]; do sleep 0.01; done; "
    line += 'n=0; while [ $n -lt 400 ]; do n=$((n+1)); echo "$each $n %100s"; done; echo > /signals/$each.done; done'
    signals = ("-v", f"{tmp_path}:/signals")
    run = ("run", "-d", "--name", "prints", "--log-driver", driver, *signals, "busybox")
    small.docker(*run, "sh", "-c", line, check=True)
    for each in ("full", "free"):
        if each == "full":
            _fill(small.data_root)
        else:
            (small.data_root / "filler").unlink()
        (tmp_path / each).touch()
        _wait_for(tmp_path / f"{each}.done")
    small.docker("wait", "prints", check=True)
    shown = small.docker("logs", "prints", check=True)
    told = re.findall(r"^\[wherry: (\d+) lines of output could not be logged here: No space left on device\]$",
                      shown.stderr, re.MULTILINE)  # fmt: skip
    lost = sum(map(int, told))
    lines = [line.split()[:2] for line in shown.stdout.splitlines()]
    assert lines[0] == ["begun"]
    kept = [int(number) for each, number in lines[1:] if each == "full"]
    assert lost > 0 and lost + len(kept) == 400
    assert [number for each, number in lines[1:] if each == "free"] == [str(number) for number in range(1, 401)]
    everything = small.docker("logs", "--timestamps", "prints", check=True)
    assert everything.stderr.split()[0] < next(line for line in everything.stdout.splitlines() if " free 1 " in line)
    assert small.log_text().count("output is not logged") == small.log_text().count(f"{told[0]} lines of output") == 1
    small.docker("rm", "prints", check=True)


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.01)


def _fill(directory: Path) -> None:
    with pytest.raises(OSError, match="No space left"), (directory / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
