"""-v, --mount, --tmpfs, --volumes-from and volumes."""

import json
from pathlib import Path

from tests.clients.conftest import Cli


def test_a_directory_of_the_host(cli: Cli, busybox: str, shared_directory: Path) -> None:
    (shared_directory / "in").write_text("from the host\n")
    bind = f"{shared_directory}:/data"
    assert (
        cli.ok("run", "--rm", "-v", bind, busybox, "sh", "-c", "cat /data/in; echo back >/data/out") == "from the host"
    )
    assert (shared_directory / "out").read_text() == "back\n"
    finished = cli("run", "--rm", "-v", f"{bind}:ro", busybox, "touch", "/data/x")
    assert finished.stderr == "touch: /data/x: Read-only file system\n"
    mount = f"type=bind,source={shared_directory},target=/data,readonly"
    assert cli("run", "--rm", "--mount", mount, busybox, "touch", "/data/x").returncode == 1


def test_a_file_of_the_host(cli: Cli, busybox: str, shared_directory: Path) -> None:
    (shared_directory / "file").write_text("one\n")
    assert cli.ok("run", "--rm", "-v", f"{shared_directory}/file:/etc/one:ro", busybox, "cat", "/etc/one") == "one"


def test_a_missing_source(cli: Cli, busybox: str, shared_directory: Path) -> None:
    cli.ok("run", "--rm", "-v", f"{shared_directory}/made:/data", busybox, "touch", "/data/x")
    assert (shared_directory / "made" / "x").exists()
    mount = f"type=bind,source={shared_directory}/absent,target=/data"
    said = cli.fails("run", "--rm", "--mount", mount, busybox, "true", code=125)
    assert f"bind source path does not exist: {shared_directory}/absent" in said
    assert not (shared_directory / "absent").exists()
    assert cli.ok("ps", "-aq") == ""


def test_a_volume_outlives_its_containers(cli: Cli, busybox: str) -> None:
    cli.ok("run", "--rm", "-v", "kept:/data", busybox, "sh", "-c", "echo here >/data/file")
    assert cli.ok("run", "--rm", "-v", "kept:/data:ro", busybox, "cat", "/data/file") == "here"
    assert json.loads(cli.ok("volume", "inspect", "kept"))[0]["Driver"] == "local"
    holder = cli.ok("create", "-v", "kept:/data", busybox, "true")
    assert f"remove kept: volume is in use - [{holder}]" in cli.fails("volume", "rm", "kept")
    cli.ok("rm", "-v", holder)
    assert "kept" in cli.ok("volume", "ls", "-q").split("\n")
    assert cli.ok("volume", "rm", "kept") == "kept"
    assert "no such volume" in cli.fails("volume", "rm", "kept")


def test_a_new_volume_gets_what_the_image_has_there(cli: Cli, busybox: str) -> None:
    assert "passwd" in cli.ok("run", "--rm", "-v", "copied:/etc", busybox, "ls", "/etc").split("\n")
    assert "passwd" in cli.ok("run", "--rm", "-v", "copied:/data", busybox, "ls", "/data").split("\n")
    cli.ok("volume", "rm", "copied")
    assert "passwd" not in cli.ok("run", "--rm", "-v", "bare:/etc:nocopy", busybox, "ls", "/etc").split("\n")
    cli.ok("volume", "rm", "bare")


def test_a_volume_without_a_name_goes_with_its_container(cli: Cli, busybox: str) -> None:
    before = cli.ok("volume", "ls", "-q")
    cli.ok("run", "--rm", "-v", "/data", busybox, "touch", "/data/x")
    assert cli.ok("volume", "ls", "-q") == before
    cli.ok("run", "--name", "one", "-v", "/data", busybox, "true")
    assert len(cli.ok("volume", "ls", "-q").split("\n")) == len(before.split("\n")) + bool(before)
    cli.ok("rm", "-v", "one")
    assert cli.ok("volume", "ls", "-q") == before


def test_the_volumes_of_another_container(cli: Cli, busybox: str, shared_directory: Path) -> None:
    cli.ok(
        "run",
        "--name",
        "donor",
        "-v",
        "/data",
        "-v",
        f"{shared_directory}:/bound",
        busybox,
        "touch",
        "/data/x",
        "/bound/y",
    )
    assert (
        cli.ok("run", "--rm", "--volumes-from", "donor", busybox, "ls", "/data", "/bound") == "/bound:\ny\n\n/data:\nx"
    )
    finished = cli("run", "--rm", "--volumes-from", "donor:ro", busybox, "touch", "/data/z")
    assert "Read-only file system" in finished.stderr
    said = cli.fails("run", "--rm", "--volumes-from", "absent", busybox, "true", code=125)
    assert said.startswith("PROGRAM: Error response from daemon: No such container: absent")


def test_inspect_shows_the_mounts(cli: Cli, busybox: str, shared_directory: Path) -> None:
    cli.ok("create", "--name", "made", "-v", f"{shared_directory}:/bound:ro", "-v", "named:/named", busybox, "true")
    mounts = {mount["Destination"]: mount for mount in json.loads(cli.inspect("made", "{{json .Mounts}}"))}
    assert (mounts["/bound"]["Type"], mounts["/bound"]["RW"], mounts["/bound"]["Mode"]) == ("bind", False, "ro")
    assert (mounts["/named"]["Type"], mounts["/named"]["Name"], mounts["/named"]["RW"]) == ("volume", "named", True)
    cli.ok("rm", "made")
    cli.ok("volume", "rm", "named")


def test_a_tmpfs_by_mount(cli: Cli, busybox: str) -> None:
    mount = "type=tmpfs,target=/scratch,tmpfs-size=1048576,tmpfs-mode=700"
    output = cli.ok(
        "run", "--rm", "--mount", mount, busybox, "sh", "-c", "grep ' /scratch ' /proc/mounts; stat -c %a /scratch"
    )
    assert "size=1024k" in output
    assert output.endswith("\n700")


def test_what_is_no_mount(cli: Cli, busybox: str) -> None:
    for option, value, text in (
        ("-v", "relative/path:/x", "includes invalid characters for a local volume name"),
        ("-v", "/a:relative", "mount path must be absolute"),
        ("-v", "/a:/b:nosuch", "invalid mode: nosuch"),
        ("--mount", "type=nosuch,target=/x", "mount type unknown"),
        ("--tmpfs", "/x:nosuch", 'invalid tmpfs option ["nosuch"]'),
    ):
        said = cli.fails("run", "--rm", option, value, busybox, "true", code=125)
        assert text in said
        assert len(said.strip().split("\n")) == 3, said  # the line, an empty one, and where help is
    assert cli.ok("ps", "-aq") == ""
