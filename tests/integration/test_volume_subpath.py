"""Parts of volumes as mounts, and that no link leads them out."""

import itertools
import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine

Run = Callable[..., subprocess.CompletedProcess[str]]
MOUNT = "type=volume,source=whole,target={target},volume-subpath={part}"


@pytest.fixture
def image(docker: Run, engine: Engine, busybox: str) -> Iterator[str]:
    """With files in /data."""
    script = "mkdir -p /data/sub; echo image > /data/sub/f; chown -R 7:8 /data; chmod 750 /data"
    docker("run", "--name", "maker", busybox, "sh", "-c", script, check=True)
    docker("commit", "maker", "filling:latest", check=True)
    yield "filling"
    engine.remove_containers()
    docker("rmi", "-f", "filling")


@pytest.fixture
def whole(docker: Run, engine: Engine, busybox: str, image: str) -> Iterator[Path]:
    """Where the files of a volume are on the host, of which containers mount parts."""
    script = """
        cd /v; mkdir -p empty named full/inner; echo own > full/f; touch file; ln -s empty link; ln -s full/inner deep
        ln -s / root; ln -s .. up; ln -s /full absolute
    """
    docker("run", "--rm", "-v", "whole:/v", busybox, "sh", "-c", script, check=True)
    yield Path(json.loads(docker("volume", "inspect", "whole").stdout)[0]["Mountpoint"])
    engine.remove_containers()
    docker("volume", "rm", "whole", check=True)


def look(docker: Run, image: str, part: str, target: str = "/data", options: str = "") -> tuple[str, str]:
    mount = MOUNT.format(target=target, part=part) + options
    script = f"stat -c '%F %a %u %g' {target}; find {target} -type f"
    finished = docker("run", "--rm", "--mount", mount, image, "sh", "-c", script)
    return finished.stdout, finished.stderr


def test_what_is_there_is_mounted(docker: Run, image: str, whole: Path) -> None:
    for part in ("full", "full/", "deep/..", "./full/inner/.."):
        assert look(docker, image, part, "/elsewhere")[0] == "directory 755 0 0\n/elsewhere/f\n"
    assert look(docker, image, "file", "/elsewhere")[0] == "regular empty file 644 0 0\n/elsewhere\n"
    for part in ("missing", "missing/f", "file/f", "/full", "../x"):
        assert re.search("cannot access path .*/_data/|must be a relative path", look(docker, image, part)[1])
    assert not (whole / "missing").exists()


def test_an_empty_part_is_filled_from_the_image(docker: Run, image: str, whole: Path) -> None:
    empty, filled = "directory 755 0 0\n", "directory 750 7 8\n/data/sub/f\n"
    assert look(docker, image, "empty", options=",volume-nocopy")[0] == empty
    assert look(docker, image, "empty", target="/elsewhere")[0] == empty
    assert look(docker, image, "link")[0] == filled
    assert (whole / "empty/sub/f").read_text() == "image\n"
    assert look(docker, image, "full/../named/")[0] == filled
    assert look(docker, image, "full")[0] == f"{empty}/data/f\n"


@pytest.mark.parametrize("part", ["root", "up", "absolute", "link/../up/x"])
def test_a_link_that_leads_out_is_refused(docker: Run, image: str, whole: Path, part: str) -> None:
    """Before anything is copied, as in Docker, and where nothing is to be, at the start."""
    before = sorted(os.listdir(whole)), sorted(os.listdir(whole.parent))
    refused = f"path concatenation escapes the base directory, base: {whole}, subpath: {part}\n"
    assert f": failed to populate volume: {refused}" in look(docker, image, part)[1]
    assert f": {refused}" in look(docker, image, part, target="/elsewhere")[1]
    assert (sorted(os.listdir(whole)), sorted(os.listdir(whole.parent))) == before


def test_a_part_that_is_swapped_all_the_time(docker: Run, image: str, whole: Path) -> None:
    """Who writes to a volume puts links in the place of its parts: between check and mount, and check and copying."""
    outside = whole.parent / "outside"
    outside.mkdir()
    targets = itertools.cycle(["..", "../outside", "/", str(outside)])
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            for target in ("empty", next(targets)):
                (whole / "new").symlink_to(target)
                (whole / "new").rename(whole / "part")

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        seen = {look(docker, image, "part")[0] for _ in range(20)}
    finally:
        ended.set()
        swapping.join()
        left = os.listdir(outside)
        outside.rmdir()
    assert seen <= {"", "directory 755 0 0\n", "directory 750 7 8\n/data/sub/f\n"}
    assert not left
