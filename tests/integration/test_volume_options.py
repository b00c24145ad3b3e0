"""Volumes of the local driver with options, and what a killed engine leaves of volumes."""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.engine import Engine, wait_until_gone

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _no_volumes_left(engine: Engine) -> Iterator[None]:
    yield
    engine.remove_containers()
    for volume in engine.request("GET", "/volumes").body["Volumes"]:
        assert engine.request("DELETE", f"/volumes/{volume['Name']}").status == 204


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").write_text("inner\n")
    return tmp_path


def _mounted(engine: Engine) -> list[str]:
    """What is mounted upon folders of volumes, in the engine's own mount namespace."""
    root = f"{engine.data_root}/volumes/"
    lines = Path(f"/proc/{engine.pid}/mountinfo").read_text().splitlines()
    return [line.split()[4].removeprefix(root) for line in lines if line.split()[4].startswith(root)]


def test_options_of_the_local_driver(docker: Run, busybox: str, host: Path) -> None:
    docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=7", "memory", check=True)
    assert (
        docker(
            "run", "--rm", "-v", "memory:/m", busybox, "sh", "-c", "stat -c %u /m; df -k /m | awk 'NR>1 {print $2}'"
        ).stdout
        == "7\n1024\n"
    )
    docker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={host}/folder", "bound", check=True)
    assert docker("run", "--rm", "-v", "bound:/m", busybox, "cat", "/m/inner").stdout == "inner\n"
    shown = docker("volume", "create", "-o", "colour=red", "bad")
    assert shown.returncode == 1 and 'create bad: invalid option: "colour"' in shown.stderr


def test_containers_share_what_an_option_mounts(docker: Run, engine: Engine, busybox: str) -> None:
    docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory", check=True)
    docker(
        "run", "-d", "--name", "one", "-v", "memory:/m", busybox, "sh", "-c", "echo x > /m/f; sleep 1000", check=True
    )
    docker("run", "-d", "--name", "two", "-v", "memory:/n", busybox, "sleep", "1000", check=True)
    assert docker("exec", "two", "cat", "/n/f").stdout == "x\n"
    assert _mounted(engine) == ["memory/_data"]
    docker("rm", "-f", "one", check=True)
    assert docker("run", "--rm", "-v", "memory:/o:ro", busybox, "cat", "/o/f").stdout == "x\n"
    docker("stop", "-t", "0", "two", check=True)
    assert wait_until_gone(lambda: _mounted(engine)) == []
    assert docker("run", "--rm", "-v", "memory:/o", busybox, "ls", "/o").stdout == ""


def test_the_options_hold_for_who_mounts_it(docker: Run, busybox: str, host: Path) -> None:
    device = f"device={host}/folder"
    docker("volume", "create", "-o", "type=none", "-o", "o=bind,ro,nosuid,noexec", "-o", device, "careful", check=True)
    script = "touch /m/x; grep ' /m ' /proc/mounts | cut -d' ' -f4"
    shown = docker("run", "--rm", "-v", "careful:/m", busybox, "sh", "-c", script)
    assert "Read-only" in shown.stderr and shown.stdout.startswith("ro,nosuid,noexec,")
    docker("volume", "create", "-o", "type=none", "-o", "o=rbind", "-o", device, "bound", check=True)
    docker("create", "--name", "user", "-v", "bound:/m", busybox, "true", check=True)
    assert docker("cp", "user:/m/inner", "-").stdout.count("inner\n") == 1
    docker("rm", "user", check=True)
    docker("volume", "rm", "bound", check=True)
    assert (host / "folder" / "inner").exists()


@pytest.mark.parametrize(
    ("type", "device", "o", "message"),
    [
        ("none", "/no/such/place", "bind", "flags: 0x1000: no such file or directory"),
        ("tmpfs", "tmpfs", "colour=red", "invalid argument"),
        ("nosuch", "x", "", "no such device"),
        ("nfs", ":/path", "addr=nowhere.invalid", "error resolving passed in network volume address"),
        ("cifs", "//nowhere.invalid/share", "username=a", "error resolving passed in network volume address"),
    ],
)
def test_what_cannot_be_mounted(
    docker: Run, engine: Engine, busybox: str, type: str, device: str, o: str, message: str
) -> None:
    docker("volume", "create", "-o", f"type={type}", "-o", f"device={device}", "-o", f"o={o}", "bad", check=True)
    shown = docker("run", "--rm", "-v", "bad:/m", busybox, "true")
    assert shown.returncode in (125, 127)
    assert f"error while mounting volume '{engine.data_root}/volumes/bad/_data': " in shown.stderr
    assert message in shown.stderr
    assert _mounted(engine) == []


def test_an_engine_that_was_killed_finds_what_is_mounted(own_engine: Engine) -> None:
    docker = own_engine.docker
    for name in ("used", "left"):
        docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", name, check=True)
        docker("run", "-d", "--name", name, "-v", f"{name}:/m", "busybox", "sh", "-c", "echo x > /m/f; exec sleep 1000",
               check=True)  # fmt: skip
    pid = int(docker("inspect", "-f", "{{.State.Pid}}", "left").stdout)
    own_engine.kill()
    subprocess.run(["kill", "-9", str(pid)], check=True)
    own_engine.start()
    assert not wait_until_gone(lambda: _mounted(own_engine) != ["used/_data"])
    assert docker("run", "--rm", "-v", "used:/m", "busybox", "cat", "/m/f").stdout == "x\n"
    docker("rm", "-f", "used", check=True)
    assert wait_until_gone(lambda: _mounted(own_engine)) == []


def test_a_volume_is_filled_whole_or_not_at_all(own_engine: Engine) -> None:
    docker = own_engine.docker
    script = "mkdir /many; cd /many; for i in $(seq 10000); do : > f$i; done"
    docker("run", "--name", "maker", "busybox", "sh", "-c", script, check=True)
    docker("commit", "maker", "many", check=True)
    place = own_engine.data_root / "volumes" / "filled"
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(docker, "create", "-v", "filled:/many", "many", "true")
        assert not wait_until_gone(lambda: not (place / "_new" / "f1").exists())
        own_engine.kill()
        assert making.result().returncode == 1
    assert not any((place / "_data").iterdir())
    own_engine.start()
    shown = docker("run", "--rm", "-v", "filled:/many", "many", "sh", "-c", "ls /many | wc -l", check=True)
    assert shown.stdout == "10000\n"


@pytest.mark.parametrize("way", ["a mount", "a link"])
def test_a_volume_that_the_host_keeps_elsewhere(
    docker: Run, engine: Engine, busybox: str, host: Path, way: str
) -> None:
    elsewhere = host / "elsewhere"
    elsewhere.mkdir()
    docker("volume", "create", "moved", check=True)
    place = engine.data_root / "volumes" / "moved" / "_data"
    if way == "a mount":
        subprocess.run(["mount", "--bind", elsewhere, place], check=True)
    else:
        place.rmdir()
        place.symlink_to(elsewhere)
    try:
        assert docker("run", "--rm", "-v", "moved:/etc", busybox, "ls", "/etc/passwd").stdout == "/etc/passwd\n"
        assert (elsewhere / "passwd").exists()
    finally:
        if way == "a mount":
            subprocess.run(["umount", place], check=True)


def test_what_a_kill_leaves_of_volumes(own_engine: Engine) -> None:
    """What was being made is whole, what was being removed is gone, and nobody's data is thrown away."""
    own_engine.docker("volume", "create", "made", check=True)
    volumes = own_engine.data_root / "volumes"
    own_engine.kill()
    (volumes / "made" / "_data").rmdir()
    (volumes / "made" / "_new").mkdir()
    (volumes / ".0123456789abcdef" / "_data" / "deep").mkdir(parents=True)
    (volumes / "restored" / "_data").mkdir(parents=True)
    (volumes / "restored" / "_data" / "f").write_text("kept\n")
    own_engine.start()
    shown = own_engine.docker(
        "run", "--rm", "-v", "made:/etc", "-v", "restored:/r", "busybox", "cat", "/r/f", "/etc/passwd"
    )
    assert shown.returncode == 0 and shown.stdout.startswith("kept\nroot:")
    assert not wait_until_gone(lambda: sorted(path.name for path in volumes.iterdir()) != ["made", "restored"])
    assert [path.name for path in (volumes / "made").iterdir()] == ["_data"]


def test_prune_takes_the_volumes_of_containers_that_are_gone(docker: Run, engine: Engine, busybox: str) -> None:
    docker("run", "--name", "gone", "-v", "/a", "-v", "named:/b", busybox, "sh", "-c", "echo 12345 > /a/f", check=True)
    assert engine.request("POST", "/volumes/prune").body == {"VolumesDeleted": [], "SpaceReclaimed": 0}
    docker("rm", "gone", check=True)
    (nameless,) = (each for each in engine.request("GET", "/volumes").body["Volumes"] if each["Name"] != "named")
    assert nameless["Labels"] == {"com.docker.volume.anonymous": ""}
    pruned = engine.request("POST", "/volumes/prune").body
    assert pruned == {"VolumesDeleted": [nameless["Name"]], "SpaceReclaimed": 6}


def test_prune_leaves_what_is_elsewhere(docker: Run, engine: Engine, host: Path) -> None:
    docker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={host}/folder", "bound", check=True)
    docker("volume", "create", "named", check=True)
    nameless = docker("volume", "create", check=True).stdout.strip()
    assert engine.request("POST", "/volumes/prune").body["VolumesDeleted"] == [nameless]
    assert docker("volume", "prune", "-f", "--all").stdout.startswith("Deleted Volumes:\nnamed\n")
    assert engine.request("POST", "/v1.41/volumes/prune").body["VolumesDeleted"] == []
    assert [volume["Name"] for volume in engine.request("GET", "/volumes").body["Volumes"]] == ["bound"]
    assert engine.request("GET", "/system/df").body["Volumes"] == []
