"""What every container has beside its image's files, and how its root directory is: as in Docker."""

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.builds import Builder
from tests.support.engine import CACHE, Engine

INIT_LAYER = {
    ".dockerenv": (tarfile.REGTYPE, 0o755, ""),
    "dev/console": (tarfile.REGTYPE, 0o755, ""),
    "dev/pts": (tarfile.DIRTYPE, 0o755, ""),
    "dev/shm": (tarfile.DIRTYPE, 0o755, ""),
    "etc/hostname": (tarfile.REGTYPE, 0o755, ""),
    "etc/hosts": (tarfile.REGTYPE, 0o755, ""),
    "etc/mtab": (tarfile.SYMTYPE, 0o777, "/proc/mounts"),
    "etc/resolv.conf": (tarfile.REGTYPE, 0o755, ""),
    "proc": (tarfile.DIRTYPE, 0o755, ""),
    "sys": (tarfile.DIRTYPE, 0o755, ""),
}
STATES = {
    "created": ("create", "NAME", "true"),
    "running": ("run", "-dt", "NAME", "sleep", "1000"),
    "ended": ("run", "NAME", "true"),
}


@pytest.fixture(params=STATES)
def container(engine: Engine, busybox: str, request: pytest.FixtureRequest) -> str:
    command = STATES[request.param]
    at = command.index("NAME")
    engine.wherry(*command[:at], "--name", "looked-at", busybox, *command[at + 1 :], check=True)
    return "looked-at"


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def get(engine: Engine, path: str) -> dict[str, tarfile.TarInfo]:
    response = engine.request("GET", f"/containers/looked-at/{path}")
    assert response.status == 200, response
    return members(response.body)


def test_it_is_exported_and_is_no_change(engine: Engine, container: str) -> None:
    exported = get(engine, "export")
    found = {name: (exported[name].type, exported[name].mode, exported[name].linkname) for name in INIT_LAYER}
    assert found == INIT_LAYER
    assert not any(exported[name].size for name in INIT_LAYER)
    assert engine.request("GET", f"/containers/{container}/changes").body is None
    engine.wherry("commit", container, "committed", check=True)
    try:
        (layer,) = engine.request("GET", "/images/committed/history").body[:1]
        assert layer["Size"] == 0
        engine.wherry("rm", "-f", container, check=True)
        engine.wherry("run", "--name", container, "committed", "true", check=True)
        assert engine.request("GET", f"/containers/{container}/changes").body is None
    finally:
        engine.wherry("rm", "-f", container)
        engine.wherry("rmi", "committed")


def test_the_archive_has_no_device_and_no_file_of_the_kernel_s(engine: Engine, container: str) -> None:
    """What lies below /dev, /proc and /sys, whether the container runs or not."""
    dev = get(engine, "archive?path=/dev")
    assert {name: entry.type for name, entry in dev.items()} == {
        "dev": tarfile.DIRTYPE,
        "dev/console": tarfile.REGTYPE,
        "dev/pts": tarfile.DIRTYPE,
        "dev/shm": tarfile.DIRTYPE,
    }
    assert list(get(engine, "archive?path=/proc")) == ["proc"]
    assert list(get(engine, "archive?path=/sys")) == ["sys"]
    everything = get(engine, "archive?path=/")
    assert not any(entry.isdev() for entry in everything.values())
    assert engine.request("GET", f"/containers/{container}/archive?path=/dev/null").status == 404


def test_files_that_are_written_at_the_start(engine: Engine, busybox: str) -> None:
    """Before the first start they are there and empty, as in Docker; then they are what the container sees."""
    names = ("hostname", "hosts", "resolv.conf")
    engine.wherry("create", "--name", "looked-at", busybox, "true", check=True)
    before = get(engine, "archive?path=/etc")
    assert [before[f"etc/{name}"].size for name in names] == [0, 0, 0]
    engine.wherry("start", "-a", "looked-at", check=True)
    after = get(engine, "archive?path=/etc")
    assert all(after[f"etc/{name}"].size > 0 for name in names)


def test_mounts_of_the_user_s_are_still_seen(engine: Engine, busybox: str) -> None:
    line = "echo x > /dev/shm/own/f; echo x > /tmpfs/f; sleep 1000"
    mounts = ("-v", "/dev/shm/own", "--tmpfs", "/tmpfs")
    engine.wherry("run", "-d", "--name", "looked-at", *mounts, busybox, "sh", "-c", line, check=True)
    engine.wherry("exec", "looked-at", "sh", "-c", "until [ -e /tmpfs/f ]; do sleep 0.01; done", check=True)
    assert list(get(engine, "archive?path=/tmpfs/f")) == ["f"]
    assert list(get(engine, "archive?path=/dev/shm/own/f")) == ["f"]
    # The container's own view is as it was.
    shown = engine.wherry("exec", "looked-at", "sh", "-c", "ls /proc/1/status /dev/null", check=True)
    assert shown.stdout.split() == ["/dev/null", "/proc/1/status"]


def test_what_the_image_has_in_their_places_is_the_image_s(build: Builder, engine: Engine, busybox: str) -> None:
    build(
        f"FROM {busybox}\nRUN echo own > /etc/mtab; mkdir -m 700 /sys/x; rm -rf /srv; ln -s /tmp /srv; chmod 711 /etc",
        {},
    )
    shown = engine.wherry("run", "--rm", "built", "sh", "-c", "cat /etc/mtab; stat -c %a /etc", check=True)
    assert shown.stdout.split() == ["own", "711"]


def test_mtab(engine: Engine, busybox: str) -> None:
    shown = engine.wherry("run", "--rm", busybox, "sh", "-c", "readlink /etc/mtab; cat /etc/mtab", check=True)
    assert shown.stdout.splitlines()[0] == "/proc/mounts"
    assert "\noverlay / overlay rw" in shown.stdout


def test_a_change_to_it_is_a_change(engine: Engine, busybox: str) -> None:
    line = "rm /etc/mtab; echo x >> /.dockerenv"
    engine.wherry("run", "--name", "looked-at", busybox, "sh", "-c", line, check=True)
    found = {change["Path"]: change["Kind"] for change in engine.request("GET", "/containers/looked-at/changes").body}
    assert found == {"/.dockerenv": 0, "/etc": 0, "/etc/mtab": 2}


@pytest.fixture
def closed(engine: Engine, busybox: str, tmp_path: Path) -> Iterator[str]:
    """An image whose archive says that its root directory is somebody's, and closed to all others."""
    closed = tarfile.TarInfo("./")
    closed.type, closed.mode, closed.uid, closed.gid = tarfile.DIRTYPE, 0o700, 1000, 1000
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive, tarfile.open(CACHE / "busybox.tar") as files:
        archive.addfile(closed)
        for member in files:
            if member.name not in (".", "./"):
                archive.addfile(member, files.extractfile(member) if member.isreg() else None)
    (tmp_path / "closed.tar").write_bytes(packed.getvalue())
    engine.wherry("import", str(tmp_path / "closed.tar"), "closed", check=True)
    yield "closed"
    engine.wherry("rmi", "-f", "closed")


def test_the_root_is_everybody_s_to_enter(engine: Engine, closed: str, build: Callable[..., object]) -> None:
    shown = engine.wherry("run", "--rm", "-u", "1", closed, "stat", "-c", "%a %u:%g", "/", check=True)
    assert shown.stdout == "755 0:0\n"
    build(f"FROM {closed}\nUSER 1\nRUN stat -c '%a %u:%g' / > /tmp/root", {})
    assert engine.wherry("run", "--rm", "built", "cat", "/tmp/root", check=True).stdout == "755 0:0\n"
