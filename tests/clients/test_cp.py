"""``cp`` both ways, by docker's command line and by wherry's."""

import io
import json
import os
import subprocess
import tarfile
from base64 import b64decode
from pathlib import Path

import pytest

from tests.clients.conftest import Cli
from tests.support.engine import Engine


@pytest.fixture(params=["running", "paused", "created", "exited"])
def container(request: pytest.FixtureRequest, cli: Cli, busybox: str) -> str:
    """One of each state; /t/dir, /t/file ("old"), /t/link -> dir, and the volume /vol."""
    command = "mkdir -p /t/dir; echo old >/t/file; ln -s dir /t/link; echo kept >/vol/kept"
    state = request.param
    if state in ("running", "paused"):
        name = cli.ok("run", "-d", "-v", "/vol", busybox, "sh", "-c", f"{command}; touch /ready; sleep 600")
        wait_for(cli, name, "/ready")
        if state == "paused":
            cli.ok("pause", name)
    else:
        name = cli.ok("create", "-v", "/vol", busybox, "sh", "-c", command)
        if state == "exited":
            cli.ok("start", "-a", name)
        else:
            prepare(cli, name)
    return name


def wait_for(cli: Cli, name: str, path: str) -> None:
    cli.ok("exec", name, "sh", "-c", f"while ! [ -e {path} ]; do sleep 0.01; done")


def prepare(cli: Cli, name: str) -> None:
    """Makes the tree in a container that was never started."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, kind, link in (("t/dir", tarfile.DIRTYPE, ""), ("t/link", tarfile.SYMTYPE, "dir")):
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname, entry.mode = kind, link, 0o755
            archive.addfile(entry)
        for path, data in (("t/file", b"old\n"), ("vol/kept", b"kept\n")):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    subprocess.run(
        [*cli.command, "cp", "-", f"{name}:/"], input=packed.getvalue(), check=True, env={**os.environ, **cli.host}
    )


def read(cli: Cli, name: str, path: str) -> dict[str, bytes]:
    """What ``cp NAME:PATH -`` gives: the files by their names."""
    done = subprocess.run(
        [*cli.command, "cp", f"{name}:{path}", "-"], capture_output=True, check=True, env={**os.environ, **cli.host}
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        files = [member for member in archive if member.isfile()]
        return {member.name: archive.extractfile(member).read() for member in files}


def test_into_and_out_of_a_container(cli: Cli, container: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    (source / "file").write_text("new\n")
    (source / "below" / "link").symlink_to("../file")
    cli.ok("cp", str(source), f"{container}:/t/dir")
    cli.ok("cp", f"{source}/.", f"{container}:/t/link")
    cli.ok("cp", str(source / "file"), f"{container}:/t/file")
    cli.ok("cp", str(source), f"{container}:/t/copy")
    found = read(cli, container, "/t")
    assert found == dict.fromkeys(("t/dir/source/file", "t/dir/file", "t/file", "t/copy/file"), b"new\n")
    target = tmp_path / "target"
    cli.ok("cp", f"{container}:/t/copy", str(target))
    assert (target / "file").read_text() == "new\n"
    assert os.readlink(target / "below" / "link") == "../file"
    cli.ok("cp", f"{container}:/t/copy/file", str(target))
    cli.ok("cp", "-L", f"{container}:/t/copy/below/link", str(tmp_path / "followed"))
    assert (tmp_path / "followed").read_text() == "new\n"


def test_into_and_out_of_a_volume(cli: Cli, container: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("new\n")
    cli.ok("cp", str(tmp_path / "file"), f"{container}:/vol/new")
    assert read(cli, container, "/vol") == {"vol/kept": b"kept\n", "vol/new": b"new\n"}
    volume = cli.inspect(container, "{{range .Mounts}}{{.Source}}{{end}}")
    assert Path(volume, "new").read_text() == "new\n"


@pytest.mark.parametrize("state", ["run", "create"])
def test_what_is_read_only(cli: Cli, busybox: str, tmp_path: Path, state: str) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "file").touch()
    options = ["--read-only", "-v", "/vol", "-v", f"{tmp_path}/host:/bind:ro"]
    name = cli.ok(state, *(["-d"] if state == "run" else []), *options, busybox, "sleep", "60")
    refused = cli.fails("cp", str(tmp_path / "file"), f"{name}:/etc/")
    assert "Error response from daemon: container rootfs is marked read-only" in refused.splitlines()
    refused = cli.fails("cp", str(tmp_path / "file"), f"{name}:/bind/")
    assert "Error response from daemon: mounted volume is marked read-only" in refused.splitlines()
    cli.ok("cp", str(tmp_path / "file"), f"{name}:/vol/")
    assert list(read(cli, name, "/vol")) == ["vol/file"]
    assert os.listdir(tmp_path / "host") == []


BY_LINKS = (  # where the link leads, what is asked for, and what comes of it
    ("/vol/one", "/links/it", "vol/one/file"),
    ("../vol/two", "/links/it/", "vol/two/file"),
    ("/vol", "/links/it/three", "vol/three"),
    ("/vol/four", "/links/it", "vol/four"),
    ("/", "/links/it/vol/two/../five", "vol/five"),
    ("/", "/links/it", "container rootfs is marked read-only"),
    ("/nowhere", "/links/it", "container rootfs is marked read-only"),
    ("../../tmp", "/links/it/new", "container rootfs is marked read-only"),
    ("/bind", "/links/it", "mounted volume is marked read-only"),
    ("/vol/../bind", "/links/it/new", "mounted volume is marked read-only"),
)


@pytest.mark.parametrize("state", ["run", "create"])
def test_what_is_read_only_by_way_of_a_link(cli: Cli, busybox: str, tmp_path: Path, state: str) -> None:
    for directory in ("host", "links", "vol", "vol/one", "vol/two"):
        (tmp_path / directory).mkdir()
    (tmp_path / "file").touch()
    places = [word for place in ("links", "vol") for word in ("-v", f"{tmp_path}/{place}:/{place}")]
    options = ["--read-only", *places, "-v", f"{tmp_path}/host:/bind:ro"]
    name = cli.ok(state, *(["-d"] if state == "run" else []), *options, busybox, "sleep", "60")
    for link, target, outcome in BY_LINKS:
        (tmp_path / "links/it").symlink_to(link)
        command = ["cp", str(tmp_path / "file"), f"{name}:{target}"]
        if outcome.startswith("vol/"):
            cli.ok(*command)
            assert (tmp_path / outcome).is_file()
        else:
            assert f"Error response from daemon: {outcome}" in cli.fails(*command)
        (tmp_path / "links/it").unlink()
    assert os.listdir(tmp_path / "host") == []


def test_owners(cli: Cli, busybox: str, tmp_path: Path) -> None:
    """As docker's engine has it: the archive's own, and with -a those of the container's user, if it has one."""
    (tmp_path / "file").touch()
    os.chown(tmp_path / "file", 1234, 567)
    root = cli.ok("run", "-d", busybox, "sleep", "60")
    user = cli.ok("run", "-d", "-u", "99", busybox, "sleep", "60")
    for options, name, owner in (
        ((), root, "1234:567"),
        (("-a",), root, "1234:567"),
        ((), user, "1234:567"),
        (("-a",), user, "99:0"),
    ):
        cli.ok("cp", *options, str(tmp_path / "file"), f"{name}:/tmp/file")
        assert cli.ok("exec", name, "stat", "-c", "%u:%g", "/tmp/file") == owner
    cli.ok("cp", f"{root}:/tmp/file", str(tmp_path / "back"))
    assert (tmp_path / "back").stat().st_uid == os.geteuid()


def test_owners_are_kept_outward(cli: Cli, busybox: str, tmp_path: Path) -> None:
    """Which docker's help promises of -a, and its CLI does not do."""
    if cli.name != "wherry":
        pytest.skip("what a CLI does with the archive is its own affair")
    script = "mkdir -p /t/d; echo x > /t/d/f; ln -s f /t/d/l; ln /t/d/f /t/h; mkfifo /t/p; chown -Rh 12:34 /t"
    name = cli.ok("create", busybox, "sh", "-c", f"{script}; chmod 4750 /t/d/f; chmod 2750 /t/d; chown 56:78 /t/p")
    cli.ok("start", "-a", name)
    cli.ok("cp", "-a", f"{name}:/t", str(tmp_path / "kept"))
    cli.ok("cp", f"{name}:/t", str(tmp_path / "own"))
    for top, owner, of_pipe in (("kept", (12, 34), (56, 78)), ("own", (0, 0), (0, 0))):
        found = {each: (tmp_path / top / each).lstat() for each in ("", "d", "d/f", "d/l", "h", "p")}
        owners = {each: (facts.st_uid, facts.st_gid) for each, facts in found.items()}
        assert owners == dict.fromkeys(found, owner) | {"p": of_pipe}
        assert (found["d/f"].st_mode & 0o7777, found["d"].st_mode & 0o7777) == (0o4750, 0o2750)
        assert found["h"].st_ino == found["d/f"].st_ino


def test_what_cannot_be(cli: Cli, busybox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dir").mkdir()
    Path("file").touch()
    name = cli.ok("create", "--name", "refusing", busybox)
    for words, reason in (
        (["", "refusing:/"], "source can not be empty"),
        (["file", "dir"], "must specify at least one container source"),
        (["refusing:/a", "other:/b"], "copying between containers is not supported"),
        (["refusing:/nope", "."], "Error response from daemon: Could not find the file /nope in container refusing"),
        (["nope:/x", "."], "Error response from daemon: No such container: nope"),
        (
            ["file", "refusing:/nope/x"],
            "Error response from daemon: Could not find the file /nope in container refusing",
        ),
        (["dir", "refusing:/etc/passwd"], "cannot copy directory"),
        (["file", "refusing:/nope/"], "no such directory"),
        (["missing", "refusing:/"], f"lstat {tmp_path}/missing: no such file or directory"),
        (["refusing:/etc", "file"], "cannot copy directory"),
        (["refusing:/etc/passwd", "no/where"], f'invalid output path: directory "{tmp_path}/no" does not exist'),
        (["-", "refusing:/etc/passwd"], 'destination "refusing:/etc/passwd" must be a directory'),
    ):
        refused = cli("cp", *words)
        assert refused.returncode == 1
        assert reason in refused.stderr.splitlines()  # docker's packer may add a line of its own, before or after
    cli.ok("rm", name)


def test_a_directory_never_replaces_a_file(cli: Cli, container: str, tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    assert "cannot overwrite non-directory" in cli.fails("cp", str(tmp_path / "file"), f"{container}:/t")


def test_the_progress_is_for_terminals(cli: Cli, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100_000))
    name = cli.ok("run", "-d", "--name", "shown", busybox, "sleep", "60")
    assert cli("cp", str(tmp_path / "file"), f"{name}:/file").stderr == ""
    for words in (["cp", str(tmp_path / "file"), "shown:/file"], ["cp", "shown:/file", str(tmp_path / "back")]):
        terminal = cli.terminal(*words)
        assert terminal.wait() == 0
        assert "Successfully copied 102kB to " in terminal.output
    terminal = cli.terminal("cp", "-q", str(tmp_path / "file"), "shown:/file")
    assert terminal.wait() == 0
    assert terminal.output == ""


def test_the_stat_header_and_events(engine: Engine, busybox: str) -> None:
    body = {"Image": busybox, "Cmd": ["true"]}
    name = engine.request("POST", "/containers/create", body).body["Id"]
    engine.request("PUT", f"/containers/{name}/archive?path=/tmp", link_archive())
    response = engine.request("HEAD", f"/containers/{name}/archive?path=/tmp/link")
    stat = json.loads(b64decode(response.headers["X-Docker-Container-Path-Stat"]))
    assert (stat["name"], stat["linkTarget"], stat["mode"]) == ("link", "/etc/nowhere", 1 << 27 | 0o777)
    assert engine.request("GET", f"/containers/{name}/archive?path=/tmp/link").status == 200
    assert engine.request("GET", f"/containers/{name}/archive").status == 400
    assert engine.request("GET", f"/containers/{name}/archive?path=/nope").status == 404
    assert engine.request("PUT", f"/containers/{name}/archive?path=/etc/passwd", b"").status == 500  # as in Docker
    assert engine.request("PUT", f"/containers/{name}/archive?path=/tmp", b"no tar at all").status == 400
    lines = engine.wherry(
        "events", "--filter", f"container={name}", "--since", "1m", "--until", "0s", "--format", "{{.Action}}"
    )
    assert lines.stdout.split() == ["create", "extract-to-dir", "archive-path"]


def link_archive() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "../etc/nowhere"
        archive.addfile(entry)
    return packed.getvalue()
