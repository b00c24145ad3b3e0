"""Exec: one more process in a running container."""

import asyncio
import functools
import os
import socket
import weakref
from typing import Any

import msgspec

from wherry.common.errors import Conflict, EngineError, InvalidParameter, NotFound
from wherry.common.times import SECOND, now
from wherry.engine.container import spec
from wherry.engine.container.config import check_environment, parse_signal
from wherry.engine.container.service import Containers
from wherry.engine.container.store import ContainerEntry, ExecRecord
from wherry.engine.context import Context, Service
from wherry.engine.network import links
from wherry.model.container import ExecConfig, Status
from wherry.runtime.ipc import NOT_EXECUTABLE
from wherry.runtime.monitor_client import MonitorGone, StartError

_KEPT = 64  # execs of a container that have ended and can still be asked for
_UNHEARD = 60 * SECOND  # after that nobody will ask any more how an exec has ended


class Execs(Service):
    def __init__(self, context: Context, containers: Containers) -> None:
        super().__init__(context)
        self._containers = containers
        # Each belongs to its container, and goes with it.
        self._execs: weakref.WeakValueDictionary[str, ExecRecord] = weakref.WeakValueDictionary()

    def create(self, name: str, config: ExecConfig) -> str:
        """Raises InvalidParameter, NotFound and Conflict."""
        if not config.cmd:
            raise InvalidParameter("No exec command specified")
        entry = self._running(name)
        check_environment(config.env)
        record = ExecRecord(os.urandom(32).hex(), entry, config, entry.record.state.started_at)
        self._forget(entry)
        self._execs[record.id] = entry.execs[record.id] = record
        self._tell(record, f"exec_create: {config.cmd[0]} {' '.join(config.cmd[1:])}")
        return record.id

    def get(self, exec_id: str) -> ExecRecord:
        """Raises NotFound, also for one that was made for an earlier run of its container and never started."""
        record = self._execs.get(exec_id)
        if record is None or _is_stale(record):
            raise NotFound(f"No such exec instance: {exec_id}")
        return record

    def ids(self, entry: ContainerEntry) -> list[str]:
        """The ids of a container's execs that have not ended."""
        return [each.id for each in entry.execs.values() if each.exit_code is None and not _is_stale(each)]

    async def start(
        self, exec_id: str, *, tty: bool, detach: bool, console_size: tuple[int, int] | None = None
    ) -> socket.socket | None:
        """Starts it; its stream, or None when nobody wants to see it. Raises Conflict when it was started before."""
        record = self.get(exec_id)
        if record.started:
            how = "is already running" if record.running else "has already run"
            raise Conflict(f"Error: Exec command {exec_id} {how}")
        entry = self._running(record.container.record.id)
        config = record.config
        if console_size is not None and any(console_size):
            config = msgspec.structs.replace(config, console_size=console_size)
        record.started = True
        streams = None if detach else (config.attach_stdin, config.attach_stdout, config.attach_stderr)
        self._tell(record, f"exec_start: {config.cmd[0]} {' '.join(config.cmd[1:])}")
        of_links = links.environment(entry.record, links.running(entry.record, self._entries))
        process = spec.exec_process(entry.record, config, of_links)
        if not process.cwd.startswith("/"):
            record.exit_code = NOT_EXECUTABLE
            raise EngineError("OCI runtime exec failed: exec failed: Cwd must be an absolute path: unknown")
        try:
            started, sock = await self._containers.monitor(entry).exec(exec_id, process, streams)
        except StartError as error:
            if isinstance(error, MonitorGone) or entry.monitor is None or "No such process" in error.message:
                raise Conflict(f"container {entry.record.id} is not running") from None  # it ended at that moment
            record.exit_code = NOT_EXECUTABLE  # Docker knows no other here
            text = spec.exec_failure(error.message)
            raise (InvalidParameter(text) if error.code in (126, 127) else EngineError(text)) from None
        record.running = True
        record.pid = started.pid
        record.process = started
        record.exited = started.exited
        started.exited.add_done_callback(functools.partial(self._on_exit, record))
        if record.killed_by:
            started.signal_group(record.killed_by)
        return sock

    def _on_exit(self, record: ExecRecord, future: asyncio.Future[int]) -> None:
        record.running, record.process = False, None
        if future.cancelled():
            return
        record.exit_code, record.ended_at = future.result(), now()
        self._tell(record, "exec_die", exitCode=str(record.exit_code))

    def kill(self, exec_id: str, signal_name: str) -> None:
        """Sends a signal to its process group. One that has not been started never will be; one that is being started
        gets it as it begins. Raises NotFound, InvalidParameter, and Conflict when it has ended."""
        number = parse_signal(signal_name or "SIGKILL")
        record = self.get(exec_id)
        if record.process is not None:
            record.process.signal_group(number)
        elif record.exit_code is not None:
            raise Conflict(f"exec {exec_id} is not running")
        elif record.started:
            record.killed_by = number
        else:
            record.started, record.exit_code = True, 128 + number

    async def resize(self, exec_id: str, rows: int, columns: int) -> None:
        record = self.get(exec_id)
        if not record.running:
            raise Conflict(f"container {exec_id} is not running")  # Docker's words: it means the exec
        with self._containers.asked(record.container) as monitor:
            await monitor.resize(rows, columns, exec_id)

    def inspect(self, exec_id: str) -> dict[str, Any]:
        record = self.get(exec_id)
        record.is_heard = record.exit_code is not None
        config = record.config
        return {
            "ID": record.id,
            "Running": record.running,
            "ExitCode": record.exit_code,
            "ProcessConfig": {
                "tty": config.tty,
                "entrypoint": config.cmd[0],
                "arguments": config.cmd[1:],
                "privileged": config.privileged,
                **({"user": config.user} if config.user else {}),
            },
            "OpenStdin": config.attach_stdin,
            "OpenStderr": config.attach_stderr,
            "OpenStdout": config.attach_stdout,
            "CanRemove": record.exit_code is not None,
            "ContainerID": record.container.record.id,
            "DetachKeys": config.detach_keys,
            "Pid": record.pid,
        }

    def _running(self, name: str) -> ContainerEntry:
        entry = self._containers.running(name)
        if entry.record.state.status is Status.PAUSED:
            raise Conflict(f"Container {name} is paused, unpause the container before exec")
        return entry

    def _forget(self, entry: ContainerEntry) -> None:
        """Lets go of the oldest execs of a container that have ended, and of those that cannot be started any more.

        How one has ended is kept until its client has asked, who may have started a thousand at once.
        """
        for exec_id in [each.id for each in entry.execs.values() if _is_stale(each)]:
            del entry.execs[exec_id]
        ended = [record for record in entry.execs.values() if record.exit_code is not None]
        for record in ended[: max(0, len(ended) - _KEPT)]:
            if record.is_heard or record.ended_at < now() - _UNHEARD:
                del entry.execs[record.id]

    def _tell(self, record: ExecRecord, action: str, **attributes: str) -> None:
        self._events.container(record.container.record, action, execID=record.id, **attributes)


def _is_stale(record: ExecRecord) -> bool:
    """Whether it was never started, and the run of the container that it was made for is over."""
    state = record.container.record.state
    return not record.started and (not state.running or state.started_at != record.run)
