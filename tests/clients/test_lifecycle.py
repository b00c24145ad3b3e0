"""From create to rm: stop, kill, wait, restart, pause, rename, restart policies, health checks."""

import time
from typing import Any

import pytest

from tests.clients.conftest import Cli


def until(cli: Cli, name: str, template: str, wanted: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while (found := cli.inspect(name, template)) != wanted:
        assert time.monotonic() < deadline, f"{template} of {name} is {found!r}, not {wanted!r}"
        time.sleep(0.05)


def test_stop_asks_first(cli: Cli, sleeper: str) -> None:
    assert cli.ok("stop", "-t", "20", sleeper) == sleeper
    assert cli.inspect(sleeper, "{{.State.Status}} {{.State.ExitCode}}") == "exited 0"
    assert cli.ok("stop", sleeper) == sleeper  # which is no error


def test_stop_ends_what_does_not_listen(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "deaf", busybox, "sleep", "1000")
    begun = time.monotonic()
    cli.ok("stop", "-t", "0", "deaf")
    assert time.monotonic() - begun < 9
    assert cli.inspect("deaf", "{{.State.ExitCode}}") == "137"


def test_stop_with_a_signal_of_its_own(cli: Cli, busybox: str) -> None:
    line = "trap 'exit 4' USR2; echo up; while :; do sleep 0.05; done"
    cli.ok("run", "-d", "--name", "own", "--stop-signal", "USR2", "--stop-timeout", "20", busybox, "sh", "-c", line)
    cli.wait_for_output("own")
    cli.ok("stop", "own")
    assert cli.inspect("own", "{{.State.ExitCode}}") == "4"
    cli.ok("start", "own")
    cli.ok("stop", "-s", "KILL", "own")
    assert cli.inspect("own", "{{.State.ExitCode}}") == "137"


def test_kill(cli: Cli, sleeper: str) -> None:
    cli.ok("kill", "-s", "TERM", sleeper)
    assert cli.ok("wait", sleeper) == "0"
    container = cli.inspect(sleeper, "{{.Id}}")
    said = cli.fails("kill", sleeper)
    assert (
        said == f"Error response from daemon: cannot kill container: {sleeper}: container {container} is not running\n"
    )
    assert "cannot kill container: absent: No such container: absent" in cli.fails("kill", "absent")


def test_wait_gives_every_exit_code(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "first", busybox, "sh", "-c", "exit 3")
    cli.ok("run", "-d", "--name", "second", busybox, "sh", "-c", "sleep 0.2; exit 4")
    assert cli.ok("wait", "first", "second") == "3\n4"


def test_restart(cli: Cli, sleeper: str) -> None:
    before = cli.inspect(sleeper, "{{.State.StartedAt}} {{.Id}}")
    assert cli.ok("restart", "-t", "20", sleeper) == sleeper
    after = cli.inspect(sleeper, "{{.State.StartedAt}} {{.Id}}")
    assert before.split()[0] < after.split()[0]
    assert before.split()[1] == after.split()[1]
    assert cli.inspect(sleeper, "{{.State.Running}}") == "true"


@pytest.mark.parametrize("flags", [[], ["--rm"]])
def test_what_was_written_survives_a_restart(cli: Cli, busybox: str, flags: list[str]) -> None:
    cli.ok("run", "-d", "--name", "keeper", *flags, busybox, "sh", "-c", "trap exit TERM; while :; do sleep .1; done")
    cli.ok("exec", "keeper", "sh", "-c", "echo kept >/kept")
    cli.ok("restart", "-t", "20", "keeper")
    assert cli.ok("exec", "keeper", "cat", "/kept") == "kept"


def test_pause(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "ticker", busybox, "sh", "-c", "while :; do echo tick; sleep 0.02; done")
    assert cli.ok("pause", "ticker") == "ticker"
    assert cli.inspect("ticker", "{{.State.Status}} {{.State.Running}} {{.State.Paused}}") == "paused true true"
    assert cli.ok("ps", "--format", "{{.Status}}").endswith("(Paused)")
    printed = cli.ok("logs", "ticker")
    time.sleep(0.2)
    assert cli.ok("logs", "ticker") == printed
    assert "is already paused" in cli.fails("pause", "ticker")
    cli.ok("unpause", "ticker")
    assert "is not paused" in cli.fails("unpause", "ticker")
    assert cli.inspect("ticker", "{{.State.Status}}") == "running"


def test_a_paused_container_can_be_killed_and_stopped(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "frozen", busybox, "sleep", "1000")
    cli.ok("pause", "frozen")
    assert 'cannot remove container "/frozen": container is paused and must be unpaused first' in cli.fails(
        "rm", "frozen"
    )
    cli.ok("kill", "frozen")
    assert cli.ok("wait", "frozen") == "137"


def test_rename(cli: Cli, busybox: str, sleeper: str) -> None:
    cli.ok("rename", sleeper, "other")
    assert cli.inspect("other", "{{.Name}}") == "/other"
    assert cli.ok("ps", "--format", "{{.Names}}") == "other"
    assert "No such container: sleeper" in cli.fails("rename", "sleeper", "third")
    holder = cli.ok("create", "--name", "taken", busybox, "true")
    said = cli.fails("rename", "other", "taken")
    assert said.startswith(
        "Error response from daemon: Error when allocating new name: Conflict. "
        f'The container name "/taken" is already in use by container "{holder}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    assert cli.inspect("other", "{{.Name}}") == "/other"


def test_a_name_in_use(cli: Cli, busybox: str) -> None:
    holder = cli.ok("create", "--name", "taken", busybox, "true")
    said = cli.fails("run", "--name", "taken", busybox, "true", code=125)
    assert f'Conflict. The container name "/taken" is already in use by container "{holder}".' in said
    assert cli.ok("ps", "-aq", "--no-trunc") == holder


def test_rm(cli: Cli, busybox: str, sleeper: str) -> None:
    said = cli.fails("rm", sleeper)
    assert 'cannot remove container "/sleeper": container is running: stop the container before removing' in said
    assert cli.ok("rm", "-f", sleeper) == sleeper
    assert "No such container: sleeper" in cli.fails("rm", sleeper)
    assert cli("rm", "-f", sleeper).returncode == 0


def test_ids_may_be_short(cli: Cli, busybox: str) -> None:
    container = cli.ok("create", busybox, "true")
    assert cli.inspect(container[:6], "{{.Id}}") == container
    assert cli.ok("rm", container[:12]) == container[:12]


def test_a_policy_starts_it_again(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "again", "--restart", "on-failure:2", busybox, "sh", "-c", "exit 5")
    until(cli, "again", "{{.State.Status}} {{.RestartCount}}", "exited 2")
    assert cli.inspect("again", "{{.State.ExitCode}}") == "5"


def test_always_means_until_it_is_stopped(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "again", "--restart", "always", busybox, "sh", "-c", "echo up; sleep 0.02")
    until(cli, "again", "{{ge .RestartCount 2}}", "true")
    cli.ok("stop", "-t", "1", "again")
    count = cli.inspect("again", "{{.RestartCount}}")
    time.sleep(0.3)
    assert cli.inspect("again", "{{.RestartCount}} {{.State.Running}}") == f"{count} false"


def test_success_is_no_failure(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "once", "--restart", "on-failure", busybox, "true")
    cli.ok("wait", "once")
    assert cli.inspect("once", "{{.State.Status}} {{.RestartCount}}") == "exited 0"


@pytest.mark.parametrize(("command", "status"), [("test -e /healthy", "unhealthy"), ("true", "healthy")])
def test_health(cli: Cli, busybox: str, command: str, status: str) -> None:
    cli.ok("run", "-d", "--name", "patient", "--health-cmd", f"echo looked; {command}", "--health-interval", "50ms",
           "--health-retries", "2", busybox, "sleep", "1000")  # fmt: skip
    until(cli, "patient", "{{.State.Health.Status}}", status)
    assert cli.ok("ps", "--format", "{{.Status}}").endswith(f"({status})")
    assert cli.ok("ps", "-q", "--filter", f"health={status}") != ""
    assert cli.inspect("patient", "{{(index .State.Health.Log 0).Output}}").strip() == "looked"


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("echo partial; sleep 1000", "Health check exceeded timeout (200ms): partial"),
        ("sleep 1000", "Health check exceeded timeout (200ms)"),
        ("yes | head -c 5000", "y\n" * 2048 + "..."),
        ("printf 'a\\377\\376b'", "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b"),
    ],
)
def test_what_a_probe_said_is_kept(cli: Cli, busybox: str, command: str, output: str) -> None:
    cli.ok("run", "-d", "--name", "patient", "--health-cmd", command, "--health-interval", "50ms",
           "--health-timeout", "200ms", busybox, "sleep", "1000")  # fmt: skip
    until(cli, "patient", "{{gt (len .State.Health.Log) 0}}", "true")
    assert cli.inspect("patient", "{{(index .State.Health.Log 0).Output}}").strip() == output


def test_a_probe_that_cannot_be_started(cli: Cli, busybox: str, docker_client: Any) -> None:
    checks = {"Test": ["CMD", "nosuch"], "Interval": 50_000_000}
    docker_client.containers.run(busybox, ["sleep", "1000"], name="patient", healthcheck=checks, detach=True)
    until(cli, "patient", "{{gt (len .State.Health.Log) 0}}", "true")
    assert cli.inspect("patient", "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}").strip() == (
        "-1 OCI runtime exec failed: exec failed: unable to start container process: "
        'exec: "nosuch": executable file not found in $PATH: unknown'
    )


def test_the_first_probe_of_a_start_period(cli: Cli, busybox: str) -> None:
    """Docker 26, too, does not make a short interval longer."""
    cli.ok("run", "-d", "--name", "patient", "--health-cmd", "true", "--health-interval", "50ms",
           "--health-start-period", "1h", busybox, "sleep", "1000")  # fmt: skip
    begun = time.monotonic()
    until(cli, "patient", "{{.State.Health.Status}}", "healthy")
    assert time.monotonic() - begun < 4


def test_an_unhealthy_container_recovers(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "patient", "--health-cmd", "test -e /healthy", "--health-interval", "50ms",
           "--health-retries", "1", busybox, "sleep", "1000")  # fmt: skip
    until(cli, "patient", "{{.State.Health.Status}}", "unhealthy")
    cli.ok("exec", "patient", "touch", "/healthy")
    until(cli, "patient", "{{.State.Health.Status}}", "healthy")


def test_several_at_once_and_one_that_is_missing(cli: Cli, busybox: str) -> None:
    for name in ("one", "two"):
        cli.ok("create", "--name", name, busybox, "sleep", "1000")
    finished = cli("start", "one", "absent", "two")
    assert finished.stdout == "one\ntwo\n"
    assert finished.stderr == (
        "Error response from daemon: No such container: absent\nError: failed to start containers: absent\n"
    )
    assert finished.returncode == 1


def test_one_that_waits_to_be_started_again(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "box", "--restart", "always", busybox, "false")
    until(cli, "box", "{{.State.Status}} {{.RestartCount}}", "restarting 5")  # by then it waits for seconds
    said = cli.fails("exec", "box", "true")
    assert "is restarting, wait until the container is running" in said


def test_health_is_not_known_any_more_after_the_end(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "box", "--health-cmd", "true", "--health-interval", "50ms", busybox, "sleep", "1000")
    until(cli, "box", "{{.State.Health.Status}}", "healthy")
    cli.ok("stop", "-t", "0", "box")
    assert cli.inspect("box", "{{.State.Health.Status}}") == "unhealthy"
    cli.ok("start", "box")
    until(cli, "box", "{{.State.Health.Status}}", "healthy")


def test_a_paused_container_is_not_probed(cli: Cli, busybox: str) -> None:
    cli.ok("run", "-d", "--name", "box", "--health-cmd", "true", "--health-interval", "50ms",
           "--health-timeout", "50ms", "--health-retries", "1", busybox, "sleep", "1000")  # fmt: skip
    until(cli, "box", "{{.State.Health.Status}}", "healthy")
    cli.ok("pause", "box")
    ticks = "{{range .State.Health.Log}}{{.End}} {{end}}"
    before = cli.inspect("box", ticks)
    cli.ok("run", "--rm", busybox, "sleep", "0.3")
    assert cli.inspect("box", ticks) == before
    cli.ok("unpause", "box")
    while cli.inspect("box", ticks) == before:
        pass
    assert cli.inspect("box", "{{.State.Health.Status}}") == "healthy"
