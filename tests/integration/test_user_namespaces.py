"""Containers in user namespaces of their own: files, volumes and commands are true in the container's ids."""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine, started
from tests.support.subordinate_ids import FIRST, with_ids

AUTO = ("run", "--rm", "--network=none", "--userns=auto", "busybox")


@pytest.fixture(scope="module")
def _remapping(_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with started(Engine(prefix=with_ids(tmp_path_factory.mktemp("ids")))) as engine:
        yield engine


@pytest.fixture
def apart(_remapping: Engine) -> Iterator[Engine]:
    """An engine that has subordinate ids; a test's containers are removed after it."""
    _remapping.begin_log()
    yield _remapping
    _remapping.check_log()
    _remapping.remove_containers()


def first_id(engine: Engine, name: str) -> int:
    return int(engine.wherry("exec", name, "cat", "/proc/self/uid_map").stdout.split()[1])


def owners(engine: Engine, what: str) -> dict[str, tuple[int, int]]:
    """Of all that is in an archive of the container's."""
    with tarfile.open(fileobj=io.BytesIO(engine.request("GET", f"/containers/one/{what}").body)) as tar:
        return {member.name: (member.uid, member.gid) for member in tar}


def test_root_inside_is_nobody_outside(apart: Engine) -> None:
    said = apart.wherry(*AUTO, "sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/gid_map").stdout.split()
    assert said[0] == "0"
    assert said[1:4] == said[4:7] == ["0", said[2], "65536"]
    assert int(said[2]) >= FIRST


def test_all_of_the_root_belongs_to_root_inside(apart: Engine) -> None:
    """The image's files, what the engine mounts, and what the container makes."""
    command = (
        "touch /made; stat -c %u:%g / /bin/sh /made /dev /dev/null /dev/shm /dev/mqueue /etc/hosts /etc/resolv.conf"
    )
    assert set(apart.wherry(*AUTO, "sh", "-c", command).stdout.split()) == {"0:0"}


def test_two_containers_share_no_id_and_keep_theirs(apart: Engine) -> None:
    for name in ("one", "two"):
        apart.wherry("run", "-d", "--name", name, "--userns=auto", "busybox", "sleep", "1000")
    first, second = first_id(apart, "one"), first_id(apart, "two")
    assert abs(first - second) >= 65536
    apart.stop()
    apart.start()
    apart.wherry("restart", "-t", "0", "one")
    assert (first_id(apart, "one"), first_id(apart, "two")) == (first, second)
    apart.wherry("rm", "-f", "one")
    apart.wherry("run", "-d", "--name", "three", "--userns=auto", "busybox", "sleep", "1000")
    assert first_id(apart, "three") == first


def test_files_have_the_containers_ids_whoever_looks(apart: Engine) -> None:
    """cp, diff, export and commit, while it runs and after it."""
    script = "echo x >/new; chown 7:8 /new; chmod u+s /new; rm /bin/vi; mkdir /d; sleep 1000"
    apart.wherry("run", "-d", "--name", "one", "--userns=auto", "busybox", "sh", "-c", script)
    apart.wherry("exec", "one", "sh", "-c", "until test -d /d; do usleep 1000; done")
    assert owners(apart, "archive?path=/new") == {"new": (7, 8)}
    assert apart.wherry("diff", "one").stdout.split("\n")[:4] == ["C /bin", "D /bin/vi", "A /d", "A /new"]
    exported = owners(apart, "export")
    assert (exported["new"], exported["d"], exported["bin/sh"]) == ((7, 8), (0, 0), (0, 0))
    apart.wherry("kill", "one")
    apart.wherry("wait", "one")
    assert owners(apart, "archive?path=/new") == {"new": (7, 8)}
    apart.wherry("commit", "one", "kept")
    for mode in ("host", "auto"):
        seen = apart.wherry("run", "--rm", f"--userns={mode}", "kept", "stat", "-c", "%u:%g %a", "/new").stdout
        assert seen == "7:8 4644\n"


def test_what_is_copied_in_belongs_to_root_inside(apart: Engine, tmp_path: Path) -> None:
    source = str(tmp_path / "file")
    Path(source).write_text("x")
    apart.wherry("run", "-d", "--name", "one", "--userns=auto", "busybox", "sleep", "1000")
    apart.wherry("cp", source, "one:/while")
    apart.wherry("kill", "one")
    apart.wherry("wait", "one")
    apart.wherry("cp", source, "one:/after")
    apart.wherry("start", "one")
    assert apart.wherry("exec", "one", "stat", "-c", "%u:%g", "/while", "/after").stdout == "0:0\n0:0\n"


def test_exec_is_in_it(apart: Engine) -> None:
    apart.wherry("run", "-d", "--name", "one", "--userns=auto", "busybox", "sleep", "1000")
    assert apart.wherry("exec", "one", "sh", "-c", "touch /f; stat -c %u /f; id -u").stdout == "0\n0\n"
    assert apart.wherry("exec", "-u", "33:44", "one", "sh", "-c", "id -u; id -g").stdout == "33\n44\n"
    links = apart.wherry(
        "exec", "one", "sh", "-c", "readlink /proc/1/ns/user; readlink /proc/self/ns/user"
    ).stdout.split()
    assert links[0] == links[1] != os.readlink("/proc/self/ns/user")


def test_a_volume_has_one_owner_in_all_containers(apart: Engine) -> None:
    apart.wherry(
        "run",
        "--rm",
        "--userns=auto",
        "-v",
        "shared:/v",
        "busybox",
        "sh",
        "-c",
        "echo x >/v/f; chown 1:2 /v/f; chmod 600 /v/f",
    )
    for mode in ("auto", "host"):
        command = ("run", "--rm", f"--userns={mode}", "-v", "shared:/v", "busybox")
        assert apart.wherry(*command, "stat", "-c", "%u:%g", "/v", "/v/f").stdout == "0:0\n1:2\n"
    apart.wherry("volume", "rm", "shared")


def test_a_bind_keeps_the_machines_owners(apart: Engine, tmp_path: Path) -> None:
    """Root inside is nobody there."""
    directory = tmp_path / "d"
    directory.mkdir(0o755)
    ended = apart.wherry(
        "run", "--rm", "--userns=auto", "-v", f"{directory}:/d", "busybox", "sh", "-c", "stat -c %u /d; touch /d/f",
    )  # fmt: skip
    assert ended.stdout == "65534\n"
    assert "Permission denied" in ended.stderr
    assert not list(directory.iterdir())


def test_a_network_and_a_published_port(apart: Engine) -> None:
    apart.wherry("run", "-d", "--name", "one", "--userns=auto", "busybox", "sh", "-c", "echo hi >/i; httpd -f -h /")
    address = json.loads(apart.wherry("inspect", "one").stdout)[0]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    fetch = f"until wget -q -O - http://{address}/i 2>/dev/null; do usleep 10000; done"
    assert apart.wherry("run", "--rm", "--userns=auto", "busybox", "sh", "-c", fetch).stdout == "hi\n"


def test_a_user_that_is_not_mapped(apart: Engine) -> None:
    ended = apart.wherry("run", "--rm", "--userns=auto:size=1000", "--user", "1000", "busybox", "id")
    assert ended.returncode == 125
    assert "the user namespace has no such ids" in ended.stderr


def test_maps_of_ones_own(apart: Engine) -> None:
    command = ("run", "--rm", "--network=none", "--uidmap", "0:300000:10", "--gidmap", "0:400000:20", "busybox")
    said = apart.wherry(*command, "cat", "/proc/self/uid_map", "/proc/self/gid_map").stdout.split()
    assert said == ["0", "300000", "10", "0", "400000", "20"]


def test_its_namespaces_are_not_joined(apart: Engine) -> None:
    apart.wherry("run", "-d", "--name", "one", "--userns=auto", "--ipc=shareable", "busybox", "sleep", "1000")
    for use in ("--network=container:one", "--pid=container:one", "--ipc=container:one"):
        ended = apart.wherry("run", "--rm", use, "busybox", "true")
        assert "cannot be joined" in ended.stderr


@pytest.mark.parametrize("userns", ["auto", "host"])
@pytest.mark.parametrize("user", ["0", "1234:5678", "www-data"])
def test_idmap_matches_the_owner_of_a_bind(apart: Engine, tmp_path: Path, userns: str, user: str) -> None:
    directory = tmp_path / "d"
    directory.mkdir(0o700)
    os.chown(directory, 4001, 4002)
    command = ("run", "--rm", "--network=none", f"--userns={userns}", "--user", user, "-v", f"{directory}:/d:idmap")
    script = "touch /d/f; stat -c %u:%g /d /d/f; id -u; id -g"
    said = apart.wherry(*command, "busybox", "sh", "-c", script, check=True).stdout.split()
    assert said[0] == said[1] == f"{said[2]}:{said[3]}"
    made = (directory / "f").stat()
    assert (made.st_uid, made.st_gid) == (4001, 4002)


def test_idmap_in_podmans_words(apart: Engine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    for path in (tmp_path, tmp_path / "f"):
        os.chown(path, 4001, 4002)
    mount = f"type=bind,src={tmp_path},dst=/d,idmap=uids=@4001-5-1;gids=@4002-6-1"
    command = ("run", "--rm", "--network=none", "--userns=auto", "--mount", mount, "busybox")
    assert apart.wherry(*command, "stat", "-c", "%u:%g", "/d/f", check=True).stdout == "5:6\n"
    for bad in ("idmap=uids=", "idmap=uids=1-1", "idmap=1", "idmap=uids=1-2-3;uids=1-2-3"):
        ended = apart.wherry("run", "--rm", "--mount", f"type=bind,src={tmp_path},dst=/d,{bad}", "busybox")
        assert "invalid idmap" in ended.stderr


def test_a_build_is_in_one_where_that_is_the_default(_images: None, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nRUN test $(cat /proc/self/uid_map | awk '{print $2}') -gt 65535 && touch /r && chown 5:6 /r\n"
        "COPY Dockerfile /\nRUN --mount=type=cache,target=/c touch /c/x && test $(stat -c %u:%g /c/x) = 0:0\n"
    )
    with started(Engine(["--default-userns-mode=auto"], prefix=with_ids(tmp_path))) as engine:
        engine.wherry("build", "-t", "built", str(tmp_path), check=True)
        for mode in ("auto", "host"):
            said = engine.wherry("run", "--rm", f"--userns={mode}", "built", "stat", "-c", "%u:%g", "/r", "/Dockerfile")
            assert said.stdout == "5:6\n0:0\n"
        assert engine.wherry("run", "--rm", "busybox", "cat", "/proc/self/uid_map").stdout.split()[1] != "0"


def test_remapping_by_the_engine(_images: None, tmp_path: Path) -> None:
    with started(Engine(["--userns-remap=dockremap"], prefix=with_ids(tmp_path, "dockremap:700000:65536\n"))) as engine:
        assert engine.wherry("run", "--rm", "busybox", "cat", "/proc/self/uid_map").stdout.split()[1] == "700000"
        whole = engine.wherry("run", "--rm", "--userns=host", "--privileged", "busybox", "cat", "/proc/self/uid_map")
        assert whole.stdout.split()[:2] == ["0", "0"]
        assert "name=userns" in engine.request("GET", "/info").body["SecurityOptions"]
        refused = engine.wherry("run", "--rm", "--privileged", "busybox", "true")
        assert "privileged mode is incompatible with user namespaces" in refused.stderr
