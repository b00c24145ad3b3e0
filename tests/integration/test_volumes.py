"""Files and folders of the host, volumes, and volumes of other containers, in real containers."""

import io
import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
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
        (["-v", "/data:ro"], "invalid volume specification: '/data:ro'"),
        (["--volumes-from", "nobody"], "No such container: nobody"),
        (["--volumes-from", "nobody:sideways"], "invalid mode: sideways"),
        (["-v", "/tmp:/etc/passwd"], "'/etc/passwd': not a directory: are you trying to mount a directory onto a file"),
        (["-v", "/etc/passwd:/tmp"], "'/tmp': not a directory: are you trying to mount a directory onto a file"),
        (["--tmpfs", "/etc/passwd"], "'/etc/passwd': not a directory: are you trying to mount a directory onto a file"),
        (["-v", "/etc/passwd"], "cannot mount volume over existing file, file exists /etc/passwd"),
        (["-v", "named:/etc/passwd"], "cannot mount volume over existing file, file exists /etc/passwd"),
        (["-v", "/tmp:/proc/sys/x"], "cannot be mounted because it is inside /proc"),
        (["-v", "/tmp:/proc"], "cannot be mounted on /proc because it is not of type proc"),
        (["--mount", "type=volume,source=x,target=/x,volume-driver=nothing"], "nothing"),
    ],
)
def test_bad_input(docker: Run, engine: Engine, busybox: str, arguments: list[str], message: str) -> None:
    shown = docker("run", "--rm", *arguments, busybox, "true")
    assert shown.returncode == 125
    assert message in shown.stderr
    assert engine.request("GET", "/containers/json?all=1").body == []


def test_a_source_that_cannot_be(docker: Run, busybox: str, host: Path) -> None:
    (host / "dangling").symlink_to(host / "nowhere")
    for path, reason in ((f"{host}/dangling", "file exists"), (f"{host}/file/below", "not a directory")):
        shown = docker("run", "--rm", "-v", f"{path}:/x", busybox, "true")
        assert shown.returncode == 125
        assert f"error while creating mount source path '{path}': mkdir {path}: {reason}" in shown.stderr
        shown = docker("run", "--rm", "--mount", f"type=bind,src={path},dst=/x", busybox, "true")
        assert shown.returncode == 125 and f"bind source path does not exist: {path}" in shown.stderr


def test_what_the_api_is_asked_for_is_what_it_shows(engine: Engine, busybox: str) -> None:
    bare = engine.request("POST", "/volumes/create", {"Name": "bare", "Labels": None}).body
    empty = engine.request("POST", "/volumes/create", {"Name": "empty", "Labels": {}, "DriverOpts": {}}).body
    assert (bare["Labels"], bare["Options"], bare["Scope"], "Status" in bare) == (None, None, "local", False)
    assert (empty["Labels"], empty["Options"]) == ({}, {})
    assert engine.request("GET", "/volumes/empty").body == empty
    typeless = {"Image": busybox, "HostConfig": {"Mounts": [{"Target": "/x"}]}}
    refused = engine.request("POST", "/containers/create", typeless)
    assert refused.status == 400
    assert refused.body["message"] == 'invalid mount config for type "": mount type unknown'


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
    assert docker("volume", "ls", "-q", "-f", "name=^t.o$").stdout == "two\n"
    docker("run", "--name", "user", "-v", "one:/d", busybox, "true", check=True)
    assert docker("volume", "ls", "-q", "-f", "dangling=true").stdout == "two\n"
    assert docker("volume", "prune", "-af").stdout.startswith("Deleted Volumes:\ntwo\n")
    shown = docker("volume", "inspect", "nothing")
    assert shown.returncode == 1 and "no such volume" in shown.stderr
    for name, message in (("/bad", "includes invalid characters"), ("x" * 256, "255 characters at most")):
        shown = docker("volume", "create", name)
        assert shown.returncode == 1 and message in shown.stderr


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


def test_an_image_as_a_mount(docker: Run, busybox: str, debian: str) -> None:
    shown = docker("run", "--rm", "--mount", f"type=image,source={debian},target=/i", busybox, "cat", "/i/etc/issue")
    assert shown.stdout.startswith("Debian")
    shown = docker("run", "--rm", "--mount", f"type=image,source={debian},target=/i", busybox, "touch", "/i/x")
    assert shown.returncode == 1 and "Read-only" in shown.stderr


def test_an_image_that_is_mounted_stays(docker: Run, busybox: str) -> None:
    docker("run", "--name", "maker", busybox, "touch", "/made", check=True)
    docker("commit", "-c", "LABEL mounted=yes", "maker", "mounted", check=True)
    docker("rm", "maker", check=True)
    try:
        mount = "type=image,source=mounted,target=/i"
        docker("run", "-d", "--name", "user", "--mount", mount, busybox, "sleep", "1000", check=True)
        for command in (["rmi", "mounted"], ["rmi", docker("images", "-q", "mounted").stdout.strip()]):
            shown = docker(*command)
            assert shown.returncode == 1 and "conflict" in shown.stderr
        docker("image", "prune", "-af", "--filter", "label=mounted=yes", check=True)
        docker("restart", "-t", "0", "user", check=True)
        assert docker("exec", "user", "ls", "/i/made").stdout == "/i/made\n"
    finally:
        docker("rm", "-f", "maker", "user")
        docker("rmi", "-f", "mounted")


def test_an_image_that_is_mounted_may_be_removed_by_force(own_engine: Engine) -> None:
    """Its files stay as long as the container, also over the engine's restart, and go with it."""
    docker = own_engine.docker
    docker("run", "--name", "maker", "busybox", "touch", "/made", check=True)
    docker("commit", "maker", "mounted", check=True)
    docker("rm", "maker", check=True)
    before = len(os.listdir(own_engine.data_root / "layers"))
    mount = "type=image,source=mounted,target=/i"
    docker("create", "--name", "user", "--mount", mount, "busybox", "ls", "/i/made", check=True)
    docker("rmi", "-f", "mounted", check=True)
    assert docker("start", "-a", "user", check=True).stdout == "/i/made\n"
    own_engine.stop()
    own_engine.start()
    assert docker("start", "-a", "user", check=True).stdout == "/i/made\n"
    docker("rm", "user", check=True)
    docker("rmi", "-f", "busybox", check=True)
    assert len(os.listdir(own_engine.data_root / "layers")) < before - 1


@pytest.mark.parametrize(("part", "shown"), [("etc", "passwd\n"), ("etc/passwd", ""), ("link", "passwd\n")])
def test_a_part_of_an_image_as_a_mount(docker: Run, busybox: str, part: str, shown: str) -> None:
    docker("run", "--name", "maker", busybox, "ln", "-s", "../../etc", "/link", check=True)
    docker("commit", "maker", "parts:latest", check=True)
    try:
        mount = f"type=image,source=parts,target=/i,image-subpath={part}"
        script = "find /i -name passwd | cut -d/ -f3; head -c 4 /i/passwd 2>/dev/null || head -c 4 /i"
        assert docker("run", "--rm", "--mount", mount, busybox, "sh", "-c", script).stdout == f"{shown}root"
        docker("create", "--name", "user", "--mount", mount, busybox, "true", check=True)
        assert docker("cp", "user:/i", "-", check=True).stdout  # of one that does not run
        failed = docker("run", "--rm", "--mount", f"{mount}/nothing", busybox, "true")
        assert failed.returncode == 125 and "nothing" in failed.stderr
        assert docker("run", "--rm", "--mount", mount, busybox, "touch", "/i/passwd").returncode == 1
    finally:
        docker("rm", "-f", "maker", "user")
        docker("rmi", "-f", "parts")


@pytest.mark.parametrize("arguments", [["--tmpfs", "/etc"], ["-v", "config:/etc"], ["--mount", "type=tmpfs,dst=/etc"]])
def test_the_engine_s_files_lie_upon_what_is_mounted_at_etc(docker: Run, busybox: str, arguments: list[str]) -> None:
    name = "--hostname=named"
    shown = docker("run", "--rm", name, *arguments, busybox, "sh", "-c", "cat /etc/hostname; grep -c named /etc/hosts")
    assert shown.stdout == "named\n1\n"
    docker("run", "--name", "ended", name, *arguments, busybox, "true", check=True)
    assert docker("cp", "ended:/etc/hostname", "-", check=True).stdout.count("named") == 1


def test_what_is_read_only_on_the_host_stays_so(docker: Run, busybox: str, host: Path) -> None:
    subprocess.run(["mount", "--bind", "-o", "ro", host / "folder", host / "folder"], check=True)
    try:
        for volume in (f"{host}/folder:/d", f"{host}:/d:rw"):
            shown = docker("run", "--rm", "-v", volume, busybox, "sh", "-c", "touch /d/x /d/folder/x")
            assert shown.returncode == 1 and "Read-only" in shown.stderr
        assert not (host / "folder" / "x").exists()
    finally:
        subprocess.run(["umount", host / "folder"], check=True)


def test_recursive_and_not(docker: Run, busybox: str, host: Path) -> None:
    """--mount's bind-recursive, seen at what is mounted below the source."""
    below = host / "folder" / "below"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", below], check=True)
    try:
        (below / "there").touch()
        seen = {}
        for how in ("enabled", "disabled", "writable", "readonly,bind-propagation=rprivate"):
            mount = f"type=bind,src={host}/folder,dst=/d,readonly,bind-recursive={how}"
            script = "ls /d/below; touch /d/x 2>/dev/null && echo top; touch /d/below/x 2>/dev/null && echo below; true"
            seen[how.partition(",")[0]] = docker("run", "--rm", "--mount", mount, busybox, "sh", "-c", script).stdout
            (below / "x").unlink(missing_ok=True)
        assert seen == {"enabled": "there\n", "disabled": "", "writable": "there\nbelow\n", "readonly": "there\n"}
    finally:
        subprocess.run(["umount", below], check=True)


@pytest.mark.parametrize(("mode", "kind"), [("rslave", "shared or slave"), ("shared", "shared")])
def test_propagation_that_the_host_has_not(docker: Run, busybox: str, host: Path, mode: str, kind: str) -> None:
    place = host / "folder"
    subprocess.run(["mount", "--bind", place, place], check=True)
    subprocess.run(["mount", "--make-private", place], check=True)
    try:
        shown = docker("run", "--rm", "-v", f"{place}:/d:{mode}", busybox, "true")
        assert shown.returncode == 125
        assert f"path {place} is mounted on {place} but it is not a {kind} mount" in shown.stderr
    finally:
        subprocess.run(["umount", place], check=True)


def test_what_is_mounted_later_is_seen_by_a_slave(docker: Run, busybox: str, host: Path) -> None:
    """And what a container mounts in a shared one, on the host."""
    place = host / "folder"
    (place / "sub").mkdir()
    subprocess.run(["mount", "--bind", place, place], check=True)
    subprocess.run(["mount", "--make-shared", place], check=True)
    try:
        for mode in ("rslave", "rshared", "rprivate"):
            docker("run", "-d", "--name", mode, "--privileged", "-v", f"{place}:/d:{mode}", busybox, "sleep", "1000",
                   check=True)  # fmt: skip
        subprocess.run(["mount", "-t", "tmpfs", "late", place / "sub"], check=True)
        (place / "sub" / "new").touch()
        seen = {mode: docker("exec", mode, "ls", "/d/sub").stdout for mode in ("rslave", "rshared", "rprivate")}
        assert seen == {"rslave": "new\n", "rshared": "new\n", "rprivate": ""}
        subprocess.run(["umount", place / "sub"], check=True)
        for mode, expected in (("rslave", []), ("rprivate", []), ("rshared", ["made"])):
            docker("exec", mode, "sh", "-c", "mount -t tmpfs t /d/sub && touch /d/sub/made", check=True)
            assert os.listdir(place / "sub") == expected, mode
        docker("exec", "rshared", "umount", "/d/sub", check=True)
    finally:
        docker("rm", "-f", "rslave", "rshared", "rprivate")
        subprocess.run(["umount", "-R", place], check=True)


def test_a_volume_of_an_image_without_a_slash_in_front(docker: Run, busybox: str) -> None:
    docker("run", "--name", "maker", busybox, "sh", "-c", "mkdir /data; echo x > /data/f", check=True)
    docker("commit", "-c", "VOLUME data", "maker", "relative:latest", check=True)
    try:
        script = "cat /data/f; grep -c ' /data ' /proc/self/mountinfo"
        assert docker("run", "--rm", "relative", "sh", "-c", script).stdout == "x\n1\n"
    finally:
        docker("rm", "-f", "maker")
        docker("rmi", "-f", "relative")


def test_volumes_outlive_the_container_that_had_them_first(docker: Run, engine: Engine, busybox: str) -> None:
    docker("run", "--name", "first", "-v", "/data", "-v", "/tmp:/host:ro", busybox, "touch", "/data/f", check=True)
    docker("create", "--name", "second", "--volumes-from", "first:ro,z", busybox, "ls", "/data", check=True)
    docker("rm", "-v", "first", check=True)
    assert docker("start", "-a", "second", check=True).stdout == "f\n"
    mounts = {mount["Destination"]: mount for mount in engine.request("GET", "/containers/second/json").body["Mounts"]}
    assert {place: mount["RW"] for place, mount in mounts.items()} == {"/data": False, "/host": False}
    docker("rm", "-v", "second", check=True)
    assert not _volumes(engine)


@pytest.mark.parametrize("made", [["-v", "/data"], ["--mount", "type=volume,dst=/data"]])
def test_the_last_of_those_that_share_a_volume_without_a_name_takes_it_along(
    docker: Run, engine: Engine, busybox: str, made: list[str]
) -> None:
    docker("create", "--name", "first", *made, "-v", "named:/named", busybox, "true", check=True)
    docker("create", "--name", "second", "--volumes-from", "first:ro", busybox, "true", check=True)
    docker("create", "--name", "third", "--rm", "--volumes-from", "second", busybox, "true", check=True)
    volume = next(name for name in _volumes(engine) if name != "named")
    docker("create", "--name", "other", "-v", f"{volume}:/data", busybox, "true", check=True)
    docker("rm", "first", check=True)
    docker("rm", "-fv", "second", check=True)
    assert _volumes(engine) == sorted([volume, "named"])
    docker("rm", "other", check=True)
    docker("start", "-a", "third", check=True)
    assert _volumes(engine) == ["named"]


def test_who_says_the_name_of_a_volume_without_one_leaves_it(docker: Run, engine: Engine, busybox: str) -> None:
    docker("create", "--name", "first", "-v", "/data", busybox, "true", check=True)
    (volume,) = _volumes(engine)
    docker("create", "--name", "other", "-v", f"{volume}:/data", busybox, "true", check=True)
    docker("rm", "first", check=True)
    docker("rm", "-v", "other", check=True)
    assert _volumes(engine) == [volume]


def test_volumes_from_fills_nothing(docker: Run, busybox: str) -> None:
    docker("create", "--name", "data", "-v", "/etc", busybox, "true", check=True)
    docker("run", "--rm", "--volumes-from", "data", busybox, "sh", "-c", "rm -r /etc/*  2>/dev/null; true", check=True)
    shown = docker("run", "--rm", "--volumes-from", "data", busybox, "sh", "-c", "ls /etc/passwd")
    assert shown.returncode == 1


def test_links_and_attributes_are_copied_into_a_volume(docker: Run, engine: Engine, busybox: str) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, type, mode, owner in (
            ("d", tarfile.DIRTYPE, 0o2750, (5, 6)),
            ("d/one", tarfile.REGTYPE, 0o4711, (3, 4)),
            ("d/two", tarfile.LNKTYPE, 0o4711, (3, 4)),
            ("d/three", tarfile.SYMTYPE, 0o777, (0, 0)),
            ("d/four", tarfile.FIFOTYPE, 0o600, (0, 0)),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.mtime = type, mode, 978307200
            member.uid, member.gid = owner
            member.linkname = {"d/two": "d/one", "d/three": "one"}.get(name, "")
            if name == "d/one":
                member.pax_headers = {"SCHILY.xattr.user.colour": "red"}
            tar.addfile(member)
    docker("create", "--name", "maker", busybox, "true", check=True)
    assert engine.request("PUT", "/containers/maker/archive?path=/srv", content.getvalue()).status == 404
    assert engine.request("PUT", "/containers/maker/archive?path=/var", content.getvalue()).status == 200
    docker("commit", "maker", "linked:latest", check=True)
    try:
        docker("create", "-v", "copied:/var/d", "linked", "true", check=True)
        place = Path(json.loads(docker("volume", "inspect", "copied").stdout)[0]["Mountpoint"])
        top, one, two = place.stat(), (place / "one").stat(), (place / "two").stat()
        assert (stat.S_IMODE(top.st_mode), top.st_uid, top.st_gid) == (0o2750, 5, 6)
        assert (stat.S_IMODE(one.st_mode), one.st_uid, one.st_gid, one.st_mtime) == (0o4711, 3, 4, 978307200)
        assert one.st_ino == two.st_ino
        assert os.getxattr(place / "one", "user.colour") == b"red"
        assert os.readlink(place / "three") == "one" and stat.S_ISFIFO((place / "four").stat().st_mode)
    finally:
        docker("rm", "-f", "maker")
        engine.remove_containers()
        docker("rmi", "-f", "linked")


def test_containers_that_fill_a_volume_at_once_all_see_it_whole(docker: Run, busybox: str) -> None:
    script = "mkdir /many; cd /many; for i in $(seq 300); do echo $i > $i; done"
    docker("run", "--name", "maker", busybox, "sh", "-c", script, check=True)
    docker("commit", "maker", "many:latest", check=True)
    try:
        with ThreadPoolExecutor(4) as pool:
            runs = [
                pool.submit(docker, "run", "--rm", "-v", "new:/many", "many", "sh", "-c", "ls /many | wc -l")
                for _ in range(4)
            ]
        assert [run.result().stdout for run in runs] == ["300\n"] * 4
    finally:
        docker("rm", "-f", "maker")
        docker("rmi", "-f", "many")
