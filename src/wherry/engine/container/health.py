"""Health checks: a command that is run in the container again and again, and what its exit codes say.

0 is healthy; any other ``retries`` times in a row is unhealthy. Within the start period a failure does not count.
"""

import asyncio
import contextlib
import os
import socket
from dataclasses import dataclass

from wherry.common import times
from wherry.common.values import replace_undecodable
from wherry.engine.container import spec
from wherry.engine.container.store import ContainerEntry, ContainerStore
from wherry.engine.events import Events
from wherry.engine.network import links
from wherry.model.container import ContainerConfig, ExecConfig, Health, HealthConfig, HealthResult, HealthStatus, Status
from wherry.runtime.monitor_client import Exec, Monitor, StartError

# Docker's defaults, in nanoseconds but for the last ones.
_INTERVAL = 30_000_000_000
_TIMEOUT = 30_000_000_000
_START_INTERVAL = 5_000_000_000
_RETRIES = 3
_LOG_ENTRIES = 5
_OUTPUT_BYTES = 4096
_KEPT_BYTES = _OUTPUT_BYTES * 10  # with the frames' headers, even if each has a single byte
_OUTPUT_PATIENCE = 2.0  # seconds after the probe's end: what it has left running may hold its output open
_NO_EXIT_CODE = -1  # of a probe that took too long or could not be started
_FRAME_HEADER = 8


def command(config: ContainerConfig) -> list[str] | None:
    """What a probe runs; None when there is no health check."""
    health = config.healthcheck
    if not isinstance(health, HealthConfig) or not health.test or health.test[0] in ("NONE", ""):
        return None
    kind, *arguments = health.test
    if kind == "CMD":
        return arguments
    shell = config.shell if isinstance(config.shell, list) and config.shell else ["/bin/sh", "-c"]
    return [*shell, *arguments]


@dataclass
class Counts:
    """Counts the health checks of all containers."""

    ended: int = 0
    failed: int = 0


async def watch(
    entry: ContainerEntry, monitor: Monitor, entries: ContainerStore, events: Events, counts: Counts
) -> None:
    """Probes a container for as long as it runs; ended by cancelling it."""
    checks = entry.record.config.healthcheck
    arguments = command(entry.record.config)
    if arguments is None or not isinstance(checks, HealthConfig):
        return
    state = entry.record.state
    state.health = state.health or Health()
    entries.record(entry)
    while True:
        starting = state.health.status is HealthStatus.STARTING and _in_start_period(checks, state.started_at)
        await asyncio.sleep(_interval(checks, starting=starting) / 1e9)
        if _is_paused(entry):
            continue
        result = await _probe(entry, monitor, entries, events, arguments, (checks.timeout or _TIMEOUT) / 1e9)
        if _is_paused(entry):
            continue  # which says nothing of its health
        counts.ended += 1
        counts.failed += result.exit_code != 0
        before = state.health.status
        _judge(state.health, result, checks, in_start_period=_in_start_period(checks, state.started_at))
        entries.record(entry)
        if state.health.status is not before:
            events.container(entry.record, f"health_status: {state.health.status}")


def _interval(checks: HealthConfig, *, starting: bool) -> int:
    interval = checks.interval or _INTERVAL
    return (checks.start_interval or min(_START_INTERVAL, interval)) if starting else interval


def warnings(config: ContainerConfig) -> list[str]:
    """What was asked for and will not be had, a line each."""
    checks = config.healthcheck
    if isinstance(checks, HealthConfig) and checks.start_interval and not checks.start_period:
        return ["The start interval of the health check is discarded: it has no start period"]
    return []


def _is_paused(entry: ContainerEntry) -> bool:
    return entry.record.state.status is Status.PAUSED


def _in_start_period(checks: HealthConfig, started_at: int) -> bool:
    return times.now() - started_at < checks.start_period


def _judge(health: Health, result: HealthResult, checks: HealthConfig, *, in_start_period: bool) -> None:
    health.log = [*health.log, result][-_LOG_ENTRIES:]
    if result.exit_code == 0:
        health.failing_streak = 0
        health.status = HealthStatus.HEALTHY
        return
    if health.status is HealthStatus.STARTING and in_start_period:
        return
    health.failing_streak += 1
    if health.failing_streak >= (checks.retries or _RETRIES):
        health.status = HealthStatus.UNHEALTHY


async def _probe(
    entry: ContainerEntry,
    monitor: Monitor,
    entries: ContainerStore,
    events: Events,
    arguments: list[str],
    seconds: float,
) -> HealthResult:
    start = times.now()
    exec_id = os.urandom(32).hex()
    process = spec.exec_process(
        entry.record, ExecConfig(cmd=arguments), links.environment(entry.record, links.running(entry.record, entries))
    )
    events.container(entry.record, f"exec_create: {arguments[0]} {' '.join(arguments[1:])}", execID=exec_id)
    events.container(entry.record, f"exec_start: {arguments[0]} {' '.join(arguments[1:])}", execID=exec_id)
    try:
        started, sock = await monitor.exec(exec_id, process, (False, True, True))
    except StartError as error:
        return HealthResult(start, times.now(), _NO_EXIT_CODE, spec.exec_failure(error.message))
    assert sock is not None
    output = bytearray()
    collecting = asyncio.create_task(_collect(sock, output))
    try:
        async with asyncio.timeout(seconds):
            code = await started.exited
            await asyncio.wait([collecting], timeout=_OUTPUT_PATIENCE)
        text = _text(output)
    except TimeoutError:
        code = _NO_EXIT_CODE
        text = f"Health check exceeded timeout ({times.format_duration(round(seconds * 1e9))})"
        text = ": ".join(filter(None, (text, _text(output))))
    finally:
        collecting.cancel()
        await asyncio.wait([collecting])
        sock.close()
        _end(started)
    events.container(entry.record, "exec_die", execID=exec_id, exitCode=str(code))
    return HealthResult(start, times.now(), code, text)


def _end(started: Exec) -> None:
    """Ends a probe that is still there: it took too long, or the engine goes."""
    if not started.exited.done():
        with contextlib.suppress(ProcessLookupError):
            started.kill()


async def _collect(sock: socket.socket, output: bytearray) -> None:
    """Reads the stream to its end and keeps the beginning."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(sock, 65536):
        if len(output) < _KEPT_BYTES:
            output += data


def _text(framed: bytearray) -> str:
    """What the frames hold, up to Docker's limit; each byte that is no UTF-8 becomes a replacement character."""
    found, at = bytearray(), 0
    while at + _FRAME_HEADER <= len(framed) and len(found) <= _OUTPUT_BYTES:
        size = int.from_bytes(framed[at + 4 : at + _FRAME_HEADER], "big")
        found += framed[at + _FRAME_HEADER : at + _FRAME_HEADER + size]
        at += _FRAME_HEADER + size
    text = replace_undecodable(bytes(found[:_OUTPUT_BYTES]))
    return f"{text}..." if len(found) > _OUTPUT_BYTES else text
