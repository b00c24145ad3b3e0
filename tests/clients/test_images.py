"""Images: commit, save, load, import, export, tag, rmi, images, history."""

import functools
import io
import json
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.clients.conftest import Cli


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


pytestmark = pytest.mark.usefixtures("clean_images")


def test_commit_makes_an_image_that_runs(cli: Cli, busybox: str) -> None:
    cli.ok("run", "--name", "source", busybox, "sh", "-c", "echo written >/file; rm /etc/group")
    image = cli.ok(
        "commit", "-m", "a message", "-a", "An Author <a@example.org>", "-c", 'CMD ["cat", "/file"]',
        "-c", "ENV WHO=me", "-c", "WORKDIR /etc", "-c", "LABEL a=b", "-c", "EXPOSE 80", "source", "made:one",
    )  # fmt: skip
    assert image.startswith("sha256:")
    assert cli.ok("run", "--rm", "made:one") == "written"
    line = "echo $WHO; pwd; test -e group || echo gone"
    assert cli.ok("run", "--rm", "made:one", "sh", "-c", line) == "me\n/etc\ngone"
    found = json.loads(cli.ok("image", "inspect", "made:one"))[0]
    assert (found["Id"], found["Comment"], found["Author"]) == (image, "a message", "An Author <a@example.org>")
    assert found["Config"]["Labels"] == {"a": "b"}
    assert list(found["Config"]["ExposedPorts"]) == ["80/tcp"]
    assert len(found["RootFS"]["Layers"]) == 2


def test_commit_of_one_that_runs(cli: Cli, busybox: str, sleeper: str) -> None:
    cli.ok("exec", sleeper, "sh", "-c", "echo here >/here")
    cli.ok("commit", "-p=true", sleeper, "running:1")
    cli.ok("commit", "-p=false", sleeper, "running:2")
    assert cli.inspect(sleeper, "{{.State.Status}}") == "running"
    for tag in ("1", "2"):
        assert cli.ok("run", "--rm", f"running:{tag}", "cat", "/here") == "here"


def test_save_load_run(cli: Cli, busybox: str, tmp_path: Path) -> None:
    cli.ok("run", "--name", "source", busybox, "sh", "-c", "echo kept >/kept")
    image = cli.ok("commit", "source", "kept:1")
    cli.ok("tag", "kept:1", "kept:2")
    cli.ok("save", "-o", str(tmp_path / "kept.tar"), "kept:1", "kept:2")
    with tarfile.open(tmp_path / "kept.tar") as archive:
        assert {"manifest.json", "index.json", "oci-layout"} <= set(archive.getnames())
    cli.ok("rm", "source")
    cli.ok("rmi", "kept:1", "kept:2")
    assert cli.ok("images", "-q", "kept") == ""
    loaded = cli.ok("load", "-i", str(tmp_path / "kept.tar"))
    assert sorted(loaded.split("\n")) == ["Loaded image: kept:1", "Loaded image: kept:2"]
    assert cli.inspect("kept:1", "{{.Id}}") == image
    assert cli.ok("run", "--rm", "kept:2", "cat", "/kept") == "kept"


def test_export_import_run(cli: Cli, busybox: str, tmp_path: Path) -> None:
    cli.ok("run", "--name", "source", busybox, "sh", "-c", "echo kept >/kept")
    cli.ok("export", "-o", str(tmp_path / "root.tar"), "source")
    with tarfile.open(tmp_path / "root.tar") as archive:
        names = archive.getnames()
    assert "kept" in names
    assert "bin/sh" in names
    image = cli.ok("import", "-m", "from a tar", "-c", "ENTRYPOINT cat /kept", str(tmp_path / "root.tar"), "flat:1")
    assert cli.inspect("flat:1", "{{.Id}} {{.Comment}} {{len .RootFS.Layers}}") == f"{image} from a tar 1"
    assert cli.ok("run", "--rm", "flat:1") == "kept"


def test_import_of_what_is_behind_an_address(cli: Cli, busybox: str, tmp_path: Path) -> None:
    cli.ok("run", "--name", "source", busybox, "sh", "-c", "echo kept >/kept")
    cli.ok("export", "-o", str(tmp_path / "root.tar"), "source")
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        downloading, image = cli.ok("import", "-c", "ENTRYPOINT cat /kept", f"{address}/root.tar", "flat:1").split("\n")
        assert downloading == f"Downloading from {address}/root.tar"
        assert cli.inspect("flat:1", "{{.Id}} {{.Comment}}") == f"{image} Imported from {address}/root.tar"
        assert cli.ok("run", "--rm", "flat:1") == "kept"
        assert "404" in cli.fails("import", f"{address}/absent.tar")
        server.shutdown()
    assert "refused" in cli.fails("import", f"{address}/root.tar").lower()


@pytest.mark.parametrize("command", [["load", "-i"], ["import"]])
def test_what_is_no_archive(cli: Cli, command: list[str], tmp_path: Path) -> None:
    before = cli.ok("images", "-aq")
    for number, content in enumerate((b"", b"no tar at all" * 1000, _tar()[:1000], _tar()[:10240])):
        if command == ["import"] and number in (0, 3):
            continue  # an empty tar is a tar
        file = tmp_path / f"broken{number}.tar"
        file.write_bytes(content)
        finished = cli(*command, str(file))
        assert finished.returncode == 1, (number, finished)
        assert len(finished.stderr.strip().split("\n")) == 1, finished
    assert cli.ok("images", "-aq") == before
    assert "no such file or directory" in cli.fails(*command, "/no/such/file")


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("file")
        member.size = 20000
        archive.addfile(member, io.BytesIO(b"x" * 20000))
    return buffer.getvalue()


def test_tags(cli: Cli, busybox: str) -> None:
    cli.ok("tag", busybox, "example.org:5000/team/app:v1")
    cli.ok("tag", busybox, "plain")
    assert cli.ok("images", "--format", "{{.Repository}}:{{.Tag}}", "plain") == "plain:latest"
    assert cli.ok("images", "--format", "{{.Repository}} {{.Tag}}", "--filter", "reference=example.org:5000/*/*") == (
        "example.org:5000/team/app v1"
    )
    assert cli.ok("rmi", "plain", "example.org:5000/team/app:v1") == (
        "Untagged: plain:latest\nUntagged: example.org:5000/team/app:v1"
    )
    assert "refusing to create an ambiguous tag" in cli.fails("tag", busybox, "sha256:abc")
    assert "must be lowercase" in cli.fails("tag", busybox, "BAD")
    assert "No such image: absent:latest" in cli.fails("tag", "absent", "x1")


def test_rmi(cli: Cli, busybox: str) -> None:
    cli.ok("run", "--name", "user", busybox, "sh", "-c", "echo x >/x")
    image = cli.ok("commit", "user", "made:1")
    cli.ok("run", "--name", "child", "made:1", "true")
    said = cli.fails("rmi", "made:1")
    assert "conflict: unable to remove repository reference" in said
    assert "(must force)" in said
    assert "is using its referenced image" in said
    cli.ok("rm", "child")
    assert cli.ok("rmi", "made:1").split("\n")[:2] == ["Untagged: made:1", f"Deleted: {image}"]
    assert "No such image: made:1" in cli.fails("rmi", "made:1")


def test_images_and_their_ages(cli: Cli, busybox: str) -> None:
    header, *lines = cli.ok("images").split("\n")
    assert header.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert any(line.startswith("busybox") for line in lines)
    cli.ok("run", "--name", "user", busybox, "true")
    first = cli.ok("commit", "-c", "LABEL first=1", "user")
    cli.ok("commit", "-c", "LABEL second=1", "user", "named:1")
    assert cli.ok("images", "-q", "--no-trunc", "--filter", "dangling=true") == first
    assert cli.ok("images", "--filter", "label=second", "--format", "{{.Repository}}") == "named"
    assert "<none>" in cli.ok("images", "--filter", "dangling=true")
    assert json.loads(cli.ok("images", "--format", "json", "named"))["Tag"] == "1"
    assert "invalid filter" in cli.fails("images", "--filter", "nosuch=1").lower()


def test_history(cli: Cli, busybox: str) -> None:
    cli.ok("run", "--name", "user", busybox, "sh", "-c", "echo x >/x")
    cli.ok("commit", "-m", "why", "user", "made:1")
    newest, *older = cli.ok(
        "history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}|{{.Size}}", "made:1"
    ).split("\n")
    assert newest == "sh -c echo x >/x|why|2B"
    assert older
    assert cli.ok("history", "-q", "made:1").split("\n")[0] == cli.ok("images", "-q", "made:1")


def test_images_that_are_not_there(cli: Cli, engine: object) -> None:
    for command in (["history", "absent"], ["save", "absent"], ["image", "inspect", "absent"], ["rmi", "absent"]):
        assert "No such image: absent" in cli.fails(*command)


def test_a_name_can_be_forced_off_an_image_that_runs(cli: Cli, busybox: str) -> None:
    cli.ok("create", "--name", "made", busybox)
    cli.ok("commit", "made", "used:1")
    cli.ok("run", "-d", "--name", "box", "used:1", "sleep", "1000")
    assert cli.ok("rmi", "-f", "used:1") == "Untagged: used:1"
    assert cli.ok("images", "-q", "--filter", "dangling=true").split() == [cli.ok("ps", "--format", "{{.Image}}")]
    cli.ok("rm", "-f", "box")
    assert "Deleted" in cli.ok("image", "prune", "-f")


def test_before_and_since_look_at_less_than_a_second(cli: Cli, busybox: str) -> None:
    cli.ok("create", "--name", "made", busybox)
    for tag in ("1", "2", "3"):
        cli.ok("commit", "made", f"row:{tag}")
    template = ("--format", "{{.Tag}}", "row")
    assert cli.ok("images", "--filter", "before=row:2", *template) == "1"
    assert cli.ok("images", "--filter", "since=row:2", *template) == "3"
    cli.ok("rmi", "row:1", "row:2", "row:3")


@pytest.mark.parametrize(
    "words",
    [
        ["history", "--platform", "linux/arm64", "busybox"],
        ["image", "inspect", "--platform", "linux/arm64", "busybox"],
        ["save", "--platform", "linux/arm64", "busybox"],
        ["rmi", "--platform", "linux/arm64", "busybox"],
    ],
)
def test_an_image_for_another_platform_is_not_the_one(cli: Cli, words: list[str]) -> None:
    wanted = "does not match the specified platform: wanted linux/arm64, actual: linux/amd64"
    assert wanted in cli.fails(*words)
    assert "unknown operating system or architecture" in cli.fails(*(w.replace("linux/arm64", "bogus") for w in words))


def test_of_an_archive_the_images_for_one_platform(cli: Cli, busybox: str, tmp_path: Path) -> None:
    cli.ok("save", "--platform", "linux/amd64", "-o", str(tmp_path / "x.tar"), busybox)
    assert cli.ok("load", "--platform", "amd64", "-i", str(tmp_path / "x.tar")) == f"Loaded image: {busybox}"
    said = cli.fails("load", "--platform", "linux/s390x", "-i", str(tmp_path / "x.tar"))
    assert said == "the archive has no image for the platform that was asked for\n"
