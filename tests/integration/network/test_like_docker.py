"""What networks do, beside what Docker's do: each scenario is played on wherry, and on a dockerd where there is one."""

from collections.abc import Callable, Iterator
from subprocess import CompletedProcess

import pytest

from tests.support.docker_engine import DockerEngine, NoDocker
from tests.support.engine import CACHE, Engine

Docker = Callable[..., CompletedProcess[str]]
_SINCE = 26


@pytest.fixture(scope="module")
def dockerd(host: None, _images: None) -> Iterator[DockerEngine | None]:
    try:
        started = DockerEngine(networks=True)
    except NoDocker:
        yield None
        return
    try:
        started("load", "--input", str(CACHE / "busybox.image.tar"))
        yield started if started.version >= _SINCE else None
    finally:
        started.stop()


@pytest.fixture
def engines(engine: Engine, dockerd: DockerEngine | None) -> Iterator[list[Docker]]:
    def of_dockerd(*arguments: str) -> CompletedProcess[str]:
        assert dockerd is not None
        return dockerd(*arguments, check=False)

    yield [engine.docker] if dockerd is None else [engine.docker, of_dockerd]
    if dockerd is not None:
        for kind, *remove in (("container", "rm", "-fv"), ("network", "rm")):
            found = dockerd(kind, "ls", "-q", *["-a"] * (kind == "container"), "--filter", "label=like").stdout.split()
            dockerd(kind, *remove, *found, check=False)


def run(docker: Docker, name: str, *arguments: str) -> CompletedProcess[str]:
    return docker("run", "-d", "--label", "like", "--name", name, *arguments, "busybox", "sleep", "1000")


def network(docker: Docker, name: str, *arguments: str) -> None:
    made = docker("network", "create", "--label", "like", *arguments, name)
    assert made.returncode == 0, made.stderr


def ways_out(docker: Docker, name: str) -> tuple[dict[str, str], set[str]]:
    """The networks by the names of their interfaces, and those that the default routes lead to."""
    shown = docker(
        "inspect", "-f", "{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{$e.IPAddress}},{{end}}", name
    )
    by_address = {pair.split()[1]: pair.split()[0] for pair in shown.stdout.strip().strip(",").split(",")}
    lines = [line.split() for line in docker("exec", name, "ip", "-o", "-4", "address").stdout.splitlines()]
    interfaces = {words[1]: by_address[words[3].split("/")[0]] for words in lines if words[1] != "lo"}
    routes = [docker("exec", name, "ip", version, "route").stdout.splitlines() for version in ("-4", "-6")]
    default = {line.split()[line.split().index("dev") + 1] for lines in routes for line in lines if "default" in line}
    return dict(sorted(interfaces.items())), {interfaces[each] for each in default}


def test_the_way_out_of_several_networks(engines: list[Docker]) -> None:
    for docker in engines:
        for name in ("like-a", "like-b", "like-z"):
            network(docker, name)
        network(docker, "like-inside", "--internal")
        network(docker, "like-six", "--ipv6", "--subnet", "fd00:99::/64")
        run(docker, "like-1", "--network", "like-z")
        docker("network", "connect", "like-inside", "like-1")
        for name, default in (("like-b", "like-b"), ("like-a", "like-a"), ("like-six", "like-six")):
            docker("network", "connect", name, "like-1")
            assert ways_out(docker, "like-1")[1] == {default}
        assert ways_out(docker, "like-1")[0]["eth0"] == "like-z"
        for _ in range(2):
            docker("restart", "-t", "0", "like-1")
            interfaces, default = ways_out(docker, "like-1")
            assert default == {"like-six"}
            assert list(interfaces.values()) == ["like-six", "like-a", "like-b", "like-z", "like-inside"]
        docker("network", "disconnect", "like-six", "like-1")
        assert ways_out(docker, "like-1")[1] == {"like-a"}


def test_names_of_links(engines: list[Docker]) -> None:
    for docker in engines:
        network(docker, "like-a")
        run(docker, "like-db", "--hostname", "host")
        run(docker, "like-elsewhere", "--network", "like-a")
        hosts = docker("run", "--rm", "--link", "like-db:al", "busybox", "cat", "/etc/hosts").stdout
        assert ["al", "host", "like-db"] in [line.split()[1:] for line in hosts.splitlines()]
        for name, complaint in (
            ("like-elsewhere", "Cannot link to /like-elsewhere, as it does not belong to the default network"),
            ("like-nobody", "could not get container for like-nobody"),
        ):
            refused = docker("run", "--rm", "--link", f"{name}:al", "busybox", "true")
            assert refused.returncode == 125
            assert complaint in refused.stderr


def test_freed_addresses_are_taken_again(engines: list[Docker]) -> None:
    def addresses(docker: Docker, *names: str) -> list[str]:
        template = '{{(index .NetworkSettings.Networks "like-small").IPAddress}}'
        return docker("inspect", "-f", template, *names).stdout.split()

    for docker in engines:
        network(docker, "like-small", "--subnet", "10.99.0.0/29")
        names = [f"like-{number}" for number in range(5)]
        for name in names:
            run(docker, name, "--network", "like-small")
        assert addresses(docker, *names) == [f"10.99.0.{number}" for number in range(2, 7)]
        full = run(docker, "like-full", "--network", "like-small")
        assert "no available IPv4 addresses on this network's address pools: like-small" in full.stderr
        docker("rm", "-f", "like-1", "like-3")
        for name in ("like-6", "like-7"):
            run(docker, name, "--network", "like-small")
        assert addresses(docker, "like-6", "like-7") == ["10.99.0.3", "10.99.0.5"]


def test_a_name_that_nobody_inside_knows(engines: list[Docker]) -> None:
    for docker in engines:
        network(docker, "like-inside", "--internal")
        run(docker, "like-asker", "--network", "like-inside")
        assert "SERVFAIL" in docker("exec", "like-asker", "sh", "-c", "nslookup example.com 2>&1").stdout


def test_addresses_that_the_engine_did_not_give_out(engines: list[Docker]) -> None:
    for docker in engines:
        network(docker, "like-a")
        for number in (1, 2):
            name, address = f"like-{number}", f"169.254.8.{number}"
            run(docker, name, "--network", "like-a", "--link-local-ip", address, "--cap-add", "NET_ADMIN")
            docker("exec", name, "ip", "address", "add", f"10.77.0.{number}/24", "dev", "eth0")
        for target in ("169.254.8.2", "10.77.0.2"):
            assert docker("exec", "like-1", "ping", "-c", "1", "-W", "2", target).returncode == 0, target
