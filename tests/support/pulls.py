"""Pulls over the API, and what they leave."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine, wait_until_gone


def pull(engine: Engine, name: str, tag: str = "1") -> tuple[list[dict[str, Any]], str]:
    """The messages of a pull, and its error, "" for none."""
    answer = engine.request("POST", f"/v1.51/images/create?fromImage={name}&tag={tag}")
    body = answer.body
    found = [json.loads(line) for line in body.splitlines() if line.strip()] if isinstance(body, bytes) else [body]
    return found, str(found[-1].get("error") or found[-1].get("message") or "")


def assert_nothing_left(engine: Engine) -> None:
    """No blob, no layer, nothing in the staging area: of an engine that has no image."""
    assert engine.request("GET", "/v1.51/images/json?all=1").body == []
    left = wait_until_gone(
        lambda: [path for name in ("blobs/sha256", "layers", "tmp") for path in (engine.data_root / name).glob("*")]
    )
    assert not left


@contextlib.contextmanager
def engine_on_a_disk(tmp_path: Path, megabytes: int) -> Iterator[Engine]:
    """An engine whose data root is a file system of its own."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("needs Debian's package e2fsprogs")
    engine = Engine()
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(disk)], check=True)
    engine.data_root.mkdir()
    if subprocess.run(["mount", "-o", "loop", str(disk), str(engine.data_root)], check=False).returncode:
        engine.discard()
        pytest.skip("no loop devices")
    (engine.data_root / "lost+found").rmdir()
    try:
        engine.start()
        yield engine
    finally:
        engine.kill()
        wait_until_gone(engine.processes)
        subprocess.run(["umount", str(engine.data_root)], check=False)
        engine.discard()
