"""Nobody but root gets to what lies below the data root, nor keeps an engine from it.

A hole looks like this: an ordinary user of the host runs a program that a container has left in a volume with the
set-user-ID bit, and is root (CVE-2021-41091); or reads a file of a container's by its path on the host.
"""

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.builds import Builder
from tests.support.engine import Engine

NOBODY = 65534


def as_nobody(work: Callable[[], Any]) -> Any:
    """What the work, done by an ordinary user, gives. A fork: that user cannot run every Python that root can."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        with open(writer, "w") as file:
            json.dump(work(), file)
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        found = json.load(file)
    os.waitpid(child, 0)
    return found


def reached_by_nobody(paths: Iterable[Path]) -> list[str]:
    def look() -> list[str]:
        return [str(path) for path in paths if _is_allowed(lambda path=path: path.lstat())]

    return list(as_nobody(look))


def _is_allowed(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except PermissionError:
        return False
    return True


@pytest.fixture
def open_engine(engine: Engine) -> Iterator[Engine]:
    """One whose data root everybody can get to: the tests' own folder around it is no wall."""
    engine.root.chmod(0o755)
    yield engine
    engine.root.chmod(0o700)


def test_a_set_user_id_program_of_a_container_s(open_engine: Engine, busybox: str, build: Builder) -> None:
    """In a volume, in a file of the engine's that is the container's to write, in its layer, in a build's cache."""
    engine = open_engine
    leave = "for path in /volume/id /id /etc/hosts; do cat /bin/busybox > $path; chmod 4755 $path; done; sleep 1000"
    name = engine.wherry("run", "-d", "-v", "left:/volume", busybox, "sh", "-c", leave, check=True).stdout.strip()
    build(f"FROM {busybox}\nRUN --mount=type=cache,target=/c cp /bin/busybox /c/id && chmod 4755 /c/id", {})
    engine.wherry("exec", name, "sh", "-c", "until [ -u /etc/hosts ]; do sleep 0.01; done", check=True)
    left = [path for path in engine.data_root.rglob("*") if path.is_file() and path.lstat().st_mode & stat.S_ISUID]
    assert {path.parts[len(engine.data_root.parts)] for path in left} >= {"volumes", "containers", "build-cache"}
    assert reached_by_nobody(left) == []
    assert not as_nobody(lambda: any(os.access(path, os.X_OK) for path in left))
    engine.wherry("rm", "-f", name, check=True)
    engine.wherry("volume", "rm", "left", check=True)


def test_nobody_gets_anywhere(open_engine: Engine, busybox: str) -> None:
    """A hole is a path below the data root that an ordinary user can look at."""
    engine = open_engine
    engine.wherry("run", "-d", "-v", "/anonymous", busybox, "sleep", "1000", check=True)
    paths = list(engine.data_root.rglob("*"))
    assert len(paths) > 100
    assert reached_by_nobody(paths) == []
    assert stat.S_IMODE(engine.data_root.stat().st_mode) == 0o710
    assert (engine.data_root.stat().st_uid, engine.data_root.stat().st_gid) == (0, 0)
    in_containers_own = [path for directory in engine.exec_root.glob("?" * 64) for path in directory.rglob("*")]
    assert in_containers_own
    assert reached_by_nobody(in_containers_own) == []


def test_a_root_of_before_is_repaired(own_engine: Engine) -> None:
    """One that an earlier version, a restored copy or an administrator has left open, folder by folder."""
    engine = own_engine
    engine.wherry("volume", "create", "kept", check=True)
    engine.wherry("create", "--name", "user", "-v", "kept:/v", "busybox", "true", check=True)
    engine.stop()
    folders = [engine.data_root, *(path for path in engine.data_root.iterdir() if path.is_dir())]
    folders += [path for name in ("containers", "volumes") for path in (engine.data_root / name).iterdir()]
    files = [path for path in engine.data_root.iterdir() if path.is_file()]
    assert len(folders) > 8 and files
    for path in (*folders, *files):
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o777)
    inside = engine.data_root / "volumes" / "kept" / "_data"
    os.chown(inside, 1000, 1000)
    inside.chmod(0o1777)
    engine.start()
    for path in (*folders, *files):
        facts = path.stat()
        assert not facts.st_mode & (0o067 if path.is_dir() else 0o177), path
        assert (facts.st_uid, facts.st_gid) == (0, 0), path
    facts = inside.stat()  # what is the container's stays as it is
    assert (stat.S_IMODE(facts.st_mode), facts.st_uid) == (0o1777, 1000)
    engine.wherry("start", "user", check=True)


def test_nobody_can_keep_an_engine_away(own_engine: Engine) -> None:
    """A lock can be taken on a file by whoever may read it: for them the engine's would be one that another has."""
    engine = own_engine
    engine.root.chmod(0o755)
    engine.stop()
    for root in (engine.exec_root, engine.data_root):
        (root / "lock").chmod(0o644)  # as versions before made it
    engine.start()
    for root in (engine.exec_root, engine.data_root):
        assert not as_nobody(lambda root=root: _is_allowed((root / "lock").open))
