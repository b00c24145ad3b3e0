"""Execs and health checks in a container that runs, by what its monitor answers."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from tests.support.bare_engine import BareEngine, Started, frame
from tests.support.waiting import until
from wherry.common.errors import Conflict, EngineError, InvalidParameter, NotFound
from wherry.engine.container import exec as execs_module
from wherry.engine.container import health
from wherry.model.container import ExecConfig, HealthConfig, HealthStatus, Status
from wherry.runtime import ipc
from wherry.runtime.spec import Process

LS = ExecConfig(cmd=["ls", "-l"], attach_stdout=True, attach_stderr=True)


def printing(text: bytes, code: int) -> Callable[[Started, ipc.Exec, Process], None]:
    def answer(started: Started, request: ipc.Exec, process: Process) -> None:
        started.exec_started(request)
        for each in started.streams:
            each.send(frame(text))
        started.tell(ipc.ExecExited(request.exec_id, code))

    return answer


async def test_an_exec_runs_and_is_told_of(bare: BareEngine) -> None:
    await bare.run("web")
    bare.launcher.answer = printing(b"total 0\n", 3)
    execs = bare.engine.execs
    exec_id = execs.create("web", LS)
    assert execs.ids(bare.live("web")) == [exec_id] == (await bare.engine.views.inspect("web"))["ExecIDs"]
    assert (execs.inspect(exec_id)["Running"], execs.inspect(exec_id)["ExitCode"]) == (False, None)
    stream = await execs.start(exec_id, tty=False, detach=False)
    assert stream is not None
    assert (await asyncio.get_running_loop().sock_recv(stream, 100))[8:] == b"total 0\n"
    stream.close()
    await until(lambda: execs.get(exec_id).exit_code is not None)
    found = execs.inspect(exec_id)
    assert (found["ExitCode"], found["Running"], found["CanRemove"]) == (3, False, True)
    assert found["ProcessConfig"] == {
        "tty": False,
        "entrypoint": "ls",
        "arguments": ["-l"],
        "privileged": False,
    }
    assert execs.ids(bare.live("web")) == []
    with pytest.raises(Conflict, match=f"Error: Exec command {exec_id} has already run"):
        await execs.start(exec_id, tty=False, detach=False)
    with pytest.raises(Conflict, match=f"container {exec_id} is not running"):
        await execs.resize(exec_id, 24, 80)
    assert [each.split()[1] for each in await bare.events(event=["exec_create", "exec_start", "exec_die"])] == [
        *("exec_create:", "exec_start:", "exec_die"),
    ]


async def test_one_that_nobody_listens_to(bare: BareEngine) -> None:
    started = await bare.run("web")
    exec_id = bare.engine.execs.create("web", ExecConfig(cmd=["x"], tty=True))
    assert await bare.engine.execs.start(exec_id, tty=True, detach=True, console_size=(24, 80)) is None
    request = started.requests[-1]
    assert isinstance(request, ipc.Exec) and request.streams == ()


async def test_what_has_no_command_or_no_container(bare: BareEngine) -> None:
    await bare.create("web")
    with pytest.raises(Conflict, match="is not running"):
        bare.engine.execs.create("web", LS)
    await bare.start("web")
    with pytest.raises(InvalidParameter, match="No exec command specified"):
        bare.engine.execs.create("web", ExecConfig())
    with pytest.raises(InvalidParameter, match="invalid environment variable: =x"):
        bare.engine.execs.create("web", ExecConfig(cmd=["ls"], env=["=x"]))
    with pytest.raises(NotFound, match="No such exec instance: gone"):
        bare.engine.execs.inspect("gone")
    bare.live("web").record.state.status = Status.PAUSED
    with pytest.raises(Conflict, match="Container web is paused, unpause the container before exec"):
        bare.engine.execs.create("web", LS)
    bare.live("web").record.state.status = Status.RUNNING


async def test_one_that_cannot_be_started(bare: BareEngine) -> None:
    await bare.run("web")
    reasons = [("no such program", 127), ("the kernel says no", 125), ("No such process", 125)]
    bare.launcher.answer = lambda started, request, process: started.tell(ipc.Failed(*reasons.pop(0), request.number))
    errors = [(InvalidParameter, "OCI runtime exec failed: .*no such program"), (EngineError, "the kernel says no")]
    for error, message in errors:
        exec_id = bare.engine.execs.create("web", LS)
        with pytest.raises(error, match=message):
            await bare.engine.execs.start(exec_id, tty=False, detach=False)
        assert bare.engine.execs.inspect(exec_id)["ExitCode"] == 126
    exec_id = bare.engine.execs.create("web", LS)
    with pytest.raises(Conflict, match="is not running"):
        await bare.engine.execs.start(exec_id, tty=False, detach=False)


async def test_one_that_was_made_for_an_earlier_run_is_not_there_any_more(bare: BareEngine) -> None:
    started = await bare.run("web")
    exec_id = bare.engine.execs.create("web", LS)
    started.exit(0)
    await bare.ended("web")
    with pytest.raises(NotFound):
        bare.engine.execs.get(exec_id)
    await bare.start("web")
    with pytest.raises(NotFound):
        bare.engine.execs.get(exec_id)
    bare.engine.execs.create("web", LS)
    assert len(bare.live("web").execs) == 1


async def test_those_that_have_ended_are_not_kept_for_ever(bare: BareEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execs_module, "_KEPT", 2)
    await bare.run("web")
    for _ in range(4):
        exec_id = bare.engine.execs.create("web", LS)
        await bare.engine.execs.start(exec_id, tty=False, detach=True)
        await until(lambda exec_id=exec_id: bare.engine.execs.get(exec_id).exit_code is not None)
    bare.engine.execs.create("web", LS)
    assert len(bare.live("web").execs) == 5  # how they ended is kept until somebody has asked
    for exec_id in list(bare.live("web").execs):
        bare.engine.execs.inspect(exec_id)
    bare.engine.execs.create("web", LS)
    assert len(bare.live("web").execs) == 4


async def test_one_that_is_killed_before_it_begins_never_does(bare: BareEngine) -> None:
    await bare.run("web")
    exec_id = bare.engine.execs.create("web", LS)
    bare.engine.execs.kill(exec_id, "TERM")
    with pytest.raises(Conflict):
        await bare.engine.execs.start(exec_id, tty=False, detach=True)
    assert bare.engine.execs.inspect(exec_id)["ExitCode"] == 143
    with pytest.raises(Conflict, match="is not running"):
        bare.engine.execs.kill(exec_id, "TERM")
    with pytest.raises(InvalidParameter):
        bare.engine.execs.kill(exec_id, "NOSUCH")


# --- health


def checked(**fields: int) -> HealthConfig:
    return HealthConfig(test=["CMD-SHELL", "true"], **{"interval": 1_000_000, "retries": 2} | fields)


async def test_a_container_becomes_healthy_and_then_not(bare: BareEngine) -> None:
    bare.launcher.answer = printing(b"fine\n", 0)
    await bare.run("web", healthcheck=checked())
    state = bare.live("web").record.state
    await until(lambda: state.health and state.health.status is HealthStatus.HEALTHY)
    bare.launcher.answer = printing(b"ill\n", 1)
    await until(lambda: state.health and state.health.status is HealthStatus.UNHEALTHY)
    shown = (await bare.engine.views.inspect("web"))["State"]["Health"]
    assert shown["Status"] == "unhealthy" and shown["FailingStreak"] >= 2 and len(shown["Log"]) <= 5
    assert (shown["Log"][-1]["ExitCode"], shown["Log"][-1]["Output"]) == (1, "ill\n")
    statuses = await bare.events(event=["health_status"])
    assert statuses == ["container health_status: healthy", "container health_status: unhealthy"]
    bare.launcher.started[0].exit(0)
    await bare.ended("web")
    assert bare.live("web").health is None


async def test_a_failure_while_it_starts_does_not_count(bare: BareEngine) -> None:
    bare.launcher.answer = printing(b"", 1)
    await bare.run("web", healthcheck=checked(start_period=60 * 10**9, start_interval=1_000_000))
    state = bare.live("web").record.state
    await until(lambda: state.health and len(state.health.log) >= 3)
    assert state.health and (state.health.status, state.health.failing_streak) == (HealthStatus.STARTING, 0)


async def test_what_a_probe_leaves_running_does_not_hold_it_up(
    bare: BareEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_OUTPUT_PATIENCE", 0.02)

    def begin_and_leave(started: Started, request: ipc.Exec, process: Process) -> None:
        kept.extend(each.dup() for each in started.streams)
        printing(b"begun\n", 0)(started, request, process)

    kept: list[socket.socket] = []
    bare.launcher.answer = begin_and_leave
    await bare.run("web", healthcheck=checked())
    state = bare.live("web").record.state
    await until(lambda: state.health and state.health.log)
    assert state.health is not None
    assert (state.health.status, state.health.log[0].output) == (HealthStatus.HEALTHY, "begun\n")
    for each in kept:
        each.close()


async def test_a_probe_that_takes_too_long_or_cannot_be_started(bare: BareEngine) -> None:
    def hang(started: Started, request: ipc.Exec, process: Process) -> None:
        child = started.spec.id
        assert child
        started.streams[0].send(frame(b"so far"))
        kept.append(started.streams.pop())
        started.tell(ipc.ExecStarted(request.number, 0))

    kept: list[object] = []
    bare.launcher.answer = hang
    await bare.run("web", healthcheck=checked(timeout=2_000_000))
    state = bare.live("web").record.state
    await until(lambda: state.health and state.health.log)
    assert state.health is not None
    result = state.health.log[0]
    assert (result.exit_code, result.output) == (-1, "Health check exceeded timeout (2ms): so far")
    bare.launcher.answer = lambda started, request, process: started.tell(ipc.Failed("no shell", 127, request.number))
    await until(lambda: state.health and "no shell" in state.health.log[-1].output)
    assert state.health.log[-1].exit_code == -1
