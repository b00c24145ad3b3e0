"""Links between containers on the default network, with an engine that keeps these apart otherwise (--icc=false)."""

from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.talking import address_of, connect, execute, free_port, inspect, listen, reach

DAEMON_FLAGS = ["--icc=false"]
_BRIDGE_NETFILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


@pytest.fixture(params=["0", "1"], ids=["bridged", "bridged past iptables"], autouse=True)
def _how_bridged(request: pytest.FixtureRequest) -> None:
    """What is bridged is shown to the rules for what is routed as well, or it is not: that is the host's choice."""
    if _BRIDGE_NETFILTER.exists():
        _BRIDGE_NETFILTER.write_text(request.param)
    elif request.param == "1":
        pytest.skip("no br_netfilter")


def serve(engine: Engine, name: str, *arguments: str) -> None:
    """On the port 80, which is exposed, and on 81, which is not."""
    listen(engine, name, "--expose", "80", *arguments)
    engine.docker("exec", "-d", name, "nc", "-ll", "-p", "81", "-e", "/bin/echo", "no", check=True)


def box(engine: Engine, name: str, *arguments: str) -> None:
    engine.docker("run", "-d", "--name", name, *arguments, "busybox", "sleep", "1000", check=True)


def test_only_links_reach_and_only_exposed_ports(engine: Engine) -> None:
    port = free_port()
    serve(engine, "db", "-p", f"{port}:80")
    box(engine, "app", "--link", "db:database")
    box(engine, "stranger")
    address = address_of(engine, "db")
    assert reach(engine, "app", "database") == "db"
    assert reach(engine, "app", "database", 81) == ""
    assert reach(engine, "stranger", address) == ""
    assert connect("127.0.0.1", port) == "db"
    gateway = address_of(engine, "db", field="Gateway")
    assert [reach(engine, name, gateway, port) for name in ("app", "stranger", "db")] == ["db"] * 3
    assert connect(address, 81) == "no\n"  # the host is no container
    options = engine.request("GET", "/networks/bridge").body["Options"]
    assert options["com.docker.network.bridge.enable_icc"] == "false"


def test_links_outlive_the_engine_and_names(engine: Engine) -> None:
    serve(engine, "db")
    box(engine, "app", "--link", "db:database")
    engine.kill()
    engine.start()
    assert reach(engine, "app", "database") == "db"
    engine.docker("rename", "db", "renamed", check=True)
    assert inspect(engine, "app")["HostConfig"]["Links"] == ["/renamed:/app/database"]
    engine.docker("restart", "-t", "0", "app", check=True)
    assert reach(engine, "app", "database") == "db"


def test_a_link_is_seen_and_removed(engine: Engine) -> None:
    serve(engine, "db", "-e", "SECRET=x")
    box(engine, "app", "--link", "db:database", "--link", "db:second")
    assert inspect(engine, "app")["HostConfig"]["Links"] == ["/db:/app/database", "/db:/app/second"]
    names = {each["Id"]: each["Names"] for each in engine.request("GET", "/containers/json").body}
    db = inspect(engine, "app/database")
    assert db["Name"] == "/db"
    assert sorted(names[db["Id"]]) == ["/app/database", "/app/second", "/db"]
    assert sorted(engine.docker("ps", "--format", "{{.Names}}").stdout.split()) == ["app", "db"]
    assert f"DATABASE_PORT_80_TCP_ADDR={address_of(engine, 'db')}" in execute(engine, "app", "env").splitlines()
    assert "DATABASE_ENV_SECRET=x" in execute(engine, "app", "env").splitlines()
    engine.docker("rm", "--link", "app/database", check=True)
    assert inspect(engine, "app")["HostConfig"]["Links"] == ["/db:/app/second"]
    assert "database" not in execute(engine, "app", "cat", "/etc/hosts")
    assert reach(engine, "app", "second") == "db"
    engine.docker("rm", "--link", "app/second", check=True)
    assert reach(engine, "app", address_of(engine, "db")) == ""
    assert "No such link" in engine.docker("rm", "--link", "app/second").stderr
    assert "cannot remove the default link name" in engine.docker("rm", "--link", "app").stderr
    engine.docker("stop", "-t", "0", "db", check=True)
    assert engine.docker("restart", "-t", "0", "app").returncode == 0  # nothing of the link is left


def test_one_target_that_is_away_does_not_take_the_others_along(engine: Engine) -> None:
    serve(engine, "one")
    serve(engine, "two")
    box(engine, "app", "--link", "one:first", "--link", "two:second")
    engine.docker("stop", "-t", "0", "one", check=True)
    engine.docker("restart", "-t", "0", "two", check=True)
    engine.docker("exec", "app", "true", check=True)
    assert reach(engine, "app", "second") == "two"
    refused = engine.docker("restart", "-t", "0", "app")
    assert "Cannot link to a non running container: /one AS /app/first" in refused.stderr
    engine.docker("rm", "one", check=True)
    engine.docker("start", "app", check=True)
    assert reach(engine, "app", "second") == "two"
