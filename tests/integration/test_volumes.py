"""Files and folders of the host, volumes, and volumes of other containers, in real containers."""

import http.server
import json
import os
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.engine import Engine

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("of the host\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").write_text("inner\n")
    return tmp_path


@pytest.fixture(autouse=True)
def _no_volumes_left(engine: Engine) -> object:
    yield
    engine.remove_containers()
    for volume in engine.request("GET", "/volumes").body["Volumes"] or []:
        assert engine.request("DELETE", f"/volumes/{volume['Name']}").status == 204


def _volumes(engine: Engine) -> list[str]:
    return [volume["Name"] for volume in engine.request("GET", "/volumes").body["Volumes"] or []]


def test_a_file_and_a_folder(docker: Run, busybox: str, host: Path) -> None:
    shown = docker("run", "--rm", "-v", f"{host}/file:/f", "-v", f"{host}/folder:/d", busybox, "cat", "/f", "/d/inner")
    assert shown.stdout == "of the host\ninner\n"
    docker("run", "--rm", "-v", f"{host}/folder:/d", busybox, "sh", "-c", "echo new > /d/new", check=True)
    assert (host / "folder" / "new").read_text() == "new\n"


def test_read_only_is_so_for_submounts_too(docker: Run, busybox: str, host: Path) -> None:
    below = host / "folder" / "below"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", below], check=True)
    try:
        for path in ("/d/x", "/d/below/x"):
            shown = docker("run", "--rm", "-v", f"{host}/folder:/d:ro", busybox, "touch", path)
            assert shown.returncode == 1 and "Read-only file system" in shown.stderr, path
    finally:
        subprocess.run(["umount", below], check=True)


@pytest.mark.parametrize(("mode", "optional"), [("rprivate", ""), ("rslave", "master:"), ("rshared", "shared:")])
def test_propagation(docker: Run, busybox: str, host: Path, mode: str, optional: str) -> None:
    subprocess.run(["mount", "--bind", host / "folder", host / "folder"], check=True)
    subprocess.run(["mount", "--make-shared", host / "folder"], check=True)
    try:
        shown = docker("run", "--rm", "-v", f"{host}/folder:/d:{mode}", busybox, "cat", "/proc/self/mountinfo")
        (line,) = [line for line in shown.stdout.splitlines() if line.split()[4] == "/d"]
        fields = line.partition(" - ")[0].split()[6:]
        assert [field.rstrip("0123456789") for field in fields] == ([optional] if optional else [])
    finally:
        subprocess.run(["umount", host / "folder"], check=True)


def test_a_missing_source_is_made_by_v_and_refused_by_mount(docker: Run, busybox: str, host: Path) -> None:
    docker("run", "--rm", "-v", f"{host}/new/deep:/d", busybox, "true", check=True)
    assert (host / "new" / "deep").is_dir()
    shown = docker("run", "--rm", "--mount", f"type=bind,source={host}/no,target=/d", busybox, "true")
    assert shown.returncode == 125
    assert f"bind source path does not exist: {host}/no" in shown.stderr
    assert not (host / "no").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-v", "name:relative"], "mount path must be absolute"),
        (["-v", "/a:/x", "-v", "/b:/x"], "Duplicate mount point: /x"),
        (["-v", "/a:/x:sideways"], "invalid mode: sideways"),
        (["-v", "/a:/"], "destination can't be '/'"),
        (["-v", "a/b:/x"], "includes invalid characters for a local volume name"),
        (["--volumes-from", "nobody"], "No such container: nobody"),
        (["--mount", "type=volume,source=x,target=/x,volume-driver=nothing"], "nothing"),
    ],
)
def test_bad_input(docker: Run, engine: Engine, busybox: str, arguments: list[str], message: str) -> None:
    shown = docker("run", "--rm", *arguments, busybox, "true")
    assert shown.returncode == 125
    assert message in shown.stderr
    assert engine.request("GET", "/containers/json?all=1").body == []


def test_volumes_keep_what_is_written(docker: Run, busybox: str) -> None:
    docker("run", "--rm", "-v", "keep:/d", busybox, "sh", "-c", "echo kept > /d/f", check=True)
    assert docker("run", "--rm", "-v", "keep:/d:ro", busybox, "cat", "/d/f").stdout == "kept\n"


def test_anonymous_volumes_go_with_rm_and_named_ones_stay(docker: Run, engine: Engine, busybox: str) -> None:
    docker("run", "--rm", "-v", "/a", "-v", "named:/b", busybox, "true", check=True)
    assert _volumes(engine) == ["named"]
    docker("run", "--name", "two", "-v", "/a", busybox, "true", check=True)
    assert len(_volumes(engine)) == 2
    docker("rm", "two", check=True)
    assert len(_volumes(engine)) == 2
    docker("run", "--name", "three", "-v", "/a", busybox, "true", check=True)
    docker("rm", "-v", "three", check=True)
    assert len(_volumes(engine)) == 2


def test_the_data_container_of_2014(docker: Run, busybox: str) -> None:
    docker("run", "-d", "-v", "/data", "--name", "data", busybox, "echo", "Data", check=True)
    docker("wait", "data", check=True)
    docker("run", "--rm", "--volumes-from", "data", busybox, "sh", "-c", "echo shared > /data/f", check=True)
    assert docker("run", "--rm", "--volumes-from", "data", busybox, "cat", "/data/f").stdout == "shared\n"
    shown = docker("run", "--rm", "--volumes-from", "data:ro", busybox, "touch", "/data/g")
    assert shown.returncode == 1 and "Read-only" in shown.stderr


def test_a_volume_is_filled_from_the_image_with_owners_and_modes(docker: Run, busybox: str) -> None:
    script = "mkdir -p /srv/data/sub; cd /srv/data; echo x > sub/f; chmod 640 sub/f; chown 7:8 sub/f; chmod 1777 ."
    docker("run", "--name", "maker", busybox, "sh", "-c", script, check=True)
    docker("commit", "-c", "VOLUME /srv/data", "maker", "filled:latest", check=True)
    try:
        look = ["sh", "-c", "stat -c '%a %u %g' /srv/data /srv/data/sub/f; cat /srv/data/sub/f"]
        assert docker("run", "--rm", "filled", *look).stdout == "1777 0 0\n640 7 8\nx\n"
        assert docker("run", "--rm", "-v", "mine:/srv/data", "filled", *look).stdout == "1777 0 0\n640 7 8\nx\n"
        docker("run", "--rm", "-v", "mine:/srv/data", "filled", "rm", "-r", "/srv/data/sub", check=True)
        docker("run", "--rm", "-v", "other:/x", "busybox", "touch", "/x/own", check=True)
        assert docker("run", "--rm", "-v", "other:/srv/data", "filled", "ls", "/srv/data").stdout == "own\n"
        assert docker("run", "--rm", "-v", "bare:/srv/data:nocopy", "filled", "ls", "/srv/data").stdout == ""
    finally:
        docker("rm", "-f", "maker")
        docker("rmi", "-f", "filled")


def test_mounts_of_every_type(docker: Run, busybox: str, host: Path) -> None:
    shown = docker(
        "run", "--rm",
        "--mount", f"type=bind,source={host}/folder,target=/b,readonly",
        "--mount", "type=volume,source=labelled,target=/v,volume-label=a=b",
        "--mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700",
        "--tmpfs", "/u:size=2m,mode=711",
        busybox, "sh", "-c", "cat /b/inner; touch /b/x; stat -c '%a' /t /u; df -k /t /u | awk 'NR>1 {print $2}'",
    )  # fmt: skip
    assert shown.stdout == "inner\n700\n711\n1024\n2048\n"
    assert "Read-only" in shown.stderr
    assert json.loads(docker("volume", "inspect", "labelled").stdout)[0]["Labels"] == {"a": "b"}


def test_nested_mounts_are_ordered_by_path(docker: Run, busybox: str, host: Path) -> None:
    shown = docker("run", "--rm", "-v", f"{host}/file:/n/deep/file", "-v", "outer:/n", "-v", "middle:/n/deep",
                   busybox, "cat", "/n/deep/file")  # fmt: skip
    assert shown.stdout == "of the host\n"


def test_a_mount_over_a_file_a_link_and_into_nowhere(docker: Run, busybox: str, host: Path) -> None:
    target = "/not/there/yet"
    docker(
        "run",
        "--name",
        "linked",
        busybox,
        "sh",
        "-c",
        "mkdir /real && ln -s /real /link && ln -s /etc/passwd /pw",
        check=True,
    )
    docker("commit", "linked", "linked:latest", check=True)
    try:
        shown = docker("run", "--rm", "-v", f"{host}/file:/etc/issue", "-v", f"{host}/folder:/link",
                       "-v", f"{host}/file:{target}", "linked", "cat", "/etc/issue", "/real/inner", target)  # fmt: skip
        assert shown.stdout == "of the host\ninner\nof the host\n"
    finally:
        docker("rm", "-f", "linked")
        docker("rmi", "-f", "linked")


def test_no_link_leads_a_mount_out(docker: Run, busybox: str, host: Path) -> None:
    """CVE-2021-30465: a link in the image, or in a volume that another container writes to, as a mount's target."""
    outside = host / "outside"
    outside.mkdir()
    docker("run", "--rm", "-v", "trap:/v", busybox, "ln", "-s", f"../../../../../..{outside}", "/v/target", check=True)
    shown = docker(
        "run", "--rm", "-v", "trap:/v", "-v", f"{host}/folder:/v/target/sub", busybox, "ls", "-d", f"{outside}/sub"
    )
    assert shown.stdout == f"{outside}/sub\n"  # inside the container
    assert list(outside.iterdir()) == []


def test_a_volume_in_use_cannot_be_removed(docker: Run, busybox: str) -> None:
    docker("create", "--name", "user", "-v", "used:/d", busybox, "true", check=True)
    shown = docker("volume", "rm", "used")
    assert shown.returncode == 1 and "volume is in use" in shown.stderr
    docker("rm", "user", check=True)
    docker("volume", "rm", "used", check=True)


def test_volume_commands(docker: Run, busybox: str) -> None:
    assert docker("volume", "create", "--label", "tier=db", "one").stdout == "one\n"
    docker("volume", "create", "two", check=True)
    assert docker("volume", "ls", "-q", "-f", "label=tier=db").stdout == "one\n"
    assert docker("volume", "ls", "-q", "-f", "name=tw").stdout == "two\n"
    docker("run", "--name", "user", "-v", "one:/d", busybox, "true", check=True)
    assert docker("volume", "ls", "-q", "-f", "dangling=true").stdout == "two\n"
    assert docker("volume", "prune", "-af").stdout.startswith("Deleted Volumes:\ntwo\n")
    shown = docker("volume", "inspect", "nothing")
    assert shown.returncode == 1 and "no such volume" in shown.stderr
    shown = docker("volume", "create", "/bad")
    assert shown.returncode == 1 and "includes invalid characters" in shown.stderr


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
    assert shown.returncode == 1 and 'invalid option: "colour"' in shown.stderr


def test_a_hundred_volumes_in_fifty_containers_survive_a_kill(own_engine: Engine) -> None:
    def start(number: int) -> None:
        script = f"echo {number} > /a/mark; echo {number} > /b/mark; while true; do sleep 100; done"
        own_engine.docker("run", "-d", "--name", f"user{number}", "-v", f"a{number}:/a", "-v", f"b{number}:/b",
                          "busybox", "sh", "-c", script, check=True)  # fmt: skip

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(start, range(50)))
    own_engine.kill()
    own_engine.start()
    volumes = own_engine.request("GET", "/volumes").body["Volumes"]
    assert len(volumes) == 100
    for number in range(50):
        assert own_engine.docker("exec", f"user{number}", "cat", "/a/mark", "/b/mark").stdout == f"{number}\n{number}\n"
    own_engine.remove_containers()
    for volume in volumes:
        assert Path(volume["Mountpoint"], "mark").read_text().strip() == volume["Name"][1:]
        assert own_engine.request("DELETE", f"/volumes/{volume['Name']}").status == 204
    assert not os.listdir(own_engine.data_root / "volumes")


class Plugin:
    """A volume driver by Docker's protocol, with its volumes in a folder; ``calls`` is what it was asked."""

    def __init__(self, folder: Path, socket_path: Path) -> None:
        self.calls: list[tuple[str, dict[str, object]]] = []
        self._folder = folder
        plugin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
                answer = json.dumps(plugin.answer(self.path, body)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def address_string(self) -> str:
                return "unix"

            def log_message(self, *arguments: object) -> None:
                return

        self._server = socketserver.ThreadingUnixStreamServer(str(socket_path), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def answer(self, path: str, body: dict[str, object]) -> dict[str, object]:
        if path == "/Plugin.Activate":
            return {"Implements": ["VolumeDriver"]}
        method, name = path.removeprefix("/VolumeDriver."), str(body.get("Name"))
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
            return {"Volume": {"Name": name, "Mountpoint": str(place), "Status": {"colour": "red"}}, "Err": ""}
        return {"Err": ""}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


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
    assert Path(found["Mountpoint"], "f").read_text() == "far\n"
    assert docker("run", "--rm", "--mount", f"type=volume,source=other,target=/d,volume-driver={name}", busybox,
                  "touch", "/d/made").returncode == 0  # fmt: skip
    for volume in ("plugged", "other"):
        docker("volume", "rm", volume, check=True)
    shown = docker("volume", "create", "-d", name, "-o", "fail=yes", "third")
    assert shown.returncode == 1 and "out of space on the moon" in shown.stderr
    assert "third" not in _volumes(engine)
    methods = [method for method, _ in driver.calls]
    assert methods.count("Mount") == methods.count("Unmount") == methods.count("Remove") == 2


def test_a_plugin_that_is_not_there(docker: Run, busybox: str) -> None:
    shown = docker("volume", "create", "-d", "nowhere", "lost")
    assert shown.returncode == 1
    assert 'error looking up volume plugin nowhere: plugin "nowhere" not found' in shown.stderr


def test_a_part_of_a_volume_and_no_link_out_of_it(docker: Run, busybox: str, host: Path) -> None:
    script = f"mkdir -p /d/a/b; echo part > /d/a/b/f; ln -s {'../' * 20}{host}/folder /d/out"
    docker("run", "--rm", "-v", "whole:/d", busybox, "sh", "-c", script, check=True)
    mount = "type=volume,source=whole,target=/p,volume-subpath="
    assert docker("run", "--rm", "--mount", f"{mount}a/b", busybox, "cat", "/p/f").stdout == "part\n"
    assert docker("run", "--rm", "--mount", f"{mount}out", busybox, "cat", "/p/inner").returncode != 0
    assert docker("run", "--rm", "--mount", f"{mount}../x", busybox, "true").returncode == 125
    shown = docker("run", "--rm", "--mount", f"{mount}missing", busybox, "true")
    assert shown.returncode == 125 and "cannot access path missing" in shown.stderr


def test_an_image_as_a_mount(docker: Run, busybox: str, debian: str) -> None:
    shown = docker("run", "--rm", "--mount", f"type=image,source={debian},target=/i", busybox, "cat", "/i/etc/issue")
    assert shown.stdout.startswith("Debian")
    shown = docker("run", "--rm", "--mount", f"type=image,source={debian},target=/i", busybox, "touch", "/i/x")
    assert shown.returncode == 1 and "Read-only" in shown.stderr
