"""Volume drivers in processes of their own."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.plugins import PluginServer

Run = Callable[..., subprocess.CompletedProcess[str]]


def _volumes(engine: Engine) -> list[str]:
    return [volume["Name"] for volume in engine.request("GET", "/volumes").body["Volumes"]]


@pytest.fixture(autouse=True)
def _no_volumes_left(engine: Engine) -> Iterator[None]:
    yield
    engine.remove_containers()
    for name in _volumes(engine):
        assert engine.request("DELETE", f"/volumes/{name}?force=1").status == 204


class Plugin:
    """A volume driver by Docker's protocol, with its volumes in a folder; ``calls`` is what it was asked."""

    def __init__(self, folder: Path, socket_path: Path) -> None:
        self.calls: list[tuple[str, dict[str, object]]] = []
        self.slow: dict[str, float] = {}  # seconds that it takes, by method
        self._folder = folder
        self._server = PluginServer(socket_path, self.answer)

    def answer(self, path: str, body: dict[str, object]) -> dict[str, object]:
        if path == "/Plugin.Activate":
            return {"Implements": ["VolumeDriver"]}
        method, name = path.removeprefix("/VolumeDriver."), str(body.get("Name"))
        time.sleep(self.slow.get(method, 0))
        self.calls.append((method, body))
        place = self._folder / name
        if method == "Create":
            if body.get("Opts") == {"fail": "yes"}:
                return {"Err": "out of space on the moon"}
            place.mkdir(exist_ok=True)
        elif method == "Remove":
            shutil.rmtree(place)
        elif method == "Mount":
            return {"Mountpoint": str(place), "Err": ""}
        elif method == "Get":
            return {"Volume": self._said(place), "Err": ""} if place.is_dir() else {"Err": "never heard of it"}
        elif method == "List":
            return {"Volumes": [self._said(each) for each in self._folder.iterdir()]}
        elif method == "Capabilities":
            return {"Capabilities": {"Scope": "global"}}
        return {"Err": ""}

    @staticmethod
    def _said(place: Path) -> dict[str, object]:
        return {"Name": place.name, "Mountpoint": str(place), "Status": {"colour": "red"}}

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[tuple[str, Plugin]]:
    name = f"test{os.getpid()}"
    sockets = Path("/run/docker/plugins")
    sockets.mkdir(parents=True, exist_ok=True)
    path = sockets / f"{name}.sock"
    running = Plugin(tmp_path, path)
    yield name, running
    running.close()
    path.unlink()


def test_a_volume_plugin(docker: Run, engine: Engine, busybox: str, plugin: tuple[str, Plugin]) -> None:
    name, driver = plugin
    docker("volume", "create", "-d", name, "-o", "size=5", "plugged", check=True)
    assert docker("run", "--rm", "-v", "plugged:/d", busybox, "sh", "-c", "echo far > /d/f; cat /d/f").stdout == "far\n"
    found = json.loads(docker("volume", "inspect", "plugged", check=True).stdout)[0]
    assert (found["Driver"], found["Status"], found["Options"]) == (name, {"colour": "red"}, {"size": "5"})
    assert found["Scope"] == "global"
    assert Path(found["Mountpoint"], "f").read_text() == "far\n"
    assert docker("run", "--rm", "--mount", f"type=volume,source=other,target=/d,volume-driver={name}", busybox,
                  "touch", "/d/made").returncode == 0  # fmt: skip
    for volume in ("plugged", "other"):
        docker("volume", "rm", volume, check=True)
    shown = docker("volume", "create", "-d", name, "-o", "fail=yes", "third")
    assert shown.returncode == 1 and "create third: out of space on the moon" in shown.stderr
    assert "third" not in _volumes(engine)
    methods = [method for method, _ in driver.calls]
    assert methods.count("Mount") == methods.count("Unmount") == methods.count("Remove") == 2


def test_a_plugin_that_is_not_there(docker: Run, busybox: str) -> None:
    shown = docker("volume", "create", "-d", "nowhere", "lost")
    assert shown.returncode == 1
    assert 'error looking up volume plugin nowhere: plugin "nowhere" not found' in shown.stderr


def test_a_slow_plugin_is_asked_in_order(docker: Run, busybox: str, plugin: tuple[str, Plugin]) -> None:
    """A container that is gone has let go of all its volumes."""
    name, driver = plugin
    driver.slow = {"Unmount": 0.3}
    volumes = ["--volume-driver", name, "-v", "one:/a", "-v", "two:/b"]
    docker("run", "-d", "--name", "again", *volumes, busybox, "sleep", "1000", check=True)
    docker("restart", "-t", "0", "again", check=True)
    docker("rm", "-f", "again", check=True)
    docker("volume", "rm", "two", "one", check=True)
    for volume in ("one", "two"):
        methods = [method for method, body in driver.calls if body.get("Name") == volume and method != "Get"]
        assert methods == ["Create", "Mount", "Unmount", "Mount", "Unmount", "Remove"]


def test_what_a_plugin_has_of_its_own(docker: Run, busybox: str, plugin: tuple[str, Plugin], tmp_path: Path) -> None:
    name, driver = plugin
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "f").write_text("from before\n")
    assert docker("volume", "ls", "-q", "-f", f"driver={name}").stdout == "theirs\n"
    assert json.loads(docker("volume", "inspect", "theirs").stdout)[0]["Mountpoint"] == str(tmp_path / "theirs")
    assert docker("run", "--rm", "-v", "theirs:/d", busybox, "cat", "/d/f").stdout == "from before\n"
    assert "Create" not in [method for method, _ in driver.calls]
    shown = docker("volume", "create", "-d", "local", "theirs")
    assert shown.returncode == 1
    assert f"create theirs: driver '{name}' already has volume 'theirs': volume name must be unique" in shown.stderr


def test_a_plugin_s_volume_is_filled_and_copied_from(docker: Run, busybox: str, plugin: tuple[str, Plugin]) -> None:
    name, driver = plugin
    docker("create", "--name", "user", "--volume-driver", name, "-v", "filled:/etc", "-v", "/nameless", busybox, "true",
           check=True)  # fmt: skip
    assert docker("cp", "user:/etc/passwd", "-").stdout.count("root:") >= 1
    assert docker("volume", "prune", "-af").stdout == "Total reclaimed space: 0B\n"
    docker("rm", "-v", "user", check=True)
    assert docker("volume", "prune", "-af").stdout == "Total reclaimed space: 0B\n"
    assert docker("volume", "ls", "-q").stdout == "filled\n"
    calls = [method for method, _ in driver.calls]
    assert calls.count("Mount") == calls.count("Unmount") > 0


def test_a_plugin_that_went_away(docker: Run, engine: Engine, busybox: str, plugin: tuple[str, Plugin]) -> None:
    name, driver = plugin
    docker("volume", "create", "-d", name, "orphan", check=True)
    driver.close()
    for command in (
        ["run", "--rm", "-v", "orphan:/d", busybox],
        ["volume", "inspect", "orphan"],
        ["volume", "rm", "orphan"],
    ):
        shown = docker(*command)
        assert shown.returncode and f'plugin "{name}" cannot be reached' in shown.stderr, command
    listed = engine.request("GET", "/volumes").body
    assert [volume["Name"] for volume in listed["Volumes"]] == ["orphan"]
    assert name in listed["Warnings"][0]
    assert docker("ps", "-aq").stdout == ""
    docker("volume", "rm", "-f", "orphan", check=True)
    assert _volumes(engine) == []
