"""An ordinary user's engine, from the first command of a freshly made user on."""

import json
import os
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.as_user import NUMBER
from tests.support.engine import CACHE, PROJECT, WHERRY
from tests.support.networks import own_network
from tests.support.ordinary_user import OrdinaryUser
from tests.support.outside import Outside, outside

pytestmark = pytest.mark.skipif(shutil.which("newuidmap") is None, reason="no newuidmap: Debian's package uidmap")


@pytest.fixture(scope="module")
def world() -> Iterator[Outside]:
    """The machine's network, in a namespace of the module's own, and an outside that it has a route to."""
    if os.geteuid() != 0:
        pytest.skip("making a user needs root")
    with own_network(), outside() as made:
        made.be_the_default_route()
        yield made


@pytest.fixture(scope="module")
def sailor(world: Outside, _images: None) -> Iterator[OrdinaryUser]:
    made = OrdinaryUser()
    try:
        made.out("wherry", "load", "--quiet", "--input", str(CACHE / "busybox.image.tar"))
        yield made
    finally:
        made.close()


@pytest.fixture
def user(sailor: OrdinaryUser) -> Iterator[OrdinaryUser]:
    """The user, whose containers are removed after a test."""
    yield sailor
    if sailor.socket.exists():
        sailor.engine.remove_containers()
    assert "Traceback" not in sailor.log


@pytest.fixture
def needs_pasta() -> None:
    if shutil.which("pasta") is None:
        pytest.skip("no pasta: Debian's package passt")


def get(port: int, host: str = "127.0.0.1") -> str:
    with urllib.request.urlopen(f"http://{host}:{port}", timeout=60) as answer:
        return str(answer.read().decode())


SERVE = "mkdir /w; echo ahoy > /w/index.html; exec httpd -f -h /w -p 80"


def test_a_user_is_root_in_a_container_and_outside_themselves(user: OrdinaryUser) -> None:
    assert user.out("wherry", "run", "--rm", "--network", "none", "busybox", "id").startswith("uid=0(root) gid=0(root)")
    user.out("wherry", "run", "--detach", "--name", "one", "--network", "none", "busybox", "sleep", "1000")
    pid = int(user.out("wherry", "inspect", "--format", "{{.State.Pid}}", "one"))
    assert os.stat(f"/proc/{pid}").st_uid == NUMBER
    status = Path(f"/proc/{pid}/uid_map").read_text().split()
    assert status[:3] == ["0", str(NUMBER), "1"]


def test_what_the_engine_has_is_the_users_alone(user: OrdinaryUser) -> None:
    user.out("wherry", "ps")
    facts = user.socket.stat()
    assert stat.S_IMODE(facts.st_mode) == 0o600 and facts.st_uid == NUMBER
    for folder in (user.exec_root, user.data_root):
        facts = folder.stat()
        assert stat.S_IMODE(facts.st_mode) == 0o700 and facts.st_uid == NUMBER, folder
    assert Path(f"/proc/{user.engine_pid()}").stat().st_uid == NUMBER


def test_info_says_so(user: OrdinaryUser) -> None:
    said = user("wherry", "info", check=True)
    assert "\n  rootless\n" in said.stdout
    assert f"export DOCKER_HOST=unix://{user.socket}" in said.stderr
    assert "rootless" in user.out("wherry", "context", "ls", "--quiet").split()
    assert user.out("wherry", "--context", "rootless", "version", "--format", "{{.Server.Os}}") == "linux"


def test_a_published_port_is_reached(user: OrdinaryUser) -> None:
    user.out("wherry", "run", "--detach", "--name", "web", "--publish", "18080:80", "busybox", "sh", "-c", SERVE)
    assert get(18080) == "ahoy\n"
    assert get(18080, "[::1]") == "ahoy\n"
    user.out("wherry", "rm", "--force", "web")
    with pytest.raises(OSError):
        get(18080)


ECHO = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 53))
print("ready", flush=True)
while True:
    server.sendto(*server.recvfrom(2048))
"""


def test_a_published_port_of_udp_is_reached(user: OrdinaryUser) -> None:
    user.out("wherry", "run", "-d", "--name", "one", "--publish", "18053:53/udp", "busybox", "sleep", "1000")
    pid = user.out("wherry", "inspect", "--format", "{{.State.Pid}}", "one")
    inside = ["nsenter", "--net", "--target", pid, sys.executable, "-c", ECHO]
    with subprocess.Popen(inside, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None and server.stdout.readline() == "ready\n"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(60)
                client.connect(("127.0.0.1", 18053))
                client.send(b"ahoy")
                assert client.recv(100) == b"ahoy"
        finally:
            server.kill()


def test_a_low_port_says_what_gives_it(user: OrdinaryUser) -> None:
    said = user("wherry", "run", "--rm", "--publish", "80:80", "busybox", "true")
    assert said.returncode
    assert "0.0.0.0:80/tcp: permission denied" in said.stderr
    assert "sysctl net.ipv4.ip_unprivileged_port_start" in said.stderr


def test_containers_find_each_other_by_name(user: OrdinaryUser) -> None:
    user.out("wherry", "network", "create", "lagoon")
    try:
        user.out("wherry", "run", "-d", "--name", "web", "--network", "lagoon", "busybox", "sh", "-c", SERVE)
        script = "until wget -q -O - http://web; do sleep 0.1; done"
        assert user.out("wherry", "run", "--rm", "--network", "lagoon", "busybox", "sh", "-c", script) == "ahoy"
        user.out("wherry", "rm", "--force", "web")
    finally:
        user.out("wherry", "network", "rm", "lagoon")


CONNECT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])) as client:
    client.sendall(b"ahoy")  # who asks first: pasta's answer to that has once ended the connection
    print(client.recv(100).decode())
"""


def connect(user: OrdinaryUser, name: str, address: str, port: int, seconds: float = 60) -> str:
    """What a server says to who connects from a container; "" when it is not reached in time."""
    pid = user.out("wherry", "inspect", "--format", "{{.State.Pid}}", name)
    inside = ["nsenter", "--net", "--target", pid, sys.executable, "-c", CONNECT, address, str(port), str(seconds)]
    return subprocess.run(inside, capture_output=True, text=True, check=False).stdout.strip()


@pytest.mark.usefixtures("needs_pasta")
def test_the_outside_is_reached_with_the_machines_address(user: OrdinaryUser, world: Outside) -> None:
    user.out("wherry", "run", "--detach", "--name", "one", "busybox", "sleep", "1000")
    assert connect(user, "one", world.address, world.serve()) == world.host


@pytest.mark.usefixtures("needs_pasta")
def test_the_machines_own_services_are_not_reached(user: OrdinaryUser, world: Outside) -> None:
    """What listens at 127.0.0.1 is for the machine's users, and no address in a container stands for that."""
    user.out("wherry", "run", "--detach", "--name", "one", "busybox", "sleep", "1000")
    gateway = user.out("wherry", "inspect", "--format", "{{.NetworkSettings.Networks.bridge.Gateway}}", "one")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        for place in (gateway, world.host, world.address, "127.0.0.1"):
            connect(user, "one", place, server.getsockname()[1], seconds=1)
            with pytest.raises(BlockingIOError):
                server.accept()


def test_the_hosts_network_is_the_machines(user: OrdinaryUser) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        server.settimeout(60)
        user.out("wherry", "run", "--detach", "--network", "host", "busybox", "nc", "127.0.0.1", port)
        server.accept()[0].close()


def test_a_build_gives_files_to_other_users_and_takes_others_away(user: OrdinaryUser) -> None:
    context = user.home / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        "FROM busybox\n"
        "RUN mkdir /d && touch /d/a /d/b && echo mate:x:1234:1234::/:/bin/sh >> /etc/passwd && echo x > /x "
        "&& chown 1234:1234 /x\n"
        "RUN rm /d/a && rm -r /home && mkdir /home && touch /home/new\n"
        "RUN rm -r /d && mkdir /d && touch /d/c\n"
        "USER mate\n"
    )
    os.chown(context, NUMBER, NUMBER)
    user.out("wherry", "build", "--tag", "built", str(context))
    script = "ls -A /d /home; stat -c %U /x; id -un"
    assert user.out("wherry", "run", "--rm", "built", "sh", "-c", script).split() == [
        "/d:", "c", "/home:", "new", "mate", "mate",
    ]  # fmt: skip


def test_a_saved_image_comes_back_as_it_was(user: OrdinaryUser) -> None:
    """What is gone in a layer is gone in its archive, too: whiteouts and opaque folders travel as OCI has them."""
    user.out("wherry", "run", "--name", "one", "busybox", "sh", "-c", "rm -r /home /tmp; mkdir /home; touch /home/new")
    user.out("wherry", "commit", "one", "kept")
    archive = user.home / "kept.tar"
    user.out("wherry", "save", "--output", str(archive), "kept")
    before = user.out("wherry", "image", "inspect", "--format", "{{.RootFS.Layers}}", "kept")
    user.out("wherry", "rm", "one")
    user.out("wherry", "rmi", "kept")
    user.out("wherry", "load", "--input", str(archive))
    assert user.out("wherry", "image", "inspect", "--format", "{{.RootFS.Layers}}", "kept") == before
    said = user.out("wherry", "run", "--rm", "kept", "sh", "-c", "ls /home; ls -d /tmp 2>/dev/null || echo no")
    assert said.split() == ["new", "no"]


def test_exec_cp_top_diff_and_stats_look_into_a_container(user: OrdinaryUser) -> None:
    user.out("wherry", "run", "--detach", "--name", "one", "busybox", "sh", "-c", "echo x > /x; exec sleep 1000")
    assert user.out("wherry", "exec", "--user", "nobody", "one", "id", "-un") == "nobody"
    assert "sleep 1000" in user.out("wherry", "top", "one")
    assert user.out("wherry", "diff", "one") == "A /x"
    (user.home / "y").write_text("ahoy")
    user.out("wherry", "cp", str(user.home / "y"), "one:/y")
    assert user.out("wherry", "exec", "one", "cat", "/y") == "ahoy"
    assert json.loads(user.out("wherry", "stats", "--no-stream", "--format", "json", "one"))["Name"] == "one"


def test_exec_enters_a_container_on_the_hosts_network(user: OrdinaryUser) -> None:
    user.out("wherry", "run", "-d", "--name", "one", "--network", "host", "--ipc", "host", "--uts", "host", "busybox",
             "sleep", "1000")  # fmt: skip
    assert user.out("wherry", "exec", "one", "echo", "ahoy") == "ahoy"


def test_the_hosts_processes_are_seen_and_not_touched(user: OrdinaryUser) -> None:
    script = f"test -d /proc/{os.getpid()} && kill -0 {os.getpid()} 2>/dev/null || echo refused"
    assert user.out("wherry", "run", "--rm", "--pid", "host", "busybox", "sh", "-c", script) == "refused"


def test_a_container_outlives_a_killed_engine(user: OrdinaryUser) -> None:
    user.out("wherry", "run", "--detach", "--name", "web", "--publish", "18080:80", "busybox", "sh", "-c", SERVE)
    user.out("wherry", "run", "--detach", "--name", "other", "--restart", "always", "busybox", "sleep", "1000")
    pids = user.out("wherry", "inspect", "--format", "{{.State.Pid}}", "web", "other")
    engine = os.pidfd_open(user.engine_pid())
    signal.pidfd_send_signal(engine, signal.SIGKILL)
    assert select.select([engine], [], [], 60)[0]
    os.close(engine)
    assert user.out("wherry", "inspect", "--format", "{{.State.Pid}}", "web", "other") == pids
    assert get(18080) == "ahoy\n"
    assert user.out("wherry", "exec", "other", "wget", "-q", "-O", "-", f"http://{address(user, 'web')}") == "ahoy"
    user.out("wherry", "run", "--rm", "busybox", "true")


def address(user: OrdinaryUser, name: str) -> str:
    return user.out("wherry", "inspect", "--format", "{{.NetworkSettings.Networks.bridge.IPAddress}}", name)


def test_a_limit_without_cgroups_is_a_warning(user: OrdinaryUser) -> None:
    if "cgroupfs" in user.out("wherry", "info", "--format", "{{.CgroupDriver}}"):
        pytest.skip("cgroups have been delegated to this user")
    said = user("wherry", "run", "--rm", "--memory", "100m", "--pids-limit", "9", "busybox", "echo", "ahoy", check=True)
    assert said.stdout == "ahoy\n"
    assert "WARNING: Your kernel does not support memory limit capabilities" in said.stderr
    assert "WARNING: Your kernel does not support PIDs limit capabilities" in said.stderr
    user.out("wherry", "run", "--detach", "--name", "one", "busybox", "sleep", "1000")
    assert "that takes a cgroup" in user("wherry", "pause", "one").stderr


def test_volumes_and_binds_have_the_users_files(user: OrdinaryUser) -> None:
    script = "touch /v/mine /b/mine; chown 5:6 /v/mine; stat -c %u:%g /v/mine /b/mine"
    (user.home / "bound").mkdir()
    os.chown(user.home / "bound", NUMBER, NUMBER)
    bind = f"{user.home}/bound:/b"
    said = user.out("wherry", "run", "--rm", "--volume", "hold:/v", "--volume", bind, "busybox", "sh", "-c", script)
    assert said.split() == ["5:6", "0:0"]
    assert (user.home / "bound" / "mine").stat().st_uid == NUMBER
    user.out("wherry", "volume", "rm", "hold")


def test_system_stop_ends_all_but_containers(user: OrdinaryUser) -> None:
    user.out("wherry", "run", "--rm", "busybox", "true")
    user.out("wherry", "system", "stop")
    deadline = time.monotonic() + 60
    while (left := user.engine.processes()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]


def test_with_one_id_alone_most_works_and_the_rest_says_why(world: Outside, _images: None) -> None:
    user = OrdinaryUser(one_id=True)
    try:
        user.out("wherry", "load", "--quiet", "--input", str(CACHE / "busybox.image.tar"))
        assert user.out("wherry", "run", "--rm", "busybox", "id", "-u") == "0"
        assert user.out("wherry", "run", "--rm", "-p", "18080:80", "busybox", "echo", "ahoy") == "ahoy"
        said = user("wherry", "run", "--rm", "--user", "5", "busybox", "id")
        assert said.returncode == 125 and "usermod --add-subuids" in said.stderr
        assert "usermod --add-subuids" in user("wherry", "info").stderr
    finally:
        user.close()


DOCUMENT = PROJECT / "docs" / "rootless.md"
OF_SYSTEMD = ("systemctl", "sudo loginctl")


def test_the_commands_of_the_document(user: OrdinaryUser) -> None:
    """One after the other in one shell, by the user; what is said of systemd is left out: there may be none here."""
    blocks = re.findall(r"^```console\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    assert len(lines) > 8
    script = "\n".join(line for line in lines if not line.startswith(OF_SYSTEMD))
    shutil.copy(CACHE / "busybox.image.tar", user.home)
    (user.home / "busybox.image.tar").chmod(0o644)
    path = f"{WHERRY.parent}:{os.environ['PATH']}"
    done = user("sh", "-exc", script, cwd=user.home, env={"PATH": path})
    assert done.returncode == 0, done.stderr
    assert "uid=0(root) gid=0(root) groups=0(root)" in done.stdout
    user.out("wherry", "load", "--quiet", "--input", str(CACHE / "busybox.image.tar"))
