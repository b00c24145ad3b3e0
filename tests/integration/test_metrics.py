"""``--metrics-addr``: Docker's names, with numbers that follow what happens."""

import http.client
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine, started, wait_until_gone

# Of `dockerd --metrics-addr`, 26.1.5, without what is swarm's, etcd's and the Go runtime's.
DOCKERS = {
    "builder_builds_failed_total", "builder_builds_triggered_total", "engine_daemon_container_actions_seconds",
    "engine_daemon_container_states_containers", "engine_daemon_engine_cpus_cpus", "engine_daemon_engine_info",
    "engine_daemon_engine_memory_bytes", "engine_daemon_events_subscribers_total", "engine_daemon_events_total",
    "engine_daemon_health_checks_failed_total", "engine_daemon_health_checks_total", "process_cpu_seconds_total",
    "process_max_fds", "process_open_fds", "process_resident_memory_bytes", "process_start_time_seconds",
    "process_virtual_memory_bytes",
}  # fmt: skip


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def port() -> int:
    return _free_port()


@pytest.fixture(scope="module")
def measured(_images: None, port: int) -> Iterator[Engine]:
    with started(Engine(["--metrics-addr", f"127.0.0.1:{port}"])) as engine:
        yield engine


def ask(port: int, path: str = "/metrics", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def numbers(port: int) -> dict[str, float]:
    """The value of each sample, by its name and labels as they are written."""
    lines = ask(port).read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_dockers_names_are_there(measured: Engine, port: int) -> None:
    answer = ask(port)
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    text = answer.read().decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    assert set(kinds) >= DOCKERS
    assert kinds["engine_daemon_container_actions_seconds"] == "histogram"
    assert kinds["engine_daemon_events_total"] == "counter"
    actions = set(re.findall(r'container_actions_seconds_count\{action="(\w+)"\}', text))
    assert actions == {"changes", "commit", "create", "delete", "start"}
    version = measured.request("GET", "/version").body["Version"]
    assert re.search(rf'engine_daemon_engine_info\{{.*os_type="linux".*version="{re.escape(version)}"\}} 1', text)


def test_the_numbers_follow_what_happens(measured: Engine, port: int, tmp_path: Path) -> None:
    before = numbers(port)
    checked = ("--health-cmd=exit 1", "--health-interval=100ms")
    measured.wherry("run", "-d", "--name", "on", *checked, "busybox", "sleep", "600", check=True)
    measured.wherry("run", "--name", "ended", "busybox", "true", check=True)
    measured.wherry("commit", "ended", "kept", check=True)
    (tmp_path / "Dockerfile").write_text("NONSENSE\n")
    measured.wherry("build", str(tmp_path))
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN false\n")
    measured.wherry("build", str(tmp_path))

    def gained(name: str) -> float:
        return numbers(port)[name] - before[name]

    assert not wait_until_gone(lambda: gained("engine_daemon_health_checks_failed_total") < 2)
    assert gained("engine_daemon_health_checks_total") >= 2
    assert gained('engine_daemon_container_states_containers{state="running"}') == 1
    assert gained('engine_daemon_container_states_containers{state="stopped"}') == 1
    assert gained('engine_daemon_container_actions_seconds_count{action="create"}') == 2
    assert gained('engine_daemon_container_actions_seconds_count{action="start"}') == 2
    assert gained('engine_daemon_container_actions_seconds_count{action="commit"}') == 1
    assert 0 < gained('engine_daemon_container_actions_seconds_sum{action="start"}') < 5
    assert gained("engine_daemon_events_total") > 5
    assert gained("builder_builds_triggered_total") == 2
    assert gained('builder_builds_failed_total{reason="dockerfile_syntax_error"}') == 1
    assert gained('builder_builds_failed_total{reason="error_processing_commands_error"}') == 1


def test_only_the_metrics_are_served_there(measured: Engine, port: int) -> None:
    assert ask(port, "/info").status == 404
    assert (
        ask(port, Accept="application/openmetrics-text; version=1.0.0")
        .headers["Content-Type"]
        .startswith("application/openmetrics-text")
    )


def test_an_address_that_cannot_be_had_is_one_line(measured: Engine, port: int, tmp_path: Path) -> None:
    for address, wrong in ((f"127.0.0.1:{port}", "in use"), ("x", "it is not HOST:PORT")):
        done = subprocess.run(
            [sys.executable, "-m", "wherry.daemon", "-H", f"unix://{tmp_path}/s", "--data-root", f"{tmp_path}/d",
             "--exec-root", f"{tmp_path}/e", "--metrics-addr", address, "--log-level", "error"],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.startswith("wherry daemon: cannot serve metrics at ")
        assert wrong in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_nobody_loads_the_library_without_being_asked(engine: Engine) -> None:
    """A library that is not mapped has not been read either: its own files are Python's, so the process is asked."""
    program = (
        "import sys; import wherry.daemon.__main__, wherry.daemon.serve, wherry.api.server, wherry.engine.engine;"
        "print([name for name in sys.modules if name.startswith('prometheus')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
