"""Networks when the engine is killed, stopped, started again, and when somebody flushes the firewall."""

import os
import subprocess
import time
from collections.abc import Callable

from tests.support.engine import Engine
from tests.support.networks import instance
from tests.support.talking import address_of, connect, execute, free_port, inspect, listen, reach

PATIENCE = 5.0


def until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def tables(engine: Engine) -> list[str]:
    shown = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    return [line.split()[2] for line in shown.splitlines() if line.split()[2].startswith("wherry-")]


def test_after_a_kill_everything_goes_on_and_is_as_before(own_engine: Engine) -> None:
    engine, port = own_engine, free_port()
    engine.docker("network", "create", "net", check=True)
    listen(engine, "server", "--network", "net", "-p", f"{port}:80")
    engine.docker("run", "-d", "--name", "client", "--network", "net", "busybox", "sleep", "1000", check=True)
    settings = inspect(engine, "server")["NetworkSettings"]
    engine.kill()
    assert connect("127.0.0.1", port) == "server"
    engine.start()
    assert inspect(engine, "server")["NetworkSettings"] == settings
    assert connect("127.0.0.1", port) == "server"
    assert connect("::1", port) == "server"
    assert reach(engine, "client", "server") == "server"
    second = engine.docker("run", "--rm", "-p", f"{port}:80", "busybox", "true")
    assert "port is already allocated" in second.stderr
    engine.docker("run", "-d", "--name", "new", "--network", "net", "busybox", "sleep", "1000", check=True)
    addresses = [address_of(engine, name, "net") for name in ("server", "client", "new")]
    assert len(set(addresses)) == 3
    assert "server" in execute(engine, "new", "nslookup", "server")
    engine.docker("stop", "-t", "0", "server", check=True)
    assert connect("127.0.0.1", port) == ""


def test_what_was_made_is_removed_when_nothing_runs(own_engine: Engine) -> None:
    engine = own_engine
    before = set(os.listdir("/sys/class/net"))
    known = set(tables(engine))
    engine.docker("network", "create", "net", check=True)
    engine.docker("run", "--rm", "--network", "net", "-p", "80", "busybox", "true", check=True)
    assert set(tables(engine)) - known
    engine.stop()
    assert not set(tables(engine)) - known
    assert not [name for name in set(os.listdir("/sys/class/net")) - before if name.startswith("br-")]
    engine.start()
    engine.docker("run", "--rm", "--network", "net", "busybox", "true", check=True)


def test_flushed_rules_are_put_back(own_engine: Engine) -> None:
    engine, port = own_engine, free_port()
    known = set(tables(engine))
    listen(engine, "server", "-p", f"{port}:80")
    (table,) = set(tables(engine)) - known
    subprocess.run(["nft", "flush", "table", "inet", table], check=True)
    assert until(lambda: connect("127.0.0.1", port) == "server")
    subprocess.run(["nft", "delete", "table", "inet", table], check=True)
    assert until(lambda: connect("127.0.0.1", port) == "server")


def test_beside_a_firewall_that_drops_what_is_forwarded(own_engine: Engine) -> None:
    engine, port = own_engine, free_port()
    rules = "table inet wh-test-wall { chain forward { type filter hook forward priority 0; policy drop; }; }"
    listen(engine, "server", "-p", f"{port}:80")
    engine.docker("run", "-d", "--name", "client", "busybox", "sleep", "1000", check=True)
    host = engine.request("GET", "/networks/bridge").body["IPAM"]["Config"][0]["Gateway"]
    assert reach(engine, "client", host, port) == "server"
    subprocess.run(["nft", rules], check=True)
    try:
        assert until(lambda: reach(engine, "client", host, port) == "server")
        shown = subprocess.run(["nft", "list", "table", "inet", "wh-test-wall"], capture_output=True, text=True).stdout
        assert f"wherry{instance(engine.data_root)}" in shown
        engine.remove_containers()
        engine.stop()
        shown = subprocess.run(["nft", "list", "table", "inet", "wh-test-wall"], capture_output=True, text=True).stdout
        assert f"wherry{instance(engine.data_root)}" not in shown
        engine.start()
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "wh-test-wall"], check=True)
